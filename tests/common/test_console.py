import io

import pytest
from rich.console import Console

from inception_resnet_keras.common.console import command, printable, say


def test_brackets_are_no_markup_and_long_lines_are_whole() -> None:
    said = io.StringIO()
    say(Console(file=said, width=20), "run[/x] [b]" + "y" * 50)
    assert said.getvalue() == "run[/x] [b]" + "y" * 50 + "\n"


def test_a_name_cannot_break_a_line_or_reach_the_terminal() -> None:
    assert printable("größe\n\x1b[31m.png") == r"größe\n\x1b[31m.png"


def test_a_command_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV", raising=False)
    assert command("predict", "my run") == "inception-resnet-keras predict 'my run'"
    monkeypatch.setenv("UV", "/bin/uv")
    assert command("predict", "a").startswith("uv run inception-resnet-keras predict")

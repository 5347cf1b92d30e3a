from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from inception_resnet_keras.common import notebook


def test_names_of_users_are_text_and_nothing_brings_rules() -> None:
    shown = notebook.page(
        notebook.heading("<b>&\x1b[31m"),
        notebook.line("a<script>"),
        notebook.line(""),
        notebook.rows(["class", "n"], [["<i>", 3]], title="of <x>"),
    )
    assert "<b>" not in shown
    assert "<script" not in shown
    assert "<i>" not in shown
    assert "\x1b" not in shown
    assert "<style" not in shown
    assert "&lt;i&gt;" in shown
    assert shown.count("<p ") == 2


def test_a_rich_table_is_shown_cell_by_cell() -> None:
    table = Table(title="of [brackets]")
    table.add_column("class")
    table.add_column("recall", justify="right")
    table.add_row(Text("[red]"), "[bold]50 %[/bold]")
    shown = notebook.table(table)
    assert "[red]" in shown
    assert ">50 %<" in shown
    assert shown.count("text-align:right") == 2
    assert shown.count("<tr>") == 2


def test_a_picture_is_taken_in_if_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert notebook.picture(tmp_path / "none.png", "x") == ""
    (tmp_path / "a.png").write_bytes(b"png")
    assert 'alt="a &quot;b&quot;" src="data:image/png;base64,cG5n"' in notebook.picture(tmp_path / "a.png", 'a "b"')
    monkeypatch.setattr(notebook, "LARGEST", 2)
    assert notebook.picture(tmp_path / "a.png", "x") == ""

import csv
import io
import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from inception_resnet_keras.common.console import (
    cell,
    command,
    counted,
    json_text,
    print_json,
    printable,
    say,
    say_lines,
)
from inception_resnet_keras.common.errors import InputError, refuse
from inception_resnet_keras.common.files import write_csv, write_json

# Controls of both blocks, line ends, marks of direction, invisible signs, and bytes that are not UTF-8.
HARMFUL = "\x00\a\n\r\x1b\x7f\x85\x9b\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069\ufeff\udc80\udcff"
HARMLESS = "größe Ёлка 日本語　ไทย हिन्दी فارسی‌ها 👩‍🔬 a b [b]x[/b] $x$ C:\\new"


def printed(text: object, width: int = 20) -> str:
    said = io.StringIO()
    say(Console(file=said, width=width, force_terminal=True, color_system=None), text)
    return said.getvalue()


def test_brackets_are_no_markup_and_long_lines_are_whole() -> None:
    assert printed("run[/x] [b]" + "y" * 50) == "run[/x] [b]" + "y" * 50 + "\n"


def test_a_name_cannot_break_a_line_or_reach_the_terminal() -> None:
    assert printable("größe\n\x1b[31m.png") == r"größe\n\x1b[31m.png"
    assert printable(HARMLESS) == HARMLESS
    for sign in HARMFUL:
        shown = printable(f"a{sign}b")
        assert shown.isascii()
        assert shown.isprintable()
        assert printed(f"a{sign}b") == f"{shown}\n"
        assert str(InputError(f"a{sign}b")) == shown


@given(st.text())
def test_what_is_said_is_one_line_and_escaped_once(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    assert len(shown.splitlines()) <= 1
    shown.encode()  # whatever the file names hold


def test_a_report_keeps_its_own_lines() -> None:
    said = io.StringIO()
    say_lines(Console(file=said), f"one\n  two {HARMFUL[4]}")
    assert said.getvalue() == "one\n  two \\x1b\n"


def test_a_cell_is_no_markup_and_stays_in_its_row() -> None:
    said, table = io.StringIO(), Table("class")
    table.add_row(cell("[red]a\nb\\"))
    Console(file=said).print(table)
    assert r"[red]a\nb\ " in said.getvalue()


def test_an_error_is_one_line_for_each_of_its_arguments() -> None:
    assert str(InputError("a\nb", "  c")) == "a\\nb\n  c"
    assert str(refuse("epochs", 10**5000, "less")) == "epochs: got an integer of more than 4300 digits; it takes less"


def test_json_is_strict_and_means_the_same() -> None:
    value = {"name": HARMFUL + HARMLESS, "numbers": [float("nan"), float("inf"), 0.5], "none": None}
    text = json_text(value)
    assert printable(text) == text
    assert "größe" in text
    assert json.loads(text, parse_constant=pytest.fail) == {**value, "numbers": [None, None, 0.5]}


def test_json_is_whole_on_an_output_of_few_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    out = io.TextIOWrapper(written, "ascii", errors="replace")
    monkeypatch.setattr("sys.stdout", out)
    print_json({"name": "größe"})
    out.flush()
    assert json.loads(written.getvalue()) == {"name": "größe"}


def test_files_of_data_hold_names_that_are_not_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\x1b\n.png")
    write_json(tmp_path / "a.json", {"name": name})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["name"] == name
    write_csv(tmp_path / "a.csv", ["name", "n"], [[name, 1]])
    with (tmp_path / "a.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert list(csv.reader(file)) == [["name", "n"], [name, "1"]]


def test_a_command_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV", raising=False)
    assert command("predict", "my run") == "inception-resnet-keras predict 'my run'"
    monkeypatch.setenv("UV", "/bin/uv")
    assert command("predict", "a").startswith("uv run inception-resnet-keras predict")


def test_a_command_with_an_unprintable_name_can_be_pasted_too() -> None:
    name = os.fsdecode(b"it's \\ caf\xe9 \x1b[31m\n\xe2\x80\xae.png")
    typed = command("predict", name)
    assert printable(typed) == typed
    shown = subprocess.run(["bash", "-c", f"printf %s {typed.split('predict ')[1]}"], capture_output=True, check=True)
    assert shown.stdout == os.fsencode(name)


def test_a_number_has_its_noun_and_verb() -> None:
    assert counted(1, "picture") == "1 picture"
    assert counted(0, "picture") == "0 pictures"
    assert counted(1, "class", "has", "have") == "1 class has"
    assert counted(2000, "class", "has", "have") == "2,000 classes have"
    assert [counted(2, noun) for noun in ("copy", "batch", "box", "group")] == [
        "2 copies",
        "2 batches",
        "2 boxes",
        "2 groups",
    ]


@pytest.mark.parametrize(
    ("noun", "plural"),
    [("picture", "pictures"), ("class", "classes"), ("epoch", "epochs"), ("branch", "branches"), ("copy", "copies")],
)
def test_numbers_agree_with_their_nouns(noun: str, plural: str) -> None:
    assert counted(1, noun, "is", "are") == f"1 {noun} is"
    assert counted(2000, noun, "is", "are") == f"2,000 {plural} are"
    assert counted(0, noun) == f"0 {plural}"

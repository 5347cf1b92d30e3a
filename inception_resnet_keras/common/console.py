"""Output for people and programs: literal text, names made safe for a terminal, strict JSON."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import category

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PROGRAM = "inception-resnet-keras"
_JOINERS = "\u200c\u200d"  # needed by Persian, the scripts of India, and emoji
_BEYOND_ASCII = re.compile(r"[^\x00-\x7e]")


def printable(text: object) -> str:
    """The text on one line, without anything that could control a terminal, change the direction or be invisible.

    Control characters, line ends, direction marks, and bytes of file names that are not UTF-8 become Python's escapes.
    Letters and spaces of every script are kept.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(sign if _is_harmless(sign) else sign.encode("unicode_escape").decode() for sign in text)


def _is_harmless(sign: str) -> bool:
    return sign.isprintable() or sign in _JOINERS or category(sign) == "Zs"


def counted(count: int, noun: str, one: str = "", many: str = "") -> str:
    """A number with its noun and optionally its verb: "1 class has", "2,000 classes have".

    Args:
        count: The number.
        noun: The noun in the singular.
        one, many: The words after the noun, for 1 and for any other number.
    """
    endings = {
        "copy": ("y", "ies"),
        "epoch": ("", "s"),
        "s": ("", "es"),
        "x": ("", "es"),
        "ch": ("", "es"),
        "": ("", "s"),
    }
    singular, plural = next(pair for ending, pair in endings.items() if noun.endswith(ending))
    noun = noun if count == 1 else noun.removesuffix(singular) + plural
    following = one if count == 1 else many
    return f"{count:,} {noun}{following and ' ' + following}"


def say(console: Console, text: object, style: str | None = None) -> None:
    """Print one line literally: brackets are not markup, long lines are not cut, names are made printable."""
    console.print(printable(text), style=style, soft_wrap=True, highlight=False, markup=False)


def say_lines(console: Console, text: object, style: str | None = None) -> None:
    """Print a text of several lines, each by `say`."""
    for line in str(text).split("\n"):
        say(console, line, style)


def cell(text: object, style: str = "") -> Text:
    """A name as a table cell, or, with the style "table.title", as the table's title."""
    from rich.text import Text

    return Text(printable(text), style)


def json_text(value: Any, indent: int | None = None) -> str:
    """Strict JSON: NaN and infinity are written as null, because JSON has neither, and every string is printable.

    A byte of a file name that is not UTF-8 is written as a surrogate, "\\udcff", which Python reads back as that byte.
    """
    text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    # Such characters occur only inside strings, where an escape has the same meaning.
    return _BEYOND_ASCII.sub(lambda sign: sign[0] if _is_harmless(sign[0]) else json.dumps(sign[0])[1:-1], text)


def print_json(value: Any, indent: int | None = None) -> None:
    """Print strict JSON for programs, in ASCII if the output's encoding lacks a character."""
    text = json_text(value, indent)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=indent)
    print(text)


def command(verb: str, *arguments: str | Path) -> str:
    """The quoted command line of a verb, begun like this process: with `uv run` or without."""
    start = ["uv", "run"] if "UV" in os.environ else []
    return " ".join(map(_quoted, [*start, PROGRAM, verb, *map(str, arguments)]))


def command_with(verb: str, arguments: Sequence[str | Path], options: Mapping[str, object]) -> str:
    """The command line of a verb with options by their Python names. True is a flag; None and False are left out.

    The values of a tuple follow its option.
    """
    words = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif isinstance(value, tuple):
            words += [option, *map(str, value)]
        elif value is not None and value is not False:
            text = str(value)
            words += [f"{option}={text}"] if text.startswith("-") else [option, text]
    return command(verb, *arguments, *words)


def _quoted(argument: str) -> str:
    """An argument quoted for a shell; in the quotes $'…', which take escapes, if a character is not printable."""
    if printable(argument) == argument:
        return shlex.quote(argument)
    signs = (
        f"\\{sign}"
        if sign in "\\'"
        else sign
        if _is_harmless(sign)
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(sign))
        for sign in argument
    )
    return f"$'{''.join(signs)}'"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

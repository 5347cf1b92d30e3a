"""What is told to a person: literal text, names that cannot harm a terminal, commands that can be pasted."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PROGRAM = "inception-resnet-keras"


def say(console: Console, text: str, style: str | None = None) -> None:
    """Prints text as it is: brackets are no markup, long lines are not cut."""
    console.print(text, style=style, soft_wrap=True, highlight=False, markup=False)


def printable(name: object) -> str:
    """A file's name with what is not printable, such as a line's end, written out."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in str(name))


def command(verb: str, *arguments: str | Path) -> str:
    """The command line of a verb, quoted, as this process was started: by uv or by itself."""
    start = ["uv", "run"] if "UV" in os.environ else []
    return shlex.join([*start, PROGRAM, verb, *map(str, arguments)])

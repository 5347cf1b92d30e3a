"""Texts as Graphviz's HTML-like labels, each with the size that it takes. Every text is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from . import fonts
from .layout import Size
from .style import FONT, INK

LEADING = 1.32  # a line's height, of its letters'
SLACK = 1.04  # Graphviz rounds a letter's advance up


@dataclass(frozen=True)
class Text:
    """One line of one look."""

    text: str
    size: int
    colour: str = INK.light
    bold: bool = False
    font: str = FONT

    @property
    def width(self) -> float:
        return fonts.width(self.text, self.size, bold=self.bold, font=self.font) * SLACK

    @property
    def height(self) -> float:
        return self.size * LEADING

    def __str__(self) -> str:
        if not self.text:
            return ""
        face = f' FACE="{self.font}"' if self.font != FONT else ""
        inner = f'<FONT{face} POINT-SIZE="{self.size}" COLOR="{self.colour}">{escape(self.text)}</FONT>'
        return f"<B>{inner}</B>" if self.bold else inner


@dataclass(frozen=True)
class Label:
    """Lines below each other."""

    lines: Sequence[Text]
    left: bool = False

    @property
    def size(self) -> Size:
        """Pixels; Graphviz gives a table two on each side."""
        return max(line.width for line in self.lines) + 8, sum(round(line.height) for line in self.lines) + 4

    def __str__(self) -> str:
        align = {"ALIGN": "LEFT", "WIDTH": round(self.size[0]) - 4} if self.left else {}
        return table("".join(f"<TR>{cell(line, HEIGHT=round(line.height), **align)}</TR>" for line in self.lines))


def table(rows: str, **attributes: object) -> str:
    given = {"BORDER": 0, "CELLBORDER": 0, "CELLSPACING": 0, "CELLPADDING": 0} | attributes
    return f"<TABLE{_attributes(given)}>{rows}</TABLE>"


def cell(inner: object, **attributes: object) -> str:
    return f"<TD{_attributes(attributes)}>{inner}</TD>"


def _attributes(given: dict[str, object]) -> str:
    return "".join(f' {key}="{value}"' for key, value in given.items())

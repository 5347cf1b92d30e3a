"""HTML fragments for notebooks, in the page's own colours and without style rules.

A `rich` table made for the terminal is converted, so that each table is defined only once.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from .console import printable

if TYPE_CHECKING:
    from rich.table import Table

LARGEST = 8_000_000  # bytes of an image that is embedded in the notebook
# Styles are set on the elements, because a rule would apply to the whole page. Lines and text have its colour.
_CELL = "padding:2px 10px;border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent)"
_TABLE = "border-collapse:collapse;margin:4px 0 10px 0"


def page(*parts: str) -> str:
    """The fragments, one below the other."""
    return f'<div style="overflow-x:auto">{"".join(parts)}</div>'


def heading(text: object) -> str:
    """A line of text in bold."""
    return f'<p style="font-weight:bold;margin:4px 0">{escape(printable(text))}</p>'


def line(text: object) -> str:
    """A line of text; "" for an empty one."""
    return f'<p style="margin:2px 0">{escape(printable(text))}</p>' if str(text) else ""


def rows(header: Sequence[str], cells: Sequence[Sequence[object]], title: object = "") -> str:
    """A table. The first column holds names, the others numbers, aligned to the right."""
    places = ["left", *["right"] * (len(header) - 1)]
    return _table(header, places, [list(map(str, row)) for row in cells], str(title))


def table(shown: Table) -> str:
    """A `rich` table as an HTML table."""
    from rich.text import Text

    def plain(content: object) -> str:
        return content.plain if isinstance(content, Text) else Text.from_markup(str(content)).plain

    header = [plain(column.header) for column in shown.columns]
    places = ["right" if column.justify == "right" else "left" for column in shown.columns]
    cells = zip(*(map(plain, column.cells) for column in shown.columns), strict=True)
    return _table(header, places, cells, plain(shown.title or ""))


def picture(source: Path | bytes, text: str, width: int | None = None) -> str:
    """A PNG embedded in the page; "" if its file no longer exists or is larger than 8 MB.

    Args:
        source: The file, or its content.
        text: A description for readers who cannot see the image.
        width: Width in pixels of the page; None for the image's own.
    """
    if isinstance(source, Path):
        try:
            if source.stat().st_size > LARGEST:
                return ""
            source = source.read_bytes()
        except OSError:
            return ""
    size = f"width:{width}px;" if width else ""
    encoded = b64encode(source).decode()
    return f'<img style="{size}max-width:100%" alt="{escape(text)}" src="data:image/png;base64,{encoded}">'


def _table(header: Sequence[str], places: Sequence[str], cells: Iterable[Sequence[str]], title: str) -> str:
    """A table. `places` has "left" or "right" for each column."""
    return "".join(_elements(header, places, cells, title))


def _elements(
    header: Sequence[str], places: Sequence[str], cells: Iterable[Sequence[str]], title: str
) -> Iterator[str]:
    yield f'<table style="{_TABLE}">'
    if title:
        yield f'<caption style="text-align:left;caption-side:top">{escape(printable(title))}</caption>'
    for kind, row in [("th", header), *(("td", row) for row in cells)]:
        yield "<tr>"
        for place, content in zip(places, row, strict=True):
            yield f'<{kind} style="{_CELL};text-align:{place}">{escape(printable(content))}</{kind}>'
        yield "</tr>"
    yield "</table>"

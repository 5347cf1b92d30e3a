"""The style of all figures: light and dark colours, names as text, captions, and writing as PNG or SVG.

Each themed colour has a single use, so that a figure is made dark by mapping its light colours to dark ones.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from ..common import fonts
from ..common.console import printable
from ..common.files import replacing

# Light colours, and the dark colour of each below. The series colours are distinct for colour-blind readers too.
INK, MUTED, GRID = "#1f2328", "#57606a", "#d8dee4"
PAPER = "#fefefe"  # the page; not #ffffff, which is the colour of text on dark cells in both themes
TRAINING, HELD_OUT = "#84898f", "#0b62a4"
SERIES = (HELD_OUT, "#c8501e", "#2f7d4f", "#7a4fa3", "#a87a0a", "#44484d")
DARK = {
    INK: "#e6edf3",
    MUTED: "#a1abb7",
    GRID: "#30363d",
    PAPER: "#0d1117",
    TRAINING: "#949ba3",
    HELD_OUT: "#58a6e8",
    "#c8501e": "#f0884a",
    "#2f7d4f": "#4cc38a",
    "#7a4fa3": "#b795e6",
    "#a87a0a": "#d9ab3d",
    "#44484d": "#c3c9d0",
}
STYLE: dict[Any, Any] = {
    "font.family": [fonts.BASE],
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 11.0,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "figure.facecolor": PAPER,
    "figure.edgecolor": "none",
    "lines.markersize": 4.0,
    "svg.fonttype": "path",  # readers need not have the fonts
    "svg.hashsalt": "figure",  # the same figure gives the same file
}
LABEL_LENGTH = 18
SMALL = 8.0  # font size of captions, in points
CHARACTERS_PER_INCH = 15.0  # in a caption

P = ParamSpec("P")


@contextmanager
def style() -> Iterator[None]:
    """Within the block, matplotlib uses the style of this package, whatever the user has set."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a function that makes a figure, so that it does so in the style of this package."""

    @wraps(draw)
    def drawn(*args: P.args, **options: P.kwargs) -> Figure:
        with style():
            return draw(*args, **options)

    return drawn


def label(name: object, length: int | None = None, *, middle: bool = False) -> str:
    """A name as text in a figure: on one line, cut to the width of `length` letters, with dollar signs escaped.

    Characters that no installed font has are escaped. middle: Cut in the middle, because file names differ at their
    end.
    """
    shown = printable(name)
    drawn = fonts.drawable(shown)
    if length and sum(map(_width, drawn)) > length:
        drawn = _cut([fonts.drawable(sign) for sign in shown], length, middle=middle)
    return drawn.replace("$", r"\$")


def labels(names: Sequence[object], length: int) -> list[str]:
    """The names as text; names that would be cut to the same text are cut in the middle."""
    shown = [label(name, length) for name in names]
    twice = {text for text in shown if shown.count(text) > 1}
    return [
        label(name, length, middle=True) if text in twice else text for name, text in zip(names, shown, strict=True)
    ]


def _cut(signs: Sequence[str], length: int, *, middle: bool) -> str:
    """Cut to at most `length` letters. signs: The characters; one that no font has is given in its escaped form."""
    ahead = (length - 1) // 2 if middle else length - 1
    start = _start(signs, ahead)
    end = _start(signs[::-1], length - 1 - ahead)[::-1] if middle else []
    while end and not sum(map(_width, end[0])):  # a combining mark without its letter
        end = end[1:]
    return f"{''.join(start)}…{''.join(end)}"


def _start(signs: Sequence[str], width: int) -> Sequence[str]:
    total = 0
    for taken, sign in enumerate(signs):
        total += sum(map(_width, sign))
        if total > width:
            return signs[:taken]
    return signs


def _width(sign: str) -> int:
    """The width in letters: 2 for East Asian wide characters, 0 for combining marks."""
    if unicodedata.combining(sign) or unicodedata.category(sign) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def add_caption(figure: Figure, *sentences: str) -> None:
    """Write sentences in small letters below the axes, after the existing caption."""
    before = figure.get_supxlabel().replace("\n", " ")
    text = " ".join(filter(None, [before, *sentences]))
    if text:
        wrapped = textwrap.fill(text, max(24, int(CHARACTERS_PER_INCH * figure.get_figwidth())))
        figure.supxlabel(wrapped, fontsize=SMALL, color=MUTED, x=0.01, ha="left")


def plain(axis: Axes) -> None:
    axis.grid(alpha=1.0, linewidth=0.6)


def save(figure: Figure, path: Path | BytesIO, dpi: int = 150, kind: str = "png") -> None:
    """Write a figure in a format of matplotlib. An existing file is replaced in one step."""
    with style(), nullcontext(path) if isinstance(path, BytesIO) else replacing(path) as target:
        _finish(figure)
        figure.savefig(target, dpi=dpi, facecolor="#ffffff", format=kind)


def svg_of(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as SVG that follows the light or dark theme of the reader's page.

    dpi: Resolution of the images in it.
    """
    drawn = BytesIO()
    with style():
        _finish(figure)
        figure.savefig(drawn, format="svg", dpi=dpi, facecolor="none", metadata={"Date": None, "Creator": None})
    return themed(drawn.getvalue().decode()).encode()


def themed(svg: str) -> str:
    """An SVG by matplotlib with its colours replaced by CSS variables, which have a light and a dark value."""
    names = {colour: f"--c{number}" for number, colour in enumerate(DARK)}
    # Replace colours only in style attributes: the data of an embedded image may contain the same characters.
    coloured = re.sub(
        r'style="[^"]*"',
        lambda found: re.sub(
            "#[0-9a-f]{6}", lambda hue: f"var({names[hue[0]]})" if hue[0] in names else hue[0], found[0]
        ),
        svg,
    )
    light = ";".join(f"{name}:{colour}" for colour, name in names.items())
    dark = ";".join(f"{name}:{DARK[colour]}" for colour, name in names.items())
    rules = f"<style>svg{{{light}}}@media screen and (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    head, tag, rest = coloured.partition("<svg")
    attributes, end, body = rest.partition(">")
    return f"{head}{tag}{attributes}{end}{rules}{body}"


def _finish(figure: Figure) -> None:
    """Set the fonts that the texts need, and add a caption about characters that no font has."""
    note = fonts.advice(text.get_text() for text in _texts(figure))
    if note and note not in figure.get_supxlabel().replace("\n", " "):
        add_caption(figure, note)
    lines = figure.get_supxlabel().count("\n")
    if (
        lines
        and isinstance(engine := figure.get_layout_engine(), ConstrainedLayoutEngine)
        and engine.get().get("compress")
    ):
        spare = (0.14 + 0.16 * lines) / figure.get_figheight()  # the compressed layout reserves only one line
        engine.set(rect=(0, spare, 1, 1 - spare))
    needed = fonts.families()
    if len(needed) > 1:
        for text in _texts(figure):
            text.set_fontfamily(needed)


def _texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if isinstance(text, Text)]


def percent(value: float | None, digits: int = 1) -> str:
    """A share as text, such as "98.9 %"; "–" for None."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def interval_text(low: float, high: float, digits: int = 1) -> str:
    """An interval as text, such as "97.2 to 99.6 %"."""
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f} %"


def rows_of(count: int, columns: int) -> int:
    return -(-count // columns)


def unused(axes: Sequence[Axes] | Iterable[Axes], used: int) -> None:
    for axis in list(axes)[used:]:
        axis.set_axis_off()

"""The style that all formats share: colours in light and dark, fonts, sizes.

Each colour has one use, so that a picture's dark theme is a mapping of its light colours. Text has a contrast of
at least 4.5 to its background, a line or a border of at least 3 (WCAG 2.2, AA).
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unicodedata
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from html import escape, unescape
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import pydot

from ..common.errors import InputError
from ..common.packages import install, named_extras
from .layout import Box, Line, Point


@dataclass(frozen=True)
class Colour:
    light: str
    dark: str


@dataclass(frozen=True)
class Kind:
    fill: Colour
    line: Colour


PAPER = Colour("#ffffff", "#0d1117")
CARD = Colour("#f6f8fa", "#161b22")
INK = Colour("#1f2328", "#e6edf3")
MUTED = Colour("#57606a", "#a1abb7")
EDGE = Colour("#6e7781", "#8b949e")
BORDER = Colour("#868e98", "#6e7680")
TRACK = Colour("#e1e5ea", "#2b323b")  # what a bar has still to fill

KINDS = {
    "weights": Kind(Colour("#dcebfd", "#10294a"), Colour("#2f6fc4", "#5b9cf0")),
    "pool": Kind(Colour("#d9f2e4", "#0d3223"), Colour("#1f8154", "#3fb27f")),
    "concat": Kind(Colour("#ece4fb", "#2a1f4a"), Colour("#7b52c7", "#a98bea")),
    "sum": Kind(Colour("#fdebd0", "#40290b"), Colour("#a85f06", "#e0973a")),
    "activation": Kind(Colour("#fce2ea", "#431526"), Colour("#c03a68", "#ee7aa0")),
    "plain": Kind(Colour("#eff1f3", "#20262e"), Colour("#737b85", "#7f8893")),
}

COLOURS = (
    PAPER,
    CARD,
    INK,
    MUTED,
    EDGE,
    BORDER,
    TRACK,
    *(c for kind in KINDS.values() for c in (kind.fill, kind.line)),
)

FONT = "DejaVu Sans"  # matplotlib brings it, so that every machine measures and draws the same
MONO = "DejaVu Sans Mono"
WEB_FONT = '"DejaVu Sans",Verdana,Geneva,sans-serif'
WEB_MONO = '"DejaVu Sans Mono",Menlo,Consolas,monospace'
TITLE, TEXT, SMALL = 17, 13, 11
README_WIDTH = 900  # pixels that a README gives a picture

FILES = {
    ("DejaVu Sans", False): "DejaVuSans.ttf",
    ("DejaVu Sans", True): "DejaVuSans-Bold.ttf",
    ("DejaVu Sans Mono", False): "DejaVuSansMono.ttf",
}

_PRECISE = 1000  # points at which a text is measured


def folder() -> Path:
    """The folder of matplotlib's fonts. Does not import matplotlib, which takes long."""
    found = find_spec("matplotlib")
    with named_extras("a picture"):
        if found is None or not found.submodule_search_locations:
            raise ModuleNotFoundError("matplotlib has the fonts", name="matplotlib")
    return Path(found.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"


@cache
def width(text: str, size: float, *, bold: bool = False, font: str = "DejaVu Sans") -> float:
    """The width of a line of text, in the unit of `size`.

    A character of a script whose letters are squares, such as Chinese, is as wide as high in any font. Other
    characters that this font lacks are assumed to be as wide as its glyph for a missing character.
    """
    squares = sum(_is_square(sign) for sign in text)
    measured = "".join(sign for sign in text if not _is_square(sign)) if squares else text
    return (_font(font, bold).getlength(measured) / _PRECISE + squares) * size


def _is_square(sign: str) -> bool:
    return unicodedata.east_asian_width(sign) in ("W", "F")


SIGNS = "–→×·≠†‡§¶‖"  # that our own texts hold besides letters


def has_other_scripts(text: str) -> bool:
    """Whether a text may need a font other than the package's. Only a model's name does."""
    return any(sign > "\u024f" and sign not in SIGNS for sign in text)


def drawable(text: str) -> str:
    """The text for a PNG or a PDF: characters that no installed font has are escaped, with a warning."""
    if not has_other_scripts(text):
        return text
    from ..common import fonts

    shown = fonts.drawable(text)
    if advice := fonts.advice([shown]):
        warnings.warn(advice, stacklevel=2)
    return shown


@cache
def _font(name: str, bold: bool) -> Any:
    with named_extras("a picture"):
        from PIL import ImageFont

    return ImageFont.truetype(folder() / FILES[name, bold], _PRECISE, layout_engine=ImageFont.Layout.BASIC)


@contextmanager
def only_ours(others: Iterable[Path] = ()) -> Iterator[dict[str, str]]:
    """An environment in which Graphviz finds only these fonts and `others`, whatever is installed."""
    with tempfile.TemporaryDirectory() as temporary:
        settings = Path(temporary) / "fonts.conf"
        for file in others:
            shutil.copy(file, temporary)
        settings.write_text(
            '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
            f"<dir>{escape(str(folder()))}</dir><dir>{escape(temporary)}</dir><cachedir>{escape(temporary)}/cache</cachedir>"
            '<match target="font"><edit name="hinting" mode="assign"><bool>false</bool></edit>'
            '<edit name="hintstyle" mode="assign"><const>hintnone</const></edit></match></fontconfig>',
            encoding="utf-8",
        )
        before = os.environ.get("FONTCONFIG_FILE")
        os.environ["FONTCONFIG_FILE"] = str(settings)
        try:
            yield dict(os.environ)
        finally:
            if before is None:
                del os.environ["FONTCONFIG_FILE"]
            else:
                os.environ["FONTCONFIG_FILE"] = before


MARGIN = 16.0
ROUND = 7.0  # a bend's radius
ARROW = 7.0
SKIP_LINE = {"color": KINDS["sum"].line.light, "penwidth": "2.4"}
INCH = 72.0


class Canvas:
    """Collects boxes, cards and lines, in pixels from the upper left corner; `graph` is the drawing."""

    def __init__(self, name: str) -> None:
        self.graph = pydot.Dot(
            name, graph_type="digraph", layout="nop2", bgcolor=PAPER.light, pad=f"{MARGIN / INCH:.3f}"
        )
        self.turn(0.0, None)
        self.graph.set_node_defaults(
            fontname=FONT, fontsize=str(TEXT), fontcolor=INK.light, fixedsize="true", margin="0", shape="none"
        )
        self.graph.set_edge_defaults(color=EDGE.light, arrowsize="0.65", penwidth="1.3")

    def turn(self, top: float, height: float | None) -> None:
        """Move everything that follows down by `top`, and turn it upside down within `height` if it is given."""
        self._top, self._height = top, height

    def finish(self, width: float, height: float) -> pydot.Dot:
        """The graph with an invisible node as large as the page, because lines do not enlarge it."""
        self.box("page", "", Box(width / 2, height / 2, width, height), style="invis")
        return self.graph

    def box(self, name: str, label: str, place: Box, into: Any = None, **looks: str) -> None:
        x, y = self._at((place.x, place.y))
        node = pydot.Node(
            _quoted(name),
            label=f"<{label}>" if label else '""',
            pos=f'"{x:g},{y:g}"',
            width=f"{place.width / INCH:.4f}",
            height=f"{place.height / INCH:.4f}",
            **looks,
        )
        (into or self.graph).add_node(node)

    def block(self, name: str, place: Box, colour: str) -> None:
        """A plain filled rectangle."""
        self.box(name, "", place, shape="box", style="filled", fillcolor=colour, color=colour, penwidth="0")

    def card(self, name: str, label: str, size: tuple[float, float], place: Box, **looks: str) -> pydot.Cluster:
        """A cluster with its title in the upper left corner; size: the title's width and height."""
        y = self._at((place.x, place.y))[1]
        left, right = place.left, place.right
        low, high = y - place.height / 2, y + place.height / 2
        across, down = left + 12 + size[0] / 2, high - 6 - size[1] / 2
        cluster = pydot.Cluster(
            name,
            label=f"<{label}>",
            bb=f'"{left:g},{low:g},{right:g},{high:g}"',
            lp=f'"{across:g},{down:g}"',
            style="rounded,filled",
            fontname=FONT,
            **looks,
        )
        self.graph.add_subgraph(cluster)
        return cluster

    def line(self, tail: str, head: str, line: Line) -> None:
        looks = SKIP_LINE if line.skip else {}
        points = tuple(map(self._at, line.points))
        self.graph.add_edge(pydot.Edge(_quoted(tail), _quoted(head), pos=f'"{_spline(points)}"', **looks))

    def _at(self, point: Point) -> Point:
        """A position in Graphviz, whose vertical axis points up."""
        x, y = point
        return x, -self._top - (y if self._height is None else self._height - y)


def _spline(points: tuple[Point, ...]) -> str:
    """The line as cubic curves with rounded bends, and the tip of the arrow."""
    tip = points[-1]
    points = (*points[:-1], _towards(tip, points[-2], ARROW))
    path = [points[0]]
    for before, bend, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(ROUND, _distance(before, bend) / 2, _distance(bend, after) / 2)
        start, end = _towards(bend, before, radius), _towards(bend, after, radius)
        path += [path[-1], start, start, _towards(bend, start, radius * 0.45), _towards(bend, end, radius * 0.45), end]
    path += [path[-1], points[-1], points[-1]]
    return " ".join([f"e,{_text(tip)}", *(_text(point) for point in path)])


def _quoted(name: str) -> str:
    return f'"{name}"'


def _text(point: Point) -> str:
    return f"{point[0]:.2f},{point[1]:.2f}"


def _distance(one: Point, other: Point) -> float:
    return ((one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2) ** 0.5


def _towards(start: Point, end: Point, length: float) -> Point:
    """The point at distance `length` from start towards end."""
    share = length / (_distance(start, end) or 1)
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


_TEXT = re.compile(
    r'<text (?P<looks>[^>]*font-family="(?P<font>[^"]*)"(?: font-weight="(?P<weight>bold)")?[^>]*'
    r'font-size="(?P<size>[\d.]+)"[^>]*)>(?P<text>[^<]*)</text>'
)


SCOPE = "inception-resnet-keras"  # the class of our drawings, which every style rule begins with
# How pages say that they are light or dark, whatever the reader's system is: JupyterLab, Notebook and nbconvert, VS
# Code, Colab, and the documentation themes of Sphinx and MkDocs.
LIGHT_PAGES = (
    *('[data-jp-theme-light="true"]', ".vscode-light", '[theme="light"]', '[data-theme="light"]'),
    '[data-md-color-scheme="default"]',
)
DARK_PAGES = (
    *('[data-jp-theme-light="false"]', ".vscode-dark", ".vscode-high-contrast", '[theme="dark"]'),
    *('[data-theme="dark"]', '[data-md-color-scheme="slate"]'),
)
# What notebooks call the colour of their own background, which the drawing then stands on.
BACKGROUNDS = ("--jp-layout-color0", "--vscode-editor-background")


def themed(svg: str, title: str, source: str) -> str:
    """The drawing in light and dark, with text of one width in any font. Inline in a page, it changes nothing else.

    It follows the theme of the surrounding page, such as a notebook, or else the reader's preference.

    source: The DOT text from which it was drawn, kept as its metadata.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # two drawings on a page would share them
    svg = re.sub(r'width="([\d.]+)pt" height="([\d.]+)pt"', r'width="\1" height="\2"', svg, count=1)
    svg = svg.replace("<svg ", f'<svg class="{SCOPE}" role="img" aria-label="{escape(title)}" ', 1)
    svg = svg.replace(">", f">\n<metadata>{escape(source)}</metadata>\n<style>{_rules()}</style>", 1)
    return _TEXT.sub(_as_wide, svg)


@cache
def _rules() -> str:
    """Each colour has one use, so that its dark counterpart replaces it everywhere."""
    ours = f".{SCOPE}"
    families = "".join(
        f'{ours} [font-family="{font}"]{{font-family:{web}}}' for font, web in ((FONT, WEB_FONT), (MONO, WEB_MONO))
    )
    distinct = list(dict.fromkeys(COLOURS))
    uses = "".join(
        f'{ours} [{what}="{colour.light}"]{{{what}:var(--c{number},{colour.light})}}'
        for number, colour in enumerate(distinct)
        for what in ("fill", "stroke")
    )

    def values(theme: str) -> str:
        """Every colour of a theme; the paper's colour is the notebook's own."""
        colours = [getattr(colour, theme) for colour in distinct]
        for background in BACKGROUNDS[::-1]:
            colours[0] = f"var({background},{colours[0]})"
        return "{" + ";".join(f"--c{number}:{colour}" for number, colour in enumerate(colours)) + "}"

    def within(pages: tuple[str, ...]) -> str:
        return ",".join(f"{page} {ours}" for page in pages)

    preferred = f"@media (prefers-color-scheme:dark){{{ours}{values('dark')}}}"
    themes = f"{within(LIGHT_PAGES)}{values('light')}{within(DARK_PAGES)}{values('dark')}"
    return f"{families}{uses}{preferred}{themes}"


def _as_wide(match: re.Match[str]) -> str:
    """A line of text with the width of its box, whatever font the reader has."""
    text = unescape(match["text"])
    text_width = width(text, float(match["size"]), bold=bool(match["weight"]), font=match["font"])
    looks = f'{match["looks"]} textLength="{text_width:.1f}" lengthAdjust="spacingAndGlyphs"'
    return f"<text {looks}>{match['text']}</text>"


def source_of(svg: str) -> str:
    """The DOT text in a drawing; "" if it has none."""
    found = re.search(r"<metadata>(.*?)</metadata>", svg, flags=re.DOTALL)
    return unescape(found[1]) if found else ""


MISSING = (
    "format: a picture needs Graphviz, which is not here: "
    f"{install('plot')}, or install Graphviz so that `dot` is on PATH; the formats dot, mermaid and html need neither"
)

DPI = 144  # of a PNG: two dots a pixel of the page, as fine screens have them
LARGE = 2**24  # pixels: of every layer of a network, never of its parts
HEADER = 33  # bytes of a PNG's signature and first chunk
TIMEOUT = 300  # seconds that a system's dot may take


def draw(dot: str, format: str) -> bytes:
    """Render a DOT text with positions as svg, png or pdf. Raises InputError if no Graphviz is installed."""
    dpi = DPI if format == "png" else 72
    others = _other_fonts(dot) if format != "svg" else []
    with only_ours(others) as environment:
        try:
            import pygraphviz
        except ImportError:
            return _draw_with_system(dot, format, dpi, environment)
        if others:  # Fontconfig reads its settings once in a process
            program = [sys.executable, "-c", APART, format, str(dpi)]
            return _run(program, dot, format, environment)
        with _without_font_warnings():
            graph = pygraphviz.AGraph(string=dot)
            graph.graph_attr["dpi"] = str(dpi)
            return graph.draw(format=format, prog="nop2")


def _other_fonts(text: str) -> list[Path]:
    """The files of the fonts with the characters that the package's fonts lack."""
    if not has_other_scripts(text):
        return []
    from ..common import fonts

    fonts.drawable(text)
    return fonts.files()


def with_source(png: bytes, source: str) -> bytes:
    """The PNG with the DOT text from which it was drawn, in its text chunk `dot`.

    The pixels stay as Graphviz compressed them, because compressing them again takes as long as drawing.
    """
    pixels = struct.unpack(">II", png[16:24])  # the header begins with them
    if pixels[0] * pixels[1] > LARGE:
        density = struct.pack(">IIB", *[round(DPI / 0.0254)] * 2, 1)  # dots a metre
        chunks = _chunk(b"pHYs", density) + _chunk(b"iTXt", b"dot\0\1\0\0\0" + zlib.compress(source.encode()))
        return png[:HEADER] + chunks + png[HEADER:]
    with named_extras("a picture"):
        from PIL import Image, PngImagePlugin

    chunk = PngImagePlugin.PngInfo()
    chunk.add_itxt("dot", source, zip=True)
    packed = BytesIO()
    with Image.open(BytesIO(png)) as picture:
        picture.convert("RGB").save(packed, "PNG", pnginfo=chunk, compress_level=6, dpi=(DPI, DPI))
    return packed.getvalue()


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_source(path: Path) -> str:
    """The DOT text in a PNG; "" if it has none."""
    with named_extras("a picture"):
        from PIL import Image

    with Image.open(path) as picture:
        return str(picture.info.get("dot", ""))


def png_size(path: Path) -> tuple[int, int]:
    """The width and height of a PNG."""
    with named_extras("a picture"):
        from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # only its header is read
    try:
        with Image.open(path) as picture:
            return picture.size
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def can_draw() -> bool:
    return find_spec("pygraphviz") is not None or shutil.which("dot") is not None


def _draw_with_system(dot: str, format: str, dpi: int, environment: dict[str, str]) -> bytes:
    program = shutil.which("dot")
    if program is None:
        raise InputError(MISSING)
    return _run([program, "-Knop2", f"-T{format}", f"-Gdpi={dpi}"], dot, format, environment)


APART = """
import sys
import pygraphviz
graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode())
graph.graph_attr["dpi"] = sys.argv[2]
sys.stdout.buffer.write(graph.draw(format=sys.argv[1], prog="nop2"))
"""


def _run(program: list[str], dot: str, format: str, environment: dict[str, str]) -> bytes:
    done = subprocess.run(
        program,
        input=dot.encode(),
        capture_output=True,
        env=environment,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        raise InputError(f"format: {program[0]} failed on {format}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


@contextmanager
def _without_font_warnings() -> Iterator[None]:
    """Drop the warnings of the wheel's Fontconfig about a newer system's files, which bypass Python's stderr."""
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            said.seek(0)
            for line in said.read().decode(errors="replace").splitlines():
                if not line.startswith("Fontconfig warning"):
                    print(line, file=sys.stderr)

"""DOT → SVG, PNG, PDF: by the pip package pygraphviz, else by a system's `dot`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from ..errors import InputError
from . import fonts

MISSING = (
    "format: a picture needs Graphviz, which is not here: pip install 'inception-resnet-keras[plot]', "
    "or install Graphviz so that `dot` is on PATH; the formats dot, mermaid and html need neither"
)
DPI = 144  # of a PNG: two dots a pixel of the page, as fine screens have them
TIMEOUT = 300  # seconds that a system's dot may take


def draw(dot: str, format: str) -> bytes:
    """A DOT text with positions as svg, png or pdf; InputError where there is nothing to draw it with."""
    dpi = DPI if format == "png" else 72
    with fonts.only_ours() as environment:
        try:
            import pygraphviz
        except ImportError:
            return _draw_with_system(dot, format, dpi, environment)
        with _without_font_warnings():
            graph = pygraphviz.AGraph(string=dot)
            graph.graph_attr["dpi"] = str(dpi)
            return graph.draw(format=format, prog="nop2")


def with_source(png: bytes, source: str) -> bytes:
    """The picture with the DOT text that it was drawn from, packed as its text chunk `dot`."""
    from PIL import Image, PngImagePlugin

    chunk = PngImagePlugin.PngInfo()
    chunk.add_itxt("dot", source, zip=True)
    packed = BytesIO()
    with Image.open(BytesIO(png)) as picture:
        picture.convert("RGB").save(packed, "PNG", pnginfo=chunk, compress_level=6, dpi=(DPI, DPI))
    return packed.getvalue()


def source_of_png(path: Path) -> str:
    """The DOT text that a picture carries; "" where it carries none."""
    from PIL import Image

    with Image.open(path) as picture:
        return str(picture.info.get("dot", ""))


def can_draw() -> bool:
    return find_spec("pygraphviz") is not None or shutil.which("dot") is not None


def _draw_with_system(dot: str, format: str, dpi: int, environment: dict[str, str]) -> bytes:
    program = shutil.which("dot")
    if program is None:
        raise InputError(MISSING)
    done = subprocess.run(
        [program, "-Knop2", f"-T{format}", f"-Gdpi={dpi}"],
        input=dot.encode(),
        capture_output=True,
        env=environment,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        raise InputError(f"format: {program} failed on {format}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


@contextmanager
def _without_font_warnings() -> Iterator[None]:
    """Drops what the wheel's Fontconfig says of a newer system's files: it writes past Python's stderr."""
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

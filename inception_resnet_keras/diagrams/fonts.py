"""The fonts that matplotlib brings, found without importing it: every machine measures and draws the same."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

FILES = {
    ("DejaVu Sans", False): "DejaVuSans.ttf",
    ("DejaVu Sans", True): "DejaVuSans-Bold.ttf",
    ("DejaVu Sans Mono", False): "DejaVuSansMono.ttf",
}
_PRECISE = 1000  # points at which a text is measured


def folder() -> Path:
    found = find_spec("matplotlib")
    if found is None or not found.submodule_search_locations:
        raise ImportError("matplotlib is not installed, which this package depends on")
    return Path(found.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"


@cache
def width(text: str, size: float, *, bold: bool = False, font: str = "DejaVu Sans") -> float:
    """How wide a line of text is, in the unit of `size`."""
    return _font(font, bold).getlength(text) * size / _PRECISE


@cache
def _font(name: str, bold: bool) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(folder() / FILES[name, bold], _PRECISE, layout_engine=ImageFont.Layout.BASIC)


@contextmanager
def only_ours() -> Iterator[dict[str, str]]:
    """An environment in which Graphviz finds these fonts, and no others; also where there are no others."""
    with tempfile.TemporaryDirectory() as temporary:
        settings = Path(temporary) / "fonts.conf"
        settings.write_text(
            '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
            f"<dir>{escape(str(folder()))}</dir><cachedir>{escape(temporary)}/cache</cachedir>"
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

"""A font of one sign, as one that a user has installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from inception_resnet_keras.common import fonts

CUNEIFORM, OTHER = "\U00012000", "\U00012001"  # which no font here has
FAMILY = "Test Signs"


@contextmanager
def installed_font(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The family of a font with a triangle for CUNEIFORM, installed after matplotlib listed the fonts."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    glyph, empty = pen.glyph(), TTGlyphPen(None).glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "sign"])
    builder.setupCharacterMap({ord(CUNEIFORM): "sign"})
    builder.setupGlyf({".notdef": empty, "sign": glyph})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "sign": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupOS2(usWeightClass=400)
    builder.setupNameTable({"familyName": FAMILY, "styleName": "Regular"})
    builder.setupPost()
    builder.save(folder / "signs.ttf")
    before = list(font_manager.fontManager.ttflist)
    monkeypatch.setattr(fonts, "_fallbacks", {})
    monkeypatch.setattr(fonts, "_refreshed", False)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(folder / "signs.ttf")])
    yield FAMILY
    font_manager.fontManager.ttflist[:] = before
    fonts._characters.cache_clear()

"""Fonts for text of any script in a figure or a diagram.

matplotlib's own font covers Latin, Greek, Cyrillic, Arabic, Hebrew and some other scripts. Characters that it lacks,
such as Chinese ones, are drawn with an installed font. A character that no installed font has is drawn as its Python
escape, such as \\u732b, not as an empty box, and the figure names the fonts to install.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

BASE = "DejaVu Sans"  # comes with matplotlib
UNSUITABLE = ("color emoji", "last resort", "lastresort", "adobe blank", "tofu")  # bitmaps, or only boxes
PACKAGES = {"fonts-noto-cjk": ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH")}
REGULAR = 400  # weight
OTHER_PACKAGE = "fonts-noto-core"  # has a font for each of the other scripts
ESCAPE = re.compile(r"\\u[0-9a-f]{4}|\\U[0-9a-f]{8}")

_fallbacks: dict[str, str | None] = {}  # a character that the base font lacks → family; None if no font has it
_refreshed = False  # whether fonts missing from matplotlib's stored list were added to it


def drawable(text: str) -> str:
    """The text with characters that no installed font has replaced: spaces by plain spaces, others by escapes."""
    base = _characters(BASE)
    unknown = {sign for sign in text if ord(sign) not in base and not _is_invisible(sign)}
    if not unknown:
        return text
    _find_fallbacks(sign for sign in unknown if sign not in _fallbacks)
    shown = []
    for sign in text:
        lacking = sign in unknown and _fallbacks[sign] is None
        space = lacking and unicodedata.category(sign) == "Zs"
        shown.append(" " if space else sign.encode("unicode_escape").decode() if lacking else sign)
    return "".join(shown)


def families() -> list[str]:
    """The font families that the texts so far need, in the order in which they are searched for a character."""
    return [BASE, *dict.fromkeys(family for family in _fallbacks.values() if family)]


def files() -> list[Path]:
    """The files of these families, without the base font's."""
    found = (font_manager.FontProperties(family=[family]) for family in families()[1:])
    return [Path(font_manager.findfont(font, fallback_to_default=False)) for font in found]


def advice(texts: Iterable[str]) -> str:
    """The packages to install for the escaped characters in texts returned by `drawable`; "" if there are none."""
    escaped = {found for text in texts for found in ESCAPE.findall(text)}
    missing = sorted({sign for found in escaped if (sign := _decoded(found)) in _fallbacks and not _fallbacks[sign]})
    if not missing:
        return ""
    packages = sorted({_package(sign) for sign in missing})
    signs = "a character" if len(missing) == 1 else f"{len(missing)} characters"
    return f"No installed font has {signs} of these names: install a font, such as {' and '.join(packages)} on Debian."


def _decoded(escape: str) -> str:
    """The character of an escape such as \\u732b; "" for a name's text that only looks like an escape."""
    number = int(escape[2:], 16)
    return chr(number) if number <= 0x10FFFF else ""


def _package(sign: str) -> str:
    script = unicodedata.name(sign, "").partition(" ")[0]
    return next((package for package, scripts in PACKAGES.items() if script in scripts), OTHER_PACKAGE)


def _is_invisible(sign: str) -> bool:
    """Whether it is a joiner, a variation selector or the like, which needs no glyph."""
    return unicodedata.category(sign) in ("Cf", "Cc") or unicodedata.name(sign, "").startswith("VARIATION SELECTOR")


def _find_fallbacks(signs: Iterable[str]) -> None:
    """Choose a family for each character, in a fixed order of families, with as few of them as possible."""
    global _refreshed  # noqa: PLW0603
    missing = set(signs)
    missing -= _taken_from(families()[1:], missing)
    if missing:
        missing -= _taken_from(_candidates(), missing)
    if missing and not _refreshed:  # matplotlib's stored list lacks fonts that were installed later
        _refreshed = True
        known = {entry.fname for entry in font_manager.fontManager.ttflist}
        for path in font_manager.findSystemFonts():
            if path not in known:
                _add_font(path)
        missing -= _taken_from(_candidates(), missing)
    _fallbacks.update(dict.fromkeys(missing))


def _taken_from(names: Iterable[str], missing: set[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        if found == missing:
            break
        has = _characters(name)
        fitting = {sign for sign in missing - found if ord(sign) in has}
        _fallbacks.update(dict.fromkeys(sorted(fitting), name))
        found |= fitting
    return found


def _candidates() -> Iterator[str]:
    """The installed families, sans-serif ones first."""

    def order(name: str) -> tuple[bool, bool, bool, str]:
        return not name.startswith("Noto Sans"), "Sans" not in name, "CJK" in name and "SC" not in name, name

    entries = font_manager.fontManager.ttflist
    names = {entry.name for entry in entries if entry.weight == REGULAR and entry.style == "normal"}
    fitting = (name for name in names if not any(word in name.lower() for word in UNSUITABLE))
    yield from sorted(fitting, key=order)


def _add_font(path: str) -> None:
    try:
        font_manager.fontManager.addfont(path)
    except (OSError, RuntimeError, ValueError, NotImplementedError):
        return  # a bitmap font, or a file that FreeType does not read


@cache
def _characters(family: str) -> frozenset[int]:
    """The code points in the font that matplotlib chooses for a family in regular weight."""
    try:
        place = font_manager.findfont(font_manager.FontProperties(family=[family]), fallback_to_default=False)
        font: FT2Font = font_manager.get_font(place)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()

"""What makes Graphviz's SVG fit for a page: two themes, fonts that every machine has, sizes in pixels."""

from __future__ import annotations

import re
from html import escape, unescape

from . import fonts
from .style import COLOURS, FONT, MONO, WEB_FONT, WEB_MONO

_TEXT = re.compile(
    r'<text (?P<looks>[^>]*font-family="(?P<font>[^"]*)"(?: font-weight="(?P<weight>bold)")?[^>]*'
    r'font-size="(?P<size>[\d.]+)"[^>]*)>(?P<text>[^<]*)</text>'
)


def themed(svg: str, title: str, source: str) -> str:
    """The drawing in light and dark by the reader's preference, its text as wide in any font.

    source: The DOT text that it was drawn from, which it carries as its metadata.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r'width="([\d.]+)pt" height="([\d.]+)pt"', r'width="\1" height="\2"', svg, count=1)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    svg = svg.replace(">", f">\n<metadata>{escape(source)}</metadata>\n<style>{_rules()}</style>", 1)
    return _TEXT.sub(_as_wide, svg)


def _rules() -> str:
    """A colour is used for one thing only, so that its dark one replaces it wherever it stands."""
    dark = "".join(
        f'[{what}="{colour.light}"]{{{what}:{colour.dark}}}' for colour in COLOURS for what in ("fill", "stroke")
    )
    families = "".join(
        f'[font-family="{font}"]{{font-family:{web}}}' for font, web in ((FONT, WEB_FONT), (MONO, WEB_MONO))
    )
    return f"{families}@media (prefers-color-scheme:dark){{{dark}}}"


def _as_wide(match: re.Match[str]) -> str:
    """A line of text with the width that its box was made for, whichever font the reader has."""
    text = unescape(match["text"])
    width = fonts.width(text, float(match["size"]), bold=bool(match["weight"]), font=match["font"])
    looks = f'{match["looks"]} textLength="{width:.1f}" lengthAdjust="spacingAndGlyphs"'
    return f"<text {looks}>{match['text']}</text>"


def source_of(svg: str) -> str:
    """The DOT text that a drawing carries; "" where it carries none."""
    found = re.search(r"<metadata>(.*?)</metadata>", svg, flags=re.DOTALL)
    return unescape(found[1]) if found else ""

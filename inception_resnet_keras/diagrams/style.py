"""The looks that every format shares: colours in light and dark, fonts, sizes.

A colour is used for one thing only, so that a picture's dark theme is a mapping of its light colours.
Text has a contrast of at least 4.5 on what it stands on, a line or a border 3 (WCAG 2.2, AA).
"""

from __future__ import annotations

from dataclasses import dataclass


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

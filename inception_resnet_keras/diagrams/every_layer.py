"""Every layer of a network on one sheet: a card a block, the cards in columns read from the left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pydot

from .canvas import Canvas
from .graph import Graph, Op, Part, full
from .layout import Box, Line, Placed, place
from .pictures import heading, look, put
from .style import BORDER, CARD, KINDS, MONO, MUTED, SMALL, TEXT
from .tables import Label, Text
from .words import shape_text

PAD, TITLE_HEIGHT = 16.0, 30.0  # inside a card
BELOW, GUTTER = 26.0, 46.0  # between two cards of a column, and between two columns
SHAPE = 1.5  # width over height that the sheet should have


@dataclass(frozen=True)
class Card:
    """A block, laid out; before: the operation that it reads."""

    part: Part
    place: str
    before: str
    inside: Placed

    @property
    def key(self) -> str:
        return self.place or self.part.key

    @property
    def width(self) -> float:
        return self.inside.width + 2 * PAD

    @property
    def height(self) -> float:
        return self.inside.height + TITLE_HEIGHT + PAD

    @property
    def last(self) -> str:
        return full(self.place, self.part.ops[-1].name)


def layers(graph: Graph, *, upwards: bool = False) -> pydot.Dot:
    """The whole network down to its Keras layers' names."""
    canvas = Canvas(graph.name)
    cards = list(_cards(graph, upwards))
    columns = _columns(cards)
    top = put(canvas, "title", heading(graph, "every layer"), 0) + 30
    left, height = 0.0, max(map(_height, columns))
    ends: dict[str, Box] = {}
    for column in columns:
        width = max(card.width for card in column)
        down = height - CARD_BOTTOM if upwards else 0.0
        for card in column:
            down = down - card.height if upwards else down
            at = Box(left + width / 2, top + down + card.height / 2, card.width, card.height)
            _draw(canvas, card, at, ends)
            down += -BELOW if upwards else card.height + BELOW
        left += width + GUTTER
    return canvas.finish(left - GUTTER, top + height)

"""Draws every layer of a network on one sheet: one card per block, the cards in columns from left to right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pydot

from .draw import Label, Text, footnotes, heading, look, put
from .graph import Graph, Op, Part, full
from .layout import Arrangement, Box, Point, Size, height_of, in_columns, place
from .svg import BORDER, CARD, KINDS, MONO, MUTED, SMALL, TEXT, Canvas

PAD, HEAD = 16.0, 34.0  # inside a card: around what it holds, and for its title
BELOW, GUTTER = 28.0, 48.0  # between two cards of a column, and between two columns
SHAPE = 1.4  # a sheet's width over its height
JOINT = (0.0, 0.0)  # where a card's lines part, in place of the operation that they come from


@dataclass(frozen=True)
class Card:
    """A block, laid out; before: the layer that it reads, which is not the card's before it if `apart`."""

    part: Part
    place: str
    before: str
    apart: bool
    inside: Arrangement

    @property
    def name(self) -> str:
        return self.place or self.part.key

    @property
    def width(self) -> float:
        return self.inside.width + 2 * PAD

    @property
    def height(self) -> float:
        return self.inside.height + HEAD + PAD

    @property
    def last(self) -> str:
        return full(self.place, self.part.ops[-1].name)


def layers(graph: Graph, *, upwards: bool = False) -> pydot.Dot:
    """Draw the whole network, down to the names of its Keras layers."""
    canvas = Canvas(graph.name)
    top = put(canvas, "title", heading(graph, "every layer"), 0) + BELOW
    columns = in_columns(list(_cards(graph)), BELOW, GUTTER, lambda width, height: abs(width / height - SHAPE))
    height = max(height_of(column, BELOW) for column in columns)
    canvas.turn(top, height if upwards else None)
    ends: dict[str, tuple[Point, float]] = {}  # a block's way out, and its card's lower edge, by its last layer
    left = 0.0
    for column in columns:
        width, down = max(card.width for card in column), 0.0
        for card in column:
            at = Box(left + width / 2, down + card.height / 2, card.width, card.height)
            inside = card.inside.moved(at.left + PAD, at.top + (PAD if upwards else HEAD))
            end = inside.boxes[card.part.ops[-1].name]
            joint = (inside.boxes[""].x, inside.boxes[""].y) if "" in inside.boxes else (end.x, end.top)
            way = _way(ends.get(card.before), joint, left - GUTTER / 2, at.top - BELOW / 2)
            _draw(canvas, card, at, way, inside)
            ends[card.last] = ((end.x, end.bottom), at.bottom)
            down = at.bottom + BELOW
        left += width + GUTTER
    canvas.turn(0.0, None)
    return canvas.finish(left - GUTTER, put(canvas, "notes", footnotes(graph, left), top + height + BELOW))


def _cards(graph: Graph) -> Iterator[Card]:
    ends = {"": ""}
    above = ""
    for part in graph.parts:
        before = ends[part.reads]
        for number, place_name in enumerate(part.places):
            apart = number == 0 and part.reads != above
            sizes = {op.name: _room(_label(op, place_name)) for op in part.ops}
            if part.reads:
                sizes[""] = _room(_from(before)) if apart else JOINT
            card = Card(part, place_name, before, apart, place(part.ops, sizes))
            yield card
            before = card.last
        ends[part.key], above = before, part.key


def _way(before: tuple[Point, float] | None, joint: Point, gutter: float, above: float) -> tuple[Point, ...]:
    """The line from the previous block to a block: straight down, or through the gutter to the next column."""
    if before is None:
        return ()
    start, edge = before
    if start[0] > gutter:
        return (start,)
    below = edge + BELOW / 2
    return start, (start[0], below), (gutter, below), (gutter, above), (joint[0], above)


def _draw(canvas: Canvas, card: Card, at: Box, way: tuple[Point, ...], inside: Arrangement) -> None:
    title = Label([Text(card.name, TEXT, bold=True)], left=True)
    cluster = canvas.card(card.name, str(title), title.size, at, fillcolor=CARD.light, color=BORDER.light)
    for op in card.part.ops:
        canvas.box(full(card.place, op.name), str(_label(op, card.place)), inside.boxes[op.name], cluster, **look(op))
    source = card.before
    if card.apart:
        source = f"{card.name}.reads"
        looks = {"shape": "box", "style": "rounded,dashed", "color": KINDS["plain"].line.light}
        canvas.box(source, str(_from(card.before)), inside.boxes[""], cluster, **looks)
        canvas.graph.add_edge(pydot.Edge(f'"{card.before}"', f'"{source}"', style="invis"))
    for line in inside.lines:
        tail = full(card.place, line.tail) if line.tail else source
        points = line.points if line.tail or card.apart or line.skip else (*way, *line.points)
        canvas.line(tail, full(card.place, line.head), replace(line, points=points))


def _label(op: Op, place: str) -> Label:
    """The operation, and the name of each Keras layer on its own line."""
    names = [Text(full(place, name), SMALL - 2, font=MONO) for name in op.layers]
    return Label([Text(f"{op.title}  {op.detail}".strip(), SMALL, bold=True), *names])


def _from(before: str) -> Label:
    return Label([Text(f"from {before}", SMALL, MUTED.light)])


def _room(label: Label) -> Size:
    width, height = label.size
    return width + 12, height + 8

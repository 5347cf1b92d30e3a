"""A page of placed things as a pydot graph, positions and lines included: Graphviz only draws it."""

from __future__ import annotations

from typing import Any

import pydot

from .layout import Box, Line, Point
from .style import EDGE, FONT, INK, KINDS, PAPER, TEXT

MARGIN = 16.0
ROUND = 7.0  # a bend's radius
ARROW = 7.0
SKIP_LINE = {"color": KINDS["sum"].line.light, "penwidth": "2.4"}
INCH = 72.0


class Canvas:
    """Collects boxes, cards and lines at pixels from the upper left corner; `graph` is what is drawn."""

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
        """What follows stands `top` lower, and upside down within `height` if one is given."""
        self._top, self._height = top, height

    def finish(self, width: float, height: float) -> pydot.Dot:
        """The graph, with an unseen node as large as the page, which its lines would not stretch."""
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
        """Graphviz counts upwards."""
        x, y = point
        return x, -self._top - (y if self._height is None else self._height - y)


def _spline(points: tuple[Point, ...]) -> str:
    """The line as cubic curves with rounded bends, and the arrow's tip."""
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
    """The point `length` away from start on the way to end."""
    share = length / (_distance(start, end) or 1)
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share

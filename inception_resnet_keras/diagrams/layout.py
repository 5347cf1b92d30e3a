"""Places the operations of a part: branches side by side, each in its own column.

The parts of the networks are chains and forks of chains, so that no lines have to cross; a general layout
algorithm bends them nevertheless. As in the paper, branches end at one level, above their concat. Positions are
centres, in pixels from the upper left corner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from .graph import Op

GAP = 30.0  # between an operation and the next
BESIDE = 18.0  # between two branches
SKIP = 26.0  # from the branches to the skip line, which runs left of them
Point = tuple[float, float]
Size = tuple[float, float]


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    height: float

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2


@dataclass(frozen=True)
class Line:
    """From one operation to another along the points; skip: a residual block's way past its branches."""

    tail: str
    head: str
    points: tuple[Point, ...]
    skip: bool = False


@dataclass(frozen=True)
class Arrangement:
    boxes: Mapping[str, Box]
    lines: tuple[Line, ...]
    width: float
    height: float

    def moved(self, right: float, down: float) -> Arrangement:
        return replace(
            self,
            boxes={name: replace(box, x=box.x + right, y=box.y + down) for name, box in self.boxes.items()},
            lines=tuple(
                replace(line, points=tuple((x + right, y + down) for x, y in line.points)) for line in self.lines
            ),
        )

    def upside_down(self) -> Arrangement:
        """The layout from bottom to top, as printed in the paper."""
        return replace(
            self,
            boxes={name: replace(box, y=self.height - box.y) for name, box in self.boxes.items()},
            lines=tuple(
                replace(line, points=tuple((x, self.height - y) for x, y in line.points)) for line in self.lines
            ),
        )


Chain = list["str | list[Chain]"]  # names, and forks: a list of branches


def place(ops: Sequence[Op], sizes: Mapping[str, Size]) -> Arrangement:
    """A part laid out; `sizes` has (width, height) of each operation, and of "", what the part reads."""
    start = "" if any("" in op.inputs for op in ops) else ops[0].name
    after: dict[str, list[str]] = {}
    for op in ops:
        for name in op.inputs[1:] if op.kind == "sum" else op.inputs:
            after.setdefault(name, []).append(op.name)
    chain, _ = _chain(start, after, {op.name: len(op.inputs) for op in ops if op.kind == "concat"})
    width, height = _size(chain, sizes)
    skips = [op for op in ops if op.kind == "sum"]
    room = SKIP if skips else 0.0
    boxes: dict[str, Box] = {}
    _stand(chain, room + width / 2, height, sizes, boxes)
    lines = [
        Line(name, op.name, _elbow(boxes[name], boxes[op.name], merges=op.kind == "concat"))
        for op in ops
        for name in op.inputs
        if not (op.kind == "sum" and name == op.inputs[0])
    ]
    for op in skips:
        tail, head = boxes[op.inputs[0]], boxes[op.name]
        way = ((tail.left, tail.y), (1.0, tail.y), (1.0, head.y), (head.left, head.y))
        lines.append(Line(op.inputs[0], op.name, way, skip=True))
    return Arrangement(boxes, tuple(lines), width + 2 * room, height)


def _chain(name: str, after: Mapping[str, list[str]], concats: Mapping[str, int]) -> tuple[Chain, str]:
    """What follows from `name` on to the concat that closes the fork it stands in, and that concat."""
    items: Chain = [name]
    while name in after:
        following = after[name]
        if len(following) > 1:
            branches = [_chain(first, after, concats) for first in following]
            items.append([branch for branch, _ in branches])
            name = branches[0][1]
        else:
            name = following[0]
            if concats.get(name, 1) > 1:
                return items, name
        items.append(name)
    return items, ""


def _size(item: str | Chain, sizes: Mapping[str, Size]) -> Size:
    """The size of an operation or a chain."""
    if isinstance(item, str):
        return sizes[item]
    each = [_fork_size(part, sizes) if isinstance(part, list) else sizes[part] for part in item]
    return max(width for width, _ in each), sum(height for _, height in each) + GAP * (len(each) - 1)


def _fork_size(branches: list[Chain], sizes: Mapping[str, Size]) -> Size:
    each = [_size(branch, sizes) for branch in branches]
    return sum(width for width, _ in each) + BESIDE * (len(each) - 1), max(height for _, height in each)


def _stand(chain: Chain, x: float, bottom: float, sizes: Mapping[str, Size], boxes: dict[str, Box]) -> None:
    """Place a chain around the middle x, with its last item at `bottom`."""
    for item in reversed(chain):
        if isinstance(item, str):
            width, height = sizes[item]
            boxes[item] = Box(x, bottom - height / 2, width, height)
        else:
            width, height = _fork_size(item, sizes)
            left = x - width / 2
            for branch in item:
                own = _size(branch, sizes)[0]
                _stand(branch, left + own / 2, bottom, sizes, boxes)
                left += own + BESIDE
        bottom -= height + GAP


def _elbow(tail: Box, head: Box, *, merges: bool) -> tuple[Point, ...]:
    """A line that goes down, across where it leaves or joins the others, and down again."""
    start, end = (tail.x, tail.bottom), (head.x, head.top)
    if abs(tail.x - head.x) < 0.5:
        return start, end
    across = head.top - GAP / 2 if merges else tail.bottom + GAP / 2
    return start, (tail.x, across), (head.x, across), end


class Sized(Protocol):
    @property
    def width(self) -> float: ...

    @property
    def height(self) -> float: ...


T = TypeVar("T", bound=Sized)


def in_columns(items: Sequence[T], below: float, gutter: float, cost: Callable[[float, float], float]) -> list[list[T]]:
    """The items in order, in the number of columns that minimises the cost of the sheet's (width, height).

    below, gutter: Pixels between two items of a column, and between two columns.
    """

    def sheet_cost(columns: list[list[T]]) -> float:
        width = sum(max(item.width for item in column) for column in columns) + gutter * (len(columns) - 1)
        return cost(width, max(height_of(column, below) for column in columns))

    tallest, total = max(item.height for item in items), height_of(items, below)
    return min(
        (_filled(items, max(tallest, total / count), below) for count in range(1, len(items) + 1)), key=sheet_cost
    )


def height_of(column: Sequence[Sized], below: float) -> float:
    return sum(item.height for item in column) + below * (len(column) - 1)


def _filled(items: Sequence[T], height: float, below: float) -> list[list[T]]:
    columns: list[list[T]] = [[]]
    for item in items:
        if columns[-1] and height_of([*columns[-1], item], below) > height:
            columns.append([])
        columns[-1].append(item)
    return columns

"""No line crosses another, no box lies on another or on a line, and a module fits a README."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from inception_resnet_keras.diagrams.draw import module_layout
from inception_resnet_keras.diagrams.graph import INPUT, Graph
from inception_resnet_keras.diagrams.layout import Arrangement, Box, Point
from inception_resnet_keras.diagrams.svg import README_WIDTH

Segment = tuple[Point, Point]


@pytest.fixture(params=[False, True], ids=["down", "up"])
def modules(request: pytest.FixtureRequest, graph: Graph) -> list[Arrangement]:
    return [module_layout(graph, part, upwards=request.param) for part in graph.parts if part.key != INPUT]


def test_no_lines_cross(modules: list[Arrangement]) -> None:
    for module in modules:
        for one, other in combinations(module.lines, 2):
            assert not any(
                cross(first, second) for first in pairwise(one.points) for second in pairwise(other.points)
            ), f"{one.tail} → {one.head} crosses {other.tail} → {other.head}"


def test_no_boxes_overlap_and_no_line_runs_through_one(modules: list[Arrangement]) -> None:
    for module in modules:
        for one, other in combinations(module.boxes.values(), 2):
            assert one.right < other.left or other.right < one.left or one.bottom < other.top or other.bottom < one.top
        for line in module.lines:
            for name, box in module.boxes.items():
                if name not in (line.tail, line.head):
                    assert not any(runs_through(segment, box) for segment in pairwise(line.points)), (line, name)


def test_everything_stands_on_the_page(modules: list[Arrangement]) -> None:
    for module in modules:
        assert module.width <= README_WIDTH
        for box in module.boxes.values():
            assert box.left >= 0
            assert box.right <= module.width + 0.01
            assert box.top >= -0.01
            assert box.bottom <= module.height + 0.01


def test_branches_stand_side_by_side_in_the_tables_order(graph: Graph) -> None:
    for part in graph.parts:
        ends = [name for op in part.ops if op.name == "concat" for name in op.inputs]
        module = module_layout(graph, part, upwards=False) if ends else None
        if module:
            boxes = [module.boxes[name] for name in ends]
            assert [box.x for box in boxes] == sorted(box.x for box in boxes)
            assert len({round(box.bottom, 3) for box in boxes}) == 1, "branches end level"


def cross(one: Segment, other: Segment) -> bool:
    """Whether an upright and a level piece cross inside both: touching, as at a fork, is no crossing."""
    for level, upright in ((one, other), (other, one)):
        (x1, y1), (x2, y2) = level
        (x3, y3), (x4, y4) = upright
        if abs(y1 - y2) < 0.01 and abs(x3 - x4) < 0.01:
            inside = min(x1, x2) + 0.01 < x3 < max(x1, x2) - 0.01 and min(y3, y4) + 0.01 < y1 < max(y3, y4) - 0.01
            if inside:
                return True
    return False


def runs_through(segment: Segment, box: Box) -> bool:
    (x1, y1), (x2, y2) = segment
    return min(x1, x2) < box.right and max(x1, x2) > box.left and min(y1, y2) < box.bottom and max(y1, y2) > box.top

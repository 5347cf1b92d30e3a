"""What two variants of a network differ in, part by part and operation by operation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .graph import Graph, Op, Part
from .words import shape_text


@dataclass(frozen=True)
class Difference:
    """op: "" for the part as a whole. what: Which of its facts. left, right: What each side has, None for nothing."""

    part: str
    op: str
    what: str
    text: str
    left: str | None
    right: str | None


def differences(left: Graph, right: Graph) -> list[Difference]:
    """In the order of the parts; empty where the two are the same."""
    keys = [part.key for part in left.parts]
    keys += [part.key for part in right.parts if part.key not in keys]
    return [difference for key in keys for difference in _of_part(_part(left, key), _part(right, key))]


def _part(graph: Graph, key: str) -> Part | None:
    return next((part for part in graph.parts if part.key == key), None)


def _of_part(left: Part | None, right: Part | None) -> Iterator[Difference]:
    if left is None or right is None:
        yield _one_sided(left, right)
        return
    facts = (
        ("blocks", str(left.times), str(right.times)),
        ("output", shape_text(left.shape), shape_text(right.shape)),
    )
    for what, one, other in facts:
        if one != other:
            yield Difference(left.key, "", what, f"{what} {one} → {other}", one, other)
    ours, theirs = ({op.name: op for op in part.ops} for part in (left, right))
    for name in dict.fromkeys([*ours, *theirs]):
        yield from _of_op(left, name, ours.get(name), theirs.get(name))


def _one_sided(left: Part | None, right: Part | None) -> Difference:
    part = left or right
    assert part is not None
    side = "left" if left else "right"
    return Difference(part.key, "", "there", f"only on the {side}", *_sides(left, right))


def _sides(left: object, right: object) -> tuple[str | None, str | None]:
    return ("there" if left else None), ("there" if right else None)


def _of_op(part: Part, name: str, left: Op | None, right: Op | None) -> Iterator[Difference]:
    if left is None or right is None:
        op, side = (left, "left") if left else (right, "right")
        assert op is not None
        yield Difference(part.key, name, "there", f"{name}: {_told(op)} only on the {side}", *_sides(left, right))
    elif _told(left) != _told(right):
        one, other = _told(left), _told(right)
        yield Difference(part.key, name, "operation", f"{name}: {one} → {other}", one, other)
    elif left.inputs != right.inputs:
        inputs = [", ".join(op.inputs) for op in (left, right)]
        yield Difference(part.key, name, "inputs", f"{name}: reads {inputs[0]} → {inputs[1]}", *inputs)


def _told(op: Op) -> str:
    words = f"{op.title} {op.detail}".strip()
    return words.replace(op.note, "") if op.note else words

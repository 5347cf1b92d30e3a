"""The differences between two networks, part by part and operation by operation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..networks import names
from .branches import as_on_the_left, operation_text
from .graph import INPUT, Graph, Op, Part, shape_text


@dataclass(frozen=True)
class Difference:
    """op, twin: The operation's name on the left and on the right; "" for the part as a whole.

    what: Which of its facts. left, right: What each side has, None for nothing.
    """

    part: str
    op: str
    twin: str
    what: str
    text: str
    left: str | None
    right: str | None


def differences(left: Graph, right: Graph) -> list[Difference]:
    """The differences in the order of the parts; empty if the networks are equal.

    A branch is compared with its match, whatever its position among the branches. If the images differ in size,
    so does every later map, and only the widths of the maps are compared.
    """
    keys = [part.key for part in left.parts]
    keys += [part.key for part in right.parts if part.key not in keys]
    resized = left.part(INPUT).shape[:-1] != right.part(INPUT).shape[:-1]
    return [each for key in keys for each in _of_part(_part(left, key), _part(right, key), resized and key != INPUT)]


def _part(graph: Graph, key: str) -> Part | None:
    return next((part for part in graph.parts if part.key == key), None)


def _of_part(left: Part | None, right: Part | None, widths_only: bool) -> Iterator[Difference]:
    if left is None or right is None:
        yield _one_sided(left, right)
        return
    if left.times != right.times:
        yield _of_whole(left, "blocks", str(left.times), str(right.times))
    left, right = (_widths(part) if widths_only else part for part in (left, right))
    if left.shape != right.shape:
        yield _of_whole(left, "output", shape_text(left.shape), shape_text(right.shape))
    ours, theirs = {op.name: op for op in left.ops}, as_on_the_left(left, right)
    for name in dict.fromkeys([*ours, *theirs]):
        yield from _of_op(left, ours.get(name), *theirs.get(name, (None, "")))


def _widths(part: Part) -> Part:
    """The part with the widths of its maps instead of their shapes."""
    return replace(
        part,
        ops=tuple(
            replace(op, shape=op.shape[-1:], detail=op.detail.replace(shape_text(op.shape), str(op.shape[-1])))
            for op in part.ops
        ),
    )


def _of_whole(part: Part, what: str, left: str, right: str) -> Difference:
    return Difference(part.key, "", "", what, f"{what} {left} → {right}", left, right)


def _one_sided(left: Part | None, right: Part | None) -> Difference:
    part = left or right
    assert part is not None
    side = "left" if left else "right"
    text = f"only on the {side}" + (f": {part.figure}" if part.figure else "")
    return Difference(part.key, "", "", "there", text, "there" if left else None, "there" if right else None)


def _of_op(part: Part, left: Op | None, right: Op | None, twin: str) -> Iterator[Difference]:
    """twin: The right's own name, where it has another number among its branches."""
    if left is None:
        assert right is not None
        yield Difference(
            part.key, "", twin, "there", f"{twin}: {operation_text(right)} only on the right", None, "there"
        )
    elif right is None:
        yield Difference(
            part.key, left.name, "", "there", f"{left.name}: {operation_text(left)} only on the left", "there", None
        )
    else:
        name = left.name if left.name == twin else f"{left.name} ({twin} on the right)"
        if operation_text(left) != operation_text(right):
            one, other = operation_text(left), operation_text(right)
            yield Difference(part.key, left.name, twin, "operation", f"{name}: {one} → {other}", one, other)
        if left.inputs != right.inputs:
            one, other = (_read(op) for op in (left, right))
            what = "joins branches" if sorted(left.inputs) == sorted(right.inputs) else "reads"
            yield Difference(part.key, left.name, twin, "inputs", f"{name}: {what} {one} → {other}", one, other)


def _read(op: Op) -> str:
    """The inputs of an operation; branches have their numbers on the left."""
    branches = [(names.branches(name), name) for name in op.inputs]
    return ", ".join(str(numbers[-1]) if numbers else name or "the input" for numbers, name in branches)

"""Marks in a picture and their footnotes: where a network differs from the paper's printed figures.

The misprints of `paper` come from networks/misprints.py, and the swapped kernels of a released network from a
comparison of its table with the paper's. The correct values and their arithmetic follow from the graph.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..networks import misprints
from ..networks.rows import Network, Repeat
from .branches import as_on_the_left
from .graph import Op, Part

MARKS = "†‡§¶‖"  # in the order of the parts
CHOICE = "*"  # at what the paper leaves open: a part's title does not bear it
PAPER_SCALES = "0.1 to 0.3 (Section 3.3)"


@dataclass(frozen=True)
class Remark:
    """A footnote, and the place of its mark in a part.

    part: The part's key. ops: By an operation's name, which of its words bears the mark: "filters", "stride" or
        "kernel". whole: Whether the part's title bears it too.
    """

    part: str
    ops: Mapping[str, str]
    text: str
    whole: bool = True


def annotated(
    parts: Sequence[Part], network: Network, printed: Sequence[Part]
) -> tuple[list[Part], tuple[tuple[str, str], ...]]:
    """The parts with their marks, and the footnotes as pairs of a mark and its text.

    printed: The parts of the paper's variant, to compare with; they are not looked at where that is the network.
    """
    if network.variant == "paper":
        remarks = [*_misprinted(parts, network), *_chosen(parts, network)]
    else:
        remarks = list(_swapped(parts, printed))
    order = [part.key for part in parts]
    remarks.sort(key=lambda remark: (not remark.whole, order.index(remark.part)))
    free = iter(MARKS)
    notes: dict[str, str] = {}
    done = {part.key: part for part in parts}
    for remark in remarks:
        mark = next(free) if remark.whole else CHOICE
        notes[mark] = remark.text
        done[remark.part] = _marked(done[remark.part], remark, mark)
    return list(done.values()), tuple(notes.items())


def marks_in(part: Part) -> str:
    """Every mark in the picture of a part."""
    return "".join(dict.fromkeys(part.note + "".join(op.note for op in part.ops)))


def _misprinted(parts: Sequence[Part], network: Network) -> Iterable[Remark]:
    by_key = {part.key: part for part in parts}
    for misprint in misprints.of(network.name, network.variant):
        part = by_key.get(misprint.block)
        op = next((op for op in part.ops if op.name == misprint.part), None) if part else None
        if part is None or (misprint.part and op is None):
            continue  # a model that ends before it
        said = f"{misprint.figure} prints {misprint.printed}"
        if op:
            said += _needed(misprint, op, part, by_key[part.reads])
        ops = {op.name: misprint.at} if op else {}
        yield Remark(part.key, ops, f"{said}: {misprint.why}.")


def _needed(misprint: misprints.Misprint, op: Op, part: Part, before: Part) -> str:
    """What the network has instead of the printed value."""
    if misprint.at == "filters":
        shapes = {other.name: other.shape for other in before.ops}
        widths = " + ".join(str(shapes[name][-1]) for name in before.ops[-1].inputs)
        return f" where {widths} = {op.shape[-1]} is needed"
    if misprint.at == "stride":
        sizes = [next(other for other in part.ops if other.name == op.inputs[0]).shape[:-1], op.shape[:-1]]
        if None in (*sizes[0], *sizes[1]):
            return " without its stride of 2"
        way = " → ".join("×".join(map(str, size)) for size in sizes)
        return f" without the stride of 2 that {way} needs"
    return f", the second for {op.title.split()[0]}"


def _chosen(parts: Sequence[Part], network: Network) -> Iterable[Remark]:
    """The residual scales, for which the paper gives only a range."""
    scales = {stage.scale for stage in network.stages if isinstance(stage, Repeat)} - {None, 1.0}
    numbers = ", ".join(f"{scale:g}" for scale in sorted(filter(None, scales)))
    are = "are" if len(scales) > 1 else "is"
    text = f"The paper gives a range of scales, {PAPER_SCALES}, and none for a block: {numbers} {are} the choice here."
    for part in parts:
        sums = {op.name: "kernel" for op in part.ops if op.kind == "sum" and op.detail != "x + f(x)"}
        if sums:
            yield Remark(part.key, sums, text, whole=False)


def _swapped(parts: Sequence[Part], printed: Sequence[Part]) -> Iterable[Remark]:
    """Kernels that are swapped with respect to the figure: 7×1 where it prints 1×7."""
    figures = {part.key: part for part in printed}
    for part in parts:
        figure = figures.get(part.key)
        if figure is None or figure.figure != part.figure:
            continue
        ours = {op.name: op for op in figure.ops}
        pairs = [(ours[name], twin) for name, (_, twin) in as_on_the_left(figure, part).items() if name in ours]
        theirs = {op.name: op for op in part.ops}
        swapped = {twin: _kernel(own) for own, twin in pairs if _turned(own, theirs[twin])}
        if swapped:
            kernels = ", ".join(swapped.values())
            text = (
                f"At these marks {part.figure} prints {kernels}, in this order: "
                "the released network swaps height and width."
            )
            yield Remark(part.key, dict.fromkeys(swapped, "kernel"), text)


def _kernel(op: Op) -> str:
    return op.title.split()[0]


def _turned(one: Op, other: Op) -> bool:
    sides, others = (_kernel(op).split("×") for op in (one, other))
    return len(sides) == 2 and sides != others and sides == others[::-1]


def _marked(part: Part, remark: Remark, mark: str) -> Part:
    ops = tuple(_marked_op(op, remark.ops[op.name], mark) if op.name in remark.ops else op for op in part.ops)
    return replace(part, note=part.note + mark if remark.whole else part.note, ops=ops)


def _marked_op(op: Op, at: str, mark: str) -> Op:
    """The operation with the mark at the corrected text."""
    words = {"filters": re.escape(str(op.shape[-1])), "stride": r"stride \d+"}.get(at)
    found = re.search(words, op.detail) if words else None
    if found is None:
        return replace(op, title=op.title + mark, note=mark)
    detail = f"{op.detail[: found.end()]}{mark}{op.detail[found.end() :]}"
    return replace(op, detail=detail, note=mark)

"""The graph from which every picture is drawn, and the texts of its parts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..networks import names
from ..networks.rows import DROPOUT_RATE, Conv, Pool
from ..networks.trace import Node, Shape

INPUT, HEAD = "input", "head"


@dataclass(frozen=True)
class Op:
    """One operation of a part.

    name: Its name within the part: `branch_2_conv_1` of `a03_branch_2_conv_1`.
    inputs: Names within the part; "" is what the part reads.
    kind: Its colour: one of words.KINDS.
    layers: Its Keras layers' names within the part, in order.
    note: The mark of its footnote, which its words bear too; "" for none.
    """

    name: str
    inputs: tuple[str, ...]
    shape: Shape
    kind: str
    title: str
    detail: str
    layers: tuple[str, ...]
    parameters: int
    macs: int | None
    note: str = ""


@dataclass(frozen=True)
class Part:
    """A run of equal blocks, or one other stage of the overview.

    places: The blocks' names (`a01` …); one, which may be "", where nothing repeats.
    reads: The key of the part before it; "" for the first.
    ops, parameters, macs: Of one block of the run.
    """

    key: str
    title: str
    figure: str
    places: tuple[str, ...]
    reads: str
    ops: tuple[Op, ...]
    note: str = ""

    @property
    def times(self) -> int:
        return len(self.places)

    @property
    def shape(self) -> Shape:
        return self.ops[-1].shape

    @property
    def parameters(self) -> int:
        return sum(op.parameters for op in self.ops)

    @property
    def macs(self) -> int | None:
        return _total(op.macs for op in self.ops)


@dataclass(frozen=True)
class Graph:
    """A network to be drawn. variant: Its table's, and how it was edited. notes: pairs of a mark and its footnote."""

    name: str
    variant: str
    title: str
    figure: str
    parts: tuple[Part, ...]
    notes: tuple[tuple[str, str], ...]

    @property
    def parameters(self) -> int:
        return sum(part.parameters * part.times for part in self.parts)

    @property
    def macs(self) -> int | None:
        return _total(None if part.macs is None else part.macs * part.times for part in self.parts)

    def part(self, key: str) -> Part:
        return next(part for part in self.parts if part.key == key)

    def input_of(self, part: Part) -> Shape:
        """The shape of a part's input."""
        return self.part(part.reads).shape


def full(place: str, name: str) -> str:
    """A layer's whole name from its block's and its own within the block."""
    return names.inside(place, name) if place else name


def legend(ops: Iterable[Op]) -> list[str]:
    """The meaning of abbreviations in the operations, one per line."""
    details = [(op, re.split(" · ", op.detail.replace(op.note, "") if op.note else op.detail)) for op in ops]
    convs = [words for op, words in details if " conv" in op.title]
    lines = {
        "conv: convolution + batch norm + ReLU": any("linear" not in words for words in convs),
        "linear: convolution with a bias, without batch norm and ReLU": any("linear" in words for words in convs),
        "V: valid padding; same padding without it": any("V" in words for _, words in details),
        "k, l, m, n: Table 1 of the paper": any(words[0][1:4] == " = " for words in convs),
    }
    return [line for line, needed in lines.items() if needed]


def _total(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count or 0 for count in known)


KINDS = {  # an operation's colour, and what the legend says of it
    "weights": "conv: convolution + batch norm + ReLU; dense",
    "pool": "pooling",
    "concat": "filter concat",
    "sum": "residual sum",
    "activation": "activation",
    "plain": "everything else",
}

_KIND_OF = {
    "conv": "weights",
    "dense": "weights",
    "pool": "pool",
    "global_pool": "pool",
    "concat": "concat",
    "sum": "sum",
    "relu": "activation",
    "softmax": "activation",
    "sigmoid": "activation",
}

_TITLES_words = {
    "concat": "filter concat",
    "sum": "sum",
    "relu": "ReLU",
    "global_pool": "global avg pool",
    "input": "image",
    "preprocess": "scale pixels",
    "unit_norm": "L2 norm",
}


def kind_of(node: Node) -> str:
    return _KIND_OF.get(node.op, "plain")


def describe(node: Node) -> tuple[str, str]:
    """A node's two lines: "3×3 conv" and "96 · stride 2 · V"; "n = 96" if the paper has a letter for it."""
    row = node.row
    if isinstance(row, Conv) and isinstance(row.kernel, tuple):
        filters = f"{row.letter} = {row.filters}" if row.letter else str(row.filters)
        parts = [filters, *_window(row), *(["linear"] if row.linear else [])]
        return f"{row.kernel[0]}×{row.kernel[1]} conv", " · ".join(parts)
    if isinstance(row, Pool):
        return f"{row.size}×{row.size} {row.kind} pool", " · ".join(_window(row))
    return _TITLES_words.get(node.op, node.op.replace("_", " ")), _detail(node)


def _detail(node: Node) -> str:
    match node.op:
        case "sum":
            return "x + f(x)" if node.scale in (None, 1.0) else f"x + {node.scale:g} · f(x)"
        case "dropout":
            return f"keep {1 - DROPOUT_RATE:g}"
        case "dense" if node.trainable == node.macs:
            return f"{shape_text(node.shape)} · no bias"
        case "unit_norm":
            return "x / ‖x‖"
        case "relu" | "softmax":
            return ""
        case _:
            return shape_text(node.shape)


def _window(row: Conv | Pool) -> list[str]:
    """The marks of the paper's figures: the stride if it is not 1, V for valid padding, and the dilation."""
    numbers = [
        f"{word} {number}" for word, number in (("stride", row.stride), ("dilation", row.dilation)) if number > 1
    ]
    return [*numbers, *(["V"] if row.padding == "valid" else [])]


def shape_text(shape: Shape) -> str:
    """A shape as text, such as 35×35×384; ? for an unknown side."""
    return "×".join("?" if side is None else str(side) for side in shape)


def short(count: int | None) -> str:
    """A number with three digits and a letter, such as 42.7 M."""
    if count is None:
        return "?"
    for size, letter in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if count >= size:
            value = count / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{letter}"
    return str(count)


def network_title(name: str) -> str:
    """The title of a network: Inception-ResNet-v2 for inception_resnet_v2."""
    return "-".join(
        {"resnet": "ResNet"}.get(word, word if word[1:].isdigit() else word.title()) for word in name.split("_")
    )


def inside(part: Part) -> str:
    """The paper's figure of a stage, or its content, such as "global avg pool, dropout, dense 1000"."""
    if not part.reads or (part.figure and part.key != names.AUX):
        return part.figure
    words = [f"{op.title} {op.shape[-1]}" if op.title == "dense" else op.title for op in part.ops]
    return ", ".join([*words, part.figure] if part.figure else words)


def part_kind(part: Part) -> str:
    """The colour of a stage of the overview."""
    if part.key in ("stem", "final"):
        return "weights"
    if part.key.startswith("reduction"):
        return "pool"
    kinds = {op.kind for op in part.ops}
    if part.key in ("input", "head", "aux"):
        return "plain"
    return "sum" if "sum" in kinds else "concat"

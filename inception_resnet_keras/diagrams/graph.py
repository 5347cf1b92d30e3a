"""The one graph that every picture is drawn from: a network's trace, cut into runs of equal blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from .. import networks
from ..networks import misprints, names
from ..networks.rows import DROPOUT_RATE, Conv, Network, Pool, Repeat, Residual
from ..networks.trace import Node, Shape, trace

INPUT, HEAD = "input", "head"
UNPRINTED = "not in the paper's figures"


@dataclass(frozen=True)
class Op:
    """One operation of a part.

    name: Its name within the part: `branch_2_conv_1` of `a03_branch_2_conv_1`.
    inputs: Names within the part; "" is what the part reads.
    kind: Which colour it has: one of words.KINDS.
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
        """The shape of what a part reads."""
        return self.part(part.reads).shape


def full(place: str, name: str) -> str:
    """A layer's whole name from its block's and its own within the block."""
    return names.inside(place, name) if place else name


def graph_of(
    network: Network,
    size: tuple[int | None, int | None] | None = None,
    *,
    channels: int = 3,
    classes: int | None = None,
    aux_head: bool = False,
    activation: str | None = "softmax",
    preprocess: bool = False,
    keep: Callable[[Node], bool] = lambda _: True,
    words: Mapping[str, tuple[str, str]] | None = None,
    title: str | None = None,
) -> Graph:
    """The graph of a network's table on one image of `size` (height, width); None for the variant's own.

    classes: None for the variant's own head, an embedding or 1000 classes. activation: After the logits; None for none.
    preprocess: Whether the pixels are scaled inside. keep: Which operations of the trace are drawn.
    words: A node's two lines in place of its own, by its name.
    Raises ValueError where the size is too small, or the network has no auxiliary head.
    """
    size = size or (network.size, network.size)
    nodes = trace(network, size, channels=channels, aux_head=aux_head, **networks.head(network, classes))
    nodes = [node for node in _with_ends(nodes, activation, preprocess) if keep(node)]
    figures = _figures(network)
    wrong = misprints.of(network.name, network.variant)
    marks = dict(zip(wrong, "†‡§¶", strict=False))
    parts: list[Part] = []
    where: dict[str, str] = {}  # node → the part that it is in
    for place, group in groupby(nodes, _place):
        ops, outside = _localise(list(group), place, words or {})
        block = names.block_of(place) or place
        previous = parts[-1] if parts else None
        if previous and previous.ops == ops and (names.block_of(previous.places[0]) or previous.places[0]) == block:
            parts[-1] = replace(previous, places=(*previous.places, place))
            where |= {full(place, op.name): previous.key for op in ops}
            continue
        taken = block in {part.key for part in parts}
        label, figure = figures.get(block) or (_title(place, ops), UNPRINTED if place == names.FINAL else "")
        if taken:
            figure += _lacking(next(part for part in parts if part.key == block).ops, ops)
        key = place if taken else block
        prefix = "" if place in (INPUT, HEAD) else place
        parts.append(Part(key, label, figure, (prefix,), where.get(outside, ""), ops))
        where |= {full(prefix, op.name): key for op in ops}
    parts = [_marked(part, marks) for part in parts]
    return Graph(
        network.name,
        ", ".join([network.variant, *networks.edited(network)]),
        title or network_title(network.name),
        network.figure,
        tuple(parts),
        tuple((mark, _footnote(misprint, parts)) for misprint, mark in marks.items() if _concerns(misprint, parts)),
    )


_TITLES = {INPUT: "Image", HEAD: "Head", names.AUX: "Auxiliary head"}


def _title(place: str, ops: Sequence[Op]) -> str:
    """Of what is no block of a table."""
    if place == names.FINAL:
        return f"Final {', '.join(op.title for op in ops)}".replace("conv", "convolution")
    return _TITLES.get(place, place)


def _lacking(usual: Sequence[Op], ops: Sequence[Op]) -> str:
    """What a block that stands after those of its kind is without."""
    before, now = ({layer for op in each for layer in op.layers} for each in (usual, ops))
    without = [word for layer, word in (("scale", "scale"), ("relu", "ReLU")) if layer in before - now]
    return f", without {' and '.join(without)}" if without else ""


def _with_ends(nodes: list[Node], activation: str | None, preprocess: bool) -> list[Node]:
    """The trace with what a factory puts before and after it."""
    ends: list[Node] = []
    scaled = {names.INPUT: names.PREPROCESS} if preprocess else {}
    for node in nodes:
        ends.append(replace(node, inputs=tuple(scaled.get(name, name) for name in node.inputs)))
        if node.name == names.INPUT and preprocess:
            ends.append(Node(names.PREPROCESS, "preprocess", (names.INPUT,), node.shape, 0))
        if activation and node.name.endswith(names.LOGITS):
            name = node.name.removesuffix(names.LOGITS) + names.PREDICTIONS
            ends.append(Node(name, activation, (node.name,), node.shape, node.depth))
    return ends


def _place(node: Node) -> str:
    place = names.place(node.name)
    if place in (names.INPUT, names.PREPROCESS):
        return INPUT
    return HEAD if place in names.HEADS else place


def _localise(nodes: list[Node], place: str, words: Mapping[str, tuple[str, str]]) -> tuple[tuple[Op, ...], str]:
    """A place's nodes under their names within it, and the name of what they read from outside."""
    inside = {node.name for node in nodes}
    outside = {name for node in nodes for name in node.inputs} - inside
    prefix = "" if place in (INPUT, HEAD) else f"{place}_"
    ops = []
    for node in nodes:
        title, detail = words.get(node.name) or describe(node)
        ops.append(
            Op(
                name=node.name.removeprefix(prefix),
                inputs=tuple(name.removeprefix(prefix) if name in inside else "" for name in node.inputs),
                shape=node.shape,
                kind=kind_of(node),
                title=title,
                detail=detail,
                layers=tuple(name.removeprefix(prefix) for name in node.layers),
                parameters=node.parameters,
                macs=node.macs,
            )
        )
    return tuple(ops), next(iter(outside), "")


def _figures(network: Network) -> dict[str, tuple[str, str]]:
    """Each block's title and the paper's figure of it."""
    found = {names.STEM: ("Stem", network.stem_figure or UNPRINTED)}
    for stage in network.stages:
        row = stage.block if isinstance(stage, Repeat) else stage
        letter = row.name.rpartition("_")[2].upper()
        family = "Inception-ResNet" if isinstance(row, Residual) else "Inception"
        title = f"{family}-{letter}" if isinstance(stage, Repeat) else f"Reduction-{letter}"
        found[row.name] = (title, row.figure or UNPRINTED)
    return found


def _concerns(misprint: misprints.Misprint, parts: Iterable[Part]) -> bool:
    return not misprint.block or misprint.block in {part.key for part in parts}


def _marked(part: Part, marks: Mapping[misprints.Misprint, str]) -> Part:
    for misprint, mark in marks.items():
        if misprint.block != part.key:
            continue
        ops = tuple(_marked_op(op, misprint, mark) if op.name == misprint.part else op for op in part.ops)
        part = replace(part, note=part.note + mark, ops=ops)
    return part


def _marked_op(op: Op, misprint: misprints.Misprint, mark: str) -> Op:
    """With the mark at the width that was corrected, else at what the operation is."""
    if not misprint.printed.isdigit():
        return replace(op, title=op.title + mark, note=mark)
    width = str(op.shape[-1])
    return replace(op, detail=op.detail.replace(width, width + mark, 1), note=mark)


def _footnote(misprint: misprints.Misprint, parts: Sequence[Part]) -> str:
    """What was printed, what the tables say instead, and why."""
    said = f"{misprint.figure} prints {misprint.printed}"
    part = next((part for part in parts if part.key == misprint.block), None)
    op = next((op for op in part.ops if op.name == misprint.part), None) if part else None
    if part and op and misprint.printed.isdigit():
        before = next(other for other in parts if other.key == part.reads)
        shapes = {other.name: other.shape for other in before.ops}
        widths = " + ".join(str(shapes[name][-1]) for name in before.ops[-1].inputs)
        said += f" where {widths} = {op.shape[-1]} is needed"
    elif op:
        said += f", the second for {op.title.split()[0]}"
    return f"{said}: {misprint.why}."


def _total(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count or 0 for count in known)


KINDS = {  # an operation's colour, and what the legend says of it
    "weights": "convolution, dense",
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
    """A node's two lines: "3×3 conv" and "96 · stride 2 · V"."""
    row = node.row
    if isinstance(row, Conv) and isinstance(row.kernel, tuple):
        parts = [str(row.filters), *_window(row), *(["linear"] if row.linear else [])]
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
    """The marks of the paper's figures: stride where it is not 1, V for valid padding; and dilation."""
    numbers = [
        f"{word} {number}" for word, number in (("stride", row.stride), ("dilation", row.dilation)) if number > 1
    ]
    return [*numbers, *(["V"] if row.padding == "valid" else [])]


def shape_text(shape: Shape) -> str:
    """35×35×384; ? where a side is not known."""
    return "×".join("?" if side is None else str(side) for side in shape)


def short(count: int | None) -> str:
    """Three digits and a letter: 42.7 M."""
    if count is None:
        return "?"
    for size, letter in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if count >= size:
            value = count / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{letter}"
    return str(count)


def network_title(name: str) -> str:
    """Inception-ResNet-v2 of inception_resnet_v2."""
    return "-".join(
        {"resnet": "ResNet"}.get(word, word if word[1:].isdigit() else word.title()) for word in name.split("_")
    )


def inside(part: Part) -> str:
    """The paper's figure of a stage; else what it is made of: "global avg pool, dropout, dense 1000"."""
    if part.figure or not part.reads:
        return part.figure
    return ", ".join(f"{op.title} {op.shape[-1]}" if op.title == "dense" else op.title for op in part.ops)


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

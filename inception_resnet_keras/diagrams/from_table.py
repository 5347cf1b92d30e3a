"""Makes the graph to draw from a network's table: its trace in runs of equal blocks, with the paper's figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from .. import networks
from ..networks import names
from ..networks.rows import Network, Repeat, Residual
from ..networks.trace import Node, trace
from .graph import HEAD, INPUT, Graph, Op, Part, describe, full, kind_of, network_title
from .notes import annotated

UNPRINTED = "not in the paper's figures"


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
    parts, notes = annotated(_parts(network, nodes, words or {}), network, _printed(network))
    return Graph(
        network.name,
        ", ".join([network.variant, *networks.edited(network)]),
        title or network_title(network.name),
        network.figure,
        tuple(parts),
        notes,
    )


def _parts(network: Network, nodes: Iterable[Node], words: Mapping[str, tuple[str, str]]) -> list[Part]:
    """The trace cut into runs of equal blocks."""
    figures = _figures(network)
    parts: list[Part] = []
    where: dict[str, str] = {}  # node → the part that it is in
    for place, group in groupby(nodes, _place):
        ops, outside = _localise(list(group), place, words)
        block = names.block_of(place) or place
        previous = parts[-1] if parts else None
        if previous and previous.ops == ops and (names.block_of(previous.places[0]) or previous.places[0]) == block:
            parts[-1] = replace(previous, places=(*previous.places, place))
            where |= {full(place, op.name): previous.key for op in ops}
            continue
        taken = block in {part.key for part in parts}
        unprinted = UNPRINTED if place in (names.FINAL, names.AUX) else ""
        label, figure = figures.get(block) or (_title(place, ops), unprinted)
        if taken:
            figure += _lacking(next(part for part in parts if part.key == block).ops, ops)
        key = place if taken else block
        prefix = "" if place in (INPUT, HEAD) else place
        parts.append(Part(key, label, figure, (prefix,), where.get(outside, ""), ops))
        where |= {full(prefix, op.name): key for op in ops}
    return parts


def _printed(network: Network) -> list[Part]:
    """The parts of the paper's variant, with which another variant is compared."""
    if network.variant == "paper" or "paper" not in networks.NETWORKS.get(network.name, {}):
        return []
    paper = networks.find(network.name, "paper")
    return _parts(paper, trace(paper, (paper.size, paper.size)), {})


_TITLES = {INPUT: "Image", HEAD: "Head", names.AUX: "Auxiliary head"}


def _title(place: str, ops: Sequence[Op]) -> str:
    """The title of a part that is not a block of the table."""
    if place == names.FINAL:
        return f"Final {', '.join(op.title for op in ops)}".replace("conv", "convolution")
    return _TITLES.get(place, place)


def _lacking(usual: Sequence[Op], ops: Sequence[Op]) -> str:
    """The operations that a later block of a kind lacks."""
    before, now = ({layer for op in each for layer in op.layers} for each in (usual, ops))
    without = [word for layer, word in (("scale", "scale"), ("relu", "ReLU")) if layer in before - now]
    return f", without {' and '.join(without)}" if without else ""


def _with_ends(nodes: list[Node], activation: str | None, preprocess: bool) -> list[Node]:
    """The trace with the layers that a factory puts before and after it."""
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
    """The nodes of a place under their names within it, and the name of their external input."""
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
    """Each block's title and its figure in the paper."""
    found = {names.STEM: ("Stem", network.stem_figure or UNPRINTED)}
    for stage in network.stages:
        row = stage.block if isinstance(stage, Repeat) else stage
        letter = row.name.rpartition("_")[2].upper()
        family = "Inception-ResNet" if isinstance(row, Residual) else "Inception"
        title = f"{family}-{letter}" if isinstance(stage, Repeat) else f"Reduction-{letter}"
        found[row.name] = (title, row.figure or UNPRINTED)
    return found

"""A network as numbers: the shape, parameters and multiply-adds of every operation, computed without Keras."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from . import names
from .rows import Conv, Network, Pool
from .traversal import Walker, kernel_of, reach_of

Shape = tuple[int | None, int | None, int] | tuple[int]
_LARGEST_SIDE = 10_000  # of an image, in pixels


@dataclass(frozen=True)
class Node:
    """One operation of a traced network.

    Attributes:
        name: The operation's name by the naming grammar, such as "a03_branch_2_conv_1".
        op: "input", "conv", "pool", "concat", "sum", "relu", "global_pool", "flatten", "dropout", "dense",
            "batch_norm" or "unit_norm". A "conv" includes its batch norm and ReLU.
        inputs: Names of the operations that it reads.
        shape: Output shape for one image, (height, width, channels) or (channels,); an unknown side is None.
        depth: Number of convolutions and dense layers on the longest path from the input to here, this one included.
        row: The table's row of a convolution or pool, with its kernel as (height, width).
        trainable: Number of trained parameters.
        statistics: Number of moving statistics of batch norm.
        macs: Multiply-adds of the convolution or dense layer for one image; None if a side is unknown.
        scale: Scale of a residual sum; None for other operations.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    shape: Shape
    depth: int
    row: Conv | Pool | None = None
    trainable: int = 0
    statistics: int = 0
    macs: int | None = 0
    scale: float | None = None

    @property
    def place(self) -> str:
        """The stage or head that the operation belongs to, such as "a03" or "logits"."""
        return names.place(self.name)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the Keras layers that `build` makes for the operation, in order."""
        if self.op == "conv" and isinstance(self.row, Conv) and not self.row.linear:
            return self.name, names.batch_norm(self.name), names.relu(self.name)
        if self.op == "sum" and self.scale not in (None, 1.0):
            return names.scale(self.place), self.name
        return (self.name,)

    @property
    def parameters(self) -> int:
        """Number of parameters, moving statistics included, as in Keras's `count_params()`."""
        return self.trainable + self.statistics


def _output_side(side: int | None, window: int, stride: int, padding: str, name: str) -> int | None:
    """The side of a window's output map. Raises ValueError if the map is smaller than the window."""
    if side is None:
        return None
    if padding == "same":
        return -(-side // stride)
    out = (side - window) // stride + 1
    if out < 1:
        raise ValueError(f"{name}: a map side of {side} is smaller than its window of {window}")
    return out


class Tracer(Walker[Node]):
    """Records every operation as a Node, in the order of the walk."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def _add(self, name: str, op: str, inputs: Sequence[Node], shape: Shape, *, counts: bool = False, **facts) -> Node:
        depth = max((node.depth for node in inputs), default=0) + counts
        self.nodes.append(Node(name, op, tuple(node.name for node in inputs), shape, depth, **facts))
        return self.nodes[-1]

    def input(self, height: int | None, width: int | None, channels: int) -> Node:
        return self._add(names.INPUT, "input", (), (height, width, channels))

    def conv(self, x: Node, row: Conv, name: str) -> Node:
        height, width, channels = _map(x)
        kernel_height, kernel_width = kernel_of(row, height, width)
        out = (
            _output_side(height, reach_of(kernel_height, row.dilation), row.stride, row.padding, name),
            _output_side(width, reach_of(kernel_width, row.dilation), row.stride, row.padding, name),
        )
        kernel = kernel_height * kernel_width * channels * row.filters
        return self._add(
            name,
            "conv",
            (x,),
            (*out, row.filters),
            counts=True,
            row=replace(row, kernel=(kernel_height, kernel_width)),
            trainable=kernel + row.filters,  # bias, or batch norm's beta
            statistics=0 if row.linear else 2 * row.filters,
            macs=None if out[0] is None or out[1] is None else kernel * out[0] * out[1],
        )

    def pool(self, x: Node, row: Pool, name: str) -> Node:
        height, width, channels = _map(x)
        reach = reach_of(row.size, row.dilation)
        height = _output_side(height, reach, row.stride, row.padding, name)
        width = _output_side(width, reach, row.stride, row.padding, name)
        return self._add(name, "pool", (x,), (height, width, channels), row=row)

    def concat(self, branches: list[Node], name: str) -> Node:
        height, width, _ = _map(branches[0])
        if any(_map(node)[:2] != (height, width) for node in branches):
            raise ValueError(f"{name}: its branches have maps of different sizes: {[node.shape for node in branches]}")
        return self._add(name, "concat", branches, (height, width, sum(_map(node)[2] for node in branches)))

    def residual_sum(self, x: Node, branch: Node, scale: float, place: str) -> Node:
        return self._add(names.inside(place, names.SUM), "sum", (x, branch), x.shape, scale=scale)

    def relu(self, x: Node, name: str) -> Node:
        return self._add(name, "relu", (x,), x.shape)

    def global_pool(self, x: Node, kind: str, name: str) -> Node:
        return self._add(name, "global_pool", (x,), (self.width(x),))

    def flatten(self, x: Node, name: str) -> Node:
        height, width, channels = _map(x)
        if height is None or width is None:
            raise ValueError(f"{name}: cannot flatten a map of unknown size")
        return self._add(name, "flatten", (x,), (height * width * channels,))

    def dropout(self, x: Node, name: str) -> Node:
        return self._add(name, "dropout", (x,), x.shape)

    def dense(self, x: Node, units: int, name: str, *, bias: bool = True) -> Node:
        kernel = self.width(x) * units
        return self._add(name, "dense", (x,), (units,), counts=True, trainable=kernel + units * bias, macs=kernel)

    def batch_norm(self, x: Node, name: str) -> Node:
        return self._add(name, "batch_norm", (x,), x.shape, trainable=self.width(x), statistics=2 * self.width(x))

    def unit_norm(self, x: Node, name: str) -> Node:
        return self._add(name, "unit_norm", (x,), x.shape)

    def width(self, x: Node) -> int:
        return x.shape[-1]


def _map(node: Node) -> tuple[int | None, int | None, int]:
    if len(node.shape) != 3:
        raise ValueError(f"{node.name}: has shape {node.shape}, and a map (height, width, channels) is needed")
    return node.shape


def trace(
    network: Network,
    size: tuple[int | None, int | None] = (299, 299),
    *,
    channels: int = 3,
    classes: int | None = 1000,
    embedding: bool = False,
    aux_head: bool = False,
) -> list[Node]:
    """Every operation of a network for one image, in the order of the walk.

    Args:
        network: The table.
        size: (height, width) of the image in pixels; None for an unknown side.
        channels: Channels of the image.
        classes: Width of the classifier; None traces no classifier.
        embedding: Whether the network ends in its normalised embedding instead, if its table has one.
        aux_head: Whether to trace the auxiliary head.

    Raises:
        ValueError: The image is too small, or the network has no such head.

    Examples:
        >>> from inception_resnet_keras.networks import find
        >>> last = trace(find("inception_v4"))[-1]
        >>> last.name, last.shape, last.parameters
        ('logits', (1000,), 1537000)
        >>> sum(node.parameters for node in trace(find("inception_v4")))
        42711400
    """
    if aux_head and not network.aux:
        raise ValueError(f"aux_head: the {network.variant} variant has no auxiliary head")
    if not network.top and (embedding or classes is not None):
        raise ValueError(f"classes: {network.name} ends before its last block and has no head; pass None")
    tracer = Tracer()
    x, aux_input = tracer.trunk(network, tracer.input(*size, channels))
    if embedding:
        tracer.embedding(x, network)
    elif classes is not None:
        tracer.classifier(x, network, classes)
    if aux_head:
        tracer.aux_classifier(aux_input, network, classes or 1000)
    return tracer.nodes


def weight_shapes(nodes: Iterable[Node]) -> dict[str, tuple[int, ...]]:
    """The shapes of a trace's weights, in Keras's layout and in the order of the trace, by `layer/variable`.

    Examples:
        >>> from inception_resnet_keras.networks import find
        >>> list(weight_shapes(trace(find("inception_v4"))).items())[:2]
        [('stem_conv_1/kernel', (3, 3, 3, 32)), ('stem_conv_1_bn/beta', (32,))]
    """
    widths: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for node in nodes:
        widths[node.name] = width = node.shape[-1]
        if node.op in ("conv", "dense"):
            kernel = node.row.kernel if isinstance(node.row, Conv) else ()
            window = kernel if isinstance(kernel, tuple) else ()
            shapes[f"{node.name}/kernel"] = (*window, widths[node.inputs[0]], width)
        linear = node.row.linear if isinstance(node.row, Conv) else node.op == "dense" and node.trainable != node.macs
        normalised = {"conv": names.batch_norm(node.name), "batch_norm": node.name}.get(node.op)
        if linear:
            shapes[f"{node.name}/bias"] = (width,)
        elif normalised:
            shapes |= {f"{normalised}/{variable}": (width,) for variable in ("beta", "moving_mean", "moving_variance")}
    return shapes


@dataclass(frozen=True)
class Stage:
    """One line of a summary: a stage, a head, or a run of equal blocks."""

    name: str
    times: int
    shape: Shape
    trainable: int
    statistics: int
    macs: int | None
    depth: int


def stages(nodes: Iterable[Node]) -> list[Stage]:
    """A trace's stages and heads in order, each with its output shape and its share of the counts."""
    by_place: dict[str, list[Node]] = {}
    for node in nodes:
        by_place.setdefault(node.place, []).append(node)
    return [
        Stage(
            name=place,
            times=1,
            shape=group[-1].shape,
            trainable=sum(node.trainable for node in group),
            statistics=sum(node.statistics for node in group),
            macs=None if any(node.macs is None for node in group) else sum(node.macs or 0 for node in group),
            depth=group[-1].depth,
        )
        for place, group in by_place.items()
    ]


def merged(every: Iterable[Stage]) -> list[Stage]:
    """Stages with runs of equal blocks merged: `a01` to `a05` become `a`, 5 times, with their counts added up."""
    runs: list[list[Stage]] = []
    for stage in every:
        if runs and names.block_of(stage.name) and _kind(stage) == _kind(runs[-1][0]):
            runs[-1].append(stage)
        else:
            runs.append([stage])
    return [
        run[0]
        if len(run) == 1
        else replace(
            run[-1],
            name=names.block_of(run[0].name),
            times=len(run),
            trainable=sum(stage.trainable for stage in run),
            statistics=sum(stage.statistics for stage in run),
            macs=None if run[0].macs is None else sum(stage.macs or 0 for stage in run),
        )
        for run in runs
    ]


def _kind(stage: Stage) -> tuple[object, ...]:
    return names.block_of(stage.name), stage.shape, stage.trainable, stage.macs


@cache
def minimum_side(network: Network, *, aux_head: bool = False) -> int:
    """Side in pixels of the smallest square image for which every window fits its map."""

    def fits(side: int) -> bool:
        try:
            trace(network, (side, side), classes=None, aux_head=aux_head)
        except ValueError:
            return False
        return True

    sides = range(1, 300)
    least = bisect_left(sides, True, key=fits)  # if an image fits, every larger one does
    if least == len(sides):
        raise ValueError(f"{network.name} ({network.variant}) accepts no image of up to {sides[-1]} pixels per side")
    return sides[least]


@cache
def side_of_aux_kernel(network: Network, kernel: int) -> int | None:
    """Side in pixels of the image for which the auxiliary head's last kernel has side `kernel`.

    Of the several sides that give this kernel, the one nearest to the network's own size. None if there is none.
    """

    def kernel_of_side(side: int) -> int:
        nodes = trace(network, (side, side), classes=None, aux_head=True)
        shapes = [shape for key, shape in weight_shapes(nodes).items() if names.place(key) == names.AUX]
        return [shape[0] for shape in shapes if len(shape) == 4][-1]

    sides = range(minimum_side(network, aux_head=True), _LARGEST_SIDE)
    first, behind = (find(sides, kernel, key=kernel_of_side) for find in (bisect_left, bisect_right))
    return None if first == behind else min(max(network.size, sides[first]), sides[behind - 1])

"""Edits of a network's table: a table in, a table out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from ..common.arguments import is_integer, one_of
from ..common.errors import refuse
from . import block_names, depths, stride_of
from .rows import Conv, Fork, Network, Padding, Pool, Repeat, Residual

OUTPUT_STRIDES = (16, 8)
LEAST_FILTERS = 4  # of a narrowed convolution: with fewer, an unlucky initialisation can make every ReLU output zero


def with_depths(network: Network, counts: Sequence[int]) -> Network:
    """The network with other numbers of blocks, one per kind, in the order of `block_names`.

    A last block that differs from the others (no scale, no ReLU) stays and is counted.
    """
    present = zip(block_names(network), counts, depths(network), strict=True)
    missing = {name: wanted - count for name, wanted, count in present}
    return replace(
        network,
        stages=[
            replace(stage, times=stage.times + missing.pop(stage.block.name, 0)) if isinstance(stage, Repeat) else stage
            for stage in network.stages
        ],
    )


def with_scales(network: Network, scales: Sequence[float]) -> Network:
    """The network with other residual scales, one per kind of block. A sum that is never scaled stays unscaled."""
    wanted = dict(zip(block_names(network), scales, strict=True))
    return replace(
        network,
        stages=[
            replace(stage, scale=wanted[stage.block.name])
            if isinstance(stage, Repeat) and stage.scale is not None
            else stage
            for stage in network.stages
        ],
    )


def with_width(network: Network, factor: float) -> Network:
    """The network with every convolution's filters times `factor`, rounded, at least 4 (or its own, if fewer).

    The projections follow, because each is as wide as its block's input. The width of an embedding stays, because it
    is the network's purpose.

    Raises:
        InputError: `factor` is not a finite number above 0.

    Examples:
        >>> from inception_resnet_keras.networks import find
        >>> from inception_resnet_keras.networks.trace import trace
        >>> trace(with_width(find("inception_resnet_v2"), 0.25), classes=10)[-1].parameters
        5370
        >>> with_width(find("inception_v4"), 0.5).stem[0]
        Conv(filters=16, kernel=3, stride=2, padding='valid', linear=False, dilation=1)
    """
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
        raise refuse("factor", factor, "a number above 0")

    def scaled(row: Conv | Pool) -> Conv | Pool:
        if isinstance(row, Pool):
            return row
        return replace(row, filters=max(min(LEAST_FILTERS, row.filters), round(row.filters * factor)))

    return replace(
        network,
        stem=_each(network.stem, scaled),
        stages=_each(network.stages, scaled),
        final=_each(network.final, scaled),
        aux=_each(network.aux, scaled),
    )


def with_padding(network: Network, padding: Padding) -> Network:
    """The network with aligned maps, as TF-Slim's `align_feature_maps` makes them.

    Args:
        network: A table.
        padding: "valid" returns the table unchanged. "same" pads every window that the figures mark "V" (valid), so
            that every map of the trunk is the image's height and width divided by its stride, rounded up. The
            auxiliary head is not changed.

    Raises:
        InputError: `padding` is neither "valid" nor "same".

    Examples:
        >>> from inception_resnet_keras.networks import find
        >>> from inception_resnet_keras.networks.trace import trace
        >>> aligned = with_padding(find("inception_v4"), "same")
        >>> [node.shape for node in trace(aligned, (256, 256)) if node.name in ("stem_fork_3_concat", "c03_concat")]
        [(32, 32, 384), (8, 8, 1536)]
    """
    one_of("padding", padding, ("valid", "same"))
    if padding == "valid":
        return network

    def aligned(row: Conv | Pool) -> Conv | Pool:
        return replace(row, padding="same")

    return replace(
        network,
        stem=_each(network.stem, aligned),
        stages=_each(network.stages, aligned),
        final=_each(network.final, aligned),
    )


def with_output_stride(network: Network, output_stride: int | None) -> Network:
    """The network with denser maps: the same function computed at more positions (atrous, or dilated, convolution).

    The reduction that would exceed `output_stride` gets a stride of 1, and the windows of the blocks after it are
    dilated by the stride that it lost. The network ends before the next reduction, as in TF-Slim; it then has no
    heads (`top` is False). The weights are the same.

    Args:
        network: A table.
        output_stride: 16: Reduction-B has stride 1 and blocks C are dilated by 2. 8: Reduction-A has stride 1, blocks B
            are dilated by 2, and the network ends after them. None returns the table unchanged.

    Raises:
        InputError: `output_stride` is not 16, 8 or None.

    Examples:
        >>> from inception_resnet_keras.networks import find
        >>> from inception_resnet_keras.networks.trace import trace
        >>> dense = with_output_stride(find("inception_resnet_v2"), 8)
        >>> trace(dense, classes=None)[-1].shape
        (33, 33, 1152)
    """
    if output_stride is None:
        return network
    if not is_integer(output_stride) or output_stride not in OUTPUT_STRIDES:
        raise refuse("output_stride", output_stride, f"None, {' or '.join(map(str, OUTPUT_STRIDES))}")
    # `reached` is the stride so far; `dilation` becomes the stride of the one reduction that is held back.
    reached, dilation = stride_of(network.stem), 1
    stages: list[Any] = []
    for stage in network.stages:
        own = stride_of([stage])
        if own == 1 or reached * own <= output_stride:
            reached *= own
            stages += _each([stage], _dilated_by(dilation))
        elif dilation == 1:
            dilation = own
            stages += _each([stage], lambda row: replace(row, stride=1))
        else:
            return replace(network, stages=stages, final=(), aux=(), top=False)
    return replace(network, stages=stages, final=_each(network.final, _dilated_by(dilation)))


def _dilated_by(dilation: int) -> Callable[[Conv | Pool], Conv | Pool]:
    """An edit that dilates every window larger than 1×1."""

    def dilated(row: Conv | Pool) -> Conv | Pool:
        window = row.size if isinstance(row, Pool) else row.kernel
        return row if window in (1, (1, 1)) else replace(row, dilation=dilation * row.dilation)

    return dilated


def _each(rows: Iterable[Any], edit: Callable[[Conv | Pool], Conv | Pool]) -> tuple[Any, ...]:
    """The rows with every convolution and pool in them, at any depth, replaced by `edit` of it."""

    def edited(row: Any) -> Any:
        match row:
            case Fork() | Residual():
                return replace(row, branches=tuple(_each(branch, edit) for branch in row.branches))
            case Repeat():
                return replace(row, block=edited(row.block))
            case _:
                return edit(row)

    return tuple(map(edited, rows))

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ..common.errors import refuse
from . import block_names, depths
from .rows import Conv, Fork, Network, Repeat, Residual

LEAST_FILTERS = 4  # of a convolution that is made narrower: fewer, and an unlucky start lets nothing through


def with_depths(network: Network, counts: Sequence[int]) -> Network:
    """The network with so many of each block; a last one that differs (no scale, no ReLU) stays."""
    there = zip(block_names(network), counts, depths(network), strict=True)
    missing = {name: wanted - count for name, wanted, count in there}
    return replace(
        network,
        stages=[
            replace(stage, times=stage.times + missing.pop(stage.block.name, 0)) if isinstance(stage, Repeat) else stage
            for stage in network.stages
        ],
    )


def with_scales(network: Network, scales: Sequence[float]) -> Network:
    """The network with these residual scales, one a block; a sum that is never scaled stays so."""
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

    What follows from them follows here too: a residual's projection is as wide as its narrower
    input. An embedding's width, which is what the network is for, stays. Raises ValueError where
    the factor is no number above 0.

    Examples:
        >>> from inception_resnet_keras.networks import find
        >>> from inception_resnet_keras.networks.trace import trace
        >>> trace(with_width(find("inception_resnet_v2"), 0.25), classes=10)[-1].parameters
        5370
        >>> with_width(find("inception_v4"), 0.5).stem[0]
        Conv(filters=16, kernel=3, stride=2, padding='valid', linear=False)
    """
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
        raise refuse("factor", factor, "a number above 0")

    def scaled(rows: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(map(one, rows))

    def one(row: Any) -> Any:
        match row:
            case Conv():
                return replace(row, filters=max(min(LEAST_FILTERS, row.filters), round(row.filters * factor)))
            case Fork() | Residual():
                return replace(row, branches=tuple(map(scaled, row.branches)))
            case Repeat():
                return replace(row, block=one(row.block))
            case _:
                return row

    return replace(
        network,
        stem=scaled(network.stem),
        stages=scaled(network.stages),
        final=scaled(network.final),
        aux=scaled(network.aux),
    )

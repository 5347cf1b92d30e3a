"""The networks as data: standard library only."""

from __future__ import annotations

from typing import Any

from ..common.errors import refuse
from . import inception_resnet_v1, inception_resnet_v2, inception_v4, names
from .rows import Network, Repeat

NETWORKS: dict[str, dict[str, Network]] = {
    name: {network.variant: network for network in variants}
    for name, variants in {
        "inception_v4": [inception_v4.PAPER, inception_v4.SLIM],
        "inception_resnet_v1": [
            inception_resnet_v1.PAPER,
            inception_resnet_v1.FACENET,
            inception_resnet_v1.FACENET_128,
        ],
        "inception_resnet_v2": [inception_resnet_v2.PAPER, inception_resnet_v2.SLIM],
    }.items()
}


def find(name: str, variant: str = "paper") -> Network:
    """A network's table by name and variant; ValueError says which there are."""
    if not isinstance(name, str) or name not in NETWORKS:
        raise refuse("network", name, " or ".join(NETWORKS))
    if not isinstance(variant, str) or variant not in NETWORKS[name]:
        raise refuse("variant", variant, f"{' or '.join(NETWORKS[name])} for {name}")
    return NETWORKS[name][variant]


def block_names(network: Network) -> list[str]:
    """The repeated blocks in order: ["a", "b", "c"]."""
    return list(dict.fromkeys(stage.block.name for stage in network.stages if isinstance(stage, Repeat)))


def depths(network: Network) -> tuple[int, ...]:
    """How many of each block there are."""
    repeats = [stage for stage in network.stages if isinstance(stage, Repeat)]
    return tuple(sum(row.times for row in repeats if row.block.name == name) for name in block_names(network))


def scales(network: Network) -> tuple[float, ...]:
    """A table's own residual scales, one a block; 1.0 for a block whose sums are never scaled."""
    own = {row.block.name: row.scale for row in reversed(network.stages) if isinstance(row, Repeat) and row.scale}
    return tuple(own.get(block, 1.0) for block in block_names(network))


def figure(network: Network, stage: str) -> str:
    """The paper's figure of a stage of the network, such as `a03` or `stem`; empty where it has none."""
    if stage == names.STEM:
        return network.stem_figure
    rows = (row.block if isinstance(row, Repeat) else row for row in network.stages)
    return next((row.figure for row in rows if row.name == (names.block_of(stage) or stage)), "")


def head(network: Network, classes: int | None = None) -> dict[str, Any]:
    """What `walk.trace` is to end in: so many classes; None for the variant's own, an embedding or 1000 classes."""
    if network.embedding and classes is None:
        return {"embedding": True}
    return {"classes": 1000 if classes is None else classes}


def is_residual(network: Network) -> bool:
    """Whether the network has sums that can be scaled."""
    return any(isinstance(stage, Repeat) and stage.scale is not None for stage in network.stages)

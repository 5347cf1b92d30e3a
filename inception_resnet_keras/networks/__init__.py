"""The networks as data, and what follows from the tables alone. Needs only the standard library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..common.errors import refuse
from . import inception_resnet_v1, inception_resnet_v2, inception_v4, names
from .rows import Conv, Fork, Network, Padding, Pool, Repeat, Residual

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
    """A network's table, by name and variant. Raises InputError, with the known names, for any other."""
    if not isinstance(name, str) or name not in NETWORKS:
        raise refuse("network", name, " or ".join(NETWORKS))
    if not isinstance(variant, str) or variant not in NETWORKS[name]:
        raise refuse("variant", variant, f"{' or '.join(NETWORKS[name])} for {name}")
    return NETWORKS[name][variant]


def block_names(network: Network) -> list[str]:
    """The names of the repeated blocks, in order: ["a", "b", "c"]."""
    return list(dict.fromkeys(stage.block.name for stage in network.stages if isinstance(stage, Repeat)))


def depths(network: Network) -> tuple[int, ...]:
    """The number of blocks of each kind, in the order of `block_names`: (4, 7, 3) for Inception-v4."""
    repeats = [stage for stage in network.stages if isinstance(stage, Repeat)]
    return tuple(sum(row.times for row in repeats if row.block.name == name) for name in block_names(network))


def scales(network: Network) -> tuple[float, ...]:
    """The table's residual scales, one per kind of block; 1.0 for a block whose sums are never scaled."""
    own = {row.block.name: row.scale for row in reversed(network.stages) if isinstance(row, Repeat) and row.scale}
    return tuple(own.get(block, 1.0) for block in block_names(network))


def padding(network: Network) -> Padding:
    """The trunk's padding: "same" if every window pads, which aligns the maps; otherwise "valid"."""
    return "valid" if any(row.padding == "valid" for row in _windows(_trunk(network))) else "same"


def output_stride(network: Network) -> int | None:
    """The stride of the last map if the network's last blocks are dilated; None for a network without dilation."""
    dilated = any(row.dilation > 1 for row in _windows(_trunk(network)))
    return stride_of(_trunk(network)) if dilated else None


def stride_of(rows: Iterable[Any]) -> int:
    """The stride of rows in sequence: one step in their output is this many steps in their input."""
    stride = 1
    for row in rows:
        match row:
            case Conv() | Pool():
                stride *= row.stride
            case Fork() | Residual():
                stride *= max(map(stride_of, row.branches))
            case Repeat():
                stride *= stride_of([row.block]) ** row.times
    return stride


def _trunk(network: Network) -> list[Any]:
    return [*network.stem, *network.stages, *network.final]


def _windows(rows: Iterable[Any]) -> Iterator[Conv | Pool]:
    """Every convolution and pool in rows."""
    for row in rows:
        match row:
            case Conv() | Pool():
                yield row
            case Fork() | Residual():
                yield from (window for branch in row.branches for window in _windows(branch))
            case Repeat():
                yield from _windows([row.block])


def edited(network: Network) -> list[str]:
    """How diagrams and summaries describe a table edited by `padding` or `output_stride`; empty for an unedited one."""
    stride = output_stride(network)
    aligned = ["same padding"] if padding(network) == "same" else []
    return aligned + ([] if stride is None else [f"output stride {stride}"])


def figure(network: Network, stage: str) -> str:
    """The paper's figure of a stage such as `a03` or `stem`; "" if the paper has none."""
    if stage == names.STEM:
        return network.stem_figure
    rows = (row.block if isinstance(row, Repeat) else row for row in network.stages)
    return next((row.figure for row in rows if row.name == (names.block_of(stage) or stage)), "")


def head(network: Network, classes: int | None = None) -> dict[str, Any]:
    """The arguments of `trace` that choose the head: `classes` classes, or for None the variant's own head.

    The variant's own head is its embedding if it has one, otherwise 1000 classes. A network that ends before its last
    block has no head, whatever `classes` is.
    """
    if not network.top:
        return {"classes": None}
    if network.embedding and classes is None:
        return {"embedding": True}
    return {"classes": 1000 if classes is None else classes}


def is_residual(network: Network) -> bool:
    """Whether the network has residual sums that can be scaled."""
    return any(isinstance(stage, Repeat) and stage.scale is not None for stage in network.stages)

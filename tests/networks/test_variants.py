"""The guide to the variants says what the tables say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import inception_resnet_keras
from inception_resnet_keras import networks
from inception_resnet_keras.networks.rows import Network, Repeat
from inception_resnet_keras.networks.trace import Node, trace

TEXT = (Path(inception_resnet_keras.__file__).parent / "guides" / "variants.md").read_text(encoding="utf-8")
NETWORKS = [network for variants in networks.NETWORKS.values() for network in variants.values()]


def widths(network: Network, nodes: list[Node]) -> list[int]:
    """Of the maps that the first of each block reads: of what its branches' first rows are given."""
    shapes = {node.name: node.shape[-1] for node in nodes}
    first = {
        block: next(n for n in nodes if n.name.startswith(f"{block}01_")) for block in networks.block_names(network)
    }
    return [shapes[node.inputs[0]] for node in first.values()]


def row(network: Network) -> str:
    nodes = trace(network, embedding=network.embedding is not None)
    scales = [stage.scale for stage in network.stages if isinstance(stage, Repeat) and stage.scale is not None]
    cells = [
        network.name,
        network.variant,
        ", ".join(map(str, networks.depths(network))),
        ", ".join(map(str, widths(network, nodes))),
        str([node.shape[-1] for node in nodes if len(node.shape) == 3][-1]),
        str(sum(node.op == "conv" for node in nodes)),
        f"{sum(node.parameters for node in nodes):,}",
        f"{sum(node.macs or 0 for node in nodes) / 1e9:.2f}",
        ", ".join(f"{scale:g}" for scale in scales) or "–",
    ]
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: f"{network.name}-{network.variant}")
def test_the_table_is_the_specs(network: Network) -> None:
    assert row(network) in TEXT.splitlines()


def test_the_table_has_no_other_networks() -> None:
    assert len(re.findall(r"^\| inception_\w+ \|", TEXT, re.MULTILINE)) == len(NETWORKS)


@pytest.mark.parametrize(
    ("variant", "block", "printed"),
    [
        ("paper", "reduction_a", {384}),
        ("slim", "reduction_a", {320, 384}),
        ("paper", "reduction_b", {1152, 384, 288, 320}),
        ("slim", "reduction_b", {1088, 384, 288, 320}),
    ],
)
def test_the_arithmetic_is_the_networks(variant: str, block: str, printed: set[int]) -> None:
    nodes = {node.name: node for node in trace(networks.find("inception_resnet_v2", variant))}
    joined = nodes[f"{block}_concat"]
    parts = [nodes[name].shape[-1] for name in joined.inputs]
    assert set(parts) == printed
    total = sum(parts)
    assert total == joined.shape[-1]
    written = [
        sum(map(int, re.findall(r"\d+", left)))
        for left in re.findall(r"((?:\d+ \+ )+\d+) = \d+", " ".join(TEXT.split()))
    ]
    assert total in written or f"**{total}** =" in TEXT

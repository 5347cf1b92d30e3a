"""Networks to draw: those of the tables, and for each a second variant that differs in every way that one may."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inception_resnet_keras import networks
from inception_resnet_keras.diagrams.from_table import graph_of
from inception_resnet_keras.diagrams.graph import Graph
from inception_resnet_keras.networks import edits
from inception_resnet_keras.networks.rows import Conv, Network, Repeat

TABLES = [network for variants in networks.NETWORKS.values() for network in variants.values()]


def other_variant(network: Network) -> Network:
    """Deeper, with a last block that is not scaled, and a convolution more at the end."""
    deep = edits.with_depths(network, [depth + 1 for depth in networks.depths(network)])
    last = deep.stages[-1]
    assert isinstance(last, Repeat)
    alone = [replace(last, times=1, scale=None, activation=False)] if last.activation else []
    return replace(deep, variant="other", stages=[*deep.stages, *alone], final=[*network.final, Conv(1536, 1)])


@pytest.fixture(params=TABLES, ids=lambda network: f"{network.name}-{network.variant}")
def network(request: pytest.FixtureRequest) -> Network:
    return request.param


@pytest.fixture
def graph(network: Network) -> Graph:
    return graph_of(network, aux_head=bool(network.aux))


@pytest.fixture
def other(network: Network) -> Graph:
    return graph_of(other_variant(network), aux_head=bool(network.aux))

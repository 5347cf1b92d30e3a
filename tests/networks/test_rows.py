"""What a table can say, and what it cannot."""

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inception_resnet_keras import networks
from inception_resnet_keras.networks import edits
from inception_resnet_keras.networks.rows import MAX_POOL, Conv, Fork, Network, Pool, Repeat, Residual, Row
from inception_resnet_keras.networks.trace import Node, trace

from ..tiny import TINY

ALL = [TINY, *(network for variants in networks.NETWORKS.values() for network in variants.values())]
COUNTS = st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30))
SCALES = st.tuples(*[st.floats(0, 1, exclude_min=True)] * 3)


def by_name(network: Network, size: tuple[int, int] = (299, 299)) -> dict[str, Node]:
    return {node.name: node for node in trace(network, size)}


def convolutions(rows: Any) -> list[Conv]:
    found: list[Conv] = []
    for row in rows:
        match row:
            case Conv():
                found.append(row)
            case Fork() | Residual():
                found += [conv for branch in row.branches for conv in convolutions(branch)]
            case Repeat():
                found += convolutions([row.block])
    return found


def test_projections_are_as_wide_as_what_they_are_added_to() -> None:
    """Figures 17 and 19 print 1154 and 2048: no row holds a projection, so neither can be written."""
    nodes = by_name(networks.find("inception_resnet_v2"))
    assert nodes["b01_project"].shape == nodes["reduction_a_concat"].shape == (17, 17, 1152)
    assert nodes["c01_project"].shape == nodes["reduction_b_concat"].shape == (8, 8, 2144)
    for network in ALL:
        written = convolutions([*network.stem, *network.stages, *network.final, *network.aux])
        assert not any(conv.linear or conv.filters in (1154, 2048) for conv in written)
    assert {field.name for field in fields(Residual)} == {"branches", "name", "figure"}


@given(st.integers(1, 64), st.lists(st.integers(1, 16), min_size=1, max_size=3))
def test_any_width_is_projected_to(width: int, branches: list[int]) -> None:
    block = Residual([[Conv(filters, 1)] for filters in branches], name="a")
    network = Network("any", "paper", stem=[Conv(width, 1)], stages=[Repeat(block, 2)])
    nodes = by_name(network, (4, 4))
    for place in ("a01", "a02"):
        assert nodes[f"{place}_project"].shape == nodes[f"{place}_sum"].shape == (4, 4, width)
        assert nodes[f"{place}_project"].trainable == sum(branches) * width + width
        assert nodes[f"{place}_project"].statistics == 0


@given(COUNTS)
def test_depths_are_what_was_asked_for(counts: tuple[int, int, int]) -> None:
    for network in ALL:
        deeper = edits.with_depths(network, counts)
        assert networks.depths(deeper) == counts
        assert networks.block_names(deeper) == networks.block_names(network)
        assert replace(deeper, stages=network.stages) == network
    assert edits.with_depths(TINY, networks.depths(TINY)) == TINY
    last = edits.with_depths(TINY, counts).stages[-1]
    assert isinstance(last, Repeat)
    assert (last.times, last.scale, last.activation) == (1, None, False)


@given(st.floats(0.01, 3))
def test_a_width_is_every_convolutions_and_what_follows_from_it(factor: float) -> None:
    for network in ALL:
        scaled = edits.with_width(network, factor)
        before, after = (convolutions([*one.stem, *one.stages, *one.final, *one.aux]) for one in (network, scaled))
        assert len(before) == len(after)
        for old, new in zip(before, after, strict=True):
            assert replace(new, filters=old.filters) == old
            assert new.filters == max(min(4, old.filters), round(old.filters * factor))
        nodes = by_name(scaled)
        names = list(by_name(network))
        assert list(nodes) == names  # no name and no row is lost
        for name, node in nodes.items():
            if name.endswith("_sum"):
                assert nodes[node.inputs[0]].shape == nodes[node.inputs[1]].shape == node.shape


def test_widths_by_hand() -> None:
    quarter = by_name(edits.with_width(networks.find("inception_resnet_v2"), 0.25))
    assert quarter["reduction_a_concat"].shape == (17, 17, 1152 // 4)
    assert quarter["b01_project"].shape == (17, 17, 288)
    assert quarter["reduction_b_concat"].shape == (8, 8, 2144 // 4)
    for network in ALL:
        assert edits.with_width(network, 1) == network
    facenet = by_name(edits.with_width(networks.find("inception_resnet_v1", "facenet"), 0.01), (160, 160))
    assert facenet["stem_conv_1"].shape[-1] == edits.LEAST_FILTERS


@pytest.mark.parametrize("factor", [0, -1, float("nan"), float("inf"), True, "0.5", None])
def test_a_width_that_is_no_factor_is_refused(factor: Any) -> None:
    with pytest.raises(ValueError, match=r"^factor: got .*; it takes a number above 0"):
        edits.with_width(TINY, factor)


def test_own_depths() -> None:
    assert {name: networks.depths(networks.find(name)) for name in networks.NETWORKS} == {
        "inception_v4": (4, 7, 3),
        "inception_resnet_v1": (5, 10, 5),
        "inception_resnet_v2": (5, 10, 5),
    }
    assert networks.depths(TINY) == (2, 2, 2)


@given(SCALES)
def test_scales_are_what_was_asked_for(scales: tuple[float, ...]) -> None:
    for network in ALL:
        scaled = edits.with_scales(network, scales)
        wanted = dict(zip("abc", scales, strict=True))
        for before, after in zip(network.stages, scaled.stages, strict=True):
            if isinstance(before, Repeat) and before.scale is not None:
                assert after == replace(before, scale=wanted[before.block.name])
            else:
                assert after == before
    sums = {node.name: node.scale for node in trace(edits.with_scales(TINY, scales), (32, 32)) if node.op == "sum"}
    assert sums == {
        "a01_sum": scales[0],
        "a02_sum": scales[0],
        "c01_sum": scales[2],
        "c02_sum": 1.0,  # never scaled
    }


def test_residual_networks_are_told_from_the_other() -> None:
    assert [networks.is_residual(networks.find(name)) for name in networks.NETWORKS] == [False, True, True]


def test_own_scales_are_the_papers() -> None:
    for name in ("inception_resnet_v1", "inception_resnet_v2"):
        assert {node.scale for node in trace(networks.find(name)) if node.op == "sum"} == {0.1}


def test_rows_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        TINY.stages = ()  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        MAX_POOL.size = 2  # type: ignore[misc]
    assert hash(TINY) == hash(replace(TINY))


@pytest.mark.parametrize("row", [Repeat(Residual([[Conv(1, 1)]], name="a"), 1), Residual([[Conv(1, 1)]], name="a")])
def test_a_stage_stands_in_no_branch(row: Row) -> None:
    network = Network("wrong", "paper", stem=[Fork([[row]])], stages=[])
    with pytest.raises(TypeError, match="belongs in a network's stages"):
        trace(network, (8, 8))


def test_branches_that_do_not_meet() -> None:
    network = Network("wrong", "paper", stem=[Fork([[Conv(1, 3, padding="valid")], [Conv(1, 3)]])], stages=[])
    with pytest.raises(ValueError, match=r"stem_fork_1_concat: its branches have maps of different sizes"):
        trace(network, (8, 8))


def test_an_auxiliary_head_after_no_block() -> None:
    with pytest.raises(ValueError, match="aux_after: tiny has no block 'z'"):
        replace(TINY, aux_after="z")


def test_fewer_than_no_repetitions() -> None:
    with pytest.raises(ValueError, match="times: block 'c'"):
        edits.with_depths(TINY, (1, 1, -2))
    with pytest.raises(ValueError, match="shorter"):
        edits.with_depths(TINY, (1, 1))
    with pytest.raises(ValueError, match="longer"):
        edits.with_scales(TINY, (1, 1, 1, 1))


@pytest.mark.parametrize("name", ["inception_v3", "", None, ["inception_v4"], 4])
def test_unknown_network(name: Any) -> None:
    with pytest.raises(ValueError, match=r"network: got .*; it takes inception_v4 or inception_resnet_v1 or"):
        networks.find(name)


@pytest.mark.parametrize("variant", ["Paper", "", None, ["paper"], 4])
def test_unknown_variant(variant: Any) -> None:
    with pytest.raises(ValueError, match=r"variant: got .*; it takes paper.* for inception_v4"):
        networks.find("inception_v4", variant)


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 4), st.sampled_from(["same", "valid"]))
def test_sides_follow_the_engine(side: int, window: int, stride: int, padding: Any) -> None:
    """As counting the windows that fit, one by one, would have it."""
    network = Network("any", "paper", stem=[Pool("max", window, stride, padding)], stages=[])
    starts = range(0, side, stride) if padding == "same" else range(0, side - window + 1, stride)
    if not starts:
        with pytest.raises(ValueError, match="smaller than its window"):
            trace(network, (side, side), classes=None)
    else:
        assert trace(network, (side, side), classes=None)[-1].shape == (len(starts), len(starts), 3)

"""The one naming grammar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inception_resnet_keras import networks
from inception_resnet_keras.networks import names
from inception_resnet_keras.networks.rows import Network
from inception_resnet_keras.networks.trace import trace

from ..tiny import TINY

NETWORKS = [TINY, *(network for variants in networks.NETWORKS.values() for network in variants.values())]
PARTS = ("branch", "fork", "conv", "pool")


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: f"{network.name}-{network.variant}")
def test_every_name_is_unique_and_says_its_place(network: Network) -> None:
    blocks = {
        names.block(name, number)
        for name, count in zip(networks.block_names(network), networks.depths(network), strict=True)
        for number in range(1, count + 1)
    }
    places = {*blocks, "stem", "reduction_a", "reduction_b"} | ({"final"} if network.final else set())
    nodes = trace(network, (299, 299), aux_head=bool(network.aux))
    assert len({node.name for node in nodes}) == len(nodes)
    assert {names.stage(node.name) for node in nodes} - {None} == places
    heads = {node.place for node in nodes} - places
    embedding = {"embedding"} if network.embedding else set()
    aux = {"aux"} if network.aux else set()
    assert heads == {"image", "pooled", "dropout", "logits"} | aux | embedding
    for node in nodes:
        assert node.name == node.place or node.name.startswith(f"{node.place}_")
        assert "/" not in node.name


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: f"{network.name}-{network.variant}")
def test_a_stage_is_one_run_of_the_walk(network: Network) -> None:
    places = [node.place for node in trace(network, (299, 299), aux_head=bool(network.aux))]
    runs = [place for before, place in zip([None, *places], places, strict=False) if place != before]
    assert len(runs) == len(set(runs))


@given(
    st.sampled_from("abcxyz"),
    st.integers(1, 250),
    st.lists(st.tuples(st.sampled_from(PARTS), st.integers(1, 30)), min_size=1, max_size=4),
)
def test_stage_inverts_a_name_however_deep(block: str, number: int, parts: list[tuple[str, int]]) -> None:
    at = name = names.block(block, number)
    for part, count in parts:
        name = names.inside(name, part, count)
    assert names.stage(name) == names.place(name) == at
    assert names.in_branch(name) == any(part == "branch" for part, _ in parts)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: f"{network.name}-{network.variant}")
def test_parse_reads_all_that_a_name_says(network: Network) -> None:
    nodes = trace(network, (299, 299), aux_head=bool(network.aux))
    for name in [name for node in nodes for name in node.layers if node.op != "input"]:
        place = names.parse(name)
        at = place.stage or place.head
        assert at == names.place(name)
        assert (place.stage and place.block) == names.block_of(at)
        assert not place.block or at == names.block(place.block, place.number)
        for part, number in place.path:
            at = names.inside(at, part, number)
        for part, number in ((place.kind, place.index), (place.suffix, 0)):
            at = names.inside(at, part, number or None) if part else at
        assert at == name
        assert names.parse(f"{name}/kernel") == place


def test_parse_says_where_a_layer_stands() -> None:
    place = names.parse("b07_branch_2_fork_1_branch_3_conv_1_bn")
    assert (place.stage, place.block, place.number) == ("b07", "b", 7)
    assert (place.branches, place.outer_branch, place.fork) == ((2, 3), (("branch", 2),), 0)
    assert (place.kind, place.index, place.suffix) == ("conv", 1, "bn")
    assert names.parse("stem_fork_2_branch_1_conv_3").fork == 2
    assert (names.parse("aux_logits").head, names.parse("aux_logits").kind) == ("aux", "logits")
    assert names.parse(names.joined("a03_branch_1_conv_1")).suffix == "joined"


@given(st.integers(1, 99), st.integers(1, 99))
def test_blocks_sort_as_they_stand(one: int, other: int) -> None:
    assert (names.block("a", one) < names.block("a", other)) == (one < other)


@pytest.mark.parametrize("name", ["image", "preprocess", "conv2d_1", "a3_relu", "block8_1_conv", "mixed_5b", ""])
def test_other_names_have_no_stage(name: str) -> None:
    assert names.stage(name) is None
    assert names.place(name) == name
    assert names.parse(name) == names.Place()


def test_a_name_within_its_stage_is_split_at_the_outermost_branch() -> None:
    assert names.split_at_branch("fork_2_branch_1_conv_3") == ("fork_2_branch_", "1", "_conv_3")
    assert names.split_at_branch("branch_2_fork_1_branch_3_conv_1") == ("branch_", "2", "_fork_1_branch_3_conv_1")
    assert names.split_at_branch("concat") is None
    assert names.branches("branch_2_fork_1_branch_3_conv_1") == (2, 3)
    assert names.branches("b01_branch_4_conv_1") == (4,)
    assert names.branches("sum") == ()

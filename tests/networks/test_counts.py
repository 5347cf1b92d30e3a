"""Counts and shapes of each whole network, from its table alone."""

from typing import Any

import pytest

from inception_resnet_keras import networks
from inception_resnet_keras.networks.rows import Network, Pool
from inception_resnet_keras.networks.trace import minimum_side, stages, trace

from ..whole import WHOLE, WholeNetwork

SIZES = [299, 75, 96, 160, 331]

# Convolutions, trainable parameters, all parameters, GMACs at 299, last map: as published.
PUBLISHED: dict[str, tuple[int, int, int, float, tuple[int, int, int]]] = {
    "inception_v4-paper": (149, 42_648_232, 42_711_400, 12.25, (8, 8, 1536)),
    "inception_resnet_v1-paper": (127, 22_742_808, 22_769_848, 6.21, (8, 8, 1792)),
    "inception_resnet_v2-paper": (132, 32_417_496, 32_450_360, 9.26, (8, 8, 2144)),
    "inception_resnet_v2-paper-10-20-10": (242, 55_255_816, 55_313_160, 14.14, (8, 8, 2144)),
    "inception_v4-slim": (149, 42_648_232, 42_711_400, 12.25, (8, 8, 1536)),
    "inception_resnet_v2-slim": (244, 55_813_192, 55_873_736, 13.16, (8, 8, 1536)),
}


@pytest.mark.parametrize("case", WHOLE, ids=str)
def test_counts_are_the_published_ones(case: WholeNetwork) -> None:
    nodes = trace(case.spec)
    convolutions, trainable, everything, gmacs, last_map = PUBLISHED[str(case)]
    assert sum(node.op == "conv" for node in nodes) == convolutions
    assert sum(node.trainable for node in nodes) == trainable
    assert sum(node.parameters for node in nodes) == everything
    macs = sum(node.macs or 0 for node in nodes)
    assert round(macs / 1e9, 2) == gmacs
    assert macs == case.golden["macs"]
    assert max(node.depth for node in nodes) == case.golden["longest_path"]
    assert [node.shape for node in nodes if len(node.shape) == 3][-1] == last_map


def test_counts_of_the_face_network_without_its_head() -> None:
    nodes = trace(networks.find("inception_resnet_v1", "facenet"), classes=None)
    assert sum(node.op == "conv" for node in nodes) == 132
    assert sum(node.trainable for node in nodes) == 22_549_808
    assert round(sum(node.macs or 0 for node in nodes) / 1e9, 2) == 6.31
    assert nodes[-1].shape == (8, 8, 1792)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", WHOLE, ids=str)
def test_shape_after_every_stage(case: WholeNetwork, size: int) -> None:
    golden: dict[str, Any] = case.golden["shapes"][str(size)]
    seen: dict[str, list[int | None]] = {}
    for stage in stages(trace(case.spec, (size, size))):
        if stage.name == "image" or len(stage.shape) == 1:
            continue
        block = stage.name.rstrip("0123456789")
        assert seen.setdefault(block, list(stage.shape)) == list(stage.shape), f"{stage.name} changes the map's shape"
    assert seen == golden


@pytest.mark.parametrize("case", WHOLE, ids=str)
def test_stages_share_out_the_whole(case: WholeNetwork) -> None:
    nodes = trace(case.spec)
    rows = stages(nodes)
    assert sum(row.trainable for row in rows) == sum(node.trainable for node in nodes)
    assert sum(row.statistics for row in rows) == sum(node.statistics for node in nodes)
    assert sum(row.macs or 0 for row in rows) == case.golden["macs"]
    assert rows[-1].depth == case.golden["longest_path"]


@pytest.mark.parametrize("case", WHOLE, ids=str)
def test_smallest_image(case: WholeNetwork) -> None:
    assert minimum_side(case.spec) == 75
    assert minimum_side(case.spec, aux_head=True) == 107
    for side in range(1, 107):  # none below fits, all above do
        for least, aux_head in ((75, False), (107, True)):
            if side < least:
                with pytest.raises(ValueError, match="smaller than its window"):
                    trace(case.spec, (side, 299), aux_head=aux_head)
            else:
                trace(case.spec, (299, side), aux_head=aux_head)


def test_a_network_that_fits_no_image() -> None:
    rows = [Pool("max", stride=2, padding="valid")] * 9
    with pytest.raises(ValueError, match=r"huge \(paper\) accepts no image of up to 299 pixels per side"):
        minimum_side(Network("huge", "paper", stem=rows, stages=[]))


def test_unknown_sides_leave_channels_and_parameters_known() -> None:
    known, unknown = (trace(WHOLE[0].spec, size) for size in [(299, 299), (None, None)])
    assert [node.trainable for node in unknown] == [node.trainable for node in known]
    assert [node.shape[-1] for node in unknown] == [node.shape[-1] for node in known]
    assert all(node.macs is None for node in unknown if node.op == "conv")
    with pytest.raises(ValueError, match="known height and width"):
        trace(WHOLE[0].spec, (None, None), aux_head=True)


def test_a_head_for_other_classes_or_none() -> None:
    with_top, without = trace(WHOLE[1].spec, classes=10), trace(WHOLE[1].spec, classes=None)
    assert with_top[-1].name == "logits"
    assert with_top[-1].trainable == 1792 * 10 + 10
    assert [node.name for node in with_top[len(without) :]] == ["pooled", "dropout", "logits"]

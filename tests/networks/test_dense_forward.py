"""Aligned and dense networks at odd sizes, against the same arithmetic in numpy, written without the tables."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from inception_resnet_keras import endpoints, feature_extractor, networks
from inception_resnet_keras.networks import edits
from inception_resnet_keras.networks.build import build

from .arithmetic import maps_of

RELEASED = [("inception_v4", "slim"), ("inception_resnet_v1", "facenet"), ("inception_resnet_v2", "slim")]
SIZES = {"valid": [(76, 107), (97, 130), (139, 84)], "same": [(33, 47), (75, 98), (107, 1), (131, 66)]}
DENSITIES: list[tuple[str, int | None]] = [(padding, stride) for padding in SIZES for stride in (None, 16, 8)]
QUICK = [
    ("inception_v4", "paper", "same", 16),
    ("inception_resnet_v1", "paper", "valid", 16),
    ("inception_resnet_v2", "paper", "same", 8),
]


def network(name: str, variant: str, padding: Any, output_stride: int | None) -> keras.Model:
    """With one block of each kind and a tenth of the filters, for pictures of any size."""
    released = variant != "paper" and name != "inception_v4"
    table = edits.with_depths(networks.find(name, variant), (1, 1, 2 if released else 1))
    table = edits.with_padding(edits.with_width(table, 0.1), padding)
    model = build(edits.with_output_stride(table, output_stride), include_top=False, input_shape=(None, None, 3))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        values = rng.standard_normal(weight.shape)
        if weight.name == "moving_variance":
            values = rng.uniform(0.5, 1.5, weight.shape)
        elif len(weight.shape) > 1:
            values *= np.sqrt(2 / np.prod(weight.shape[:-1]))
        else:
            values *= 0.1
        weight.assign(values)
    return model


def check(name: str, variant: str, padding: str, output_stride: int | None) -> None:
    model = network(name, variant, padding, output_stride)
    extractor = feature_extractor(model, [each for each in endpoints(model) if not each.startswith("stride_")])
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    for size in SIZES[padding]:
        images = np.random.default_rng(size[0]).uniform(-1, 1, (2, *size, 3)).astype(np.float32)
        wanted = maps_of(name, variant, weights, images, padding=padding, output_stride=output_stride)
        found = {key: keras.ops.convert_to_numpy(value) for key, value in extractor(images, training=False).items()}
        assert set(found) == set(wanted)
        for end, values in wanted.items():
            assert values.std() > 0
            np.testing.assert_allclose(found[end], values, rtol=0, atol=1e-5 * np.abs(values).max(), err_msg=end)


@pytest.mark.parametrize(("name", "variant", "padding", "output_stride"), QUICK)
def test_every_map_is_what_the_figures_say(name: str, variant: str, padding: str, output_stride: int) -> None:
    check(name, variant, padding, output_stride)


@pytest.mark.slow
@pytest.mark.parametrize(("padding", "output_stride"), DENSITIES)
@pytest.mark.parametrize(("name", "variant"), RELEASED)
def test_every_map_of_every_network(name: str, variant: str, padding: str, output_stride: int | None) -> None:
    check(name, variant, padding, output_stride)

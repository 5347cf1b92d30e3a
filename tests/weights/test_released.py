"""The released variants as models: what the factories make of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from inception_resnet_keras import endpoints, networks
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.networks import edits
from inception_resnet_keras.networks.build import build as build_network
from inception_resnet_keras.networks.rows import Network, Repeat

FACENET = networks.find("inception_resnet_v1", "facenet")


@pytest.fixture
def facenet() -> Network:
    """facenet with one block of each kind: its head is whole."""
    stages = [replace(stage, times=1) if isinstance(stage, Repeat) else stage for stage in FACENET.stages]
    return replace(FACENET, stages=stages)


def build(network: Network, *args: Any, **options: Any) -> keras.Model:
    return build_network(network, *args, input_shape=(75, 75, 3), **options)


def test_facenet_gives_an_embedding_of_length_one(facenet: Network) -> None:
    model = build(facenet)
    assert model.output_shape == (None, 512)
    assert list(endpoints(model))[-1].startswith("stride")
    assert endpoints(model)["embedding"] is model.output
    images = np.random.default_rng(0).uniform(-1, 1, (3, 75, 75, 3)).astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(model.predict(images, verbose=0), axis=1), 1, rtol=1e-5)
    dense = model.get_layer("embedding_dense")
    assert dense.bias is None
    assert model.get_layer("embedding_dense_bn").gamma is None


@pytest.mark.parametrize("classes", [7, 1000])
def test_given_classes_facenet_is_a_classifier_of_what_is_not_normalised(facenet: Network, classes: int) -> None:
    model = build(facenet, classes)
    assert model.output_shape == (None, classes)
    assert model.get_layer("logits").input is model.get_layer("embedding_dense_bn").output


def test_without_a_top_facenet_gives_its_last_map(facenet: Network) -> None:
    assert build(facenet, include_top=False).output_shape == (None, 1, 1, 1792)
    assert build(facenet, include_top=False, pooling="avg").output_shape == (None, 1792)


def test_facenet_has_no_auxiliary_head(facenet: Network) -> None:
    with pytest.raises(InputError, match="aux_head: got True; it takes False: the facenet variant has no auxiliary"):
        build(facenet, aux_head=True)


def test_half_precision_leaves_the_embedding_in_float32(facenet: Network) -> None:
    assert build(facenet, dtype="mixed_bfloat16").output.dtype == "float32"


@pytest.mark.parametrize(("name", "variant"), [("inception_resnet_v2", "slim"), ("inception_resnet_v1", "facenet")])
def test_the_last_block_is_never_scaled_and_has_no_relu(name: str, variant: str) -> None:
    network = networks.find(name, variant)
    last = network.stages[-1]
    assert isinstance(last, Repeat)
    assert (last.times, last.scale, last.activation) == (1, None, False)
    assert edits.with_scales(network, [0.3, 0.3, 0.3]).stages[-1] == last

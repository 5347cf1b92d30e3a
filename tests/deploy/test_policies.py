"""A model in another dtype policy is so to its last layer, nested and wrapped ones included."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from inception_resnet_keras.deploy.prepare import prepare
from inception_resnet_keras.models.folding import in_policy
from inception_resnet_keras.networks.recognise import leaves

from .. import tiny
from ..exporting import lively


def nested() -> keras.Model:
    """Two deep, behind an augmentation of its own, with a wrapped layer and a head that a user named."""
    image = keras.Input((tiny.SIDE, tiny.SIDE, 3))
    x = keras.Sequential([image, keras.layers.RandomFlip()])(image)
    base = lively(include_top=False)
    inner = keras.Input((tiny.SIDE, tiny.SIDE, 3))
    x = keras.Model(inner, base(inner))(x)
    x = keras.layers.Reshape((1, -1))(x)
    x = keras.layers.TimeDistributed(keras.layers.Dense(4))(x)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(x)))


def policies(model: keras.Model) -> set[tuple[bool, Any]]:
    kept = ("preprocess", "logits", "predictions")
    layers = [layer for layer in leaves(model) if not isinstance(layer, keras.layers.InputLayer)]
    layers += [layer.layer for layer in layers if isinstance(layer, keras.layers.Wrapper)]
    return {(layer.name in kept, layer.dtype_policy.name) for layer in layers}


@pytest.mark.parametrize("build", [nested, lively])
def test_every_layer_is_of_the_policy(build: Any) -> None:
    model = build()
    half = in_policy(model, "mixed_bfloat16")
    assert policies(half) == {(True, "float32"), (False, "mixed_bfloat16")}
    assert policies(model) == {(True, "float32"), (False, "float32")}
    back = in_policy(half, "float32")
    images = tiny.IMAGES * 127.5 + 127.5
    np.testing.assert_array_equal(tiny.run(back, images), tiny.run(model, images))
    assert 1e-4 < np.abs(tiny.run(half, images) - tiny.run(model, images)).max() < 0.003  # measured: up to 0.001


def test_what_is_compared_with_computes_in_float32_inside_too() -> None:
    half = in_policy(nested(), "mixed_bfloat16")
    prepared = prepare(half, "float32", class_names=None, preprocessing=None, optimize=False)
    assert {layer.compute_dtype for layer in leaves(prepared.reference)} == {"float32"}

"""What a model does at its two ends is read off its layers, whoever named them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from inception_resnet_keras import export_model
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.deploy.check import decided
from inception_resnet_keras.deploy.prepare import before_weights, kind_of, prepare

from .. import tiny
from ..exporting import lively

IMAGE = (tiny.SIDE, tiny.SIDE, 3)

SETTINGS: dict[str, Any] = {"class_names": None, "preprocessing": "none", "optimize": False}


def with_head(*layers: keras.Layer) -> keras.Model:
    """A user's own head on the network's pooled maps."""
    base = lively(include_top=False, pooling="avg")
    x = base.output
    for layer in layers:
        x = layer(x)
    return keras.Model(base.input, x)


def nested(model: keras.Model) -> keras.Model:
    image = keras.Input(IMAGE)
    return keras.Model(image, model(image))


def linear(width: int = 3) -> keras.Layer:
    return keras.layers.Dense(width, kernel_initializer="ones", name="my_head")


@pytest.mark.parametrize(
    ("layers", "kind"),
    [
        ([linear()], "logits"),
        ([linear(), keras.layers.Activation("linear")], "logits"),
        ([linear(), keras.layers.Activation("softmax")], "other"),
        ([keras.layers.Dense(3, activation="softmax")], "other"),
        ([keras.layers.Dense(3, name="embedding")], "embedding"),
        ([keras.layers.Dense(4), keras.layers.UnitNormalization()], "embedding"),
        ([keras.layers.Dropout(0.2)], "embedding"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_the_outputs_are(layers: list[keras.Layer], kind: str, wrapped: bool) -> None:
    model = with_head(*layers)
    assert kind_of((nested(model) if wrapped else model).output) == kind


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("wrapped", [False, True])
def test_logits_of_any_name_become_probabilities(width: int, wrapped: bool) -> None:
    model = with_head(linear(width))
    prepared = prepare(nested(model) if wrapped else model, "float32", **SETTINGS)
    added = "sigmoid" if width == 1 else "softmax"
    assert any(f"a {added} was added" in note for note in prepared.notes)
    images = tiny.IMAGES * 127.5 + 127.5
    wanted = getattr(keras.ops, added)(tiny.run(model, images))
    np.testing.assert_allclose(tiny.run(prepared.reference, images), wanted, atol=1e-5)


def test_outputs_that_are_no_probabilities_are_refused(tmp_path: Path, digits: Path) -> None:
    model = with_head(keras.layers.Dense(3, activation="relu", bias_initializer=keras.initializers.Constant(5.0)))
    with pytest.raises(InputError, match="so they are no probabilities: end it in a softmax or a sigmoid"):
        export_model(model, tmp_path / "m.onnx", "onnx", check=digits)
    assert not list(tmp_path.iterdir())


def test_one_probability_agrees_where_it_decides_the_same(tmp_path: Path, digits: Path) -> None:
    model = with_head(keras.layers.Dense(1, activation="sigmoid"))
    with pytest.raises(InputError, match="validate: the model gives one probability"):
        export_model(model, tmp_path / "m.onnx", "onnx", validate=digits)
    check = export_model(model, tmp_path / "m.onnx", "onnx", check=digits)
    assert check.agreement == 1
    np.testing.assert_array_equal(decided(np.array([[0.2], [0.5], [0.9]])), [False, True, True])


def behind(*layers: Any, include_preprocessing: bool = True) -> keras.Model:
    """The network behind what a user put before it."""
    image = x = keras.Input(IMAGE)
    for layer in layers:
        x = layer(x)
    return keras.Model(image, tiny.build(input_tensor=x, include_preprocessing=include_preprocessing).output)


FLIP = keras.layers.RandomFlip()

AUGMENTATION = keras.Sequential([keras.Input(IMAGE), keras.layers.RandomFlip(), keras.layers.RandomRotation(0.1)])


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (lambda: behind(FLIP), ("scales", "preprocess")),
        (lambda: behind(AUGMENTATION), ("scales", "preprocess")),
        (lambda: behind(keras.layers.Normalization(mean=1.0, variance=2.0, name="n")), ("scales", "n")),
        (lambda: nested(behind(FLIP)), ("scales", "preprocess")),
        (lambda: nested(behind(AUGMENTATION, include_preprocessing=False)), ("passes", "")),
        (lambda: behind(keras.layers.Identity(), include_preprocessing=False), ("passes", "")),
        (lambda: behind(keras.layers.ReLU(), include_preprocessing=False), ("passes", "")),  # of pixels: nothing
        (
            lambda: behind(keras.layers.Lambda(lambda x: x / 255, name="l"), include_preprocessing=False),
            ("changes", "l"),
        ),
        (lambda: behind(lambda x: x / 127.5 - 1, include_preprocessing=False), ("changes", "true_divide")),
    ],
)
def test_what_happens_to_pixels_before_the_first_weights(model: Any, found: tuple[str, str]) -> None:
    how, layer = before_weights(model(), (tiny.SIDE, tiny.SIDE))
    assert (how, layer.rstrip("_0123456789")) == found


def test_pixels_are_not_scaled_twice() -> None:
    model = behind(FLIP)
    prepared = prepare(model, "float32", **SETTINGS | {"preprocessing": None})
    images = tiny.IMAGES * 127.5 + 127.5
    np.testing.assert_allclose(tiny.run(prepared.reference, images), tiny.run(model, images), atol=1e-6)
    scaled_by_hand = behind(lambda x: x / 127.5 - 1, include_preprocessing=False)
    with pytest.raises(InputError, match=r"its 'true_divide\w*' changes pixels before the first layer with weights"):
        prepare(scaled_by_hand, "float32", **SETTINGS | {"preprocessing": None})

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
from inception_resnet_keras.deploy.prepare import prepare
from inception_resnet_keras.networks import find
from inception_resnet_keras.networks.ends import output_kind, pixel_input
from inception_resnet_keras.networks.rows import INCEPTION

from .. import tiny
from ..exporting import lively

IMAGE = (tiny.SIDE, tiny.SIDE, 3)
BARE = {"include_preprocessing": False}
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
        ([linear(), keras.layers.Activation("sigmoid")], "sigmoids"),
        ([keras.layers.Dense(3, activation="sigmoid"), keras.layers.Dropout(0.2)], "sigmoids"),
        ([keras.layers.Dense(3, name="embedding")], "embedding"),
        ([keras.layers.Dense(4), keras.layers.UnitNormalization()], "embedding"),
        ([keras.layers.Dropout(0.2)], "embedding"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_the_outputs_are(layers: list[keras.Layer], kind: str, wrapped: bool) -> None:
    model = with_head(*layers)
    assert output_kind((nested(model) if wrapped else model).output) == kind


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
    with pytest.raises(InputError, match="so they are not probabilities: end it in a softmax, a sigmoid"):
        export_model(model, tmp_path / "m.onnx", "onnx", check=digits)
    assert not list(tmp_path.iterdir())


def test_one_probability_agrees_where_it_decides_the_same(tmp_path: Path, digits: Path) -> None:
    model = with_head(keras.layers.Dense(1, activation="sigmoid"))
    with pytest.raises(InputError, match="validate: the model returns one probability"):
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
    ("model", "preprocessing"),
    [
        (lambda: behind(FLIP), "none"),
        (lambda: behind(AUGMENTATION), "none"),
        (lambda: behind(keras.layers.RandomBrightness(0.2)), "none"),
        (lambda: behind(keras.layers.Resizing(*IMAGE[:2])), "none"),
        (lambda: nested(behind(FLIP)), "none"),
        (lambda: behind(keras.layers.Normalization(mean=127.5, variance=3600.0), **BARE), "none"),
        (lambda: behind(keras.layers.Normalization(mean=0.45, variance=0.05), **BARE), "unit"),
        (lambda: behind(keras.layers.Rescaling(1 / 255), **BARE), "none"),
        (lambda: behind(keras.layers.Lambda(lambda x: x / 255), **BARE), "none"),
        (lambda: behind(lambda x: x / 127.5 - 1, **BARE), "none"),
        (lambda: nested(nested(behind(lambda x: x[..., ::-1] / 127.5 - 1, **BARE))), "none"),
        (lambda: behind(keras.ops.log1p, **BARE), None),
        (lambda: behind(keras.layers.Rescaling(1 / 20), **BARE), None),
    ],
)
def test_which_pixels_a_graph_takes(model: Any, preprocessing: str | None) -> None:
    found = pixel_input(model(), (tiny.SIDE, tiny.SIDE), None)
    assert (found.preprocessing.name if found.preprocessing else None) == preprocessing
    assert found.measured is (preprocessing is not None)


@pytest.mark.parametrize("model", [lambda: behind(**BARE), lambda: nested(behind(AUGMENTATION, **BARE))])
def test_a_graph_that_scales_nothing_takes_what_its_network_was_made_for(model: Any) -> None:
    assert pixel_input(model(), (tiny.SIDE, tiny.SIDE), None).preprocessing is None
    found = pixel_input(model(), (tiny.SIDE, tiny.SIDE), find("inception_v4"))
    assert (found.preprocessing, found.measured) == (INCEPTION, False)


def trained_on(low: float, high: float) -> keras.Model:
    """A model whose batch norm has the statistics of pictures within (low, high), as of many steps of training."""
    model = tiny.build(batch_norm_momentum=0.5)
    random = np.random.default_rng(0)
    coarse = random.uniform(0, 1, (8, 4, 4, 3))
    pictures = np.asarray(keras.ops.image.resize(coarse, IMAGE[:2])) * 0.9
    for _ in range(12):
        model((low + (high - low) * pictures).astype(np.float32), training=True)
    return model


@pytest.mark.parametrize(
    ("low", "high", "preprocessing"), [(0, 255, "none"), (-1, 1, "inception"), (0.3, 1.3, None), (-4, 4, None)]
)
def test_the_range_of_the_training_pictures_is_measured_or_unknown(
    low: float, high: float, preprocessing: str | None
) -> None:
    """Never mistaken: what could be more than one range is refused."""
    found = pixel_input(trained_on(low, high), (tiny.SIDE, tiny.SIDE), find("inception_v4"))
    assert (found.preprocessing.name if found.preprocessing else None) == preprocessing


def test_pixels_are_not_scaled_twice() -> None:
    images = tiny.IMAGES * 127.5 + 127.5
    for model in (behind(FLIP), behind(lambda x: x / 127.5 - 1, **BARE)):
        prepared = prepare(model, "float32", **SETTINGS | {"preprocessing": None})
        np.testing.assert_allclose(tiny.run(prepared.reference, images), tiny.run(model, images), atol=1e-6)
    with pytest.raises(InputError, match=r"preprocessing: the pixel range .* takes is unknown .*log1p|not a linear"):
        prepare(behind(keras.ops.log1p, **BARE), "float32", **SETTINGS | {"preprocessing": None})

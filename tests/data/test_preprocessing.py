"""Pixels to what the networks take."""

import warnings
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inception_resnet_keras import preprocess_input, warn_if_unscaled
from inception_resnet_keras.data.preprocessing import Convention, ScalingWarning

PIXELS = np.array([0, 1, 127, 128, 255], np.uint8)

EXPECTED: dict[Convention, np.ndarray] = {
    "inception": (PIXELS.astype(np.float64) - 127.5) / 127.5,
    "facenet": (PIXELS.astype(np.float64) - 127.5) / 128,
}

KINDS: list[Any] = ["uint8", "int16", "int64", "float16", "float32", "float64"]


@pytest.mark.parametrize("convention", EXPECTED)
@pytest.mark.parametrize("dtype", KINDS)
def test_both_conventions_of_every_dtype(convention: Convention, dtype: str) -> None:
    given_pixels = PIXELS.astype(dtype)
    given_pixels.flags.writeable = False
    kept = given_pixels.copy()
    scaled = preprocess_input(given_pixels, convention)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, EXPECTED[convention], rtol=1e-6)
    np.testing.assert_array_equal(given_pixels, kept)
    assert given_pixels.dtype == dtype
    assert not np.shares_memory(scaled, given_pixels)


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=4, max_side=5), elements=st.floats(2, 255, width=32)))
def test_the_argument_is_never_changed(pixels: np.ndarray) -> None:
    kept = pixels.copy()
    for convention in EXPECTED:
        scaled = preprocess_input(pixels, convention)
        assert scaled.shape == pixels.shape
        assert np.abs(scaled).max() <= 1
    np.testing.assert_array_equal(pixels, kept)


def test_lists_pictures_and_slices() -> None:
    from PIL import Image

    np.testing.assert_allclose(preprocess_input(PIXELS.tolist()), EXPECTED["inception"], rtol=1e-6)
    picture = Image.new("RGB", (3, 2), (0, 255, 0))
    np.testing.assert_array_equal(preprocess_input(picture), np.broadcast_to([-1, 1, -1], (2, 3, 3)))
    assert preprocess_input(np.uint8(255)) == 1
    turned = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::-1].T
    np.testing.assert_allclose(preprocess_input(turned), turned / 127.5 - 1, rtol=1e-5)
    assert preprocess_input(np.zeros((0, 299, 299, 3), np.uint8)).shape == (0, 299, 299, 3)


@pytest.mark.parametrize("convention", EXPECTED)
def test_tensors(convention: Convention) -> None:
    tensor = keras.ops.convert_to_tensor(PIXELS)
    scaled = preprocess_input(tensor, convention)
    assert keras.ops.is_tensor(scaled)
    assert keras.backend.standardize_dtype(scaled.dtype) == "float32"
    np.testing.assert_allclose(scaled, EXPECTED[convention], rtol=1e-6)
    np.testing.assert_array_equal(tensor, PIXELS)


def test_keras_tensors() -> None:
    pixels = keras.Input((5,), dtype="uint8")
    model = keras.Model(pixels, preprocess_input(pixels))
    np.testing.assert_allclose(model(PIXELS[None])[0], EXPECTED["inception"], rtol=1e-6)


def test_tf_data() -> None:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(PIXELS[:, None]).map(preprocess_input).batch(5)
    (batch,) = dataset.as_numpy_iterator()
    np.testing.assert_allclose(batch[:, 0], EXPECTED["inception"], rtol=1e-6)
    assert batch.dtype == np.float32


@pytest.mark.parametrize("convention", ["vgg", "", None, 1, ["inception"]])
def test_unknown_convention(convention: Any) -> None:
    with pytest.raises(ValueError, match=r"convention: got .*; it takes 'inception' or 'facenet'"):
        preprocess_input(PIXELS, convention)


def quiet(x: Any) -> Any:
    with warnings.catch_warnings(action="error"):
        return preprocess_input(x)


@pytest.mark.parametrize(
    "scaled", [np.linspace(0, 1, 9), np.linspace(-1, 1, 9), [0.5, -0.25]], ids=["01", "11", "list"]
)
def test_what_was_scaled_before_is_told(scaled: Any) -> None:
    with pytest.warns(ScalingWarning, match="values within \\[-1, 1\\]; it expects raw pixels of 0 to 255") as told:
        preprocess_input(scaled)
    assert told[0].filename == __file__


def test_raw_pixels_are_no_reason_to_warn() -> None:
    for raw in (PIXELS, PIXELS.astype(float), np.zeros((2, 2)), np.ones((2, 2), np.uint8), np.zeros((0, 3))):
        quiet(raw)


@pytest.mark.parametrize(
    ("batch", "looks"),
    [
        (PIXELS, "raw pixels"),
        (PIXELS.astype(np.float32) - 127.5, "raw pixels"),
        (np.linspace(0, 1, 5), "pixels scaled to \\[0, 1\\]"),
        ([[0.0, 0.5], [0.25, 1.0]], "pixels scaled to \\[0, 1\\]"),
    ],
    ids=["raw", "centred", "unit", "list"],
)
def test_unscaled_batches_are_told(batch: Any, looks: str) -> None:
    with pytest.warns(ScalingWarning, match=f"the model's input is in .*looks like {looks}.*preprocess_input") as told:
        assert warn_if_unscaled(batch) is True
    assert told[0].filename == __file__


def test_scaled_batches_are_not() -> None:
    with warnings.catch_warnings(action="error"):
        for batch in [preprocess_input(PIXELS), np.zeros((2, 3)), np.full((2, 3), 0.5), np.zeros((0, 3)), [-1.2, 1.2]]:
            assert warn_if_unscaled(batch) is False
        assert warn_if_unscaled(preprocess_input(PIXELS, "facenet"), what="x") is False


IMAGES: list[np.ndarray] = [
    np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3)).astype(np.uint8),
    np.full((2, 5, 5, 3), 77, np.uint8),  # no contrast
    np.pad(
        np.array([[[[101]]]], np.uint8), ((0, 0), (3, 3), (3, 3), (0, 0)), constant_values=100
    ),  # the least there is
    np.random.default_rng(1).uniform(0, 255, (2, 2, 6, 6, 4)).astype(np.float32),
    np.random.default_rng(2).uniform(99, 99.01, (4, 4, 3)).astype(np.float32),
]


@pytest.mark.parametrize("images", IMAGES, ids=lambda images: str(images.shape))
def test_per_image_standardization_is_tensorflows(images: np.ndarray) -> None:
    import tensorflow as tf

    name: Convention = "per_image_standardization"
    expected = tf.image.per_image_standardization(tf.cast(images, tf.float32)).numpy()
    exact = images.astype(np.float64)
    axes = (-3, -2, -1)
    deviation = np.maximum(exact.std(axis=axes, keepdims=True), 1 / np.sqrt(np.prod(images.shape[-3:])))
    exact = (exact - exact.mean(axis=axes, keepdims=True)) / deviation
    found = preprocess_input(images, name)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, atol=1e-6 * max(1, np.abs(exact).max()))
    tolerance = 1e-5 * max(1, np.abs(exact).max()) if np.ptp(images) > 1 else 0.1  # float32's mean of 99.005
    np.testing.assert_allclose(found, expected, atol=tolerance)
    np.testing.assert_allclose(preprocess_input(tf.constant(images), name).numpy(), exact, atol=tolerance)


def test_per_image_standardization_in_a_pipeline_of_any_size() -> None:
    import tensorflow as tf

    signature = tf.TensorSpec((None, None, 3), tf.uint8)
    dataset = tf.data.Dataset.from_generator(lambda: (image for image in IMAGES[0]), output_signature=signature)
    dataset = dataset.map(lambda image: preprocess_input(image, "per_image_standardization"))
    found = np.stack(list(dataset.as_numpy_iterator()))
    np.testing.assert_allclose(found, preprocess_input(IMAGES[0], "per_image_standardization"), atol=1e-5)


@pytest.mark.parametrize("x", [5, [1.0, 2.0], np.zeros((4, 4))])
def test_per_image_standardization_needs_images(x: Any) -> None:
    with pytest.raises(ValueError, match=r"x: got .*images of \(…, height, width, channels\)"):
        preprocess_input(x, "per_image_standardization")

"""Pixels to what the networks take, in every convention, without changing what was given."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..common.errors import refuse
from ..networks.rows import PREPROCESSINGS, RAW, Preprocessing

Convention = Literal["inception", "facenet", "per_image_standardization", "unit", "caffe", "torch", "none"]


class ScalingWarning(UserWarning):
    """Pictures whose values are not in the range that is expected where they are used."""


def convention_named(name: str) -> Preprocessing:
    if not isinstance(name, str) or name not in PREPROCESSINGS:
        raise refuse("convention", name, " or ".join(map(repr, PREPROCESSINGS)))
    return PREPROCESSINGS[name]


def preprocess_input(x: Any, convention: Convention = "inception") -> Any:
    """Scales raw pixels to what the networks take; the argument is never changed.

    Args:
        x: Pixels in 0-255, of any shape and any real dtype: an array, nested lists, or a tensor of
            the engine (a `tf.data` pipeline's too).
        convention: "inception" for (x - 127.5) / 127.5, in [-1, 1]; "facenet" for (x - 127.5) / 128, as
            davidsandberg/facenet and facenet-pytorch do it; "per_image_standardization" for
            (x - mean) / max(deviation, 1/√N) over the N numbers of each image, (…, height, width, channels), as
            davidsandberg/facenet did it in 2017 and `tf.image.per_image_standardization` does. For models of other
            packages: "unit" for x / 255, in [0, 1]; "caffe" for blue, green, red with ImageNet's means subtracted;
            "torch" for ImageNet's means and deviations as torchvision has them; "none" leaves 0-255. "caffe" and
            "torch" take channels last.

    Returns:
        float32 of the same shape: a numpy array, or a tensor where a tensor was given.

    Raises:
        ValueError: convention is none of these, x holds no numbers, or no images where each has its own mean.

    Warns:
        ScalingWarning: floats that lie within [-1, 1], so were scaled before.

    Examples:
        >>> preprocess_input([[0, 127.5, 255]]).tolist()
        [[-1.0, 0.0, 1.0]]
        >>> preprocess_input([[0, 127.5, 255]], "facenet").tolist()
        [[-0.99609375, 0.0, 0.99609375]]
    """
    scaling = convention_named(convention)
    if scaling.per_image and np.ndim(x) < 3:
        raise refuse("x", f"shape {np.shape(x)}", f"images of (…, height, width, channels) with {convention!r}")
    if _is_tensor(x):
        if hasattr(x, "numpy"):  # one with values, not of a `tf.data` pipeline or a functional graph
            _warn_if_scaled(np.asarray(x) if _is_tensorflow(x) else _keras_ops().convert_to_numpy(x))
        return scale_pixels(_as_float(x), scaling)
    pixels = np.asarray(x)
    if pixels.dtype.kind not in "buif":
        raise refuse("x", x, "pixels: an array, nested lists or a tensor of numbers")
    _warn_if_scaled(pixels)
    return scale_pixels(pixels.astype(np.float32), scaling)


def scale_pixels(pixels: Any, preprocessing: Preprocessing) -> Any:
    """float32 pixels of 0-255, channels last, as an array or a tensor, preprocessed; unchanged by `RAW`."""
    if preprocessing is RAW:
        return pixels
    if preprocessing.per_image:
        return _standardized(pixels)
    mean, divisor = (np.asarray(number, np.float32) for number in (preprocessing.mean, preprocessing.divisor))
    if _is_tensor(pixels) and not _is_tensorflow(pixels):
        ops = _keras_ops()
        scaled = ops.divide(ops.subtract(pixels, mean), divisor)
        return ops.flip(scaled, axis=-1) if preprocessing.reverse else scaled  # PyTorch has no slice of a step of -1
    scaled = (pixels - mean) / divisor
    return scaled[..., ::-1] if preprocessing.reverse else scaled


def _standardized(images: Any) -> Any:
    """(x - mean) / max(standard deviation, 1/√N) over the N numbers of each image, its last three axes."""
    axes = (-3, -2, -1)
    if _is_tensorflow(images):
        import tensorflow as tf

        return tf.image.per_image_standardization(images)
    if _is_tensor(images):
        from ..networks.build import standardized

        return standardized(images)
    # In float64, as the sum of an image's numbers needs more digits than float32 has.
    images = images.astype(np.float64)
    deviation = images.std(axis=axes, keepdims=True)
    least = 1 / np.sqrt(max(np.prod(images.shape[-3:]), 1))
    return ((images - images.mean(axis=axes, keepdims=True)) / np.maximum(deviation, least)).astype(np.float32)


def warn_if_unscaled(x: ArrayLike, *, what: str = "the model's input") -> bool:
    """Warns where a batch that a network is about to read does not look scaled to [-1, 1].

    Args:
        x: The batch, an array or nested lists; nothing is changed.
        what: How the warning names it.

    Returns:
        Whether a warning was given: values beyond [-1.5, 1.5] are raw pixels, and a batch of two or
        more distinct values that lies wholly in [0, 1] was scaled for other networks.
    """
    values = np.asarray(x)
    if not values.size:
        return False
    low, high = float(values.min()), float(values.max())
    if np.isnan(low):
        looks = "values that are not numbers"
    elif low < -1.5 or high > 1.5:
        looks = "raw pixels"
    elif low >= 0 and low < high:
        looks = "pixels scaled to [0, 1]"
    else:
        return False
    _warn(
        f"{what} is in [{low:g}, {high:g}], which looks like {looks}; the networks take [-1, 1]: call "
        "preprocess_input on raw pixels, or build the model with include_preprocessing=True"
    )
    return True


def _is_tensor(x: Any) -> bool:
    """A tensor of the engine, with values or without."""
    return hasattr(x, "shape") and not isinstance(x, np.ndarray | np.generic)


def _is_tensorflow(x: Any) -> bool:
    """A tensor of TensorFlow, as `tf.data` has them whatever engine Keras runs on."""
    return type(x).__module__.partition(".")[0] == "tensorflow"


def _as_float(x: Any) -> Any:
    if _is_tensorflow(x):
        import tensorflow as tf

        return tf.cast(x, tf.float32)
    return _keras_ops().cast(x, "float32")


def _keras_ops() -> Any:
    import keras

    return keras.ops


def _warn_if_scaled(pixels: np.ndarray) -> None:
    if pixels.dtype.kind == "f" and pixels.size and 0 < float(np.abs(pixels).max()) <= 1:
        _warn("preprocess_input was given values within [-1, 1]; it expects raw pixels of 0 to 255", stacklevel=4)


def _warn(message: str, stacklevel: int = 3) -> None:
    warnings.warn(message, ScalingWarning, stacklevel=stacklevel)

"""Scaling raw pixels to the values that networks expect, in each convention. Inputs are never changed in place."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..common.errors import refuse
from ..networks.rows import PREPROCESSINGS, RAW, Preprocessing

Convention = Literal["inception", "facenet", "per_image_standardization", "unit", "caffe", "torch", "none"]


class ScalingWarning(UserWarning):
    """Warns that pixel values are not in the expected range, such as raw pixels given to an unscaled network."""


def convention_named(name: str) -> Preprocessing:
    if not isinstance(name, str) or name not in PREPROCESSINGS:
        raise refuse("convention", name, " or ".join(map(repr, PREPROCESSINGS)))
    return PREPROCESSINGS[name]


def preprocess_input(x: Any, convention: Convention = "inception") -> Any:
    """Scale raw pixels to the values that the networks expect. The input is not changed in place.

    Args:
        x: Pixels of 0-255, of any shape and any real dtype: an array, nested lists, or a tensor of Keras's backend or
            of a `tf.data` pipeline. "per_image_standardization" needs (…, height, width, channels); "caffe" and
            "torch" need RGB channels on the last axis.
        convention: One of:

            - "inception": (x - 127.5) / 127.5, values in [-1, 1], for all variants of the networks but the two below.
            - "facenet": (x - 127.5) / 128, as in davidsandberg/facenet and facenet-pytorch, for "facenet".
            - "per_image_standardization": (x - mean) / max(standard deviation, 1/√N) over the N values of each image,
              as in davidsandberg/facenet in 2017 and in `tf.image.per_image_standardization`, for "facenet_128".
            - "unit": x / 255, values in [0, 1].
            - "caffe": channels reversed to blue, green, red, and ImageNet's means subtracted.
            - "torch": ImageNet's means and standard deviations, as in torchvision.
            - "none": values of 0-255 unchanged.

    Returns:
        float32 of the same shape: a NumPy array, or a tensor if `x` is a tensor.

    Raises:
        ValueError: `convention` is not one of these, `x` does not hold numbers, or `x` has fewer than 3 axes with
            "per_image_standardization".

    Warns:
        ScalingWarning: `x` holds floats within [-1, 1], which look as if they were already scaled.

    Examples:
        >>> preprocess_input([[0, 127.5, 255]]).tolist()
        [[-1.0, 0.0, 1.0]]
        >>> preprocess_input([[0, 127.5, 255]], "facenet").tolist()
        [[-0.99609375, 0.0, 0.99609375]]
        >>> preprocess_input(np.zeros((2, 299, 299, 3), np.uint8)).shape
        (2, 299, 299, 3)
    """
    scaling = convention_named(convention)
    if scaling.per_image and np.ndim(x) < 3:
        raise refuse("x", f"shape {np.shape(x)}", f"images of (…, height, width, channels) with {convention!r}")
    if _is_tensor(x):
        if (values := _values(x)) is not None:
            _warn_if_scaled(values)
        return scale_pixels(_as_float(x), scaling)
    pixels = np.asarray(x)
    if pixels.dtype.kind not in "buif":
        raise refuse("x", x, "pixels: an array, nested lists or a tensor of numbers")
    _warn_if_scaled(pixels)
    return scale_pixels(pixels.astype(np.float32), scaling)


def scale_pixels(pixels: Any, preprocessing: Preprocessing) -> Any:
    """Preprocess float32 pixels of 0-255, channels last, an array or a tensor. `RAW` leaves them unchanged."""
    if preprocessing is RAW:
        return pixels
    if preprocessing.per_image:
        return _standardized(pixels)
    mean, divisor = (np.asarray(number, np.float32) for number in (preprocessing.mean, preprocessing.divisor))
    if _is_tensor(pixels) and not _is_tensorflow(pixels):
        ops = _keras_ops()
        scaled = ops.divide(ops.subtract(pixels, mean), divisor)
        return ops.flip(scaled, axis=-1) if preprocessing.reverse else scaled  # PyTorch cannot slice with step -1
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
    # In float64, because the sum of an image's values needs more digits than float32 has.
    images = images.astype(np.float64)
    deviation = images.std(axis=axes, keepdims=True)
    least = 1 / np.sqrt(max(np.prod(images.shape[-3:]), 1))
    return ((images - images.mean(axis=axes, keepdims=True)) / np.maximum(deviation, least)).astype(np.float32)


def warn_if_unscaled(x: ArrayLike, *, what: str = "the model's input") -> bool:
    """Warn if a batch for a network without preprocessing does not look scaled to [-1, 1].

    A batch with values outside [-1.5, 1.5] looks like raw pixels. A batch of two or more distinct values that are all
    within [0, 1] looks scaled for other networks. An empty batch is not warned about.

    Args:
        x: The batch, an array of any shape or nested lists of numbers. It is not changed.
        what: Name of the batch in the warning.

    Returns:
        Whether a warning was given.

    Raises:
        ValueError: `x` is a ragged list, which NumPy cannot convert to an array.

    Warns:
        ScalingWarning: The batch does not look scaled to [-1, 1].

    Examples:
        >>> warn_if_unscaled(preprocess_input([[0, 127.5, 255]]))
        False
        >>> with warnings.catch_warnings(record=True, action="always") as caught:
        ...     warn_if_unscaled(np.zeros((1, 299, 299, 3)) + [0, 128, 255], what="the batch")
        True
        >>> str(caught[0].message).partition(";")[0]
        'the batch is in [0, 255], which looks like raw pixels'
    """
    values = np.asarray(x)
    if not values.size:
        return False
    low, high = float(values.min()), float(values.max())
    if np.isnan(low):
        looks = "values with NaN among them"
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
    """Whether `x` is a tensor, with values or symbolic."""
    return hasattr(x, "shape") and not isinstance(x, np.ndarray | np.generic)


def _is_tensorflow(x: Any) -> bool:
    """Whether `x` is a tensor of TensorFlow, which `tf.data` uses whatever Keras's backend is."""
    return type(x).__module__.partition(".")[0] == "tensorflow"


def _values(tensor: Any) -> np.ndarray | None:
    """A tensor's values; None for a symbolic one, of a pipeline, a functional model or a compiled function."""
    try:
        return np.asarray(tensor if _is_tensorflow(tensor) else _keras_ops().convert_to_numpy(tensor))
    except (TypeError, ValueError, NotImplementedError):  # of JAX, Keras, TensorFlow
        return None


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

"""Batch-norm statistics computed from data, for models that were trained for too few steps to settle theirs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from ..common.arguments import positive_integer
from ..common.errors import InputError, refuse
from .recognise import leaves


def settle_batch_norm(model: keras.Model, images: Any, *, batch_size: int = 32) -> None:
    """Recomputes the moving statistics of a model's batch-norm layers from data.

    At a momentum of 0.9997 the moving averages need about ten thousand steps to leave their initial values. A model
    that was trained for fewer steps is right in training and wrong in evaluation. This function replaces the averages
    by the mean and variance that each layer sees over all of `images`, computed in one pass, batch by batch, as in
    training (arXiv 2105.07576 calls it PreciseBN). Weights do not change. Frozen layers (`trainable=False`), which
    keep the statistics that they were given, are left alone.

    Args:
        model: A built Keras model, of this package or another, on any backend; networks inside it are included.
        images: What the model was trained on: an array (images, height, width, channels), preprocessed as for `fit`;
            or an iterable of batches, such as a `tf.data.Dataset`, of images or of (images, labels).
        batch_size: Number of images per batch if `images` is an array, at least 1. Use the one of the training.

    Raises:
        ValueError: The model has no batch-norm layer that is trainable, there are no images, or a statistic is not
            finite. The model is then left as it was.

    Examples:
        >>> import numpy as np
        >>> from inception_resnet_keras import create_inception_resnet_v1, settle_batch_norm
        >>> model = create_inception_resnet_v1(3, depths=(1, 1, 1), input_shape=(75, 75, 3))
        >>> images = np.random.default_rng(0).uniform(-1, 1, (8, 75, 75, 3))
        >>> settle_batch_norm(model, images)
        >>> bool(np.any(model.get_layer("stem_conv_1_bn").moving_mean))
        True
    """
    if not isinstance(model, keras.Model):
        raise refuse("model", model, "a built Keras model")
    layers = [
        layer for layer in leaves(model) if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not layers:
        raise InputError("model: has no batch-norm layer that is trainable, so that no statistics can be recomputed")
    before = [(_numbers(layer.moving_mean), _numbers(layer.moving_variance), layer.momentum) for layer in layers]
    try:
        statistics = _pooled_statistics(model, layers, _batches(images, positive_integer("batch_size", batch_size)))
    except BaseException:
        for layer, (mean, variance, _) in zip(layers, before, strict=True):
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)
        raise
    finally:
        for layer, (_, _, momentum) in zip(layers, before, strict=True):
            layer.momentum = momentum
    for layer, (mean, variance) in zip(layers, statistics, strict=True):
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)


def _pooled_statistics(
    model: keras.Model, layers: list[Any], batches: Iterator[Any]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean and variance of each layer's input over all batches, in float64."""
    count = 0
    sums: list[tuple[Any, Any]] = [(0.0, 0.0)] * len(layers)
    for layer in layers:
        layer.momentum = 0.0  # each call then leaves the statistics of its own batch
    for batch in batches:
        model(batch, training=True)
        size = len(batch)
        count += size
        for index, layer in enumerate(layers):
            mean, variance = _numbers(layer.moving_mean), _numbers(layer.moving_variance)
            if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
                raise InputError(f"images: {layer.name} sees values that are not finite; nothing was changed")
            of_means, of_squares = sums[index]
            sums[index] = (of_means + size * mean, of_squares + size * (variance + mean**2))
    if not count:
        raise InputError("images: there are none; give those that the model was trained on")
    pooled = [(of_means / count, of_squares / count) for of_means, of_squares in sums]
    return [(mean, np.maximum(square - mean**2, 0.0)) for mean, square in pooled]


def _numbers(variable: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable).astype(np.float64)


def _batches(images: Any, batch_size: int) -> Iterator[Any]:
    if hasattr(images, "shape") or isinstance(images, list):
        array = np.asarray(images)
        if array.ndim != 4:
            raise refuse("images", f"an array of shape {array.shape}", "shape (images, height, width, channels)")
        for start in range(0, len(array), batch_size):
            yield array[start : start + batch_size]
        return
    if not isinstance(images, Iterable):
        raise refuse("images", images, "an array of images, or an iterable of batches such as a tf.data.Dataset")
    for batch in images:
        yield batch[0] if isinstance(batch, tuple | list) else batch

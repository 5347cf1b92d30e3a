"""Batch-norm statistics recomputed from data, for models trained for too few steps to settle them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from ..common.arguments import positive_integer
from ..common.errors import InputError, refuse
from .recognise import leaves


def settle_batch_norm(model: keras.Model, images: Any, *, batch_size: int = 32) -> None:
    """Recompute the moving statistics of a model's batch-norm layers from data.

    With a momentum of 0.9997 the moving averages need about ten thousand steps to leave their initial values. A model
    trained for fewer steps performs well in training mode and badly in inference mode. This function replaces the
    averages by the mean and variance of each layer's input over all of `images`, computed in one pass, batch by
    batch, as in training (PreciseBN, arXiv 2105.07576). Trained weights do not change. Frozen layers
    (`trainable=False`) keep their statistics.

    Args:
        model: A built Keras model, from this package or elsewhere, on any backend. Its nested models are included.
        images: Training images, preprocessed as for `fit`: an array of shape (images, height, width, channels); or an
            iterable of batches, such as a `tf.data.Dataset`, of images or of (images, labels).
        batch_size: Number of images per batch, at least 1, if `images` is an array. Use the batch size of the
            training, because all layers but the first read values that were normalised within their batch.

    Returns:
        None. The model is changed in place.

    Raises:
        ValueError: The model has no trainable batch-norm layer, `images` is empty or has the wrong shape, or a
            statistic is not finite. The model is then unchanged.

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
        raise InputError("model: has no trainable batch-norm layer, so there are no statistics to recompute")
    # Keep the old values: whatever fails, an error or Ctrl-C, puts them back.
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


SPREAD = 3.0  # standard deviation of a trained network's logits
# Of batch norms in standard deviations, so that ReLUs pass most numbers. Without it an untrained network amplifies
# rounding: the outputs of Inception-v4 in bfloat16 differ by 0.35 of their norm at 299 pixels, with it by 0.03.
SHIFT = 1.0


def imitate_training(model: keras.Model, images: np.ndarray) -> keras.Model:
    """Give an untrained model numbers like those of a trained one, so that a benchmark of it holds for both.

    Batch norms are set to the statistics of their inputs, and a classifier's logits are scaled as in a trained network.
    Initial statistics do not normalise: after 244 convolutions, numbers are too small for half precision and int8, or
    denormal and slow. Besides, 8 bits cannot distinguish 1,000 almost equal probabilities.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and layer.center:
            layer.beta.assign(keras.ops.full(layer.beta.shape, SHIFT))
    settle_batch_norm(model, images)
    if getattr(model.layers[-1], "activation", None) is keras.activations.softmax:
        spread = float(keras.ops.std(keras.ops.log(keras.ops.maximum(model(images, training=False), 1e-30))))
        head = next(layer for layer in reversed(model.layers) if layer.weights)
        head.set_weights([SPREAD / spread * weight for weight in head.get_weights()])
    return model


def _pooled_statistics(
    model: keras.Model, layers: list[Any], batches: Iterator[Any]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean and variance of each layer's input over all batches, in float64."""
    count = 0
    sums: list[tuple[Any, Any]] = [(0.0, 0.0)] * len(layers)
    for layer in layers:
        layer.momentum = 0.0  # so that after each call the averages are those of that batch alone
    for batch in batches:
        model(batch, training=True)
        size = len(batch)
        count += size
        for index, layer in enumerate(layers):
            mean, variance = _numbers(layer.moving_mean), _numbers(layer.moving_variance)
            if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
                raise InputError(f"images: the input of {layer.name} has NaN or infinite values; nothing was changed")
            means, squares = sums[index]
            sums[index] = (means + size * mean, squares + size * (variance + mean**2))
    if not count:
        raise InputError("images: got no images; give the images that the model was trained on")
    # Var[x] = E[x²] - E[x]², over all batches; rounding may make it slightly negative.
    pooled = [(means / count, squares / count) for means, squares in sums]
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

"""Batch-norm statistics from data."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from inception_resnet_keras import create_inception_resnet_v1, settle_batch_norm
from inception_resnet_keras.common.errors import InputError

from .. import tiny

IMAGES = np.random.default_rng(0).normal(0.3, 0.7, (20, tiny.SIDE, tiny.SIDE, 3)).astype(np.float32)


def statistics(model: keras.Model) -> dict[str, np.ndarray]:
    return {weight.path: np.array(weight) for weight in model.weights if "moving" in weight.path}


def test_the_first_layers_statistics_are_those_of_all_its_inputs() -> None:
    """Of all pictures together, whatever the batches: computed here by numpy from the convolution's output."""
    model = tiny.build()
    name = next(layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    outputs = np.asarray(keras.Model(model.input, model.get_layer(name).output)(IMAGES))
    for images in (IMAGES, tf.data.Dataset.from_tensor_slices((IMAGES, np.zeros(20))).batch(8)):
        settle_batch_norm(model, images, batch_size=7)
        norm = model.get_layer(f"{name}_bn")
        np.testing.assert_allclose(norm.moving_mean, outputs.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(norm.moving_variance, outputs.var(axis=(0, 1, 2)), rtol=1e-4, atol=1e-6)
        assert norm.momentum == 0.9997


def test_one_batch_is_computed_in_evaluation_as_in_training() -> None:
    model = keras.Sequential([keras.Input(IMAGES.shape[1:]), tiny.build(dropout_rate=0.0)])
    settle_batch_norm(model, IMAGES, batch_size=len(IMAGES))
    np.testing.assert_allclose(model(IMAGES, training=False), model(IMAGES, training=True), atol=1e-4)


def test_weights_and_frozen_layers_stay() -> None:
    model = tiny.build()
    frozen = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)][:2]
    for layer in frozen:
        layer.trainable = False
    before = {weight.path: np.array(weight) for weight in model.weights}
    settle_batch_norm(model, IMAGES)
    kept = {f"{layer.name}/{name}" for layer in frozen for name in ("moving_mean", "moving_variance")}
    for weight in model.weights:
        changed = not np.array_equal(before[weight.path], np.array(weight))
        assert changed is ("moving" in weight.path and not any(weight.path.endswith(name) for name in kept)), (
            weight.path
        )


def test_a_model_is_left_as_it_was_where_nothing_can_be_computed() -> None:
    model = tiny.build()
    before = statistics(model)
    broken = IMAGES.copy()
    broken[-1, 0, 0, 0] = np.nan
    for images, message in (
        (broken, "NaN or infinite"),
        (IMAGES[:0], "got no images"),
        (IMAGES[0], "of shape"),
        (3, "got 3"),
    ):
        with pytest.raises(InputError, match=message):
            settle_batch_norm(model, images, batch_size=8)
        assert all(np.array_equal(value, before[path]) for path, value in statistics(model).items())
    model.trainable = False
    with pytest.raises(InputError, match="no trainable batch-norm layer"):
        settle_batch_norm(model, IMAGES)


def test_a_short_training_is_rescued() -> None:
    """The default momentum of 0.9997 after a few steps: right in training, at chance in evaluation, and cured."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 24)
    images = random.normal(0, 0.2, (72, 75, 75, 3)).astype(np.float32)
    for index, label in enumerate(labels):  # stripes across, down or both
        images[index] += 0.7 * np.sin(np.arange(75) / 3)[:, None, None] * (label != 1)
        images[index] += 0.7 * np.sin(np.arange(75) / 3)[None, :, None] * (label != 0)
    model = create_inception_resnet_v1(3, depths=(1, 1, 1), input_shape=(75, 75, 3))
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, batch_size=12, epochs=4, verbose=0)
    assert model.evaluate(images, labels, verbose=0)[1] < 0.7
    settle_batch_norm(model, images, batch_size=12)
    assert model.evaluate(images, labels, verbose=0)[1] > 0.95

"""A faster model for `fit`, against Keras's own training of the same model."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from inception_resnet_keras import create_inception_resnet_v1, networks, optimize_for_training
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.networks.build import build
from inception_resnet_keras.training.forward import _FusedBatchNorm, _MatrixProduct

from ..tiny import KNOWN

PIXELS = np.random.default_rng(0).uniform(-1, 1, (16, 32, 32, 3)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, 16)


@pytest.fixture(autouse=True)
def _small_ones_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, variants in KNOWN.items():
        monkeypatch.setitem(networks.NETWORKS, name, variants)


def tiny_model(**options: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    usual: dict[str, Any] = {"input_shape": (32, 32, 3), "dropout_rate": 0.0, "batch_norm_momentum": 0.9}
    return build(networks.find("tiny"), 3, **usual | options)


def fit(model: keras.Model, epochs: int = 2, rate: float = 0.01) -> list[float]:
    model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy")
    history = model.fit(PIXELS, LABELS, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
    losses: list[float] = history.history["loss"]
    return losses


def fused(model: keras.Model) -> list[str]:
    return [layer.name for layer in model._flatten_layers() if isinstance(layer, _FusedBatchNorm)]


def assert_same_weights(one: keras.Model, other: keras.Model, tolerance: float) -> None:
    for mine, theirs in zip(one.weights, other.weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), atol=tolerance, err_msg=mine.path)


def test_fit_trains_the_model_that_was_given_as_keras_does() -> None:
    model, other = tiny_model(weight_decay=1e-3), tiny_model(weight_decay=1e-3)
    faster = optimize_for_training(model)
    assert len(fused(faster)) == sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)
    assert fused(model) == []
    assert fit(faster) == pytest.approx(fit(other), rel=1e-4)
    assert_same_weights(model, other, 1e-5)
    for mine in (faster, model):  # the result evaluates by the moving statistics, as the model does
        np.testing.assert_allclose(mine.predict(PIXELS, verbose=0), other.predict(PIXELS, verbose=0), atol=1e-4)


def test_weights_of_the_result_are_the_models_in_files_too(tmp_path: Path) -> None:
    model = tiny_model()
    faster = optimize_for_training(model)
    fit(faster, 1)
    faster.save_weights(tmp_path / "some.weights.h5")
    fresh = tiny_model()
    fresh.load_weights(tmp_path / "some.weights.h5")
    assert_same_weights(fresh, model, 0)
    assert [weight.path for weight in faster.weights] == [weight.path for weight in model.weights]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    with pytest.raises(InputError, match="save the model that was given to optimize_for_training"):
        faster.save(tmp_path / "faster.keras")


def test_what_the_kernel_cannot_compute_stays_keras() -> None:
    image = keras.Input((8, 8, 4))
    norm = keras.layers.BatchNormalization
    shared = norm(name="shared")
    maps = norm(name="map", scale=False)(shared(shared(image)))
    others = [
        norm(axis=1, name="rows")(maps),
        norm(synchronized=True, name="synchronized")(maps),
        norm(renorm=True, name="renorm")(maps),
        norm(trainable=False, name="frozen")(maps),
    ]
    vector = norm(name="vector")(keras.layers.GlobalAveragePooling2D()(keras.layers.Add()(others)))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(vector))
    nested = keras.Sequential([keras.Input((8, 8, 4)), model])
    faster = optimize_for_training(nested)
    assert set(fused(faster)) == {"shared", "map"}
    before = {layer.name: layer.moving_mean.numpy() for layer in model.layers if hasattr(layer, "moving_mean")}
    faster.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    faster.fit(PIXELS[:, :8, :8, :1].repeat(4, axis=-1), LABELS, verbose=0)
    changed = {
        layer.name
        for layer in model.layers
        if hasattr(layer, "moving_mean") and not np.array_equal(layer.moving_mean.numpy(), before[layer.name])
    }
    assert changed == set(before) - {"frozen"}


def test_what_is_no_matrix_product_stays_a_convolution() -> None:
    image = keras.Input((8, 8, 4))
    conv = keras.layers.Conv2D
    maps = conv(8, 1, name="plain", use_bias=False, kernel_regularizer=keras.regularizers.L2(0.1))(image)
    maps = conv(8, 1, name="whole", activation="relu", bias_initializer="ones")(maps)
    shared = conv(8, 1, name="shared")
    others = [
        conv(8, 1, groups=2, name="groups")(maps),
        conv(8, (1, 3), padding="same", name="wide")(maps),
        conv(8, 1, trainable=False, name="frozen")(maps),
        keras.layers.Conv2DTranspose(8, 1, name="transposed")(shared(shared(maps))),
    ]
    maps = conv(8, 1, strides=2, name="strided")(keras.layers.Add()(others))
    vector = keras.layers.GlobalAveragePooling2D()(maps)
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(vector))
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    faster = optimize_for_training(model)
    products = {layer.name for layer in faster.layers if isinstance(layer, _MatrixProduct)}
    assert products == {"plain", "whole", "shared"}
    pixels = PIXELS[:, :8, :8, :1].repeat(4, axis=-1)
    for one in (faster, other):
        one.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy", jit_compile=False)
    losses = [one.fit(pixels, LABELS, epochs=2, shuffle=False, verbose=0).history["loss"] for one in (faster, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)  # the regularizer's part too
    assert_same_weights(model, other, 1e-5)


def test_keras_does_not_compile_it_by_xla_unasked() -> None:
    model = tiny_model()
    faster = optimize_for_training(model)
    faster.compile("sgd", "sparse_categorical_crossentropy")
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert not faster.jit_compile


def test_what_is_no_functional_model_is_refused() -> None:
    with pytest.raises(InputError, match="model: got 3; it takes a functional Keras model"):
        optimize_for_training(3)


@pytest.mark.slow
def test_a_whole_networks_step_is_as_near_to_float64_as_kerass() -> None:
    """Rounding grows over the depth of an untrained network, in Keras's own float32 too: float64 judges both.

    The fused kernel adds up in float32 what one thread has: with one thread its error is 2.7 times that of Keras.
    """
    side = 107
    digits = open_source("digits")
    images = np.stack([np.asarray(digits.decode(index).resize((side, side))) for index in range(16)]) / 127.5 - 1
    wanted = np.random.default_rng(1).standard_normal((16, 1792))

    def build_in(policy: str) -> keras.Model:
        keras.utils.set_random_seed(0)
        options: dict[str, Any] = {"include_top": False, "pooling": "avg", "batch_norm_momentum": 0.9}
        return create_inception_resnet_v1(input_shape=(side, side, 3), dtype=policy, **options)

    def step(model: keras.Model, trained: keras.Model) -> list[np.ndarray]:
        """Gradients, and statistics after one pass, in float64."""
        with tf.GradientTape() as tape:
            outputs = trained(tf.constant(images, trained.inputs[0].dtype), training=True)
            loss = tf.reduce_sum(outputs * tf.cast(wanted, outputs.dtype)) / len(images)
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        return [np.asarray(tensor, np.float64) for tensor in (*gradients, *model.non_trainable_variables)]

    exact = build_in("float64")
    truth = step(exact, exact)
    for policy in ("float32", "mixed_bfloat16"):
        errors = []
        for prepare in (optimize_for_training, lambda model: model):
            model = build_in(policy)
            model.set_weights(build_in("float64").get_weights())
            found = step(model, prepare(model))
            pairs = zip(found, truth, strict=True)
            errors.append([np.linalg.norm(mine - theirs) / np.linalg.norm(theirs) for mine, theirs in pairs])
        fused_errors, plain_errors = errors
        print(policy, [(np.median(each), np.max(each)) for each in errors])
        assert np.median(fused_errors) < 4 * np.median(plain_errors)
        assert np.max(fused_errors) < 5 * np.max(plain_errors)
        if policy == "float32":
            assert np.max(fused_errors) < 0.2

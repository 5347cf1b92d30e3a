"""What each argument of `build` does, on the tiny network."""

import math
import warnings
from typing import Any

import keras
import numpy as np
import pytest

from inception_resnet_keras import create_inception_resnet_v1, preprocess_input
from inception_resnet_keras.networks.rows import INCEPTION

from . import tiny
from .tiny import IMAGES, randomised, run


def of(model: keras.Model, kind: Any) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, kind)]


def test_default_model() -> None:
    model = tiny.build()
    assert model.name == "tiny"
    assert model.input_shape == (None, 32, 32, 3)
    out = run(model)
    assert out.shape == (2, tiny.CLASSES)
    np.testing.assert_allclose(out.sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("side", [(7, 7), (7, 40), (33, 20)])
def test_any_size_above_the_least(side: tuple[int, int]) -> None:
    fixed, free = tiny.build(input_shape=(*side, 3)), tiny.build(input_shape=(None, None, 3))
    free.set_weights(randomised(fixed).get_weights())
    images = np.random.default_rng(0).uniform(-1, 1, (2, *side, 3)).astype(np.float32)
    np.testing.assert_allclose(run(free, images), run(fixed, images), rtol=1e-5)
    assert tiny.build(input_shape=[None, side[1], 3]).input_shape == (None, None, side[1], 3)


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels(channels: int) -> None:
    model = tiny.build(input_shape=(32, 32, channels))
    assert model.get_layer("stem_conv_1").kernel.shape == (3, 3, channels, 4)
    assert run(model, np.zeros((1, 32, 32, channels), np.float32)).shape == (1, 3)


def test_numpy_numbers_are_numbers() -> None:
    model = tiny.build(
        num_classes=np.int64(4),
        input_shape=np.zeros((32, 33, 3)).shape,
        dropout_rate=np.float32(0.5),
        batch_norm_momentum=np.float64(0.9),
        weight_decay=np.float16(0.25),
    )
    assert model.output_shape == (None, 4)
    model = tiny.build(input_shape=[np.int32(32), np.int64(32), np.uint8(3)])
    assert keras.models.model_from_json(model.to_json()).input_shape == (None, 32, 32, 3)


def test_without_top() -> None:
    model = tiny.build(include_top=False)
    assert model.output_shape == (None, 1, 1, 10)
    assert not of(model, keras.layers.Dense | keras.layers.Dropout)


@pytest.mark.parametrize(("pooling", "reduce"), [("avg", np.mean), ("max", np.max)])
def test_pooling(pooling: str, reduce: Any) -> None:
    vector = randomised(tiny.build(include_top=False, pooling=pooling, input_shape=(96, 96, 3)))
    last = keras.Model(vector.input, vector.get_layer("final_conv_1_relu").output)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 96, 96, 3)).astype(np.float32)
    assert last.output_shape == (None, 3, 3, 10)
    np.testing.assert_allclose(run(vector, images), reduce(run(last, images), axis=(1, 2)), rtol=1e-5)
    with_top = tiny.build(pooling=pooling)  # as Keras's own applications: ignored under a top
    assert isinstance(with_top.get_layer("pooled"), keras.layers.GlobalAveragePooling2D)


def test_input_tensor() -> None:
    big = keras.Input((40, 48, 3), name="photo")
    model = tiny.build(input_tensor=keras.layers.Cropping2D((4, 8))(big), input_shape=(299, 299, 3))
    assert model.inputs == [big]
    assert model.input_shape == (None, 40, 48, 3)
    plain = tiny.build()
    plain.set_weights(randomised(model).get_weights())
    photos = np.random.default_rng(0).uniform(-1, 1, (2, 40, 48, 3)).astype(np.float32)
    with warnings.catch_warnings(action="error"):  # Keras warns of inputs of another structure
        out = run(model, photos)
    np.testing.assert_allclose(out, run(plain, photos[:, 4:-4, 8:-8]), rtol=1e-5)


def test_input_tensor_of_two_sources() -> None:
    left, right = keras.Input((32, 16, 3)), keras.Input((32, 16, 3))
    model = tiny.build(input_tensor=keras.layers.Concatenate(axis=2)([left, right]))
    assert len(model.inputs) == 2
    halves = [IMAGES[:, :, :16], IMAGES[:, :, 16:]]
    plain = tiny.build()
    plain.set_weights(randomised(model).get_weights())
    np.testing.assert_allclose(run(model, halves), run(plain), rtol=1e-5)


def test_classifier_activation() -> None:
    softmax = tiny.build()
    logits = tiny.build(classifier_activation=None)
    sigmoid = tiny.build(classifier_activation=keras.activations.sigmoid)
    for model in (logits, sigmoid):
        model.set_weights(softmax.get_weights())
    raw = run(logits)
    np.testing.assert_allclose(run(softmax), np.exp(raw) / np.exp(raw).sum(1, keepdims=True), rtol=1e-4)
    np.testing.assert_allclose(run(sigmoid), 1 / (1 + np.exp(-raw)), rtol=1e-4)
    assert logits.layers[-1].name == tiny.build(classifier_activation="linear").layers[-1].name == "logits"


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    model = tiny.build()
    dropout = model.get_layer("dropout")
    keras.utils.set_random_seed(1)
    out = keras.ops.convert_to_numpy(dropout(np.ones((100, 1000), np.float32), training=True))
    assert abs((out == 0).mean() - 0.2) < 0.01
    np.testing.assert_allclose(out[out != 0], 1 / 0.8, rtol=1e-6)
    assert tiny.build(dropout_rate=0).get_layer("dropout").rate == 0
    assert run(model).tolist() == run(model).tolist()  # none of it in inference


def test_batch_norm() -> None:
    norms = of(tiny.build(batch_norm_momentum=0.5), keras.layers.BatchNormalization)
    assert {(norm.momentum, norm.epsilon, norm.scale, norm.center) for norm in norms} == {(0.5, 0.001, False, True)}
    assert {norm.momentum for norm in of(tiny.build(), keras.layers.BatchNormalization)} == {0.9997}
    assert not any("gamma" in weight.path for weight in tiny.build().weights)
    norms[0].moving_mean.assign([0.0] * 4)
    norms[0](np.full((1, 2, 2, 4), 8.0, np.float32), training=True)
    np.testing.assert_allclose(norms[0].moving_mean, [4.0] * 4)  # the share kept is the momentum


def test_weight_decay_is_l2_of_kernels_alone() -> None:
    model = randomised(tiny.build(weight_decay=0.01, aux_head=True))
    kernels = [weight for weight in model.weights if weight.path.endswith("/kernel")]
    assert len(kernels) == len(of(model, keras.layers.Conv2D | keras.layers.Dense))
    expected = 0.01 * sum(float(np.sum(np.square(kernel.numpy()))) for kernel in kernels)
    assert math.isclose(float(sum(model.losses)), expected, rel_tol=1e-5)
    plain = tiny.build(aux_head=True)
    assert plain.losses == []
    plain.set_weights(model.get_weights())
    labels = np.array([0, 2])
    for each in (model, plain):
        each.compile(loss="sparse_categorical_crossentropy", jit_compile=False)
    both = [each.evaluate(IMAGES, [labels, labels], verbose=0, return_dict=True)["loss"] for each in (model, plain)]
    assert math.isclose(both[0] - both[1], expected, rel_tol=1e-4)


def test_include_preprocessing_is_preprocess_input() -> None:
    inside, outside = tiny.build(include_preprocessing=True), tiny.build()
    outside.set_weights(randomised(inside).get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_allclose(run(inside, pixels), run(outside, preprocess_input(pixels)), rtol=1e-4)
    scaled = inside.get_layer("preprocess")(np.array([0.0, 127.5, 255.0], np.float32))
    np.testing.assert_allclose(scaled, [-1, 0, 1], atol=1e-6)
    assert tiny.TINY.preprocessing is INCEPTION


def test_uint8_input_tensor() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    model = tiny.build(input_tensor=keras.Input((32, 32, 3), dtype="uint8"), include_preprocessing=True)
    assert run(model, pixels).shape == (2, 3)
    with pytest.raises(ValueError, match="input_tensor: got 'uint8'"):
        tiny.build(input_tensor=keras.Input((32, 32, 3), dtype="uint8"))


@pytest.mark.parametrize(
    "dtype", ["mixed_bfloat16", "mixed_float16", "float64", "bfloat16", keras.DTypePolicy("mixed_bfloat16")]
)
def test_dtype(dtype: Any) -> None:
    policy = keras.dtype_policies.get(dtype)
    model = tiny.build(dtype=dtype, include_preprocessing=True, aux_head=True)
    float32 = {"image", "preprocess", "logits", "predictions", "aux_logits", "aux_predictions"}
    for layer in model.layers:
        wanted = "float32" if layer.name in float32 else policy.compute_dtype
        assert layer.compute_dtype == wanted, layer.name
        assert layer.output.dtype == wanted, layer.name
    assert {weight.dtype for weight in model.get_layer("stem_conv_1").weights} == {policy.variable_dtype}
    outs = model(IMAGES)
    assert all(keras.backend.standardize_dtype(out.dtype) == "float32" for out in outs)


def test_half_precision_is_close_to_single() -> None:
    single = randomised(tiny.build())
    half = tiny.build(dtype="mixed_bfloat16")
    half.set_weights(single.get_weights())
    np.testing.assert_allclose(run(half), run(single), atol=0.1)


def test_the_global_policy_is_the_default() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model, told = tiny.build(), tiny.build(dtype="float32")
    finally:
        keras.config.set_dtype_policy(before)
    assert model.get_layer("stem_conv_1").compute_dtype == "bfloat16"
    assert model.input.dtype == told.input.dtype == "float32"
    assert model.output.dtype == "float32"
    assert {layer.compute_dtype for layer in told.layers[1:]} == {"float32"}


def test_channels_first_is_channels_last_transposed(channels_first: None) -> None:
    first = randomised(tiny.build(input_shape=(3, 32, 32), aux_head=True))
    assert first.get_layer("a01_sum").output.shape == (None, 7, 4, 4)
    keras.config.set_image_data_format("channels_last")
    last = tiny.build(aux_head=True)
    last.set_weights(first.get_weights())
    for theirs, ours in zip(first(IMAGES.transpose(0, 3, 1, 2)), last(IMAGES), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-4)


def test_channels_first_trains(channels_first: None) -> None:
    model = tiny.build(tiny.FEW, input_shape=(3, 32, 32))
    model.compile(loss="sparse_categorical_crossentropy", jit_compile=False)
    loss = model.fit(IMAGES.transpose(0, 3, 1, 2), np.array([0, 1]), verbose=0).history["loss"]
    assert np.isfinite(loss).all()


def test_name() -> None:
    assert tiny.build(name="mine").name == "mine"
    with pytest.raises(ValueError, match="name"):
        tiny.build(name="no/slash")


def test_two_builds_have_the_same_names() -> None:
    one, two = tiny.build(aux_head=True), tiny.build(aux_head=True)
    assert [layer.name for layer in one.layers] == [layer.name for layer in two.layers]
    assert [weight.path for weight in one.weights] == [weight.path for weight in two.weights]
    assert not any(one_weight is two_weight for one_weight, two_weight in zip(one.weights, two.weights, strict=True))


def test_auxiliary_head_without_top() -> None:
    model = tiny.build(aux_head=True, include_top=False, pooling="avg")
    assert model.output_shape == [(None, 10), (None, tiny.CLASSES)]


def test_models_nest_and_train() -> None:
    trunk = tiny.build(tiny.FEW, include_top=False, pooling="avg")
    model = keras.Sequential([keras.Input((32, 32, 3)), trunk, keras.layers.Dense(2, activation="softmax")])
    model.compile(loss="sparse_categorical_crossentropy", jit_compile=False)
    before = [kernel.numpy() for kernel in trunk.trainable_weights]
    model.fit(IMAGES, np.array([0, 1]), verbose=0)
    moved = [not np.array_equal(old, new.numpy()) for old, new in zip(before, trunk.trainable_weights, strict=True)]
    assert moved[0]
    assert trunk.get_layer("stem_conv_1") is trunk.layers[1]


def test_training_learns_and_moves_every_weight() -> None:
    keras.utils.set_random_seed(0)
    model = tiny.build(aux_head=True, dropout_rate=0, batch_norm_momentum=0.5, weight_decay=1e-5)
    losses = ["sparse_categorical_crossentropy"] * 2
    model.compile(keras.optimizers.Adam(0.02), losses, loss_weights=[1.0, 0.4], jit_compile=False)
    before = [weight.numpy() for weight in model.weights]
    images = np.random.default_rng(0).uniform(-1, 1, (6, 32, 32, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 0, 1, 2])
    history = model.fit(images, [labels, labels], epochs=25, verbose=0).history["loss"]
    assert history[-1] < history[0] / 2
    still = [weight.path for weight, old in zip(model.weights, before, strict=True) if np.array_equal(weight, old)]
    assert still == []


def test_the_default_image_is_the_same_in_channels_first(channels_first: None) -> None:
    del channels_first
    assert create_inception_resnet_v1(depths=(1, 1, 1)).input_shape == (None, 3, 299, 299)

"""Whole models that Keras 2 wrote: opened through the door, they compute what Keras 2 computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import inception_resnet_keras as irk
from inception_resnet_keras import networks
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.deploy.convert import convert_checkpoint
from inception_resnet_keras.models.model_file import load_keras_model
from inception_resnet_keras.models.open import open_model
from inception_resnet_keras.networks import build as building
from inception_resnet_keras.networks import names
from inception_resnet_keras.networks.edits import with_depths
from inception_resnet_keras.networks.rows import Network

from .. import tiny

tf_keras = pytest.importorskip("tf_keras")
L: Any = tf_keras.layers
IMAGE = (24, 24, 3)
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.uniform(0, 255, (3, *IMAGE)).astype(np.float32)
ENDINGS = (".keras", ".h5")


def of(build: Callable[[Any], Any], shape: tuple[int | None, ...] = IMAGE, **options: Any) -> Any:
    """A functional model of Keras 2."""
    image = L.Input(shape, **options)
    return tf_keras.Model(image, build(image))


def sequential(*layers: Any) -> Any:
    return tf_keras.Sequential([L.Input(IMAGE), *layers])


def body(x: Any) -> Any:
    """Two convolutions and a block of keras.applications' Inception-ResNet, whose scale is in a layer of its own."""
    from tf_keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    for _ in range(2):
        x = L.Conv2D(4, 3, use_bias=False)(x)
        x = L.Activation("relu")(L.BatchNormalization(scale=False)(x))
    return CustomScaleLayer(0.17)([x, L.Conv2D(4, 1)(x)])


def trunk() -> Any:
    return of(body)


def head(x: Any, activation: Any = "softmax") -> Any:
    return L.Dense(5, activation=activation)(L.GlobalAveragePooling2D()(x))


def many_layers(x: Any) -> Any:
    x = L.SeparableConv2D(5, 3, activation="hard_sigmoid")(L.Rescaling(1 / 255)(x))
    x = L.PReLU(shared_axes=[1, 2])(L.DepthwiseConv2D(3)(x))
    x = L.Conv2DTranspose(4, 3, strides=2)(L.LeakyReLU(0.2)(x))
    x = L.GroupNormalization(2)(L.LayerNormalization()(x))
    x = L.ThresholdedReLU(0.1)(L.UpSampling2D(interpolation="bilinear")(x))
    x = L.ELU(0.5)(L.AlphaDropout(0.1)(L.GaussianNoise(0.1)(L.SpatialDropout2D(0.1)(x))))
    x = L.Conv2D(4, 3, activation="leaky_relu", kernel_regularizer="l2")(L.ReLU(6.0, 0.1, 0.05)(x))
    return head(L.AveragePooling2D(padding="same")(L.ZeroPadding2D(1)(L.Cropping2D(1)(L.RandomHeight(0.1)(x)))))


def activations(x: Any) -> Any:
    x = L.Flatten()(L.GlobalAveragePooling2D(keepdims=True)(L.Rescaling(1 / 255)(x)))
    every = "relu relu6 elu selu sigmoid softplus softsign tanh exponential gelu mish swish hard_sigmoid leaky_relu"
    return L.Dense(4, activation=L.LeakyReLU(0.3))(
        L.Concatenate()([L.Dense(3, activation=a)(x) for a in every.split()])
    )


def twice() -> Any:
    inner = tf_keras.Sequential([L.Rescaling(1 / 255), of(lambda x: trunk()(L.Conv2D(3, 3, padding="same")(x)))])
    return of(lambda x: head(inner(x)))


def shared() -> Any:
    one = trunk()
    return of(lambda x: head(L.Concatenate()([one(x), one(L.Rescaling(0.5)(x))])))


def shared_layer() -> Any:
    one = L.Conv2D(3, 3, padding="same")
    return of(lambda x: head(one(one(one(x)))))


def trained() -> Any:
    model = sequential(
        L.Rescaling(1 / 127.5, -1), trunk(), L.GlobalAveragePooling2D(), L.Dense(5, activation="softmax")
    )
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(PIXELS, np.zeros((3, 5)), verbose=0)
    return model


def frozen() -> Any:
    inner = trunk()
    inner.trainable = False
    return of(lambda x: head(inner(x, training=False)))


def without_input() -> Any:
    model = tf_keras.Sequential([L.Conv2D(3, 3), L.BatchNormalization(), L.Flatten(), L.Dense(2)])
    model(PIXELS)
    return model


def two_inputs_inside() -> Any:
    one, two = L.Input(IMAGE), L.Input(IMAGE)
    inner = tf_keras.Model([one, two], L.Add()([L.Conv2D(3, 3, padding="same")(one), two]))
    return of(lambda x: head(inner([x, L.Rescaling(0.1)(x)])))


def normalized() -> Any:
    layer = L.Normalization()
    layer.adapt(PIXELS)
    return of(lambda x: head(body(layer(x))))


AUGMENTATION = [
    (L.RandomFlip, ()),
    (L.RandomRotation, (0.1,)),
    (L.RandomZoom, (0.2,)),
    (L.RandomContrast, (0.1,)),
    (L.RandomBrightness, (0.1,)),
    (L.RandomTranslation, (0.1, 0.1)),
]


def augmented() -> Any:
    augment = tf_keras.Sequential([layer(*arguments) for layer, arguments in AUGMENTATION])
    layers = [augment, L.Rescaling(1 / 127.5, offset=-1), trunk(), L.GlobalAveragePooling2D(), L.Dropout(0.3)]
    return sequential(*layers, L.Dense(1, activation="sigmoid"))


def preprocessed(x: Any) -> Any:
    return tf_keras.applications.inception_resnet_v2.preprocess_input(x)


def scaled_by_torch(x: Any) -> Any:
    return tf_keras.applications.imagenet_utils.preprocess_input(x / 1.0, mode="torch")


BUILDS: dict[str, Callable[[], Any]] = {
    "flat": lambda: of(lambda x: head(body(x))),
    "nested": lambda: of(lambda x: head(trunk()(L.Rescaling(1 / 127.5, -1)(x)))),
    "sequential": lambda: sequential(trunk(), L.GlobalAveragePooling2D(), L.Dense(5)),
    "trunk first": lambda: tf_keras.Sequential([trunk(), L.GlobalAveragePooling2D(), L.Dense(5)]),
    "twice": twice,
    "shared": shared,
    "shared layer": shared_layer,
    "trained": trained,
    "frozen": frozen,
    "without an input": without_input,
    "inside without an input": lambda: of(
        lambda x: head(tf_keras.Sequential([L.Conv2D(3, 3), L.BatchNormalization()])(x))
    ),
    "two inputs inside": two_inputs_inside,
    "augmented": augmented,
    "preprocess_input": lambda: of(lambda x: head(body(preprocessed(x)))),
    "arithmetic": lambda: of(
        lambda x: head(body(L.Add()([1.0 - x / 255.0, x[:, ::-1] * 0.5 / 255.0, (-x) ** 2 / 65025.0])))
    ),
    "torch": lambda: of(lambda x: head(body(scaled_by_torch(x)))),
    "norm": lambda: of(lambda x: tf.math.l2_normalize(head(body(tf.cast(x, tf.float32) / 127.5 - 1), None), axis=1)),
    "mean": lambda: of(lambda x: tf.reduce_mean(body(x), [1, 2])),
    "tf.image.resize": lambda: of(lambda x: head(trunk()(tf.image.resize(x / 255.0, (24, 24)))), (None, None, 3)),
    "resizing": lambda: of(lambda x: head(trunk()(L.Resizing(24, 24)(x))), (32, 30, 3)),
    "centre": lambda: of(lambda x: head(trunk()(L.CenterCrop(24, 24)(x))), (32, 30, 3)),
    "standardised": lambda: of(lambda x: head(body(tf.image.per_image_standardization(x)))),
    "normalized": normalized,
    "normalized by numbers": lambda: of(
        lambda x: head(body(L.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0])(x)))
    ),
    "many layers": lambda: of(many_layers),
    "activations": lambda: of(activations),
    "bytes": lambda: of(lambda x: head(body(tf.image.convert_image_dtype(x, tf.float32))), dtype="uint8"),
}


def randomised(model: Any) -> Any:
    """With weights away from their start, of a size that keeps numbers small."""
    for weight in model.weights:
        if weight.dtype.is_floating:
            width = np.prod(weight.shape[:-1]) if len(weight.shape) > 1 else 1
            sign = 1 if "variance" in weight.name else RANDOM.choice([-1, 1])
            weight.assign(RANDOM.uniform(0.2, 1, weight.shape) / width * sign)
    return model


def images_for(model: Any) -> np.ndarray:
    shape = [side or 30 for side in model.input_shape[1:]]
    return RANDOM.uniform(0, 255, (3, *shape)).astype(model.inputs[0].dtype.as_numpy_dtype)


@pytest.mark.parametrize("name", BUILDS)
def test_a_file_of_keras_2_computes_what_keras_2_computes(name: str, tmp_path: Path) -> None:
    model = BUILDS[name]()
    if name not in ("normalized", "trained"):
        randomised(model)
    images = images_for(model)
    expected = model.predict(images, verbose=0)
    for ending in ENDINGS:
        model.save(tmp_path / f"a{ending}")
        found = load_keras_model(tmp_path / f"a{ending}", None).predict(images, verbose=0)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), err_msg=ending)


def test_half_precision_stays_half_precision(tmp_path: Path) -> None:
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        x = L.Input(IMAGE)
        y = head(trunk()(L.Rescaling(1 / 255)(x)), None)
        model = randomised(tf_keras.Model(x, L.Activation("softmax", dtype="float32")(y)))
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    model.save(tmp_path / "a.h5")
    found = load_keras_model(tmp_path / "a.h5", None)
    assert {layer.compute_dtype for layer in found.layers} == {"float16", "float32"}
    np.testing.assert_allclose(found.predict(PIXELS, verbose=0), model.predict(PIXELS, verbose=0), atol=2e-2)


class Doubled(L.Layer):
    """A user's own layer: its computation is code."""

    def call(self, x: Any) -> Any:
        return 2 * x


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "lambda": (lambda: of(lambda x: head(body(L.Lambda(lambda z: z / 255)(x)))), "'lambda.*' is a Lambda"),
    "first": (
        lambda: tf_keras.Sequential([L.Lambda(lambda z: z / 255, input_shape=IMAGE), trunk(), L.Flatten()]),
        "'lambda.*' is a Lambda",
    ),
    "layer": (
        lambda: of(lambda x: head(body(Doubled(name="mine")(x)))),
        "'mine' has the class Doubled, which",
    ),
    "activation": (lambda: of(lambda x: head(body(x), tf.nn.crelu)), "has the activation 'crelu"),
    "training": (lambda: of(lambda x: head(trunk()(x, training=True))), "is called with training=True"),
    "operation": (lambda: of(lambda x: head(body(tf.math.cumsum(x, axis=1)))), "the TensorFlow operation math.cumsum"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_code_is_refused_with_the_layer_and_the_way_out(name: str, tmp_path: Path) -> None:
    build, said = REFUSED[name]
    model = build()
    for ending in ENDINGS:
        path = tmp_path / f"a{ending}"
        model.save(path)
        with pytest.raises(InputError, match=said) as refused:
            load_keras_model(path, None)
        assert str(refused.value).startswith(f"{path}: ")
        assert f"inception-resnet-keras convert {path} OUT.keras" in str(refused.value)


def test_damaged_graphs_end_in_an_input_error(tmp_path: Path) -> None:
    """Whatever stands in the configuration: values of it are exchanged for others, each in turn."""
    randomised(of(lambda x: head(trunk()(L.Rescaling(1 / 255)(x))))).save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        config = json.loads(file.attrs["model_config"])

    def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [path, *(place for key, each in items for place in places(each, (*path, key)))]

    every = places(config)[1:]
    for place in RANDOM.choice(len(every), 60, replace=False):
        values: list[Any] = [None, 3, "x", [], {}, [[["x", 0, 0, {}]]]]
        for value in values:
            changed = json.loads(json.dumps(config))
            inside = changed
            for key in every[place][:-1]:
                inside = inside[key]
            inside[every[place][-1]] = value
            with h5py.File(tmp_path / "a.h5", "a") as file:
                file.attrs["model_config"] = json.dumps(changed)
            with suppress(InputError):
                load_keras_model(tmp_path / "a.h5", None)


# Networks of this package, built by Keras 2


def in_keras_2(network: Network, side: int, classes: int) -> Any:
    """A network of the tables, its operations made of Keras 2's layers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "keras", tf_keras)
        operations = building.KerasOperations(
            dropout_rate=0.2,
            batch_norm_momentum=0.9,
            synchronized_batch_norm=False,
            weight_decay=1e-5,
            data_format="channels_last",
            dtype=None,
        )
        image = L.Input((side, side, 3))
        maps, _ = operations.trunk(network, operations.rescale_pixels(image, network))
        logits = operations.classifier(maps, network, classes)
        return tf_keras.Model(image, operations.activation(logits, "softmax", names.PREDICTIONS))


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_verb_runs_the_file_as_it_is(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, variants in tiny.KNOWN.items():
        monkeypatch.setitem(networks.NETWORKS, name, variants)
    model = randomised(in_keras_2(tiny.FEW, tiny.SIDE, 3))
    images = RANDOM.integers(0, 256, (2, tiny.SIDE, tiny.SIDE, 3)).astype(np.float32)
    path = tmp_path / f"a{ending}"
    model.save(path)
    expected = model.predict(images, verbose=0)
    opened = open_model(path)
    np.testing.assert_allclose(opened.run(images), expected, atol=1e-5)
    exported = tmp_path / "a.onnx"
    irk.export_model(path, exported, "onnx", class_names=["a", "b", "c"])
    np.testing.assert_allclose(open_model(exported).run(images), expected, atol=1e-5)
    explained = irk.explain(load_keras_model(path, None), images, steps=2)
    assert [each.probability for each in explained] == pytest.approx(list(expected.max(axis=1)), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "theirs"), [(".h5", True), (".keras", False)])
def test_whole_networks_are_converted_by_their_own_graphs(ending: str, theirs: bool, tmp_path: Path) -> None:
    """Of keras.applications, and of the table's layers in Keras 2, of few blocks: every layer computes the same."""
    tf_keras.utils.set_random_seed(0)
    if theirs:
        model = tf_keras.applications.InceptionResNetV2(weights=None, classes=7, input_shape=(75, 75, 3))
    else:
        model = in_keras_2(with_depths(networks.find("inception_resnet_v2", "slim"), (1, 1, 2)), 75, 7)
    path = tmp_path / f"a{ending}"
    model.save(path)
    images = RANDOM.uniform(0, 255, (2, 75, 75, 3)).astype(np.float32)
    pixels = images / 127.5 - 1 if theirs else images
    expected = model.predict(pixels, verbose=0)
    found = keras.ops.convert_to_numpy(load_keras_model(path, None)(pixels, training=False))
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())
    _, check = convert_checkpoint(path, tmp_path / "out.keras")
    assert check.compared == ("layers" if theirs else "outputs")
    assert check.difference < 1e-5
    converted = keras.saving.load_model(tmp_path / "out.keras")(pixels, training=False)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(converted), expected, atol=1e-5 * expected.max())

"""A model for inference computes what the one it came from does, in fewer steps."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inception_resnet_keras import endpoints, feature_extractor, optimize_for_inference
from inception_resnet_keras import networks as networks_module
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.models.model_file import Card, load_model, save_model
from inception_resnet_keras.networks import edits
from inception_resnet_keras.networks.build import build
from inception_resnet_keras.networks.rows import AVG_POOL, MAX_POOL, Conv, Fork, Network, Pool, Repeat, Residual
from inception_resnet_keras.networks.trace import trace

from .. import tiny
from ..networks.test_portability import ELSEWHERE
from ..whole import WHOLE, WholeNetwork

JOIN = pytest.mark.parametrize("join", [False, True], ids=["apart", "joined"])
layers = keras.layers


def trained(model: keras.Model) -> keras.Model:
    """As training leaves one: every weight and statistic away from its start, outputs of about the same size."""
    rng = np.random.default_rng(2)
    for weight in model.weights:
        name = weight.path.split("/")[-1]
        if name in ("moving_variance", "gamma"):
            weight.assign(rng.uniform(0.3, 2, weight.shape))
        elif name in ("moving_mean", "beta", "bias"):
            weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


def outputs(model: Any, images: Any) -> list[np.ndarray]:
    found = keras.tree.flatten(model(images, training=False))
    return [keras.ops.convert_to_numpy(keras.ops.cast(each, "float32")) for each in found]


def assert_same(model: keras.Model, images: Any = tiny.IMAGES, *, join: bool = True, rtol: float = 1e-4) -> keras.Model:
    """Optimises the model, and holds its outputs to the model's: relative to their size, and not all alike."""
    weights = [np.array(weight) for weight in model.variables]
    before = outputs(model, images)
    optimised = optimize_for_inference(model, join_siblings=join)
    after = outputs(optimised, images)
    for old, new in zip(before, after, strict=False):
        assert old.std() > 0
        np.testing.assert_allclose(new, old, rtol=rtol, atol=rtol * np.abs(old).max())
    for weight, old in zip(model.variables, weights, strict=True):
        np.testing.assert_array_equal(weight, old)
    for old, new in zip(before, outputs(model, images), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not {id(layer) for layer in model.layers} & {id(layer) for layer in optimised.layers}
    return optimised


def kinds(model: keras.Model) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


@JOIN
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"include_preprocessing": True, "dropout_rate": 0.0},
        {"aux_head": True, "weight_decay": 1e-4},
        {"include_top": False, "input_shape": (None, None, 3)},
        {"include_top": False, "pooling": "max"},
        {"network": replace(tiny.TINY, embedding=6)},
        {"network": replace(tiny.TINY, embedding=6), "num_classes": None},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_the_tiny_network(options: dict[str, Any], join: bool) -> None:
    top: dict[str, Any] = {} if options.get("include_top") is False else {"classifier_activation": None}
    model = trained(tiny.build(**options, **top))
    optimised = assert_same(model, join=join)
    assert not {"BatchNormalization", "Dropout"} & set(kinds(optimised))
    assert kinds(optimised).count("Rescaling") == ("include_preprocessing" in options)
    assert not any(getattr(layer, "kernel_regularizer", None) for layer in optimised.layers)
    assert optimised.losses == []
    assert not any(layer.name.startswith("aux") for layer in optimised.layers)
    assert optimised.name == model.name


NETWORKS = [network for variants in networks_module.NETWORKS.values() for network in variants.values()]


@pytest.mark.parametrize(
    "network", [NETWORKS[0], *(pytest.param(each, marks=pytest.mark.slow) for each in NETWORKS[1:])]
)
def test_every_table_row_is_a_step(network: Network) -> None:
    """One convolution a row, of the row's name, with a bias and its ReLU; the counts follow from the table."""
    one = edits.with_depths(network, (1, 1, 1))
    model = build(one, 5, aux_head=bool(network.aux), input_shape=(107, 107, 3))
    apart = optimize_for_inference(model, join_siblings=False)
    nodes = {node.name: node for node in trace(one, (107, 107), **networks_module.head(one, 5))}
    convolutions = {layer.name: layer for layer in apart.layers if isinstance(layer, layers.Conv2D)}
    rows = {name: node.row for name, node in nodes.items() if isinstance(node.row, Conv)}
    assert set(convolutions) == set(rows)
    for name, row in rows.items():
        layer = convolutions[name]
        assert layer.use_bias
        assert layer.activation is (keras.activations.linear if row.linear else keras.activations.relu), name
        shape = nodes[name].shape
        kernel = int(np.prod(layer.kernel.shape))
        assert shape == layer.output.shape[1:]
        assert layer.count_params() == kernel + row.filters, name
        assert np.prod(layer.kernel_size) * row.filters * layer.kernel.shape[2] == kernel
    assert not {"BatchNormalization", "Dropout", "Rescaling"} & set(kinds(apart))
    assert apart.output.shape == (None, 5)
    joined = optimize_for_inference(model)
    heads = {"stem", "reduction_a", "reduction_b", "a01", "b01", "c01"}
    assert heads <= set(endpoints(joined))
    assert sum(isinstance(layer, layers.Conv2D) for layer in joined.layers) < len(rows)
    assert joined.count_params() == apart.count_params()


VARIANTS = [*(WHOLE[index] for index in (0, 1, 2, 4, 5)), WholeNetwork("inception_resnet_v1", "facenet")]


@pytest.mark.slow
@pytest.mark.parametrize("case", VARIANTS, ids=str)
def test_whole_networks(case: WholeNetwork) -> None:
    """Every variant, its statistics moved by what they read; logits or embedding."""
    keras.utils.set_random_seed(3)
    classes = None if case.variant == "facenet" else 10
    model = trained(build(case.spec, classes, classifier_activation=None, input_shape=(107, 107, 3)))
    images = np.random.default_rng(0).uniform(-1, 1, (2, 107, 107, 3)).astype(np.float32)
    for norm in model.layers:
        if isinstance(norm, layers.BatchNormalization):
            norm.momentum = 0.5  # of two noisy pictures alone, statistics would make float32's last digits the first
    model(images, training=True)
    optimised = assert_same(model, images)
    assert len(optimised.layers) < 0.5 * len(model.layers)


@JOIN
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float64"])
def test_policies_stay(policy: str, join: bool) -> None:
    model = trained(tiny.build(dtype=policy, classifier_activation=None))
    half = "16" in policy
    optimised = assert_same(model, join=join, rtol=0.03 if half else 1e-5)
    for layer in optimised.layers:
        name = layer.name.removesuffix("_joined")
        assert layer.dtype_policy.name == model.get_layer(name).dtype_policy.name, layer.name
        assert [weight.dtype for weight in layer.weights] == [layer.variable_dtype] * len(layer.weights)


@JOIN
def test_channels_first(channels_first: None, join: bool) -> None:
    del channels_first
    model = trained(tiny.build(input_shape=(3, tiny.SIDE, tiny.SIDE), classifier_activation=None))
    optimised = assert_same(model, np.moveaxis(tiny.IMAGES, -1, 1), join=join)
    assert {layer.data_format for layer in optimised.layers if hasattr(layer, "data_format")} == {"channels_first"}
    left = [layer.name for layer in optimised.layers if isinstance(layer, layers.BatchNormalization)]
    # There are as many filters as the map is wide, see `bias_is_safe`.
    widths = {layer.name: (layer.filters, layer.output.shape[-1]) for layer in model.layers if "filters" in dir(layer)}
    assert left == [f"{name}_bn" for name, (filters, width) in widths.items() if filters == width]
    assert 0 < len(left) < 10


def test_channels_first_of_any_size(channels_first: None) -> None:
    del channels_first
    keras.utils.set_random_seed(1)
    model = trained(build(tiny.TINY, 3, input_shape=(3, None, None), classifier_activation=None))
    for side in (32, 35, 41):
        assert_same(model, np.random.default_rng(0).uniform(-1, 1, (2, 3, side, side)).astype(np.float32), join=True)


def test_keras_adds_a_bias_along_the_wrong_axis(channels_first: None) -> None:
    """Keras 3.15 on TensorFlow: where this fails, `bias_is_safe` has become needless."""
    del channels_first
    convolution = layers.Conv2D(4, 1, kernel_initializer="zeros", bias_initializer=lambda shape, dtype: np.arange(4.0))
    found = keras.ops.convert_to_numpy(convolution(np.ones((1, 3, 4, 4), np.float32)))
    assert (found[0, :, 0, 0] != np.arange(4)).any()


# Random networks of the tables' kinds of rows.
convs = st.builds(
    Conv,
    st.integers(1, 4),
    st.sampled_from([1, 1, 1, 3, (1, 3), (3, 1)]),
    linear=st.booleans(),
)

rows = st.one_of(convs, convs, st.just(AVG_POOL), st.just(Pool("max")))
branches = st.lists(st.lists(rows, min_size=1, max_size=3), min_size=1, max_size=3)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    scale = st.sampled_from([None, 1.0, 0.1, 0.3])
    repeats = [
        Repeat(
            Residual(draw(branches), name=name) if draw(st.booleans()) else Fork(draw(branches), name=name),
            draw(st.integers(1, 2)),
            scale=draw(scale),
            activation=draw(st.booleans()),
        )
        for name in "abc"[: draw(st.integers(1, 3))]
    ]
    return Network(
        name="random",
        variant="drawn",
        stem=[Conv(draw(st.integers(1, 4)), 3, stride=2, padding="valid"), MAX_POOL, *draw(st.lists(rows, max_size=2))],
        stages=repeats,
        final=draw(st.lists(convs, max_size=1)),
        embedding=draw(st.sampled_from([None, 4])),
    )


@settings(max_examples=12)
@given(networks(), st.booleans(), st.booleans(), st.integers(0, 9))
def test_random_networks(network: Network, join: bool, top: bool, seed: int) -> None:
    keras.utils.set_random_seed(seed)
    images = tiny.IMAGES[:, :19, :19]
    model = build(network, 3, include_top=top, input_shape=(None, None, 3), classifier_activation=None)
    trained(model)
    before = outputs(model, images)[0]
    after = outputs(optimize_for_inference(model, join_siblings=join), images)[0]
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4 * max(1e-3, np.abs(before).max()))


# Models that were changed after they were built.
class Doubled(keras.Layer):
    """A user's own layer, with a weight."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x: Any) -> Any:
        return 2 * self.factor * x


def small_image() -> Any:
    return keras.Input((8, 8, 3))


def conv(x: Any, filters: int = 4, **options: Any) -> Any:
    return layers.Conv2D(filters, options.pop("size", 1), **options)(x)


def shared_convolution() -> keras.Model:
    x = small_image()
    shared, norm = layers.Conv2D(3, 3, padding="same", name="shared"), layers.BatchNormalization(name="shared_bn")
    return keras.Model(x, layers.Activation("relu")(norm(shared(norm(shared(x))))))


def shared_norm() -> keras.Model:
    """A batch norm that two convolutions' outputs go through: it goes into both."""
    x = small_image()
    norm = layers.BatchNormalization(scale=True)
    return keras.Model(x, layers.Add()([norm(conv(x)), norm(conv(x, size=3, padding="same"))]))


def inner_output() -> keras.Model:
    x = small_image()
    inside = conv(x, use_bias=False)
    return keras.Model(x, {"inside": inside, "end": layers.ReLU()(layers.BatchNormalization()(inside))})


def two_readers() -> keras.Model:
    x = small_image()
    inside = conv(x)
    return keras.Model(x, layers.Concatenate()([inside, layers.BatchNormalization()(inside)]))


def unknown_between() -> keras.Model:
    x = small_image()
    return keras.Model(x, layers.BatchNormalization()(Doubled()(layers.BatchNormalization()(conv(x)))))


def activated_before_norm() -> keras.Model:
    x = small_image()
    y = layers.BatchNormalization()(conv(x, activation="relu"))
    return keras.Model(x, layers.BatchNormalization()(layers.Activation("relu")(conv(y))))


def other_activations() -> keras.Model:
    x = small_image()
    y = layers.BatchNormalization()(conv(x, size=3, strides=2, dilation_rate=1))
    y = layers.BatchNormalization(center=False)(conv(layers.Activation("swish")(y), groups=2))
    return keras.Model(x, conv(layers.LeakyReLU(0.2)(layers.ReLU(max_value=6.0)(y)), size=2, activation="tanh"))


def other_axis() -> keras.Model:
    """A batch norm over rows and not over channels."""
    x = small_image()
    return keras.Model(x, layers.BatchNormalization(axis=1)(conv(x, filters=8)))


def rescalings() -> keras.Model:
    x = small_image()
    y = layers.Rescaling(0.3, offset=0.2)(layers.BatchNormalization()(conv(layers.Rescaling(2.0)(x), use_bias=False)))
    return keras.Model(x, layers.Rescaling([1.0, 2.0, 3.0, 4.0])(layers.Dropout(0.5)(y)))


def operations() -> keras.Model:
    """Calls of keras.ops, with several outputs and with arguments by name."""
    x = small_image()
    first, second = keras.ops.split(layers.BatchNormalization()(conv(x)), 2, axis=-1)
    y = keras.ops.concatenate([second * 3.0, keras.ops.relu(first)], axis=-1)
    return keras.Model(x, keras.ops.mean(conv(y), axis=(1, 2)))


def separable() -> keras.Model:
    x = small_image()
    y = layers.BatchNormalization()(layers.SeparableConv2D(5, 3)(layers.DepthwiseConv2D(3)(x)))
    y = layers.BatchNormalization()(layers.Conv2DTranspose(3, 2)(y))
    return keras.Model(x, layers.GlobalAveragePooling2D()(y))


def dense_head() -> keras.Model:
    x = small_image()
    y = layers.Dense(6, use_bias=False)(layers.Flatten()(layers.BatchNormalization()(conv(x))))
    y = layers.Dropout(0.5)(layers.Activation("relu")(layers.BatchNormalization()(y)))
    return keras.Model(x, layers.Dense(2, kernel_regularizer="l2")(layers.Dropout(0.5)(y)))


def lambdas() -> keras.Model:
    x = small_image()
    return keras.Model(x, layers.Lambda(lambda x: x * 2.0, name="twice")(layers.BatchNormalization()(conv(x))))


def sequential() -> keras.Model:
    return keras.Sequential(
        [small_image(), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU(), layers.Dropout(0.1)]
    )


def several_inputs() -> keras.Model:
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    y = layers.Add()([layers.BatchNormalization()(conv(left)), layers.BatchNormalization()(conv(right))])
    return keras.Model({"left": left, "right": right}, [y, layers.Dropout(0.5)(y)])


CHANGED = [
    *(shared_convolution, shared_norm, inner_output, two_readers, unknown_between, activated_before_norm),
    *(other_activations, other_axis, rescalings, operations, separable, dense_head, lambdas, sequential),
    several_inputs,
]

LEFT = {  # batch norms that cannot go anywhere
    shared_convolution: 1,
    inner_output: 1,
    two_readers: 1,
    unknown_between: 1,
    activated_before_norm: 2,
    other_axis: 1,
    separable: 2,
}


@JOIN
@pytest.mark.parametrize("make", CHANGED, ids=lambda make: make.__name__)
def test_changed_models(make: Any, join: bool) -> None:
    keras.utils.set_random_seed(4)
    images = tiny.IMAGES[:, :8, :8]
    model = trained(make())
    given: Any = {"left": images, "right": images[::-1]} if make is several_inputs else images
    optimised = assert_same(model, given, join=join)
    assert kinds(optimised).count("BatchNormalization") == LEFT.get(make, 0)
    assert "Dropout" not in kinds(optimised)
    if make is inner_output:
        assert set(optimised.output) == {"inside", "end"}


def test_a_new_head_over_a_nested_network() -> None:
    base = tiny.build(include_top=False, pooling="avg")
    x = keras.Input((tiny.SIDE, tiny.SIDE, 3))
    head = keras.Sequential([layers.Dropout(0.3), layers.Dense(4), layers.BatchNormalization()], name="head")
    model = trained(keras.Model(x, [head(base(x)), head(base(-x))]))
    optimised = assert_same(model)
    inner = optimised.get_layer("tiny")
    assert kinds(inner) == kinds(optimize_for_inference(base))
    assert "a02" in endpoints(inner)
    assert kinds(optimised).count("Functional") == 2  # each copied once, called twice
    assert len(optimised.get_layer("head").layers) == 2  # its input, and its dense layer


def test_a_layer_put_in_between_and_a_replaced_head() -> None:
    base = tiny.build()
    inside = base.get_layer("c02_sum").output
    y = Doubled(name="doubled")(inside)
    y = layers.Dense(2, name="mine")(layers.GlobalMaxPooling2D()(layers.BatchNormalization(name="late")(y)))
    optimised = assert_same(trained(keras.Model(base.input, y)))
    assert [layer.name for layer in optimised.layers if isinstance(layer, layers.BatchNormalization)] == ["late"]
    assert isinstance(optimised.get_layer("doubled"), Doubled)


def test_dropout_that_is_always_on_stays() -> None:
    x = small_image()
    model = keras.Model(x, layers.Dropout(0.5, seed=1)(conv(x), training=True))
    assert "Dropout" in kinds(optimize_for_inference(model))
    batch = keras.Model(x, layers.BatchNormalization()(conv(x), training=True))
    assert "BatchNormalization" in kinds(optimize_for_inference(batch))


def test_dropout_that_changes_the_type_stays() -> None:
    x = small_image()
    model = keras.Model(x, layers.Dropout(0.5, dtype="float16")(conv(x)))
    assert optimize_for_inference(model).output.dtype == model.output.dtype == "float16"


def test_a_nested_network_in_training_mode_stays() -> None:
    x = keras.Input((tiny.SIDE, tiny.SIDE, 3))
    base = tiny.build(include_top=False)
    model = keras.Model(x, [base(x, training=False), base(x, training=True)])
    assert kinds(optimize_for_inference(model).get_layer("tiny")) == kinds(base)


def test_outputs_of_the_users_own_stay() -> None:
    base = tiny.build(aux_head=True)
    own = layers.Dense(2, name="auxiliary_age")(base.get_layer("pooled").output)
    model = keras.Model(base.input, [*base.outputs, own])
    assert optimize_for_inference(model).output_names == ["predictions", "auxiliary_age"]
    named = keras.Model(base.input, {"main": base.outputs[0], "aux": base.outputs[1]})
    assert set(optimize_for_inference(named).output) == {"main", "aux"}
    alone = keras.Model(base.input, base.outputs[1:])
    assert optimize_for_inference(alone).output_names == ["aux_predictions"]


class Secret(keras.Layer):
    def __init__(self, model: Any, **options: Any) -> None:
        super().__init__(**options)
        self.model = model

    def call(self, x: Any) -> Any:
        return x


def test_a_layer_that_cannot_be_copied_is_named() -> None:
    x = small_image()
    with pytest.raises(InputError, match="its layer 'mine' cannot be copied; its class Secret"):
        optimize_for_inference(keras.Model(x, Secret(object(), name="mine")(conv(x))))


def test_a_fold_that_a_type_cannot_hold_is_left() -> None:
    x = keras.Input((4, 4, 1), dtype="float16")
    model = keras.Model(x, layers.BatchNormalization(dtype="float16")(conv(x, 1, dtype="float16", use_bias=False)))
    kernel, variance = model.weights[0], model.weights[-1]
    kernel.assign(np.full((1, 1, 1, 1), 4000))
    variance.assign([1e-6])
    assert kinds(optimize_for_inference(model)) == ["InputLayer", "Conv2D", "BatchNormalization"]


def test_endpoints_and_extractors_are_the_same() -> None:
    model = trained(tiny.build(include_preprocessing=True, classifier_activation=None))
    stages = [name for name in endpoints(model) if not name.startswith("stride")]
    for whole in (model, keras.Model(model.input, endpoints(model)["c02"])):
        for join in (False, True):
            optimised = optimize_for_inference(whole, join_siblings=join)
            assert list(endpoints(optimised)) == list(endpoints(whole))
    optimised = optimize_for_inference(model)
    before, after = (feature_extractor(each, stages)(tiny.IMAGES * 127, training=False) for each in (model, optimised))
    for name in stages:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-4, atol=1e-4 * np.abs(before[name]).max())
    assert_same(feature_extractor(model, stages), tiny.IMAGES * 127)


def test_the_same_names_in_every_build() -> None:
    first, second = (optimize_for_inference(tiny.build()) for _ in range(2))
    assert [op.name for op in first.operations] == [op.name for op in second.operations]
    assert {"a01_branch_2_conv_1_joined", "a01_branch_2_conv_1_split"} <= {op.name for op in first.operations}


def test_twice_is_once() -> None:
    once = optimize_for_inference(trained(tiny.build()))
    twice = optimize_for_inference(once)
    assert [layer.name for layer in once.layers] == [layer.name for layer in twice.layers]
    for here, there in zip(outputs(once, tiny.IMAGES), outputs(twice, tiny.IMAGES), strict=True):
        np.testing.assert_array_equal(here, there)


def test_it_is_saved_with_its_card(tmp_path: Path) -> None:
    model = optimize_for_inference(trained(tiny.build(include_preprocessing=True)))
    save_model(model, tmp_path / "model.keras", Card("tiny", "paper", ["x", "y", "z"], (tiny.SIDE, tiny.SIDE)))
    loaded, card = load_model(tmp_path / "model.keras")
    assert card.classes == ["x", "y", "z"]
    np.testing.assert_array_equal(outputs(loaded, tiny.IMAGES)[0], outputs(model, tiny.IMAGES)[0])


@pytest.mark.slow
def test_it_opens_without_the_package(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", tiny.IMAGES)
    made = {
        f"{policy}-{join}": optimize_for_inference(trained(tiny.build(dtype=policy)), join_siblings=join)
        for policy in ("float32", "mixed_bfloat16")
        for join in (False, True)
    }
    paths = [tmp_path / f"{name}.keras" for name in made]
    for model, path in zip(made.values(), paths, strict=True):
        model.save(path)
    command: list[Any] = [sys.executable, "-I", "-c", ELSEWHERE, tmp_path / "images.npy", *paths]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for model, path in zip(made.values(), paths, strict=True):
        np.testing.assert_array_equal(np.load(f"{path}.npz")["arr_0"], outputs(model, tiny.IMAGES)[0])


class Own(keras.Model):
    def call(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize("given", [None, "model.keras", layers.Dense(1), Own(), keras.Sequential([layers.Dense(1)])])
def test_what_has_no_graph_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match="model: "):
        optimize_for_inference(given)


def test_join_siblings_is_checked() -> None:
    with pytest.raises(InputError, match="join_siblings: "):
        optimize_for_inference(tiny.build(), join_siblings=1)  # type: ignore[arg-type]

"""The built Keras models hold what the tables say, layer by layer, at every size."""

from collections.abc import Callable
from functools import cache
from typing import Any

import keras
import pytest

import inception_resnet_keras
from inception_resnet_keras.networks.features import endpoints
from inception_resnet_keras.networks.trace import Node, trace

from .. import tiny
from ..whole import WHOLE, WholeNetwork
from .test_counts import PUBLISHED, SIZES

pytestmark = pytest.mark.slow
Whole = Callable[[WholeNetwork], keras.Model]
SUFFIXES = ("_bn", "_relu", "_scale")


def layers_of(model: keras.Model, nodes: list[Node]) -> dict[str, list[keras.Layer]]:
    """Each node's layers: a convolution's batch norm and ReLU, a sum's scale are part of it."""
    by_node: dict[str, list[keras.Layer]] = {node.name: [] for node in nodes}
    for layer in model.layers:
        name = layer.name
        if name not in by_node:
            name = next(name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix))
            name = name if name in by_node else f"{name}_sum"
        by_node[name].append(layer)
    return by_node


@cache
def shapes_at(model: keras.Model, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """The shape of every layer's output for images of that size, as Keras has it."""
    everything = keras.Model(model.input, [layer.output for layer in model.layers])
    outputs = everything.compute_output_spec(keras.KerasTensor((1, height, width, 3)))
    return {layer.name: tuple(out.shape[1:]) for layer, out in zip(model.layers, outputs, strict=True)}


def longest_path(model: keras.Model) -> int:
    """Convolutions and dense layers on the longest way through the Keras graph."""
    depth: dict[int, int] = {}
    for layer in model.layers:
        read = layer.input if isinstance(layer.input, list) else [layer.input]
        own = isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)
        depth[id(layer.output)] = own + max((depth.get(id(tensor), 0) for tensor in read), default=0)
    return depth[id(model.output)]


def multiply_adds(model: keras.Model, shapes: dict[str, tuple[int, ...]]) -> int:
    macs = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel_height, kernel_width, read, filters = layer.kernel.shape
            out_height, out_width, _ = shapes[layer.name]
            macs += kernel_height * kernel_width * read * filters * out_height * out_width
        elif isinstance(layer, keras.layers.Dense):
            macs += layer.kernel.shape[0] * layer.kernel.shape[1]
    return macs


@pytest.mark.parametrize("case", WHOLE, ids=str)
def test_counts(whole: Whole, case: WholeNetwork) -> None:
    model = whole(case)
    convolutions, trainable, everything, _, _ = PUBLISHED[str(case)]
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers) == convolutions
    assert sum(weight.shape.num_elements() for weight in model.trainable_weights) == trainable
    assert model.count_params() == everything
    assert longest_path(model) == case.golden["longest_path"]
    assert multiply_adds(model, shapes_at(model, 299, 299)) == case.golden["macs"]
    assert model.output_shape == (None, 1000)
    assert model.name == case.network


@pytest.mark.parametrize("case", WHOLE, ids=str)
def test_every_node_is_its_layers(whole: Whole, case: WholeNetwork) -> None:
    """Name, shape and parameters, at square sizes and at one that is not."""
    model = whole(case)
    for size in [*((side, side) for side in SIZES), (107, 203)]:
        nodes = trace(case.spec, size)
        shapes = shapes_at(model, *size)
        layers = layers_of(model, [*nodes, Node("predictions", "activation", ("logits",), (1000,), 0)])
        for node in nodes:
            assert layers[node.name], f"{node.name} was not built"
            assert {shapes[layer.name] for layer in layers[node.name]} == {node.shape}, node.name
            weights = [weight for layer in layers[node.name] for weight in layer.weights]
            trainable = sum(weight.shape.num_elements() for weight in weights if weight.trainable)
            assert trainable == node.trainable, node.name
            assert sum(weight.shape.num_elements() for weight in weights) == node.parameters, node.name


@pytest.mark.parametrize("case", WHOLE, ids=str)
def test_golden_stages_are_the_endpoints(whole: Whole, case: WholeNetwork) -> None:
    model = whole(case)
    found = endpoints(model)
    shapes = shapes_at(model, 299, 299)
    names = {id(layer.output): layer.name for layer in model.layers}
    golden = case.golden["shapes"]["299"]
    stages = [name for name in found if not name.startswith("stride_")]
    blocks = [name.rstrip("0123456789") for name in stages]
    assert list(dict.fromkeys(blocks)) == [*golden, "pooled", "logits", "predictions"]
    for name, block in zip(stages, blocks, strict=True):
        if block in golden:
            assert list(shapes[names[id(found[name])]]) == golden[block]
    sides = [shapes[names[id(found[f"stride_{stride}"])]][0] for stride in (2, 4, 8, 16, 32)]
    assert sides == [147, 71, 35, 17, 8]


def test_scale_true_alone_is_the_papers_second_network(whole: Whole) -> None:
    model = inception_resnet_keras.create_inception_resnet_v2(scale=True)
    assert model.input_shape == (None, 299, 299, 3)
    assert model.get_layer("reduction_a_concat").output.shape == (None, 17, 17, 1152)
    assert model.get_layer("reduction_b_concat").output.shape == (None, 8, 8, 2144)
    assert {layer.filters for layer in model.layers if layer.name.endswith("_project")} == {384, 1152, 2144}
    scales = [layer.scale for layer in model.layers if isinstance(layer, keras.layers.Rescaling)]
    assert scales == [0.1] * 20
    # A second build in one process has the same names, and so has one of another size.
    assert [layer.name for layer in model.layers] == [layer.name for layer in whole(WHOLE[2]).layers]


@pytest.mark.parametrize("factory", ["inception_v4", "inception_resnet_v1"])
def test_auxiliary_head(factory: str) -> None:
    case = WholeNetwork(factory, "paper", (1, 1, 1))
    build = getattr(inception_resnet_keras, f"create_{factory}")
    model = build(7, depths=case.depths, aux_head=True, input_shape=(107, 139, 3))
    nodes = trace(case.spec, (107, 139), classes=7, aux_head=True)
    heads = [Node(name, "activation", (), (7,), 0) for name in ("predictions", "aux_predictions")]
    layers = layers_of(model, [*nodes, *heads])
    for node in nodes:
        assert all(layer.output.shape[1:] == node.shape for layer in layers[node.name]), node.name
        assert sum(layer.count_params() for layer in layers[node.name]) == node.parameters, node.name
    assert model.output_shape == [(None, 7), (None, 7)]
    assert model.output_names == ["predictions", "aux_predictions"]


def test_the_tiny_network_too() -> None:
    model = tiny.build(aux_head=True)
    nodes = trace(tiny.TINY, (tiny.SIDE, tiny.SIDE), classes=tiny.CLASSES, aux_head=True)
    heads = [Node(name, "activation", (), (tiny.CLASSES,), 0) for name in ("predictions", "aux_predictions")]
    layers = layers_of(model, [*nodes, *heads])
    for node in nodes:
        assert all(layer.output.shape[1:] == node.shape for layer in layers[node.name]), node.name
        assert sum(layer.count_params() for layer in layers[node.name]) == node.parameters, node.name
    assert model.count_params() == sum(node.parameters for node in nodes)
    assert longest_path(keras.Model(model.input, model.outputs[0])) == max(
        node.depth for node in nodes if node.place != "aux"
    )


@pytest.mark.parametrize("case", WHOLE[:3], ids=str)
def test_only_plain_keras_layers(whole: Whole, case: WholeNetwork) -> None:
    model: Any = whole(case)
    assert type(model).__module__ == "keras.src.models.functional"
    for layer in model.layers:
        assert type(layer).__module__.startswith("keras.src.layers.")
        assert not isinstance(layer, keras.layers.Lambda)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(norm.momentum, norm.epsilon, norm.scale, norm.center) for norm in norms} == {(0.9997, 0.001, False, True)}
    assert model.get_layer("dropout").rate == 0.2

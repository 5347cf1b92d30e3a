"""int8 with the settings of each quantiser, in its own words: on a graph of two convolutions and a dense layer."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.deploy.quantization import (
    Calibration,
    quantize_onnx,
    quantize_openvino,
    read_settings,
    setting,
)

SHAPE = (8, 8, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (12, *SHAPE), np.uint8)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("calibrate_method=Percentile", ("calibrate_method", "Percentile")),
        ("per_channel=false", ("per_channel", False)),
        ('nodes_to_exclude=["a", "b=c"]', ("nodes_to_exclude", ["a", "b=c"])),
        ('ignored_scope={"patterns": [".*"]}', ("ignored_scope", {"patterns": [".*"]})),
    ],
)
def test_a_setting_of_the_command_line(text: str, found: tuple[str, Any]) -> None:
    assert setting(text) == found


@pytest.mark.parametrize("text", ["", "preset", "=1", "preset="])
def test_what_is_no_setting_of_the_command_line(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="it takes KEY=VALUE"):
        setting(text)


@pytest.mark.parametrize(
    ("format", "given", "says"),
    [
        ("onnx", {"calibration_method": "Entropy"}, "got 'calibration_method'; .*did you mean 'calibrate_method'"),
        ("onnx", {"calibrate_method": "Median"}, "calibrate_method: got 'Median'; it takes 'MinMax' or 'Entropy'"),
        ("onnx", {"weight_type": "QInt4"}, "weight_type: got .*; it takes 'QInt8' or 'QUInt8'"),
        ("onnx", {"per_channel": 1}, "per_channel: got 1"),
        ("onnx", {"nodes_to_exclude": [3]}, "nodes_to_exclude: got .*a list of names"),
        ("onnx", {"extra_options": 3}, "extra_options: got 3; it takes an object"),
        ("onnx", {3: 3}, "quantization: got 3"),
        ("onnx", "Entropy", "quantization: got 'Entropy'; it takes a mapping"),
        ("litert", {"preset": "mixed"}, "litert's converter has no settings"),
    ],
)
def test_settings_that_are_refused(format: str, given: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_settings(format, given)


def onnx_graph() -> Any:
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(1)
    weights = {"w1": (4, 3, 3, 3), "w2": (5, 4, 3, 3), "w3": (5, 2)}
    nodes = [
        helper.make_node("Transpose", ["image"], ["first"], "turned", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["first", "w1"], ["a"], "conv_1"),
        helper.make_node("Conv", ["a", "w2"], ["b"], "conv_2"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], "pooled"),
        helper.make_node("Flatten", ["c"], ["d"], "flat"),
        helper.make_node("MatMul", ["d", "w3"], ["e"], "logits"),
        helper.make_node("Softmax", ["e"], ["output"], "softmax"),
    ]
    values = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32) / 10, name)
        for name, shape in weights.items()
    ]
    takes = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *SHAPE])
    gives = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph(nodes, "graph", [takes], [gives], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def quantized_operations(model: Any) -> set[str]:
    """The names of the nodes whose weights come out of a DequantizeLinear."""
    made = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return {node.name for node in model.graph.node if len(node.input) > 1 and node.input[1] in made} & {
        "conv_1",
        "conv_2",
        "logits",
    }


def test_onnx_runtimes_settings_reach_its_quantiser() -> None:
    from onnx import numpy_helper

    def made(**settings: Any) -> Any:
        return quantize_onnx(onnx_graph(), Calibration(IMAGES, read_settings("onnx", settings)), "image")

    plain = made()
    assert quantized_operations(plain) == {"conv_1", "conv_2"}  # the head stays float32
    assert quantized_operations(made(nodes_to_exclude=["conv_1"])) == {"conv_2"}
    steps = []
    for model in (plain, made(calibrate_method="percentile", extra_options={"CalibPercentile": 90})):
        [step] = [numpy_helper.to_array(each) for each in model.graph.initializer if each.name == "a_scale"]
        steps.append(float(step))
    assert 0 < steps[1] < steps[0]  # the largest tenth of the values is cut off
    with pytest.raises(InputError, match=r"nodes_to_exclude: the graph has no 'conv_3'; did you mean 'conv_"):
        made(nodes_to_exclude=["conv_3"])
    with pytest.raises(InputError, match="op_types_to_quantize: got 'Convolution'"):
        made(op_types_to_quantize=["Convolution"])


def openvino_graph() -> Any:
    import openvino as ov
    from openvino import opset13 as ops

    random = np.random.default_rng(1)
    takes = ops.parameter([-1, *SHAPE], np.float32, "image")
    x = ops.transpose(takes, np.array([0, 3, 1, 2]))
    for number, shape in enumerate([(4, 3, 3, 3), (5, 4, 3, 3)], 1):
        weights = ops.constant(random.normal(size=shape).astype(np.float32) / 10)
        x = ops.convolution(x, weights, [1, 1], [0, 0], [0, 0], [1, 1])
        x.set_friendly_name(f"conv_{number}")
        x = ops.relu(x)
    x = ops.reduce_mean(x, np.array([2, 3]), False)
    return ov.Model([ops.softmax(x, 1)], [takes], "graph")


def quantized_layers(model: Any) -> set[str]:
    """The names of the convolutions whose weights are not a float32 constant: int8, they are multiplied by a scale."""
    return {
        operation.get_friendly_name()
        for operation in model.get_ops()
        if operation.get_type_name() == "Convolution"
        and operation.input_value(1).get_node().get_type_name() != "Constant"
    }


@pytest.mark.slow  # nncf takes long to import
def test_nncfs_settings_reach_its_quantiser() -> None:
    def made(**settings: Any) -> Any:
        return quantize_openvino(openvino_graph(), Calibration(IMAGES, read_settings("openvino", settings)))

    assert quantized_layers(made()) == {"conv_1", "conv_2"}
    assert quantized_layers(made(ignored_scope={"names": ["conv_1"]})) == {"conv_2"}
    assert quantized_layers(made(ignored_scope={"patterns": ["conv_.*"]}, preset="performance")) == set()
    with pytest.raises(InputError, match=r"names: the graph has no 'conv_3'; did you mean 'conv_"):
        made(ignored_scope={"names": ["conv_3"]})
    for given, says in (
        ({"preset": "fast"}, "preset: got 'fast'; it takes 'PERFORMANCE' or 'MIXED'"),
        ({"ignored_scope": {"name": ["a"]}}, "ignored_scope: got 'name'; .*did you mean 'names'"),
        ({"ignored_scope": {"patterns": ["("]}}, "patterns: got '\\('; it takes regular expressions"),
        ({"advanced_parameters": {"smooth_quant_alpha": "much"}}, "smooth_quant_alpha: got 'much'; it takes a number"),
        ({"subset_size": 0}, "subset_size: got 0"),
    ):
        with pytest.raises(InputError, match=says):
            read_settings("openvino", given)

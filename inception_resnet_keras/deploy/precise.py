"""Make an OpenVINO graph compute in float32 wherever it is compiled, without any setting.

On CPUs with bfloat16, `compile_model` without settings computes a float32 graph in bfloat16. A file cannot contain the
setting, because the CPU plugin does not read INFERENCE_PRECISION_HINT from files. It does respect the attribute
`precise` of an operation, which keeps that operation's own precision. The attribute has two limits, as seen in the
graphs that OpenVINO 2026.4 compiles:

    It is lost if the plugin replaces an operation by others: operations are written in a form that is not replaced.
    `openvino.save_model` does not write it: it is added to the .xml afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

ATTRIBUTE = {"name": "precise", "version": "0"}
_NOT_COMPUTED = ("Parameter", "Result", "Const")
_ELEMENTWISE = ("Add", "Subtract", "Multiply", "Divide")


def stay_as_written(model: Any) -> None:
    """Rewrite a float32 `openvino.Model` so that the plugin replaces none of its operations; its outputs stay the same.

    Without this, the plugin turns a MaxPool of opset 8 into one of opset 1, joins a dense layer with its bias, moves a
    transposition of the pixels behind their scaling, and adds the negative of a mean instead of subtracting the mean.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MaxPool":
            _pool_of_opset_1(node)
        elif node.get_type_name() == "MatMul":
            _dense_as_convolution(node)
        elif node.get_type_name() == "Subtract":
            _centring_as_mvn(node)
    _scale_before_transposing(model)
    model.validate_nodes_and_infer_types()


def _pool_of_opset_1(node: Any) -> None:
    import openvino.opset1 as opset

    given = node.get_attributes()
    if any(step != 1 for step in given.get("dilations", ())):
        return  # opset 1 has no dilations
    names = ("strides", "pads_begin", "pads_end", "kernel", "rounding_type", "auto_pad")
    pool = opset.max_pool(node.input_value(0), *(given[name] for name in names))
    pool.set_friendly_name(node.get_friendly_name())
    node.output(0).replace(pool.output(0))


def _dense_as_convolution(node: Any) -> None:
    """Replace a product of (batch, n) with constant weights by a convolution on maps of one pixel."""
    import openvino.opset13 as opset

    given, weights = node.input_value(0), node.input_value(1).get_node()
    options = node.get_attributes()
    if weights.get_type_name() != "Constant" or len(given.partial_shape) != 2 or options["transpose_a"]:
        return
    kernel = weights.data if options["transpose_b"] else weights.data.T
    maps = opset.reshape(given, np.array([0, kernel.shape[1], 1, 1]), special_zero=True)
    kernel = opset.constant(np.ascontiguousarray(kernel[:, :, None, None]))
    maps = opset.convolution(maps, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    result = opset.reshape(maps, np.array([0, kernel.shape[0]]), special_zero=True)
    node.output(0).replace(result.output(0))


def _centring_as_mvn(node: Any) -> None:
    """Replace x - mean(x) by the single operation that subtracts the mean of each image."""
    import openvino.opset13 as opset

    given, mean = node.input_value(0), node.input_value(1).get_node()
    if mean.get_type_name() != "ReduceMean" or mean.input_value(0) != given or not mean.get_attributes()["keep_dims"]:
        return
    axes = mean.input_value(1).get_node()
    if axes.get_type_name() != "Constant":
        return
    # False: MVN does not divide by the variance, so that epsilon has no effect.
    centred = opset.mvn(given, np.sort(axes.data.ravel()), False, 1e-9, "outside_sqrt")
    node.output(0).replace(centred.output(0))


def _scale_before_transposing(model: Any) -> None:
    """Move the arithmetic with constants that follows the transposition of the pixels in front of it."""
    import openvino.opset13 as opset

    node = _only_consumer(model.input(0).get_node())
    if node is not None and node.get_type_name() == "Convert":
        node = _only_consumer(node)
    if node is None or node.get_type_name() != "Transpose":
        return
    order = node.input_value(1).get_node()
    if order.get_type_name() != "Constant":
        return
    axes = [int(axis) for axis in order.data.ravel()]
    moved, last = node.input_value(0), node
    while (follower := _only_consumer(last)) is not None and follower.get_type_name() in _ELEMENTWISE:
        operands = [follower.input_value(place) for place in (0, 1)]
        constants = [each.get_node().get_type_name() == "Constant" for each in operands]
        if sum(constants) != 1:
            break
        place = constants.index(True)
        values = operands[place].get_node().data
        if values.ndim == len(axes):  # in the axis order before the transposition
            values = np.transpose(values, np.argsort(axes))
        elif values.size != 1:
            break
        pair = [opset.constant(values), moved] if place == 0 else [moved, opset.constant(values)]
        moved = getattr(opset, follower.get_type_name().lower())(*pair).output(0)
        last = follower
    if last is not node:
        last.output(0).replace(opset.transpose(moved, np.array(axes)).output(0))


def _only_consumer(node: Any) -> Any:
    targets = node.output(0).get_target_inputs()
    return next(iter(targets)).get_node() if len(targets) == 1 else None


def mark_precise(xml: Path) -> None:
    """Add the attribute to every operation of a saved model, except inputs, outputs and constants."""
    tree = ET.parse(xml)
    for layer in tree.iter("layer"):
        if layer.get("type") in _NOT_COMPUTED:
            continue
        information = layer.find("rt_info")
        if information is None:
            information = ET.Element("rt_info")
            first = next(iter(layer), None)
            layer.insert(1 if first is not None and first.tag == "data" else 0, information)
        ET.SubElement(information, "attribute", ATTRIBUTE)
    tree.write(xml, encoding="utf-8", xml_declaration=True)

"""The multiply-adds of any Keras model, counted in the graph that TensorFlow traces."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def multiply_adds(function: Any, shape: tuple[int, ...]) -> int:
    """Multiply-adds per image of the convolutions and matrix products in a `tf.function` of pixels; 0 if unknown.

    shape: (batch, height, width, 3) of the call; the function is traced if it has no trace of this shape.
    """
    total = 0
    for operation in function.get_concrete_function(tf.TensorSpec(shape, tf.float32)).graph.get_operations():
        if operation.type in ("PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile"):
            return 0  # its inner graph is not counted
        if operation.type not in ("Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2"):
            continue
        outputs = operation.outputs[0].shape.num_elements()
        left, right = (each.shape.as_list() for each in operation.inputs[:2])
        if outputs is None or None in right:
            return 0
        if operation.type == "Conv2D":
            total += outputs * right[0] * right[1] * right[2]
        elif operation.type == "DepthwiseConv2dNative":
            total += outputs * right[0] * right[1]
        else:
            turned = operation.get_attr("transpose_a" if operation.type == "MatMul" else "adj_x")
            total += outputs * left[-2 if turned else -1]
    return total // shape[0]

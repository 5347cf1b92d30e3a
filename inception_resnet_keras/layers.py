"""The few compositions of Keras layers that the networks' blocks are made of.

All are plain Keras layers, so that a saved model opens in any Keras, without this package.
"""

from __future__ import annotations

from typing import Any

import keras

BATCH_NORM_EPSILON = 0.001


def conv_bn_relu(
    x: Any,
    filters: int,
    kernel: tuple[int, int],
    name: str,
    *,
    stride: int,
    padding: str,
    linear: bool,
    momentum: float,
    synchronized: bool,
    regularizer: Any,
    data_format: str,
    dtype: Any,
) -> Any:
    """Convolution without bias → batch norm without gamma → ReLU; `linear`: convolution with bias."""
    x = keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding=padding,
        use_bias=linear,
        kernel_regularizer=regularizer,
        data_format=data_format,
        dtype=dtype,
        name=name,
    )(x)
    if linear:
        return x
    axis = channel_axis(data_format)
    x = batch_norm(x, f"{name}_bn", momentum=momentum, synchronized=synchronized, axis=axis, dtype=dtype)
    return keras.layers.Activation("relu", dtype=dtype, name=f"{name}_relu")(x)


def batch_norm(x: Any, name: str, *, momentum: float, synchronized: bool, axis: int, dtype: Any) -> Any:
    """Batch norm without gamma, ε 0.001, as the released networks have it."""
    return keras.layers.BatchNormalization(
        axis=axis,
        momentum=momentum,
        epsilon=BATCH_NORM_EPSILON,
        scale=False,
        synchronized=synchronized,
        dtype=dtype,
        name=name,
    )(x)


def residual_sum(x: Any, branch: Any, scale: float, place: str, *, dtype: Any) -> Any:
    """x + scale · branch."""
    if scale != 1.0:
        branch = keras.layers.Rescaling(scale, dtype=dtype, name=f"{place}_scale")(branch)
    return keras.layers.Add(dtype=dtype, name=f"{place}_sum")([x, branch])


def channel_axis(data_format: str) -> int:
    return 1 if data_format == "channels_first" else -1

"""A spec's rows as Keras calls: one short method a kind of row."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras

from . import names
from .rows import Conv, Pool
from .traversal import Walker, kernel_of

FLOAT32 = "float32"  # of pixels, embeddings, logits and softmax under any policy: half precision costs accuracy there


class KerasBuilder(Walker[Any]):
    """Walks a network's rows over Keras tensors; shared arguments are bound once, here."""

    def __init__(
        self,
        *,
        dropout_rate: float,
        batch_norm_momentum: float,
        synchronized_batch_norm: bool,
        weight_decay: float,
        data_format: str,
        dtype: Any,
    ) -> None:
        self.dropout_rate, self.data_format, self.dtype = dropout_rate, data_format, dtype
        self._norm = partial(batch_norm, momentum=batch_norm_momentum, synchronized=synchronized_batch_norm)
        self.axis = channel_axis(data_format)
        self.regularizer = keras.regularizers.L2(weight_decay) if weight_decay else None
        self._conv = partial(
            conv_bn_relu,
            momentum=batch_norm_momentum,
            synchronized=synchronized_batch_norm,
            regularizer=self.regularizer,
            data_format=data_format,
            dtype=dtype,
        )

    def conv(self, x: Any, row: Conv, name: str) -> Any:
        height, width = x.shape[1:3] if self.axis == -1 else x.shape[2:4]
        return self._conv(
            x,
            row.filters,
            kernel_of(row, height, width),
            name,
            stride=row.stride,
            padding=row.padding,
            linear=row.linear,
        )

    def pool(self, x: Any, row: Pool, name: str) -> Any:
        layer = keras.layers.MaxPooling2D if row.kind == "max" else keras.layers.AveragePooling2D
        return layer(
            row.size,
            strides=row.stride,
            padding=row.padding,
            data_format=self.data_format,
            dtype=self.dtype,
            name=name,
        )(x)

    def concat(self, branches: list[Any], name: str) -> Any:
        return keras.layers.Concatenate(axis=self.axis, dtype=self.dtype, name=name)(branches)

    def residual_sum(self, x: Any, branch: Any, scale: float, place: str) -> Any:
        return residual_sum(x, branch, scale, place, dtype=self.dtype)

    def relu(self, x: Any, name: str) -> Any:
        return keras.layers.Activation("relu", dtype=self.dtype, name=name)(x)

    def global_pool(self, x: Any, kind: str, name: str) -> Any:
        layer = keras.layers.GlobalMaxPooling2D if kind == "max" else keras.layers.GlobalAveragePooling2D
        return layer(data_format=self.data_format, dtype=self.dtype, name=name)(x)

    def flatten(self, x: Any, name: str) -> Any:
        return keras.layers.Flatten(data_format=self.data_format, dtype=self.dtype, name=name)(x)

    def dropout(self, x: Any, name: str) -> Any:
        return keras.layers.Dropout(self.dropout_rate, dtype=self.dtype, name=name)(x)

    def dense(self, x: Any, units: int, name: str, *, bias: bool = True) -> Any:
        return keras.layers.Dense(units, use_bias=bias, kernel_regularizer=self.regularizer, dtype=FLOAT32, name=name)(
            x
        )

    def batch_norm(self, x: Any, name: str) -> Any:
        return self._norm(x, name, axis=-1, dtype=FLOAT32)

    def unit_norm(self, x: Any, name: str) -> Any:
        return keras.layers.UnitNormalization(dtype=FLOAT32, name=name)(x)

    def width(self, x: Any) -> int:
        return x.shape[self.axis]


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
    x = batch_norm(x, names.batch_norm(name), momentum=momentum, synchronized=synchronized, axis=axis, dtype=dtype)
    return keras.layers.Activation("relu", dtype=dtype, name=names.relu(name))(x)


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
        branch = keras.layers.Rescaling(scale, dtype=dtype, name=names.scale(place))(branch)
    return keras.layers.Add(dtype=dtype, name=names.inside(place, names.SUM))([x, branch])


def channel_axis(data_format: str) -> int:
    return 1 if data_format == "channels_first" else -1

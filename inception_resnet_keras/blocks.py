"""A spec's rows as Keras calls: one short method a kind of row."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras

from .layers import batch_norm, channel_axis, conv_bn_relu, residual_sum
from .spec.rows import Conv, Pool
from .spec.walker import Walker, kernel_of

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

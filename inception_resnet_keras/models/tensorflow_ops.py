"""The TensorFlow operations in Keras 2's graphs, implemented with Keras's operations.

The keys of `OPERATIONS` are TensorFlow's public names, and its functions take the same arguments. The keys of `NODES`
are operation types in TensorFlow's graphs, and its functions take the inputs in order. A call with other arguments is
refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops


def _like(value: Any, tensor: Any) -> Any:
    """A constant list becomes an array of the tensor's type; tensors and single numbers are returned unchanged."""
    return np.asarray(value, keras.backend.standardize_dtype(tensor.dtype)) if isinstance(value, list) else value


def _two(operation: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """An operation on two tensors, of which one may be a constant."""

    def run(x: Any, y: Any) -> Any:
        tensor = x if keras.backend.is_keras_tensor(x) else y
        return operation(_like(x, tensor), _like(y, tensor))

    return run


def _one(operation: Callable[[Any], Any]) -> Callable[..., Any]:
    """An operation on one tensor, passed by position because TensorFlow names it `x` or `features`."""

    def run(x: Any, /) -> Any:
        return operation(x)

    return run


def _axes(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


def _reduction(operation: Callable[..., Any]) -> Callable[..., Any]:
    """An operation that reduces axes."""

    def run(input_tensor: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return operation(input_tensor, axis=_axes(axis), keepdims=bool(keepdims))

    return run


def _l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12) -> Any:
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=_axes(axis), keepdims=True), epsilon))


def _norm(tensor: Any, ord: Any = "euclidean", axis: Any = None, keepdims: bool = False) -> Any:
    if ord not in ("euclidean", 2):
        raise ValueError(f"the norm of order {ord!r} is not supported")
    return ops.sqrt(ops.sum(ops.square(tensor), axis=_axes(axis), keepdims=bool(keepdims)))


def _slice(tensor: Any, slice_spec: Any) -> Any:
    def part(spec: Any) -> Any:
        return slice(spec["start"], spec["stop"], spec["step"]) if isinstance(spec, dict) else spec

    return tensor[tuple(map(part, slice_spec))] if isinstance(slice_spec, list) else tensor[part(slice_spec)]


def _bias_add(value: Any, bias: Any, data_format: str | None = None) -> Any:
    bias = _like(bias, value)
    return value + (ops.reshape(bias, (-1, 1, 1)) if str(data_format).startswith("NC") else bias)


def _cast(x: Any, dtype: str) -> Any:
    return ops.cast(x, dtype)


def _convert_image_dtype(image: Any, dtype: str, saturate: bool = False) -> Any:
    if "float" not in dtype:
        raise ValueError(f"images of {dtype} are not supported")
    kind = keras.backend.standardize_dtype(image.dtype)
    return ops.cast(image, dtype) / (1 if "float" in kind else float(np.iinfo(kind).max))


def _clip(t: Any, clip_value_min: Any, clip_value_max: Any) -> Any:
    return ops.minimum(ops.maximum(t, clip_value_min), clip_value_max)


def _resize(
    images: Any, size: Any, method: str = "bilinear", preserve_aspect_ratio: bool = False, antialias: bool = False
) -> Any:
    if preserve_aspect_ratio or method not in ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5"):
        raise ValueError(f"images are resized in an unsupported way ({method})")
    options = {"interpolation": method, "antialias": bool(antialias), "data_format": "channels_last"}
    return ops.image.resize(images, tuple(size), **options)


def _standardization(image: Any) -> Any:
    axes = (-3, -2, -1)
    count = float(np.prod([image.shape[axis] for axis in axes]))
    spread = ops.maximum(ops.std(image, axis=axes, keepdims=True), count**-0.5)
    return (image - ops.mean(image, axis=axes, keepdims=True)) / spread


def _reshape(tensor: Any, shape: Any) -> Any:
    return ops.reshape(tensor, tuple(shape))


def _transpose(a: Any, perm: Any = None, conjugate: bool = False) -> Any:
    return ops.transpose(a, None if perm is None else tuple(perm))


def _expand_dims(input: Any, axis: int) -> Any:
    return ops.expand_dims(input, axis)


def _squeeze(input: Any, axis: Any = None) -> Any:
    return ops.squeeze(input, _axes(axis))


def _concat(values: Any, axis: int) -> Any:
    return ops.concatenate(values, axis=axis)


def _stack(values: Any, axis: int = 0) -> Any:
    return ops.stack(values, axis=axis)


def _reverse(tensor: Any, axis: Any) -> Any:
    return ops.flip(tensor, axis=_axes(axis))


def _softmax(logits: Any, axis: int | None = None) -> Any:
    return ops.softmax(logits, axis=-1 if axis is None else axis)


def _leaky_relu(features: Any, alpha: float = 0.2) -> Any:
    return ops.leaky_relu(features, alpha)


def _gelu(features: Any, approximate: bool = False) -> Any:
    return ops.gelu(features, approximate=bool(approximate))


def _swish(features: Any, beta: float = 1.0) -> Any:
    return features * ops.sigmoid(beta * features)


def _mean(input: Any, axes: Any, keepdims: bool = False) -> Any:
    return ops.mean(input, axis=_axes(axes), keepdims=keepdims)


def _same(x: Any) -> Any:
    return x


_ONE = {
    "abs": ops.abs,
    "exp": ops.exp,
    "log": ops.log,
    "negative": ops.negative,
    "rsqrt": ops.rsqrt,
    "sigmoid": ops.sigmoid,
    "sqrt": ops.sqrt,
    "square": ops.square,
    "tanh": ops.tanh,
}
_TWO = {
    "add": ops.add,
    "divide": ops.true_divide,
    "maximum": ops.maximum,
    "minimum": ops.minimum,
    "multiply": ops.multiply,
    "pow": ops.power,
    "subtract": ops.subtract,
    "truediv": ops.true_divide,
}
_REDUCTIONS = {
    "reduce_max": ops.max,
    "reduce_mean": ops.mean,
    "reduce_min": ops.min,
    "reduce_std": ops.std,
    "reduce_sum": ops.sum,
    "reduce_variance": ops.var,
}
OPERATIONS: dict[str, Callable[..., Any]] = {
    **{f"math.{name}": _one(operation) for name, operation in _ONE.items()},
    **{f"math.{name}": _two(operation) for name, operation in _TWO.items()},
    **{f"math.{name}": _reduction(operation) for name, operation in _REDUCTIONS.items()},
    "__operators__.add": _two(ops.add),
    "__operators__.getitem": _slice,
    "math.l2_normalize": _l2_normalize,
    "norm": _norm,
    "linalg.norm": _norm,
    "nn.bias_add": _bias_add,
    "nn.elu": _one(ops.elu),
    "nn.gelu": _gelu,
    "nn.leaky_relu": _leaky_relu,
    "nn.relu": _one(ops.relu),
    "nn.relu6": _one(ops.relu6),
    "nn.selu": _one(ops.selu),
    "nn.silu": _swish,
    "nn.softmax": _softmax,
    "cast": _cast,
    "clip_by_value": _clip,
    "concat": _concat,
    "convert_to_tensor": _one(_same),
    "expand_dims": _expand_dims,
    "identity": _one(_same),
    "image.convert_image_dtype": _convert_image_dtype,
    "image.per_image_standardization": _standardization,
    "image.resize": _resize,
    "reshape": _reshape,
    "reverse": _reverse,
    "squeeze": _squeeze,
    "stack": _stack,
    "stop_gradient": _one(_same),
    "transpose": _transpose,
    "compat.v1.transpose": _transpose,
}
NODES: dict[str, Callable[..., Any]] = {
    "Add": _two(ops.add),
    "AddV2": _two(ops.add),
    "BiasAdd": _bias_add,
    "Div": _two(ops.true_divide),
    "Identity": _one(_same),
    "Maximum": _two(ops.maximum),
    "Mean": _mean,
    "Minimum": _two(ops.minimum),
    "Mul": _two(ops.multiply),
    "Neg": _one(ops.negative),
    "Pow": _two(ops.power),
    "RealDiv": _two(ops.true_divide),
    "Relu": _one(ops.relu),
    "Rsqrt": _one(ops.rsqrt),
    "Sigmoid": _one(ops.sigmoid),
    "Softmax": _softmax,
    "Sqrt": _one(ops.sqrt),
    "Square": _one(ops.square),
    "Sub": _two(ops.subtract),
    "Tanh": _one(ops.tanh),
}

"""A model for inference alone: fewer, wider steps that compute the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import keras
import numpy as np

from ..arguments import boolean
from ..errors import refuse
from ..layers import channel_axis
from ..spec import names
from .graph import Call, Copier, Graph, copied_input, filled_in, functional, paired, plain_input, producer

# What changes nothing outside training.
_IDENTITIES = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization,
)
_AFFINE = (keras.layers.Conv2D, keras.layers.Dense)
_OF_TRAINING = ("regularizer", "constraint", "initializer")


def optimize_for_inference(model: keras.Model, *, join_siblings: bool = False) -> keras.Model:
    """A model that computes what another does outside training, faster.

    Each batch norm, each residual scale and each ReLU goes into the convolution (or dense layer)
    before it; dropout, regularisers and the auxiliary head are left out. What is folded is what
    stands in the graph, so that a model that was changed after it was built is folded as far as it
    can be: a layer of another kind, one that is called twice, a batch norm whose input another
    layer or an output needs, or that is called with training=True, stay as they are; a nested
    functional model is optimised inside. Folding is computed in float64.

    Layers keep their names; a convolution `c` stands for `c`, `c_bn` and `c_relu`, so that
    `endpoints` and `feature_extractor` find the same stages. All layers are plain Keras layers.

    Args:
        model: A functional or sequential Keras model, built or loaded. It is not changed.
        join_siblings: Whether 1×1 convolutions that read the same tensor become one, whose output
            is split. On the CPU TensorFlow is slower with it; see the README's table.

    Returns:
        A functional model with weights of its own, not compiled. Its outputs are those of `model`
        (float32: to about 1e-5 of their size), less those of an auxiliary head in a list of outputs.

    Raises:
        ValueError: The model is no Keras model, or one whose graph is not known (a subclass of
            `keras.Model` with its own `call`, a sequential model without an input).
    """
    boolean("join_siblings", join_siblings)
    graph = functional(model)
    if graph is None:
        raise refuse("model", model, "a functional Keras model, or a sequential one that has an input")
    return _optimized(graph, _without_auxiliary(graph.output), join_siblings)


def _without_auxiliary(outputs: Any) -> Any:
    """A model's outputs less those of the auxiliary head, where others are left."""
    if not isinstance(outputs, list | tuple):
        return outputs
    kept = [tensor for tensor in outputs if names.place(getattr(producer(tensor), "name", "")) != names.AUX]
    if not kept or len(kept) == len(outputs):
        return outputs
    return kept[0] if len(kept) == 1 else kept


@dataclass
class _Fold:
    """A convolution or dense layer and what goes into it: activation(kernel · x + bias)."""

    call: Call
    kernel: np.ndarray
    bias: np.ndarray | None
    relu: bool = False
    absorbed: list[Call] = field(default_factory=list)

    @property
    def layer(self) -> Any:
        return self.call.operation

    @property
    def source(self) -> Any:
        return plain_input(self.call)

    @property
    def output(self) -> Any:
        return (self.absorbed or [self.call])[-1].outputs[0]

    @property
    def axis(self) -> int:
        """Of the channels in the output."""
        return channel_axis(getattr(self.layer, "data_format", "channels_last"))

    @property
    def linear(self) -> bool:
        return self.layer.activation is keras.activations.linear and not self.relu

    def absorb(self, call: Call) -> bool:
        """Takes in what is computed next, where that can be done."""
        layer = call.operation
        if plain_input(call) is None:
            return False
        if not _is_identity(layer):
            if not self.linear or getattr(layer, "compute_dtype", None) != self.layer.compute_dtype:
                return False
            if type(layer) is keras.layers.BatchNormalization and self._is_axis(layer.axis, call):
                return self._scale(call, *_norm(layer))
            if type(layer) is keras.layers.Rescaling and np.ndim(layer.scale) == np.ndim(layer.offset) == 0:
                return self._scale(call, np.float64(layer.scale), np.float64(layer.offset))
            if not _is_relu(layer):
                return False
            self.relu = True
        self.absorbed.append(call)
        return True

    def _is_axis(self, axis: Any, call: Call) -> bool:
        rank = len(call.outputs[0].shape)
        return isinstance(axis, int) and axis % rank == self.axis % rank

    def _scale(self, call: Call, factor: np.ndarray, offset: np.ndarray) -> bool:
        """factor · y + offset; the output's channels are the last axis of any kernel."""
        if self.bias is not None or np.ndim(offset) or offset:
            if self.bias is None and not self.bias_is_safe(self.kernel.shape[-1]):
                return False
            bias = 0.0 if self.bias is None else self.bias
            self.bias = np.broadcast_to(bias * factor + offset, self.kernel.shape[-1:])
        self.kernel = self.kernel * factor
        self.absorbed.append(call)
        return True

    def bias_is_safe(self, filters: int) -> bool:
        """Whether Keras adds a bias along the channels: not in "channels_first" on a map as wide as it has channels."""
        return self.axis == -1 or self.output.shape[-1] not in (None, filters)

    @property
    def holds(self) -> bool:
        """Whether the folded numbers are finite in the layer's types, as a small variance may not leave them."""
        numbers = self.kernel if self.bias is None else np.concatenate([self.kernel.ravel(), self.bias])
        types = (self.layer.variable_dtype, self.layer.compute_dtype)
        with np.errstate(over="ignore"):
            return all(np.isfinite(numbers.astype(keras.ops.zeros((), each).numpy().dtype)).all() for each in types)

    def built(self, x: Any) -> Any:
        return _called(self.layer, x, self.kernel, self.bias, relu=self.relu)


def _is_identity(layer: Any) -> bool:
    return type(layer) in _IDENTITIES


def _is_relu(layer: Any) -> bool:
    if type(layer) is keras.layers.ReLU:
        return layer.max_value is None and not layer.negative_slope and not layer.threshold
    return type(layer) is keras.layers.Activation and layer.activation is keras.activations.relu


def _norm(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """A batch norm with its moving statistics, as factor and offset."""
    gamma, beta, mean, variance = (
        None if part is None else keras.ops.convert_to_numpy(part).astype(np.float64)
        for part in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    )
    factor = (1.0 if gamma is None else gamma) / np.sqrt(variance + layer.epsilon)
    return factor, (0.0 if beta is None else beta) - mean * factor


def _called(layer: Any, x: Any, kernel: np.ndarray, bias: np.ndarray | None, *, relu: bool, **settings: Any) -> Any:
    """A convolution or dense layer like another, with these numbers in it, of a tensor."""
    config = {key: value for key, value in layer.get_config().items() if not key.endswith(_OF_TRAINING)}
    config = {key: value for key, value in config.items() if not key.startswith("lora_")}  # `kernel` has it in
    zeros = {"kernel_initializer": "zeros"}  # quicker than a draw
    activation = {"activation": "relu"} if relu else {}
    new = type(layer).from_config({**config, **zeros, **activation, "use_bias": bias is not None, **settings})
    y = new(x)
    new.kernel.assign(kernel)
    if bias is not None:
        new.bias.assign(bias)
    return y


def _optimized(model: keras.Model, outputs: Any, join: bool) -> keras.Model:
    graph = Graph(model, outputs)
    folds = _folds(graph)
    heads = {id(fold.call): [fold] for fold in folds}
    if join:
        heads |= {id(group[0].call): group for group in _siblings(folds)}
    skipped = {id(call) for fold in folds for call in [fold.call, *fold.absorbed]}
    tensors: dict[int, Any] = {}
    copier = Copier()
    for call in graph.calls:
        if call.is_input:
            tensors[id(call.outputs[0])] = copied_input(call)
        elif id(call) in heads:
            group = heads[id(call)]
            if id(group[0].output) not in tensors:
                x = tensors[id(group[0].source)]
                results = [group[0].built(x)] if len(group) == 1 else _joined(group, x)
                tensors |= {id(fold.output): y for fold, y in zip(group, results, strict=True)}
        elif id(call) in skipped:
            continue
        elif _is_identity(call.operation) and plain_input(call) is not None:
            tensors[id(call.outputs[0])] = tensors[id(plain_input(call))]
        else:
            inner = functional(call.operation)
            if inner is not None and call.operation not in copier:
                copier.put(call.operation, _optimized(inner, inner.output, join))
            args, kwargs = filled_in(call, tensors)
            tensors |= dict(paired(call, copier.of(call.operation)(*args, **kwargs)))
    copier.fill()
    inputs, outputs = (
        keras.tree.map_structure(lambda tensor: tensors[id(tensor)], part) for part in (graph.inputs, graph.outputs)
    )
    return keras.Model(inputs, outputs, name=model.name)


def _folds(graph: Graph) -> list[_Fold]:
    """Every convolution and dense layer that is called once, and what goes into it."""
    found = []
    for call in graph.calls:
        layer = call.operation
        if type(layer) not in _AFFINE or graph.times[id(layer)] > 1 or plain_input(call) is None:
            continue
        if layer.quantization_mode is not None:
            continue
        kernel, bias = (
            None if part is None else keras.ops.convert_to_numpy(part).astype(np.float64)
            for part in (layer.kernel, layer.bias)
        )
        fold = _Fold(call, kernel, bias)
        while (after := graph.only_reader(fold.output)) and fold.absorb(after):
            pass
        if fold.holds:
            found.append(fold)
    return found


def _siblings(folds: list[_Fold]) -> list[list[_Fold]]:
    """The 1×1 convolutions that can be one: of one tensor, alike in all but their number of filters."""
    groups: dict[Any, list[_Fold]] = {}
    for fold in folds:
        layer = fold.layer
        if type(layer) is keras.layers.Conv2D and layer.kernel_size == (1, 1) and layer.groups == 1:
            activation = "relu" if fold.relu else layer.activation
            alike = (layer.strides, layer.data_format, layer.dtype_policy.name, fold.bias is None)
            groups.setdefault((id(fold.source), activation, *alike), []).append(fold)
    several = (group for group in groups.values() if len(group) > 1)
    return [group for group in several if group[0].bias_is_safe(sum(fold.kernel.shape[-1] for fold in group))]


def _joined(group: list[_Fold], x: Any) -> list[Any]:
    first = group[0]
    kernel = np.concatenate([fold.kernel for fold in group], axis=-1)
    bias = None if first.bias is None else np.concatenate([fold.bias for fold in group if fold.bias is not None])
    settings = {"filters": kernel.shape[-1], "name": names.joined(first.layer.name)}
    y = _called(first.layer, x, kernel, bias, relu=first.relu, **settings)
    ends = list(accumulate(fold.kernel.shape[-1] for fold in group))
    parts: list[Any] = keras.ops.split(y, ends[:-1], axis=first.axis)
    producer(parts[0]).name = names.split(first.layer.name)  # or it would be a counter's
    return parts

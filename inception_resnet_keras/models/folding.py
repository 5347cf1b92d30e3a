"""Optimises a model for inference: the same function in fewer and wider steps, in any precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import keras
import numpy as np

from ..common.arguments import boolean
from ..common.errors import refuse
from ..networks import names
from ..networks.build import FLOAT32, channel_axis
from ..networks.keras_graph import (
    Call,
    Copier,
    Graph,
    copied_input,
    filled_in,
    functional,
    paired,
    plain_input,
    producer,
)

# Layers that do nothing in inference mode.
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


def optimize_for_inference(model: keras.Model, *, join_siblings: bool = True) -> keras.Model:
    """A faster model that computes the same function as another model in inference mode.

    Each batch norm, residual scale and ReLU is folded into the convolution or dense layer before it. 1×1 convolutions
    that read the same tensor are joined into one, whose output is split. Dropout, regularizers and the auxiliary head
    are removed. Folding is computed in float64.

    The graph decides what can be folded, so that a model that was edited after it was built is folded as far as
    possible. These stay unchanged: layers of other kinds, layers that are called twice, and a batch norm that is called
    with training=True or whose input is also read by another layer or is an output. In "channels_first" this also
    holds for a batch norm on a map whose width is unknown or equal to its number of channels, because Keras 3.15 adds a
    bias along the wrong axis there. Nested functional models are optimised inside.

    Layers keep their names. A convolution `c` replaces `c`, `c_bn` and `c_relu`; a joined `c_joined` replaces `c` and
    its siblings. `endpoints` and `feature_extractor` find the same stages. All layers are plain Keras layers.

    Args:
        model: A functional or sequential Keras model, built or loaded. It is not changed.
        join_siblings: Whether to join 1×1 convolutions that read the same tensor. On a CPU the difference is within the
            noise: relative to `keras.applications` in graph mode (Inception-ResNet-v2 `slim`, 299 pixels, two vCPUs),
            joined convolutions are 1.16 times as fast (1.11 to 1.24) at batch size 1 and separate ones 1.17 (1.15 to
            1.27); at batch size 8, 1.15 (1.13 to 2.06) and 1.16 (1.14 to 2.02).

    Returns:
        A functional model with its own weights, not compiled, with the shapes of `model`'s input and outputs. Its
        outputs are equal to those of `model` (in float32 to about 1e-5 of their size), without those of an auxiliary
        head.

    Raises:
        ValueError: `model` is not a Keras model; its graph is unknown (a subclass of `keras.Model` with its own `call`,
            or a sequential model without an input); or Keras cannot copy one of its layers.

    Examples:
        >>> import numpy as np
        >>> from inception_resnet_keras import create_inception_resnet_v1, optimize_for_inference
        >>> model = create_inception_resnet_v1(3, depths=(1, 1, 1), input_shape=(75, 75, 3))
        >>> faster = optimize_for_inference(model)
        >>> len(model.layers), len(faster.layers)
        (118, 46)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (2, 75, 75, 3)).astype("float32")
        >>> bool(np.allclose(model(images), faster(images), atol=1e-4))
        True
    """
    boolean("join_siblings", join_siblings)
    graph = functional(model)
    if graph is None:
        raise refuse("model", model, "a functional Keras model, or a sequential one with an input")
    return _optimized(graph, _without_auxiliary(graph.output), join_siblings)


def _without_auxiliary(outputs: Any) -> Any:
    """A model's outputs without those of the auxiliary head, if any others remain."""
    if not isinstance(outputs, list | tuple):
        return outputs
    auxiliary = tuple(names.inside(names.AUX, end) for end in (names.LOGITS, names.PREDICTIONS))
    kept = [tensor for tensor in outputs if not producer(tensor).name.endswith(auxiliary)]  # names may have a prefix
    if not kept or len(kept) == len(outputs):
        return outputs
    return kept[0] if len(kept) == 1 else kept


@dataclass
class _Fold:
    """A convolution or dense layer and the layers folded into it: activation(factor · kernel · x + bias)."""

    call: Call
    bias: np.ndarray | None
    factor: np.ndarray | float = 1.0  # per channel, kept apart because the kernel is large
    relu: bool = False
    absorbed: list[Call] = field(default_factory=list)

    @property
    def layer(self) -> Any:
        return self.call.operation

    @property
    def filters(self) -> int:
        return int(self.layer.kernel.shape[-1])

    @property
    def kernel(self) -> np.ndarray:
        """The folded kernel. The output channels are the last axis of any kernel."""
        return _numbers(self.layer.kernel) * self.factor

    @property
    def source(self) -> Any:
        return plain_input(self.call)

    @property
    def output(self) -> Any:
        return (self.absorbed or [self.call])[-1].outputs[0]

    @property
    def axis(self) -> int:
        """The axis of the channels in the output."""
        return channel_axis(getattr(self.layer, "data_format", "channels_last"))

    @property
    def linear(self) -> bool:
        return self.layer.activation is keras.activations.linear and not self.relu

    def absorb(self, call: Call) -> bool:
        """Fold the next call into this layer if possible. Returns whether it was folded."""
        layer = call.operation
        if plain_input(call) is None:
            return False
        if not _is_identity(call):
            if not self.linear or getattr(layer, "compute_dtype", None) != self.layer.compute_dtype:
                return False
            if type(layer) is keras.layers.BatchNormalization and self._is_axis(layer.axis, call):
                return self._scale(call, *_norm(layer))
            if type(layer) is keras.layers.Rescaling and np.ndim(layer.scale) == np.ndim(layer.offset) == 0:
                return self._scale(call, *(np.asarray(number, np.float64) for number in (layer.scale, layer.offset)))
            if not _is_relu(layer):
                return False
            self.relu = True
        self.absorbed.append(call)
        return True

    def _is_axis(self, axis: Any, call: Call) -> bool:
        rank = len(call.outputs[0].shape)
        return isinstance(axis, int) and axis % rank == self.axis % rank

    def _scale(self, call: Call, factor: np.ndarray, offset: np.ndarray) -> bool:
        """Fold factor · y + offset. Returns whether it was folded."""
        if self.bias is not None or offset.any() or offset.ndim:
            if self.bias is None and not self.bias_is_safe(self.filters):
                return False
            bias = 0.0 if self.bias is None else self.bias
            self.bias = np.broadcast_to(bias * factor + offset, (self.filters,))
        self.factor = self.factor * factor
        self.absorbed.append(call)
        return True

    def bias_is_safe(self, filters: int) -> bool:
        """Whether Keras adds a bias correctly: not in "channels_first" on a map whose width equals its channels."""
        return self.axis == -1 or self.output.shape[-1] not in (None, filters)

    @property
    def holds(self) -> bool:
        """Whether the folded values are finite in the layer's dtypes. After a very small variance they may not be."""
        largest = [np.abs(numbers).max() for numbers in (self.kernel, self.bias) if numbers is not None]
        types = {self.layer.variable_dtype, self.layer.compute_dtype}
        return all(bool(keras.ops.all(keras.ops.isfinite(keras.ops.cast(largest, each)))) for each in types)

    def built(self, x: Any) -> Any:
        """The output of the folded layer for x."""
        return _called(self.layer, x, self.kernel, self.bias, relu=self.relu)


def _is_identity(call: Call) -> bool:
    """Whether a call changes neither values nor dtype in inference mode."""
    x = plain_input(call)
    return type(call.operation) in _IDENTITIES and x is not None and x.dtype == call.outputs[0].dtype


def _is_relu(layer: Any) -> bool:
    """Whether a layer is a plain ReLU."""
    if type(layer) is keras.layers.ReLU:
        return layer.max_value is None and not layer.negative_slope and not layer.threshold
    return type(layer) is keras.layers.Activation and layer.activation is keras.activations.relu


def _norm(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """A batch norm with its moving statistics as (factor, offset)."""
    factor = 1 / np.sqrt(_numbers(layer.moving_variance) + layer.epsilon)
    if layer.gamma is not None:
        factor = factor * _numbers(layer.gamma)
    offset = -_numbers(layer.moving_mean) * factor
    return factor, offset if layer.beta is None else offset + _numbers(layer.beta)


def _numbers(weight: Any) -> np.ndarray:
    numbers: np.ndarray = keras.ops.convert_to_numpy(weight).astype(np.float64)
    return numbers


def _called(layer: Any, x: Any, kernel: np.ndarray, bias: np.ndarray | None, *, relu: bool, **settings: Any) -> Any:
    """The output for x of a copy of a convolution or dense layer with other weights and settings."""
    config = {key: value for key, value in layer.get_config().items() if not key.endswith(_OF_TRAINING)}
    config = {key: value for key, value in config.items() if not key.startswith("lora_")}  # `kernel` includes it
    zeros = {"kernel_initializer": "zeros"}  # faster than a random initialisation
    activation = {"activation": "relu"} if relu else {}
    new = type(layer).from_config({**config, **zeros, **activation, "use_bias": bias is not None, **settings})
    y = new(x)
    new.kernel.assign(kernel)
    if bias is not None:
        new.bias.assign(bias)
    return y


def _optimized(model: keras.Model, outputs: Any, join: bool) -> keras.Model:
    """The model rebuilt with its folds."""
    # Find what can be folded, and which calls are then no longer needed.
    graph = Graph(model, outputs)
    folds = _folds(graph)
    heads = {id(fold.call): [fold] for fold in folds}
    if join:
        heads |= {id(group[0].call): group for group in _siblings(folds)}
    in_training = {id(call.operation) for call in graph.calls if call.arguments.kwargs.get("training")}
    skipped = {id(call) for fold in folds for call in [fold.call, *fold.absorbed]}
    # Rebuild call by call. `tensors` maps the old tensors, by their ids, to the new ones.
    tensors: dict[int, Any] = {}
    copier = Copier()
    for call in graph.calls:
        if call.is_input:
            tensors[id(call.outputs[0])] = copied_input(call)
        elif id(call) in heads:
            # A fold, or the first call of several that are joined, computes the outputs of all of them.
            group = heads[id(call)]
            if id(group[0].output) not in tensors:
                x = tensors[id(group[0].source)]
                results = [group[0].built(x)] if len(group) == 1 else _joined(group, x)
                tensors |= {id(fold.output): y for fold, y in zip(group, results, strict=True)}
        elif id(call) in skipped:
            continue
        elif _is_identity(call):
            tensors[id(call.outputs[0])] = tensors[id(plain_input(call))]
        else:
            inner = functional(call.operation) if id(call.operation) not in in_training else None
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
    """Every convolution and dense layer that is called once, with the layers that are folded into it."""
    found = []
    for call in graph.calls:
        layer = call.operation
        if type(layer) not in _AFFINE or graph.times[id(layer)] > 1 or plain_input(call) is None:
            continue
        if layer.quantization_mode is not None:
            continue
        fold = _Fold(call, None if layer.bias is None else _numbers(layer.bias))
        while (after := graph.only_reader(fold.output)) and fold.absorb(after):
            pass
        if fold.holds:
            found.append(fold)
    return found


def _siblings(folds: list[_Fold]) -> list[list[_Fold]]:
    """Groups of 1×1 convolutions that can be joined: they read one tensor, and differ only in their filters."""
    groups: dict[Any, list[_Fold]] = {}
    for fold in folds:
        layer = fold.layer
        if type(layer) is keras.layers.Conv2D and layer.kernel_size == (1, 1) and layer.groups == 1:
            activation = "relu" if fold.relu else layer.activation
            alike = (layer.strides, layer.data_format, layer.dtype_policy.name, fold.bias is None)
            groups.setdefault((id(fold.source), activation, *alike), []).append(fold)
    several = (group for group in groups.values() if len(group) > 1)
    return [group for group in several if group[0].bias_is_safe(sum(fold.filters for fold in group))]


def _joined(group: list[_Fold], x: Any) -> list[Any]:
    """The outputs of several 1×1 convolutions, computed by one."""
    first = group[0]
    kernel = np.concatenate([fold.kernel for fold in group], axis=-1)
    bias = None if first.bias is None else np.concatenate([fold.bias for fold in group if fold.bias is not None])
    settings = {"filters": kernel.shape[-1], "name": names.joined(first.layer.name)}
    y = _called(first.layer, x, kernel, bias, relu=first.relu, **settings)
    ends = list(accumulate(fold.filters for fold in group))
    parts: list[Any] = keras.ops.split(y, ends[:-1], axis=first.axis)
    producer(parts[0]).name = names.split(first.layer.name)  # otherwise Keras would name it by a counter
    return parts


# ----------------------------------------------------------------------------------------------------------------------
# Another precision
# ----------------------------------------------------------------------------------------------------------------------
def in_policy(model: keras.Model, policy: str) -> keras.Model:
    """A copy in another dtype policy. The layers that read pixels or compute outputs stay in float32."""
    kept = (names.PREPROCESS, names.LOGITS, names.PREDICTIONS, names.EMBEDDING)

    def copied(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if not isinstance(layer, keras.layers.InputLayer):
            config = _with_policy(config, FLOAT32 if layer.name in kept else policy)
        return layer.__class__.from_config(config)

    copy = keras.models.clone_model(model, clone_function=copied, recursive=True)
    for old, new in zip(model.layers, copy.layers, strict=True):
        new.set_weights(old.get_weights())
    return copy


def _with_policy(config: Any, policy: str) -> Any:
    """A layer's configuration in another policy, including those of layers that it wraps."""
    wrapped = {
        key: {**value, "config": _with_policy(value["config"], policy)}
        for key, value in config.items()
        if isinstance(value, dict) and isinstance(value.get("config"), dict) and "dtype" in value["config"]
    }
    return {**config, **wrapped, **({"dtype": policy} if "dtype" in config else {})}

"""A network's table → a functional Keras model.

`build` reads top to bottom; `KerasOperations` maps each operation of the table to Keras layers. Only plain Keras layers
are used, so that a saved model opens in any Keras 3 without this package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from os import PathLike
from typing import Any, Literal

import keras

from ..common.arguments import boolean, number_between, one_of, positive_integer
from ..common.errors import refuse
from . import head, names
from .checks import check_aux_head, check_image_shape, check_include_top
from .rows import BATCH_NORM_EPSILON, DROPOUT_RATE, Conv, Network, Pool
from .trace import trace, weight_shapes
from .traversal import Walker, kernel_of, reach_of

Pooling = Literal["avg", "max"]
DEFAULT_CLASSES = 1000  # ImageNet's, for a network without an embedding
DEFAULT_SIZE = (299, 299)  # height and width in pixels
BATCH_NORM_MOMENTUM = 0.9997
FLOAT32 = "float32"  # for pixels, embeddings, logits and softmax under any policy: half precision loses accuracy there


def build(
    network: Network,
    num_classes: int | None = None,
    *,
    classes: int | None = None,
    include_top: bool = True,
    pooling: Pooling | None = None,
    input_shape: Sequence[int | None] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    classifier_activation: str | Callable[..., object] | None = "softmax",
    dropout_rate: float = DROPOUT_RATE,
    aux_head: bool = False,
    batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
    synchronized_batch_norm: bool = False,
    weight_decay: float = 0.0,
    include_preprocessing: bool = False,
    weights: str | PathLike[str] | None = None,
    channels: Literal["adapt"] | None = None,
    dtype: str | keras.DTypePolicy | None = None,
    name: str | None = None,
    layer_prefix: str | bool = False,
) -> keras.Model:
    """Build the Keras model of a network's table.

    Args:
        network: The table, such as `networks.find("inception_v4", "paper")` or one of your own.
        num_classes: Width of the classifier, at least 1. None builds the table's own head: the embedding
            if it has one, otherwise 1000 classes.
        synchronized_batch_norm: Whether batch norm computes its statistics over all replicas of a
            `tf.distribute` strategy, so that several workers train as one worker with all their images would.

    The other arguments, the returned model and the errors are those of `factories.create_inception_v4`.

    Examples:
        >>> from inception_resnet_keras.networks import find
        >>> model = build(find("inception_v4"), include_top=False, input_shape=(96, 96, 3))
        >>> model.name, model.output_shape
        ('inception_v4', (None, 1, 1, 1536))
    """
    # All checks come first, so that a wrong argument costs no time and leaves no layers behind.
    num_classes = _classes(num_classes, classes)
    data_format = keras.config.image_data_format()
    shape = _image_shape(input_shape, input_tensor, data_format)
    policy, activation = _policy(dtype), _activation(classifier_activation)
    _check_arguments(
        network,
        shape,
        data_format,
        num_classes=num_classes,
        include_top=include_top,
        pooling=pooling,
        input_tensor=input_tensor,
        dropout_rate=dropout_rate,
        aux_head=aux_head,
        batch_norm_momentum=batch_norm_momentum,
        synchronized_batch_norm=synchronized_batch_norm,
        weight_decay=weight_decay,
        include_preprocessing=include_preprocessing,
        weights=weights,
        channels=channels,
        name=name,
    )
    classes = DEFAULT_CLASSES if num_classes is None else int(num_classes)
    prefix = _prefix(layer_prefix, name or network.name)
    operations = KerasOperations(
        dropout_rate=float(dropout_rate),
        batch_norm_momentum=float(batch_norm_momentum),
        synchronized_batch_norm=synchronized_batch_norm,
        weight_decay=float(weight_decay),
        data_format=data_format,
        dtype=policy,
        prefix=prefix,
    )

    # The image.
    image = keras.Input(tuple(shape), name=f"{prefix}{names.INPUT}") if input_tensor is None else input_tensor
    x = operations.rescale_pixels(image, network) if include_preprocessing else image

    # The stem, the blocks, the reductions.
    x, aux_input = operations.trunk(network, x)

    # The head.
    if not include_top:
        output = x if pooling is None else operations.global_pool(x, pooling, names.POOLED)
    elif network.embedding and num_classes is None:
        output = operations.embedding(x, network)
    else:
        logits = operations.classifier(x, network, classes)
        output = operations.activation(logits, activation, names.PREDICTIONS)

    # The auxiliary head.
    outputs = [output]
    if aux_head:
        logits = operations.aux_classifier(aux_input, network, classes)
        outputs.append(operations.activation(logits, activation, names.inside(names.AUX, names.PREDICTIONS)))

    # The model and its weights. A list of one tensor is unwrapped: Keras warns when a model with one gets a tensor.
    inputs = [image] if input_tensor is None else keras.utils.get_source_inputs(image)
    model = keras.Model(
        inputs[0] if len(inputs) == 1 else inputs,
        outputs[0] if len(outputs) == 1 else outputs,
        name=name or network.name,
    )
    if weights is not None:
        from ..weights.load import load_weights

        load_weights(model, weights, channels=channels)
    return model


def _check_arguments(
    network: Network,
    shape: Any,
    data_format: str,
    *,
    num_classes: Any,
    include_top: Any,
    pooling: Any,
    input_tensor: Any,
    dropout_rate: Any,
    aux_head: Any,
    batch_norm_momentum: Any,
    synchronized_batch_norm: Any,
    weight_decay: Any,
    include_preprocessing: Any,
    weights: Any,
    channels: Any,
    name: Any,
) -> None:
    """Raise InputError for the first argument that is out of range, or if the checkpoint cannot be opened."""
    # Numbers, flags and names.
    if num_classes is not None:
        positive_integer("num_classes", num_classes)
    check_include_top(network, include_top)
    one_of("pooling", pooling, (None, "avg", "max"))
    below_one = "a number in [0, 1)"
    number_between("dropout_rate", dropout_rate, 0, 1, below_one)
    check_aux_head(network, aux_head)
    number_between("batch_norm_momentum", batch_norm_momentum, 0, 1, below_one)
    boolean("synchronized_batch_norm", synchronized_batch_norm)
    number_between("weight_decay", weight_decay, 0, float("inf"), "a number of at least 0")
    boolean("include_preprocessing", include_preprocessing)
    if name is not None and (not isinstance(name, str) or not name or "/" in name):
        raise refuse("name", name, "None or a string without /")
    # The image.
    argument = "input_shape" if input_tensor is None else "input_tensor"
    check_image_shape(network, shape, data_format, aux_head=aux_head, argument=argument)
    if input_tensor is not None and not include_preprocessing and "float" not in input_tensor.dtype:
        raise refuse("input_tensor", input_tensor.dtype, "a float dtype; any dtype with include_preprocessing=True")
    # The weights must exist and, if they have a registered name, fit the network.
    one_of("channels", channels, (None, "adapt"))
    if weights is not None:
        from ..weights.load import require

        channels_first = data_format == "channels_first"
        (height, width), colours = (shape[1:], shape[0]) if channels_first else (shape[:2], shape[2])
        ends = head(network, num_classes) if include_top else {"classes": None}
        require(weights, weight_shapes(trace(network, (height, width), channels=colours, aux_head=aux_head, **ends)))


def _image_shape(input_shape: Any, input_tensor: Any, data_format: str) -> Any:
    """The shape of one image, from `input_tensor` if given. Raises InputError if that is not a batch of images."""
    if input_tensor is None:
        default = (3, *DEFAULT_SIZE) if data_format == "channels_first" else (*DEFAULT_SIZE, 3)
        return default if input_shape is None else input_shape
    if not keras.backend.is_keras_tensor(input_tensor):
        raise refuse("input_tensor", input_tensor, "a Keras tensor, such as keras.Input(...) returns")
    if len(input_tensor.shape) != 4:
        raise refuse("input_tensor", input_tensor, "a tensor with four axes, the batch first")
    return tuple(input_tensor.shape[1:])


def _classes(num_classes: Any, classes: Any) -> Any:
    """Width of the classifier, under either of its two names. Raises InputError if the two differ."""
    if classes is None:
        return num_classes
    positive_integer("classes", classes)
    if num_classes not in (None, classes):
        raise refuse("classes", classes, f"None or {num_classes!r}: it is another name for num_classes")
    return classes


def _prefix(layer_prefix: Any, model_name: str) -> str:
    """The prefix of the layers' names."""
    prefix = f"{model_name}_" if layer_prefix is True else layer_prefix or ""
    own = isinstance(prefix, str) and names.stage(f"{prefix}{names.STEM}_")
    if not isinstance(layer_prefix, str | bool) or "/" in prefix or (prefix and own):
        takes = "True (the model's name), False, or a string without / that is not the beginning of a layer's own name"
        raise refuse("layer_prefix", layer_prefix, takes)
    return prefix


def _activation(given: Any) -> Any:
    """The classifier's activation as a function; None for None and "linear", which leave the logits as they are."""
    try:
        activation = keras.activations.get(given)
        if getattr(activation, "__name__", "") == "<lambda>":
            raise TypeError  # Keras can save a model with a lambda, but not open it again
        keras.activations.get(keras.activations.serialize(activation))
    except (ValueError, TypeError):
        raise refuse("classifier_activation", given, "a Keras activation, a registered function, or None") from None
    return None if given is None or activation is keras.activations.linear else activation


def _policy(dtype: Any) -> Any:
    """The floating-point Keras dtype policy that `dtype` names; None is the global one."""
    if dtype is None:
        return keras.config.dtype_policy()
    takes = 'a floating-point Keras dtype policy, such as "float32", "mixed_bfloat16" or "mixed_float16", or None'
    try:
        policy = keras.dtype_policies.get(dtype)
    except (ValueError, TypeError):
        raise refuse("dtype", dtype, takes) from None
    # A quantised policy (float8_from_…) has no effect on convolutions, so it would promise what it does not do.
    if policy.quantization_mode or "float" not in policy.compute_dtype:
        raise refuse("dtype", dtype, takes)
    return policy


class KerasOperations(Walker[Any]):
    """The operations of a network's table as Keras layers, with the arguments that all layers share.

    Args:
        dropout_rate, batch_norm_momentum, synchronized_batch_norm, weight_decay: As for `build`, already checked.
        data_format: "channels_last" or "channels_first".
        dtype: A Keras dtype policy.
        prefix: Prefix of every layer's name.
    """

    def __init__(
        self,
        *,
        dropout_rate: float,
        batch_norm_momentum: float,
        synchronized_batch_norm: bool,
        weight_decay: float,
        data_format: str,
        dtype: Any,
        prefix: str = "",
    ) -> None:
        self.dropout_rate, self.prefix = dropout_rate, prefix
        self.batch_norm_momentum, self.synchronized_batch_norm = batch_norm_momentum, synchronized_batch_norm
        self.regularizer = keras.regularizers.L2(weight_decay) if weight_decay else None
        self.data_format, self.axis, self.dtype = data_format, channel_axis(data_format), dtype

    def rescale_pixels(self, image: Any, network: Network) -> Any:
        """Pixels of 0-255 → the network's preprocessing of them, usually [-1, 1]."""
        scaling = network.preprocessing
        if scaling.per_image:
            # No Keras layer divides by a deviation with a lower bound. A nested model of operations opens in any Keras.
            pixels = keras.Input(image.shape[1:], dtype=FLOAT32)
            return keras.Model(pixels, standardized(pixels), name=self.prefix + names.PREPROCESS)(image)
        name = self.prefix + names.PREPROCESS
        return keras.layers.Rescaling(scaling.scale, scaling.offset, dtype=FLOAT32, name=name)(image)

    def conv(self, x: Any, row: Conv, name: str) -> Any:
        """Convolution without bias → batch norm without gamma → ReLU; a linear row is a convolution with bias."""
        height, width = x.shape[1:3] if self.axis == -1 else x.shape[2:4]
        x = keras.layers.Conv2D(
            row.filters,
            kernel_of(row, height, width),
            strides=row.stride,
            padding=row.padding,
            dilation_rate=row.dilation,
            use_bias=row.linear,
            kernel_regularizer=self.regularizer,
            data_format=self.data_format,
            dtype=self.dtype,
            name=self.prefix + name,
        )(x)
        if row.linear:
            return x
        return self.relu(
            self._batch_norm(x, names.batch_norm(name), axis=self.axis, dtype=self.dtype), names.relu(name)
        )

    def pool(self, x: Any, row: Pool, name: str) -> Any:
        if row.dilation > 1:
            # Keras's pools have no dilation. A nested model of operations opens in any Keras.
            cells = keras.Input(batch_shape=x.shape, dtype=x.dtype)
            return keras.Model(cells, dilated_pool(cells, row, self.axis), name=self.prefix + name)(x)
        layer = keras.layers.MaxPooling2D if row.kind == "max" else keras.layers.AveragePooling2D
        return layer(
            row.size,
            strides=row.stride,
            padding=row.padding,
            data_format=self.data_format,
            dtype=self.dtype,
            name=self.prefix + name,
        )(x)

    def concat(self, branches: list[Any], name: str) -> Any:
        return keras.layers.Concatenate(axis=self.axis, dtype=self.dtype, name=self.prefix + name)(branches)

    def residual_sum(self, x: Any, branch: Any, scale: float, place: str) -> Any:
        """x + scale · branch."""
        if scale != 1.0:
            branch = keras.layers.Rescaling(scale, dtype=self.dtype, name=self.prefix + names.scale(place))(branch)
        return keras.layers.Add(dtype=self.dtype, name=self.prefix + names.inside(place, names.SUM))([x, branch])

    def relu(self, x: Any, name: str) -> Any:
        return keras.layers.Activation("relu", dtype=self.dtype, name=self.prefix + name)(x)

    def global_pool(self, x: Any, kind: str, name: str) -> Any:
        layer = keras.layers.GlobalMaxPooling2D if kind == "max" else keras.layers.GlobalAveragePooling2D
        return layer(data_format=self.data_format, dtype=self.dtype, name=self.prefix + name)(x)

    def flatten(self, x: Any, name: str) -> Any:
        return keras.layers.Flatten(data_format=self.data_format, dtype=self.dtype, name=self.prefix + name)(x)

    def dropout(self, x: Any, name: str) -> Any:
        return keras.layers.Dropout(self.dropout_rate, dtype=self.dtype, name=self.prefix + name)(x)

    def dense(self, x: Any, units: int, name: str, *, bias: bool = True) -> Any:
        name = self.prefix + name
        layer = keras.layers.Dense(units, use_bias=bias, kernel_regularizer=self.regularizer, dtype=FLOAT32, name=name)
        return layer(x)

    def batch_norm(self, x: Any, name: str) -> Any:
        """Batch norm of a vector, without gamma."""
        return self._batch_norm(x, name, axis=-1, dtype=FLOAT32)

    def unit_norm(self, x: Any, name: str) -> Any:
        """x / ‖x‖₂."""
        return keras.layers.UnitNormalization(dtype=FLOAT32, name=self.prefix + name)(x)

    def activation(self, logits: Any, activation: Any, name: str) -> Any:
        """The classifier's activation layer; None returns the logits unchanged."""
        if activation is None:
            return logits
        return keras.layers.Activation(activation, dtype=FLOAT32, name=self.prefix + name)(logits)

    def width(self, x: Any) -> int:
        return x.shape[self.axis]

    def _batch_norm(self, x: Any, name: str, *, axis: int, dtype: Any) -> Any:
        """Batch norm without gamma, as in the released networks."""
        return keras.layers.BatchNormalization(
            axis=axis,
            momentum=self.batch_norm_momentum,
            epsilon=BATCH_NORM_EPSILON,
            scale=False,
            synchronized=self.synchronized_batch_norm,
            dtype=dtype,
            name=self.prefix + name,
        )(x)


def standardized(images: Any) -> Any:
    """Images (…, height, width, channels), each minus its own mean, divided by its own standard deviation.

    The deviation is at least 1/√N for an image of N numbers, as in `tf.image.per_image_standardization`.
    """
    ops, axes = keras.ops, (-3, -2, -1)
    centred = images - ops.mean(images, axis=axes, keepdims=True)
    if None in (sides := images.shape[-3:]):  # the graph takes any size: N is counted at run time
        root = ops.sqrt(ops.sum(ops.ones_like(images), axis=axes, keepdims=True))
    else:
        root = prod(sides) ** 0.5
    # deviation = ‖c‖/√N for the centred image c, so c · (√N / max(‖c‖, 1)) = c / max(deviation, 1/√N).
    length = ops.sqrt(ops.sum(ops.square(centred), axis=axes, keepdims=True))
    return centred * (root / ops.maximum(length, 1.0))


def dilated_pool(x: Any, row: Pool, channel_axis: int) -> Any:
    """A dilated average pool with "same" padding and stride 1; padding cells are not counted in the average."""
    if (row.kind, row.padding, row.stride) != ("avg", "same", 1):
        raise ValueError(
            f"dilation: got a {row.kind} pool with {row.padding} padding and stride {row.stride}; only average pools "
            "with same padding and stride 1 can be dilated"
        )
    # Sum along one axis, then the other; the same sum over ones counts the cells inside the map.
    ops = keras.ops
    ones = ops.ones_like(x[:, :1] if channel_axis == 1 else x[..., :1])
    total, count = x, ones
    for axis in (2, 3) if channel_axis == 1 else (1, 2):
        total, count = (_summed(cells, row, axis) for cells in (total, count))
    return total / count


def _summed(x: Any, row: Pool, axis: int) -> Any:
    """The sum over each window along one axis, with zeros outside the map."""
    reach = reach_of(row.size, row.dilation) - 1
    before, none = reach // 2, (0, 0)
    padded = keras.ops.pad(x, [(before, reach - before) if each == axis else none for each in range(4)])
    whole = (slice(None),) * axis
    total = padded[(*whole, slice(0, -reach))]
    for start in range(row.dilation, reach, row.dilation):
        total = total + padded[(*whole, slice(start, start - reach))]
    return total + padded[(*whole, slice(reach, None))]


def channel_axis(data_format: str) -> int:
    """The index of the channel axis in a batch of images."""
    return 1 if data_format == "channels_first" else -1

"""build(network), and the three factories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Literal, TypeVar

import keras

from .. import networks
from ..common import arguments
from ..common.errors import refuse
from . import names
from .build import FLOAT32, KerasBuilder
from .rows import DROPOUT_RATE, Network

Pooling = Literal["avg", "max"]

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_SHAPE = (299, 299, 3)  # under "channels_first" the same image, in that order


class _VariantsOwn(int):
    """The default of `num_classes`: 1000, and distinct from a 1000 that was given."""


VARIANTS_OWN = _VariantsOwn(1000)

_ARGUMENTS = """
        variant: The network's table: "paper" (the paper's figures, misprints corrected), "slim"
            (v4, ResNet-v2: the network that was released for ImageNet) or "facenet" (ResNet-v1: the
            released face-embedding network). guides/variants.md says how they differ.
        depths: How many of the blocks A, B, C there are, each at least 1; None for the variant's own.
        include_top: Whether the classifier (average pool, dropout, dense) is built.
        pooling: Without a top: None for the last map, "avg" or "max" for a vector a picture.
        input_shape: (height, width, channels), or (channels, height, width) under the
            "channels_first" image data format. Height and width may be None, and are at least 75.
        input_tensor: A Keras tensor to read from instead of a new input; its shape is then used.
        classifier_activation: Of the top: a Keras activation, or None for logits.
        dropout_rate: Before the classifier, the share dropped, in [0, 1) (paper: keep 0.8).
        aux_head: Whether the auxiliary classifier after the last block B is built: the model then
            has two outputs, the classifier's first. Needs a known size of at least 107.
        batch_norm_momentum: Share kept of the moving statistics at a step, in [0, 1). The paper's
            networks have 0.9997, which needs ten thousand steps to settle: give less to short runs.
        weight_decay: Keras L2 coefficient on every kernel, at least 0: adds it times Σw² to the loss.
            TF-Slim's 4e-5 halves the sum, so it is 2e-5 here.
        include_preprocessing: Whether the model takes raw pixels (0-255) and scales them itself.
            Otherwise it takes what `preprocess_input` returns, in [-1, 1].
        weights: None; the path of a checkpoint that `load_weights` reads; or a registered name:
            "imagenet", "imagenet-ens-adv", "vggface2", "casia-webface", which are downloaded once.
        dtype: A Keras dtype policy, None for the global one. Logits and activation stay float32.
        name: The model's name; None for the network's.

    Returns:
        A functional `keras.Model`: (batch, num_classes) in float32, or without a top the last map
        or vector; facenet's embedding where it was given no num_classes. Its
        layers are named by their place, the same in every build.

    Raises:
        ValueError: An argument is out of range; it names the argument, what it got and what it takes.
"""


def _documented(factory: F) -> F:
    factory.__doc__ = (factory.__doc__ or "").rstrip() + _ARGUMENTS
    return factory


@_documented
def create_inception_v4(
    num_classes: int = 1000,
    *,
    variant: str = "paper",
    depths: Sequence[int] | None = None,
    include_top: bool = True,
    pooling: Pooling | None = None,
    input_shape: Sequence[int | None] = DEFAULT_SHAPE,
    input_tensor: Any = None,
    classifier_activation: Any = "softmax",
    dropout_rate: float = DROPOUT_RATE,
    aux_head: bool = False,
    batch_norm_momentum: float = 0.9997,
    weight_decay: float = 0.0,
    include_preprocessing: bool = False,
    weights: str | PathLike[str] | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> keras.Model:
    """Inception-v4: the paper's Figure 9, of Figures 3 to 8.

    Args:
        num_classes: Width of the classifier, at least 1.
    """
    return build(arguments.deepened(networks.find("inception_v4", variant), depths), **_options(locals()))


@_documented
def create_inception_resnet_v1(
    num_classes: int = VARIANTS_OWN,
    scale: bool | float | Sequence[float] = True,
    *,
    variant: str = "paper",
    depths: Sequence[int] | None = None,
    include_top: bool = True,
    pooling: Pooling | None = None,
    input_shape: Sequence[int | None] = DEFAULT_SHAPE,
    input_tensor: Any = None,
    classifier_activation: Any = "softmax",
    dropout_rate: float = DROPOUT_RATE,
    aux_head: bool = False,
    batch_norm_momentum: float = 0.9997,
    weight_decay: float = 0.0,
    include_preprocessing: bool = False,
    weights: str | PathLike[str] | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> keras.Model:
    """Inception-ResNet-v1: the paper's Figure 15, of Figures 7 and 10 to 14.

    `variant="facenet"` is the network of davidsandberg/facenet and facenet-pytorch: (batch, 512),
    of length 1. Its own settings are `input_shape=(160, 160, 3)`, `batch_norm_momentum=0.995` and
    `preprocess_input(x, "facenet")`, which are not set by the variant; it has no auxiliary head.

    Args:
        num_classes: Width of the classifier, at least 1. For "facenet": not given, the model gives
            the embedding; given, a classifier that reads the embedding before it is normalised.
        scale: Of the residuals before they are summed: True for the variant's own (paper: 0.1),
            False for none, a number in (0, 1], or three of them for the blocks A, B, C.
    """
    network = arguments.scaled(arguments.deepened(networks.find("inception_resnet_v1", variant), depths), scale)
    return build(network, **_options(locals()))


@_documented
def create_inception_resnet_v2(
    num_classes: int = 1000,
    scale: bool | float | Sequence[float] = True,
    *,
    variant: str = "paper",
    depths: Sequence[int] | None = None,
    include_top: bool = True,
    pooling: Pooling | None = None,
    input_shape: Sequence[int | None] = DEFAULT_SHAPE,
    input_tensor: Any = None,
    classifier_activation: Any = "softmax",
    dropout_rate: float = DROPOUT_RATE,
    aux_head: bool = False,
    batch_norm_momentum: float = 0.9997,
    weight_decay: float = 0.0,
    include_preprocessing: bool = False,
    weights: str | PathLike[str] | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> keras.Model:
    """Inception-ResNet-v2: the paper's Figure 15, of Figures 3, 7 and 16 to 19.

    Its Reduction-A ends 1152 wide (the paper's Figure 17 prints 1154), its Reduction-B 2144
    (Figure 19 prints 2048).

    Args:
        num_classes: Width of the classifier, at least 1.
        scale: Of the residuals before they are summed: True for the variant's own (paper: 0.1),
            False for none, a number in (0, 1], or three of them for the blocks A, B, C.
    """
    network = arguments.scaled(arguments.deepened(networks.find("inception_resnet_v2", variant), depths), scale)
    return build(network, **_options(locals()))


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """A factory's arguments less those that chose the network."""
    return {key: value for key, value in given.items() if key not in ("variant", "depths", "scale", "network")}


def build(
    network: Network,
    num_classes: int = VARIANTS_OWN,
    *,
    include_top: bool = True,
    pooling: Pooling | None = None,
    input_shape: Sequence[int | None] = DEFAULT_SHAPE,
    input_tensor: Any = None,
    classifier_activation: Any = "softmax",
    dropout_rate: float = DROPOUT_RATE,
    aux_head: bool = False,
    batch_norm_momentum: float = 0.9997,
    synchronized_batch_norm: bool = False,
    weight_decay: float = 0.0,
    include_preprocessing: bool = False,
    weights: str | PathLike[str] | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> keras.Model:
    """A network's table as a functional Keras model; the arguments are the factories', and one more.

    synchronized_batch_norm: whether batch norm takes its statistics over all replicas of a
        `tf.distribute` strategy, so that several workers train as one would with all their pictures.
    """
    check = arguments
    classes = check.positive_integer("num_classes", num_classes)
    check.boolean("include_top", include_top)
    check.auxiliary(network, aux_head)
    check.boolean("include_preprocessing", include_preprocessing)
    if name is not None and (not isinstance(name, str) or not name or "/" in name):
        raise refuse("name", name, "None or a text without /")
    check.one_of("pooling", pooling, (None, "avg", "max"))
    below_one = "a number in [0, 1)"
    builder = KerasBuilder(
        dropout_rate=check.number_between("dropout_rate", dropout_rate, 0, 1, below_one),
        batch_norm_momentum=check.number_between("batch_norm_momentum", batch_norm_momentum, 0, 1, below_one),
        synchronized_batch_norm=check.boolean("synchronized_batch_norm", synchronized_batch_norm),
        weight_decay=check.number_between("weight_decay", weight_decay, 0, float("inf"), "a number of at least 0"),
        data_format=keras.config.image_data_format(),
        dtype=_policy(dtype),
    )
    activation = _activation(classifier_activation)
    if weights is not None:
        from ..weights.load import load, require

        require(weights)

    inputs = image = _input(network, input_shape, input_tensor, builder, aux_head=aux_head)
    if include_preprocessing:
        image = _scale_pixels(image, network)
    elif "float" not in image.dtype:
        raise refuse("input_tensor", image.dtype, "floats; with include_preprocessing=True any dtype")
    x, aux_input = builder.trunk(network, image)
    if not include_top:
        outputs = [_pooled(builder, x, pooling)]
    elif network.embedding and num_classes is VARIANTS_OWN:
        outputs = [builder.embedding(x, network)]
    else:
        outputs = [_activated(builder.classifier(x, network, classes), activation, names.PREDICTIONS)]
    if aux_head:
        logits = builder.aux_classifier(aux_input, network, classes)
        outputs.append(_activated(logits, activation, names.inside(names.AUX, names.PREDICTIONS)))
    if input_tensor is not None:
        sources = keras.utils.get_source_inputs(inputs)
        inputs = sources[0] if len(sources) == 1 else sources  # Keras warns where a list of one is fed a tensor
    model = keras.Model(inputs, outputs if aux_head else outputs[0], name=name or network.name)
    if weights is not None:
        load(model, weights)
    return model


def _input(network: Network, input_shape: Any, input_tensor: Any, builder: KerasBuilder, *, aux_head: bool) -> Any:
    if input_tensor is None:
        if builder.data_format == "channels_first" and input_shape is DEFAULT_SHAPE:
            input_shape = DEFAULT_SHAPE[::-1]
        shape = arguments.image_shape(network, input_shape, builder.data_format, aux_head=aux_head)
        return keras.Input(shape, name=names.INPUT)
    if not keras.backend.is_keras_tensor(input_tensor):
        raise refuse("input_tensor", input_tensor, "a Keras tensor, such as keras.Input(...) returns")
    if len(input_tensor.shape) != 4:
        raise refuse("input_tensor", input_tensor, "a tensor of four axes, the batch first")
    shape = tuple(input_tensor.shape[1:])
    arguments.image_shape(network, shape, builder.data_format, aux_head=aux_head, argument="input_tensor")
    return input_tensor


def _scale_pixels(image: Any, network: Network) -> Any:
    """0-255 → about [-1, 1], inside the graph."""
    scale = 1 / network.preprocessing.divisor
    offset = -network.preprocessing.mean * scale
    return keras.layers.Rescaling(scale, offset=offset, dtype=FLOAT32, name=names.PREPROCESS)(image)


def _pooled(builder: KerasBuilder, x: Any, pooling: Pooling | None) -> Any:
    return x if pooling is None else builder.global_pool(x, pooling, names.POOLED)


def _activated(logits: Any, activation: Any, name: str) -> Any:
    if activation is None:
        return logits
    return keras.layers.Activation(activation, dtype=FLOAT32, name=name)(logits)


def _activation(given: Any) -> Any:
    """None for none ("linear" too, as it changes nothing)."""
    try:
        activation = keras.activations.get(given)
        if getattr(activation, "__name__", "") == "<lambda>":
            raise TypeError  # what is saved with it opens nowhere
        keras.activations.get(keras.activations.serialize(activation))
    except (ValueError, TypeError):
        raise refuse("classifier_activation", given, "a Keras activation, a registered function, or None") from None
    return None if given is None or activation is keras.activations.linear else activation


def _policy(dtype: Any) -> Any:
    if dtype is None:
        return keras.config.dtype_policy()
    takes = 'a Keras dtype policy of floats, such as "float32", "mixed_bfloat16" or "mixed_float16", or None'
    try:
        policy = keras.dtype_policies.get(dtype)
    except (ValueError, TypeError):
        raise refuse("dtype", dtype, takes) from None
    # A quantised policy (float8_from_…) changes no convolution: it would promise what it does not do.
    if policy.quantization_mode or "float" not in policy.compute_dtype:
        raise refuse("dtype", dtype, takes)
    return policy

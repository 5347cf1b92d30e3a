"""The three factories. `create_inception_v4` documents the shared arguments, the other two what differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Literal

import keras

from .. import networks
from .build import BATCH_NORM_MOMENTUM, Pooling, build
from .checks import apply_depths, apply_scale
from .edits import with_output_stride, with_padding
from .rows import DROPOUT_RATE, Padding


def create_inception_v4(
    num_classes: int | None = None,
    *,
    variant: Literal["paper", "slim"] = "paper",
    depths: Sequence[int] | None = None,
    classes: int | None = None,
    include_top: bool = True,
    pooling: Pooling | None = None,
    input_shape: Sequence[int | None] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    classifier_activation: str | Callable[..., object] | None = "softmax",
    dropout_rate: float = DROPOUT_RATE,
    aux_head: bool = False,
    padding: Padding = "valid",
    output_stride: Literal[16, 8] | None = None,
    batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
    weight_decay: float = 0.0,
    include_preprocessing: bool = False,
    weights: str | PathLike[str] | None = None,
    channels: Literal["adapt"] | None = None,
    dtype: str | keras.DTypePolicy | None = None,
    name: str | None = None,
    layer_prefix: str | bool = False,
) -> keras.Model:
    """Inception-v4: Figure 9 of the paper, composed of Figures 3 to 8.

    Args:
        num_classes: Width of the classifier, at least 1. None is 1000.
        variant: The table to build. "paper" follows the paper's figures, with misprints corrected; "slim" is the
            network released by TF-Slim with ImageNet weights. guides/variants.md describes how they differ.
        depths: Number of blocks A, B and C, each from 1 to 1000. None is the variant's own, (4, 7, 3).
        classes: Another name for `num_classes`, as in `keras.applications`.
        include_top: Whether to build the classifier: average pooling, dropout and a dense layer.
        pooling: Without a top: None returns the last feature map; "avg" or "max" pools it to one vector
            per image. Ignored with a top.
        input_shape: (height, width, channels), or (channels, height, width) under the "channels_first"
            image data format. Height and width are in pixels, at least 75 (fewer with `padding` or
            `output_stride`), or None for any size. None is (299, 299, 3) in the current data format.
        input_tensor: Keras tensor (batch, height, width, channels) to use as the image instead of a new input.
            `input_shape` is then ignored.
        classifier_activation: Activation of the classifier, a name or a registered function; None returns logits.
        dropout_rate: Fraction dropped before the classifier, in [0, 1). The paper keeps 0.8.
        aux_head: Whether to build the auxiliary classifier after the last block B, as in TF-Slim's code; none of
            the paper's figures shows one. The model then has two outputs, the main classifier's first. Height
            and width must be known, and at least 107 pixels.
        padding: "valid" is the padding of the paper and of every release. "same" aligns the maps, as detectors and
            segmenters need it (TF-Slim's `align_feature_maps`): each map is the image's height and width divided by
            its stride, rounded up. The weights have the same shapes. Outputs differ, most near the borders.
        output_stride: Stride of the last map, 32 for None. 16 and 8 compute the same function at more positions: one
            reduction gets stride 1, and the blocks after it are dilated by 2 (TF-Slim's `output_stride`).
            With 16 these are Reduction-B and blocks C. With 8 they are Reduction-A and blocks B, after which the
            network ends: it needs `include_top=False` and no auxiliary head. The weights have the same shapes. With
            8, loading a whole network's file drops the layers after blocks B.
        batch_norm_momentum: Momentum of the moving averages, in [0, 1). TF-Slim's 0.9997 needs about ten thousand
            steps to settle; use a lower value for short runs, or `settle_batch_norm` after them.
        weight_decay: Coefficient of Keras's L2 regularizer on every kernel, at least 0: it adds the
            coefficient times Σw² to the loss. TF-Slim halves the sum: its 4e-5 is 2e-5 here.
        include_preprocessing: Whether the model takes pixels of 0-255 and rescales them itself. Otherwise it
            takes the output of `preprocess_input`, in [-1, 1].
        weights: None for random weights; the path of a checkpoint that `load_weights` reads; or a registered
            name ("imagenet", "imagenet-ens-adv", "vggface2", "casia-webface"), downloaded once.
        channels: "adapt" adapts weights for three-channel images to an `input_shape` with another number of channels,
            so that a grey image gives the same output as its RGB copy; see `load_weights`. None raises an error for
            such weights.
        dtype: Keras dtype policy; None is the global one. Logits and predictions are float32 under any policy.
        name: Name of the model; None is the network's, such as "inception_v4".
        layer_prefix: Prefix of every layer's name, so that one model can hold two networks: a string such as
            "left_", or True for the model's name and "_". Loading weights and `endpoints` ignore the prefix.

    Returns:
        A functional `keras.Model` from (batch, height, width, channels) to float32 (batch, num_classes).
        Without a top its output is the last feature map, (batch, 8, 8, 1536) for 299 × 299 pixels, or with `pooling`
        a vector, (batch, 1536). With `aux_head` it is a list of two outputs. Layers are named by their position in
        the network, identically in every build.

    Raises:
        ValueError: An argument is out of range, or the weights do not fit the model. The message names the argument,
            its value and the accepted values. Arguments are checked before any layer is built.

    Examples:
        >>> from inception_resnet_keras import create_inception_v4
        >>> model = create_inception_v4(10, depths=(1, 1, 1), input_shape=(96, 96, 3))
        >>> model.output_shape
        (None, 10)
    """
    network = apply_depths(networks.find("inception_v4", variant), depths)
    network = with_output_stride(with_padding(network, padding), output_stride)
    return build(
        network,
        num_classes,
        classes=classes,
        include_top=include_top,
        pooling=pooling,
        input_shape=input_shape,
        input_tensor=input_tensor,
        classifier_activation=classifier_activation,
        dropout_rate=dropout_rate,
        aux_head=aux_head,
        batch_norm_momentum=batch_norm_momentum,
        weight_decay=weight_decay,
        include_preprocessing=include_preprocessing,
        weights=weights,
        channels=channels,
        dtype=dtype,
        name=name,
        layer_prefix=layer_prefix,
    )


def create_inception_resnet_v1(
    num_classes: int | None = None,
    scale: bool | float | Sequence[float] = True,
    *,
    variant: Literal["paper", "facenet", "facenet_128"] = "paper",
    depths: Sequence[int] | None = None,
    classes: int | None = None,
    include_top: bool = True,
    pooling: Pooling | None = None,
    input_shape: Sequence[int | None] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    classifier_activation: str | Callable[..., object] | None = "softmax",
    dropout_rate: float = DROPOUT_RATE,
    aux_head: bool = False,
    padding: Padding = "valid",
    output_stride: Literal[16, 8] | None = None,
    batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
    weight_decay: float = 0.0,
    include_preprocessing: bool = False,
    weights: str | PathLike[str] | None = None,
    channels: Literal["adapt"] | None = None,
    dtype: str | keras.DTypePolicy | None = None,
    name: str | None = None,
    layer_prefix: str | bool = False,
) -> keras.Model:
    """Inception-ResNet-v1: Figure 15 of the paper, composed of Figures 7 and 10 to 14.

    `create_inception_v4` documents the arguments that are not listed here.

    Args:
        num_classes: Width of the classifier, at least 1. None builds the variant's own head: 1000 classes for
            "paper"; an embedding of unit length for "facenet", (batch, 512), and "facenet_128", (batch, 128).
            A number builds a classifier; in the facenet variants it reads the embedding before normalisation.
        scale: Scale of the residuals before they are added. True is the variant's own ("paper": 0.1, this
            package's choice within the paper's 0.1 to 0.3), False is 1. Or one number in (0, 1] for all blocks, or
            three of them for blocks A, B and C.
        variant: "paper" follows the paper's figures. "facenet" is the face-embedding network of
            davidsandberg/facenet and facenet-pytorch, which has no auxiliary head. It was trained with
            `input_shape=(160, 160, 3)`, `batch_norm_momentum=0.995` and `preprocess_input(x, "facenet")`;
            the variant does not set these. "facenet_128" is the network that davidsandberg/facenet published in
            2017, with an embedding of 128 numbers, for `preprocess_input(x, "per_image_standardization")`.
        depths: Number of blocks A, B and C, each from 1 to 1000. None is the variant's own, (5, 10, 5) or, in the
            facenet variants, (5, 10, 6).

    Returns:
        A functional `keras.Model`, as from `create_inception_v4`. Its last feature map has 1792 channels.

    Raises:
        ValueError: As for `create_inception_v4`; or `scale` is out of range.

    Examples:
        >>> from inception_resnet_keras import create_inception_resnet_v1
        >>> model = create_inception_resnet_v1(variant="facenet", depths=(1, 1, 1), input_shape=(160, 160, 3))
        >>> model.output_shape
        (None, 512)
    """
    network = apply_scale(apply_depths(networks.find("inception_resnet_v1", variant), depths), scale)
    network = with_output_stride(with_padding(network, padding), output_stride)
    return build(
        network,
        num_classes,
        classes=classes,
        include_top=include_top,
        pooling=pooling,
        input_shape=input_shape,
        input_tensor=input_tensor,
        classifier_activation=classifier_activation,
        dropout_rate=dropout_rate,
        aux_head=aux_head,
        batch_norm_momentum=batch_norm_momentum,
        weight_decay=weight_decay,
        include_preprocessing=include_preprocessing,
        weights=weights,
        channels=channels,
        dtype=dtype,
        name=name,
        layer_prefix=layer_prefix,
    )


def create_inception_resnet_v2(
    num_classes: int | None = None,
    scale: bool | float | Sequence[float] = True,
    *,
    variant: Literal["paper", "slim"] = "paper",
    depths: Sequence[int] | None = None,
    classes: int | None = None,
    include_top: bool = True,
    pooling: Pooling | None = None,
    input_shape: Sequence[int | None] | None = None,
    input_tensor: keras.KerasTensor | None = None,
    classifier_activation: str | Callable[..., object] | None = "softmax",
    dropout_rate: float = DROPOUT_RATE,
    aux_head: bool = False,
    padding: Padding = "valid",
    output_stride: Literal[16, 8] | None = None,
    batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
    weight_decay: float = 0.0,
    include_preprocessing: bool = False,
    weights: str | PathLike[str] | None = None,
    channels: Literal["adapt"] | None = None,
    dtype: str | keras.DTypePolicy | None = None,
    name: str | None = None,
    layer_prefix: str | bool = False,
) -> keras.Model:
    """Inception-ResNet-v2: Figure 15 of the paper, composed of Figures 3, 7 and 16 to 19.

    The output of Reduction-A has 1152 channels (Figure 17 prints 1154), that of Reduction-B 2144 (Figure 19 prints
    2048). `create_inception_v4` documents the arguments that are not listed here.

    Args:
        num_classes: Width of the classifier, at least 1. None is 1000.
        scale: Scale of the residuals before they are added. True is the variant's own ("paper": 0.1, this
            package's choice within the paper's 0.1 to 0.3), False is 1. Or one number in (0, 1] for all blocks, or
            three of them for blocks A, B and C.
        variant: "paper" follows the paper's figures, with misprints corrected; "slim" is the network released by
            TF-Slim with ImageNet weights, which is also `keras.applications.InceptionResNetV2`.
        depths: Number of blocks A, B and C, each from 1 to 1000. None is the variant's own, (5, 10, 5) for "paper"
            and (10, 20, 10) for "slim".

    Returns:
        A functional `keras.Model`, as from `create_inception_v4`. Its last feature map has 2144 channels ("slim":
        1536).

    Raises:
        ValueError: As for `create_inception_v4`; or `scale` is out of range.

    Examples:
        >>> from inception_resnet_keras import create_inception_resnet_v2
        >>> model = create_inception_resnet_v2(scale=0.2, include_top=False, pooling="avg", depths=(1, 1, 1))
        >>> model.output_shape
        (None, 2144)
    """
    network = apply_scale(apply_depths(networks.find("inception_resnet_v2", variant), depths), scale)
    network = with_output_stride(with_padding(network, padding), output_stride)
    return build(
        network,
        num_classes,
        classes=classes,
        include_top=include_top,
        pooling=pooling,
        input_shape=input_shape,
        input_tensor=input_tensor,
        classifier_activation=classifier_activation,
        dropout_rate=dropout_rate,
        aux_head=aux_head,
        batch_norm_momentum=batch_norm_momentum,
        weight_decay=weight_decay,
        include_preprocessing=include_preprocessing,
        weights=weights,
        channels=channels,
        dtype=dtype,
        name=name,
        layer_prefix=layer_prefix,
    )

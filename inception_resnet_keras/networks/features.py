"""The named stages of a model: for detection, segmentation, transfer and looking inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from ..common.errors import InputError, refuse
from . import names

STRIDES = tuple(f"stride_{stride}" for stride in (2, 4, 8, 16, 32))

_TURNS = ((3, 1, 2), (2, 3, 1))  # of `Permute`: channels first, and back

HEADS = {name for head in names.HEADS for name in (head, names.inside(names.AUX, head))} - {names.DROPOUT}


def endpoints(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """The stages of a network as Keras tensors, in the order of the walk.

    Args:
        model: A model of this project, built or loaded, with or without its top.

    Returns:
        By name: `stem`, each block (`a01` … `c05`), `reduction_a`, `reduction_b`, `final` where the
        variant has one, `pooled`, `logits`, `predictions` and `aux_logits` where they were built;
        and `stride_2` to `stride_32`, the last map of each stride (the usual C1 to C5; the
        networks' valid padding makes a map slightly smaller than its input over the stride).

    Raises:
        ValueError: The model holds no layer of these networks' names.

    Examples:
        >>> from inception_resnet_keras import create_inception_resnet_v1
        >>> model = create_inception_resnet_v1(include_top=False, depths=(1, 1, 1), input_shape=(139, 139, 3))
        >>> [name for name in endpoints(model) if not name.startswith("stride")]
        ['stem', 'a01', 'reduction_a', 'b01', 'reduction_b', 'c01']
        >>> endpoints(model)["reduction_a"].shape
        (None, 7, 7, 896)
    """
    if not isinstance(model, keras.Model):
        raise refuse("model", model, "a Keras model of this project")
    if not any(names.stage(layer.name) for layer in model.layers):
        raise InputError(
            f"model: {model.name!r} has no layer named as this project's are, such as 'stem_conv_1'; "
            "give the network itself where it is nested in another model"
        )
    stages: dict[str, Any] = {}
    heads: dict[str, Any] = {}
    maps: dict[str, Any] = {}
    strides: dict[int, int] = {}
    for layer in model.layers:  # from the input on: a layer stands after all that it reads
        output, stage = layer.output, names.stage(layer.name)
        if isinstance(output, list):
            continue
        strides[id(output)] = stride = _stride(layer, strides)
        if stage and not names.in_branch(layer.name):
            stages[stage] = maps[f"stride_{stride}"] = output
        elif layer.name in HEADS:
            heads[layer.name] = output
    return stages | heads | {name: maps[name] for name in STRIDES if name in maps}


def feature_extractor(model: keras.Model, names: str | Sequence[str] | None = None) -> keras.Model:
    """A model with some of another's endpoints as outputs; the layers and weights are shared.

    Args:
        model: A model of this project, built or loaded.
        names: Names that `endpoints` has, or one of them; None for the last maps of strides 4, 8,
            16 and 32, as detection and segmentation necks take them.

    Returns:
        A model from the same input to a dict of the named tensors.

    Raises:
        ValueError: A name is not among the model's endpoints; it lists those there are.

    Examples:
        >>> from inception_resnet_keras import create_inception_resnet_v1
        >>> model = create_inception_resnet_v1(include_top=False, depths=(1, 1, 1), input_shape=(139, 139, 3))
        >>> {name: map.shape for name, map in feature_extractor(model, ["stride_8", "c01"]).output.items()}
        {'stride_8': (None, 15, 15, 256), 'c01': (None, 3, 3, 1792)}
    """
    there = endpoints(model)
    wanted = STRIDES[1:] if names is None else [names] if isinstance(names, str) else names
    if not isinstance(wanted, Sequence) or not wanted or not all(name in list(there) for name in wanted):
        raise refuse("names", names, f"None, or of this model's endpoints one or more: {', '.join(there)}")
    return keras.Model(model.input, {name: there[name] for name in wanted}, name=f"{model.name}_features")


def embedding_of(model: keras.Model) -> Any:
    """What a model knows a picture by, as a Keras tensor (batch, width): what its classifier reads, or its output.

    Only where the network ends in its own embedding is that of length 1.

    Raises:
        ValueError: The model gives maps: it has neither a classifier nor an embedding nor pooled features.
    """
    if any(layer.name == names.LOGITS for layer in model.layers):
        return model.get_layer(names.LOGITS).input
    if isinstance(model.output, list) or len(model.output.shape) != 2:
        raise InputError(
            f"model: {model.name!r} has neither classifier nor embedding: it gives {model.output_shape}; build it with "
            "include_top=True, or pooling='avg'"
        )
    return model.output


def channels_first(model: keras.Model) -> bool:
    """Whether a model takes (batch, channels, height, width), whatever Keras is set to now.

    Its first layer that has a `data_format` tells, a nested model's too; a `Permute` before it turns pictures round.
    """
    turned = False
    for layer in leaves(model):
        if isinstance(layer, keras.layers.Permute):
            turned ^= tuple(layer.dims) in _TURNS
        elif told := getattr(layer, "data_format", None):
            return (told == "channels_first") != turned
    return False


def image_size(model: keras.Model) -> tuple[Any, Any]:
    """(height, width) of the pictures that a model takes; None where any will do."""
    height, width = model.input_shape[2:] if channels_first(model) else model.input_shape[1:3]
    return height, width


def leaves(model: keras.Model) -> Iterator[keras.Layer]:
    """A model's layers, and in place of nested models theirs."""
    for layer in model.layers:
        yield from leaves(layer) if isinstance(layer, keras.Model) else (layer,)


def _stride(layer: keras.Layer, strides: dict[int, int]) -> int:
    """Pixels of the image that a step on the layer's output map is."""
    inputs = layer.input if isinstance(layer.input, list) else [layer.input]
    before = max((strides.get(id(tensor), 1) for tensor in inputs), default=1)
    own = getattr(layer, "strides", 1)
    return before * (own[0] if isinstance(own, tuple) else own)

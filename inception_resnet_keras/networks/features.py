"""The named stages of a model: for detection, segmentation, transfer and looking inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from ..common.errors import InputError, refuse
from . import names
from .keras_graph import Call, Graph, flattened
from .recognise import leaves

_PYRAMID = names.STRIDES[1:]
HEADS = {name for head in names.HEADS for name in (head, names.inside(names.AUX, head))} - {names.DROPOUT}


def endpoints(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """The stages of a network as Keras tensors, in the order of the walk.

    Args:
        model: A model of this project, built or loaded, with or without its top; or a functional or sequential model
            with one inside it.

    Returns:
        By name: `stem`, each block (`a01` … `c05`), `reduction_a`, `reduction_b`, `final` where the
        variant has one, `pooled`, `logits`, `predictions` and `aux_logits` where they were built;
        and `stride_2` to `stride_32`, the last map of each stride (the usual C1 to C5; the
        networks' valid padding makes a map slightly smaller than its input over the stride, unless they are built
        with padding="same"). `feature_geometry` says where the cells of each map lie in the picture. A
        `layer_prefix` is taken off these names, unless the model holds several networks.

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
    flat = flattened(model)
    calls = [] if flat is None else Graph(flat, flat.output).calls
    layers = [call.operation.name for call in calls]
    networks = names.prefixes(layers) or [""]  # a part of a network may have no stem
    if not any(names.stage(layer.removeprefix(prefix)) for layer in layers for prefix in networks):
        raise InputError(
            f"model: {model.name!r} has no layer named as this project's are, such as 'stem_conv_1', neither itself "
            "nor in a functional model inside it"
        )
    ends: dict[str, Any] = {}
    for prefix in networks:
        ends |= {f"{prefix}{name}" if networks[1:] else name: end for name, end in _endpoints(calls, prefix).items()}
    return ends


def _endpoints(calls: Sequence[Call], prefix: str) -> dict[str, keras.KerasTensor]:
    """The endpoints of the network whose layers' names begin with a prefix."""
    stages: dict[str, Any] = {}
    heads: dict[str, Any] = {}
    maps: dict[str, Any] = {}
    strides: dict[int, int] = {}
    for call in calls:  # from the input on: a call stands after all that it reads
        stride = _stride(call, strides)
        strides |= {id(output): stride for output in call.outputs}
        if len(call.outputs) != 1:
            continue
        if not call.operation.name.startswith(prefix):
            continue
        (output,), name = call.outputs, call.operation.name.removeprefix(prefix)
        stage = names.stage(name)
        if stage and not names.in_branch(name):
            stages[stage] = maps[f"stride_{stride}"] = output
        elif name in HEADS:
            heads[name] = output
    return stages | heads | {name: maps[name] for name in names.STRIDES if name in maps}


def feature_extractor(model: keras.Model, names: str | Sequence[str] | None = None) -> keras.Model:
    """A model with some of another's endpoints as outputs; the layers and weights are shared.

    Args:
        model: A model of this project, built or loaded.
        names: Names that `endpoints` has, or one of them; None for the last maps of strides 4, 8,
            16 and 32, as detection and segmentation necks take them; up to the network's output stride, where it
            has one.

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
    found = endpoints(model)
    wanted = _PYRAMID if names is None else [names] if isinstance(names, str) else names
    if names is None and _is_dilated(model):  # an output stride of 8 or 16: there are no coarser maps
        wanted = [name for name in _PYRAMID if name in found]
    elif names is None and (missing := [name for name in wanted if name not in found]):
        raise InputError(
            f"model: {model.name!r} ends before {' and '.join(missing)}; give names, one or more of {', '.join(found)}"
        )
    if not isinstance(wanted, Sequence) or not wanted or not all(name in list(found) for name in wanted):
        raise refuse("names", names, f"None, or one or more of this model's endpoints: {', '.join(found)}")
    return keras.Model(_inputs(model), {name: found[name] for name in wanted}, name=f"{model.name}_features")


def _inputs(model: keras.Model) -> Any:
    """A model's inputs; a single one without a list, as Keras warns of a list that is fed a tensor."""
    return model.inputs[0] if len(model.inputs) == 1 else model.inputs


def _is_dilated(model: keras.Model) -> bool:
    """Whether a convolution in a model is dilated, as those behind an output stride of 8 or 16 are."""
    rates = (keras.tree.flatten(getattr(layer, "dilation_rate", 1)) for layer in leaves(model))
    return any(rate > 1 for flat in rates for rate in flat)


def _stride(call: Call, strides: dict[int, int]) -> int:
    """Pixels of the image from one position of a call's output map to the next."""
    before = max((strides.get(id(tensor), 1) for tensor in call.input_tensors), default=1)
    own = getattr(call.operation, "strides", 1)
    return before * (own[0] if isinstance(own, tuple) else own)

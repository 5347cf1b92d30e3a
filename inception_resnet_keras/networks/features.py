"""The named stages of a model, for detection, segmentation, transfer learning and inspection."""

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
    """The outputs of a network's stages as Keras tensors, in the order of computation.

    Args:
        model: A model of this package, built or loaded, with or without its top; or a functional or sequential model
            that contains one.

    Returns:
        A dict from name to Keras tensor: `stem`; each block (`a01` … `c05`); `reduction_a` and `reduction_b`; `final`
        if the variant has one; `pooled`, `logits`, `predictions` and `aux_logits` if they were built; and `stride_2`
        to `stride_32`, the last map of each stride (the C1 to C5 of a feature pyramid). With the default valid
        padding a map is slightly smaller than the image divided by its stride; padding="same" avoids that, and
        `feature_geometry` describes where each cell lies in the image. The names have no `layer_prefix`, unless the
        model contains several networks.

    Raises:
        ValueError: The model has no layer with a name of these networks.

    Examples:
        >>> from inception_resnet_keras import create_inception_resnet_v1
        >>> model = create_inception_resnet_v1(include_top=False, depths=(1, 1, 1), input_shape=(139, 139, 3))
        >>> [name for name in endpoints(model) if not name.startswith("stride")]
        ['stem', 'a01', 'reduction_a', 'b01', 'reduction_b', 'c01']
        >>> endpoints(model)["reduction_a"].shape
        (None, 7, 7, 896)
    """
    if not isinstance(model, keras.Model):
        raise refuse("model", model, "a Keras model of this package")
    flat = flattened(model)
    calls = [] if flat is None else Graph(flat, flat.output).calls
    layers = [call.operation.name for call in calls]
    networks = names.prefixes(layers) or [""]  # a part of a network may have no stem
    if not any(names.stage(layer.removeprefix(prefix)) for layer in layers for prefix in networks):
        raise InputError(
            f"model: {model.name!r} has no layer with a name of this package, such as 'stem_conv_1', nor does a "
            "functional model inside it; build it with one of the factories"
        )
    ends: dict[str, Any] = {}
    for prefix in networks:
        ends |= {f"{prefix}{name}" if networks[1:] else name: end for name, end in _endpoints(calls, prefix).items()}
    return ends


def _endpoints(calls: Sequence[Call], prefix: str) -> dict[str, keras.KerasTensor]:
    """The endpoints of the network whose layers' names begin with `prefix`."""
    stages: dict[str, Any] = {}
    heads: dict[str, Any] = {}
    maps: dict[str, Any] = {}
    strides: dict[int, int] = {}
    for call in calls:  # sorted: every call comes after the calls that compute its inputs
        stride = _stride(call, strides)
        strides |= {id(output): stride for output in call.outputs}
        if len(call.outputs) != 1:
            continue
        if not call.operation.name.startswith(prefix):
            continue
        (output,), name = call.outputs, call.operation.name.removeprefix(prefix)
        # The last layer of a stage outside its branches overwrites the earlier ones.
        stage = names.stage(name)
        if stage and not names.in_branch(name):
            stages[stage] = maps[f"stride_{stride}"] = output
        elif name in HEADS:
            heads[name] = output
    return stages | heads | {name: maps[name] for name in names.STRIDES if name in maps}


def feature_extractor(model: keras.Model, names: str | Sequence[str] | None = None) -> keras.Model:
    """A model whose outputs are endpoints of another model. Layers and weights are shared.

    Args:
        model: A model of this package, built or loaded.
        names: One or more names of `endpoints`. None takes the last maps of strides 4, 8, 16 and 32, as detection and
            segmentation necks need them; of a network with an output stride of 16 or 8, only up to that stride.

    Returns:
        A Keras model from the same input to a dict with one tensor per name.

    Raises:
        ValueError: A name is not an endpoint of the model; the message lists the endpoints. Or the model has no
            layer with a name of these networks.

    Examples:
        >>> from inception_resnet_keras import create_inception_resnet_v1
        >>> model = create_inception_resnet_v1(include_top=False, depths=(1, 1, 1), input_shape=(139, 139, 3))
        >>> {name: map.shape for name, map in feature_extractor(model, ["stride_8", "c01"]).output.items()}
        {'stride_8': (None, 15, 15, 256), 'c01': (None, 3, 3, 1792)}
    """
    found = endpoints(model)
    wanted = _PYRAMID if names is None else [names] if isinstance(names, str) else names
    if names is None and _is_dilated(model):  # with an output stride of 8 or 16, coarser maps do not exist
        wanted = [name for name in _PYRAMID if name in found]
    elif names is None and (missing := [name for name in wanted if name not in found]):
        raise InputError(
            f"model: {model.name!r} ends before {' and '.join(missing)}; give names, one or more of {', '.join(found)}"
        )
    if not isinstance(wanted, Sequence) or not wanted or not all(name in list(found) for name in wanted):
        raise refuse("names", names, f"None, or one or more of this model's endpoints: {', '.join(found)}")
    return keras.Model(_inputs(model), {name: found[name] for name in wanted}, name=f"{model.name}_features")


def _inputs(model: keras.Model) -> Any:
    """A model's inputs. A single one is returned without a list: Keras warns when a list is fed a tensor."""
    return model.inputs[0] if len(model.inputs) == 1 else model.inputs


def _is_dilated(model: keras.Model) -> bool:
    """Whether a model has a dilated convolution, as networks with an output stride of 16 or 8 do."""
    rates = (keras.tree.flatten(getattr(layer, "dilation_rate", 1)) for layer in leaves(model))
    return any(rate > 1 for flat in rates for rate in flat)


def _stride(call: Call, strides: dict[int, int]) -> int:
    """The stride of a call's output: pixels of the image from one cell to the next."""
    before = max((strides.get(id(tensor), 1) for tensor in call.input_tensors), default=1)
    own = getattr(call.operation, "strides", 1)
    return before * (own[0] if isinstance(own, tuple) else own)

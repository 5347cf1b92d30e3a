"""What a model does at its two ends: how it takes pixels, and what its outputs are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import keras
import numpy as np

from ..inference.graph import Graph, functional, made_by
from ..spec import names

Kind = Literal["logits", "embedding", "other"]
SCALES, PASSES = "scales", "passes"

_NO_CLASSES = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.UnitNormalization,
)


def before_weights(model: keras.Model, size: tuple[int, int]) -> tuple[str, str]:
    """What happens to pixels of 0-255 before the first layer with weights, also of a nested model.

    Returns:
        ("scales", layer) where a rescaling or a normalisation stands there; ("passes", "") where they arrive as
        they are; ("changes", layer) where another layer or operation makes others of them outside training.
    """
    found, changed, _ = _walked(model, size)
    if found:
        return SCALES, found
    return ("changes", changed) if changed else (PASSES, "")


def _walked(model: keras.Model, size: tuple[int, int]) -> tuple[str, str, bool]:
    """What scales and what else changes pixels, empty where nothing does, and whether they come out of the model."""
    changed, reached, graph = "", {id(model.inputs[0])}, Graph(model, model.output)
    for call in graph.calls:
        if not any(id(tensor) in reached for tensor in call.input_tensors):
            continue
        operation = call.operation
        if isinstance(operation, keras.layers.Rescaling | keras.layers.Normalization):
            return operation.name, "", False
        if inner := functional(operation):
            scales, changes, passes = _walked(inner, size)
            if scales:
                return scales, "", False
            changed = changed or changes
        else:
            passes = not getattr(operation, "weights", ())
            if passes and not _is_identity(model, call.outputs[0], size):
                changed = changed or operation.name
        if passes:
            reached |= {id(tensor) for tensor in call.outputs}
    return "", changed, bool(reached & graph.ends)


def _is_identity(model: keras.Model, tensor: Any, size: tuple[int, int]) -> bool:
    """Whether a picture arrives at a tensor as it was, outside training: seen by letting one through."""
    sides = iter(size)
    shape = [1, *(next(sides) if side is None else side for side in model.inputs[0].shape[1:])]
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    arrived = keras.Model(model.input, tensor)(picture, training=False)
    return np.array_equal(keras.ops.convert_to_numpy(arrived), picture)


def kind_of(output: Any) -> Kind:
    """What the layer makes that an output comes out of: logits where it is weighted and has no activation.

    It is looked for inside nested models, and behind what changes no number.
    """
    for layer in _makers(output):
        if layer.name in (names.EMBEDDING, names.POOLED) or isinstance(layer, _NO_CLASSES):
            return "embedding"
        if not _passes_on(layer):
            break
    weighted = isinstance(layer, keras.layers.Dense | keras.layers.Conv2D)
    return "logits" if weighted and layer.activation is keras.activations.linear else "other"


def _makers(tensor: Any) -> Iterator[Any]:
    """The operation that a tensor comes out of, innermost first, then those before it while each has one input."""
    while True:
        call, which = made_by(tensor)
        if inner := functional(call.operation):
            for layer in _makers(keras.tree.flatten(inner.output)[which]):
                if isinstance(layer, keras.layers.InputLayer):
                    break  # the nested model hands its input on
                yield layer
        else:
            yield call.operation
        if len(call.input_tensors) != 1:
            return
        (tensor,) = call.input_tensors


def _passes_on(layer: Any) -> bool:
    kinds = (keras.layers.Identity, keras.layers.Dropout, keras.layers.Flatten, keras.layers.Reshape)
    linear = isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.linear
    return linear or isinstance(layer, kinds)

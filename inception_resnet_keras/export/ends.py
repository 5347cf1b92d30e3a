"""What a model does at its two ends: what its outputs are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import keras

from ..inference.graph import functional, made_by
from ..spec import names

Kind = Literal["logits", "embedding", "other"]

_NO_CLASSES = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.UnitNormalization,
)


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

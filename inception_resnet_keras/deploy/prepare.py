"""What a model does at its two ends: how it takes pixels, and what its outputs are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Literal

import keras
import numpy as np

from ..common.errors import InputError, refuse
from ..data.preprocessing import CONVENTIONS
from ..models.model_file import Card, ExportCard, Output, Precision, open_keras
from ..models.runtimes import INPUT, OUTPUT, KerasRuntime, find_runtime
from ..networks import names
from ..networks.keras_graph import Graph, functional, made_by
from ..networks.recognise import channels_first, image_size, leaves, recognise_model
from ..networks.rows import Network, Preprocessing
from .formats import IMAGENET

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


FLOAT32 = "float32"


@dataclass(frozen=True)
class Prepared:
    """A model to be exported.

    reference: what the export is compared with: (batch, height, width, 3) pixels of 0-255 in float32 →
        (batch, classes or width). Computes in float32.
    exported: the same, optimised, in the precision that is exported where the graph carries it.
    card: what goes with it. notes: what was assumed or added, to be told.
    """

    reference: keras.Model
    exported: keras.Model
    card: ExportCard
    notes: list[str] = field(default_factory=list)


def prepare(
    source: keras.Model | str | PathLike[str],
    precision: Precision,
    *,
    class_names: Sequence[str] | None,
    preprocessing: str | None,
    optimize: bool,
    join_siblings: bool = True,
    policy: str = FLOAT32,
) -> Prepared:
    """Opens a model, and makes of it what is exported; the model itself is not changed.

    join_siblings: of `optimize_for_inference`. policy: the Keras dtype policy of the exported graph.
    """
    model, card = _opened(source)
    notes: list[str] = []
    output = _first_output(model, notes)
    found = recognise_model(model)
    network = found.network if found else None
    size = _size(model, card, network)
    ending = kind_of(output)
    classes, kind = _classes(ending, output.shape[1], card, class_names, notes)
    scaling = _scaling(model, size, card, network, given=preprocessing, notes=notes)
    activation = None
    if ending == "logits" and kind == "probabilities":
        activation = "sigmoid" if output.shape[1] == 1 else "softmax"
        notes.append(f"the model gives logits: a {activation} was added, so that probabilities come out")
    name, variant = _names(card, network, model)
    inner = keras.Model(model.input, output, name=model.name)
    reference = in_policy(inner, FLOAT32) if _other_policy(inner) else inner
    faster = _optimized(reference, join_siblings) if optimize else reference
    if policy != FLOAT32:
        faster = in_policy(faster, policy)
    ends = (size, scaling, activation, channels_first(model))
    return Prepared(
        _with_ends(reference, *ends),
        _with_ends(faster, *ends),
        ExportCard(name, variant, classes, size, card.central_crop if card else 1.0, precision=precision, output=kind),
        notes,
    )


def in_policy(model: keras.Model, policy: str) -> keras.Model:
    """A copy that computes in another dtype policy; what reads pixels and gives probabilities stays in float32."""
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
    """A layer's configuration in another policy, and with it those of layers that it wraps."""
    wrapped = {
        key: {**value, "config": _with_policy(value["config"], policy)}
        for key, value in config.items()
        if isinstance(value, dict) and isinstance(value.get("config"), dict) and "dtype" in value["config"]
    }
    return {**config, **wrapped, **({"dtype": policy} if "dtype" in config else {})}


def _opened(source: Any) -> tuple[keras.Model, Card | None]:
    if isinstance(source, keras.Model):
        return source, None
    if not isinstance(source, str | PathLike):
        raise refuse("model", source, "a Keras model, a run's folder or a .keras file")
    kind, path = find_runtime(source)
    if kind is not KerasRuntime:
        raise InputError(f"model: {path} is exported already; give the run or .keras file that it came from")
    return open_keras(path)


def _first_output(model: keras.Model, notes: list[str]) -> Any:
    if not getattr(model, "inputs", None) or len(model.inputs) != 1:
        raise InputError(f"model: {model.name!r} is no functional model of one picture; only such are exported")
    output, *others = model.outputs
    if others:
        dropped = ", ".join(_layer_of(model, tensor) for tensor in others)
        notes.append(f"the classifier's output is exported, without {dropped}")
    if len(output.shape) != 2:
        raise InputError(
            f"model: {model.name!r} gives {tuple(output.shape)}; a classifier or an embedding is exported, which gives "
            "(batch, n): build it with include_top=True, or pooling='avg'"
        )
    return output


def _names(card: Card | None, network: Network | None, model: keras.Model) -> tuple[str, str]:
    if card:
        return card.network, card.variant
    return (network.name, network.variant) if network else (model.name, "")


def _size(model: keras.Model, card: Card | None, network: Network | None) -> tuple[int, int]:
    if card:
        return card.size
    shape = tuple(model.input_shape[1:])
    if len(shape) != 3 or shape[0 if channels_first(model) else 2] != 3:
        raise InputError(f"model: {model.name!r} takes {shape}; pictures of three channels are exported")
    height, width = image_size(model)
    if height and width:
        return height, width
    if network is None:
        raise InputError(f"model: {model.name!r} takes pictures of any size; build it for the one it is to serve")
    return network.size, network.size


def _layer_of(model: keras.Model, tensor: Any) -> str:
    """The name of the layer that a tensor comes out of."""
    return next((layer.name for layer in model.layers if layer.output is tensor), tensor.name)


def _classes(
    ending: Kind, width: int, card: Card | None, given: Sequence[str] | None, notes: list[str]
) -> tuple[list[str], Output]:
    if given is not None:
        return _given_names(given, width), "probabilities"
    if card:
        return card.classes, "probabilities"
    if ending == "embedding":
        return [], "embedding"
    notes.append(
        f"the model names no classes: they are numbered from 0 to {width - 1}; class_names (--labels) names them"
    )
    return [str(number) for number in range(width)], "probabilities"


def _given_names(given: Sequence[str], width: int) -> list[str]:
    if given == IMAGENET:
        from ..weights.labels import class_index

        imagenet = [name for _, name in class_index()]
        given = ["background", *imagenet] if width == len(imagenet) + 1 else imagenet
    if isinstance(given, str) or not all(isinstance(name, str) and name for name in given):
        raise refuse("class_names", given, f"{width} names, or {IMAGENET!r}")
    if len(given) != width:
        raise InputError(f"class_names: {len(given)} names were given, and the model has {width} outputs")
    return list(given)


def _scaling(
    model: keras.Model,
    size: tuple[int, int],
    card: Card | None,
    network: Network | None,
    *,
    given: str | None,
    notes: list[str],
) -> Preprocessing | None:
    """What stands before the model, so that it takes pixels; None where it takes them already."""
    takes = " or ".join(map(repr, (*CONVENTIONS, "none")))
    if given is not None and given not in (*CONVENTIONS, "none"):
        raise refuse("preprocessing", given, takes)
    if given == "none":
        return None
    found, layer = (SCALES, "") if card else before_weights(model, size)
    if found == SCALES:
        if given is not None:
            raise InputError(f"preprocessing: got {given!r}, and the model scales pixels itself; leave it out")
        return None
    if given is None and (network is None or found != PASSES):
        why = (
            f"its {layer!r} changes pixels before the first layer with weights"
            if found != PASSES
            else "it is no network of this project"
        )
        raise InputError(
            f"preprocessing: {model.name!r} does not tell how it takes pixels ({why}): say how it does: {takes} "
            "(it takes 0-255 as they are)"
        )
    scaling = CONVENTIONS[given] if given else network.preprocessing  # type: ignore[union-attr]
    notes.append(f"pixels of 0-255 become (pixel - {scaling.mean:g}) / {scaling.divisor:g} inside the exported model")
    return scaling


def _other_policy(model: keras.Model) -> bool:
    return any(layer.compute_dtype != FLOAT32 for layer in leaves(model))


def _optimized(model: keras.Model, join_siblings: bool) -> keras.Model:
    from .folding import optimize_for_inference

    return optimize_for_inference(model, join_siblings=join_siblings)


def _with_ends(
    model: keras.Model,
    size: tuple[int, int],
    scaling: Preprocessing | None,
    activation: str | None,
    first: bool,  # channels
) -> keras.Model:
    inputs = x = keras.Input((*size, 3), name=INPUT, dtype=FLOAT32)
    if scaling:
        x = keras.layers.Rescaling(1 / scaling.divisor, offset=-scaling.mean / scaling.divisor, dtype=FLOAT32)(x)
    if first:
        x = keras.layers.Permute((3, 1, 2), dtype=FLOAT32)(x)
    x = model(x, training=False)
    return keras.Model(inputs, keras.layers.Activation(activation, dtype=FLOAT32, name=OUTPUT)(x), name=model.name)

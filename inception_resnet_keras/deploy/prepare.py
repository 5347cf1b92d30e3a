"""Prepare a model for any export format: pixels of 0-255 in, probabilities or an embedding out, with its card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .. import __version__
from ..common.errors import InputError, refuse
from ..models.folding import in_policy, optimize_for_inference
from ..models.model_file import Card, ExportCard, InputType, Output, Precision, read_card_if_any
from ..models.open import KerasModel, display_name, examine, find_keras_file
from ..models.runtimes import INPUT, OUTPUT
from ..networks.build import FLOAT32, standardized
from ..networks.ends import OutputKind
from ..networks.recognise import channels_first, leaves
from ..networks.rows import RAW, Network, Preprocessing
from ..weights.labels import read_class_names


@dataclass(frozen=True)
class ExportableModel:
    """A model to export.

    Attributes:
        reference: The model to compare the export with, in float32: from pixels of 0-255, (batch, height, width, 3), to
            outputs, (batch, classes or width).
        exported: The same model, optimised, in the export's precision if the graph contains it.
        card: The description that is stored in the export.
        notes: Assumptions and additions, for the user.
    """

    reference: keras.Model
    exported: keras.Model
    card: ExportCard
    notes: list[str] = field(default_factory=list)


def prepare(
    source: keras.Model | str | PathLike[str],
    precision: Precision,
    *,
    class_names: str | PathLike[str] | Sequence[str] | None,
    preprocessing: str | None,
    optimize: bool,
    join_siblings: bool = True,
    policy: str = FLOAT32,
    size: tuple[int, int] | None = None,
    default_size: bool = True,
    input_type: InputType = "float32",
) -> ExportableModel:
    """Open a model and prepare it for export. The model itself is not changed.

    Args:
        source: The model: a Keras model, a run's folder or a .keras file.
        precision: The precision of the export.
        class_names, preprocessing, optimize: As for `export_model`.
        join_siblings: As for `optimize_for_inference`.
        policy: The Keras dtype policy of the exported graph.
        size, default_size: As for `examine`.
        input_type: The dtype of the exported model's pixels; those of the reference are float32.

    Raises:
        InputError: The model cannot be opened or exported.
    """
    # Find the network, the ends and the classes of the model.
    found = _examined(source, preprocessing, size, default_size)
    model, card, size, notes = found.model, found.card, found.size, found.notes
    output = model.output
    classes, kind = _classes(found.ending, output.shape[1], card, class_names, notes)
    thresholds = card.thresholds if card else ()
    activation = found.activation if kind == "probabilities" else None
    if activation:
        notes.append(f"the model returns logits: a {activation} was added to get probabilities")
    # Put scaling in front and the activation behind, for the reference and for the optimised model alike.
    scaling = None if found.preprocessing is RAW else found.preprocessing
    name, variant = _names(card, found.network, model)
    inner = keras.Model(model.input, output, name=model.name)
    reference = in_policy(inner, FLOAT32) if _other_policy(inner) else inner
    faster = optimize_for_inference(reference, join_siblings=join_siblings) if optimize else reference
    if policy != FLOAT32:
        faster = in_policy(faster, policy)
    ends = (size, scaling, activation, channels_first(model))
    return ExportableModel(
        _with_ends(reference, *ends),
        _with_ends(faster, *ends, input_type=input_type),
        ExportCard(
            name,
            variant,
            classes,
            size,
            card.central_crop if card else 1.0,
            value_range=card.value_range if card else None,
            thresholds=thresholds,
            precision=precision,
            output=kind,
            input_type=input_type,
            weights_sha256=_sha256(model),
            made_by=f"inception_resnet_keras {__version__}, Keras {keras.__version__}",
        ),
        notes,
    )


def _examined(source: Any, preprocessing: str | None, size: tuple[int, int] | None, default_size: bool) -> KerasModel:
    """Open a Keras model, a run's folder or a model file."""
    if isinstance(source, keras.Model):
        return examine(display_name(source), source, None, preprocessing, size=size, default_size=default_size)
    if not isinstance(source, str | PathLike):
        raise refuse("model", source, "a Keras model, a run's folder or a .keras file")
    file = find_keras_file(Path(source))
    if file is None:
        raise InputError(f"model: {source} is exported already; give the run or .keras file that it was made from")
    card = read_card_if_any(file)
    return examine(str(source), file, card, preprocessing, size=size, default_size=default_size)


def _sha256(model: keras.Model) -> str:
    """The SHA-256 of the weights' values, which identifies exports of one model in any format."""
    found = sha256()
    for weight in model.weights:
        values = keras.ops.convert_to_numpy(keras.ops.cast(weight, FLOAT32))
        found.update(np.asarray(values, "<f4").tobytes())
    return found.hexdigest()


def _names(card: Card | None, network: Network | None, model: keras.Model) -> tuple[str, str]:
    if card:
        return card.network, card.variant
    return (network.name, network.variant) if network else (model.name, "")


def _classes(
    ending: OutputKind,
    width: int,
    card: Card | None,
    given: str | PathLike[str] | Sequence[str] | None,
    notes: list[str],
) -> tuple[list[str], Output]:
    if given is not None:
        return read_class_names(given, width, argument="class_names"), "probabilities"
    if card:
        return card.classes, "probabilities"
    if ending == "embedding":
        return [], "embedding"
    notes.append(
        f"the model has no class names: classes are numbered from 0 to {width - 1}; name them by class_names (--labels)"
    )
    return [str(number) for number in range(width)], "probabilities"


def _other_policy(model: keras.Model) -> bool:
    return any(layer.compute_dtype != FLOAT32 for layer in leaves(model))


def _with_ends(
    model: keras.Model,
    size: tuple[int, int],
    scaling: Preprocessing | None,
    activation: str | None,
    first: bool,
    *,
    input_type: InputType = "float32",
) -> keras.Model:
    """The model with pixels of 0-255 as input, scaled inside, and an activation. first: Whether channels come first."""
    inputs = x = keras.Input((*size, 3), name=INPUT, dtype=input_type)
    if input_type != FLOAT32:
        x = keras.ops.cast(x, FLOAT32)
    if scaling and scaling.per_image:
        x = standardized(x)
    elif scaling:
        x = keras.layers.Rescaling(scaling.scale, scaling.offset, dtype=FLOAT32)(x)
        if scaling.reverse:
            x = keras.ops.flip(x, axis=-1)
    if first:
        x = keras.layers.Permute((3, 1, 2), dtype=FLOAT32)(x)
    x = model(x, training=False)
    return keras.Model(inputs, keras.layers.Activation(activation, dtype=FLOAT32, name=OUTPUT)(x), name=model.name)

"""A checkpoint of any source to a file of this project, written whole or not at all, and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from ..common.errors import InputError, refuse
from ..common.files import new_files
from ..models.model_file import Card, load_keras_model, read_card_if_any, save_model
from ..networks import factories
from ..networks.recognise import recognise_model
from ..weights.identify import SETTINGS_KEY
from ..weights.inspect import Finding, inspect_checkpoint
from ..weights.load import LoadReport, load_weights
from ..weights.readers.hdf5 import KERAS_FORMAT
from ..weights.readers.safetensors import save
from ..weights.sources import OURS

FORMATS = ("keras", "safetensors")


@dataclass(frozen=True)
class NumericCheck:
    """The written file, opened again, against the source's model: on one random picture.

    The source's model is a .keras file's own; for bare weights it is the one that they fit.

    difference: The largest between any two outputs. largest: The largest output.
    """

    path: str
    difference: float
    largest: float

    def __str__(self) -> str:
        return (
            f"{self.path}: written and read again: its outputs differ by {self.difference:.3g} at most, "
            f"of a largest {self.largest:.4g}"
        )


def convert_checkpoint(
    source: str | PathLike[str],
    out: str | PathLike[str],
    *,
    to: Literal["keras", "safetensors"] | None = None,
    ema: bool = False,
) -> tuple[LoadReport, NumericCheck]:
    """Write a checkpoint as a .keras model or as safetensors under this project's names.

    Args:
        source: The checkpoint's path.
        out: The file to write, which must not exist.
        to: The format, "keras" or "safetensors"; its ending is added to `out` if that has neither. None is
            the format that `out` ends in.
        ema: Whether to take the moving averages stored beside the weights.

    Returns:
        The report of what was loaded, and how far the written file's outputs are from the source's.

    Raises:
        ValueError: The source does not load, `out` exists or ends in neither format, or the written file
            computes other numbers.

    Examples:
        ```python
        report, check = convert_checkpoint("inception_v4.ckpt", "inception_v4.keras")
        ```
    """
    target, kind = _target(Path(out), to)
    if target.exists():
        raise InputError(f"out: {target} exists; it is not overwritten")
    if not target.parent.is_dir():
        raise InputError(f"out: {target.parent} is no folder; make it first")
    finding = inspect_checkpoint(source)
    model, card = _model(finding, Path(source))
    report = load_weights(model, source, ema=ema)
    if card and kind != "keras":
        report.notes.append("the class names are not in a safetensors file")
    if finding.source == OURS.source and not finding.settings:
        report.notes.append(
            "scale, input and activation are not in the file: the variant's own, and logits, are assumed"
        )
    with new_files(target) as folder:
        part = folder / target.name
        _write(model, finding, card, part)
        check = _compare(model, part, str(target))
    return report, check


def _target(out: Path, to: str | None) -> tuple[Path, str]:
    """The file to write, to's ending added where it has none of the two, and its format."""
    if to is not None and to not in FORMATS:
        raise refuse("to", to, " or ".join(map(repr, FORMATS)))
    if to is not None and out.suffix.removeprefix(".") not in FORMATS:
        out = out.with_name(f"{out.name}.{to}")
    ending = out.suffix.removeprefix(".")
    if ending not in FORMATS or to not in (None, ending):
        raise refuse("out", str(out), f"a file ending in .{to}" if to else "a file ending in .keras or .safetensors")
    return out, ending


def _model(finding: Finding, source: Path) -> tuple[keras.Model, Card | None]:
    """The model that a checkpoint is of: a .keras file's own, or the one that its weights fit, which gives logits."""
    if finding.source == OURS.source and finding.format == KERAS_FORMAT:
        card = read_card_if_any(source)
        return load_keras_model(source, card), card
    return _build(finding), None


def _build(finding: Finding) -> keras.Model:
    options = {"classifier_activation": None} | finding.options
    if "classifier_activation" in finding.settings:
        options["classifier_activation"] = finding.settings["classifier_activation"]
    return getattr(factories, f"create_{finding.network.name}")(**options)


def _write(model: keras.Model, finding: Finding, card: Card | None, path: Path) -> None:
    if path.suffix == ".keras":
        save_model(model, path, card) if card else model.save(path)
        return
    arrays = {
        f"{layer.name}/{weight.name}": keras.ops.convert_to_numpy(weight)
        for layer in model.layers
        for weight in layer.weights
    }
    written = recognise_model(model) or finding.description
    metadata = {"network": written.name, "variant": written.variant, SETTINGS_KEY: json.dumps(written.settings())}
    save(path, arrays, metadata)


def _compare(model: keras.Model, path: Path, shown: str) -> NumericCheck:
    """The written file as a user opens it, against the model that it was written from."""
    shape = (1, *(side or 299 for side in model.input_shape[1:]))
    picture = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    if path.suffix == ".keras":
        again = keras.saving.load_model(path, compile=False)
    else:
        again = _build(inspect_checkpoint(path))
        load_weights(again, path)
    wanted, found = (_outputs(one.predict(picture, verbose=0)) for one in (model, again))
    if wanted.shape != found.shape:
        raise InputError(f"{shown}: has {found.size} outputs where the source has {wanted.size}: it is not kept")
    check = NumericCheck(shown, float(np.abs(found - wanted).max()), float(np.abs(wanted).max()))
    if not check.difference <= 1e-6 * max(check.largest, 1e-30):
        raise InputError(f"{check}: it is not kept")
    return check


def _outputs(predicted: Any) -> np.ndarray:
    """All of a model's outputs in one row."""
    return np.concatenate([np.ravel(one) for one in (predicted if isinstance(predicted, list) else [predicted])])

"""A checkpoint of any source to a file of this project, written whole or not at all, and checked."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .. import models
from ..errors import InputError, refuse
from .inspect import Finding, inspect
from .load import load_weights
from .report import LoadReport

FORMATS = ("keras", "safetensors")


@dataclass(frozen=True)
class NumericCheck:
    """The written file, loaded again, against the model that was written: on one random picture.

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


def convert(
    source: str | PathLike[str], out: str | PathLike[str], *, to: str | None = None, ema: bool = False
) -> tuple[LoadReport, NumericCheck]:
    """Writes a checkpoint as a .keras model or as safetensors under this project's names.

    Args:
        source: The checkpoint's path.
        out: The file to write; it must not exist.
        to: "keras" or "safetensors"; None takes it from out's ending.
        ema: Whether to take the running averages beside the weights.

    Returns:
        What was loaded, and how far the written file's outputs are from the source's.

    Raises:
        ValueError: The source does not load, out exists or has an ending of neither format, or the
            written file computes other numbers.
    """
    target = Path(out)
    kind = _format(target, to)
    if target.exists():
        raise InputError(f"out: {target} exists; it is not overwritten")
    finding = inspect(source)
    model = _build(finding)
    report = load_weights(model, source, ema=ema)
    handle, name = tempfile.mkstemp(suffix=f".{kind}", prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    part = Path(name)
    try:
        _write(model, finding, part, kind)
        check = _compare(model, finding, part, str(target))
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return report, check


def _format(out: Path, to: str | None) -> str:
    ending = out.suffix.removeprefix(".")
    if to is not None and to not in FORMATS:
        raise refuse("to", to, " or ".join(map(repr, FORMATS)))
    if ending not in FORMATS or to not in (None, ending):
        raise refuse("out", str(out), f"a file ending in .{to}" if to else "a file ending in .keras or .safetensors")
    return ending


def _build(finding: Finding) -> keras.Model:
    return getattr(models, f"create_{finding.network.name}")(**finding.options, classifier_activation=None)


def _write(model: keras.Model, finding: Finding, path: Path, kind: str) -> None:
    if kind == "keras":
        model.save(path)
        return
    from .readers.safetensors import save

    arrays = {
        f"{layer.name}/{weight.name}": keras.ops.convert_to_numpy(weight)
        for layer in model.layers
        for weight in layer.weights
    }
    save(path, arrays, {"network": finding.network.name, "variant": finding.network.variant})


def _compare(model: keras.Model, finding: Finding, path: Path, shown: str) -> NumericCheck:
    shape = (1, *model.input_shape[1:])
    picture = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    again = _build(finding)
    load_weights(again, path)
    wanted, found = (_outputs(one.predict(picture, verbose=0)) for one in (model, again))
    check = NumericCheck(shown, float(np.abs(found - wanted).max()), float(np.abs(wanted).max()))
    if not check.difference <= 1e-6 * max(check.largest, 1e-30):
        raise InputError(f"{check}: it is not kept")
    return check


def _outputs(predicted: Any) -> np.ndarray:
    """All of a model's outputs in one row."""
    return np.concatenate([np.ravel(one) for one in (predicted if isinstance(predicted, list) else [predicted])])

"""The files of a training run, as far as whoever reads weights must know them: which model a run's folder stands for,
and whether that model is the run's own."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from ..common.errors import InputError
from ..common.files import read_text

MODEL_FILE = "model.keras"  # of a run's folder; best.keras beside it is another model
RUN_CONFIG = "config.json"  # beside the models of a run
MEMBER = "inception_resnet_keras.json"  # of a .keras file, beside Keras's own members, which Keras reads alone
CARD_BYTES = 16 * 1024**2


def model_of_run(folder: Path) -> Path | None:
    """The model that a run's folder stands for: the one whose report lies beside it. None for any other path.

    Raises InputError where it was saved by another run.
    """
    file = folder / MODEL_FILE
    if not file.is_file():
        return None
    require_same_run(file)
    return file


def require_same_run(file: Path) -> None:
    """Raises InputError where a model is not of the run whose config.json lies beside it.

    Nothing is known, and nothing raised, where either was written by an earlier version or is damaged.
    """
    config = file.with_name(RUN_CONFIG)
    try:
        run, beside = _run_of(read_member(file)), _run_of(read_text(config))
    except (InputError, KeyError, OSError, TypeError, ValueError, RecursionError, zipfile.BadZipFile):
        return
    if run and run != beside:
        raise InputError(
            f"{file}: was saved by another run than {config} describes: the folder holds files of several runs. Put "
            "its own model back, or move this one to a folder of its own"
        )


def _run_of(text: str | bytes) -> str:
    """The identity of the run that a card or a config.json names; "" where it names none."""
    stored: Any = json.loads(text)
    identity = stored.get("run", "") if isinstance(stored, dict) else None
    if not isinstance(identity, str):
        raise TypeError("the run's identity is no text")
    return identity


def read_member(path: Path) -> bytes:
    """The card's text in a file that is a zip archive, or ends in one; KeyError where it has none."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(MEMBER)
        if member.file_size > CARD_BYTES:
            raise InputError(f"{path}: its {MEMBER} claims {member.file_size:,} bytes; it is damaged")
        return archive.read(member)

"""A training run's folder, as far as reading weights needs it: its model file, and whether the run saved it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from ..common.errors import InputError
from ..common.files import read_text

MODEL_FILE = "model.keras"  # the run's model; best.keras beside it is another one
RUN_CONFIG = "config.json"  # beside the run's models
MEMBER = "inception_resnet_keras.json"  # the card's member in a .keras file; Keras ignores it
CARD_BYTES = 16 * 1024**2


def model_of_run(folder: Path) -> Path | None:
    """The model file of a run's folder, which the run's report is about; None for any other path.

    Raises InputError if another run saved the file.
    """
    file = folder / MODEL_FILE
    if not file.is_file():
        return None
    require_same_run(file)
    return file


def require_same_run(file: Path) -> None:
    """Raise InputError if a model was saved by another run than the config.json beside it.

    If one of them is damaged or was written by an earlier version, the run is unknown and nothing is raised.
    """
    config = file.with_name(RUN_CONFIG)
    try:
        run, beside = _run_of(read_member(file)), _run_of(read_text(config))
    except (InputError, KeyError, OSError, TypeError, ValueError, RecursionError, zipfile.BadZipFile):
        return
    if run and run != beside:
        raise InputError(
            f"{file}: was saved by another run than the one in {config}: the folder has files of several runs. Put "
            "the run's own model back, or move this one to another folder"
        )


def _run_of(text: str | bytes) -> str:
    """The run's identity in a card or a config.json; "" without one."""
    stored: Any = json.loads(text)
    identity = stored.get("run", "") if isinstance(stored, dict) else None
    if not isinstance(identity, str):
        raise TypeError("the run's identity is not a string")
    return identity


def read_member(path: Path) -> bytes:
    """The card's text in a file that is a zip archive or ends in one. Raises KeyError if it has no card."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(MEMBER)
        if member.file_size > CARD_BYTES:
            raise InputError(f"{path}: its {MEMBER} claims {member.file_size:,} bytes; it is damaged")
        return archive.read(member)

"""Checkpoint files: writing, finding the newest one, and detecting damage.

A checkpoint is a NumPy archive followed by `sha256 ` and the hash of the archive. The archive contains plain arrays and
one JSON text, so that reading it does not unpickle anything.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.errors import InputError
from ..common.files import replacing

if TYPE_CHECKING:
    pass

_META = "meta"
_MARK = b"sha256 "
_FOOTER = len(_MARK) + 64
_UNREADABLE = (ValueError, KeyError, TypeError, OSError, EOFError, AttributeError, NotImplementedError, RecursionError)


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint: all arrays by key, and everything else (`meta`), which fits into JSON."""

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


class DamagedCheckpointError(Exception):
    """Raised for a checkpoint file that is not as it was written, with the difference as its message."""


@dataclass(frozen=True)
class FoundCheckpoint:
    """The newest undamaged checkpoint, or None, and (path, problem) of the newer ones, which are damaged."""

    path: Path | None
    checkpoint: Checkpoint | None
    damaged: list[tuple[Path, str]]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in a folder: `step-00000042.ckpt` is the state after 42 optimizer steps.

    Attributes:
        keep: Number of checkpoints to keep, the newest ones.

    Checkpoints are ordered by the step in the name, not by the time of the file, because clocks may jump back.
    """

    folder: Path
    keep: int = 2

    def paths(self) -> list[Path]:
        """All checkpoint files, newest first. Raises OSError if the folder cannot be listed."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        steps = {name: step_of(name) for name in names}
        numbered = {name: step for name, step in steps.items() if step is not None}
        return [self.folder / name for name in sorted(numbered, key=numbered.__getitem__, reverse=True)]

    def save(self, step: int, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Path:
        """Write a checkpoint, then remove the oldest ones beyond `keep`. Raises OSError if it cannot be written."""
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"step-{step:08d}.ckpt"
        with replacing(path) as partial:
            write_checkpoint(partial, arrays, meta)
        for old in self.paths()[self.keep :]:
            old.unlink(missing_ok=True)
        return path

    def newest(self) -> FoundCheckpoint:
        """Read the newest undamaged checkpoint."""
        damaged: list[tuple[Path, str]] = []
        for path in self.paths():
            try:
                return FoundCheckpoint(path, read_checkpoint(path), damaged)
            except DamagedCheckpointError as error:
                damaged.append((path, str(error)))
        return FoundCheckpoint(None, None, damaged)

    def clear(self) -> None:
        """Remove all checkpoints, and the folder if it is then empty."""
        for path in self.paths():
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def step_of(name: str) -> int | None:
    """The step in the name of a checkpoint file; None for any other file, such as a user's copy of one."""
    found = re.fullmatch(r"step-(\d{8,18})\.ckpt", name, flags=re.ASCII)
    return int(found[1]) if found else None


def write_checkpoint(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    text = np.frombuffer(json.dumps(dict(meta)).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez(file, **{_META: text}, **arrays)  # type: ignore[arg-type]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with path.open("ab") as file:
        file.write(_MARK + digest.encode())


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; raises DamagedCheckpointError if any bit of it has changed."""
    verify_checkpoint(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        meta = json.loads(arrays.pop(_META).tobytes())
        if not isinstance(meta, dict):
            raise TypeError(f"its {_META} is not an object")
    # The hash is right, so the file was written by another version or another program.
    except (*_UNREADABLE, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedCheckpointError(f"cannot be read ({str(error) or repr(error):.200})") from None
    return Checkpoint(arrays, meta)


def verify_checkpoint(path: Path) -> None:
    """Raise DamagedCheckpointError unless the file ends with the hash of its archive.

    Raises InputError if the file cannot be read in two attempts. It may be undamaged then, so that resuming from an
    older checkpoint would lose training unnecessarily.
    """
    try:
        digest, footer = _digest_and_footer(path)
    except OSError:
        try:
            digest, footer = _digest_and_footer(path)
        except OSError as error:
            if error.errno == errno.EIO:  # a part of the file is lost on the disk
                raise DamagedCheckpointError(error.strerror or str(error)) from None
            raise InputError(
                f"{path}: cannot be read ({error.strerror or error}); fix that and resume again, or remove the file to "
                "resume from an older one"
            ) from None
    if not footer.startswith(_MARK):
        raise DamagedCheckpointError("its end is missing")
    if footer[len(_MARK) :] != digest.encode():
        raise DamagedCheckpointError("its content does not match its hash")


def _digest_and_footer(path: Path) -> tuple[str, bytes]:
    """The SHA-256 of a checkpoint's archive, and its footer."""
    hasher = hashlib.sha256()
    left = path.stat().st_size - _FOOTER
    with path.open("rb") as file:
        while left > 0:
            chunk = file.read(min(left, 1 << 22))
            hasher.update(chunk)
            left -= len(chunk)
            if not chunk:
                break
        return hasher.hexdigest(), file.read()

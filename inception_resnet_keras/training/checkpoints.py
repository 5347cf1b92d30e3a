"""Checkpoints of a run: one file each, whole or not there, its hash inside it, the newest few kept.

A file is a numpy archive, then `sha256 ` and the hash of all that stands before. No reader of this
project unpickles: the archive holds plain arrays and one JSON text.
"""

from __future__ import annotations

import errno
import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import InputError
from ..common.files import replacing

_META = "meta"

_MARK = b"sha256 "

_FOOTER = len(_MARK) + 64


@dataclass(frozen=True)
class Checkpoint:
    """arrays: everything numeric, by name. meta: the rest, as JSON has it."""

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


class DamagedCheckpointError(Exception):
    """A file that is not as it was written; the text says how."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in a folder: `step-00000042.ckpt` is the state after 42 optimizer steps."""

    folder: Path
    keep: int = 2

    def there(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("step-*.ckpt"), reverse=True)

    def save(self, step: int, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Path:
        """Writes one, and only then removes those beyond `keep`. OSError where the disk refuses."""
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"step-{step:08d}.ckpt"
        with replacing(path) as beside:
            write(beside, arrays, meta)
        for old in self.there()[self.keep :]:
            old.unlink(missing_ok=True)
        return path

    def newest(self) -> tuple[Path, Checkpoint] | None:
        """The newest whole one; None where there is none. `damaged` tells what was passed over."""
        for path in self.there():
            try:
                return path, read(path)
            except DamagedCheckpointError:
                continue
        return None

    def damaged(self) -> list[tuple[Path, str]]:
        """Those newer than the newest whole one, each with what is wrong with it."""
        found = []
        for path in self.there():
            try:
                check(path)
            except DamagedCheckpointError as error:
                found.append((path, str(error)))
            else:
                break
        return found

    def clear(self) -> None:
        """Removes all of them, and the folder."""
        for path in self.folder.glob("*.ckpt"):
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def write(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    text = np.frombuffer(json.dumps(dict(meta)).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez(file, **{_META: text}, **arrays)  # type: ignore[arg-type]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with path.open("ab") as file:
        file.write(_MARK + digest.encode())


def check(path: Path) -> None:
    """Raises DamagedCheckpointError unless the hash at the file's end is that of what stands before.

    Raises InputError where it may be whole but cannot be reached, tried twice: going on from an older
    one would undo what was trained.
    """
    try:
        found, footer = _hashed(path)
    except OSError:
        try:
            found, footer = _hashed(path)
        except OSError as error:
            if error.errno == errno.EIO:  # the disk has lost a part of it
                raise DamagedCheckpointError(error.strerror or str(error)) from None
            raise InputError(
                f"{path}: cannot be read ({error.strerror or error}); mend that and resume again, or remove the file "
                "to go on from an older one"
            ) from None
    if not footer.startswith(_MARK):
        raise DamagedCheckpointError("its end is missing")
    if footer[len(_MARK) :] != found.encode():
        raise DamagedCheckpointError("its content is not what its hash says")


def _hashed(path: Path) -> tuple[str, bytes]:
    """The SHA-256 of what stands before a checkpoint's footer, and the footer."""
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


def read(path: Path) -> Checkpoint:
    """A checkpoint; DamagedCheckpointError where a bit of it is not as it was written."""
    check(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        return Checkpoint(arrays, json.loads(arrays.pop(_META).tobytes()))
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise DamagedCheckpointError(str(error)) from None


def restore(variables: Mapping[str, Any], arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Sets every variable from its array; InputError, and nothing changed, unless they match one to one."""
    wanted = {key: tuple(variable.shape) for key, variable in variables.items()}
    found = {key: value.shape for key, value in arrays.items()}
    if wanted != found:
        differ = sorted(wanted.items() ^ found.items())
        shown = ", ".join(f"{key} {shape}" for key, shape in differ[:4])
        raise InputError(f"{path}: is of another network or configuration than this run's; they differ in {shown}")
    for key, variable in variables.items():
        variable.assign(arrays[key])

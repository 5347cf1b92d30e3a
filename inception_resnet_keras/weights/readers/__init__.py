"""Reads checkpoint files of every format, which is recognised by content. Nothing in a file is ever executed."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from ...common.errors import InputError
from ...common.files import require_regular
from ..runs import model_of_run
from . import hdf5, safetensors, tf_checkpoint, tf_tables, torch_files
from .checkpoint import Checkpoint, Tensor, damage

__all__ = ["Checkpoint", "Tensor", "holds_checkpoints", "is_checkpoint", "open_checkpoint"]

FORMATS = (
    "a .keras, .weights.h5 or .safetensors file of this project, a legacy Keras HDF5 file, a TensorFlow checkpoint "
    "(V1, V2, or the .tar.gz or .zip it was published in), a .safetensors file, a PyTorch state dict (.pt), or a "
    "folder with one of these, such as a run's"
)

_HEAD = 16  # first bytes, which identify the format
_NEWEST = re.compile(rb'^model_checkpoint_path: "([^"\n]+)"', re.MULTILINE)  # in TensorFlow's text file `checkpoint`
_LONGEST_STATE = 2**16
_SHOWN = 8


def is_checkpoint(path: Path) -> bool:
    """Whether a path names an existing file or folder, or a TensorFlow checkpoint's prefix."""
    return path.exists() or tf_checkpoint.prefix_of(path) is not None


def holds_checkpoints(folder: Path) -> bool:
    """Whether a folder contains checkpoint files of any format."""
    return bool(_checkpoints_in(folder))


def open_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """Open a checkpoint and read its tensors' names and shapes. Values are read later, one tensor at a time.

    Args:
        path: A file; the prefix, the index, the data or the .meta file of a TensorFlow V2 checkpoint; a folder with
            one checkpoint; the file `checkpoint` in a folder, which names the newest of several; or a run's folder.

    Raises:
        InputError: The file does not exist, its format is unknown, it is damaged, or a folder has several checkpoints.
    """
    file = Path(path)
    if not file.name:
        raise InputError(f"weights: got {str(path)!r}; it takes {FORMATS}")
    if not tf_checkpoint.prefix_of(file):
        if not file.exists():
            raise InputError(f"weights: got {str(path)!r}, which does not exist; it takes {FORMATS}")
        require_regular(file)
        file = _checkpoint_meant(file)
    if tf_checkpoint.prefix_of(file):
        with damage(file, "the checkpoint"):
            return tf_checkpoint.read(file)
    with damage(file, "the file"):
        return _open(file)


def _checkpoint_meant(path: Path) -> Path:
    """The file or prefix that a folder, its text file `checkpoint` or a .meta file refers to; any other path itself.

    Raises InputError if it refers to none, or to several.
    """
    state = None
    if path.is_file():
        if path.name == "checkpoint":
            with path.open("rb") as stream:
                state = _NEWEST.search(stream.read(_LONGEST_STATE))
        if not state and (path.suffix != ".meta" or _reader_of(path)):
            return path
    folder = path if path.is_dir() else path.parent
    named = folder / state[1].decode("utf-8", "replace").rpartition("/")[2] if state else path.with_suffix("")
    if not path.is_dir() and tf_checkpoint.prefix_of(named):
        return named
    if model := model_of_run(path):
        return model
    found = _checkpoints_in(folder) if path.is_dir() else _prefixes_in(folder)
    if len(found) == 1:
        return found[0]
    if not found:
        kind = "a folder without a checkpoint" if path.is_dir() else "without its checkpoint"
        raise InputError(f"weights: got {str(path)!r}, which is {kind}; it takes {FORMATS}")
    shown = ", ".join(repr(str(each)) for each in found[-_SHOWN:])
    raise InputError(f"weights: got {str(path)!r}, which has {len(found)} checkpoints: give one of them, {shown}")


def _prefixes_in(folder: Path) -> list[Path]:
    return sorted(index.with_suffix("") for index in folder.glob("*.index"))


def _checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints directly in a folder: prefixes, and files that begin like a checkpoint."""
    prefixes = _prefixes_in(folder)
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not tf_checkpoint.prefix_of(file)]
    return prefixes + [file for file in files if file.suffix != ".meta" and _reader_of(file)]


def _open(file: Path) -> Checkpoint:
    reader = _reader_of(file)
    if reader is None:
        with file.open("rb") as stream:
            head = stream.read(_HEAD)
        raise InputError(f"{file}: has an unknown format (it begins with {head!r}); it takes {FORMATS}")
    return reader(file)


def _reader_of(file: Path) -> Callable[[Path], Checkpoint] | None:
    """The reader for a file's format, by its first and last bytes; None if unknown."""
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    starts: dict[bytes, Callable[[Path], Checkpoint]] = {
        b"\x89HDF\r\n\x1a\n": hdf5.read,
        b"PK": _open_zip,
        b"\x1f\x8b": tf_checkpoint.read_archive,
        torch_files.LEGACY_MAGIC[:_HEAD]: torch_files.read_legacy,
    }
    for start, reader in starts.items():
        if head.startswith(start):
            return reader
    if tf_checkpoint.tail(file) == tf_tables.TABLE_MAGIC:
        return tf_checkpoint.read
    return safetensors.read if head[8:9] == b"{" else None


def _open_zip(file: Path) -> Checkpoint:
    archive = zipfile.ZipFile(file)
    try:
        members = archive.namelist()
        pickled = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
        if hdf5.KERAS_MEMBER in members:
            checkpoint = hdf5.read_keras(file, archive)
        elif pickled:
            checkpoint = torch_files.read_zip(file, archive, pickled[0])
        elif tf_checkpoint.is_zipped(members):
            checkpoint = tf_checkpoint.read_zip(file, archive)
        else:
            raise InputError(
                f"{file}: is a zip file, but not of Keras, PyTorch or a TensorFlow checkpoint; its first members are "
                f"{members[:5]}"
            )
    except BaseException:
        archive.close()
        raise
    checkpoint.resources.callback(archive.close)
    return checkpoint

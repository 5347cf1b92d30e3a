"""Checkpoint files of every format, recognised by content; nothing in one is ever run."""

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

_HEAD = 16  # bytes that tell a format
_NEWEST = re.compile(rb'^model_checkpoint_path: "([^"\n]+)"', re.MULTILINE)  # in TensorFlow's text file `checkpoint`
_LONGEST_STATE = 2**16
_SHOWN = 8


def is_checkpoint(path: Path) -> bool:
    """Whether there is something at a path that could be opened."""
    return path.exists() or tf_checkpoint.prefix_of(path) is not None


def holds_checkpoints(folder: Path) -> bool:
    """Whether a folder has files of a checkpoint in it, of any format."""
    return bool(_checkpoints_in(folder))


def open_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """Opens a checkpoint: its tensors' names and shapes; values are read one by one, later.

    Args:
        path: The file; of a TensorFlow V2 checkpoint the prefix, the index, the data or the .meta file; or a folder
            with one checkpoint, or the file `checkpoint` in it, which names the newest of several; or a run's folder.

    Raises:
        InputError: There is no such file, it is of no known format, it is damaged, or a folder holds several.
    """
    file = Path(path)
    if not file.name:
        raise InputError(f"weights: got {str(path)!r}; it takes {FORMATS}")
    if not tf_checkpoint.prefix_of(file):
        if not file.exists():
            raise InputError(f"weights: got {str(path)!r}, which is no file; it takes {FORMATS}")
        require_regular(file)
        file = _checkpoint_meant(file)
    if tf_checkpoint.prefix_of(file):
        with damage(file, "the checkpoint"):
            return tf_checkpoint.read(file)
    with damage(file, "the file"):
        return _open(file)


def _checkpoint_meant(path: Path) -> Path:
    """The file or prefix that a folder, its text file `checkpoint` or a .meta file leads to; any other path itself.

    Raises InputError where it leads to none, or to several.
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
        kind = "a folder without a checkpoint" if path.is_dir() else "without the checkpoint that it belongs to"
        raise InputError(f"weights: got {str(path)!r}, which is {kind}; it takes {FORMATS}")
    shown = ", ".join(repr(str(each)) for each in found[-_SHOWN:])
    raise InputError(f"weights: got {str(path)!r}, which leads to {len(found)} checkpoints: give one of them, {shown}")


def _prefixes_in(folder: Path) -> list[Path]:
    return sorted(index.with_suffix("") for index in folder.glob("*.index"))


def _checkpoints_in(folder: Path) -> list[Path]:
    """What could be opened of a folder's own files: prefixes, and files that begin as a checkpoint does."""
    prefixes = _prefixes_in(folder)
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not tf_checkpoint.prefix_of(file)]
    return prefixes + [file for file in files if file.suffix != ".meta" and _reader_of(file)]


def _open(file: Path) -> Checkpoint:
    reader = _reader_of(file)
    if reader is None:
        with file.open("rb") as stream:
            head = stream.read(_HEAD)
        raise InputError(f"{file}: is of no known format (it begins with {head!r}); it takes {FORMATS}")
    return reader(file)


def _reader_of(file: Path) -> Callable[[Path], Checkpoint] | None:
    """The reader of a file's format, by its first and last bytes."""
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
                f"{file}: is a zip file, neither of Keras nor of PyTorch, and holds no TensorFlow checkpoint: it holds "
                f"{members[:5]}"
            )
    except BaseException:
        archive.close()
        raise
    checkpoint.resources.callback(archive.close)
    return checkpoint

"""Checkpoint files of every format, recognised by content; nothing in one is ever run."""

from __future__ import annotations

import zipfile
from os import PathLike
from pathlib import Path

from ...common.errors import InputError
from . import hdf5, safetensors, tf_checkpoint, torch_files
from .checkpoint import Checkpoint, Tensor, damage

__all__ = ["Checkpoint", "Tensor", "is_checkpoint", "open_checkpoint"]

FORMATS = (
    "a .keras, .weights.h5 or .safetensors file of this project, a legacy Keras HDF5 file, a TensorFlow checkpoint "
    "(V1, V2 or the published .tar.gz), a .safetensors file, or a PyTorch state dict (.pt)"
)


def is_checkpoint(path: Path) -> bool:
    """Whether there is something at a path that could be opened."""
    return path.exists() or tf_checkpoint.prefix_of(path) is not None


def open_checkpoint(path: str | PathLike[str]) -> Checkpoint:
    """Opens a checkpoint: its tensors' names and shapes; values are read one by one, later.

    Args:
        path: The file; of a TensorFlow V2 checkpoint the prefix, the index or the data file.

    Raises:
        InputError: There is no such file, it is of no known format, or it is damaged.
    """
    file = Path(path)
    if not file.name:
        raise InputError(f"weights: got {str(path)!r}; it takes {FORMATS}")
    if tf_checkpoint.prefix_of(file):
        with damage(file, "the checkpoint"):
            return tf_checkpoint.read(file)
    if not file.is_file():
        _refuse_part_of_tensorflow(file)
        kind = "a folder" if file.is_dir() else "no file"
        raise InputError(f"weights: got {str(path)!r}, which is {kind}; it takes {FORMATS}")
    if file.name == "checkpoint" or file.suffix == ".meta":
        _refuse_part_of_tensorflow(file)
    with damage(file, "the file"):
        return _open(file)


def _refuse_part_of_tensorflow(path: Path) -> None:
    """A trainer's folder, its `checkpoint` file or a graph, of which the prefixes beside it are meant."""
    folder = path if path.is_dir() else path.parent
    prefixes = sorted(index.with_suffix("") for index in folder.glob("*.index")) if folder.is_dir() else []
    if prefixes and (path.is_dir() or path.exists()):
        shown = " or ".join(repr(str(prefix)) for prefix in prefixes[-3:])
        raise InputError(
            f"weights: got {str(path)!r}, which holds no weights itself: give the checkpoint's prefix, {shown}"
        )


def _open(file: Path) -> Checkpoint:
    with file.open("rb") as stream:
        head = stream.read(16)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return hdf5.read(file)
    if head.startswith(b"PK"):
        return _open_zip(file)
    if head.startswith(b"\x1f\x8b"):
        return tf_checkpoint.read_archive(file)
    if head.startswith(torch_files.LEGACY_MAGIC[:16]):
        return torch_files.read_legacy(file)
    if tf_checkpoint.tail(file) == tf_checkpoint.TABLE_MAGIC:
        return tf_checkpoint.read(file)
    if head[8:9] == b"{":
        return safetensors.read(file)
    raise InputError(f"{file}: is of no known format (it begins with {head!r}); it takes {FORMATS}")


def _open_zip(file: Path) -> Checkpoint:
    archive = zipfile.ZipFile(file)
    try:
        members = archive.namelist()
        pickled = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
        if hdf5.KERAS_MEMBER in members:
            checkpoint = hdf5.read_keras(file, archive)
        elif pickled:
            checkpoint = torch_files.read_zip(file, archive, pickled[0])
        else:
            raise InputError(f"{file}: is a zip file, neither of Keras nor of PyTorch: it holds {members[:5]}")
    except BaseException:
        archive.close()
        raise
    checkpoint.resources.callback(archive.close)
    return checkpoint

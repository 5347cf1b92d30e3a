"""TensorFlow's checkpoints: V1 (one file), V2 (an index and its data), and the .tar.gz they were published in."""

from __future__ import annotations

import tarfile
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from ...errors import InputError
from .checkpoint import Checkpoint, Tensor, within

TABLE_MAGIC = bytes.fromhex("57fb808b247547db")  # the last eight bytes of a V1 file and of a V2 index
ARCHIVE_LIMIT = 2 * 2**30  # bytes unpacked; the published ones hold under 300 MB
MEMBER_LIMIT = 64


def prefix_of(path: Path) -> Path | None:
    """The V2 prefix that a path means: itself, its index or its data; None where there is no index."""
    stem = path.name.rpartition(".data-")[0] if ".data-" in path.name else path.name.removesuffix(".index")
    prefix = path.with_name(stem) if stem else path
    return prefix if prefix.with_name(f"{prefix.name}.index").is_file() else None


def read(path: Path, *, at: Path | None = None) -> Checkpoint:
    """`at`: the V1 file or V2 prefix itself where `path` is the archive that it was taken out of."""
    import tensorflow as tf

    prefix = at or prefix_of(path) or path
    files = [file for file in prefix.parent.glob("*") if file.name == prefix.name or _is_data(file, prefix)]
    size = sum(file.stat().st_size for file in files)
    reader = tf.train.load_checkpoint(str(prefix))
    types = reader.get_variable_to_dtype_map()
    tensors: dict[str, Tensor] = {}
    for name, shape in sorted(reader.get_variable_to_shape_map().items()):
        dtype = types[name].as_numpy_dtype
        known = all(isinstance(side, int) and side >= 0 for side in shape)
        if types[name] == tf.string or not known:
            continue  # object graphs of TensorFlow 2, no weights
        tensor = Tensor(tuple(shape), np.dtype(dtype).name, lambda name=name: np.asarray(reader.get_tensor(name)))  # type: ignore[misc]
        within(path, name, tensor.size * np.dtype(dtype).itemsize, size)
        tensors[name] = tensor
    return Checkpoint(path, "TensorFlow checkpoint", tensors)


def _is_data(file: Path, prefix: Path) -> bool:
    return file.name.startswith(f"{prefix.name}.data-")


def read_archive(path: Path) -> Checkpoint:
    with ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="inception-resnet-keras-")))
        names = _unpack(path, folder)
        indices = [name for name in names if name.endswith(".index")]
        single = [name for name in names if (folder / name).read_bytes()[-8:] == TABLE_MAGIC and name not in indices]
        found = [name.removesuffix(".index") for name in indices] + single
        if len(found) != 1:
            raise InputError(
                f"{path}: holds {len(found)} checkpoints among {', '.join(names) or 'no files'}; one is read"
            )
        checkpoint = read(path, at=folder / found[0])
        return Checkpoint(path, "TensorFlow checkpoint in a .tar.gz", checkpoint.tensors, resources.pop_all())


def _unpack(path: Path, folder: Path) -> list[str]:
    """Writes an archive's members into a folder, each checked before a byte of it is unpacked."""
    names: list[str] = []
    total = 0
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if member.isdir():
                continue
            name = member.name.removeprefix("./").rpartition("/")[2]
            parts = Path(member.name).parts
            if not member.isreg() or member.issparse():
                raise InputError(f"{path}: member {member.name!r} is no plain file: the archive is refused")
            if Path(member.name).is_absolute() or ".." in parts or not name or name in names or "\\" in name:
                raise InputError(f"{path}: member {member.name!r} would be written elsewhere or twice: it is refused")
            total += member.size
            if total > ARCHIVE_LIMIT or len(names) >= MEMBER_LIMIT:
                raise InputError(
                    f"{path}: unpacks to over {ARCHIVE_LIMIT} bytes or {MEMBER_LIMIT} files: it is refused"
                )
            source = archive.extractfile(member)
            if source is None:
                raise InputError(f"{path}: member {member.name!r} holds nothing")
            with (folder / name).open("wb") as out:
                while chunk := source.read(2**20):
                    out.write(chunk)
            names.append(name)
    return names

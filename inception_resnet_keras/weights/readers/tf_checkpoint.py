"""TensorFlow's checkpoints: V1 (one file), V2 (an index and its data), and the .tar.gz they were published in."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from ...common.errors import InputError
from .checkpoint import Checkpoint, Tensor, within

TABLE_MAGIC = bytes.fromhex("57fb808b247547db")  # the last eight bytes of a V1 file and of a V2 index
ARCHIVE_LIMIT = 2 * 2**30  # bytes unpacked; the published ones hold under 300 MB
HEADER_LIMIT = 2**20  # bytes of all headers together
MEMBER_LIMIT = 64


def prefix_of(path: Path) -> Path | None:
    """The V2 prefix that a path means: itself, its index or its data; None where there is no index."""
    stem = path.name.rpartition(".data-")[0] if ".data-" in path.name else path.name.removesuffix(".index")
    prefix = path.with_name(stem) if stem else path
    return prefix if prefix.with_name(f"{prefix.name}.index").is_file() else None


def read(path: Path, *, at: Path | None = None) -> Checkpoint:
    """`at`: the V1 file or V2 prefix itself where `path` is the archive that it was taken out of."""
    tf = _tensorflow()
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


def _tensorflow() -> Any:
    try:
        import tensorflow as tf
    except ImportError as error:
        raise InputError(
            f"TensorFlow's checkpoints need TensorFlow ({error}): pip install 'inception-resnet-keras[cpu]', or [gpu]"
        ) from None
    return tf


def _is_data(file: Path, prefix: Path) -> bool:
    return file.name.startswith(f"{prefix.name}.data-")


def tail(path: Path) -> bytes:
    """The last eight bytes of a file."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(TABLE_MAGIC), 0))
        return file.read(len(TABLE_MAGIC))


class _Allowed:
    """The bytes inside a .gz, of which no more are read than were allowed: headers can claim any length."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self.file, self.left = file, HEADER_LIMIT

    def read(self, count: int) -> bytes:
        self._spend(count)
        return self.file.read(count)

    def seek(self, place: int) -> int:
        self._spend(place - self.file.tell())
        return self.file.seek(place)

    def tell(self) -> int:
        return self.file.tell()

    def _spend(self, count: int) -> None:
        if not 0 <= count <= self.left:
            raise InputError(f"headers of the archive claim {count} bytes more than it is given: it is refused")
        self.left -= count


def read_archive(path: Path) -> Checkpoint:
    with ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="inception-resnet-keras-")))
        names = _unpack(path, folder)
        indices = [name for name in names if name.endswith(".index")]
        single = [name for name in names if tail(folder / name) == TABLE_MAGIC and name not in indices]
        found = [name.removesuffix(".index") for name in indices] + single
        if len(found) != 1:
            raise InputError(
                f"{path}: holds {len(found)} checkpoints among {', '.join(names) or 'no files'}; one is read"
            )
        checkpoint = read(path, at=folder / found[0])
        return Checkpoint(path, "TensorFlow checkpoint in a .tar.gz", checkpoint.tensors, resources.pop_all())


def _unpack(path: Path, folder: Path) -> list[str]:
    """Writes an archive's members into a folder: each is checked before its own bytes are unpacked."""
    names: list[str] = []
    total = 0
    with gzip.open(path) as unzipped:
        stream = _Allowed(unzipped)
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as archive:
            for number, member in enumerate(archive):
                total += member.size
                if total > ARCHIVE_LIMIT or number >= MEMBER_LIMIT:
                    raise InputError(
                        f"{path}: unpacks to over {ARCHIVE_LIMIT} bytes or {MEMBER_LIMIT} members: it is refused"
                    )
                if member.isdir():
                    continue
                name = _name(path, member, names)
                stream.left += member.size
                source = archive.extractfile(member)
                if source is None:
                    raise InputError(f"{path}: member {member.name!r} holds nothing")
                with (folder / name).open("wb") as out:
                    shutil.copyfileobj(source, out, 2**20)
                names.append(name)
    return names


def _name(path: Path, member: tarfile.TarInfo, taken: list[str]) -> str:
    """A member's own name, without its folder."""
    name = member.name.removeprefix("./").rpartition("/")[2]
    shown = member.name[:100]
    if not member.isreg() or member.issparse():
        raise InputError(f"{path}: member {shown!r} is no plain file: the archive is refused")
    parts = Path(member.name).parts
    if Path(member.name).is_absolute() or ".." in parts or not name or name in taken or "\\" in name:
        raise InputError(f"{path}: member {shown!r} would be written elsewhere or twice: it is refused")
    return name

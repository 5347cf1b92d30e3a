"""Reads TensorFlow's checkpoints: V1 (one file), V2 (an index and data), and .tar.gz or .zip archives of them.

TensorFlow 2 also stores trees of Python objects in the V2 format. There, a variable's name is its position in the tree,
which does not show the layer's name. Such files are refused.
"""

from __future__ import annotations

import gzip
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, cast

from ...common.errors import InputError
from .checkpoint import Checkpoint, Tensor, within
from .tf_tables import DTYPES, STRING, TABLE_MAGIC, Bundle, SingleFile

ARCHIVE_LIMIT = 2 * 2**30  # bytes unpacked; the published ones have less than 300 MB
HEADER_LIMIT = 2**20  # bytes of all headers
MEMBER_LIMIT = 64
_ENCRYPTED = 1  # the flag of an encrypted zip member
_OBJECT_GRAPH, _OBJECT_VARIABLE = "_CHECKPOINTABLE_OBJECT_GRAPH", "/.ATTRIBUTES/VARIABLE_VALUE"
_NO_WEIGHTS = (".pb", ".pbtxt", ".meta")  # graphs, which the published zip files also contain


def prefix_of(path: Path) -> Path | None:
    """The V2 prefix for a path that is the prefix, its index or its data; None without an index."""
    stem = path.name.rpartition(".data-")[0] if ".data-" in path.name else path.name.removesuffix(".index")
    prefix = path.with_name(stem) if stem else path
    return prefix if prefix.with_name(f"{prefix.name}.index").is_file() else None


def read(path: Path, *, at: Path | None = None) -> Checkpoint:
    """Open a checkpoint. If `path` is an archive, `at` is the unpacked V1 file or V2 prefix."""
    prefix = at or prefix_of(path) or path
    files = [file for file in prefix.parent.glob("*") if file.name == prefix.name or _is_data(file, prefix)]
    size = sum(file.stat().st_size for file in files)
    reader = Bundle(prefix) if prefix_of(prefix) else SingleFile(prefix)
    if any(entry.name == _OBJECT_GRAPH or entry.name.endswith(_OBJECT_VARIABLE) for entry in reader.entries):
        raise InputError(
            f"{path}: is an object checkpoint of TensorFlow 2 (tf.train.Checkpoint, or save_weights without .h5), which"
            " has positions of Python objects instead of names: load it with the code that wrote it, and save that "
            "model with model.save_weights('….weights.h5'), or '….h5' in Keras 2"
        )
    tensors: dict[str, Tensor] = {}
    for entry in sorted(reader.entries, key=lambda entry: entry.name):
        if entry.dtype == STRING or entry.shape is None:
            continue  # not a weight
        if entry.dtype not in DTYPES:
            raise InputError(f"{path}: {entry.name} has TensorFlow's type {entry.dtype}, which weights never have")
        dtype = DTYPES[entry.dtype]
        tensor = Tensor(entry.shape, dtype.name, partial(reader.read, entry))
        within(path, entry.name, tensor.size * dtype.itemsize, size)
        tensors[entry.name] = tensor
    return Checkpoint(path, "TensorFlow checkpoint", tensors)


def _is_data(file: Path, prefix: Path) -> bool:
    return file.name.startswith(f"{prefix.name}.data-")


def tail(path: Path) -> bytes:
    """The last eight bytes of a file."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(TABLE_MAGIC), 0))
        return file.read(len(TABLE_MAGIC))


class _Allowed:
    """The content of a .gz file, limited to an allowed number of bytes, because headers can claim any length."""

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
            raise InputError(f"its headers claim {count} further bytes, and {self.left} are allowed: it is refused")
        self.left -= count


def read_archive(path: Path) -> Checkpoint:
    """Open the checkpoint in a .tar.gz file."""
    return _read_unpacked(path, "TensorFlow checkpoint in a .tar.gz", lambda folder: _unpack(path, folder))


def read_zip(path: Path, archive: zipfile.ZipFile) -> Checkpoint:
    """Open the checkpoint in a .zip file, the form in which davidsandberg/facenet's models were published."""
    return _read_unpacked(path, "TensorFlow checkpoint in a .zip", lambda folder: _unpack_zip(path, archive, folder))


def is_zipped(names: list[str]) -> bool:
    """Whether a zip file's members include a checkpoint."""
    return any(name.endswith((".index", ".ckpt")) or ".ckpt-" in name for name in names)


def _read_unpacked(path: Path, kind: str, unpack: Callable[[Path], list[str]]) -> Checkpoint:
    with ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="inception-resnet-keras-")))
        names = unpack(folder)
        indices = [name for name in names if name.endswith(".index")]
        single = [name for name in names if tail(folder / name) == TABLE_MAGIC and name not in indices]
        found = [name.removesuffix(".index") for name in indices] + single
        if len(found) != 1:
            raise InputError(
                f"{path}: has {len(found)} checkpoints among {', '.join(names) or 'no files'}; exactly one is needed"
            )
        checkpoint = read(path, at=folder / found[0])
        return Checkpoint(path, kind, checkpoint.tensors, resources.pop_all())


def _unpack(path: Path, folder: Path) -> list[str]:
    """Unpack an archive's members into a folder. Each is checked before its content is unpacked."""
    names: list[str] = []
    total = 0
    with gzip.open(path) as unzipped:
        stream = _Allowed(unzipped)
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as archive:
            for number, member in enumerate(archive):
                total += member.size
                _check_swelling(path, total, number)
                if member.isdir():
                    continue
                name = _name(path, member.name, names, plain=member.isreg() and not member.issparse())
                stream.left += member.size
                source = archive.extractfile(member)
                if source is None:
                    raise InputError(f"{path}: member {member.name!r} has no content")
                with (folder / name).open("wb") as out:
                    shutil.copyfileobj(source, out, 2**20)
                names.append(name)
    return names


def _unpack_zip(path: Path, archive: zipfile.ZipFile, folder: Path) -> list[str]:
    """`_unpack` for a zip file, where a member cannot exceed its claimed size. Graphs are not unpacked."""
    names: list[str] = []
    total = 0
    for number, info in enumerate(archive.infolist()):
        total += info.file_size
        _check_swelling(path, total, number)
        if info.is_dir():
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        plain = kind in (0, stat.S_IFREG) and not info.flag_bits & _ENCRYPTED
        name = _name(path, info.filename, names, plain=plain)
        if not name.endswith(_NO_WEIGHTS):
            with archive.open(info) as source, (folder / name).open("wb") as out:
                shutil.copyfileobj(source, out, 2**20)
            names.append(name)
    return names


def _check_swelling(path: Path, size: int, number: int) -> None:
    if size > ARCHIVE_LIMIT or number >= MEMBER_LIMIT:
        raise InputError(f"{path}: unpacks to more than {ARCHIVE_LIMIT} bytes or {MEMBER_LIMIT} members: it is refused")


def _name(path: Path, member: str, taken: list[str], *, plain: bool) -> str:
    """A member's name without its folder. `plain` is whether the member is a regular file."""
    name = member.removeprefix("./").rpartition("/")[2]
    shown = member[:100]
    if not plain:
        raise InputError(f"{path}: member {shown!r} is not a regular file: the archive is refused")
    parts = Path(member).parts
    if Path(member).is_absolute() or ".." in parts or not name or name in taken or "\\" in member:
        raise InputError(f"{path}: member {shown!r} would be written outside the folder or twice: it is refused")
    return name

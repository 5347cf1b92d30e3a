"""Reads PyTorch's .pt files, zip and legacy, without PyTorch and without running any code in them."""

from __future__ import annotations

import io
import math
import mmap
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import InputError
from . import pickles
from .checkpoint import Checkpoint, Tensor, within
from .pickles import Plain, Storage, View

LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
DEEPEST = 64  # levels of nested containers
LONGEST_NAME = 1024  # characters of a tensor's name, which consists of the keys that lead to it
PICKLE_LIMIT = 16 * 2**20  # bytes of data.pkl; a thousand tensors need 100 kB
_Fetch = Callable[[Storage], bytes]


def read_zip(path: Path, archive: zipfile.ZipFile, pickle_name: str) -> Checkpoint:
    """Open a zip file: its pickle, and one member for each storage."""
    root = pickle_name.removesuffix("data.pkl")
    size = path.stat().st_size
    members = {info.filename: info for info in archive.infolist()}

    def member(name: str, limit: int) -> bytes:
        info = members.get(f"{root}{name}")
        if info is None:
            raise InputError(f"{path}: has no member {root}{name}: it is damaged")
        if info.compress_type != zipfile.ZIP_STORED:
            raise InputError(f"{path}: member {info.filename} is compressed, which PyTorch never does: it is refused")
        within(path, f"member {info.filename}", info.file_size, min(limit, size))
        return archive.read(info)

    if f"{root}byteorder" in members and member("byteorder", 16) != b"little":
        raise InputError(f"{path}: was written on a big-endian machine; save it again on another")
    state = pickles.read(io.BytesIO(member("data.pkl", PICKLE_LIMIT)))
    return _checkpoint(path, "PyTorch", state, lambda storage: member(f"data/{storage.key}", size))


def read_legacy(path: Path) -> Checkpoint:
    """Open a legacy file: five pickles (magic, protocol, system, state, storage keys), then each storage."""
    size = path.stat().st_size
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        _, _, system, state, keys = (pickles.read(mapped) for _ in range(5))  # type: ignore[arg-type]
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise InputError(f"{path}: was written on a big-endian machine; save it again on another")
        # The storages follow one another; each is only located here, and read with its tensor.
        tensors = _views(path, state)
        widths = {view.storage.key: _width(view.storage) for view in tensors.values()}
        places: dict[str, tuple[int, int]] = {}
        at = mapped.tell()
        for key in keys:
            if not isinstance(key, str):
                raise InputError(f"{path}: has a {type(key).__name__} as the name of a storage: it is damaged")
            within(path, f"storage {key}", at + 8, size)
            (count,) = struct.unpack_from("<q", mapped, at)
            length = count * widths.get(key, 1)
            within(path, f"storage {key}", at + 8 + length if count >= 0 else count, size)
            places[key] = (at + 8, length)
            at += 8 + length

        def fetch(storage: Storage) -> bytes:
            start, length = places[storage.key]
            return mapped[start : start + length]

        checkpoint = _checkpoint(path, "PyTorch (legacy)", state, fetch)
        checkpoint.checksums = False
    except BaseException:
        mapped.close()
        raise
    checkpoint.resources.callback(mapped.close)
    return checkpoint


def _shared_kept(fetch: _Fetch, views: dict[str, View]) -> _Fetch:
    """Read a storage that several tensors share only once, and keep it. All storages fit in the file's size."""
    uses = Counter(view.storage.key for view in views.values())
    kept: dict[str, bytes] = {}

    def cached(storage: Storage) -> bytes:
        data = kept.get(storage.key) or fetch(storage)
        if uses[storage.key] > 1:
            kept[storage.key] = data
        return data

    return cached


def _checkpoint(path: Path, kind: str, state: Any, fetch: _Fetch) -> Checkpoint:
    views = _views(path, state)
    size = path.stat().st_size
    within(
        path,
        "all its tensors together",
        sum(math.prod(view.size) * _width(view.storage) for view in views.values()),
        4 * size,
    )
    storages = {view.storage.key: view.storage.count * _width(view.storage) for view in views.values()}
    within(path, "all its storages together", sum(storages.values()), size)
    fetch = _shared_kept(fetch, views)
    return Checkpoint(path, kind, {name: _lazy(path, name, view, fetch, size) for name, view in views.items()})


def _views(path: Path, state: Any) -> dict[str, View]:
    """All tensors by name, which joins the keys that lead to a tensor with dots: `state_dict.conv.weight`."""
    found: dict[str, View] = {}
    for name, view in _named(path, state, "", DEEPEST, set()):
        if name in found:
            raise InputError(f"{path}: {name} occurs twice: it is damaged")
        found[name] = view
    if not found.keys() - {""} and not isinstance(state, dict):
        kind = state.kind if isinstance(state, Plain) else type(state).__name__
        raise InputError(f"{path}: holds a {kind[:LONGEST_NAME]}, and a state dict of tensors is needed")
    if not found:
        keys = ", ".join(repr(key)[:60] for key in list(state)[:5])
        raise InputError(f"{path}: its dict has no tensors; its first keys are {keys or 'none'}")
    return found


def _named(path: Path, value: Any, name: str, depth: int, seen: set[int]) -> Iterator[tuple[str, View]]:
    """The tensors in a container, which is read only once however often it is referenced."""
    if isinstance(value, View):
        yield name, value
    elif isinstance(value, dict | list | tuple) and id(value) not in seen:
        seen.add(id(value))
        for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(inside, View | dict | list | tuple):
                if not depth or len(name) + len(str(key)) >= LONGEST_NAME:
                    raise InputError(
                        f"{path}: has containers over {DEEPEST} deep, or a name of over {LONGEST_NAME} characters"
                    )
                yield from _named(path, inside, f"{name}.{key}" if name else str(key), depth - 1, seen)


def _lazy(path: Path, name: str, view: View, fetch: _Fetch, size: int) -> Tensor:
    """A tensor that is read when it is needed, after a check that its elements are inside its storage."""
    storage = view.storage
    elements = math.prod(view.size)
    last = view.offset + sum((side - 1) * step for side, step in zip(view.size, view.stride, strict=True))
    if elements and (last >= storage.count or elements > storage.count):
        raise InputError(f"{path}: {name} needs element {last} of a storage of {storage.count}: it is damaged")
    within(path, f"the storage of {name}", storage.count * _width(storage), size)

    def read() -> np.ndarray:
        data = fetch(storage)
        if len(data) != storage.count * _width(storage):
            raise InputError(f"{path}: the storage of {name} has {len(data)} bytes: it is damaged")
        flat = np.frombuffer(data, _dtype(storage))
        if not elements:
            return np.empty(view.size, flat.dtype)
        strides = [step * flat.itemsize for step in view.stride]
        array = np.lib.stride_tricks.as_strided(flat[view.offset :], view.size, strides, writeable=False)
        # A copy of a small part does not keep the whole storage in memory.
        return array.copy() if 2 * elements < storage.count else array

    return Tensor(view.size, storage.dtype, read)


def _dtype(storage: Storage) -> np.dtype:
    if storage.dtype != "bfloat16":
        return np.dtype(storage.dtype)
    import ml_dtypes  # imported here, so that `predict` starts faster

    return np.dtype(ml_dtypes.bfloat16)


def _width(storage: Storage) -> int:
    return _dtype(storage).itemsize

"""Reads the bytes of TensorFlow's checkpoints without TensorFlow: sorted tables, protocol buffers and checksums.

Sources: https://github.com/google/leveldb/blob/main/doc/table_format.md, the format of TensorFlow's tables, and
TensorFlow's `saved_tensor_slice.proto` (V1), `tensor_bundle.proto` (V2) and `ordered_code.cc` (keys of slices).
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ...common.errors import InputError
from ...common.files import open_regular
from .checkpoint import within

TABLE_MAGIC = bytes.fromhex("57fb808b247547db")  # the last eight bytes of a V1 file and of a V2 index
_FOOTER, _TRAILER = 48, 5  # bytes: two handles and the magic; a block's compression type and checksum
_FULL = -1  # the length of a slice over a whole axis

# Types by their numbers in `types.proto`, without quantised types and handles, which weights never have.
DTYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype(kind)
    for number, kind in {
        **{1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 5: np.int16, 6: np.int8, 8: np.complex64},
        **{9: np.int64, 10: np.bool_, 14: ml_dtypes.bfloat16, 17: np.uint16, 18: np.complex128, 19: np.float16},
        **{22: np.uint32, 23: np.uint64},
    }.items()
}
STRING = 7
# The field of a V1 TensorProto that has a type's values, and the encoding of each; None for varints.
_VALUES: dict[int, tuple[int, str | None]] = {
    **{1: (5, "<f4"), 2: (6, "<f8"), 8: (9, "<c8"), 18: (12, "<c16"), 14: (13, None), 19: (13, None)},
    **dict.fromkeys((3, 4, 5, 6, 17), (7, None)),
    **{9: (10, None), 10: (11, None), 22: (16, None), 23: (17, None)},
}
Slice = tuple[tuple[int, int], ...]  # (start, length) for each axis


@dataclass(frozen=True)
class Entry:
    """A tensor of a checkpoint.

    Attributes:
        name: Its name.
        dtype: The type's number in `types.proto`.
        shape: Its shape; None if the file does not have it.
        slices: Its parts; in V2 only if it was written in several parts.
        stored: Its location in V2.
    """

    name: str
    dtype: int
    shape: tuple[int, ...] | None
    slices: Sequence[Slice] = ()
    stored: tuple[int, int, int, int] = (0, 0, 0, 0)  # shard, offset, bytes, masked CRC-32C


# Protocol buffers


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """An unsigned number of at most 64 bits, and the position after it."""
    found = shift = 0
    while True:
        byte = data[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise ValueError("it has a number of more than ten bytes")


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """The (field, value) pairs of a message, in order. The value of a varint is an integer, any other is bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"it has a field of the unknown kind {kind}")
        if length > len(message) - at:
            raise ValueError("it has a field that is longer than its message")
        yield tag >> 3, message[at : at + length]
        at += length


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _shape(message: memoryview) -> tuple[int, ...] | None:
    """The shape in a TensorShapeProto; None if its rank or a side is unknown."""
    sides = []
    for field, value in _fields(message):
        if field == 2:
            sides.append(_signed(dict(_fields(value)).get(1, 0)))
        elif field == 3 and value:
            return None
    return tuple(sides) if all(side >= 0 for side in sides) else None


def _slice(message: memoryview) -> Slice:
    """The slice in a TensorSliceProto. The length of a whole axis is -1."""
    extents = (dict(_fields(value)) for field, value in _fields(message) if field == 1)
    return tuple((_signed(extent.get(1, 0)), _signed(extent[2]) if 2 in extent else _FULL) for extent in extents)


# Keys


def _number_key(number: int) -> bytes:
    digits = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes([len(digits)]) + digits


def _signed_key(number: int) -> bytes:
    """A signed number as a key. As in UTF-8, the first bits give the length, so that keys sort like their numbers."""
    magnitude = ~number if number < 0 else number
    length = magnitude.bit_length() // 7 + 1
    digits = bytearray((number & ((1 << 80) - 1)).to_bytes(10, "big")[-length:])
    header = ((1 << length) - 1) << (16 - length) if length < 10 else 0xFFC0
    digits[0] ^= header >> 8
    if length > 1:
        digits[1] ^= header & 0xFF
    return bytes(digits)


def _slice_key(name: str, part: Slice) -> bytes:
    escaped = name.encode().replace(b"\0", b"\0\xff")
    axes = b"".join(_signed_key(start) + _signed_key(length) for start, length in part)
    return _number_key(0) + escaped + b"\0\1" + _number_key(len(part)) + axes


# Tables


class Table:
    """A file of sorted keys with values, in blocks. Each block's checksum is verified when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_regular(path) as file:
            self.size = file.seek(0, 2)
            file.seek(max(self.size - _FOOTER, 0))
            footer = memoryview(file.read(_FOOTER))
        if len(footer) < _FOOTER or footer[-len(TABLE_MAGIC) :] != TABLE_MAGIC:
            raise ValueError("its end is missing")
        at = 0
        for _ in range(2):  # first the handle of the filters' index, which is not used, then that of the blocks' index
            offset, at = _varint(footer, at)
            size, at = _varint(footer, at)
        self._keys: list[bytes] = []  # for each block, a key not less than all its keys
        self._handles: list[tuple[int, int]] = []
        for key, handle in _entries(self._block(offset, size)):
            offset, at = _varint(handle, 0)
            self._keys.append(key)
            self._handles.append((offset, _varint(handle, at)[0]))
        if sum(size for _, size in self._handles) > self.size:
            raise ValueError("its blocks claim more bytes than it has")

    def __iter__(self) -> Iterator[tuple[bytes, memoryview]]:
        for handle in self._handles:
            yield from _entries(self._block(*handle))

    def value(self, key: bytes) -> memoryview:
        """The value of a key. Raises KeyError if there is none."""
        place = bisect_left(self._keys, key)
        if place < len(self._keys):
            for found, value in _entries(self._block(*self._handles[place])):
                if found == key:
                    return value
        raise KeyError(key)

    def _block(self, offset: int, size: int) -> memoryview:
        if offset + size + _TRAILER > self.size:
            raise ValueError(f"it has a block of {size:,} bytes at {offset:,}, beyond its end")
        with open_regular(self.path) as file:
            file.seek(offset)
            block = memoryview(file.read(size + _TRAILER))
        require_checksum(block[: size + 1], struct.unpack_from("<I", block, size + 1)[0])
        if block[size]:
            raise InputError(
                "its table is compressed, which TensorFlow's own writers never do: write it again with tf.train.Saver"
            )
        return block[:size]


def _entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The keys and values of a block. Each key is stored as its difference from the one before."""
    restarts = struct.unpack_from("<I", block, len(block) - 4)[0]
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise ValueError("it has a block with more restarts than it has room for")
    key, at = b"", 0
    while at < end:
        shared, at = _varint(block, at)
        added, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or added + length > end - at:
            raise ValueError("it has an entry that is longer than its block")
        key = key[:shared] + bytes(block[at : at + added])
        at += added
        yield key, block[at : at + length]
        at += length


# The two versions


class SingleFile:
    """Version 1: one table, which also contains the tensors, each in one or several slices."""

    def __init__(self, path: Path) -> None:
        self.table = Table(path)
        meta = dict(_fields(self.table.value(b"")))[1]
        self.entries = [_entry_v1(value) for field, value in _fields(meta) if field == 1]

    def read(self, entry: Entry) -> np.ndarray:
        return _assembled(entry, lambda part: self._part(entry, part))

    def _part(self, entry: Entry, part: Slice) -> np.ndarray:
        saved = dict(_fields(dict(_fields(self.table.value(_slice_key(entry.name, part))))[2]))
        tensor, values = saved[3], []
        number, kind = _VALUES[entry.dtype]
        dtype = DTYPES[entry.dtype]
        for field, value in _fields(tensor):
            if field == 1 and value != entry.dtype:
                raise ValueError(f"a slice of type {value} of a tensor of type {entry.dtype}")
            if field == number:
                values.append(_numbers(value, kind, dtype))
        return np.concatenate(values) if values else np.empty(0, dtype)


def _entry_v1(message: memoryview) -> Entry:
    name, dtype, slices = "", 0, []
    shape: tuple[int, ...] | None = ()
    for field, value in _fields(message):
        if field == 1:
            name = str(value, "utf-8")
        elif field == 2:
            shape = _shape(value)
        elif field == 3:
            dtype = value
        elif field == 4:
            slices.append(_slice(value))
    return Entry(name, dtype, shape, slices)


def _numbers(value: Any, kind: str | None, dtype: np.dtype[Any]) -> np.ndarray:
    """The values of a field: packed ones, or a single one."""
    if kind is not None:
        return np.frombuffer(value, kind)
    numbers, at = [value] if isinstance(value, int) else [], 0
    while not isinstance(value, int) and at < len(value):
        number, at = _varint(value, at)
        numbers.append(number)
    found = np.array(numbers, np.uint64)
    if dtype in (np.float16, ml_dtypes.bfloat16):  # stored as their bits
        return found.astype(np.uint16).view(dtype)
    return found.astype(np.int64).astype(dtype) if dtype.kind == "i" else found.astype(dtype)


class Bundle:
    """Version 2: a table with the location of each tensor in the data files beside it."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.table = Table(prefix.with_name(f"{prefix.name}.index"))
        header: dict[int, Any] | None = None
        self.entries: list[Entry] = []
        for key, value in self.table:
            if not key:
                header = dict(_fields(value))
            elif key[0]:  # the key of a slice begins with 0; slices are read through their tensor
                self.entries.append(_entry_v2(key, value))
        if header is None:
            raise ValueError("it has no header")
        self.shards, self.order = header.get(1, 0), ">" if header.get(2) else "<"

    def read(self, entry: Entry) -> np.ndarray:
        if not entry.slices:
            return self._stored(entry)
        return _assembled(
            entry, lambda part: self._stored(_entry_v2(b"", self.table.value(_slice_key(entry.name, part)))).ravel()
        )

    def _stored(self, entry: Entry) -> np.ndarray:
        assert entry.shape is not None
        shard, offset, size, checksum = entry.stored
        dtype = DTYPES[entry.dtype]
        if size != math.prod(entry.shape) * dtype.itemsize:
            raise ValueError(f"{size:,} bytes for shape {entry.shape}")
        file = self.prefix.with_name(f"{self.prefix.name}.data-{shard:05d}-of-{self.shards:05d}")
        within(file, "a tensor", offset + size, file.stat().st_size)
        with open_regular(file) as stream:
            stream.seek(offset)
            content = stream.read(size)
        require_checksum(content, checksum)
        stored = np.frombuffer(content, dtype)
        return (stored.byteswap() if self.order == ">" else stored).reshape(entry.shape)


def _entry_v2(key: bytes, message: memoryview) -> Entry:
    dtype, slices, stored = 0, [], [0, 0, 0, 0]
    shape: tuple[int, ...] | None = ()
    for field, value in _fields(message):
        if field == 1:
            dtype = value
        elif field == 2:
            shape = _shape(value)
        elif field in (3, 4, 5):
            stored[field - 3] = value
        elif field == 6:
            stored[3] = int.from_bytes(value, "little")
        elif field == 7:
            slices.append(_slice(value))
    return Entry(key.decode(), dtype, shape, slices, (stored[0], stored[1], stored[2], stored[3]))


def _assembled(entry: Entry, part: Any) -> np.ndarray:
    """Assemble a tensor from its slices, which must cover every element exactly once."""
    assert entry.shape is not None
    whole = np.empty(entry.shape, DTYPES[entry.dtype])
    covered = np.zeros(entry.shape, bool)
    for piece in entry.slices:
        if len(piece) != whole.ndim:
            raise ValueError(f"it has a slice of {len(piece)} axes for shape {entry.shape}")
        region = tuple(
            slice(0, side) if length == _FULL else slice(start, start + length)
            for (start, length), side in zip(piece, entry.shape, strict=True)
        )
        inside = all(0 <= each.start <= each.stop <= side for each, side in zip(region, entry.shape, strict=True))
        if not inside or covered[region].any():
            raise ValueError(f"it has a slice {piece} outside shape {entry.shape}, or overlapping another")
        covered[region] = True
        whole[region] = part(piece).reshape(whole[region].shape)
    if not covered.all():
        raise ValueError(f"it has slices that do not cover shape {entry.shape}")
    return whole


# CRC-32C, which neither Python nor NumPy implements

_POLYNOMIAL = 0x82F63B78
_LANE = 4096  # bytes, the least for a lane of its own


def require_checksum(data: bytes | memoryview, masked: int) -> None:
    """Raise ValueError if the data's checksum differs from the stored one, which TensorFlow masks."""
    found = crc32c(data)
    if ((found >> 15 | found << 17) + 0xA282EAD8) & 0xFFFFFFFF != masked:
        raise ValueError("its checksum is wrong")


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C of bytes. NumPy computes lanes in parallel, two bytes at a time; then they are combined."""
    values = np.frombuffer(data, np.uint8)
    lanes = 1 << min((len(values) // _LANE).bit_length(), 14)
    side = len(values) // lanes // 2 * 2
    pairs = np.ascontiguousarray(values[: lanes * side].view("<u2").reshape(lanes, side // 2).T)
    remainders = np.zeros(lanes, np.uint32)
    remainders[0] = 0xFFFFFFFF
    table = _pair_table()
    for row in pairs:
        remainders = table[(remainders ^ row) & 0xFFFF] ^ (remainders >> 16)
    shift = _zeros(side)
    while len(remainders) > 1:
        remainders = _times(shift, remainders[::2]) ^ remainders[1::2]
        shift = _times(shift, shift)
    rest, found = _byte_table(), int(remainders[0])
    for byte in values[lanes * side :].tolist():
        found = int(rest[(found ^ byte) & 0xFF]) ^ found >> 8
    return found ^ 0xFFFFFFFF


@cache
def _byte_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table


@cache
def _pair_table() -> np.ndarray:
    first = _byte_table()
    pairs = np.arange(65536, dtype=np.uint32)
    once = first[pairs & 0xFF] ^ pairs >> 8
    return first[once & 0xFF] ^ once >> 8


def _times(operator: np.ndarray, remainders: np.ndarray) -> np.ndarray:
    """Apply a linear map of 32 bits, given by its value for each bit, to many remainders."""
    found = np.zeros_like(remainders)
    for bit in range(32):
        found ^= np.where(remainders >> bit & 1, operator[bit], np.uint32(0))
    return found


def _zeros(count: int) -> np.ndarray:
    """The linear map of a remainder when `count` zero bytes follow."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    step, total = _byte_table()[bits & 0xFF] ^ bits >> 8, bits
    while count:
        if count & 1:
            total = _times(step, total)
        step, count = _times(step, step), count >> 1
    return total

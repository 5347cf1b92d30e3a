"""Packed pictures: TFRecord shards with an index beside them, written by `pack` and read by `open_packed`."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..common.arguments import is_integer, positive_integer, value_range_of
from ..common.devices import usable_cores
from ..common.errors import InputError, refuse
from ..common.files import new_files, open_regular, read_text, require_regular, write_json
from ..common.packages import required
from .images import JPEG, MAX_PIXELS, MAX_SIDE, PILLOW, PLAIN, UnreadableImageError
from .labelled import PARTS, CorruptPictures, Ranges, Source
from .value_range import with_value_range

INDEX = "index.json"
TABLE = "index.npz"
FORMAT = "inception-resnet-keras pictures 1"
# For several labels per picture, parts, groups or weights, so that versions that would ignore them refuse the folder.
RICHER_FORMAT = "inception-resnet-keras pictures 2"
LENGTH_BYTES, FOOTER_BYTES = 12, 4  # of a TFRecord: the length with its checksum; the checksum of the data
COLUMNS = ("labels", "sizes", "kinds", "shards", "offsets", "lengths", "names")
OPTIONAL = ("parts", "groups", "weights")
SHARD_BYTES = 128 * 1024**2
AT_ONCE = 256  # pictures that are read in advance


@dataclass(frozen=True)
class PackedFolder:
    """A folder that was written: the numbers of its `pictures`, of its files (`shards`) and of their `bytes` in all."""

    path: Path
    pictures: int
    shards: int
    bytes: int


def pack(
    source: Source,
    out: Path,
    *,
    seed: int = 0,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PackedFolder:
    """Write the pictures of a source into a new packed folder, in shuffled order.

    Every picture is decoded once; corrupt ones are left out and listed in `source.corrupt`. JPEG, PNG and WebP files
    that TensorFlow decodes like `read_image` are copied byte by byte; others are converted to PNG, upright and without
    transparency. A record is a tf.train.Example of image/encoded, image/class/label and image/filename. The folder
    appears at `out` only when it is complete. Files left by a killed process are removed when the same `out` is packed
    again.

    Args:
        source: The pictures, from `open_source`.
        out: The folder to create; it must not exist.
        seed: Seed of the shuffled order, an integer of at least 0.
        shard_bytes: Size in bytes at which a shard is closed and the next one begun.
        progress: Called with the number of pictures written so far and the total.

    Returns:
        The folder, with the numbers of its pictures, files and bytes.

    Raises:
        InputError: `out` exists, a class has no readable picture, or more pictures are corrupt than the source allows.
        OSError: The folder cannot be written, for example because the disk is full. Nothing is left at `out`.
    """
    positive_integer("shard_bytes", shard_bytes, 2**63 - 1)
    if not is_integer(seed) or seed < 0:
        raise refuse("seed", seed, "an integer of at least 0")
    source = with_value_range(source, source.value_range)
    order = np.random.default_rng(seed).permutation(len(source))
    out.parent.mkdir(parents=True, exist_ok=True)
    with new_files(out) as hidden:
        folder = hidden / out.name
        folder.mkdir()
        shards = _Shards(folder, shard_bytes)
        kept, rows = [], []
        for done, (index, packed) in enumerate(_read(source, order), 1):
            if packed is not None:
                content, kind = packed
                rows.append((*shards.add(content, _labels(source.labels[index]), source.names[index]), kind))
                kept.append(index)
            progress(done, len(source))
        shards.close()
        _check_classes(source, np.array(kept, np.int64))
        _write_index(folder, source, np.array(kept), np.array(rows, np.int64), shards.written)
    return PackedFolder(out, len(kept), len(shards.written), sum(shard["bytes"] for shard in shards.written))


def write_packed(
    pictures: Iterable[tuple[bytes, np.ndarray, tuple[int, int]]],
    out: Path,
    class_names: Sequence[str] | None,
    *,
    what: str,
    several: bool = False,
    every_class: bool = True,
    shard_bytes: int = SHARD_BYTES,
) -> PackedFolder:
    """Write pictures from an iterator into a new packed folder, in the order of the iterator.

    Args:
        pictures: For each picture its bytes (a PNG that TensorFlow decodes like `read_image`), its label, and (height,
            width). A label is the number of a class, or a row of 0 and 1. Rows count as several labels per picture if
            any of them has more or fewer than one 1.
        out: The folder to create; it must not exist.
        class_names: Names in the order of the labels. None uses the numbers as names.
        what: Name of the pictures in error messages.
        several: Whether rows count as several labels per picture in any case.
        every_class: Whether every class must have a picture.
        shard_bytes: Size in bytes at which a shard is closed and the next one begun.

    Returns:
        The folder, with the numbers of its pictures, files and bytes.

    Raises:
        InputError: There are no pictures, or `every_class` is set and a class has no picture.
    """
    labels, sizes, rows = [], [], []
    out.parent.mkdir(parents=True, exist_ok=True)
    with new_files(out) as hidden:
        folder = hidden / out.name
        folder.mkdir()
        shards = _Shards(folder, shard_bytes)
        for number, (content, label, size) in enumerate(pictures):
            rows.append((*shards.add(content, _labels(label), f"image {number}"), PLAIN))
            labels.append(label)
            sizes.append(size)
        shards.close()
        if not labels:
            raise InputError(f"{what} holds no pictures")
        # Only now is it known whether rows of 0 and 1 are one-hot, and which classes occur.
        given = np.array(labels)
        if given.ndim == 2 and not several and (given.sum(axis=1) == 1).all():
            given = given.argmax(axis=1)
        used = _used(given).tolist()
        count = given.shape[1] if given.ndim == 2 else max(used) + 1
        names = list(map(str, range(count) if class_names is None else class_names))
        if every_class and (missing := [name for number, name in enumerate(names) if number not in used]):
            raise InputError(
                f"{what} has no picture of class {missing[0]!r}; each of the {len(names)} classes needs one"
            )
        # The index is written from a source, as in `pack`; its contents are not read.
        source = Source(
            class_names=names,
            names=[f"image {number}" for number in range(len(labels))],
            labels=given.astype(np.uint8 if given.ndim == 2 else np.int64),
            sizes=np.array(sizes, np.int32),
            kinds=np.full(len(labels), PLAIN, np.uint8),
            contents=Ranges([], *np.zeros((3, len(labels)), np.int64)),
            corrupt=CorruptPictures(0, len(labels)),
        )
        _write_index(folder, source, np.arange(len(labels)), np.array(rows, np.int64), shards.written)
    return PackedFolder(out, len(labels), len(shards.written), sum(shard["bytes"] for shard in shards.written))


class _Shards:
    """Writer of TFRecord files, one after another."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self._tf = required("tensorflow", "pack")
        self.written: list[dict[str, Any]] = []
        self._writer: Any = None
        self._position = 0

    def add(self, content: bytes, labels: Sequence[int], name: str) -> tuple[int, int, int]:
        """Write a record; returns the shard's number, and the picture's offset and length within the shard."""
        if self._writer is None:
            self._writer = self._tf.io.TFRecordWriter(os.fsencode(self._path()))
        example = self._tf.train.Example()
        feature = example.features.feature
        feature["image/encoded"].bytes_list.value.append(content)
        feature["image/class/label"].int64_list.value.extend(labels)
        feature["image/filename"].bytes_list.value.append(name.encode("utf-8", "surrogateescape"))
        record = example.SerializeToString(deterministic=True)
        self._writer.write(record)
        place = len(self.written), self._position + LENGTH_BYTES + record.index(content), len(content)
        self._position += LENGTH_BYTES + len(record) + FOOTER_BYTES
        if self._position >= self.shard_bytes:
            self.close()
        return place

    def close(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        path = self._path()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.written.append({"file": path.name, "bytes": path.stat().st_size, "sha256": digest})
        self._writer, self._position = None, 0

    def _path(self) -> Path:
        return self.folder / f"pictures-{len(self.written):05d}.tfrecord"


def _read(source: Source, order: np.ndarray) -> Iterator[tuple[int, tuple[bytes, int] | None]]:
    """The index of each picture in order, with its bytes and kind after a trial decoding; None if it is corrupt."""

    def checked(index: int) -> tuple[bytes, int] | None:
        try:
            image = source.read(index)
        except UnreadableImageError:
            return None
        if source.kinds[index] != PILLOW:
            return source.contents.read(index), int(source.kinds[index])
        content = BytesIO()
        Image.fromarray(image).save(content, "PNG")
        return content.getvalue(), PLAIN

    indices = iter(order.tolist())
    with ThreadPoolExecutor(usable_cores()) as threads:
        while chunk := list(islice(indices, AT_ONCE)):
            yield from zip(chunk, threads.map(checked, chunk), strict=True)


def _labels(label: np.ndarray) -> list[int]:
    """The numbers of a picture's classes: its single class, or the classes marked in its row of 0 and 1."""
    return [int(number) for number in np.flatnonzero(label)] if label.ndim else [int(label)]


def _used(labels: np.ndarray) -> np.ndarray:
    return np.flatnonzero(labels.any(axis=0)) if labels.ndim == 2 else np.unique(labels)


def _check_classes(source: Source, kept: np.ndarray) -> None:
    for label in np.setdiff1d(_used(source.labels), _used(source.labels[kept])):
        raise InputError(f"class {source.class_names[label]!r} has no readable picture; nothing was written")


def _write_index(
    folder: Path, source: Source, kept: np.ndarray, rows: np.ndarray, shards: list[dict[str, Any]]
) -> None:
    optional: dict[str, Any] = {}
    if source.parts is not None:
        optional["parts"] = np.array([PARTS.index(source.parts[index]) for index in kept], np.uint8)
    if source.groups is not None:
        optional["groups"] = _joined(source.groups, kept)
    if source.weights is not None:
        optional["weights"] = source.weights[kept]
    np.savez_compressed(
        folder / TABLE,
        labels=source.labels[kept],
        sizes=source.sizes[kept],
        kinds=rows[:, 3].astype(np.uint8),
        shards=rows[:, 0],
        offsets=rows[:, 1],
        lengths=rows[:, 2],
        names=_joined(source.names, kept),
        **optional,
    )
    richer = optional or source.multi_label or source.value_range is not None
    written_as = RICHER_FORMAT if richer else FORMAT
    index = {"format": written_as, "pictures": len(kept), "class_names": list(source.class_names), "shards": shards}
    if source.value_range is not None:
        index["value_range"] = list(source.value_range)
    write_json(folder / INDEX, index)


def _joined(texts: Sequence[str], kept: np.ndarray) -> np.ndarray:
    joined = "\0".join(texts[index].replace("\0", "") for index in kept)
    return np.frombuffer(joined.encode("utf-8", "surrogateescape"), np.uint8)


def _divided(column: np.ndarray) -> list[str]:
    return bytes(column).decode("utf-8", "surrogateescape").split("\0")


def open_packed(path: Path, max_corrupt: float) -> Source:
    """Open a packed folder; raises InputError if a file of it is missing, damaged or of another size."""
    # The sizes of the shards are checked now; their hashes only by `verify_packed`, because that reads every byte.
    index = _index(path)
    count, shards = index["pictures"], index["shards"]
    for shard in shards:
        file = path / shard["file"]
        found = file.stat().st_size if file.is_file() else None
        if found != shard["bytes"]:
            state = "is missing" if found is None else f"has {found:,} bytes instead of {shard['bytes']:,}"
            raise InputError(f"{file}: {state}; copy it again, or pack the pictures again")
    try:
        table = _table(path / TABLE, count)
        names = _divided(table["names"])
        groups = _divided(table["groups"]) if "groups" in table else None
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path / TABLE}: is missing or damaged ({error}); pack the pictures again") from None
    # The columns come from a file that may be damaged or hostile, so that every number is checked before it is used.
    places = Ranges(
        [path / shard["file"] for shard in shards], *(table[name] for name in ("shards", "offsets", "lengths"))
    )
    source = Source(
        class_names=index["class_names"],
        names=names,
        labels=table["labels"],
        sizes=table["sizes"],
        kinds=table["kinds"],
        contents=places,
        corrupt=CorruptPictures(max_corrupt, count),
        groups=groups,
        weights=table.get("weights"),
        value_range=index["value_range"],
    )
    _check(path / TABLE, source, places, np.array([shard["bytes"] for shard in shards]), count)
    if "parts" not in table:
        return source
    _require_column(path / TABLE, "parts", table["parts"], count, len(PARTS) - 1)
    return replace(source, parts=[PARTS[number] for number in table["parts"].tolist()])


def verify_packed(path: Path) -> int:
    """Check the SHA-256 of every shard of a packed folder against its index, and return the number of shards.

    Raises InputError if a shard cannot be read or has another SHA-256.
    """
    shards = _index(path)["shards"]
    for shard in shards:
        try:
            with open_regular(path / shard["file"]) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{path / shard['file']}: cannot be read ({error.strerror})") from None
        if found != shard["sha256"]:
            raise InputError(f"{path / shard['file']}: has SHA-256 {found}, the index says {shard['sha256']}")
    return len(shards)


def _index(path: Path) -> dict[str, Any]:
    """The checked index.json of a packed folder; folders in a shard's name are ignored, so it is always inside."""
    try:
        index = json.loads(read_text(path / INDEX))
        if index["format"] not in (FORMAT, RICHER_FORMAT):
            raise InputError(f"{path / INDEX}: has the format {index['format']!r}; it must be {FORMAT!r}")
        return {
            "pictures": int(index["pictures"]),
            "value_range": value_range_of("value_range", found) if (found := index.get("value_range")) else None,
            "class_names": [str(name) for name in index["class_names"]],
            "shards": [
                {"file": Path(shard["file"]).name, "bytes": int(shard["bytes"]), "sha256": str(shard["sha256"])}
                for shard in index["shards"]
            ],
        }
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path / INDEX}: is missing or damaged ({error}); pack the pictures again") from None


def read_records(file: Path) -> Iterator[tuple[int, bytes]]:
    """(offset, data) of each record of a TFRecord file; raises InputError if the file ends within a record."""
    size = file.stat().st_size
    with open_regular(file) as stream:
        offset = 0
        while offset < size:
            head = stream.read(LENGTH_BYTES)
            length = struct.unpack("<Q", head[:8])[0] if len(head) == LENGTH_BYTES else size
            if offset + LENGTH_BYTES + length + FOOTER_BYTES > size:
                raise InputError(f"{file}: ends within a record; it is truncated or damaged")
            yield offset + LENGTH_BYTES, stream.read(length)
            stream.seek(FOOTER_BYTES, os.SEEK_CUR)
            offset += LENGTH_BYTES + length + FOOTER_BYTES


def _table(path: Path, count: int) -> dict[str, np.ndarray]:
    """The index's columns. Their size is checked before they are read, against files made to fill the memory."""
    require_regular(path)
    with zipfile.ZipFile(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > 8192 * (count + 1):
            raise InputError(f"{path}: is larger than an index of {count} pictures can be")
    with np.load(path, allow_pickle=False) as columns:
        return {name: columns[name] for name in (*COLUMNS, *(name for name in OPTIONAL if name in columns))}


def _check(path: Path, source: Source, places: Ranges, shard_bytes: np.ndarray, count: int) -> None:
    """Raise InputError for numbers that point outside the classes or the shards."""
    columns = (source.labels, source.sizes, source.kinds, places.numbers, places.offsets, places.lengths)
    integers = all(column.dtype.kind in "iu" and len(column) == count for column in columns)
    if not integers or source.sizes.shape != (count, 2) or len(source.names) != count or count < 1:
        raise InputError(f"{path}: its columns are not those of {count} pictures; pack the pictures again")
    if source.groups is not None and len(source.groups) != count:
        raise InputError(f"{path}: its groups are not those of {count} pictures; pack the pictures again")
    if source.weights is not None:
        _require_column(path, "weights", source.weights, count, float(np.finfo(np.float32).max))
    classes = len(source.class_names)
    if source.multi_label and source.labels.shape != (count, classes):
        raise InputError(f"{path}: its labels are not those of {count} pictures of {classes} classes; pack them again")
    fits = _within(source.labels, 2 if source.multi_label else classes) and _within(places.numbers, len(shard_bytes))
    fits = fits and set(np.unique(source.kinds)) <= {JPEG, PLAIN, PILLOW}
    fits = fits and bool(
        ((source.sizes > 0) & (source.sizes <= MAX_SIDE)).all()
        and (source.sizes[:, 0].astype(float) * source.sizes[:, 1] <= MAX_PIXELS).all()
    )
    if fits:
        room = shard_bytes[places.numbers] - places.offsets
        fits = bool(((places.offsets >= 0) & (places.lengths > 0) & (places.lengths <= room)).all())
    if not fits:
        raise InputError(f"{path}: points outside its shards, classes or sizes; pack the pictures again")


def _require_column(path: Path, name: str, column: np.ndarray, count: int, most: float) -> None:
    """Raise InputError for a column of another length, or with a value outside 0 to `most`."""
    if column.shape != (count,) or column.dtype.kind not in "uif" or not ((column >= 0) & (column <= most)).all():
        raise InputError(f"{path}: its {name} are not those of {count} pictures; pack the pictures again")


def _within(values: np.ndarray, bound: int) -> bool:
    return bool(((values >= 0) & (values < bound)).all())

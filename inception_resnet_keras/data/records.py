"""TFRecord shards: packed by this package, with an index beside them, or prepared by tensorflow-datasets."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import InputError
from .contents import Ranges
from .corrupt import CorruptPictures
from .images import MAX_PIXELS, UnreadableImageError
from .sources import JPEG, PILLOW, PLAIN, Progress, Source, header

INDEX = "index.json"

TABLE = "index.npz"

FORMAT = "inception-resnet-keras pictures 1"

LENGTH_BYTES, FOOTER_BYTES = 12, 4  # of a TFRecord: its length and that's checksum; the data's checksum

COLUMNS = ("labels", "sizes", "kinds", "shards", "offsets", "lengths", "names")


def open_packed(path: Path, max_corrupt: float) -> Source:
    """What `pack` wrote; InputError where a part of it is missing, damaged or of another size."""
    index = _index(path)
    count, shards = index["pictures"], index["shards"]
    for shard in shards:
        file = path / shard["file"]
        found = file.stat().st_size if file.is_file() else None
        if found != shard["bytes"]:
            state = "is missing" if found is None else f"has {found:,} bytes for {shard['bytes']:,}"
            raise InputError(f"{file}: {state}; copy it again, or pack the pictures again")
    try:
        table = _table(path / TABLE, count)
        names = bytes(table["names"]).decode("utf-8").split("\0")
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path / TABLE}: is missing or damaged ({error}); pack the pictures again") from None
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
    )
    _check(path / TABLE, source, places, np.array([shard["bytes"] for shard in shards]), count)
    return source


def verify_packed(path: Path) -> int:
    """Reads every shard of a packed folder: InputError where one's SHA-256 is not the index's; else how many."""
    shards = _index(path)["shards"]
    for shard in shards:
        try:
            with (path / shard["file"]).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{path / shard['file']}: cannot be read ({error.strerror})") from None
        if found != shard["sha256"]:
            raise InputError(f"{path / shard['file']}: has SHA-256 {found}, the index says {shard['sha256']}")
    return len(shards)


def _index(path: Path) -> dict[str, Any]:
    """The checked index.json of a packed folder; a shard lies in the folder, whatever its name says."""
    try:
        index = json.loads((path / INDEX).read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            raise InputError(f"{path / INDEX}: is of format {index['format']!r}; {FORMAT!r} is read")
        return {
            "pictures": int(index["pictures"]),
            "class_names": [str(name) for name in index["class_names"]],
            "shards": [
                {"file": Path(shard["file"]).name, "bytes": int(shard["bytes"]), "sha256": str(shard["sha256"])}
                for shard in index["shards"]
            ],
        }
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path / INDEX}: is missing or damaged ({error}); pack the pictures again") from None


def open_tfds(text: str, max_corrupt: float, progress: Progress) -> Source:
    """A split of a dataset that tensorflow-datasets has prepared here, as TFRecord files, with image and label."""
    features, part, files = tfds_split(text)
    rows = list(_examples(files, part.num_examples, progress))
    numbers, offsets, lengths, labels, headers, reasons = zip(*rows, strict=True)
    every = Source(
        class_names=list(features["label"].names),
        names=[f"{text} {index}" for index in range(len(rows))],
        labels=np.array(labels, np.int64),
        sizes=np.array(headers, np.int32)[:, :2],
        kinds=np.array(headers, np.uint8)[:, 2],
        contents=Ranges(files, np.array(numbers), np.array(offsets), np.array(lengths)),
        corrupt=CorruptPictures(max_corrupt, len(rows)),
    )
    for name, reason in zip(every.names, reasons, strict=True):
        if reason:
            every.corrupt.list_one(name, reason)
    every.corrupt.check()
    return every.take(np.flatnonzero([not reason for reason in reasons]))


def tfds_split(text: str) -> tuple[Any, Any, list[Path]]:
    """Features, split and files of such a dataset, none of them read; InputError where it is not as needed."""
    name, _, split = text.removeprefix("tfds:").partition(":")
    split = split or "train"
    builder = _builder(name)
    if split not in builder.info.splits:
        raise InputError(f"{text}: {name} has no split {split!r}; it has {', '.join(builder.info.splits)}")
    features = builder.info.features
    if not {"image", "label"} <= set(features):
        raise InputError(f"{text}: has the features {', '.join(features)}; image and label are needed")
    part = builder.info.splits[split]
    files = [Path(file) for file in part.filepaths]
    if any(".tfrecord" not in file.name for file in files):
        raise InputError(f"{text}: is prepared as {files[0].suffix} files; prepare it with --file_format=tfrecord")
    return features, part, files


def _builder(name: str) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError:
        raise InputError(
            "tfds: needs tensorflow-datasets; install it with: pip install 'inception-resnet-keras[tfds]'"
        ) from None
    try:
        builder = tfds.builder(name)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise InputError(f"tfds:{name}: tensorflow-datasets knows no such dataset ({error})") from None
    if not (Path(builder.data_dir) / "dataset_info.json").is_file():
        raise InputError(
            f"tfds:{name}: is not prepared in {builder.data_dir}; prepare it with: tfds build {name} "
            "(it may download much)"
        )
    return builder


def _examples(files: list[Path], total: int, progress: Progress) -> Iterator[tuple[Any, ...]]:
    """File number, offset and length of the picture, label, header and, where that is unreadable, why."""
    from tensorflow.train import Example

    done = 0
    for number, file in enumerate(files):
        for offset, record in read_records(file):
            feature = Example.FromString(record).features.feature
            image, label = feature["image"].bytes_list.value[0], feature["label"].int64_list.value[0]
            reason = ""
            found = (0, 0, PILLOW)
            try:
                found = header(file, image)
            except UnreadableImageError as error:
                reason = error.reason
            done += 1
            progress(done, total)
            yield number, offset + record.index(image), len(image), label, found, reason


def read_records(file: Path) -> Iterator[tuple[int, bytes]]:
    """(offset, data) of each record of a TFRecord file; InputError where it ends within one."""
    size = file.stat().st_size
    with file.open("rb") as stream:
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
    """The index's columns, whose size is checked before they are read."""
    with zipfile.ZipFile(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > 8192 * (count + 1):
            raise InputError(f"{path}: is larger than an index of {count} pictures can be")
    with np.load(path, allow_pickle=False) as columns:
        return {name: columns[name] for name in COLUMNS}


def _check(path: Path, source: Source, places: Ranges, shard_bytes: np.ndarray, count: int) -> None:
    """Refuses numbers that point outside the classes or the shards."""
    columns = (source.labels, source.sizes, source.kinds, places.numbers, places.offsets, places.lengths)
    integers = all(column.dtype.kind in "iu" and len(column) == count for column in columns)
    if not integers or source.sizes.shape != (count, 2) or len(source.names) != count or count < 1:
        raise InputError(f"{path}: its columns are not those of {count} pictures; pack the pictures again")
    fits = _within(source.labels, len(source.class_names)) and _within(places.numbers, len(shard_bytes))
    fits = fits and set(np.unique(source.kinds)) <= {JPEG, PLAIN, PILLOW}
    fits = fits and bool(
        (source.sizes > 0).all() and (source.sizes[:, 0].astype(float) * source.sizes[:, 1] <= MAX_PIXELS).all()
    )
    if fits:
        room = shard_bytes[places.numbers] - places.offsets
        fits = bool(((places.offsets >= 0) & (places.lengths > 0) & (places.lengths <= room)).all())
    if not fits:
        raise InputError(f"{path}: points outside its shards, classes or sizes; pack the pictures again")


def _within(values: np.ndarray, bound: int) -> bool:
    return bool(((values >= 0) & (values < bound)).all())

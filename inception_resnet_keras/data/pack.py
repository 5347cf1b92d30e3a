"""Writes a source as TFRecord shards with an index, every picture checked on the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..common.arguments import is_integer, positive_integer
from ..common.errors import InputError, refuse
from ..common.files import new_files, write_json
from .images import UnreadableImageError
from .records import FOOTER_BYTES, FORMAT, INDEX, LENGTH_BYTES, TABLE
from .sources import PILLOW, PLAIN, Progress, Source

SHARD_BYTES = 128 * 1024**2

AT_ONCE = 256  # pictures that are read ahead


@dataclass(frozen=True)
class Packed:
    """What `pack` wrote: `pictures` of them in `shards` files of `bytes` together."""

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
    progress: Progress = lambda done, total: None,
) -> Packed:
    """Writes the pictures of a source into a new folder, in shuffled order.

    Every picture is decoded once; corrupt ones are left out and listed in `source.corrupt`. JPEG, PNG
    and WebP files that TensorFlow reads as `read_image` does are kept to the byte; others become PNG,
    upright, without transparency. A record is a tf.train.Example of image/encoded, image/class/label and
    image/filename. The folder appears when all of it is on the disk, or not at all; what a killed process
    left is removed when the same `out` is packed next.

    Args:
        source: What `open_source` gives.
        out: The folder to make; it must not exist.
        seed: Of the order.
        shard_bytes: A shard is closed when it has as many bytes.
        progress: Called with how many pictures are done of how many.

    Raises:
        InputError: `out` exists, a class has no readable picture, or more pictures are corrupt than
            the source allows.
        OSError: The disk is full, say; nothing of `out` is left.
    """
    positive_integer("shard_bytes", shard_bytes)
    if not is_integer(seed) or seed < 0:
        raise refuse("seed", seed, "an integer of at least 0")
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
                rows.append((*shards.add(content, int(source.labels[index]), source.names[index]), kind))
                kept.append(index)
            progress(done, len(source))
        shards.close()
        _check_classes(source, np.array(kept, np.int64))
        _write_index(folder, source, np.array(kept), np.array(rows, np.int64), shards.written)
    return Packed(out, len(kept), len(shards.written), sum(shard["bytes"] for shard in shards.written))


class _Shards:
    """TFRecord files, one after another."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self.written: list[dict[str, Any]] = []
        self._writer: Any = None
        self._position = 0

    def add(self, content: bytes, label: int, name: str) -> tuple[int, int, int]:
        """Writes a record; returns the shard's number, and offset and length of the picture within it."""
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.io.TFRecordWriter(str(self._path()))
        example = tf.train.Example()
        feature = example.features.feature
        feature["image/encoded"].bytes_list.value.append(content)
        feature["image/class/label"].int64_list.value.append(label)
        feature["image/filename"].bytes_list.value.append(name.encode())
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
    """Each picture's bytes, checked, and kind, in order; None for a corrupt one."""

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
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        while chunk := list(islice(indices, AT_ONCE)):
            yield from zip(chunk, threads.map(checked, chunk), strict=True)


def _check_classes(source: Source, kept: np.ndarray) -> None:
    for label in np.setdiff1d(np.unique(source.labels), np.unique(source.labels[kept])):
        raise InputError(f"class {source.class_names[label]!r} has no readable picture; nothing was written")


def _write_index(
    folder: Path, source: Source, kept: np.ndarray, rows: np.ndarray, shards: list[dict[str, Any]]
) -> None:
    names = "\0".join(source.names[index].replace("\0", "") for index in kept)
    np.savez_compressed(
        folder / TABLE,
        labels=source.labels[kept],
        sizes=source.sizes[kept],
        kinds=rows[:, 3].astype(np.uint8),
        shards=rows[:, 0],
        offsets=rows[:, 1],
        lengths=rows[:, 2],
        names=np.frombuffer(names.encode(), np.uint8),
    )
    index = {"format": FORMAT, "pictures": len(kept), "class_names": list(source.class_names), "shards": shards}
    write_json(folder / INDEX, index)

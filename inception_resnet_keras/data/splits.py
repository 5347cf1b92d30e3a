"""Training and held-out pictures: the split, split.csv that keeps it, and the search for pictures it names.

A run's split.csv has one row per picture: its path (its name, where it is no file of its own), its label, "train" or
"val", and the SHA-256 of its decoded pixels. Whether a run was trained on a picture is answered from it: by path, and
by content for copies, packed pictures and files that were moved.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.devices import usable_cores
from ..common.errors import InputError
from ..common.files import replacing
from .images import UnreadableImageError, decode
from .labelled import PARTS, TRAIN, VAL, Files, Source
from .manifest import manifest_rows
from .sources import Progress

SPLIT_FILE = "split.csv"
COLUMNS = ("path", "label", "split", "sha256")
HELD_OUT_SHARE = 0.2
UNKNOWN, HELD_OUT, TRAINED_ON = range(3)  # what a split says of a picture
HASHED_AT_ONCE = 64  # pictures, per thread; Ctrl-C waits for them


@dataclass(frozen=True)
class Split:
    """The rows of a split.csv, in its order.

    file: the split.csv. paths: as written, absolute or relative to its folder, or names. labels: classes.
    parts: TRAIN or VAL. hashes: SHA-256 of the pixels, hexadecimal; "" for a picture that could not be decoded.
    """

    file: Path
    paths: Sequence[str]
    labels: Sequence[str]
    parts: Sequence[str]
    hashes: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def digest(self) -> str:
        """SHA-256 of its rows in any order, but for the paths, which may be rewritten when pictures are moved."""
        rows = sorted(zip(self.labels, self.parts, self.hashes, strict=True))
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def held_out_split(source: Source, seed: int) -> tuple[Source, Source]:
    """The training pictures, and the held-out ones that `draw_held_out` draws."""
    chosen = draw_held_out(source, seed)
    return source.take(np.setdiff1d(np.arange(len(source)), chosen)), source.take(chosen)


def draw_held_out(source: Source, seed: int) -> np.ndarray:
    """Draws a fifth of every class, at least one picture; the same for the same seed.

    Returns int64 (n,), sorted. Raises InputError where a class has a single picture.
    """
    by_label = np.argsort(source.labels, kind="stable")
    ends = np.cumsum(np.bincount(source.labels, minlength=len(source.class_names)))
    by_class = np.split(by_label, ends[:-1])
    single = [
        f"{source.class_names[label]!r} ({source.names[members[0]]})"
        for label, members in enumerate(by_class)
        if len(members) == 1
    ]
    if single:
        listed = ", ".join(single[:10] + ["…"] * (len(single) > 10))
        raise InputError(
            f"{len(single)} classes have one readable picture: {listed}; at least two are needed to hold one out: "
            "add pictures, or give held-out pictures of their own"
        )
    random = np.random.default_rng(seed)
    held = [random.permutation(members)[: max(1, round(HELD_OUT_SHARE * len(members)))] for members in by_class]
    return np.sort(np.concatenate(held))


def write_split(
    path: Path,
    training: Source,
    held_out: Source,
    progress: Progress = lambda done, total: None,
    *,
    replacing_other: Callable[[], object] = lambda: None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Writes a split.csv: at once without hashes, and again when every picture was decoded once, in threads.

    Whenever the process is killed, the file names every picture. Hashes that the file has already are kept. A picture
    that cannot be decoded gets none, and is not listed as corrupt: training does that.

    Args:
        path: The file to write.
        training: The pictures to train on.
        held_out: The held-out ones, with the same class names.
        progress: Called with the number of pictures hashed, and their total.
        replacing_other: Called before a file that is damaged, or names other pictures, is written anew.
        stopped: Whether to give up; the hashes so far are written.
    """
    hashes = known_hashes(path, training, held_out)
    if hashes is None:
        if os.path.lexists(path):
            replacing_other()
        hashes = [""] * (len(training) + len(held_out))
        _write_rows(path, training, held_out, hashes)
    missing = [index for index, digest in enumerate(hashes) if not digest]
    first, threads = len(training), max(1, usable_cores() // 4)  # the rest are for who trains meanwhile
    found = chain(
        _pixel_hashes(training, (index for index in missing if index < first), threads),
        _pixel_hashes(held_out, (index - first for index in missing if index >= first), threads),
    )
    changed = False
    for done, (index, digest) in enumerate(zip(missing, found, strict=True), len(hashes) - len(missing) + 1):
        hashes[index] = digest
        changed |= bool(digest)
        progress(done, len(hashes))
        if stopped():
            break
    if changed:
        _write_rows(path, training, held_out, hashes)


def known_hashes(path: Path, training: Source, held_out: Source) -> list[str] | None:
    """The hashes of a split.csv that names these pictures in this order; None where there is none, or it is damaged."""
    try:
        split = read_split(path)
    except InputError:
        return None
    same = list(zip(split.paths, split.labels, split.parts, strict=True)) == list(_rows(training, held_out))
    return list(split.hashes) if same else None


def _write_rows(path: Path, training: Source, held_out: Source, hashes: Sequence[str]) -> None:
    with replacing(path) as beside, beside.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((*row, digest) for row, digest in zip(_rows(training, held_out), hashes, strict=True))


def read_split(path: Path) -> Split:
    """Reads a split.csv; InputError where it is missing or damaged."""
    rows: list[tuple[str, ...]] = []
    for line, row in manifest_rows(path, COLUMNS):
        name, label, part, digest = row
        if not name or not label or part not in PARTS or not re.fullmatch("([0-9a-f]{64})?", digest):
            raise InputError(
                f"{path}, line {line}: is no row of path,label,{TRAIN} or {VAL},SHA-256: the file is damaged; restore "
                "it, or delete it to go on without"
            )
        rows.append(tuple(row))
    if not rows:
        raise InputError(f"{path}: names no pictures: it is damaged; restore it, or delete it to go on without")
    return Split(path, *zip(*rows, strict=True))


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 of a picture's size and RGB pixels; the same of every file that decodes to the same picture."""
    rgb = image.convert("RGB")
    digest = hashlib.sha256(f"{rgb.width}x{rgb.height} ".encode())
    digest.update(rgb.tobytes())
    return digest.hexdigest()


def held_out_indices(source: Source, split: Split) -> np.ndarray:
    """int64 (n,): which pictures of a source a split holds out, by their paths; by their names if they are no files."""
    if isinstance(source.contents, Files):
        rows = _rows_by_path(source.names, split)
    else:
        numbers = {name: number for number, name in enumerate(split.paths) if split.parts[number] == VAL}
        rows = [numbers.get(name) for name in source.names]
    return np.array([index for index, row in enumerate(rows) if row is not None and split.parts[row] == VAL], np.int64)


def compare(source: Source, splits: Sequence[Split], progress: Progress = lambda done, total: None) -> list[np.ndarray]:
    """What splits say of every picture of a source, by path and by content.

    A file whose path a split has is known by it, and by the hash of its row; every other picture is decoded once.

    Args:
        source: The pictures to look for.
        splits: Where to look for them.
        progress: Called with the number of pictures decoded, and their total.

    Returns:
        For each split uint8 (n,): TRAINED_ON, HELD_OUT or UNKNOWN, the first that applies.
    """
    files = isinstance(source.contents, Files)
    known = [_rows_by_path(source.names, split) if files else [None] * len(source) for split in splits]
    unknown = [index for index in range(len(source)) if any(rows[index] is None for rows in known)]
    hashes: dict[int, str] = {}
    for done, (index, digest) in enumerate(
        zip(unknown, _pixel_hashes(source, unknown, usable_cores()), strict=True), 1
    ):
        hashes[index] = digest
        progress(done, len(unknown))
    return [_use(split, rows, hashes) for split, rows in zip(splits, known, strict=True)]


def _use(split: Split, rows: Sequence[int | None], hashes: dict[int, str]) -> np.ndarray:
    """What one split says of each picture: of its row if it has one, and of its hash."""
    of_hash: dict[str, int] = {}
    for digest, part in zip(split.hashes, split.parts, strict=True):
        use = TRAINED_ON if part == TRAIN else HELD_OUT
        of_hash[digest] = max(use, of_hash.get(digest, UNKNOWN))
    of_hash[""] = UNKNOWN
    found = np.zeros(len(rows), np.uint8)
    for index, row in enumerate(rows):
        if row is None:
            found[index] = of_hash.get(hashes[index], UNKNOWN)
        else:
            by_path = TRAINED_ON if split.parts[row] == TRAIN else HELD_OUT
            found[index] = max(by_path, of_hash[split.hashes[row]])
    return found


def _rows_by_path(names: Sequence[str], split: Split) -> list[int | None]:
    """The row of each file in a split, or None; of a file in both parts the training row.

    Only folders are resolved in the split: one look at the disk per folder, not per file, of which there may be
    millions. Its rows that are links themselves are found by content.
    """
    folder = cache(os.path.realpath)

    def in_folder(name: str) -> str:
        return os.path.join(folder(os.path.dirname(name)), os.path.basename(name))

    rows: dict[str, int] = {}
    for number, path in enumerate(split.paths):
        place = in_folder(os.path.join(split.file.parent, path))
        if split.parts[number] == TRAIN or place not in rows:
            rows[place] = number
    return [rows.get(in_folder(name), rows.get(os.path.realpath(name))) for name in names]


def _rows(training: Source, held_out: Source) -> Iterator[tuple[str, str, str]]:
    """(path, label, part) of each picture; files get absolute paths."""
    for source, part in ((training, TRAIN), (held_out, VAL)):
        files = isinstance(source.contents, Files)
        for name, label in zip(source.names, source.labels.tolist(), strict=True):
            yield (os.path.join(os.getcwd(), name) if files else name), source.class_names[label], part


def _pixel_hashes(source: Source, indices: Iterable[int], threads: int) -> Iterator[str]:
    """The hashes of some pictures, in order; "" for one that cannot be decoded."""

    def hashed(index: int) -> str:
        try:
            return pixel_hash(decode(Path(source.names[index]), content=source.contents.read(index)))
        except (UnreadableImageError, OSError):
            return ""

    rest = iter(indices)
    with ThreadPoolExecutor(threads) as executor:
        # Bounded, so that an interrupted run ends at once and never holds many decoded pictures.
        while chunk := list(islice(rest, threads * HASHED_AT_ONCE)):
            yield from executor.map(hashed, chunk)

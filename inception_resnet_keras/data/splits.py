"""A run's split.csv, which keeps the part of every picture, and the search for pictures in it.

A run's split.csv has one row per picture: its path (its name, where it is no file of its own), its label, "train",
"val" or "test", the SHA-256 of its decoded pixels, and its group. Whether a run was trained on a picture is answered
from it: by path, and by content for copies, packed pictures and files that were moved.
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
from .manifest import LABEL, LABELS, manifest_header, manifest_rows
from .parts import Parts, divide, named_parts
from .sources import Progress

SPLIT_FILE = "split.csv"
COLUMNS = ("path", LABEL, "split", "sha256")
ADDED_COLUMNS = ("group",)  # which the files of earlier versions lack
UNKNOWN, HELD_OUT, TRAINED_ON = range(3)  # what a split says of a picture
HASHED_AT_ONCE = 64  # pictures, per thread; Ctrl-C waits for them


@dataclass(frozen=True)
class Split:
    """The rows of a split.csv, in its order.

    file: the split.csv. paths: as written, absolute or relative to its folder, or names. labels: classes.
    parts: TRAIN, VAL or TEST. hashes: SHA-256 of the pixels, hexadecimal; "" for a picture that could not be decoded.
    groups: the group of each picture, "" for one without.
    """

    file: Path
    paths: Sequence[str]
    labels: Sequence[str]
    parts: Sequence[str]
    hashes: Sequence[str]
    groups: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def digest(self) -> str:
        """SHA-256 of its rows in any order, but for the paths, which may be rewritten when pictures are moved."""
        rows = sorted(zip(self.labels, self.parts, self.hashes, strict=True))
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def write_split(
    path: Path,
    training: Source,
    held_out: Source,
    test: Source | None = None,
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
        test: The test pictures, likewise.
        progress: Called with the number of pictures hashed, and their total.
        replacing_other: Called before a file that is damaged, or names other pictures, is written anew.
        stopped: Whether to give up; the hashes so far are written.
    """
    sources = [source for _, source in named_parts(Parts(training, held_out, test))]
    hashes = known_hashes(path, *sources)
    if hashes is None:
        if os.path.lexists(path):
            replacing_other()
        hashes = [""] * sum(map(len, sources))
        _write_rows(path, sources, hashes)
    missing = [index for index, digest in enumerate(hashes) if not digest]
    threads = max(1, usable_cores() // 4)  # the rest are for who trains meanwhile
    found: list[Iterator[str]] = []
    start = 0
    for source in sources:
        found.append(_pixel_hashes(source, _within(missing, start, start + len(source)), threads))
        start += len(source)
    changed = False
    for done, (index, digest) in enumerate(
        zip(missing, chain.from_iterable(found), strict=True), len(hashes) - len(missing) + 1
    ):
        hashes[index] = digest
        changed |= bool(digest)
        progress(done, len(hashes))
        if stopped():
            break
    if changed:
        _write_rows(path, sources, hashes)


def _within(indices: Sequence[int], start: int, end: int) -> Iterator[int]:
    return (index - start for index in indices if start <= index < end)


def known_hashes(path: Path, *sources: Source) -> list[str] | None:
    """The hashes of a split.csv that names these pictures in this order; None where there is none, or it is damaged."""
    try:
        split = read_split(path)
    except InputError:
        return None
    rows = ((name, label, part) for name, label, part, _ in _rows(sources))
    same = list(zip(split.paths, split.labels, split.parts, strict=True)) == list(rows)
    return list(split.hashes) if same else None


def _write_rows(path: Path, sources: Sequence[Source], hashes: Sequence[str]) -> None:
    with replacing(path) as beside, beside.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        label = LABELS if sources[0].multi_label else LABEL
        writer.writerow((label if column == LABEL else column for column in (*COLUMNS, *ADDED_COLUMNS)))
        rows = zip(_rows(sources), hashes, strict=True)
        writer.writerows((name, label, part, digest, group) for (name, label, part, group), digest in rows)


def kept_parts(path: Path, pictures: Source, held_out: Source | None) -> Parts | None:
    """The parts that a run's split.csv gives these pictures; None where it is missing, damaged, or of other pictures.

    held_out: As for `draw_parts`.
    """
    try:
        split = read_split(path)
    except InputError:
        return None
    left: dict[tuple[str, str], list[str]] = {}
    for name, label, part in zip(split.paths, split.labels, split.parts, strict=True):
        left.setdefault((name, label), []).append(part)
    for key in _keys(held_out) if held_out else ():
        if VAL not in left.get(key, ()):
            return None
        left[key].remove(VAL)
    parts = [left[key].pop() if left.get(key) else "" for key in _keys(pictures)]
    if "" in parts or any(left.values()) or (held_out and VAL in parts):
        return None
    divided = divide(pictures, np.array(parts))
    return divided._replace(held_out=held_out) if held_out else divided


def read_split(path: Path) -> Split:
    """Reads a split.csv; InputError where it is missing or damaged."""
    rows: list[tuple[str, ...]] = []
    header = manifest_header(path)
    added = [column for column in ADDED_COLUMNS if column in header]
    columns = [LABELS if column == LABEL and LABELS in header else column for column in COLUMNS]
    for line, row in manifest_rows(path, (*columns, *added)):
        name, label, part, digest, *_ = row
        whole = name and (label or LABELS in header) and part in PARTS and re.fullmatch("([0-9a-f]{64})?", digest)
        if not whole:
            raise InputError(
                f"{path}, line {line}: is no row of path,label,{', '.join(PARTS[:-1])} or {PARTS[-1]},SHA-256: the "
                "file is damaged; restore it, or delete it to go on without"
            )
        rows.append((*row, *[""] * (len(ADDED_COLUMNS) - len(added))))
    if not rows:
        raise InputError(f"{path}: names no pictures: it is damaged; restore it, or delete it to go on without")
    return Split(path, *zip(*rows, strict=True))


def pixel_hash(image: Image.Image) -> str:
    """SHA-256 of a picture's size and RGB pixels; the same of every file that decodes to the same picture."""
    rgb = image.convert("RGB")
    digest = hashlib.sha256(f"{rgb.width}x{rgb.height} ".encode())
    digest.update(rgb.tobytes())
    return digest.hexdigest()


def part_indices(source: Source, split: Split, part: str) -> np.ndarray:
    """int64 (n,): which pictures of a source are in a part of a split, by path; by name if they are no files."""
    if isinstance(source.contents, Files):
        rows = _rows_by_path(source.names, split)
    else:
        numbers = {name: number for number, name in enumerate(split.paths) if split.parts[number] == part}
        rows = [numbers.get(name) for name in source.names]
    return np.array([index for index, row in enumerate(rows) if row is not None and split.parts[row] == part], np.int64)


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


def _rows(sources: Sequence[Source]) -> Iterator[tuple[str, str, str, str]]:
    """(path, label, part, group) of the pictures of each part, in the order of PARTS."""
    for source, part in zip(sources, PARTS, strict=False):
        groups = source.groups or [""] * len(source)
        for (name, label), group in zip(_keys(source), groups, strict=True):
            yield name, label, part, group


def _keys(source: Source) -> Iterator[tuple[str, str]]:
    """(path, label) of each picture; files get absolute paths."""
    files, folder = isinstance(source.contents, Files), os.getcwd()
    for name, label in zip(source.names, source.label_texts(), strict=True):
        yield (os.path.join(folder, name) if files else name), label


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

"""A run's split.csv, which records the part of every picture, and the search for pictures in it.

split.csv has one row per picture: its path (or its name, if it is not a file of its own), its label, its part ("train",
"val" or "test"), the SHA-256 of its decoded pixels, its group, and its perceptual hash. From it follows whether a run
was trained on a picture: by path; by content for copies, packed pictures and moved files; and by perceptual hash for
pictures that were resized or recompressed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from itertools import chain, repeat
from pathlib import Path

import numpy as np

from ..common.errors import InputError
from ..common.files import replacing
from .copies import (
    LEFT_OUT,
    Fingerprints,
    alike_pairs,
    fingerprint_files,
    fingerprint_pictures,
    fingerprint_some,
    joined,
    near_pairs,
)
from .labelled import PARTS, TRAIN, VAL, Files, Source
from .manifest import LABEL, LABELS, manifest_header, manifest_rows
from .options import COPY_DISTANCE
from .parts import Parts, divide, named_parts
from .sources import Progress

SPLIT_FILE = "split.csv"
COLUMNS = ("path", LABEL, "split", "sha256")
ADDED_COLUMNS = ("group", "phash")  # columns that files of earlier versions lack
MOST_COMPARED = 50  # training pictures that a picture is compared with: those of the most similar hashes
UNKNOWN, HELD_OUT, NEAR_TRAINED, TRAINED_ON = range(4)  # how a run used a picture, according to its split


@dataclass(frozen=True)
class Split:
    """The rows of a split.csv, in the order of the file.

    Attributes:
        file: The split.csv.
        paths: As written: absolute, or relative to its folder, or names.
        labels: Class names.
        parts: TRAIN, VAL or TEST.
        hashes: SHA-256 of the pixels, hexadecimal; "" for a picture that could not be decoded.
        groups: The group of each picture; "" for none.
        phashes: Perceptual hashes, 16 hexadecimal digits; "" for none.
    """

    file: Path
    paths: Sequence[str]
    labels: Sequence[str]
    parts: Sequence[str]
    hashes: Sequence[str]
    groups: Sequence[str]
    phashes: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def digest(self) -> str:
        """SHA-256 of the rows, independent of their order and of the paths, which may change if pictures are moved."""
        rows = sorted(zip(self.labels, self.parts, self.hashes, strict=True))
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def write_split(path: Path, parts: Parts, prints: Fingerprints | None = None) -> None:
    """Write a split.csv.

    Args:
        path: The file to write.
        parts: The pictures.
        prints: Their fingerprints, part after part. None decodes every picture to compute them.
    """
    sources = [source for _, source in named_parts(parts)]
    prints = prints or joined([fingerprint_pictures(source) for source in sources])
    label = LABELS if sources[0].multi_label else LABEL
    header = [label if column == LABEL else column for column in (*COLUMNS, *ADDED_COLUMNS)]
    rows = zip(_rows(sources), prints.pixels, prints.hash_texts(), strict=True)
    with replacing(path) as beside, beside.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        if all(source.weights is None for source in sources):
            writer.writerow(header)
            writer.writerows((*row, pixels, group, phash) for (*row, group), pixels, phash in rows)
            return
        writer.writerow([*header, "weight"])  # so that training on this file uses the same weights again
        weights = chain.from_iterable(repeat(1.0, len(s)) if s.weights is None else s.weights for s in sources)
        for ((*row, group), pixels, phash), weight in zip(rows, weights, strict=True):
            writer.writerow((*row, pixels, group, phash, f"{weight:.9g}"))


def kept_parts(split: Split, pictures: Source, held_out: Source | None, left_out: Set[str]) -> Parts | None:
    """The parts that a split.csv assigns to these pictures; None if it lists other pictures.

    Args:
        held_out: As for `draw_parts`.
        left_out: Names of pictures that are in no part.
    """
    left: dict[tuple[str, str], list[str]] = {}
    for name, label, part in zip(split.paths, split.labels, split.parts, strict=True):
        left.setdefault((name, label), []).append(part)
    for key in _keys(held_out) if held_out else ():
        if VAL not in left.get(key, ()):
            return None
        left[key].remove(VAL)
    parts = [
        left[key].pop() if left.get(key) else LEFT_OUT if name in left_out else ""
        for key, name in zip(_keys(pictures), pictures.names, strict=True)
    ]
    if "" in parts or any(left.values()) or (held_out and VAL in parts):
        return None
    return divide(pictures, np.array(parts), held_out)


def read_split(path: Path) -> Split:
    """Read a split.csv; raises InputError if it is missing or damaged."""
    rows: list[tuple[str, ...]] = []
    header = manifest_header(path)
    added = [column for column in ADDED_COLUMNS if column in header]
    columns = [LABELS if column == LABEL and LABELS in header else column for column in COLUMNS]
    for line, row in manifest_rows(path, (*columns, *added)):
        name, label, part, digest, *_ = row
        whole = name and (label or LABELS in header) and part in PARTS and re.fullmatch("([0-9a-f]{64})?", digest)
        hashed = "phash" not in added or re.fullmatch("([0-9a-f]{16})?", row[-1])
        if not whole or not hashed:
            raise InputError(
                f"{path}, line {line}: is not a row of path,label,{', '.join(PARTS[:-1])} or {PARTS[-1]},SHA-256: the "
                "file is damaged; restore it, or delete it to continue without it"
            )
        given = dict(zip(added, row[len(COLUMNS) :], strict=True))
        rows.append((*row[: len(COLUMNS)], *(given.get(column, "") for column in ADDED_COLUMNS)))
    if not rows:
        raise InputError(f"{path}: names no pictures: it is damaged; restore it, or delete it to continue without it")
    return Split(path, *zip(*rows, strict=True))


def part_indices(source: Source, split: Split, part: str) -> np.ndarray:
    """int64 (n,): the pictures of a source that are in a part of a split, by path, or by name if they are not files."""
    if isinstance(source.contents, Files):
        rows = _rows_by_path(source.names, split)
    else:
        numbers = {name: number for number, name in enumerate(split.paths) if split.parts[number] == part}
        rows = [numbers.get(name) for name in source.names]
    return np.array([index for index, row in enumerate(rows) if row is not None and split.parts[row] == part], np.int64)


def compare(
    source: Source,
    splits: Sequence[Split],
    progress: Progress = lambda done, total: None,
    distance: int = COPY_DISTANCE,
) -> list[np.ndarray]:
    """Look up how runs used every picture of a source, by path, by content, and by perceptual hash.

    A file whose path is in a split is identified by it, and by the hashes of its row; every other picture is decoded
    once. To confirm a near-identical pair, both pictures are decoded. A training picture that is not a file of its own,
    or no longer exists, can therefore be recognised only by identical content.

    Args:
        source: The pictures to look up.
        splits: The splits of the runs.
        progress: Called with the number of pictures decoded so far and the total.
        distance: The largest number of differing bits, of 64, between the hashes of near-identical pictures.

    Returns:
        For each split uint8 (n,): TRAINED_ON, NEAR_TRAINED (near-identical to a training picture), HELD_OUT or UNKNOWN,
        the first that applies.
    """
    files = isinstance(source.contents, Files)
    known = [_rows_by_path(source.names, split) if files else [None] * len(source) for split in splits]
    unknown = [index for index in range(len(source)) if any(rows[index] is None for rows in known)]
    prints = fingerprint_some(source, unknown, progress)
    hashes = dict(zip(unknown, prints.pixels, strict=True))
    answers = [_use(split, rows, hashes) for split, rows in zip(splits, known, strict=True)]
    for split, rows, answer in zip(splits, known, answers, strict=True):
        phashes = dict(zip(unknown, prints.hash_texts(), strict=True))
        phashes |= {index: split.phashes[row] for index, row in enumerate(rows) if row is not None}
        candidates = [index for index in np.flatnonzero(answer != TRAINED_ON).tolist() if phashes[index]]
        answer[_near_trained(source, candidates, phashes, split, distance)] = NEAR_TRAINED
    return answers


def _near_trained(
    source: Source, candidates: Sequence[int], phashes: Mapping[int, str], split: Split, distance: int
) -> list[int]:
    """The candidates, pictures of a source, that are near-identical to training pictures of a split."""
    trained = [row for row, part in enumerate(split.parts) if part == TRAIN and split.phashes[row]]
    one = _hashes_only([phashes[index] for index in candidates])
    other = _hashes_only([split.phashes[row] for row in trained])
    pairs, _, _ = near_pairs(one, other, distance, thumbnails=False, nearest=MOST_COMPARED)
    if not len(pairs):
        return []
    # Similar hashes are not proof: decode and compare the pictures of each pair, which are few.
    pictures, one_of = np.unique(pairs[:, 0], return_inverse=True)
    rows, other_of = np.unique(pairs[:, 1], return_inverse=True)
    looked_at = fingerprint_some(source, [candidates[index] for index in pictures.tolist()])
    paths = [os.path.join(split.file.parent, split.paths[trained[row]]) for row in rows.tolist()]
    files = fingerprint_files(paths, source.value_range)
    readable = np.array([bool(digest) for digest in files.pixels])
    chosen = np.flatnonzero(readable[other_of])
    alike = chosen[alike_pairs(looked_at, files, one_of[chosen], other_of[chosen])]
    return [candidates[index] for index in np.unique(pairs[alike, 0]).tolist()]


def _hashes_only(texts: Sequence[str]) -> Fingerprints:
    count = len(texts)
    hashes, every = np.array([int(text, 16) for text in texts], np.uint64), np.ones(count, bool)
    return Fingerprints([""] * count, hashes, every, np.zeros((count, 0), np.uint8), ~every)


def _use(split: Split, rows: Sequence[int | None], hashes: dict[int, str]) -> np.ndarray:
    """How one run used each picture, according to the picture's row in the split, if it has one, and to its hash."""
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
    """The row of each file in a split, or None. If a file is in several parts, it is the training row.

    In the split's paths, only links in the folders are resolved: that takes one disk access per folder instead of one
    per file, of which there may be millions. Rows that are links themselves are recognised by content.
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
    """(path, label) of each picture, with absolute paths of files."""
    files, folder = isinstance(source.contents, Files), os.getcwd()
    for name, label in zip(source.names, source.label_texts(), strict=True):
        yield (os.path.join(folder, name) if files else name), label

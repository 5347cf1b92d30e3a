"""Whether pictures are among those that a run was trained on, whatever form either comes in."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ..common.errors import InputError
from ..data.contents import Contents, Files, Memory, Ranges
from ..data.manifest import read_manifest
from ..data.pictures import files_by_class
from ..data.records import INDEX, open_packed
from ..data.sources import Source, held_out_split, open_source
from ..training.config import TrainConfig

DIGITS = "digits"

SMALL = 100_000  # of so many pictures trained on at the most, each is asked for its links and its length

SAMPLE = 200  # evaluated pictures whose content is looked for, where no file is the same

READS = 2_000  # pictures trained on that are read for it


@dataclass(frozen=True)
class Overlap:
    """Of so many pictures looked for: how many the run was trained on, and how many of the same data it held out.

    sampled: whether they were drawn from more, and looked for by their content.
    """

    looked_for: int
    trained_on: int
    held_out: int
    sampled: bool


def overlap(source: Source, run: Path, config: TrainConfig) -> Overlap | None:
    """How evaluated pictures relate to those of a run's training.

    The same files are found by their paths, links resolved: of a folder, a .csv or a packed folder. Where none is, a
    sample is looked for by its content. None where what the run was trained on is no longer there, or is of
    tensorflow-datasets, or nothing of it is found.
    """
    listed = _listed(config.data or DIGITS)
    if listed is None:
        return None
    names, contents = listed
    same = _by_path(source.names, names)
    sampled = not same and len(names) <= SMALL
    if sampled:
        same = _by_content(source, contents)
    if not same:
        return None
    held_out = 0
    if config.val is None:
        held = _held_out(run, config)
        held_out = sum(names[number] in held for number in same)
    return Overlap(min(SAMPLE, len(source)) if sampled else len(source), len(same) - held_out, held_out, sampled)


def _held_out(run: Path, config: TrainConfig) -> set[str]:
    """Names of the fifth that a run held out; none where its pictures have changed since."""
    try:
        every = open_source(config.data or DIGITS, max_corrupt=config.max_corrupt)
        held_out = held_out_split(every, config.split_seed)[1]
    except InputError:
        return set()
    return set(held_out.names) if as_many(run, len(held_out)) else set()


def as_many(run: Path, pictures: int) -> bool:
    """Whether a run's report is of so many pictures, but for those that could not be read."""
    try:
        report = json.loads(((run if run.is_dir() else run.parent) / "report.json").read_text(encoding="utf-8"))
        evaluated = sum(score["support"] for score in report["classes"])
        return evaluated <= pictures <= evaluated + len(report["unreadable"])
    except (OSError, ValueError, KeyError, TypeError):
        return True  # stopped before its report was written


def _listed(place: str) -> tuple[Sequence[str], Contents] | None:
    """Names and contents as `open_source` has them, without a look at any picture's header; None where it cannot be."""
    path = Path(place)
    try:
        if place.startswith("tfds:"):
            return None
        if place == DIGITS and not path.exists():
            source = open_source(place)
            return source.names, source.contents
        if (path / INDEX).is_file():
            source = open_packed(path, 1)
            return source.names, source.contents
        if path.suffix.lower() == ".csv":
            files = read_manifest(path)[0]
        else:
            files = [file for each in files_by_class(path).values() for file in each]
    except InputError:
        return None
    names = [str(file) for file in files]
    return names, Files(names)


def _by_path(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    """The numbers of those names that are the wanted ones' files."""
    folder = cache(os.path.realpath)

    def in_folder(name: str) -> str:  # one look at the disk a folder
        return os.path.join(folder(os.path.dirname(name)), os.path.basename(name))

    resolved = os.path.realpath if len(names) <= SMALL else in_folder
    places = {resolved(name): number for number, name in enumerate(names)}
    found = (places.get(os.path.realpath(name)) for name in wanted)
    return [number for number in found if number is not None]


def _by_content(source: Source, contents: Contents) -> list[int]:
    """The numbers of those contents that drawn pictures have: of equal length first, then of equal SHA-256."""
    random = np.random.default_rng(0)
    drawn = random.permutation(len(source))[:SAMPLE].tolist()
    wanted = [content for index in drawn if (content := _read(source.contents, index))]
    lengths = _lengths(contents)
    alike = random.permutation(np.flatnonzero(np.isin(lengths, [len(content) for content in wanted])))[:READS]
    known = {hashlib.sha256(_read(contents, number)).digest(): number for number in alike.tolist()}
    found = (known.get(hashlib.sha256(content).digest()) for content in wanted)
    return [number for number in found if number is not None]


def _lengths(contents: Contents) -> np.ndarray:
    """Bytes of each picture; -1 of one that is not there."""
    if isinstance(contents, Ranges):
        return contents.lengths
    if isinstance(contents, Memory):
        return np.array([len(content) for content in contents.contents])
    assert isinstance(contents, Files)
    return np.array([_length(path) for path in contents.paths])


def _length(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def _read(contents: Contents, index: int) -> bytes:
    try:
        return contents.read(index)
    except OSError:
        return b""

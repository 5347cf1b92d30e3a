"""Pairs of faces in the format of Labeled Faces in the Wild's pairs.txt.

The first line has the number of folds and that of the pairs of each kind in a fold (`10<tab>300`), or the second
alone for one fold. Then come, fold by fold, the pairs of one person (`name<tab>1<tab>4`: the person's pictures
name_0001 and name_0004) and as many of two (`name<tab>1<tab>other<tab>2`). http://vis-www.cs.umass.edu/lfw/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..common.arguments import boolean, path_of, positive_integer
from ..common.bars import progress_of
from ..common.errors import InputError
from ..common.files import new_folder, read_short_text, real_path, write_csv, write_json
from ..data.crops import Changes, CropMode, Interpolation
from ..data.images import SUFFIXES, UnreadableImageError, decode
from ..data.labelled import CorruptPictures
from ..data.preprocessing import Convention
from ..models.one_pass import ProgressCallback, one_pass
from ..models.open import GivenModel, display_name, locate
from ..models.precision import Precision, check_precision, speed_up
from .evaluate import ASSUMED, AVERAGES_LEFT, EVALUATIONS, MAX_CORRUPT, read_again
from .tables import FaceVerification
from .verification import squared_distances, verify

LARGEST = 16 * 1024**2  # bytes; LFW's own has 160 thousand


class Face(NamedTuple):
    """A picture of a person, numbered from 1."""

    person: str
    number: int

    def __str__(self) -> str:
        return f"{self.person}_{self.number:04d}"


class Pair(NamedTuple):
    """Two faces, and the fold that they belong to, from 0."""

    fold: int
    first: Face
    second: Face

    @property
    def same(self) -> bool:
        return self.first.person == self.second.person


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file, fold by fold, in each the pairs of one person first; InputError where it is no such file."""
    try:
        text = read_short_text(path, LARGEST, names=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); LFW's pairs.txt is needed") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}: that is no file of pairs") from None
    return parse_pairs(text, str(path))


def parse_pairs(text: str, told: str) -> list[Pair]:
    """As `read_pairs`, of a text; `told` is what an error calls it."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise InputError(f"{told}: is empty; its first line has the folds and the pairs of each kind: 10<tab>300")
    folds, each = _header(told, lines[0][1])
    if len(lines) - 1 != 2 * folds * each:
        raise InputError(
            f"{told}: has {len(lines) - 1} pairs, and {lines[0][1].strip()!r} in its first line is 2 × {folds} × {each}"
        )
    pairs = []
    for position, (number, line) in enumerate(lines[1:]):
        fold, place = divmod(position, 2 * each)
        pairs.append(_pair(f"{told}, line {number}", fold, line, matched=place < each))
    return pairs


def format_pairs(pairs: Iterable[Pair], folds: int, each: int) -> str:
    """The text of a file of pairs that are in its order."""
    lines = [f"{folds}\t{each}"]
    for _, first, second in pairs:
        other = (second.person,) if first.person != second.person else ()
        lines.append("\t".join(map(str, (*first, *other, second.number))))
    return "\n".join(lines) + "\n"


def _header(told: str, line: str) -> tuple[int, int]:
    fields = line.split()
    if len(fields) > 2 or not all(field.isascii() and field.isdigit() and len(field) < 10 for field in fields):
        raise InputError(
            f"{told}: begins with {line[:60]!r}, not with the folds and the pairs of each kind: 10<tab>300"
        )
    folds, each = (int(field) for field in (fields if len(fields) == 2 else ["1", *fields]))
    if folds < 1 or each < 1:
        raise InputError(f"{told}: begins with {line.strip()!r}: at least one fold of one pair of each kind is needed")
    return folds, each


def _pair(told: str, fold: int, line: str, *, matched: bool) -> Pair:
    fields = line.strip().split("\t") if "\t" in line else line.split()
    wanted = 3 if matched else 4
    if len(fields) != wanted:
        what = "name, number, number" if matched else "name, number, name, number"
        raise InputError(f"{told}: is {line.strip()[:80]!r}; here stands a pair of {what}")
    person, other = (fields[0], fields[0]) if matched else (fields[0], fields[2])
    pair = Pair(fold, Face(person.strip(), _number(told, fields[1])), Face(other.strip(), _number(told, fields[-1])))
    for face in pair[1:]:
        if not face.person or face.person.startswith(".") or any(sign in face.person for sign in "/\\\0"):
            raise InputError(f"{told}: {face.person!r} is no person's name")
    if pair.same != matched:
        raise InputError(f"{told}: has one person twice, {person!r}, where a pair of two persons stands")
    if pair.first == pair.second:
        raise InputError(f"{told}: pairs {pair.first} with itself")
    return pair


def _number(told: str, text: str) -> int:
    text = text.strip()
    if not text.isascii() or not text.isdigit() or not 1 <= len(text) < 10 or int(text) < 1:
        raise InputError(f"{told}: {text[:20]!r} is no picture's number, which counts from 1")
    return int(text)


def verify_faces(
    model: GivenModel,
    pairs: str | PathLike[str],
    data: str | PathLike[str],
    *,
    out: str | PathLike[str] | None = None,
    mirror: bool = False,
    crop_fraction: float | None = None,
    crop_mode: CropMode | None = None,
    interpolation: Interpolation | None = None,
    ema: bool = False,
    preprocessing: Convention | None = None,
    precision: Precision | None = None,
    trust: bool = False,
    batch_size: int = 32,
    max_corrupt: float = MAX_CORRUPT,
    progress: ProgressCallback | None = None,
) -> FaceVerification:
    """Verify pairs of faces by the squared distance of their embeddings, which have unit length.

    Args:
        model: A model as `evaluate` takes it. The embedding of a classifier is what its last layer reads.
        pairs: A file in the format of LFW's pairs.txt, with at least two folds.
        data: The folder with one folder per person, person/person_0001.jpg (or another image suffix). Faces
            are expected to be cropped as the network was trained on them: each image is used whole, or as the
            run was evaluated.
        out: The folder to write, new or empty. None is the next free one below evaluations/.
        mirror: Whether to embed each face mirrored too, and average the distances.
        crop_fraction, crop_mode, interpolation: As for `evaluate`, for images with more than the face.
        ema: Whether to take the moving averages that a checkpoint may have beside its weights.
        preprocessing, precision, trust: As for `evaluate`.
        batch_size: Number of images that go through the model at once, at least 1.
        max_corrupt: Images that may be missing or unreadable: a number, or a fraction below 1.
        progress: As for `evaluate`.

    Returns:
        The accuracy over the folds, the ROC curve, the pairs left out, and the folder with everything that
        was written.

    Raises:
        ValueError: The model, the folder or the file of pairs is missing or damaged, too many images are, or too
            few pairs are left.

    Examples:
        ```python
        found = verify_faces("inception_resnet_v1=vggface2", "lfw/pairs.txt", "lfw/faces")
        print(found.verification.accuracy)
        ```
    """
    boolean("mirror", mirror)
    batch_size = positive_integer("batch_size", batch_size)
    changes = Changes(crop_fraction, crop_mode, interpolation)
    name = display_name(model)
    source = locate(model, ema=boolean("ema", ema), preprocessing=preprocessing, trust=trust)
    check_precision(source, precision)
    pairs, data = path_of("pairs", pairs), path_of("data", data)
    written = None if out is None else path_of("out", out)
    every = read_pairs(pairs)
    if every[-1].fold == 0:
        raise InputError(
            f"{pairs}: has one fold; the threshold is chosen on others than it is measured on: two are needed"
        )
    if not data.is_dir():
        raise InputError(f"{data}: is no folder; one is needed with a folder of pictures a person")
    target = EVALUATIONS, f"{real_path(data).name}-{pairs.stem}", [data]
    with new_folder(written, *target) as folder, progress_of(given=progress) as tell:
        faces = sorted({face for pair in every for face in pair[1:]})
        corrupt = CorruptPictures(max_corrupt, len(faces))
        paths = _paths(data, faces, corrupt)
        there = list(paths)
        subject = speed_up(source.open(embedding=True), precision, batch_size)
        view = changes.of(subject.view)

        def decoded(index: int, enough: tuple[float, float] | None) -> Image.Image:
            try:
                return decode(paths[there[index]], enough, value_range=view.value_range)
            except UnreadableImageError as error:
                corrupt.add(str(error.path), error.reason)
                raise

        read, (embeddings,) = one_pass(
            [paths[face] for face in there],
            decoded,
            [replace(subject, view=view)],
            flip=mirror,
            batch_size=batch_size,
            progress=partial(tell, "embedding"),
        )
        place = {there[index]: row for row, index in enumerate(read)}
        judged = [pair for pair in every if pair.first in place and pair.second in place]
        if not judged:
            raise InputError(
                f"{data}: has no picture of any of the {len(every)} pairs: {corrupt.listed()[0][0]} is missing"
            )
        distances = squared_distances(
            embeddings[[place[pair.first] for pair in judged]], embeddings[[place[pair.second] for pair in judged]]
        )
        same = np.array([pair.same for pair in judged])
        found = verify(distances, same, np.array([pair.fold for pair in judged]))
        verified = FaceVerification(
            model=name,
            pairs=str(pairs),
            data=str(data),
            mirrored=mirror,
            view=view,
            pictures=len(read),
            one_person=int(same.sum()),
            two_persons=int((~same).sum()),
            left_out=len(every) - len(judged),
            verification=found,
            unreadable=corrupt.listed(),
            notes=[
                *subject.notes,
                *[ASSUMED] * (subject.assumed and changes == Changes()),
                *[AVERAGES_LEFT] * subject.averages,
            ],
            published=dict(subject.published),
            folder=folder,
        )
        _write(verified, judged, distances, paths)
    return verified


def _paths(data: Path, faces: Sequence[Face], corrupt: CorruptPictures) -> dict[Face, Path]:
    """Each face's file; those that have none are listed."""
    folders: dict[str, dict[str, Path]] = {}
    found: dict[Face, Path] = {}
    for face in faces:
        if face.person not in folders:
            here = data / face.person
            files = sorted(here.iterdir()) if here.is_dir() else []
            folders[face.person] = {file.stem: file for file in files if file.suffix.lower() in SUFFIXES}
        if str(face) in folders[face.person]:
            found[face] = folders[face.person][str(face)]
        else:
            corrupt.list_one(str(data / face.person / str(face)), "there is no such picture")
    corrupt.check()
    return found


def _write(verified: FaceVerification, judged: Sequence[Pair], distances: np.ndarray, paths: dict[Face, Path]) -> None:
    """Pictures and the pairs one by one, then report.json, which tells that all is there."""
    from . import curves, plots

    found, folder = verified.verification, verified.folder
    same = np.array([pair.same for pair in judged])
    used = sorted({pair.fold for pair in judged})
    thresholds = np.array([found.folds[used.index(pair.fold)].threshold for pair in judged])
    write_csv(
        folder / "pairs.csv",
        ["fold", "first", "second", "one person", "distance", "threshold", "right"],
        (
            [pair.fold + 1, pair.first, pair.second, int(pair.same), f"{distance:.6f}", f"{threshold:.6f}", int(right)]
            for pair, distance, threshold, right in zip(
                judged, distances, thresholds, (distances < thresholds) == same, strict=True
            )
        ),
    )
    curves.plot_verification(found, distances, same, folder / "roc.png")
    wrongness = np.where(same, distances - thresholds, thresholds - distances)
    worst = [
        number
        for number in np.argsort(-wrongness, kind="stable")
        if (distances[number] < thresholds[number]) != same[number]
    ]
    shown = []
    for number in worst[: plots.PAIRS_SHOWN]:
        pair = judged[number]
        images = [read_again(partial(decode, paths[face])) for face in pair[1:]]
        shown.append(((str(pair.first), str(pair.second)), bool(pair.same), float(distances[number]), images))
    plots.plot_pairs(shown, len(worst), folder / "mistakes.png")
    write_json(folder / "report.json", verified.as_json())

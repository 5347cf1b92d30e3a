"""Face verification on pairs of faces in the format of Labeled Faces in the Wild's pairs.txt.

The first line holds the number of folds and the number of pairs of each kind per fold (`10<tab>300`), or only the
latter for a single fold. Then follow, fold by fold, the pairs of the same person (`name<tab>1<tab>4`: the images
name_0001 and name_0004) and as many pairs of different persons (`name<tab>1<tab>other<tab>2`).
http://vis-www.cs.umass.edu/lfw/
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

LARGEST = 16 * 1024**2  # maximum size of a file of pairs, in bytes; LFW's own has 160 thousand


class Face(NamedTuple):
    """An image of a person. number: Counts from 1."""

    person: str
    number: int

    def __str__(self) -> str:
        return f"{self.person}_{self.number:04d}"


class Pair(NamedTuple):
    """Two faces, and the index of their fold, from 0."""

    fold: int
    first: Face
    second: Face

    @property
    def same(self) -> bool:
        return self.first.person == self.second.person


def read_pairs(path: Path) -> list[Pair]:
    """Read a file of pairs: fold by fold, and in each fold the pairs of the same person first.

    Raises:
        InputError: The file cannot be read or has another format.
    """
    try:
        text = read_short_text(path, LARGEST, names=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give a file in the format of LFW's pairs.txt"
        ) from None
    except ValueError as error:
        raise InputError(f"{path}: {error}: this is not a file of pairs") from None
    return parse_pairs(text, str(path))


def parse_pairs(text: str, name: str) -> list[Pair]:
    """Parse the text of a file of pairs. name: The name of the file in error messages."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise InputError(f"{name}: is empty; its first line holds the folds and the pairs of each kind: 10<tab>300")
    folds, each = _header(name, lines[0][1])
    if len(lines) - 1 != 2 * folds * each:
        raise InputError(
            f"{name}: has {len(lines) - 1} pairs, but its first line, {lines[0][1].strip()!r}, declares "
            f"2 × {folds} × {each}"
        )
    pairs = []
    for position, (number, line) in enumerate(lines[1:]):
        fold, place = divmod(position, 2 * each)
        pairs.append(_pair(f"{name}, line {number}", fold, line, matched=place < each))
    return pairs


def format_pairs(pairs: Iterable[Pair], folds: int, each: int) -> str:
    """The text of a file of pairs. pairs: In the order of the file; each: The number of pairs of each kind per fold."""
    lines = [f"{folds}\t{each}"]
    for _, first, second in pairs:
        other = (second.person,) if first.person != second.person else ()
        lines.append("\t".join(map(str, (*first, *other, second.number))))
    return "\n".join(lines) + "\n"


def _header(name: str, line: str) -> tuple[int, int]:
    fields = line.split()
    if len(fields) > 2 or not all(field.isascii() and field.isdigit() and len(field) < 10 for field in fields):
        raise InputError(
            f"{name}: begins with {line[:60]!r}, not with the folds and the pairs of each kind: 10<tab>300"
        )
    folds, each = (int(field) for field in (fields if len(fields) == 2 else ["1", *fields]))
    if folds < 1 or each < 1:
        raise InputError(f"{name}: begins with {line.strip()!r}: at least one fold of one pair of each kind is needed")
    return folds, each


def _pair(place: str, fold: int, line: str, *, matched: bool) -> Pair:
    fields = line.strip().split("\t") if "\t" in line else line.split()
    wanted = 3 if matched else 4
    if len(fields) != wanted:
        what = "name, number, number" if matched else "name, number, name, number"
        raise InputError(f"{place}: is {line.strip()[:80]!r}; expected a pair as {what}")
    person, other = (fields[0], fields[0]) if matched else (fields[0], fields[2])
    pair = Pair(fold, Face(person.strip(), _number(place, fields[1])), Face(other.strip(), _number(place, fields[-1])))
    for face in pair[1:]:
        if not face.person or face.person.startswith(".") or any(sign in face.person for sign in "/\\\0"):
            raise InputError(f"{place}: {face.person!r} is not a valid name of a person")
    if pair.same != matched:
        raise InputError(f"{place}: has the same person twice, {person!r}; expected a pair of different persons")
    if pair.first == pair.second:
        raise InputError(f"{place}: pairs {pair.first} with itself")
    return pair


def _number(place: str, text: str) -> int:
    text = text.strip()
    if not text.isascii() or not text.isdigit() or not 1 <= len(text) < 10 or int(text) < 1:
        raise InputError(f"{place}: {text[:20]!r} is not the number of a picture; numbers count from 1")
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
    """Verify pairs of faces by the squared distance of their embeddings, which are scaled to unit length.

    A pair counts as the same person if its distance is below a threshold. The threshold of each fold is chosen on all
    other folds.

    Args:
        model: A model as `evaluate` takes it. The embedding of a classifier is the input of its last layer.
        pairs: A file in the format of LFW's pairs.txt, with at least two folds.
        data: A folder with one folder of images per person, such as person/person_0001.jpg, with any image suffix.
            Faces must be cropped as in the network's training set: each image is used whole, or as the run was
            evaluated.
        out: The folder to write, new or empty. None takes the next free one below evaluations/.
        mirror: Whether to embed each face mirrored as well, and average the distances.
        crop_fraction: The central share of the image that becomes the network's input, in (0, 1], for images that show
            more than the face. None takes the model's own.
        crop_mode: "squash" or "center", as for `evaluate`. None takes the model's own.
        interpolation: "bilinear", "bicubic", "lanczos" or "nearest". None takes the model's own.
        ema: Whether to use the moving averages that a checkpoint may have beside its weights.
        preprocessing: The pixel range that the model expects, as `preprocess_input` names it. None measures it.
        precision: The precision that a Keras model computes in, as for `evaluate`. None keeps the model's own.
        trust: Whether to load a SavedModel with operations that `export_model` does not write.
        batch_size: The number of images that go through the model at once, at least 1.
        max_corrupt: The number of images that may be missing or unreadable, or a fraction below 1.
        progress: Called as `progress(step, done, total)`, as for `evaluate`. None shows a bar in a terminal and a
            changing line in a notebook.

    Returns:
        A `FaceVerification`. Its `verification` holds the accuracy, the threshold and the standard deviation over the
        folds, the area under the ROC curve, and the true accepts at 0.1 % and 1 % false accepts; `left_out` is the
        number of pairs that were not judged; and `folder` holds all files that were written.

    Raises:
        ValueError: The model, the folder or the file of pairs is missing or damaged, more images than `max_corrupt` are
            missing or unreadable, or too few pairs remain.

    Examples:
        >>> from inception_resnet_keras import verify_faces
        >>> result = verify_faces("runs/photos-1", "lfw/pairs.txt", "lfw/faces")
        >>> result.one_person, result.two_persons, result.left_out
        (18, 18, 0)
        >>> len(result.verification.folds), 0 <= result.verification.accuracy <= 1
        (3, True)

        With published weights of FaceNet, the model is "inception_resnet_v1=vggface2".
    """
    # Check the arguments and read the pairs before anything is written.
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
            f"{pairs}: has one fold; at least two are needed, because a fold's threshold is chosen on the other folds"
        )
    if not data.is_dir():
        raise InputError(f"{data}: is not a folder; give a folder with one folder of pictures per person")
    target = EVALUATIONS, f"{real_path(data).name}-{pairs.stem}", [data]
    with new_folder(written, *target) as folder, progress_of(given=progress) as show:
        # Each face is embedded once, however many pairs it is in.
        faces = sorted({face for pair in every for face in pair[1:]})
        corrupt = CorruptPictures(max_corrupt, len(faces))
        paths = _paths(data, faces, corrupt)
        existing = list(paths)
        subject = speed_up(source.open(embedding=True), precision, batch_size)
        view = changes.of(subject.view)

        def decoded(index: int, enough: tuple[float, float] | None) -> Image.Image:
            try:
                return decode(paths[existing[index]], enough, value_range=view.value_range)
            except UnreadableImageError as error:
                corrupt.add(str(error.path), error.reason)
                raise

        read, (embeddings,) = one_pass(
            [paths[face] for face in existing],
            decoded,
            [replace(subject, view=view)],
            flip=mirror,
            batch_size=batch_size,
            progress=partial(show, "embedding"),
        )
        # Judge the pairs whose images could both be read.
        place = {existing[index]: row for row, index in enumerate(read)}
        judged = [pair for pair in every if pair.first in place and pair.second in place]
        if not judged:
            raise InputError(f"{data}: lacks pictures of all {len(every)} pairs, such as {corrupt.listed()[0][0]}")
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
    """The file of each face. Faces without a file are added to `corrupt`."""
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
            corrupt.list_one(str(data / face.person / str(face)), "no such picture exists")
    corrupt.check()
    return found


def _write(verified: FaceVerification, judged: Sequence[Pair], distances: np.ndarray, paths: dict[Face, Path]) -> None:
    """Write pairs.csv and the figures, and last report.json, which marks the folder as complete."""
    from . import curves, plots

    # Every pair with its distance and its fold's threshold.
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
    # The figure of mistakes shows the pairs that are farthest on the wrong side of their threshold.
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

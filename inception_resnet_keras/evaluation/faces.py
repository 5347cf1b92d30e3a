"""Face verification as on Labeled Faces in the Wild: pairs of pictures, each embedded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from ..arguments import boolean, path_of, positive_integer
from ..data.corrupt import CorruptPictures
from ..data.crops import Changes, View
from ..data.images import SUFFIXES, UnreadableImageError, decode
from ..errors import InputError
from ..files import write_json
from .evaluate import ASSUMED, AVERAGES_LEFT, MAX_CORRUPT
from .one_pass import Telling, one_pass
from .opening import GivenModel, open_given, told_as
from .output import new_folder, write_csv
from .pairs import Face, Pair, read_pairs
from .verification import Verification, squared_distances, verify
from .writing import read_again


@dataclass(frozen=True)
class Verified:
    """What `verify_faces` found.

    model, pairs, data: as they were asked for. mirrored: whether each face was looked at mirrored too. view: how.
    pictures: how many were embedded. one_person, two_persons: how many pairs of each kind were judged.
    left_out: how many pairs were not, since `unreadable` (name, reason) has one of their pictures.
    notes: what was assumed, or left out.
    published: accuracy as the weights' source has it, %, by measure: LFW's is of that set's own 6,000 pairs.
    folder: where it is written.
    """

    model: str
    pairs: str
    data: str
    mirrored: bool
    view: View
    pictures: int
    one_person: int
    two_persons: int
    left_out: int
    verification: Verification
    unreadable: list[tuple[str, str]]
    notes: list[str]
    published: dict[str, float]
    folder: Path

    def as_json(self) -> dict[str, object]:
        found = asdict(self)
        del found["folder"]
        return found


def verify_faces(
    model: GivenModel,
    pairs: str | PathLike[str],
    data: str | PathLike[str],
    *,
    out: str | PathLike[str] | None = None,
    mirror: bool = False,
    crop_fraction: float | None = None,
    crop_mode: str | None = None,
    interpolation: str | None = None,
    ema: bool = False,
    batch_size: int = 32,
    max_corrupt: float = MAX_CORRUPT,
    progress: Telling = lambda what, done, total: None,
) -> Verified:
    """Verifies pairs of faces by the squared distance of their embeddings, which are of length 1.

    Args:
        model: As `opening` names it, or a Keras model that takes pixels of 0-255. Of a classifier, what its last
            layer reads is the embedding.
        pairs: A file in the format of LFW's pairs.txt, of two folds at least.
        data: The folder with a folder a person, person/person_0001.jpg (or another suffix that is read).
            Faces are expected cropped, as the network was trained on them: each picture is looked at whole, or as
            the run was evaluated, whose model it is.
        out: The folder to write, which must not exist or be empty; None for the next free one below evaluations/.
        mirror: Whether each face is embedded mirrored too, and the distances averaged.
        crop_fraction, crop_mode, interpolation: Of `data.crops.View`, for pictures with more than the face.
        ema: Whether to take the running averages that a checkpoint of TensorFlow 1 has beside its weights.
        batch_size: How many pictures go through the model at once, at least 1.
        max_corrupt: How many pictures may be missing or unreadable: a number, or a share below 1.
        progress: Called with what is being done, and of how many pictures it is done for how many.

    Raises:
        InputError: The model, the folder or the file of pairs is missing or damaged, too many pictures are, or
            too few pairs are left.
    """
    boolean("mirror", mirror)
    batch_size = positive_integer("batch_size", batch_size)
    changes = Changes(crop_fraction, crop_mode, interpolation)
    name, opener = told_as(model), open_given(model, ema=boolean("ema", ema))
    pairs, data = path_of("pairs", pairs), path_of("data", data)
    written = None if out is None else path_of("out", out)
    every = read_pairs(pairs)
    if every[-1].fold == 0:
        raise InputError(
            f"{pairs}: has one fold; the threshold is chosen on others than it is measured on: two are needed"
        )
    if not data.is_dir():
        raise InputError(f"{data}: is no folder; one is needed with a folder of pictures a person")
    with new_folder(written, f"{data.resolve().name}-{pairs.stem}", data) as folder:
        faces = sorted({face for pair in every for face in pair[1:]})
        corrupt = CorruptPictures(max_corrupt, len(faces))
        paths = _paths(data, faces, corrupt)
        there = list(paths)
        subject = opener(True)
        view = changes.of(subject.view)

        def decoded(index: int, enough: tuple[float, float] | None) -> Image.Image:
            try:
                return decode(paths[there[index]], enough)
            except UnreadableImageError as error:
                corrupt.add(str(error.path), error.reason)
                raise

        read, (embeddings,) = one_pass(
            len(there),
            decoded,
            [replace(subject, view=view)],
            flip=mirror,
            batch_size=batch_size,
            progress=partial(progress, "embedding"),
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
        if not np.isfinite(distances).all():
            raise InputError(f"{name}: gives numbers that are not finite: its weights are damaged")
        same = np.array([pair.same for pair in judged])
        found = verify(distances, same, np.array([pair.fold for pair in judged]))
        verified = Verified(
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
            notes=[ASSUMED] * (subject.assumed and changes == Changes()) + [AVERAGES_LEFT] * subject.averages,
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


def _write(verified: Verified, judged: Sequence[Pair], distances: np.ndarray, paths: dict[Face, Path]) -> None:
    """Pictures and the pairs one by one, then report.json, which tells that all is there."""
    from . import plots

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
    plots.plot_verification(found, distances, same, folder / "roc.png")
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
        shown.append((f"{pair.first}\n{pair.second}", bool(pair.same), float(distances[number]), images))
    plots.plot_pairs(shown, len(worst), folder / "mistakes.png")
    write_json(folder / "report.json", verified.as_json())

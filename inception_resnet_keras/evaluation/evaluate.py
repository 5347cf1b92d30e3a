"""Classifiers on labelled pictures, as the paper's Tables 2 to 5: figures, calibration, report, pictures.

ImageNet: a model of 1000 classes, or of 1001 with Slim's background class, is evaluated on classes that are named
by WordNet id (`n01440764`) or by Keras's English name (`tench`). ILSVRC 2012 publishes its validation set as
50,000 files in one folder: put each in a folder of its id, or write a .csv of `path,label` with the ids as
labels, or give `tfds:imagenet2012:validation`. Its ground truth file has numbers of its own, not these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ..arguments import one_of, positive_integer
from ..data.contents import Files
from ..data.crops import CROPS, Changes, View
from ..data.pictures import not_read
from ..data.sources import Source, open_source
from ..errors import InputError, refuse
from ..files import write_json
from . import paper
from .classes import Classes, columns, imagenet, listed, places
from .figures import Figures, figures, ranks_of_truth
from .one_pass import Progress, classify
from .output import new_folder, write_csv
from .report import Report, classification_report
from .subjects import Subject, locate

MAX_CORRUPT = 100
AVERAGE = "average"


@dataclass(frozen=True)
class Model:
    """One evaluated model: how it looked at the pictures, its figures, and the paper's and its source's beside them.

    paper: (table, top-1, top-5), shares in [0, 1]; None where it has none for this network and these crops.
    published: accuracy as the weights' source has it, %.
    """

    name: str
    network: str
    view: View | None
    figures: Figures
    paper: tuple[str, float, float] | None
    published: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    data: as it was asked for. crops: a picture. classes: the models'; report has which of them occur.
    models: each one alone, in the order given. average: of their probabilities; None of a single model.
    report: class by class, confusion matrix, mistakes and what could not be read, of the average or the one model.
    folder: where it is written.
    """

    data: str
    crops: int
    classes: list[str]
    models: list[Model]
    average: Model | None
    report: Report
    folder: Path

    @property
    def reported(self) -> Model:
        """What the report is of."""
        return self.average or self.models[0]

    def as_json(self) -> dict[str, object]:
        """All but the confusion matrix and the single pictures, which are CSV files beside it."""
        return {
            "data": self.data,
            "pictures": self.reported.figures.pictures,
            "classes": len(self.classes),
            "crops": self.crops,
            "models": [asdict(model) for model in self.models],
            "average": asdict(self.average) if self.average else None,
            "per_class": [asdict(score) for score in self.report.classes if score.support],
            "left_out": [list(entry) for entry in self.report.unreadable],
        }


def evaluate(
    models: Sequence[str],
    data: str | Path,
    *,
    out: Path | None = None,
    crops: int = 1,
    crop_fraction: float | None = None,
    crop_mode: str | None = None,
    interpolation: str | None = None,
    classes: Path | None = None,
    batch_size: int = 32,
    max_corrupt: float = MAX_CORRUPT,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Evaluates models, and the average of their probabilities, in one pass over the pictures.

    Args:
        models: One or more, as `subjects` names them: runs, .keras files, registered weights, checkpoints.
        data: What `open_source` opens: a folder with a folder of pictures a class, a .csv, a packed
            folder, "tfds:NAME:SPLIT" or "digits". It may lack some of the models' classes.
        out: The folder to write, which must not exist or be empty; None for the next free one below evaluations/.
        crops: 1, 12 or 144 a picture, as `data.crops` has them; their probabilities are averaged.
        crop_fraction, crop_mode, interpolation: Of `data.crops.View`, instead of the weights' own. The fraction
            and the mode are of one crop only.
        classes: A file of class names, one a line in the order of the outputs, for models that carry none.
        batch_size: How many crops go through a model at once, at least 1.
        max_corrupt: How many pictures may be unreadable: a number, or a share below 1.
        progress: Called with how many pictures are done of how many.

    Raises:
        InputError: An argument is out of range, a model or the data is missing or damaged, a class of the data is
            none of a model's (both lists are shown), models of other classes are to be averaged, or more
            pictures than `max_corrupt` cannot be read.
    """
    one_of("crops", crops, CROPS)
    batch_size = positive_integer("batch_size", batch_size)
    if not models:
        raise InputError("models: none is given; give one at least")
    if crops != 1 and (crop_fraction is not None or crop_mode is not None):
        raise refuse("crops", crops, "1 with a crop fraction or mode: 12 and 144 crops are of fixed places")
    changes = Changes(crop_fraction, crop_mode, interpolation)
    named = listed(classes) if classes else None
    openers = [locate(text) for text in models]
    dataset = str(data)
    with new_folder(out, Path(dataset.replace(":", "-")).resolve().name, Path(data)) as folder:
        source = open_source(data, class_names=None, max_corrupt=max_corrupt)
        subjects = [opener(False) for opener in openers]
        subjects = [replace(subject, view=changes.of(subject.view)) for subject in subjects]
        if crops != 1:
            for subject in subjects:
                subject.view.side()
        known = [_classes(subject, named, source) for subject in subjects]
        numbers = places(source.class_names, known[0], told=dataset, model=subjects[0].name)
        orders = [
            columns(known[0], other, model=subject.name, first_model=subjects[0].name)
            for other, subject in zip(known, subjects, strict=True)
        ]
        read, found = classify(
            len(source), source.decode, subjects, crops=crops, batch_size=batch_size, progress=progress
        )
        if not len(read):
            raise InputError(
                f"{dataset}: none of its {len(source)} pictures can be read: {source.corrupt.listed()[0][1]}"
            )
        probabilities = [each[:, order] for each, order in zip(found, orders, strict=True)]
        seen = _Seen(source, read, numbers[source.labels[read]], probabilities)
        evaluation = _evaluation(seen, subjects, known[0], data=dataset, crops=crops, folder=folder)
        _write(evaluation, seen)
    return evaluation


def _classes(subject: Subject, named: list[str] | None, source: Source) -> Classes:
    if subject.classes:
        return Classes(subject.classes)
    if named is not None:
        if len(named) != subject.outputs:
            raise InputError(f"classes: the file names {len(named)} classes, {subject.name} has {subject.outputs}")
        return Classes(named)
    if subject.imagenet:
        return imagenet(source.class_names)
    raise InputError(
        f"{subject.name}: carries no names of its {subject.outputs} classes; give a file with one a line, in the order "
        "of its outputs, as --classes"
    )


@dataclass(frozen=True)
class _Seen:
    """What was read of a source, its true classes, and what each model says of it, in the first one's order."""

    source: Source
    read: np.ndarray
    labels: np.ndarray
    probabilities: Sequence[np.ndarray]

    @cached_property
    def average(self) -> np.ndarray:
        return np.stack(self.probabilities).mean(axis=0, dtype=np.float64).astype(np.float32)

    @cached_property
    def names(self) -> list[str]:
        return [self.source.names[index] for index in self.read]


def _evaluation(
    seen: _Seen, subjects: Sequence[Subject], classes: Classes, *, data: str, crops: int, folder: Path
) -> Evaluation:
    def model(subject: Subject, probabilities: np.ndarray) -> Model:
        reported = paper.accuracy([subject.network], crops) if subject.imagenet else None
        scores = figures(seen.labels, probabilities)
        return Model(subject.name, subject.network, subject.view, scores, reported, dict(subject.published))

    average = None
    if len(subjects) > 1:
        networks = [subject.network for subject in subjects if subject.imagenet]
        reported = paper.accuracy(networks, crops) if len(networks) == len(subjects) else None
        average = Model(AVERAGE, "", None, figures(seen.labels, seen.average), reported, {})
    left_out = seen.source.corrupt.listed()
    if isinstance(seen.source.contents, Files) and Path(data).is_dir():
        left_out += not_read(Path(data))
    return Evaluation(
        data=data,
        crops=crops,
        classes=list(classes.names),
        models=[model(subject, each) for subject, each in zip(subjects, seen.probabilities, strict=True)],
        average=average,
        report=classification_report(seen.labels, seen.average, classes.names, seen.names, left_out),
        folder=folder,
    )


def _write(evaluation: Evaluation, seen: _Seen) -> None:
    """Tables and pictures, then report.json, which tells that all is there."""
    from . import plots

    folder, report, names = evaluation.folder, evaluation.report, evaluation.classes
    predicted, ranks = seen.average.argmax(axis=1), ranks_of_truth(seen.labels, seen.average)
    write_csv(
        folder / "predictions.csv",
        ["picture", "true", "predicted", "probability", "probability of true", "rank of true"],
        (
            (name, names[true], names[said], f"{row[said]:.6f}", f"{row[true]:.6f}", rank + 1)
            for name, true, said, row, rank in zip(seen.names, seen.labels, predicted, seen.average, ranks, strict=True)
        ),
    )
    write_csv(
        folder / "confusion_matrix.csv",
        ["true \\ predicted", *names],
        ([name, *row] for name, row in zip(names, report.confusion, strict=True) if any(row)),
    )
    plots.plot_confusion(report, folder / "confusion_matrix.png", title=f"accuracy {report.accuracy:.2%}")
    curves = [(model.name, model.figures.calibration) for model in [*evaluation.models, evaluation.average] if model]
    plots.plot_reliability(curves, folder / "reliability.png")
    shown = [_picture(seen, mistake.index) for mistake in report.mistakes[: plots.MISTAKES_SHOWN]]
    plots.plot_mistakes(report, [plots.thumbnail(image) for image in shown], folder / "mistakes.png")
    write_json(folder / "report.json", evaluation.as_json())


def _picture(seen: _Seen, row: int) -> Image.Image:
    """One of those that were read, read again; white where it has gone since."""
    try:
        return seen.source.decode(int(seen.read[row]))
    except InputError:
        return Image.new("RGB", (1, 1), "white")

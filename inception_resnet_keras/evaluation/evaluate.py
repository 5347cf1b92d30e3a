"""Evaluation of classifiers on labelled images, as in the paper's Tables 2 to 5: metrics, calibration, report, figures.

ImageNet: a model of 1000 classes, or of 1001 with TF-Slim's background class, is evaluated on classes that are named by
WordNet id (`n01440764`) or by Keras's English name (`tench`). ILSVRC 2012 publishes its validation set as 50,000 files
in one folder: sort them into one folder per id, or write a .csv of `path,label` with the ids as labels, or give
`tfds:imagenet2012:validation`. The class numbers in its ground truth file are not the indices used here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..common.arguments import boolean, one_of, path_of, positive_integer, text_of, value_range_of
from ..common.bars import progress_of
from ..common.console import command_with
from ..common.errors import InputError, refuse
from ..common.files import new_folder, real_path, write_csv, write_json
from ..data.crops import CROPS, Changes, CropMode, Crops, Interpolation
from ..data.labelled import Source
from ..data.options import require_group
from ..data.parts import with_groups
from ..data.preprocessing import Convention
from ..data.sources import open_source, source_part
from ..data.value_range import range_notes, with_models_range
from ..models.classes import Classes, classes_of, columns, places, with_positive
from ..models.one_pass import ProgressCallback, average, classify
from ..models.open import GivenModel, OpenedModel, common_value_range, display_name, locate, with_given_range
from ..models.precision import Precision, check_precision, speed_up
from ..weights.labels import CLASSES, read_class_names
from . import plots
from .calibration import Calibration
from .curves import AREAS, curve_set, plot_curves, plot_reliability
from .html_report import write_report
from .label_evaluation import CHOSEN_HERE, evaluate_labels, with_thresholds
from .metrics import area_intervals, figures
from .paper_tables import paper_accuracy
from .predictions import PREDICTIONS, PredictionTable, table_of
from .report import Report, classification_report
from .results import write_results
from .run_data import choose
from .tables import Evaluation, Model
from .thresholds import write_thresholds

EVALUATIONS = Path("evaluations")
MAX_CORRUPT = 100
AVERAGE = "average"
AVERAGES_LEFT = "its file has moving averages beside the weights, which were not used: --ema uses them"

ASSUMED = (
    "the crop is assumed, because the crop that its weights were made for is not documented: set another one with "
    "--crop-fraction, --crop-mode and --interpolation"
)


def evaluate(
    models: GivenModel | Sequence[GivenModel],
    data: str | PathLike[str] | None = None,
    *,
    group: str | None = None,
    positive: str | None = None,
    out: str | PathLike[str] | None = None,
    crops: Crops = 1,
    crop_fraction: float | None = None,
    crop_mode: CropMode | None = None,
    interpolation: Interpolation | None = None,
    classes: str | PathLike[str] | Sequence[str] | None = None,
    ema: bool = False,
    preprocessing: Convention | None = None,
    value_range: tuple[float, float] | None = None,
    precision: Precision | None = None,
    trust: bool = False,
    batch_size: int = 32,
    max_corrupt: float = MAX_CORRUPT,
    allow_trained: bool = True,
    progress: ProgressCallback | None = None,
) -> Evaluation:
    """Evaluate classifiers, and the average of their probabilities, on labelled images.

    Args:
        models: One model or several: a run's folder, a .keras file, a file or folder that `export_model` wrote, a
            registered name such as "inception_v4=imagenet", a checkpoint, or a Keras model that takes pixels of 0-255
            (for a model of this package: built with include_preprocessing=True).
        data: A folder with one folder of images per class, a .csv of path,label, a folder that `pack` wrote,
            "tfds:NAME:SPLIT" or "digits". It may lack some of the models' classes. If it declares a test part, that
            part is evaluated; "FOLDER:val" names another part. If a run was trained on it, the images that the run held
            out are evaluated. None, for a single run, evaluates the run's held-out images.
        group: The property that the images of one group share, such as their patient, as in training: "parent" (the
            folder of the image), "re:PATTERN" (the pattern's first group, matched in the path below `data`) or a column
            of the .csv. None takes the groups that `data` has. Intervals then count groups instead of images, and
            predictions.csv lists the groups.
        positive: With two classes, the name of the positive one. Sensitivity, specificity, precision, F1, AUC, average
            precision, thresholds, curves and the calibration plot refer to it, and it is the second class of every
            table and file. None takes the second class of the first model. If both classes are equally probable, the
            other class is predicted.
        out: The folder to write, new or empty. None takes the next free one below evaluations/.
        crops: Crops per image: 1, 12 or 144 (as in the paper). Their probabilities are averaged.
        crop_fraction: The central share of the image that becomes the network's input, in (0, 1]; only with crops=1.
            None takes the share that the weights were published with.
        crop_mode: "squash" resizes the central `crop_fraction` of each side to the input; "center" keeps the aspect
            ratio and cuts out a square; only with crops=1. None takes the mode that the weights were published with.
        interpolation: "bilinear", "bicubic", "lanczos" or "nearest". None takes the interpolation that the weights were
            published with.
        classes: The class names in the order of the outputs, or a file with one name per line, for models without
            class names. A checkpoint's classes are then these, not those of ImageNet, however many there are.
        ema: Whether to use the moving averages that a checkpoint may have beside its weights.
        preprocessing: The pixel range that the models expect, as `preprocess_input` names it ("none": 0-255 unchanged),
            for models whose range cannot be measured. None measures it.
        value_range: (low, high), the values that become 0 and 255 in images of more than 8 bits. None takes the
            models' own, which `train` stores. A model without one reads 16-bit images as 0 to 65535 and no 32-bit ones.
        precision: The precision that Keras models compute in, after batch norms were folded: "float32",
            "mixed_bfloat16", "mixed_float16", or "auto", which takes mixed_bfloat16 if a short timed probe shows that
            it is at least a fifth faster. None keeps the precision of each model.
        trust: Whether to load a SavedModel with operations that `export_model` does not write. Such a file can run any
            program, so pass True only if you trust its author.
        batch_size: The number of crops that go through a model at once, at least 1.
        max_corrupt: The number of images that may be unreadable, or a fraction below 1.
        allow_trained: Whether to evaluate on images that one of the models was trained on; a note then says so.
        progress: Called as `progress(step, done, total)` with the name of the current step, the number of finished
            images and the total number of images. None shows a bar in a terminal and a changing line in a notebook.

    Returns:
        An `Evaluation`. Its `models` and `average` hold the accuracy and the calibration of each model and of the
        average; its `report` holds the results by class, the confusion matrix and the mistakes; and its `folder` holds
        all files that were written. If images have several labels, the result is a `LabelEvaluation` with the average
        precision, AUC, precision, recall and F1 of each label at the model's own thresholds, and their means.

    Raises:
        ValueError: An argument is out of range, a model or the data is missing or damaged, a class of the data is
            not one of the model's (both lists are shown), `positive` is not one of two classes, the models to average
            have different classes, or more images than `max_corrupt` cannot be read.

    Examples:
        >>> from inception_resnet_keras import evaluate
        >>> evaluation = evaluate("runs/photos-1", "photos")
        >>> evaluation.classes
        ['daisy', 'rose', 'tulip']
        >>> figures = evaluation.reported.figures
        >>> figures.pictures
        24
        >>> 0 <= figures.interval[0] <= figures.top1 <= figures.interval[1] <= 1
        True
        >>> sorted(file.name for file in evaluation.folder.glob("*.csv"))
        ['confusion_matrix.csv', 'predictions.csv', 'thresholds.csv']

        The paper's Table 3 on ImageNet, with 12 crops per image, is
        `evaluate("inception_v4=imagenet", "imagenet/val", crops=12)`.
    """
    # Check the arguments before anything is opened.
    _check(crops, group=group, positive=positive, cut=crop_fraction is not None or crop_mode is not None)
    batch_size = positive_integer("batch_size", batch_size)
    if value_range is not None:
        value_range = value_range_of("value_range", value_range)
    several = [models] if isinstance(models, str | PathLike) or not isinstance(models, Sequence) else models
    if not several:
        raise InputError("models: none is given; give one at least")
    changes = Changes(crop_fraction, crop_mode, interpolation)
    repeat = repeated("evaluate", several, locals(), evaluate.__kwdefaults__ or {})
    # Find the models and choose the images, which both can fail cheaply.
    named = None if classes is None else read_class_names(classes, different=True)
    options: dict[str, Any] = {"ema": boolean("ema", ema), "preprocessing": preprocessing, "trust": trust}
    sources = [locate(model, imagenet=named is None, **options) for model in several]
    for each in sources:
        check_precision(each, precision)
    chosen = choose([display_name(model) for model in several], None if data is None else text_of("data", data))
    dataset = chosen.data
    written = None if out is None else path_of("out", out)
    target = EVALUATIONS, real_path(dataset.replace(":", "-")).name, [source_part(dataset)[0]]
    with new_folder(written, *target) as folder, progress_of(given=progress) as show:
        # Open the images and the models, and look for images that a model was trained on.
        reading = partial(show, "reading headers")
        source = open_source(chosen.place, least_classes=1, max_corrupt=max_corrupt, progress=reading)
        source = with_groups(source, group, str(chosen.place))
        subjects = [with_given_range(speed_up(each.open(), precision, batch_size), value_range) for each in sources]
        source = with_models_range(source, common_value_range(subjects), dataset)
        comparing = partial(show, "comparing with the training pictures")
        source, note = chosen.select(source, comparing, allow_trained=boolean("allow_trained", allow_trained))
        note = "; ".join(filter(None, [note, *range_notes(source, given=value_range is not None)]))
        subjects = with_thresholds(source, subjects, dataset)
        if named and all(subject.classes for subject in subjects):
            raise InputError("classes: all models have class names of their own: leave this argument out")
        # Apply the crop that the user chose.
        subjects = [
            replace(
                subject,
                view=changes.of(subject.view).for_crops(crops),
                assumed=subject.assumed and crops == 1 and changes == Changes(),
            )
            for subject in subjects
        ]
        # Match the classes: `numbers` maps those of the images, `orders` those of each model, to the first model's.
        known = [classes_of(subject, named, source.class_names) for subject in subjects]
        known = [with_positive(known[0], positive, several=source.multi_label), *known[1:]]
        numbers = places(source.class_names, known[0], source=dataset, model=subjects[0].name)
        orders = [
            columns(known[0], other, model=subject.name, first_model=subjects[0].name)
            for other, subject in zip(known, subjects, strict=True)
        ]
        # One pass over the images, with all models.
        read, found = classify(
            source.names,
            source.decode,
            subjects,
            crops=crops,
            batch_size=batch_size,
            several=source.multi_label,
            progress=partial(show, "evaluating"),
        )
        if not len(read):
            raise InputError(
                f"{dataset}: none of its {len(source)} pictures can be read: {source.corrupt.listed()[0][1]}"
            )
        probabilities = [each[:, order] for each, order in zip(found, orders, strict=True)]
        # Score the probabilities and write the files.
        if source.multi_label:
            labels = np.zeros((len(read), len(known[0].names)), np.uint8)
            labels[:, numbers] = source.labels[read]
            notes = [note, CHOSEN_HERE if chosen.chose_thresholds(source) else ""]
            return evaluate_labels(
                source,
                read,
                labels,
                probabilities,
                subjects,
                thresholds=[
                    np.array(subject.thresholds)[order] for subject, order in zip(subjects, orders, strict=True)
                ],
                picture=lambda place: plots.thumbnail(read_again(partial(source.decode, int(read[place])))),
                data=dataset,
                crops=crops,
                classes=list(known[0].names),
                note="; ".join(filter(None, notes)),
                folder=folder,
                command=repeat,
                left_out=[*source.corrupt.listed(), *source.beside],
            )
        seen = EvaluatedPictures(source, read, numbers[source.labels[read]], probabilities)
        evaluation = _evaluation(
            seen, subjects, known[0], data=dataset, note=note, crops=crops, folder=folder, command=repeat
        )
        models_and_average = [*evaluation.models, *([evaluation.average] if evaluation.average else [])]
        curves = [(model.name, model.figures.calibration) for model in models_and_average]
        figures_of = [(model.name, model.figures) for model in models_and_average]
        write_results(folder, evaluation.heading, figures_of, evaluation.reported.figures)
        write_evaluation(folder, seen, evaluation.report, curves, evaluation.as_json())
    return evaluation


def _check(crops: Crops, *, group: str | None, positive: str | None, cut: bool) -> None:
    """Raise InputError for invalid arguments. cut: Whether a crop fraction or mode is given."""
    one_of("crops", crops, CROPS)
    if group is not None:
        require_group(text_of("group", group))
    if positive is not None:
        text_of("positive", positive, "the name of a class")
    if crops != 1 and cut:
        raise refuse("crops", crops, "1 with a crop fraction or mode: 12 and 144 crops have fixed positions")


def _evaluation(
    seen: EvaluatedPictures,
    subjects: Sequence[OpenedModel],
    classes: Classes,
    *,
    data: str,
    note: str,
    crops: int,
    folder: Path,
    command: str,
) -> Evaluation:
    # Published accuracies hold for all classes of ImageNet only: with fewer classes the task is easier.
    complete = len(np.unique(seen.labels)) == CLASSES

    def model(subject: OpenedModel, probabilities: np.ndarray) -> Model:
        reported = paper_accuracy([subject.network], crops) if subject.imagenet and complete else None
        published = dict(subject.published) if complete else {}
        scores = figures(seen.labels, probabilities, classes.names, seen.groups)
        notes = [*subject.notes, *[ASSUMED] * subject.assumed, *[AVERAGES_LEFT] * subject.averages]
        return Model(subject.name, subject.network, subject.view, scores, reported, published, notes)

    average = None
    if len(subjects) > 1:
        networks = [subject.network for subject in subjects if subject.imagenet]
        reported = paper_accuracy(networks, crops) if len(networks) == len(subjects) and complete else None
        average = Model(AVERAGE, "", None, figures(seen.labels, seen.average, classes.names, seen.groups), reported, {})
    left_out = [*seen.source.corrupt.listed(), *seen.source.beside]
    return Evaluation(
        data=data,
        crops=crops,
        classes=list(classes.names),
        models=[model(subject, each) for subject, each in zip(subjects, seen.probabilities, strict=True)],
        average=average,
        report=classification_report(
            seen.labels, seen.average, classes.names, seen.names, left_out, groups=seen.groups
        ),
        note=note,
        folder=folder,
        positive=classes.names[1] if len(classes.names) == 2 else None,
        command=command,
    )


def repeated(verb: str, models: Sequence[GivenModel], given: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The command line that repeats an evaluation or a comparison.

    Args:
        verb: "evaluate" or "compare".
        models: The models, as given.
        given: The other arguments by name. Only `data` and those with a default are used.
        defaults: The default of each argument.

    Returns:
        The command; "" if a model is in memory, or an argument cannot be written on a command line.
    """
    defaults = {"data": None, **defaults}
    left_out = {"out", "progress"} | ({"allow_trained"} if verb == "evaluate" else set())
    options = {
        name: given[name]
        for name, default in defaults.items()
        if name not in left_out and name in given and given[name] is not None and given[name] != default
    }
    values = [*models, *chain.from_iterable(each if isinstance(each, tuple) else [each] for each in options.values())]
    if not all(isinstance(value, str | PathLike | int | float) for value in values):
        return ""
    return command_with(verb, [str(model) for model in models], options)


@dataclass(frozen=True)
class EvaluatedPictures:
    """The images that were read from a source, with their true classes and the models' probabilities.

    Attributes:
        source: All images of the source.
        read: int64 (n,), the indices in the source of the images that were read.
        labels: int64 (n,), the indices of the true classes.
        probabilities: float32 (n, classes) of each model, in the order of the first model's classes.
    """

    source: Source
    read: np.ndarray
    labels: np.ndarray
    probabilities: Sequence[np.ndarray]

    @cached_property
    def average(self) -> np.ndarray:
        return average(self.probabilities)

    @cached_property
    def names(self) -> list[str]:
        return [self.source.names[index] for index in self.read]

    @property
    def groups(self) -> list[str] | None:
        """The group of each image, such as its patient, "" for none; None if no groups are known."""
        return None if self.source.groups is None else [self.source.groups[index] for index in self.read]

    def table(self, classes: Sequence[str], models: Sequence[str]) -> PredictionTable:
        """The table of predictions.csv. models: The names of the models."""
        each = list(zip(models, self.probabilities, strict=True)) if len(models) > 1 else ()
        return table_of(self.source, classes, self.labels, self.average, each, read=self.read)


def write_evaluation(
    folder: Path,
    seen: EvaluatedPictures,
    report: Report,
    curves: Sequence[tuple[str, Calibration]],
    summary: dict[str, object],
) -> None:
    """Write tables and figures, and last `summary` as report.json, which marks the folder as complete.

    curves: The name and the calibration of each model, and of the average if there is one.
    """
    names = [score.name for score in report.classes]
    seen.table(names, [name for name, _ in curves[: len(seen.probabilities)]]).write(folder / PREDICTIONS)
    write_thresholds(folder, seen.labels, seen.average, names)
    write_csv(
        folder / "confusion_matrix.csv",
        ["true \\ predicted", *names],
        ([name, *row] for name, row in zip(names, report.confusion, strict=True) if any(row)),
    )
    plots.plot_confusion(report, folder / "confusion_matrix.png")
    each = [*seen.probabilities, seen.average]  # `curves` has no average of a single model: zip leaves it out
    drawn = [(name, probabilities, found) for (name, found), probabilities in zip(curves, each, strict=False)]
    plot_reliability(seen.labels, drawn, names, folder / "reliability.png", seen.groups)
    for kind, area in AREAS.items():
        found = curve_set(kind, seen.labels, seen.average, names, seen.groups)
        intervals = area_intervals(report.figures, area) if report.figures else None
        plot_curves(found, folder / f"{kind}.png", intervals)
    shown = [
        read_again(partial(seen.source.decode, int(seen.read[mistake.index])))
        for mistake in report.mistakes[: plots.MISTAKES_SHOWN]
    ]
    plots.plot_mistakes(report, [plots.thumbnail(image) for image in shown], folder / "mistakes.png")
    write_json(folder / "report.json", summary)
    write_report(folder)


def read_again(decode: Callable[[], Image.Image]) -> Image.Image:
    """Decode an image that was read before; white if it no longer exists."""
    try:
        return decode()
    except InputError:
        return Image.new("RGB", (1, 1), "white")

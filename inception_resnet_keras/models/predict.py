"""What saved models say of pictures: one model, or the average of several, with one crop of a picture or many."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image

from ..common import notebook
from ..common.arguments import one_of, path_of, positive_integer, value_range_of
from ..common.console import counted, printable
from ..common.errors import InputError
from ..common.files import new_files, real_path, require_new_file, require_regular
from ..data.crops import CROPS, Crops, Enough
from ..data.folders import pictures_and_others
from ..data.images import UnreadableImageError, decode, has_pages
from ..data.preprocessing import Convention
from ..weights.labels import read_class_names
from ..weights.runs import model_of_run
from .classes import classes_of, columns
from .one_pass import ProgressCallback, average, classify, one_pass
from .open import GivenModel, ModelSource, OpenedModel, common_value_range, display_name, locate
from .precision import Precision, check_precision, speed_up

TOP = 5  # classes of a picture, where nothing else is asked for
SEPARATOR = "|"  # between several labels of a picture
COLUMNS = ("path", "label", "probability", "error")  # of a CSV file, before those of the classes
NAMED_AT_MOST = 5  # files of a kind in a summary
SHOWN_AT_MOST = 20  # pictures in a repr and in a notebook


@dataclass(frozen=True)
class Prediction:
    """A file's classes.

    top: (class, probability in [0, 1]), the likeliest first; of models of several labels per picture those that are
        predicted, which may be none.
    error: Why the file could not be read; None for one that was.
    """

    path: str
    top: list[tuple[str, float]]
    error: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Predictions(Sequence[Prediction]):
    """What `predict` returns: arrays of all pictures, and a sequence of one `Prediction` per file, in order.

    A notebook shows the first of them as a table.

    Attributes:
        files: The files in the order in which they were given, those that could not be read among them.
        paths: The n pictures that were read, in that order.
        class_names: The classes, in the order of the columns of `probabilities`.
        models: The models, as they were given.
        model_probabilities: For each model float32 (n, classes), the mean over a picture's crops, in [0, 1].
        unreadable: (file, reason) of each file that could not be read.
        passed_over: (file or folder, reason) of everything else in the given folders.
        crops: The number of crops per picture.
        top: How many classes a `Prediction` has at most; None for the labels that reach their thresholds.
        thresholds: Of models of several labels per picture, one per class: a label is predicted where its probability
            is at least this. Of several models their mean. Empty where each picture has one class.
    """

    files: list[str]
    paths: list[str]
    class_names: list[str]
    models: list[str]
    model_probabilities: list[np.ndarray]
    unreadable: list[tuple[str, str]]
    passed_over: list[tuple[str, str]]
    crops: int
    top: int | None
    read: np.ndarray  # int64 (n,): the place of each picture among `files`
    thresholds: Sequence[float] = ()

    @cached_property
    def probabilities(self) -> np.ndarray:
        """float32 (n, classes): row i is of `paths[i]`; of several models, the mean of their probabilities."""
        return average(self.model_probabilities)

    @cached_property
    def labels(self) -> list[str]:
        """The predicted class of each of `paths`, the likeliest; of several labels all, with "|" between them."""
        return [SEPARATOR.join(self.class_names[number] for number in numbers) for numbers in self._predicted]

    @cached_property
    def _predicted(self) -> list[list[int]]:
        """The numbers of the predicted classes of each of `paths`: the likeliest, or those that reach thresholds."""
        if not len(self.thresholds):
            return [[number] for number in self.probabilities.argmax(axis=1).tolist()]
        reached = self.probabilities >= np.array(self.thresholds)
        return [np.flatnonzero(row).tolist() for row in reached]

    @cached_property
    def _rows(self) -> np.ndarray:
        """int64, for each file its row in `probabilities`, or -1 for one that could not be read."""
        rows = np.full(len(self.files), -1, np.int64)
        rows[self.read] = np.arange(len(self.read))
        return rows

    @cached_property
    def _errors(self) -> dict[int, str]:
        """The reason for each file without a row, by its place: a file may be given twice."""
        places = np.flatnonzero(self._rows < 0).tolist()
        return {place: reason for place, (_, reason) in zip(places, self.unreadable, strict=True)}

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | list[Prediction]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        row = self._rows[place]
        if row < 0:
            return Prediction(self.files[place], [], self._errors[place])
        probabilities = self.probabilities[row]
        best = np.argsort(-probabilities, kind="stable")
        best = best[np.isin(best, self._predicted[row])] if self.top is None else best[: self.top]
        return Prediction(self.files[place], [(self.class_names[each], float(probabilities[each])) for each in best])

    def __eq__(self, other: object) -> bool:
        """Whether a sequence has the same predictions, as a list of them has."""
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def summary(self) -> str:
        """What was predicted, in one line: how many pictures, by what, and of which classes."""
        by = self.models[0] if len(self.models) == 1 else f"the average of {len(self.models)} models"
        crops = f", {self.crops} crops each" if self.crops > 1 else ""
        times = Counter(self.class_names[number] for numbers in self._predicted for number in numbers)
        counts = times.most_common(SHOWN_AT_MOST + 1)
        classes = ", ".join(f"{name} {count:,}" for name, count in counts[:SHOWN_AT_MOST])
        more = f" and {len(times) - SHOWN_AT_MOST} more classes" if len(counts) > SHOWN_AT_MOST else ""
        return f"{len(self.paths):,} of {counted(len(self), 'picture')} by {by}{crops}: {classes or 'none'}{more}"

    def left_out(self) -> list[str]:
        """What has no prediction, one line for each reason: how many, why, and the first ones' names."""
        return by_reason("could not be read", self.unreadable) + by_reason("passed over", self.passed_over)

    def to_csv(self, path: str | PathLike[str], *, per_model: bool = False) -> Path:
        """Write a row for each file, complete or not at all.

        The columns are path, label (the predicted class), probability (the label's), error, and then one per class
        with its probability, written so that float32 is read back exactly. Several labels of a picture, and their
        probabilities, stand in one cell with "|" between them. A file without a prediction has an error,
        and nothing else: first the pictures in their order, then what was passed over in folders. A class that is named
        as an earlier column is gets another name: "class path", or "crane (output 517)" if two classes have one name.
        The file is UTF-8; a byte of a file's name that is not UTF-8 is written as it is, and read back by
        `open(path, encoding="utf-8", errors="surrogateescape")`.

        Args:
            path: The file to write, a new one.
            per_model: Whether to add, of several models, the columns of each model, named "CLASS by MODEL".

        Returns:
            The path.

        Raises:
            ValueError: The file exists, its folder does not exist, or it cannot be made.
        """
        target = path_of("path", path)
        require_new_file(target)
        names = unique_columns(self.class_names, taken=COLUMNS)
        header = [*COLUMNS, *names]
        tables = [self.probabilities]
        if per_model and len(self.models) > 1:
            times = Counter(self.models)
            models = [f"{name} ({n})" if times[name] > 1 else name for n, name in enumerate(self.models, 1)]
            of_each = [f"{name} by {model}" for model in models for name in names]
            header += unique_columns(of_each, taken=header)
            tables += self.model_probabilities
        with (
            new_files(target) as folder,
            open(folder / target.name, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(header)
            for place, row in enumerate(self._rows.tolist()):
                if row < 0:
                    writer.writerow(self._without_prediction(self.files[place], self._errors[place], len(header)))
                    continue
                values = [f"{value:.9g}" for table in tables for value in table[row].tolist()]
                said = SEPARATOR.join(values[number] for number in self._predicted[row])
                writer.writerow([self.files[place], self.labels[row], said, "", *values])
            for name, reason in self.passed_over:
                writer.writerow(self._without_prediction(name, f"passed over: {reason}", len(header)))
        return target

    @staticmethod
    def _without_prediction(name: str, error: str, columns: int) -> list[str]:
        return [name, "", "", error, *[""] * (columns - len(COLUMNS))]

    def _shown(self) -> list[tuple[str, str, str]]:
        """Path, likeliest class and its probability of the first files, or why a file has none."""
        found = []
        for each in self[:SHOWN_AT_MOST]:
            if self.top is None and each.error is None:
                shares = ", ".join(f"{share:.1%}" for _, share in each.top)
                found.append((each.path, ", ".join(name for name, _ in each.top) or "no label", shares))
                continue
            name, share = each.top[0] if each.top else (f"left out: {each.error}", None)
            found.append((each.path, name, "" if share is None else f"{share:.1%}"))
        return found

    @property
    def _not_shown(self) -> str:
        more = len(self) - SHOWN_AT_MOST
        return f"and {more:,} more" if more > 0 else ""

    def __repr__(self) -> str:
        lines = [
            f"<Predictions: {self.summary()}>",
            *("  ".join(filter(None, row)) for row in self._shown()),
            self._not_shown,
        ]
        return "\n".join(printable(line) for line in [*lines, *self.left_out()] if line)

    def _repr_html_(self) -> str:
        table = notebook.rows(("picture", "class", "probability"), self._shown(), self.summary())
        return notebook.page(table, notebook.line(self._not_shown), *map(notebook.line, self.left_out()))


def by_reason(what: str, files: Sequence[tuple[str, str]]) -> list[str]:
    """One line for each reason: how many files it holds of, and the names of the first."""
    kinds: dict[str, list[str]] = {}
    for name, reason in files:
        kinds.setdefault(reason, []).append(name)
    return [
        f"{len(names):,} {what}: {reason}: {', '.join(names[:NAMED_AT_MOST])}"
        + (f" and {len(names) - NAMED_AT_MOST:,} more" if len(names) > NAMED_AT_MOST else "")
        for reason, names in kinds.items()
    ]


def unique_columns(names: Sequence[str], taken: Iterable[str]) -> list[str]:
    """Names that differ from one another and from those that are taken, unchanged where they do."""
    fixed, once = set(taken), Counter(names)
    used = fixed | set(names)
    found = []
    for number, name in enumerate(names):
        column = name
        if name in fixed or once[name] > 1:
            column = f"class {name}" if once[name] == 1 else f"{name} (output {number})"
            while column in used:
                column = f"class {column}"
            used.add(column)
        found.append(column)
    return found


def list_pictures(paths: Iterable[str | PathLike[str]]) -> tuple[list[str], list[tuple[str, str]]]:
    """Files as they are, a folder as the pictures in it; and what else lies in the folders, each with why.

    Raises InputError for a path where nothing is, for what is no regular file, and for a folder without a picture.
    """
    files: list[str] = []
    passed_over: list[tuple[str, str]] = []
    for path in map(Path, paths):
        if path.is_dir():
            pictures, others = pictures_and_others(path)
            if not pictures:
                raise InputError("; ".join([f"{path}: has no picture in it", *by_reason("passed over", others)]))
            files += pictures
            passed_over += others
        elif path.exists():
            require_regular(path)
            files.append(str(path))
        else:
            raise InputError(f"{path}: there is no such file or folder")
    return files, passed_over


def predict(
    model: GivenModel | Sequence[GivenModel],
    images: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    top: int | None = None,
    crops: Crops = 1,
    value_range: tuple[float, float] | None = None,
    batch_size: int = 32,
    classes: str | PathLike[str] | Sequence[str] | None = None,
    preprocessing: Convention | None = None,
    precision: Precision | None = None,
    trust: bool = False,
    note: Callable[[str], object] = lambda text: None,
    progress: ProgressCallback | None = None,
) -> Predictions:
    """Classify image files with a trained or an exported model, or with the average of several.

    Args:
        model: A run's folder, a .keras or .h5 file, what `export_model` wrote, a registered name such as
            "inception_v4=imagenet", a checkpoint, or a Keras model; or a list of these, whose probabilities are
            averaged. Each model gets its own size and preprocessing of an image. Classes are matched by name.
        images: Image files, and folders that stand for the images in them; or one of these.
        top: Number of classes per image, at least 1. A model of fewer classes gives all of them. None gives 5; of
            models of several labels per image every label whose probability is at least its threshold.
        crops: Crops per image, 1, 12 or 144 (the paper's); their probabilities are averaged.
        value_range: The values that become 0 and 255 in images of more than 8 bits. None takes the model's own, which
            `train` keeps in it; a model without one reads 16-bit images as 0 to 65535 and no 32-bit ones.
        batch_size: Number of crops that go through the model at once, at least 1.
        classes: Class names in the order of the outputs, or a file with one per line, for a model that carries none.
        preprocessing: How the model takes pixels, as `preprocess_input` names it, where that cannot be measured.
        precision: What a Keras model computes in, after it was folded: "float32", "mixed_bfloat16", "mixed_float16",
            or "auto", which takes mixed_bfloat16 where a short timed probe finds it faster by a fifth. None is the
            model's own.
        trust: Whether to load a SavedModel with operations that `export_model` does not write. It can run any
            program, so pass True only if you trust whoever made it.
        note: Called with what was assumed of the model or added to it, one sentence each.
        progress: Called with the current step, the number of images done and the number of all images. None shows
            them if there are more than one batch: as a bar in a terminal, as a line that changes in a notebook.

    Returns:
        Arrays with every class's probability for every image, which `to_csv` writes to a file; also a sequence of one
        `Prediction` per file, in order. A file that cannot be read has an error in place of classes.

    Raises:
        ValueError: The model is missing or damaged or gives no classes or NaN, a file is missing, a folder has no
            image, or models of different classes, or without class names, are to be averaged.

    Examples:
        ```python
        for prediction in predict("runs/photos-1", ["a.png", "more"]):
            print(prediction.path, prediction.top[:1])
        found = predict(["runs/photos-1", "runs/photos-2"], "more", crops=12)
        found.to_csv("more.csv")
        print(found.paths, found.class_names, found.probabilities.shape)
        ```
    """
    given = [images] if isinstance(images, str | PathLike) else images
    models = [model] if isinstance(model, str | PathLike) or not isinstance(model, Sequence) else list(model)
    top = None if top is None else positive_integer("top", top)
    batch_size = positive_integer("batch_size", batch_size)
    one_of("crops", crops, CROPS)
    if value_range is not None:
        value_range = value_range_of("value_range", value_range)
    # A missing model is reported before an engine is started.
    sources = _located(models, preprocessing=preprocessing, trust=trust)
    for source in sources:
        check_precision(source, precision)
    files, passed_over = list_pictures(given)
    Image.preinit()  # or Pillow brings forty formats besides to read one
    opened = [source.open() for source in sources]
    opened = [replace(each, view=each.view.for_crops(crops)) for each in opened]
    value_range = common_value_range(opened) if value_range is None else value_range
    if pages := sum(has_pages(Path(file)) for file in files):
        note(f"of {counted(pages, 'file')} with several pages or frames the first one is read")
    several = _predicts_labels(opened)
    names, orders = _class_names(opened, classes)
    opened = [speed_up(each, precision, min(batch_size, len(files) * crops)) for each in opened]
    for each in opened:
        for text in each.notes:
            note(f"{each.name}: {text}")

    errors: dict[int, str] = {}

    def decoded(index: int, enough: Enough) -> Image.Image:
        try:
            return decode(Path(files[index]), enough, value_range=value_range)
        except UnreadableImageError as error:
            errors[index] = error.reason
            raise

    with ExitStack() as stack:
        options: dict[str, Any] = {"crops": crops, "batch_size": batch_size}
        if progress is None and len(files) * crops > batch_size:
            from ..common.bars import progress_of

            progress = stack.enter_context(progress_of())
        if progress is not None:
            options["progress"] = _named(progress, "predicting")
        if len(opened) > 1:  # only probabilities have an average
            read, found = classify(files, decoded, opened, several=several, **options)
        else:
            read, found = one_pass(files, decoded, opened, averaged=True, **options)
    thresholds = [
        np.array(each.thresholds) if order is None else np.array(each.thresholds)[order]
        for each, order in zip(opened, orders, strict=True)
        if several
    ]
    if not len(read):
        found = [np.empty((0, len(names)), np.float32)] * len(opened)
        orders = [None] * len(opened)
    return Predictions(
        files=files,
        paths=[files[index] for index in read],
        class_names=names,
        models=[each.name for each in opened],
        model_probabilities=[
            each if order is None else each[:, order] for each, order in zip(found, orders, strict=True)
        ],
        unreadable=[(files[index], errors[index]) for index in sorted(errors)],
        passed_over=passed_over,
        crops=crops,
        top=None if several and top is None else top or TOP,
        read=read,
        thresholds=np.mean(thresholds, axis=0).tolist() if several else (),
    )


def _predicts_labels(opened: Sequence[OpenedModel]) -> bool:
    """Whether the models give several labels per picture; InputError where some do and others give one class."""
    labels = [each for each in opened if each.thresholds]
    if labels and len(labels) < len(opened):
        other = next(each for each in opened if not each.thresholds)
        raise InputError(
            f"model: {labels[0].name} gives several labels per picture and {other.name} one class: they have no average"
        )
    return bool(labels)


def _named(progress: ProgressCallback, step: str) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        progress(step, done, total)

    return tell


def _located(models: Sequence[GivenModel], **options: Any) -> list[ModelSource]:
    """The models, found and not opened; InputError for none, and for one that is given twice."""
    if not models:
        raise InputError("model: none is given; give one at least")
    sources = [locate(model, **options) for model in models]
    seen: list[Any] = []
    for model in models:
        key = _identity(model)
        if key in seen:
            raise InputError(f"model: {display_name(model)} is given twice, and would count twice in the average")
        seen.append(key)
    return sources


def _identity(model: GivenModel) -> object:
    """What is equal only of the same model: a file's path without its detours, a name, or the model in memory."""
    if not isinstance(model, str | PathLike):
        return id(model)
    path = Path(model)
    if not path.exists():
        return str(model)
    return real_path(model_of_run(path) or path)


def _class_names(
    opened: Sequence[OpenedModel], given: str | PathLike[str] | Sequence[str] | None
) -> tuple[list[str], list[np.ndarray | None]]:
    """The names of the classes, and for each model the order of its outputs in which they are these; None for its own.

    Raises InputError where the models' classes differ, or a model among several has no names for them.
    """
    first = opened[0]
    if len(opened) == 1:
        names = class_names(first) if given is None else read_class_names(given, first.outputs)
        return names, [None]
    if given is not None and all(each.classes for each in opened):
        raise InputError("classes: names are given for models that carry their classes' names: leave them out")
    if given is None and all(each.imagenet for each in opened):
        return class_names(first), [None] * len(opened)  # in one order, also where the index of their names is missing
    named = None if given is None else read_class_names(given, different=True)
    known = [classes_of(each, named) for each in opened]
    orders: list[np.ndarray | None] = []
    for each, other in zip(opened, known, strict=True):
        order = columns(known[0], other, model=each.name, first_model=first.name)
        orders.append(None if np.array_equal(order, np.arange(len(order))) else order)
    return list(known[0].names), orders


def class_names(opened: OpenedModel) -> list[str]:
    """The names of a model's classes: its own, ImageNet's, or their numbers where nothing names them."""
    try:
        return list(classes_of(opened).names)
    except InputError:  # nothing names them; or ImageNet's are not in Keras's cache, and not to be fetched
        return [f"class {number}" for number in range(opened.outputs)]

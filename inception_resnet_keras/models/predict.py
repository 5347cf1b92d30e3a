"""Classifies image files with one model or the average of several, with one crop per image or many."""

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
from ..data.images import UnreadableImageError, decode
from ..data.preprocessing import Convention
from ..data.value_range import file_range_notes
from ..weights.labels import read_class_names
from ..weights.runs import model_of_run
from .classes import classes_of, columns
from .one_pass import ProgressCallback, average, classify, one_pass
from .open import GivenModel, ModelSource, OpenedModel, common_value_range, display_name, locate, with_given_range
from .precision import Precision, check_precision, speed_up

TOP = 5  # classes per image by default
SEPARATOR = "|"  # between several labels of an image
COLUMNS = ("path", "label", "probability", "error")  # the columns of a CSV file before the classes
NAMED_AT_MOST = 5  # file names per reason in a summary
SHOWN_AT_MOST = 20  # images in a repr and in a notebook


@dataclass(frozen=True)
class Prediction:
    """The predicted classes of one file.

    Attributes:
        path: The file.
        top: (class, probability in [0, 1]), the most probable first. For models with several labels per image only
            the predicted labels, which may be none.
        error: Why the file could not be read; None if it was read.
    """

    path: str
    top: list[tuple[str, float]]
    error: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Predictions(Sequence[Prediction]):
    """What `predict` returns: arrays for all images, and a sequence with one `Prediction` per file, in order.

    A notebook shows the first predictions as a table.

    Attributes:
        files: All files in the given order, including those that could not be read.
        paths: The n images that were read, in that order.
        class_names: The classes, in the order of the columns of `probabilities`.
        models: The models' names, as given.
        model_probabilities: For each model float32 (n, classes), in [0, 1], averaged over an image's crops.
        unreadable: (file, reason) for each file that could not be read.
        passed_over: (file or folder, reason) for everything else in the given folders.
        crops: Number of crops per image.
        top: Largest number of classes in a `Prediction`; None for all labels that reach their thresholds.
        thresholds: For models with several labels per image, one per class: a label is predicted if its probability
            is at least its threshold. For several models, the mean of theirs. Empty if each image has one class.
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
    read: np.ndarray  # int64 (n,): the index of each image in `files`
    thresholds: Sequence[float] = ()

    @cached_property
    def probabilities(self) -> np.ndarray:
        """float32 (n, classes): row i belongs to `paths[i]`. For several models, the mean of their probabilities."""
        return average(self.model_probabilities)

    @cached_property
    def labels(self) -> list[str]:
        """The predicted class of each of `paths`; several labels of one image are joined with "|"."""
        return [SEPARATOR.join(self.class_names[number] for number in numbers) for numbers in self._predicted]

    @cached_property
    def _predicted(self) -> list[list[int]]:
        """The indices of the predicted classes of each of `paths`: the most probable, or all that reach thresholds."""
        if not len(self.thresholds):
            return [[number] for number in self.probabilities.argmax(axis=1).tolist()]
        reached = self.probabilities >= np.array(self.thresholds)
        return [np.flatnonzero(row).tolist() for row in reached]

    @cached_property
    def _rows(self) -> np.ndarray:
        """int64: for each file its row in `probabilities`, or -1 if it could not be read."""
        rows = np.full(len(self.files), -1, np.int64)
        rows[self.read] = np.arange(len(self.read))
        return rows

    @cached_property
    def _errors(self) -> dict[int, str]:
        """The reason for each file without a row, by its index, because a file may be given twice."""
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
        """Whether another sequence has the same predictions."""
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def summary(self) -> str:
        """The number of images, the models, and the number of images per class, in one line."""
        by = self.models[0] if len(self.models) == 1 else f"the average of {len(self.models)} models"
        crops = f", {self.crops} crops each" if self.crops > 1 else ""
        times = Counter(self.class_names[number] for numbers in self._predicted for number in numbers)
        counts = times.most_common(SHOWN_AT_MOST + 1)
        classes = ", ".join(f"{name} {count:,}" for name, count in counts[:SHOWN_AT_MOST])
        more = f" and {len(times) - SHOWN_AT_MOST} more classes" if len(counts) > SHOWN_AT_MOST else ""
        return f"{len(self.paths):,} of {counted(len(self), 'picture')} by {by}{crops}: {classes or 'none'}{more}"

    def left_out(self) -> list[str]:
        """The files without a prediction, one line per reason with their number and the first names."""
        return by_reason("could not be read", self.unreadable) + by_reason("passed over", self.passed_over)

    def to_csv(self, path: str | PathLike[str], *, per_model: bool = False) -> Path:
        """Write a CSV file with one row per file, completely or not at all.

        The columns are path, label (the predicted class), probability (the label's), error, and one per class with its
        probability, with enough digits to restore float32 exactly. Several labels of one image, and their
        probabilities, are joined with "|" in one cell. A file without a prediction has only an error. The images come
        first, in their order, then other files in the given folders. A class with the name of an earlier column is
        renamed: "class path", or "crane (output 517)" if two classes have the same name.
        The file is UTF-8. Bytes of file names that are not UTF-8 are written unchanged;
        `open(path, encoding="utf-8", errors="surrogateescape")` reads them back.

        Args:
            path: The new file.
            per_model: Whether to add, for several models, the columns of each model, named "CLASS by MODEL".

        Returns:
            The path.

        Raises:
            ValueError: The file exists, its folder does not exist, or it cannot be written.
        """
        # The header: fixed columns, one per class, and with `per_model` one per class and model.
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
        # A row per image or unreadable file, then one for each other file.
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
                shares = SEPARATOR.join(values[number] for number in self._predicted[row])
                writer.writerow([self.files[place], self.labels[row], shares, "", *values])
            for name, reason in self.passed_over:
                writer.writerow(self._without_prediction(name, f"passed over: {reason}", len(header)))
        return target

    @staticmethod
    def _without_prediction(name: str, error: str, columns: int) -> list[str]:
        return [name, "", "", error, *[""] * (columns - len(COLUMNS))]

    def _shown(self) -> list[tuple[str, str, str]]:
        """Path, most probable class and its probability for the first files, or the reason why a file has none."""
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
    """One line per reason: the number of its files, and the first names."""
    kinds: dict[str, list[str]] = {}
    for name, reason in files:
        kinds.setdefault(reason, []).append(name)
    return [
        f"{len(names):,} {what}: {reason}: {', '.join(names[:NAMED_AT_MOST])}"
        + (f" and {len(names) - NAMED_AT_MOST:,} more" if len(names) > NAMED_AT_MOST else "")
        for reason, names in kinds.items()
    ]


def unique_columns(names: Sequence[str], taken: Iterable[str]) -> list[str]:
    """The names, changed where necessary to differ from one another and from those in `taken`."""
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
    """The image files for paths of files and folders, and the other files in the folders with the reason for each.

    Raises InputError for a path that does not exist or is not a regular file, and for a folder without images.
    """
    files: list[str] = []
    passed_over: list[tuple[str, str]] = []
    for path in map(Path, paths):
        if path.is_dir():
            pictures, others = pictures_and_others(path)
            if not pictures:
                raise InputError("; ".join([f"{path}: has no pictures", *by_reason("passed over", others)]))
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
    note: Callable[[str], object] | None = None,
    progress: ProgressCallback | None = None,
) -> Predictions:
    """Classify image files with a trained or an exported model, or with the average of several.

    Args:
        model: A run's folder, a .keras or .h5 file, an exported model, a registered name such as
            "inception_v4=imagenet", a checkpoint, or a Keras model; or a list of these, whose probabilities are
            averaged. Each model gets images in its own size and preprocessing. Classes are matched by name.
        images: One or more image files, or folders, of which all images are classified.
        top: Number of classes per image, at least 1; with fewer classes, all of them. None gives 5, or, for models
            with several labels per image, every label whose probability reaches its threshold.
        crops: Number of crops per image, 1, 12 or 144 (as in the paper). Their probabilities are averaged.
        value_range: (low, high), the values that become 0 and 255 in images of more than 8 bits. None takes the
            model's own, which `train` stores. A model without one reads 16-bit images as 0 to 65535 and refuses
            32-bit ones.
        batch_size: Number of crops that the model computes at once, at least 1.
        classes: Class names in the order of the outputs, or a file with one per line, for a model without class names.
        preprocessing: The preprocessing of the model's input, a name that `preprocess_input` takes, if it cannot be
            measured. None measures it.
        precision: The precision in which a Keras model computes, after its batch norms were folded: "float32",
            "mixed_bfloat16", "mixed_float16", or "auto", which chooses mixed_bfloat16 if a short timed probe finds it
            at least 1.2 times as fast. None is the model's own.
        trust: Whether to load a SavedModel with operations that `export_model` does not write. It can run any
            program, so pass True only if you trust whoever made it.
        note: A function that is called with each assumption about the model, one sentence each. None ignores them.
        progress: A function that is called with the current step, the number of finished images and their total. None
            shows a bar in a terminal or a changing line in a notebook, if there is more than one batch.

    Returns:
        The probabilities of all classes for all images as arrays, which `to_csv` writes to a file. It is also a
        sequence with one `Prediction` per file, in order. A file that cannot be read has an error instead of classes.

    Raises:
        ValueError: The model is missing, damaged, has no classes or computes NaN; a file is missing; a folder has no
            images; an argument is out of range; or models to be averaged have different classes or no class names.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> from inception_resnet_keras import create_inception_resnet_v1, predict
        >>> model = create_inception_resnet_v1(
        ...     2, depths=(1, 1, 1), input_shape=(75, 75, 3), include_preprocessing=True, name="pets"
        ... )
        >>> folder = tempfile.mkdtemp()
        >>> Image.new("RGB", (100, 80), "orange").save(folder + "/a.png")
        >>> found = predict(model, folder, classes=["cat", "dog"])
        >>> found.class_names, found.probabilities.shape
        (['cat', 'dog'], (1, 2))
        >>> [(prediction.path == folder + "/a.png", len(prediction.top)) for prediction in found]
        [(True, 2)]
        >>> found.to_csv(folder + "/classes.csv").name
        'classes.csv'
    """
    noted = (lambda text: None) if note is None else note
    # Every argument is checked first.
    given = [images] if isinstance(images, str | PathLike) else images
    models = [model] if isinstance(model, str | PathLike) or not isinstance(model, Sequence) else list(model)
    top = None if top is None else positive_integer("top", top)
    batch_size = positive_integer("batch_size", batch_size)
    one_of("crops", crops, CROPS)
    if value_range is not None:
        value_range = value_range_of("value_range", value_range)
    # A missing model or file is reported before a framework is imported, which takes seconds.
    sources = _located(models, preprocessing=preprocessing, trust=trust)
    for source in sources:
        check_precision(source, precision)
    files, passed_over = list_pictures(given)
    Image.preinit()  # otherwise Pillow imports forty further formats
    opened = [source.open() for source in sources]
    opened = [replace(each, view=each.view.for_crops(crops)) for each in opened]
    opened = [with_given_range(each, value_range) for each in opened]
    used_range = common_value_range(opened)
    for text in file_range_notes(files, used_range, given=value_range is not None):
        noted(text)
    # Models may list the same classes in different orders: `orders` maps each model's outputs to the first one's.
    several = _predicts_labels(opened)
    names, orders = _class_names(opened, classes)
    opened = [speed_up(each, precision, min(batch_size, len(files) * crops)) for each in opened]
    for each in opened:
        for text in each.notes:
            noted(f"{each.name}: {text}")

    # One pass over the images for all models. An unreadable image is skipped, with its error.
    errors: dict[int, str] = {}

    def decoded(index: int, enough: Enough) -> Image.Image:
        try:
            return decode(Path(files[index]), enough, value_range=used_range)
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
        if len(opened) > 1:  # outputs to be averaged must be probabilities
            read, found = classify(files, decoded, opened, several=several, **options)
        else:
            read, found = one_pass(files, decoded, opened, averaged=True, **options)
    # Thresholds and probabilities in the first model's order of classes.
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
    """Whether the models predict several labels per image. Raises InputError if only some of them do."""
    labels = [each for each in opened if each.thresholds]
    if labels and len(labels) < len(opened):
        other = next(each for each in opened if not each.thresholds)
        raise InputError(
            f"model: {labels[0].name} predicts several labels per picture and {other.name} one class: they cannot be "
            "averaged; use them one by one"
        )
    return bool(labels)


def _named(progress: ProgressCallback, step: str) -> Callable[[int, int], None]:
    def report(done: int, total: int) -> None:
        progress(step, done, total)

    return report


def _located(models: Sequence[GivenModel], **options: Any) -> list[ModelSource]:
    """The models, found but not opened. Raises InputError if there is none, or if one is given twice."""
    if not models:
        raise InputError("model: got none; give at least one")
    sources = [locate(model, **options) for model in models]
    seen: list[Any] = []
    for model in models:
        key = _identity(model)
        if key in seen:
            raise InputError(f"model: {display_name(model)} is given twice, and would count twice in the average")
        seen.append(key)
    return sources


def _identity(model: GivenModel) -> object:
    """A key that only the same model has: a file's real path, a name, or the identity of a model in memory."""
    if not isinstance(model, str | PathLike):
        return id(model)
    path = Path(model)
    if not path.exists():
        return str(model)
    return real_path(model_of_run(path) or path)


def _class_names(
    opened: Sequence[OpenedModel], given: str | PathLike[str] | Sequence[str] | None
) -> tuple[list[str], list[np.ndarray | None]]:
    """The class names, and for each model the order of its outputs that matches them; None if it is the model's own.

    Raises InputError if the models' classes differ, or if one of several models has no class names.
    """
    first = opened[0]
    if len(opened) == 1:
        names = class_names(first) if given is None else read_class_names(given, first.outputs)
        return names, [None]
    if given is not None and all(each.classes for each in opened):
        raise InputError("classes: got names for models that have their own class names; leave it out")
    if given is None and all(each.imagenet for each in opened):
        # The same order in all models, even if the index of the names is missing.
        return class_names(first), [None] * len(opened)
    named = None if given is None else read_class_names(given, different=True)
    known = [classes_of(each, named) for each in opened]
    orders: list[np.ndarray | None] = []
    for each, other in zip(opened, known, strict=True):
        order = columns(known[0], other, model=each.name, first_model=first.name)
        orders.append(None if np.array_equal(order, np.arange(len(order))) else order)
    return list(known[0].names), orders


def class_names(opened: OpenedModel) -> list[str]:
    """The names of a model's classes: its own, ImageNet's, or otherwise "class 0", "class 1", …"""
    try:
        return list(classes_of(opened).names)
    except InputError:  # it has no names; or ImageNet's are not in the cache and cannot be downloaded
        return [f"class {number}" for number in range(opened.outputs)]

"""predictions.csv: the probability of every class for every image, by each model and by their average.

This module defines the format: evaluations and folds write it, and comparisons, reports and any CSV reader read it. The
columns, in this order:

| column | content |
| --- | --- |
| `picture` | the name of the image in reports |
| `true`, `predicted` | the true class and the most probable one |
| `true labels`, `predicted labels` | instead of these, if an image may have several labels |
| `predicted by MODEL` | with several models: the prediction of each |
| `split`, `group`, `fold`, `seed` | those that are known |
| one per class | its probability; with several models, the mean over the models |
| `CLASS by MODEL` | with several models: one per class for each model |

Several labels are written in one cell with "|" between them; a "|" or a backslash in a name is escaped by a backslash.
With two classes, the second one is the positive one. A class with the name of one of the first columns gets the prefix
"class " ("class split"). Probabilities have nine digits, which reproduce float32 exactly. The file is UTF-8; bytes of a
file's name that are not UTF-8 are written unchanged.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import InputError
from ..common.files import open_regular, write_csv
from ..data.labelled import Source
from ..models.classes import require_positive
from ..models.one_pass import SUM_TOLERANCE

PREDICTIONS = "predictions.csv"
ONE_LABEL, SEVERAL_LABELS = ("true", "predicted"), ("true labels", "predicted labels")
ABOUT = ("split", "group", "fold", "seed")  # optional columns
PREDICTED_BY = "predicted by "
RESERVED = re.compile(
    rf"(?:picture|{'|'.join((*ONE_LABEL, *SEVERAL_LABELS, *ABOUT))}|{PREDICTED_BY}.*)", flags=re.DOTALL
)
CLASS = "class "
SEPARATOR = "|"
EARLIER = ["probability", "probability of true", "rank of true"]  # the columns of earlier versions


@dataclass(frozen=True)
class PredictionTable:
    """The predictions of models for labelled images, as made by `prediction_table`.

    Attributes:
        pictures: The names of the n images.
        classes: The class names, all different, in the order of the columns of the probabilities.
        labels, predicted: The true and the predicted classes, int64 (n,); with several labels per image uint8
            (n, classes), 1 where a label applies.
        probabilities: float32 (n, classes): of the only model, or the mean of several.
        models: With several models, the probabilities of each by its name; otherwise empty.
        models_predicted: The predictions of each of `models`, as `predicted`.
        split: "train", "val" or "test" for each image; None if it is not known.
        group: The group of each image, such as its patient; None if it is not known.
        fold, seed: The run of a study that held the image out; None for single runs.
    """

    pictures: Sequence[str]
    classes: Sequence[str]
    labels: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    models: Mapping[str, np.ndarray] = field(default_factory=dict)
    models_predicted: Mapping[str, np.ndarray] = field(default_factory=dict)
    split: Sequence[str] | None = None
    group: Sequence[str] | None = None
    fold: Sequence[str] | None = None
    seed: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self.labels.ndim == 2

    @property
    def unit_names(self) -> Sequence[str] | None:
        """What the rows of one independent unit share: their group, or in a study of seeds at least their image.

        All seeds hold out the same images, so that five seeds are not five times as many images. None if each row is a
        unit of its own.
        """
        if self.seed is None:
            return self.group
        groups = self.group or [""] * len(self)
        return [group or f"picture {picture}" for group, picture in zip(groups, self.pictures, strict=True)]

    def take(self, chosen: np.ndarray) -> PredictionTable:
        """The rows of the chosen images. chosen: Their indices, int, or a mask, bool (n,)."""
        places = np.arange(len(self))[chosen]
        about = {name: values for name in ABOUT if (values := getattr(self, name)) is not None}
        return replace(
            self,
            pictures=[self.pictures[place] for place in places.tolist()],
            labels=self.labels[places],
            predicted=self.predicted[places],
            probabilities=self.probabilities[places],
            models={name: each[places] for name, each in self.models.items()},
            models_predicted={name: each[places] for name, each in self.models_predicted.items()},
            **{name: [values[place] for place in places.tolist()] for name, values in about.items()},
        )

    def with_positive(self, positive: str) -> PredictionTable:
        """The table with the given class second, as the positive one; InputError unless it is one of two classes."""
        return self.in_order(require_positive(self.classes, positive, several=self.multi_label))

    def in_order(self, order: np.ndarray) -> PredictionTable:
        """The table with its classes reordered. order: The old index of each new class."""
        numbers = np.argsort(order)  # the new index of each old class

        def renamed(values: np.ndarray) -> np.ndarray:
            return values[:, order] if values.ndim == 2 else numbers[values]

        return replace(
            self,
            classes=[self.classes[place] for place in order.tolist()],
            labels=renamed(self.labels),
            predicted=renamed(self.predicted),
            probabilities=self.probabilities[:, order],
            models={model: each[:, order] for model, each in self.models.items()},
            models_predicted={model: renamed(each) for model, each in self.models_predicted.items()},
        )

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all, into an existing folder."""
        about = [(name, values) for name in ABOUT if (values := getattr(self, name)) is not None]
        classes = [_class_column(name) for name in self.classes]
        header = [
            "picture",
            *(SEVERAL_LABELS if self.multi_label else ONE_LABEL),
            *(PREDICTED_BY + model for model in self.models),
            *(name for name, _ in about),
            *classes,
            *(f"{name} by {model}" for model in self.models for name in classes),
        ]
        named = [self.labels, self.predicted, *(self.models_predicted[model] for model in self.models)]
        texts = [*map(self._texts, named), *(values for _, values in about)]
        tables = [self.probabilities, *self.models.values()]
        rows = (
            (picture, *firsts, *(f"{value:.9g}" for table in tables for value in table[row].tolist()))
            for row, (picture, *firsts) in enumerate(zip(self.pictures, *texts, strict=True))
        )
        write_csv(path, header, rows)

    def _texts(self, labels: np.ndarray) -> Iterator[str]:
        if not self.multi_label:
            return (self.classes[label] for label in labels.tolist())
        return (
            SEPARATOR.join(_escaped(self.classes[label]) for label in np.flatnonzero(row).tolist()) for row in labels
        )


def prediction_table(
    pictures: Sequence[str],
    classes: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    models: Sequence[tuple[str, np.ndarray]] = (),
    *,
    thresholds: np.ndarray | None = None,
    models_thresholds: Sequence[np.ndarray] = (),
    split: Sequence[str] | None = None,
    group: Sequence[str] | None = None,
    fold: Sequence[str] | None = None,
    seed: Sequence[str] | None = None,
) -> PredictionTable:
    """Make a table of predictions.

    Args:
        pictures, classes, labels, probabilities, split, group, fold, seed: As in `PredictionTable`.
        models: With several models, the name and the probabilities of each. Models with the same name get their
            position appended: "a.keras (1)".
        thresholds: With several labels per image, (classes,): a label is predicted if its probability is at least this.
        models_thresholds: The same for each of `models`.
    """
    names = _different([name for name, _ in models])
    every = [probabilities, *(each for _, each in models)]
    if labels.ndim == 2:
        if thresholds is None or len(models_thresholds) != len(models):
            raise ValueError("several labels per picture need thresholds")
        cuts = [thresholds, *models_thresholds]
        predicted = [(each >= cut).astype(np.uint8) for each, cut in zip(every, cuts, strict=True)]
    else:
        predicted = [each.argmax(axis=1) for each in every]
    return PredictionTable(
        pictures=pictures,
        classes=classes,
        labels=labels,
        predicted=predicted[0],
        probabilities=probabilities,
        models=dict(zip(names, every[1:], strict=True)),
        models_predicted=dict(zip(names, predicted[1:], strict=True)),
        split=split,
        group=group,
        fold=fold,
        seed=seed,
    )


def _different(names: Sequence[str]) -> list[str]:
    """The names; a name that occurs more than once gets its position appended."""
    times, used = Counter(names), set(names)
    found = []
    for place, name in enumerate(names, 1):
        each = name
        while times[name] > 1 and each in used:
            each = f"{each} ({place})"
        used.add(each)
        found.append(each)
    return found


def table_of(
    source: Source,
    classes: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    models: Sequence[tuple[str, np.ndarray]] = (),
    *,
    read: np.ndarray | None = None,
    part: str | None = None,
    **thresholds: Any,
) -> PredictionTable:
    """Make the table of a source's images, with their split and their groups if these are known.

    Args:
        source: The images.
        classes, labels, probabilities, models, thresholds: As for `prediction_table`.
        read: int (n,), the indices in the source of the images that were read; None for all.
        part: The split of all images, if the source names none.
    """
    places = range(len(source)) if read is None else read.tolist()
    parts = [part] * len(source) if part and source.parts is None else source.parts
    pictures, split, group = (
        None if values is None else [values[place] for place in places]
        for values in (source.names, parts, source.groups)
    )
    return prediction_table(
        pictures or [], classes, labels, probabilities, models, split=split, group=group, **thresholds
    )


def concatenated(tables: Sequence[PredictionTable]) -> PredictionTable:
    """Concatenate tables of the same classes and models.

    An optional column that only some of the tables have is "" in the rows of the others.
    """
    first = tables[0]
    known = [name for name in ABOUT if any(getattr(table, name) is not None for table in tables)]
    about = {
        name: [value for table in tables for value in (getattr(table, name) or [""] * len(table))] for name in known
    }
    return replace(
        first,
        pictures=[name for table in tables for name in table.pictures],
        labels=np.concatenate([table.labels for table in tables]),
        predicted=np.concatenate([table.predicted for table in tables]),
        probabilities=np.concatenate([table.probabilities for table in tables]),
        models={name: np.concatenate([table.models[name] for table in tables]) for name in first.models},
        models_predicted={
            name: np.concatenate([table.models_predicted[name] for table in tables]) for name in first.models
        },
        **about,
    )


def read_predictions(path: Path) -> PredictionTable:
    """Read a predictions.csv.

    Raises:
        InputError: The file does not exist or is damaged: it has other columns, a row with a different number of
            columns, a class without a column, a value that is not a probability, or a predicted class that is not the
            most probable one.
    """
    try:
        with io.TextIOWrapper(open_regular(path), "utf-8", "surrogateescape", newline="") as file:
            return _read(csv.reader(file, strict=True))
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist; `evaluate` writes it into its folder") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path}: is damaged ({str(error)[:300]}): restore it, or evaluate again") from None


@dataclass(frozen=True)
class _Layout:
    """The columns of a file. firsts: The number of columns before those of the classes."""

    several: bool
    models: list[str]
    about: list[str]
    classes: list[str]
    firsts: int


def _read(rows: Iterator[list[str]]) -> PredictionTable:
    layout = _layout(next(rows, []))
    numbers = {name: number for number, name in enumerate(layout.classes)}
    several, firsts, tables = layout.several, layout.firsts, 1 + len(layout.models)
    columns = firsts + tables * len(layout.classes)
    texts: list[list[str]] = []
    labels: list[list[np.ndarray]] = []
    values: list[np.ndarray] = []
    for place, row in enumerate(rows, 1):
        if len(row) != columns:
            raise ValueError(f"row {place} has {len(row)} columns, but the first row has {columns}")
        # The true class, the predicted one, and that of each model.
        end = 3 + len(layout.models)
        try:
            labels.append([_label(cell, numbers, several=several) for cell in row[1:end]])
        except KeyError as error:
            raise ValueError(f"row {place}: {error.args[0]!r} is not one of its {len(numbers)} classes") from None
        # The probabilities: those of the average first, then those of each model.
        found = np.array(list(map(float, row[firsts:])), np.float32).reshape(tables, -1)
        if not (found.min() >= 0 and found.max() <= 1 + SUM_TOLERANCE):  # also fails for NaN
            raise ValueError(f"row {place} has values that are not probabilities")
        if not several:
            if np.abs(found.sum(axis=1) - 1).max() > SUM_TOLERANCE:
                raise ValueError(f"row {place} has probabilities that do not sum to 1")
            if any(found[table][number] != found[table].max() for table, number in enumerate(labels[-1][1:])):
                raise ValueError(f"row {place} has a predicted class that is not the most probable of its columns")
        texts.append([row[0], *row[end:firsts]])
        values.append(found)
    if not texts:
        raise ValueError("it has no rows")
    true, predicted, *of_models = (np.array(column) for column in zip(*labels, strict=True))
    pictures, *about = map(list, zip(*texts, strict=True))
    probabilities, *models = np.stack(values, axis=1)
    return PredictionTable(
        pictures=pictures,
        classes=layout.classes,
        labels=true,
        predicted=predicted,
        probabilities=probabilities,
        models=dict(zip(layout.models, models, strict=True)),
        models_predicted=dict(zip(layout.models, of_models, strict=True)),
        **dict(zip(layout.about, about, strict=True)),
    )


def _layout(header: list[str]) -> _Layout:
    """The columns according to the first row; ValueError if they do not match the format."""
    several = tuple(header[1:3]) == SEVERAL_LABELS
    if header[:1] != ["picture"] or (not several and tuple(header[1:3]) != ONE_LABEL):
        raise ValueError(f"its first columns are not picture, true and predicted, but {', '.join(header[:3])!r}")
    rest = header[3:]
    models = list(takewhile(lambda name: name.startswith(PREDICTED_BY), rest))
    names = [name.removeprefix(PREDICTED_BY) for name in models]
    about = list(takewhile(ABOUT.__contains__, rest[len(models) :]))
    columns = rest[len(models) + len(about) :]
    count, beyond = divmod(len(columns), 1 + len(models))
    first = columns[:count]
    if not count or beyond or columns[count:] != [f"{each} by {model}" for model in names for each in first]:
        raise ValueError("it does not have one column per class for each of its models")
    classes = [_class_name(column) for column in first]
    for what, words in (("column", about), ("class", classes), ("model", names)):
        if twice := [name for name, times in Counter(words).items() if times > 1]:
            raise ValueError(f"it has more than one {what} {twice[0]!r}")
    if classes == EARLIER:
        raise ValueError("an earlier version wrote it, without the probabilities of the classes")
    return _Layout(several, names, about, classes, 3 + len(models) + len(about))


def _label(cell: str, numbers: Mapping[str, int], *, several: bool) -> np.ndarray:
    if not several:
        return np.array(numbers[cell], np.int64)
    found = np.zeros(len(numbers), np.uint8)
    for name in re.findall(r"(?:[^\\|]|\\.)+", cell, flags=re.DOTALL):
        found[numbers[re.sub(r"\\(.)", r"\1", name, flags=re.DOTALL)]] = 1
    return found


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace(SEPARATOR, f"\\{SEPARATOR}")


def _class_column(name: str) -> str:
    """The column of a class: its name, with a prefix if one of the first columns has that name."""
    return CLASS + name if _is_reserved(name) else name


def _class_name(column: str) -> str:
    return column.removeprefix(CLASS) if column.startswith(CLASS) and _is_reserved(column) else column


def _is_reserved(name: str) -> bool:
    """Whether a class name needs the prefix: it is the name of a first column, behind any number of "class ".

    Prefixing names that have the prefix already keeps different classes in different columns.
    """
    while name.startswith(CLASS):
        name = name.removeprefix(CLASS)
    return RESERVED.fullmatch(name) is not None

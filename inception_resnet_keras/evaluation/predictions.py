"""predictions.csv: every class's probability of every picture, by each model and by their average.

The one home of the format: evaluations and folds write it, comparisons and reports read it, and so does any tool that
reads CSV files. The columns, in this order:

| column | holds |
| --- | --- |
| `picture` | the picture, as reports name it |
| `true`, `predicted` | its class, and the likeliest one |
| `true labels`, `predicted labels` | in place of these, where a picture may have several labels |
| `predicted by MODEL` | of several models, what each one predicts |
| `split`, `group`, `fold`, `seed` | those that are known |
| one per class | its probability; of several models, the mean of theirs |
| `CLASS by MODEL` | of several models, one per class for each of them |

Several labels stand in one cell with "|" between them; a "|" or a backslash of a name has a backslash before it. Of two
classes the second one is the positive one. A class that is named as one of the first columns has "class " before its
name ("class split"). Probabilities have nine digits, from which float32 is read back exactly. The file is UTF-8; a byte
of a file's name that is not UTF-8 is written as it is.
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
ABOUT = ("split", "group", "fold", "seed")  # texts that are known of some pictures
PREDICTED_BY = "predicted by "
RESERVED = re.compile(
    rf"(?:picture|{'|'.join((*ONE_LABEL, *SEVERAL_LABELS, *ABOUT))}|{PREDICTED_BY}.*)", flags=re.DOTALL
)
CLASS = "class "
SEPARATOR = "|"
EARLIER = ["probability", "probability of true", "rank of true"]  # the columns of earlier versions


@dataclass(frozen=True)
class PredictionTable:
    """What models predict for labelled pictures. `prediction_table` makes one.

    pictures: The n pictures' names.
    classes: The class names, all different, in the order of the columns of the probabilities.
    labels, predicted: The true and the predicted classes, int64 (n,); of several labels per picture uint8
        (n, classes), 1 where a label applies.
    probabilities: float32 (n, classes): of the only model, or the mean of several.
    models: Of several models, each one's probabilities, by its name; otherwise empty.
    models_predicted: What each of `models` predicts, as `predicted`.
    split: "train", "val" or "test" of each picture; group: such as its patient; fold, seed: the run of a study that
        held it out. None where that is not known.
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
        """Whether a picture may have several labels."""
        return self.labels.ndim == 2

    def take(self, chosen: np.ndarray) -> PredictionTable:
        """The rows of the chosen pictures; chosen: int, their places, or bool (n,)."""
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
        """The same, of two classes, with this one as the second, which is the positive one; InputError for others."""
        return self.in_order(require_positive(self.classes, positive, several=self.multi_label))

    def in_order(self, order: np.ndarray) -> PredictionTable:
        """The same with the classes, by their places, in another order."""
        numbers = np.argsort(order)  # the new place of a class

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
        """Writes the file, whole or not at all; the file's folder exists."""
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
        told = [self.labels, self.predicted, *(self.models_predicted[model] for model in self.models)]
        texts = [*map(self._texts, told), *(values for _, values in about)]
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
    """Makes a table of predictions.

    Args:
        pictures, classes, labels, probabilities, split, group, fold, seed: As in `PredictionTable`.
        models: Of several models, the name and the probabilities of each. Of models of one name, each gets its
            place behind the name: "a.keras (1)".
        thresholds, models_thresholds: Of several labels per picture, (classes,): a label is predicted where its
            probability is at least this; of `probabilities`, and of each of `models`.
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
    """The names, with its place behind each that is there more than once."""
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
    """Makes the table of a source's pictures, with their split and their groups where these are known.

    Args:
        source: The pictures.
        classes, labels, probabilities, models, thresholds: As for `prediction_table`.
        read: int (n,), the places in the source of the pictures that were read; None for all.
        part: The split of all of them, where the source names none.
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
    """The rows of tables of the same classes and models, one table after the other.

    What is known of the pictures of some tables only is "" for the others.
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
    """Reads a predictions.csv.

    Raises:
        InputError: There is no such file, or it is damaged: other columns, a row that is too short, a class that is
            none of its columns, a value that is no probability, or a predicted class that is not the likeliest.
    """
    try:
        with io.TextIOWrapper(open_regular(path), "utf-8", "surrogateescape", newline="") as file:
            return _read(csv.reader(file, strict=True))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; `evaluate` writes it into its folder") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path}: is damaged ({str(error)[:300]}): restore it, or evaluate again") from None


@dataclass(frozen=True)
class _Layout:
    several: bool
    models: list[str]
    about: list[str]
    classes: list[str]
    firsts: int  # the columns before those of the classes


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
            raise ValueError(f"row {place} has {len(row)} columns, and the first row {columns}")
        told = 3 + len(layout.models)
        try:
            labels.append([_label(cell, numbers, several=several) for cell in row[1:told]])
        except KeyError as error:
            raise ValueError(f"row {place}: {error.args[0]!r} is none of its {len(numbers)} classes") from None
        found = np.array(list(map(float, row[firsts:])), np.float32).reshape(tables, -1)
        if not (found.min() >= 0 and found.max() <= 1 + SUM_TOLERANCE):  # of NaN neither holds
            raise ValueError(f"row {place} has values that are no probabilities")
        if not several:
            if np.abs(found.sum(axis=1) - 1).max() > SUM_TOLERANCE:
                raise ValueError(f"row {place} has probabilities that do not sum to 1")
            if any(found[table][said] != found[table].max() for table, said in enumerate(labels[-1][1:])):
                raise ValueError(f"row {place} has a predicted class that is not the likeliest of its columns")
        texts.append([row[0], *row[told:firsts]])
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
    """The columns, as the first row names them; ValueError where they are not those of the format."""
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
        raise ValueError("it has not one column per class for each of its models")
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
    """The column of a class: its name, but for those that are also named as one of the first columns."""
    return CLASS + name if _is_reserved(name) else name


def _class_name(column: str) -> str:
    return column.removeprefix(CLASS) if column.startswith(CLASS) and _is_reserved(column) else column


def _is_reserved(name: str) -> bool:
    """Whether it is a first column's name, also behind any number of "class ": no two names have one column."""
    while name.startswith(CLASS):
        name = name.removeprefix(CLASS)
    return RESERVED.fullmatch(name) is not None

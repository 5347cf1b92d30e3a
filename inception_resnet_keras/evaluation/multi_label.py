"""What a model of several labels per picture gets right and wrong: thresholds, scores of each label and of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from ..common.errors import InputError
from ..common.packages import required
from .intervals import Units, Value
from .label_intervals import label_values, mean_values

DEFAULT_THRESHOLD = 0.5
# The scores of all labels, and what headlines call them.
LABEL_NAMES = {
    "mean_average_precision": "mean average precision",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "subset_accuracy": "all labels right",
}


@dataclass(frozen=True)
class LabelScore:
    """How well one label is predicted.

    threshold: The label is predicted where its probability is at least this.
    precision, recall, f1: At that threshold, in [0, 1]; 0 where there is nothing to divide by.
    average_precision, auc: Over all thresholds, in [0, 1]: the areas under the precision-recall and the ROC curve. None
        where no picture has the label; of the ROC curve also where all pictures have it.
    support: The number of pictures that have the label.
    values: These and the specificity with 95 % intervals; without those that have nothing to divide by. Empty of a
        report that was read from a file.
    """

    name: str
    threshold: float
    precision: float
    recall: float
    f1: float
    average_precision: float | None
    auc: float | None
    support: int
    values: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelMistake:
    """A picture of which a label is missed, or predicted and not there. true, predicted: The names of its labels."""

    index: int
    name: str
    true: list[str]
    predicted: list[str]

    @property
    def missed(self) -> list[str]:
        return [name for name in self.true if name not in self.predicted]

    @property
    def added(self) -> list[str]:
        """Labels that are predicted and not there."""
        return [name for name in self.predicted if name not in self.true]


@dataclass(frozen=True)
class MultiLabelReport:
    """Scores of a model of several labels per picture, all in [0, 1].

    pictures: How many were scored.
    mean_average_precision: The mean of the labels' average precisions, over the labels that a picture has.
    micro_f1: F1 of all decisions, one per picture and label.
    macro_f1: The mean of the labels' F1, over the labels that a picture has.
    subset_accuracy: The share of pictures whose labels are all predicted and no other.
    classes: The scores of each label.
    mistakes: The pictures with a wrong label, those with the most first; of as many, the surest.
    unreadable: Files that were left out, each with why.
    values: The scores of all labels, and the mean of their AUC ("mean_auc"), with 95 % intervals; as those of labels.
    groups: How many groups of pictures the intervals are by; None where no groups are known.
    """

    pictures: int
    mean_average_precision: float
    micro_f1: float
    macro_f1: float
    subset_accuracy: float
    classes: list[LabelScore]
    mistakes: list[LabelMistake]
    unreadable: list[tuple[str, str]]
    values: dict[str, Value] = field(default_factory=dict)
    groups: int | None = None

    @property
    def accuracy(self) -> float:
        """The subset accuracy."""
        return self.subset_accuracy

    @property
    def headline(self) -> str:
        """Such as "mean average precision 81.2 % (74.0–86.9), micro F1 …, macro F1 …, all labels right …"."""
        return ", ".join(f"{called} {self.text(name)}" for name, called in LABEL_NAMES.items() if called)

    def text(self, name: str) -> str:
        """A score of all labels by the name of its field, with its interval if that is known."""
        return self.values.get(name, Value(getattr(self, name))).percent()

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def multi_label_report(
    labels: np.ndarray,
    probabilities: np.ndarray,
    thresholds: Sequence[float] | np.ndarray,
    class_names: Sequence[str],
    picture_names: Sequence[str],
    *,
    unreadable: Sequence[tuple[str, str]] = (),
    groups: Sequence[str] | None = None,
) -> MultiLabelReport:
    """Scores the probabilities of a model of several labels per picture.

    Args:
        labels: (n, classes), 1 where a picture has a label, else 0.
        probabilities: (n, classes), in [0, 1].
        thresholds: One per class: a label is predicted where its probability is at least this. Or (n, classes), a row
            for each picture; the report then has their means.
        class_names, picture_names: What the report calls the labels and the pictures.
        unreadable: Files that were left out, with reasons, to be listed.
        groups: The group of each picture, by which the intervals are then, "" for none; None for no groups.

    Raises:
        InputError: No picture has a label.
    """
    metrics = required("sklearn.metrics", "a report")
    mean = mean_average_precision(labels, probabilities)
    cuts = np.asarray(thresholds, np.float64)
    predicted = (probabilities >= cuts).astype(np.uint8)
    scores = metrics.precision_recall_fscore_support(labels, predicted, average=None, zero_division=0)
    counts = labels.sum(axis=0, dtype=np.int64)
    precisions = average_precisions(labels, probabilities)
    areas = [
        float(metrics.roc_auc_score(labels[:, label], probabilities[:, label])) if 0 < count < len(labels) else None
        for label, count in enumerate(counts.tolist())
    ]
    occurring = np.flatnonzero(counts)
    units = Units(len(labels), groups)
    of_labels = label_values(labels, predicted, probabilities, units)
    return MultiLabelReport(
        pictures=len(labels),
        mean_average_precision=mean,
        micro_f1=float(metrics.f1_score(labels, predicted, average="micro", zero_division=0)),
        macro_f1=float(np.mean(scores[2][occurring])),
        subset_accuracy=float(metrics.accuracy_score(labels, predicted)),
        classes=[
            LabelScore(
                name, float(threshold), float(precision), float(recall), float(f1), average, area, int(support), values
            )
            for name, threshold, precision, recall, f1, support, average, area, values in zip(
                class_names, np.atleast_2d(cuts).mean(axis=0), *scores, precisions, areas, of_labels, strict=True
            )
        ],
        mistakes=_mistakes(labels, probabilities, predicted, class_names, picture_names),
        unreadable=list(unreadable),
        values=mean_values(labels, predicted, probabilities, units, of_labels),
        groups=len(units) if units.grouped else None,
    )


def score_text(score: LabelScore, name: str) -> str:
    """A label's score by the name of its field, with its interval if that is known; "–" for none."""
    value = getattr(score, name)
    return "–" if value is None else score.values.get(name, Value(value)).percent()


def label_area_intervals(report: MultiLabelReport, key: str) -> dict[str, tuple[float, float]]:
    """The intervals of "auc" or "average_precision", by label, and by "" that of the mean, if curves have it."""
    mean = {"auc": "mean_auc", "average_precision": "mean_average_precision"}[key]
    values = {score.name: score.values.get(key) for score in report.classes}
    if all(score.auc is not None for score in report.classes if score.support):  # no curve is missing in the mean
        values[""] = report.values.get(mean)
    return {
        name: (value.low, value.high)
        for name, value in values.items()
        if value is not None and value.low is not None and value.high is not None
    }


def _mistakes(
    labels: np.ndarray,
    probabilities: np.ndarray,
    predicted: np.ndarray,
    class_names: Sequence[str],
    picture_names: Sequence[str],
) -> list[LabelMistake]:
    wrong = labels != predicted
    counts = wrong.sum(axis=1)
    # How far the probabilities of the wrong labels are from the truth, summed.
    distances = (np.abs(labels - probabilities.astype(np.float64)) * wrong).sum(axis=1)
    chosen = np.flatnonzero(counts)
    order = chosen[np.lexsort((-distances[chosen], -counts[chosen]))]

    def names(row: np.ndarray) -> list[str]:
        return [class_names[label] for label in np.flatnonzero(row).tolist()]

    return [
        LabelMistake(index, picture_names[index], names(labels[index]), names(predicted[index]))
        for index in order.tolist()
    ]


def average_precisions(labels: np.ndarray, probabilities: np.ndarray) -> list[float | None]:
    """The average precision of each label, in [0, 1]; None for a label that no picture has.

    Args:
        labels: (n, classes), 1 where a picture has a label, else 0.
        probabilities: (n, classes).
    """
    score = required("sklearn.metrics", "a report").average_precision_score
    pairs = zip(labels.T, probabilities.T, strict=True)
    return [float(score(truth, given)) if truth.any() else None for truth, given in pairs]


def mean_average_precision(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean of `average_precisions`, over the labels that a picture has; InputError where no picture has any."""
    found = [value for value in average_precisions(labels, probabilities) if value is not None]
    if not found:
        raise InputError(f"none of the {len(labels):,} pictures that are evaluated has a label; nothing can be scored")
    return float(np.mean(found))


def best_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> list[float]:
    """The threshold of each label that gives it the greatest F1 on these pictures.

    It lies half-way between two probabilities; of equally good ones the highest is taken. A label that no picture has
    gets `DEFAULT_THRESHOLD`, because nothing can be chosen by.

    Args:
        labels: (n, classes), 1 where a picture has a label, else 0.
        probabilities: (n, classes), in [0, 1].
    """
    curve = required("sklearn.metrics", "thresholds").precision_recall_curve
    found = []
    for truth, given in zip(labels.T, probabilities.T.astype(np.float64), strict=True):
        if not truth.any():
            found.append(DEFAULT_THRESHOLD)
            continue
        precision, recall, cuts = curve(truth, given)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-30)
        best = float(cuts[np.flatnonzero(f1[:-1] == f1[:-1].max())[-1]])
        below = given[given < best]
        found.append((best + (float(below.max()) if len(below) else 0.0)) / 2)
    return found

"""Scores of models with several labels per image: thresholds, scores of each label and of all labels, mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from ..common.errors import InputError
from ..common.packages import required
from .intervals import Units, Value
from .label_intervals import label_values, mean_values

DEFAULT_THRESHOLD = 0.5
# The scores of all labels, and their names in headlines.
LABEL_NAMES = {
    "mean_average_precision": "mean average precision",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "subset_accuracy": "all labels right",
}


@dataclass(frozen=True)
class LabelScore:
    """The scores of one label.

    Attributes:
        name: The name of the label.
        threshold: The label is predicted if its probability is at least this.
        precision, recall, f1: The scores at that threshold, in [0, 1]; 0 where the denominator is 0.
        average_precision: The area under the precision-recall curve, in [0, 1]; None if no image has the label.
        auc: The area under the ROC curve, in [0, 1]; None if no image or every image has the label.
        support: The number of images that have the label.
        values: These and the specificity with 95 % intervals, without those whose denominator is 0. Empty in a report
            that was read from a file.
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
    """An image with a wrong label.

    Attributes:
        index: The index of the image.
        name: The name of the image.
        true, predicted: The names of its true and its predicted labels.
    """

    index: int
    name: str
    true: list[str]
    predicted: list[str]

    @property
    def missed(self) -> list[str]:
        """The true labels that are not predicted."""
        return [name for name in self.true if name not in self.predicted]

    @property
    def added(self) -> list[str]:
        """The predicted labels that are not true."""
        return [name for name in self.predicted if name not in self.true]


@dataclass(frozen=True)
class MultiLabelReport:
    """The scores of a model with several labels per image, all in [0, 1].

    Attributes:
        pictures: The number of images.
        mean_average_precision: The mean of the labels' average precisions, over the labels that occur.
        micro_f1: F1 of all decisions, one per image and label.
        macro_f1: The mean of the labels' F1, over the labels that occur.
        subset_accuracy: The share of images whose predicted labels are exactly the true ones.
        classes: The scores of each label.
        mistakes: The images with wrong labels, those with the most wrong labels first, then the most confident ones.
        unreadable: (file, reason) of each file that was left out.
        values: The scores of all labels, and the mean of their AUC ("mean_auc"), with 95 % intervals. Empty in a report
            that was read from a file.
        groups: The number of groups that the intervals are based on; None if no groups are known.
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
        """The scores in words: "mean average precision 81.2 % (74.0–86.9), micro F1 …, macro F1 …, …"."""
        return ", ".join(f"{called} {self.text(name)}" for name, called in LABEL_NAMES.items() if called)

    def text(self, name: str) -> str:
        """A score of all labels as text, by its attribute's name, with its interval if that is known."""
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
    """Score the probabilities of a model with several labels per image.

    Args:
        labels: (n, classes), 1 where an image has a label, otherwise 0.
        probabilities: (n, classes), in [0, 1].
        thresholds: (classes,): a label is predicted if its probability is at least this. Or (n, classes), a row per
            image; the report then has their means.
        class_names: The names of the labels.
        picture_names: The names of the images.
        unreadable: (file, reason) of each file that was left out, for the report.
        groups: The group of each image, "" for none: intervals are then based on groups. None for no groups.

    Raises:
        InputError: No image has a label.
    """
    # Scores by scikit-learn; macro averages leave out labels that no image has.
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
    # The same scores with intervals.
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
    """A label's score as text, by its attribute's name, with its interval if that is known; "–" for None."""
    value = getattr(score, name)
    return "–" if value is None else score.values.get(name, Value(value)).percent()


def label_area_intervals(report: MultiLabelReport, key: str) -> dict[str, tuple[float, float]]:
    """The intervals of "auc" or "average_precision" by label; the mean's is under "", if all labels have curves."""
    mean = {"auc": "mean_auc", "average_precision": "mean_average_precision"}[key]
    values = {score.name: score.values.get(key) for score in report.classes}
    if all(score.auc is not None for score in report.classes if score.support):
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
    # The confidence of a mistake: the distance of the probabilities of wrong labels from the truth, summed.
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
    """The average precision of each label, in [0, 1]; None for a label that no image has.

    Args:
        labels: (n, classes), 1 where an image has a label, otherwise 0.
        probabilities: (n, classes).
    """
    score = required("sklearn.metrics", "a report").average_precision_score
    pairs = zip(labels.T, probabilities.T, strict=True)
    return [float(score(truth, given)) if truth.any() else None for truth, given in pairs]


def mean_average_precision(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The mean of `average_precisions` over the labels that occur.

    Raises:
        InputError: No image has a label.
    """
    found = [value for value in average_precisions(labels, probabilities) if value is not None]
    if not found:
        raise InputError(f"none of the {len(labels):,} evaluated pictures has a label; give pictures with labels")
    return float(np.mean(found))


def best_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> list[float]:
    """The threshold of each label that maximises its F1 on these images.

    Each threshold lies half-way between two probabilities; among equally good ones the highest is taken. A label that
    no image has gets `DEFAULT_THRESHOLD`.

    Args:
        labels: (n, classes), 1 where an image has a label, otherwise 0.
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

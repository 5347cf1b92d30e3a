"""The report of a classifier on labelled images: scores by class, confusion matrix and mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ..common.console import counted
from ..common.packages import required
from .intervals import Value
from .metrics import NAMES, Figures, balanced_accuracy, figures

# Columns of a history with held-out metrics besides loss and accuracy, and their names in figures.
HELD_OUT_FIGURES = {"val_balanced_accuracy": "balanced", "val_mean_average_precision": "mean average precision"}


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class.

    Attributes:
        name: The name of the class.
        precision, recall, f1: In [0, 1]; 0 where the denominator is 0.
        support: The number of images of the class.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Mistake:
    """A misclassified image.

    Attributes:
        index: The index of the image.
        name: The name of the image.
        true, predicted: The names of its true and its predicted class.
        probability: The probability of the predicted class, in [0, 1].
    """

    index: int
    name: str
    true: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Report:
    """The report of a classifier.

    Attributes:
        accuracy: The share of images that are classified correctly, in [0, 1].
        balanced_accuracy: The mean of the classes' recalls, over the classes that have images, in [0, 1].
        rarest: The class with the fewest images, among several the one with the lowest recall; None if all classes have
            equally many.
        classes: The scores of each class.
        confusion: `confusion[true][predicted]` is a number of images.
        mistakes: The misclassified images, the most confident ones first.
        unreadable: (file, reason) of each file that was left out.
        figures: These and further metrics with 95 % intervals; None in a report that was read from a file.
    """

    accuracy: float
    balanced_accuracy: float
    rarest: ClassScore | None
    classes: list[ClassScore]
    confusion: list[list[int]]
    mistakes: list[Mistake]
    unreadable: list[tuple[str, str]]
    figures: Figures | None = None

    @property
    def headline(self) -> str:
        """In words: "accuracy 96.19% (94.10–97.55), balanced accuracy 60.00% (41.52–71.30); rarest class 'b', …"."""
        values = self.figures.values if self.figures else {}
        named = {"accuracy": self.accuracy, "balanced_accuracy": self.balanced_accuracy}
        text = ", ".join(f"{NAMES[key]} {share:.2%}{_interval(values.get(key))}" for key, share in named.items())
        return f"{text}; {self.rarest_class}" if self.rarest else text

    @property
    def rarest_class(self) -> str:
        """The rarest class and its recall, in words; "" if all classes have equally many images."""
        if self.rarest is None:
            return ""
        name, pictures, recall = self.rarest.name, self.rarest.support, self.rarest.recall
        return f"rarest class {name!r}, {counted(pictures, 'picture')}: recall {recall:.1%}"

    @property
    def pictures(self) -> int:
        """The number of images."""
        return sum(score.support for score in self.classes)

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def classification_report(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    picture_names: Sequence[str],
    unreadable: Sequence[tuple[str, str]] = (),
    *,
    groups: Sequence[str] | None = None,
) -> Report:
    """Make the report of a classifier's probabilities.

    Args:
        labels: (n,) indices of the true classes.
        probabilities: (n, classes), the outputs of the model.
        class_names: The names of the classes.
        picture_names: The names of the images.
        unreadable: (file, reason) of each file that was left out, for the report.
        groups: The group of each image, "" for none: intervals are then based on groups. None for no groups.
    """
    # Scores of all classes, also of those without images, so that the confusion matrix is complete.
    metrics = required("sklearn.metrics", "a report")
    predicted = probabilities.argmax(axis=1)
    every = np.arange(len(class_names))
    scores = metrics.precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0)
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    classes = [
        ClassScore(name, float(precision), float(recall), float(f1), int(support))
        for name, precision, recall, f1, support in zip(class_names, *scores, strict=True)
    ]
    # "Rarest" means something only if the classes that occur differ in size.
    occurring = [score for score in classes if score.support]
    even = len({score.support for score in occurring}) == 1
    return Report(
        accuracy=float(np.mean(predicted == labels)),
        balanced_accuracy=balanced_accuracy(labels, predicted),
        rarest=None if even else min(occurring, key=lambda score: (score.support, score.recall)),
        classes=classes,
        confusion=metrics.confusion_matrix(labels, predicted, labels=every).tolist(),
        mistakes=[
            Mistake(
                int(index),
                picture_names[index],
                class_names[labels[index]],
                class_names[predicted[index]],
                float(confidence[index]),
            )
            for index in wrong[np.argsort(-confidence[wrong], kind="stable")]
        ],
        unreadable=list(unreadable),
        figures=figures(labels, probabilities, class_names, groups),
    )


def _interval(value: Value | None) -> str:
    if value is None or value.low is None or value.high is None:
        return ""
    return f" ({100 * value.low:.2f}–{100 * value.high:.2f})"


def most_confused(report: Report, most: int = 20) -> list[tuple[str, str, int]]:
    """(true class, predicted class, number of images) of the most frequent confusions, the most frequent first."""
    counts = np.array(report.confusion)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:most]
    pairs = zip(*np.unravel_index(order, counts.shape), strict=True)
    names = [score.name for score in report.classes]
    return [(names[true], names[other], int(counts[true, other])) for true, other in pairs if counts[true, other]]

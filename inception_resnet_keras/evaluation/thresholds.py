"""thresholds.csv: the counts and rates at each threshold of a class's probability, to weigh misses and false alarms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..common.files import write_csv

THRESHOLDS = "thresholds.csv"
HEADER = [
    *("class", "threshold", "true positives", "false positives", "false negatives", "true negatives"),
    *("sensitivity", "specificity", "precision"),
]
MOST_THRESHOLDS = 200  # per class; if there are more distinct probabilities, their quantiles
MOST_CLASSES = 100  # with more classes, nobody chooses thresholds


def write_thresholds(folder: Path, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> None:
    """Write thresholds.csv: each class against the rest, or each label.

    A class is predicted if its probability is at least the threshold. With two classes, only the second one, the
    positive one, is listed. A threshold that is chosen on these images looks better on them than on others.

    Args:
        folder: The folder to write to.
        labels: int (n,), indices of the true classes; with several labels per image 0 and 1, (n, classes).
        probabilities: (n, classes).
        classes: The names of the classes. Nothing is written for more than `MOST_CLASSES`.
    """
    if len(classes) > MOST_CLASSES:
        return
    truth = labels.astype(bool) if labels.ndim == 2 else labels[:, None] == np.arange(len(classes))
    first = 1 if labels.ndim == 1 and len(classes) == 2 else 0
    rows = (
        [classes[number], *row]
        for number in range(first, len(classes))
        for row in operating_points(truth[:, number], probabilities[:, number])
    )
    write_csv(folder / THRESHOLDS, HEADER, rows)


def operating_points(positives: np.ndarray, scores: np.ndarray) -> Iterator[list[object]]:
    """The row of each threshold, in ascending order, with "" for a rate whose denominator is 0.

    Args:
        positives: bool (n,): the images of the class.
        scores: (n,): the class is predicted if the score is at least the threshold.
    """
    thresholds = np.unique(scores)
    if len(thresholds) > MOST_THRESHOLDS:
        places = np.linspace(0, len(thresholds) - 1, MOST_THRESHOLDS).round().astype(int)
        thresholds = thresholds[places]
    taken = [
        len(each) - np.searchsorted(each, thresholds) for each in map(np.sort, (scores[positives], scores[~positives]))
    ]
    total, others = int(positives.sum()), int((~positives).sum())
    for threshold, hits, alarms in zip(thresholds.tolist(), *(each.tolist() for each in taken), strict=True):
        shares = (_share(hits, total), _share(others - alarms, others), _share(hits, hits + alarms))
        yield [f"{threshold:.9g}", hits, alarms, total - hits, others - alarms, *shares]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.6f}" if whole else ""

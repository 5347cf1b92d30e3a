"""The metrics that `compare` computes for two models, and the test of each metric's difference on the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .comparison import Metric
from .delong import components
from .intervals import FEW, MOVER_OF_AREAS, Units, Value, mean_of_parts
from .metrics import area_and_influence, areas_value, balanced_accuracy, correlations, delong_variance, mean_area
from .paired import (
    PERMUTATION,
    Difference,
    influence_difference,
    mean_difference,
    mover_difference,
    paired_accuracies,
    paired_areas,
    sign_flips,
    tango,
)
from .predictions import PredictionTable


@dataclass(frozen=True)
class Contender:
    """A model in a comparison. The rows of all contenders are of the same images and runs, in the same order.

    Attributes:
        name: The model's name in reports.
        table: Its predictions; `probabilities` and `predicted` are those of this model.
    """

    name: str
    table: PredictionTable

    @property
    def right(self) -> np.ndarray:
        """bool (n,): which images it classifies correctly; with several labels, those whose labels are all correct."""
        same = self.table.predicted == self.table.labels
        return same.all(axis=1) if self.table.multi_label else same


def _accuracy(table: PredictionTable) -> float | None:
    return float(Contender("", table).right.mean())


def _of_class(table: PredictionTable, number: int) -> np.ndarray:
    """bool (n,): with two classes, the images of the positive one (1) or of the other (0); otherwise none."""
    two = len(table.classes) == 2 and not table.multi_label
    return table.labels == number if two else np.zeros(len(table), bool)


def _recall(number: int, table: PredictionTable) -> float | None:
    inside = _of_class(table, number)
    return float((table.predicted[inside] == number).mean()) if inside.any() else None


def _balanced(table: PredictionTable) -> float | None:
    return None if table.multi_label else balanced_accuracy(table.labels, table.predicted)


def _truth(table: PredictionTable) -> np.ndarray:
    """The true labels as 0 and 1, uint8 (n, classes)."""
    return table.labels if table.multi_label else np.eye(len(table.classes), dtype=np.uint8)[table.labels]


def _judged_classes(table: PredictionTable) -> list[int]:
    """The indices of the classes that have both images and counter-examples, without which an area is undefined."""
    counts = _truth(table).sum(axis=0)
    return np.flatnonzero((counts > 0) & (counts < len(table))).tolist()


def _area(table: PredictionTable) -> float | None:
    truth, classes = _truth(table).astype(bool), _judged_classes(table)
    areas = [components(truth[:, each], table.probabilities[:, each])[0][0] for each in classes]
    return float(np.mean(areas)) if areas else None


def _brier(table: PredictionTable) -> float | None:
    return float(_brier_losses(table).mean())


def _brier_losses(table: PredictionTable) -> np.ndarray:
    """(n,): squared errors of the probabilities, summed over the classes; averaged over the labels if several apply."""
    squares = np.square(table.probabilities.astype(np.float64) - _truth(table))
    return squares.mean(axis=1) if table.multi_label else squares.sum(axis=1)


VALUES: Mapping[Metric, Callable[[PredictionTable], float | None]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced,
    "sensitivity": partial(_recall, 1),
    "specificity": partial(_recall, 0),
    "auc": _area,
    "brier": _brier,
}


# The metrics that are a share of images, and the images that each refers to.
COUNTED: Mapping[Metric, Callable[[PredictionTable], np.ndarray]] = {
    "accuracy": lambda table: np.ones(len(table), bool),
    "sensitivity": lambda table: _of_class(table, 1),
    "specificity": lambda table: _of_class(table, 0),
}


def disagreements(metric: Metric, first: Contender, second: Contender) -> tuple[int, int, int] | None:
    """How many images of the metric only the first classifies correctly, how many only the second, and their number."""
    if metric not in COUNTED:
        return None
    inside = COUNTED[metric](first.table)
    _, only_first, only_second = paired_accuracies(first.right[inside], second.right[inside])
    return only_first, only_second, int(inside.sum())


def _share_difference(metric: Metric, first: Contender, second: Contender, units: Units) -> Difference:
    inside = COUNTED[metric](first.table)
    before, after, units = first.right[inside], second.right[inside], units.of(inside)
    if not units.grouped:
        return paired_accuracies(before, after)[0]
    return _mean_difference(after.astype(float) - before, np.full(len(before), 1 / len(before)), units)


def _balanced_difference(first: Contender, second: Contender, units: Units) -> Difference:
    labels = first.table.labels
    counts = np.bincount(labels, minlength=len(first.table.classes))
    weights = 1 / (counts[labels] * (counts > 0).sum())
    different = second.right.astype(float) - first.right
    if units.grouped:
        return _mean_difference(different, weights, units, labels)
    # The classes' accuracies are independent, so the interval of their mean follows from Tango's interval of each.
    parts = []
    for number in np.flatnonzero(counts):
        inside = labels == number
        only = [int((different[inside] == sign).sum()) for sign in (-1, 1)]
        limits = tango(only[0], only[1], int(counts[number]))
        parts.append(Value((only[1] - only[0]) / counts[number], *limits))
    found = mean_of_parts(parts, "MOVER of Tango's", least=-1.0)
    return Difference(found.value, found.low, found.high, sign_flips(weights * different), found.method, PERMUTATION)


def _mean_difference(
    different: np.ndarray, weights: np.ndarray, units: Units, strata: np.ndarray | None = None
) -> Difference:
    """A weighted mean of the images' differences, tested over independent units.

    strata: int (n,): classes whose means are estimated separately; None for one mean.
    """
    numbers = np.zeros(len(different), int) if strata is None else strata
    counts = np.maximum(np.bincount(numbers), 1)
    means = np.bincount(numbers, different) / counts
    return mean_difference(units.totals(weights * different), units.totals(weights * (different - means[numbers])))


def _area_difference(first: Contender, second: Contender, units: Units) -> Difference:
    table = first.table
    truth, two = _truth(table).astype(bool), len(table.classes) == 2 and not table.multi_label
    classes = [1] if two else _judged_classes(table)
    areas, influences = [], []
    for contender in (first, second):
        parts = [(truth[:, each], contender.table.probabilities[:, each]) for each in classes]
        areas.append(mean_area(parts, [areas_value(*part, units) for part in parts], units))
        influences.append(np.mean([area_and_influence(*part)[1] for part in parts], axis=0))
    different = influences[1] - influences[0]
    # Both order the images alike, or separate the classes perfectly.
    if float((units.totals(different) ** 2).sum()) <= 1e-16:
        value = areas[1].value - areas[0].value
        return Difference(value, p=1.0 if abs(value) < 1e-12 else None, test=MOVER_OF_AREAS)
    totals = np.stack([units.totals(each) for each in influences])
    correlation = float(correlations(totals)[0, 1]) if all(map(np.any, totals)) else 0.0
    # With few images of a class, the correlation is hardly known: Student's quantile says so.
    freedom = min(delong_variance(truth[:, each], different, units)[1] for each in classes)
    found = mover_difference(areas[0], areas[1], correlation, freedom)
    if two and not units.grouped and min(np.bincount(table.labels)) >= FEW:
        of_delong = paired_areas(truth[:, 1], table.probabilities[:, 1], second.table.probabilities[:, 1])
        return replace(found, p=of_delong.p, test=of_delong.test)
    return found


def _brier_difference(first: Contender, second: Contender, units: Units) -> Difference:
    different = _brier_losses(second.table) - _brier_losses(first.table)
    influence = (different - different.mean()) / len(different)
    return influence_difference(float(different.mean()), units.totals(influence))


DIFFERENCES: Mapping[Metric, Callable[[Contender, Contender, Units], Difference]] = {
    "accuracy": partial(_share_difference, "accuracy"),
    "balanced_accuracy": _balanced_difference,
    "sensitivity": partial(_share_difference, "sensitivity"),
    "specificity": partial(_share_difference, "specificity"),
    "auc": _area_difference,
    "brier": _brier_difference,
}

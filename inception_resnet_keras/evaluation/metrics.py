"""Metrics of a classifier on labelled images, each with its 95 % interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..common.packages import required
from .calibration import BINS, Calibration, calibration, confidence_and_correct
from .delong import components
from .intervals import (
    BINORMAL,
    DELONG,
    ERROR_OF_BINS,
    FEW,
    JACKKNIFE,
    LINEAR,
    MOVER,
    MOVER_OF_AREAS,
    NEWCOMBE,
    Units,
    Value,
    binormal_precision,
    bootstrap,
    by_influence,
    f1_of,
    mean,
    mean_of_parts,
    newcombe,
    on_logit_scale,
    shares,
)

TOP = 5

# The metrics over all classes, and their names in reports.
NAMES = {
    "accuracy": "accuracy",
    "top5": "top-5 accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "macro_f1": "F1, mean of the classes",
    "mcc": "Matthews' correlation",
    "kappa": "Cohen's kappa",
    "quadratic_kappa": "Cohen's kappa, quadratic",
    "auc": "AUC, one class against the rest, mean",
    "average_precision": "average precision, mean",
    "brier": "Brier score",
    "ece": "calibration error",
}
OF_TWO = {"auc": "AUC", "average_precision": "average precision"}  # with two classes: of the positive one, not means
OF_POSITIVE = ("sensitivity", "specificity", "precision", "f1")  # with two classes only, of the positive one
CLASS_NAMES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "auc": "AUC",
    "average_precision": "average precision",
}


@dataclass(frozen=True)
class ClassFigures:
    """Metrics of one class against all others, in [0, 1], with intervals; None where the denominator is 0.

    Attributes:
        name: The name of the class.
        pictures: The number of images of the class.
        sensitivity: The share of its images that are classified as it (recall).
        specificity: The share of other images that are not classified as it.
        precision: The share of images classified as it that belong to it.
        f1: The harmonic mean of precision and sensitivity.
        auc: Area under the ROC curve of its probability.
        average_precision: Area under its precision-recall curve, as scikit-learn computes it.
    """

    name: str
    pictures: int
    sensitivity: Value | None
    specificity: Value | None
    precision: Value | None
    f1: Value | None
    auc: Value | None
    average_precision: Value | None


@dataclass(frozen=True)
class Figures:
    """The metrics of a classifier.

    Attributes:
        pictures: The number of classified images.
        top1: The share of images whose most probable class is the true one, in [0, 1].
        interval: The 95 % interval of `top1` (Wilson's).
        top5: The share of images whose true class is among the five most probable ones; None for up to five classes.
        balanced: The balanced accuracy: the mean of the classes' recalls, over the classes that have images.
        macro_f1: The mean of the classes' F1, over the classes that have images.
        calibration: The calibration of the most probable class.
        values: These and further metrics with their intervals, by the keys of `NAMES`, without those that need more
            classes. The quadratic kappa is meaningful only if the classes are ordered, such as grades. With two
            classes, sensitivity, specificity, precision, F1, AUC and average precision are those of the positive class.
        classes: The metrics of each class that has images.
        groups: The number of groups that the intervals are based on; None if no groups are known.
        positive: With two classes the second one, which is the positive one; otherwise None.
    """

    pictures: int
    top1: float
    interval: tuple[float, float]
    top5: float | None
    balanced: float
    macro_f1: float
    calibration: Calibration
    values: dict[str, Value] = field(default_factory=dict)
    classes: list[ClassFigures] = field(default_factory=list)
    groups: int | None = None
    positive: str | None = None


def figure_names(found: Figures) -> dict[str, str]:
    """The names of the metrics in reports, by the keys of `Figures.values`."""
    return NAMES if found.positive is None else NAMES | OF_TWO


def figures(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> Figures:
    """Compute the metrics of a classifier.

    Args:
        labels: (n,) indices of the true classes; n is at least 1.
        probabilities: (n, classes); each row sums to 1. With two classes, the second one is the positive one.
        class_names: The names of the classes; None takes their indices.
        groups: The group of each image, such as its patient, "" for none: intervals are then based on groups. None for
            no groups.
    """
    # Shares: their intervals are Wilson's.
    units = Units(len(labels), groups)
    names = class_names or [str(number) for number in range(probabilities.shape[1])]
    ranks, predicted = true_class_ranks(labels, probabilities), probabilities.argmax(axis=1)
    every = np.ones(len(labels), bool)
    classes, balanced = _classes(labels, probabilities, predicted, names, units)
    accuracy, top5 = shares(np.stack([ranks == 0, ranks < TOP], axis=1), np.stack([every, every], axis=1), units)
    assert accuracy is not None
    values: dict[str, Value] = {"accuracy": accuracy}
    if top5 is not None and probabilities.shape[1] > TOP:
        values["top5"] = top5
    values["balanced_accuracy"] = balanced
    positive = names[1] if probabilities.shape[1] == 2 else None
    values |= {
        key: value
        for each in classes
        if positive is not None and each.name == positive
        for key in OF_POSITIVE
        if (value := getattr(each, key)) is not None
    }
    # Areas: the mean over the classes, if there are at least two, so that each has counter-examples.
    areas = dict(zip(np.unique(labels).tolist(), (each.auc for each in classes), strict=True))
    if len(areas) > 1:
        judged = list(areas) if positive is None else [1]
        of_classes = [(labels == number, probabilities[:, number]) for number in judged]
        values["auc"] = mean_area(of_classes, [area for number in judged if (area := areas[number])], units)
        fewest = min(freedom_of(true, units) for true, _ in of_classes)
        precisions = [precision_and_influence(*each) for each in of_classes]
        found = mean_of_influences(precisions, units, JACKKNIFE, fewest if units.grouped else None)
        values["average_precision"] = flawless_precision(of_classes, units) if found.value == 1 else found
    # All other metrics are resampled. Without any mistake the resamples do not vary: intervals come from the shares.
    values |= _resampled(labels, probabilities, predicted, units)
    if accuracy.value == 1:
        values |= _flawless(labels, accuracy, classes, values)
    return Figures(
        pictures=len(labels),
        top1=accuracy.value,
        interval=(accuracy.low or 0.0, 1.0 if accuracy.high is None else accuracy.high),
        top5=values["top5"].value if "top5" in values else None,
        balanced=balanced.value,
        macro_f1=values["macro_f1"].value,
        calibration=calibration(labels, probabilities),
        values={name: values[name] for name in NAMES if name in values},
        classes=classes,
        groups=len(units) if units.grouped else None,
        positive=positive,
    )


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The mean of the classes' recalls, in [0, 1], over the classes that have images.

    Each class has the same weight, however many images it has.

    Args:
        labels: int (n,), indices of the true classes; n is at least 1.
        predicted: int (n,), indices of the predicted classes.
    """
    counts = np.bincount(labels)
    right = np.bincount(labels[predicted == labels], minlength=len(counts))
    return float(np.mean(right[counts > 0] / counts[counts > 0]))


def true_class_ranks(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(n,): the rank of the true class, 0 for the most probable one; among equally probable ones lower indices lead."""
    of_truth = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    return ((probabilities > of_truth) | ((probabilities == of_truth) & earlier)).sum(axis=1)


def _classes(
    labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, names: Sequence[str], units: Units
) -> tuple[list[ClassFigures], Value]:
    """The metrics of each class that has images, and the balanced accuracy."""
    found, parts = [], []
    influence, right = np.zeros(len(labels)), predicted == labels
    occurring = np.unique(labels).tolist()
    for number in occurring:
        true, positive = labels == number, predicted == number
        hits = np.stack([true & positive, ~true & ~positive, true & positive, true & positive], axis=1)
        among = np.stack([true, ~true, positive, true | positive], axis=1)
        sensitivity, specificity, precision, jaccard = shares(hits, among, units)
        assert sensitivity is not None
        parts.append(sensitivity)
        influence[true] = (right[true] - sensitivity.value) / (true.sum() * len(occurring))
        both = not true.all()
        area = areas_value(true, probabilities[:, number], units) if both else None
        average = None
        if both:
            average = precision_value(true, probabilities[:, number], units)
        found.append(
            ClassFigures(
                names[number], int(true.sum()), sensitivity, specificity, precision, f1_of(jaccard), area, average
            )
        )
    # The recalls of the classes are independent unless a group has images of several classes.
    present = np.stack([units.totals((labels == number).astype(float)) > 0 for number in occurring], axis=1)
    if not units.grouped or present.sum(axis=1).max() == 1:
        return found, mean_of_parts(parts, units.method(MOVER))
    fewest = min(freedom_of(labels == number, units) for number in occurring)
    return found, by_influence(float(np.mean([part.value for part in parts])), influence, units, LINEAR, fewest)


def freedom_of(positives: np.ndarray, units: Units) -> int:
    """The degrees of freedom of a metric that varies with the groups of one class: their number minus 1."""
    return int((units.totals(positives.astype(float)) > 0).sum()) - 1


def areas_value(positives: np.ndarray, scores: np.ndarray, units: Units) -> Value:
    """The area under the ROC curve with DeLong's interval; Newcombe's if the area is 0 or 1, or if images are few.

    Args:
        positives: bool (n,), with both positive and negative images.
        scores: float (n,): higher means more likely positive.
        units: The units of the n images.
    """
    area, influence = area_and_influence(positives, scores)
    kinds = positives, ~positives
    if min(freedom_of(each, units) for each in kinds) + 1 >= FEW:
        estimated, freedom = delong_variance(positives, influence, units)
        variance = max(estimated, float((units.totals(influence) ** 2).sum()))
        if 0 < area < 1 and estimated > 0:
            return on_logit_scale(area, float(np.sqrt(variance)), units.method(DELONG), freedom)
    # As many independent images as there would be if all groups had the same size.
    share = len(units) / units.pictures if units.grouped else 1.0
    low, high = newcombe(area, *(max(float(each.sum()) * share, 1.0) for each in kinds))
    return Value(area, low, high, units.method(NEWCOMBE))


def delong_variance(positives: np.ndarray, influence: np.ndarray, units: Units) -> tuple[float, float]:
    """DeLong's variance of an area, or of a difference of areas, and its degrees of freedom.

    The variance is the sum of that of the positive images and that of the negative ones. Each is estimated from its own
    images alone, which gives the degrees of freedom (Welch and Satterthwaite): infinity without any variance.

    Args:
        positives: bool (n,), with both positive and negative images.
        influence: (n,): the influence of each image.
        units: The units of the images.
    """
    parts, terms = 0.0, 0.0
    for kind in (positives, ~positives):
        freedom = max(freedom_of(kind, units), 1)
        part = float((units.totals(influence * kind) ** 2).sum()) * (freedom + 1) / freedom
        parts, terms = parts + part, terms + part**2 / freedom
    return parts, parts**2 / terms if terms > 0 else np.inf


def mean_area(parts: Sequence[tuple[np.ndarray, np.ndarray]], areas: Sequence[Value], units: Units) -> Value:
    """The mean of several areas under ROC curves of the same images, with an interval from theirs.

    Args:
        parts: (positives, scores) of each area, as for `areas_value`.
        areas: What `areas_value` gives for each.
        units: The units of the images.
    """
    if len(areas) == 1:
        return areas[0]
    influences = np.empty((len(parts), len(units)))
    for row, part in zip(influences, parts, strict=True):
        row[:] = units.totals(area_and_influence(*part)[1])
    return mean_of_parts(areas, units.method(MOVER_OF_AREAS), correlations(influences))


def correlations(influences: np.ndarray) -> np.ndarray:
    """(k, k): the correlations of k metrics, from the influences (k, n) of the same images; 1 where none is known."""
    norms = np.sqrt((influences**2).sum(axis=1))
    products, known = influences @ influences.T, np.outer(norms, norms)
    found = np.divide(products, known, out=np.ones_like(products), where=known > 0)
    np.fill_diagonal(found, 1.0)
    return found


def precision_value(positives: np.ndarray, scores: np.ndarray, units: Units) -> Value:
    """The average precision with the interval of the jackknife, or of `flawless_precision` if it is 1.

    The arguments are those of `areas_value`.
    """
    value, influence = precision_and_influence(positives, scores)
    if value == 1:
        return flawless_precision([(positives, scores)], units)
    return by_influence(value, influence, units, JACKKNIFE, freedom_of(positives, units) if units.grouped else None)


def flawless_precision(parts: Sequence[tuple[np.ndarray, np.ndarray]], units: Units) -> Value:
    """The mean of average precisions that are all 1, with the interval of the rarest class.

    The areas under the ROC curves are then 1 as well, so that the interval follows from that of such an area.
    """
    positives, scores = min(parts, key=lambda part: part[0].sum())
    low = areas_value(positives, scores, units).low or 0.0
    if not 0 < low < 1:
        return Value(1.0)
    return Value(1.0, binormal_precision(low, float(positives.mean())), 1.0, units.method(BINORMAL))


def area_intervals(found: Figures, key: str) -> dict[str, tuple[float, float]]:
    """The intervals of "auc" or "average_precision" by class; the interval of the mean is under ""."""
    values = {"": found.values.get(key), **{score.name: getattr(score, key) for score in found.classes}}
    return {
        name: (value.low, value.high)
        for name, value in values.items()
        if value is not None and value.low is not None and value.high is not None
    }


def area_and_influence(positives: np.ndarray, scores: np.ndarray) -> tuple[float, np.ndarray]:
    """The area under the ROC curve, and the influence of each image on it."""
    areas, lower, higher = components(positives, scores[None])
    influence = np.empty(len(positives))
    influence[positives] = (lower[0] - areas[0]) / positives.sum()
    influence[~positives] = (higher[0] - areas[0]) / (~positives).sum()
    return float(areas[0]), influence


def precision_and_influence(positives: np.ndarray, scores: np.ndarray) -> tuple[float, np.ndarray]:
    """The average precision, and the influence of each image on it by the jackknife.

    The average precision is the mean over the positive images of the precision at their score. Leaving one image out
    changes the precisions at its score and below, so that cumulative sums over the scores give all n values at once.
    """
    thresholds, place = np.unique(-scores, return_inverse=True)
    own = np.bincount(place, positives, minlength=len(thresholds))
    hits, pictures = np.cumsum(own), np.cumsum(np.bincount(place, minlength=len(thresholds)))
    total, count = hits[-1], len(positives)

    def below(values: np.ndarray) -> np.ndarray:
        return np.cumsum((own * values)[::-1])[::-1]

    # The average precision without a negative or without a positive image at each score.
    at = hits / pictures
    above = np.concatenate([[0.0], np.cumsum(own * at)[:-1]])
    fewer = np.maximum(pictures - 1, 1)
    without_negative = (above + below(hits / fewer)) / total
    left = (hits - 1) / fewer
    without_positive = (above + below(left) - left) / max(total - 1, 1)
    value = float((own * at).sum() / total)
    left_out = np.where(positives, without_positive[place], without_negative[place])
    if total == 1:  # precision is undefined without the only positive image
        left_out = np.where(positives, value, left_out)
    return value, (left_out.mean() - left_out) * (count - 1) / count


def mean_of_influences(
    measured: Sequence[tuple[float, np.ndarray]], units: Units, method: str, freedom: int | None = None
) -> Value:
    """The mean of a metric over classes, with an interval from the sum of each image's influences."""
    value = float(np.mean([found for found, _ in measured]))
    return by_influence(value, np.mean([influence for _, influence in measured], axis=0), units, method, freedom)


def _flawless(
    labels: np.ndarray, accuracy: Value, classes: Sequence[ClassFigures], values: Mapping[str, Value]
) -> dict[str, Value]:
    """The intervals of metrics that are 1 in every resample, derived from the intervals of the shares behind them."""
    expected = float(np.square(np.bincount(labels) / len(labels)).sum())
    least = 1 - (1 - (accuracy.low or 0.0)) / max(1 - expected, 1e-9)
    found = {name: Value(1.0, max(-1.0, least), 1.0, accuracy.method) for name in ("kappa", "mcc") if expected < 1}
    return {name: value for name, value in found.items() if name in values} | {
        "macro_f1": mean_of_parts([each.f1 for each in classes if each.f1])
    }


def _calibration_error(resampled: Value, noise: Value) -> Value:
    """The calibration error with an interval that corrects for the upward bias of its resamples.

    Args:
        resampled: The error with the percentiles of its resamples.
        noise: The total absolute difference between the bins of a resample and those of the images. By the triangle
            inequality, the true error is at least the measured one minus this.
    """
    value = resampled.value
    if resampled.low is None or noise.high is None:
        return Value(value)
    return Value(value, max(0.0, value - noise.high), min(1.0, max(value, 2 * value - resampled.low)), ERROR_OF_BINS)


def _resampled(labels: np.ndarray, probabilities: np.ndarray, predicted: np.ndarray, units: Units) -> dict[str, Value]:
    """The metrics whose intervals are resampled, all from the same resamples."""
    # Each metric is a function of a few weighted sums: products with sparse matrices give all resamples at once.
    sparse = required("scipy.sparse", "evaluate")
    count, width = probabilities.shape
    rows, right = np.arange(count), (predicted == labels).astype(float)

    def indicator(columns: np.ndarray, values: np.ndarray | None = None, size: int = width) -> Any:
        cells = np.ones(count) if values is None else values
        return sparse.csr_matrix((cells, (rows, columns)), (count, size))

    true, claimed, hits = indicator(labels), indicator(predicted), indicator(labels, right)
    confidence, _ = confidence_and_correct(labels, probabilities)
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence, side="left")
    gaps = indicator(bins, right - confidence, BINS)
    squares = np.square(probabilities.astype(np.float64))
    losses = squares.sum(axis=1) - 2 * probabilities[rows, labels].astype(np.float64) + 1
    between = np.square(labels - predicted)
    summed = np.stack([right, labels, predicted, labels**2 + predicted**2, between], axis=1).astype(float)
    named = ["macro_f1", "mcc", "kappa", "quadratic_kappa"]

    own = np.asarray(gaps.sum(axis=0)).ravel() / count

    def calibration_errors(weights: np.ndarray) -> np.ndarray:
        resampled = np.asarray(weights @ gaps) / weights.sum(axis=1, keepdims=True)
        return np.stack([np.abs(resampled).sum(axis=1), np.abs(resampled - own).sum(axis=1)])

    def statistic(weights: np.ndarray) -> np.ndarray:
        total = weights.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            of_true, of_claimed, of_both = (np.asarray(weights @ each) for each in (true, claimed, hits))
            f1 = np.where(of_true > 0, 2 * of_both / (of_true + of_claimed), np.nan)
            agreed, *sums = (weights @ summed).T
            expected = (of_true * of_claimed).sum(axis=1) / total
            spread = (total - (of_true**2).sum(axis=1) / total) * (total - (of_claimed**2).sum(axis=1) / total)
            mean_true, mean_claimed, mean_squares, mean_between = (each / total for each in sums)
            apart = mean_squares - 2 * mean_true * mean_claimed
            return np.stack(
                [
                    np.nanmean(np.where(np.isnan(f1).all(axis=1, keepdims=True), 0, f1), axis=1),
                    np.where(spread > 0, (agreed - expected) / np.sqrt(spread), 0.0),
                    np.where(total > expected, (agreed - expected) / (total - expected), np.nan),
                    np.where(apart > 0, 1 - mean_between / apart, np.nan),
                ]
            )

    # The Brier score and the calibration error have intervals of their own.
    found = dict(zip(named, bootstrap(statistic, units, bounds=(-1.0, 1.0)), strict=True))
    if width < 3:
        del found["quadratic_kappa"]  # with two classes it equals the plain one
    found["brier"] = mean(losses, units)
    found["ece"] = _calibration_error(*bootstrap(calibration_errors, units, bounds=(0.0, 1.0), method="percentile"))
    return {name: value for name, value in found.items() if np.isfinite(value.value)}

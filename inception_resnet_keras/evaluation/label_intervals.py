"""95 % intervals for models with several labels per image: of each label, and of means over the labels.

The methods are those for classes (see `intervals`): Wilson's for shares, DeLong's for areas, the jackknife for average
precision. The labels of an image are not independent, so means over labels add up each image's influences over the
labels, or, for areas, take the labels' correlations into account. If groups are given, a group takes the place of an
image.
"""

from __future__ import annotations

import numpy as np

from .intervals import JACKKNIFE, LINEAR, Units, Value, by_influence, f1_of, mean_of_parts, shares
from .metrics import (
    areas_value,
    flawless_precision,
    freedom_of,
    mean_area,
    mean_of_influences,
    precision_and_influence,
    precision_value,
)


def label_values(
    labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, units: Units
) -> list[dict[str, Value]]:
    """The precision, recall, specificity, F1, average precision and AUC of each label, as far as they are defined.

    Args:
        labels: (n, labels), 1 where an image has a label.
        predicted: (n, labels), 1 where a label is predicted.
        probabilities: (n, labels).
        units: The units of the n images.
    """
    found = []
    for true, claimed, scores in zip(labels.T.astype(bool), predicted.T.astype(bool), probabilities.T, strict=True):
        hits = np.stack([true & claimed, true & claimed, ~true & ~claimed, true & claimed], axis=1)
        among = np.stack([claimed, true, ~true, true | claimed], axis=1)
        precision, recall, specificity, jaccard = shares(hits, among, units)
        values = {"precision": precision, "recall": recall, "specificity": specificity, "f1": f1_of(jaccard)}
        if true.any() and not true.all():
            values |= {
                "average_precision": precision_value(true, scores, units),
                "auc": areas_value(true, scores, units),
            }
        found.append({name: value for name, value in values.items() if value is not None})
    return found


def mean_values(
    labels: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    units: Units,
    of_labels: list[dict[str, Value]],
) -> dict[str, Value]:
    """The means over the labels that occur, F1 of all decisions, and the share of images whose labels are all correct.

    Args:
        labels, predicted, probabilities, units: As for `label_values`.
        of_labels: The result of `label_values`.
    """
    right = (labels == predicted).all(axis=1, keepdims=True)
    (subset,) = shares(right, np.ones_like(right), units)
    assert subset is not None
    found = _f1(labels, predicted, units) | {"subset_accuracy": subset}
    occurring = np.asarray(labels.any(axis=0))
    # Without any mistake, influences are 0 and give no interval: it follows from those of the shares.
    if found["macro_f1"].low is None:
        pairs = zip(of_labels, occurring.tolist(), strict=True)
        scores_of_labels = [values["f1"] for values, occurs in pairs if occurs and "f1" in values]
        if subset.value == 1:
            found["macro_f1"] = mean_of_parts(scores_of_labels)
            found["micro_f1"] = f1_of(subset) or subset  # an image with an error has at least one wrong label
    # Areas are defined for labels that some images have and others do not.
    parts = [
        (true, scores)
        for true, scores in zip(labels.T.astype(bool), probabilities.T, strict=True)
        if true.any() and not true.all()
    ]
    if not parts:
        return found
    fewest = min(freedom_of(true, units) for true, _ in parts) if units.grouped else None
    found["mean_auc"] = mean_area(parts, [values["auc"] for values in of_labels if "auc" in values], units)
    every = int(labels.all(axis=0).sum())  # labels that all images have: their average precision is always 1
    measured = [*(precision_and_influence(*part) for part in parts), *[(1.0, np.zeros(len(labels)))] * every]
    precisions = mean_of_influences(measured, units, JACKKNIFE, fewest)
    found["mean_average_precision"] = flawless_precision(parts, units) if precisions.value == 1 else precisions
    return found


def _f1(labels: np.ndarray, predicted: np.ndarray, units: Units) -> dict[str, Value]:
    """F1 averaged over the labels that occur, and F1 of all decisions, with intervals from each image's influence.

    With few groups, resampling covers less: 90 % with 60 groups of five images.
    """
    chosen = np.flatnonzero(labels.sum(axis=0))
    both, either = 2.0 * (labels * predicted), labels.astype(np.float64) + predicted
    micro = float(both.sum() / either.sum())
    totals = either.sum(axis=0)[chosen]
    each = both.sum(axis=0)[chosen] / totals
    freedom = len(units) - 1
    of_micro = (both.sum(axis=1) - micro * either.sum(axis=1)) / either.sum()
    of_macro = ((both[:, chosen] - each * either[:, chosen]) / totals).mean(axis=1)
    return {
        "macro_f1": by_influence(float(each.mean()), of_macro, units, LINEAR, freedom),
        "micro_f1": by_influence(micro, of_micro, units, LINEAR, freedom),
    }

"""The 95 % intervals of models of several labels per picture: of each label, and of the means of the labels.

They are those of classes (`intervals`): Wilson's of shares, DeLong's of an area, the jackknife's of an average
precision. A picture's labels are not independent of each other: the means of the labels' scores add up each picture's
influences over the labels. Where groups are given, a group takes the place of a picture.
"""

from __future__ import annotations

import numpy as np

from .intervals import DELONG, JACKKNIFE, LINEAR, Units, Value, by_influence, f1_of, mean_of_shares, shares
from .metrics import (
    area_and_influence,
    areas_value,
    flawless_precision,
    freedom_of,
    mean_of_influences,
    precision_and_influence,
    precision_value,
)


def label_values(
    labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, units: Units
) -> list[dict[str, Value]]:
    """Of each label precision, recall, specificity, F1, average precision and AUC, those that it has.

    Args:
        labels, predicted: (n, labels), 1 where a picture has a label, or is predicted to.
        probabilities: (n, labels).
        units: Of the n pictures.
    """
    found = []
    for true, said, scores in zip(labels.T.astype(bool), predicted.T.astype(bool), probabilities.T, strict=True):
        hits = np.stack([true & said, true & said, ~true & ~said, true & said], axis=1)
        among = np.stack([said, true, ~true, true | said], axis=1)
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
    """The means over the labels that a picture has, F1 of all decisions, and the share of pictures that are all right.

    Args:
        labels, predicted, probabilities, units: As for `label_values`.
        of_labels: What that returns.
    """
    right = (labels == predicted).all(axis=1, keepdims=True)
    (subset,) = shares(right, np.ones_like(right), units)
    assert subset is not None
    found = _f1(labels, predicted, units) | {"subset_accuracy": subset}
    occurring = np.asarray(labels.any(axis=0))
    if found["macro_f1"].low is None:  # all are 1 in every resample, or there is one unit only
        those = zip(of_labels, occurring.tolist(), strict=True)
        scores_of_labels = [values["f1"] for values, there in those if there and "f1" in values]
        if subset.value == 1:
            found["macro_f1"] = mean_of_shares(scores_of_labels)
            found["micro_f1"] = f1_of(subset) or subset  # a picture with an error has at least one of its labels wrong
    parts = [
        (true, scores)
        for true, scores in zip(labels.T.astype(bool), probabilities.T, strict=True)
        if true.any() and not true.all()
    ]
    if not parts:
        return found
    fewest = min(freedom_of(true, units) for true, _ in parts) if units.grouped else None
    areas = mean_of_influences([area_and_influence(*part) for part in parts], units, DELONG, fewest)
    rarest = min(parts, key=lambda part: min(part[0].sum(), (~part[0]).sum()))
    found["mean_auc"] = areas if areas.low is not None else areas_value(*rarest, units)
    every = int(labels.all(axis=0).sum())  # labels of every picture, whose average precision is always 1
    measured = [*(precision_and_influence(*part) for part in parts), *[(1.0, np.zeros(len(labels)))] * every]
    precisions = mean_of_influences(measured, units, JACKKNIFE, fewest)
    found["mean_average_precision"] = flawless_precision(parts, units) if precisions.value == 1 else precisions
    return found


def _f1(labels: np.ndarray, predicted: np.ndarray, units: Units) -> dict[str, Value]:
    """F1 as the mean of the labels that a picture has, and of all decisions, by each picture's influence on them.

    Of few groups, resampling would cover less: 90 % of the time with 60 groups of five pictures.
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

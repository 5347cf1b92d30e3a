"""One model's figures on labelled pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .calibration import Calibration, calibration

TOP = 5


@dataclass(frozen=True)
class Figures:
    """pictures: how many were classified. All but the calibration are shares in [0, 1].

    top1: the share whose likeliest class is the true one. interval: where it lies with 95 % confidence (Wilson's).
    top5: the share whose true class is among the five likeliest; None of five classes or fewer.
    balanced: the mean over classes of top1, so that each counts alike however many pictures it has.
    macro_f1: the mean over classes of F1. Both are over the classes that have pictures.
    """

    pictures: int
    top1: float
    interval: tuple[float, float]
    top5: float | None
    balanced: float
    macro_f1: float
    calibration: Calibration


def figures(labels: np.ndarray, probabilities: np.ndarray) -> Figures:
    """Scores a classifier.

    Args:
        labels: (n,) the true classes' numbers, n at least 1.
        probabilities: (n, classes), rows that sum to 1.
    """
    from scipy.stats import binomtest
    from sklearn.metrics import f1_score, recall_score

    ranks = ranks_of_truth(labels, probabilities)
    right = int((ranks == 0).sum())
    interval = binomtest(right, len(labels)).proportion_ci(method="wilson")
    predicted, there = probabilities.argmax(axis=1), np.unique(labels)
    averaged = {"labels": there, "average": "macro", "zero_division": 0}
    return Figures(
        pictures=len(labels),
        top1=right / len(labels),
        interval=(float(interval.low), float(interval.high)),
        top5=float((ranks < TOP).mean()) if probabilities.shape[1] > TOP else None,
        balanced=float(recall_score(labels, predicted, **averaged)),
        macro_f1=float(f1_score(labels, predicted, **averaged)),
        calibration=calibration(labels, probabilities),
    )


def ranks_of_truth(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(n,): how many classes come before the true one, likeliest first; of equal ones the lower number is first."""
    of_truth = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    return ((probabilities > of_truth) | ((probabilities == of_truth) & earlier)).sum(axis=1)

"""Scores of a distance that separates pairs of the same person from pairs of different persons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..common.errors import InputError
from ..common.packages import required

FALSE_ACCEPTS = (0.001, 0.01)


@dataclass(frozen=True)
class Fold:
    """The result of one fold.

    Attributes:
        pairs: The number of pairs of the fold.
        threshold: The threshold, chosen on all other folds.
        accuracy: The share of the fold's pairs that this threshold judges correctly, in [0, 1].
    """

    pairs: int
    threshold: float
    accuracy: float


@dataclass(frozen=True)
class Verification:
    """The scores of a distance on pairs of faces.

    Attributes:
        accuracy: The mean over the folds of their accuracies, in [0, 1].
        deviation: The standard deviation of the folds' accuracies (with n, not n - 1, in the denominator, as in
            FaceNet's code).
        folds: The result of each fold.
        threshold: The most accurate threshold on all pairs, for use; `accuracy` was measured with those of the folds.
        auc: Area under the ROC curve, in [0, 1].
        true_accepts: For at most 0.1 % and 1 % false accepts, the highest true accept rate, in [0, 1]; None if a single
            false accept would exceed that share of the pairs.
        roc: (false accept rate, true accept rate), from (0, 0) to (1, 1).
    """

    accuracy: float
    deviation: float
    folds: list[Fold]
    threshold: float
    auc: float
    true_accepts: dict[str, float | None]
    roc: list[tuple[float, float]]


def verify(distances: np.ndarray, same: np.ndarray, folds: np.ndarray) -> Verification:
    """Score the distances of pairs.

    Args:
        distances: (n,): a pair is accepted as the same person if its distance is below a threshold.
        same: bool (n,): whether a pair is of the same person.
        folds: int (n,): the fold of each pair; there are at least two.

    Raises:
        InputError: There are fewer than two folds, or all pairs outside of a fold are of the same kind.
    """
    scores = required("sklearn.metrics", "evaluate")

    numbers = np.unique(folds)
    if len(numbers) < 2:
        raise InputError(
            f"pairs: {len(numbers)} fold has usable pairs; at least two are needed, because a fold's threshold is "
            "chosen on the other folds"
        )
    # Each fold is judged with the threshold of all others, so that no pair chooses the threshold that judges it.
    found = []
    for number in numbers:
        inside = folds == number
        if len(np.unique(same[~inside])) < 2:
            raise InputError(
                f"pairs: without fold {number + 1}, all usable pairs are of the same kind; a threshold needs pairs of "
                "the same person and of different persons"
            )
        threshold = best_threshold(distances[~inside], same[~inside])
        right = (distances[inside] < threshold) == same[inside]
        found.append(Fold(int(inside.sum()), threshold, float(right.mean())))
    # The ROC curve is that of all pairs.
    accuracies = [fold.accuracy for fold in found]
    false, true, _ = scores.roc_curve(same, -distances)
    different = int((~same).sum())
    return Verification(
        accuracy=float(np.mean(accuracies)),
        deviation=float(np.std(accuracies)),
        folds=found,
        threshold=best_threshold(distances, same),
        auc=float(scores.roc_auc_score(same, -distances)),
        true_accepts={
            f"{100 * share:g}%": float(true[false <= share].max()) if different * share >= 1 else None
            for share in FALSE_ACCEPTS
        },
        roc=[(float(x), float(y)) for x, y in zip(false, true, strict=True)],
    )


def best_threshold(distances: np.ndarray, same: np.ndarray) -> float:
    """The most accurate threshold, half-way between two distances; among equally accurate ones the lowest."""
    order = np.argsort(distances, kind="stable")
    ordered, truth = distances[order].astype(np.float64), same[order]
    rejected_rightly = np.concatenate([[0], np.cumsum(~truth)])
    accepted_rightly = np.concatenate([[0], np.cumsum(truth)])
    right = accepted_rightly + rejected_rightly[-1] - rejected_rightly  # with the first k accepted, k = 0 to n
    between = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])  # equal distances are accepted together
    best = int(np.argmax(np.where(between, right, -1)))
    below = ordered[best - 1] if best else ordered[0] - 1
    above = ordered[best] if best < len(ordered) else ordered[-1] + 1
    return float((below + above) / 2)


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The squared distances of embeddings of unit length, averaged over crops: (n,), in [0, 4].

    With a face and its mirror image as crops, this is half of the distance that FaceNet's `--use_flipped_images`
    measures, which concatenates both embeddings.

    Args:
        first, second: (n, crops, width).
    """
    return np.square(first.astype(np.float64) - second).sum(axis=2).mean(axis=1)

"""How well a distance tells pairs of faces of one person from pairs of two: thresholds, folds, the ROC curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..common.errors import InputError
from ..common.packages import required

FALSE_ACCEPTS = (0.001, 0.01)


@dataclass(frozen=True)
class Fold:
    """pairs: of the fold. threshold: chosen on all other folds. accuracy: in [0, 1], of this one's pairs with it."""

    pairs: int
    threshold: float
    accuracy: float


@dataclass(frozen=True)
class Verification:
    """How well a distance tells pairs of one person from pairs of two.

    accuracy, deviation: mean over the folds of their accuracy, and its standard deviation (of all folds, not
        of a sample of them, as facenet has it).
    folds: one by one.
    threshold: the one of greatest accuracy on all pairs: what to use, not what `accuracy` was measured with.
    auc: area under the ROC curve, in [0, 1].
    true_accepts: for each share of false accepts, 0.1 % and 1 %: the greatest share of true ones that a threshold
        within it gives; None where there are too few pairs of two persons for a single one to be that share.
    roc: (false accepts, true accepts), shares, from (0, 0) to (1, 1).
    """

    accuracy: float
    deviation: float
    folds: list[Fold]
    threshold: float
    auc: float
    true_accepts: dict[str, float | None]
    roc: list[tuple[float, float]]


def verify(distances: np.ndarray, same: np.ndarray, folds: np.ndarray) -> Verification:
    """Scores distances of pairs.

    Args:
        distances: (n,), small for one person: a pair is accepted where it is below a threshold.
        same: bool (n,): whether a pair is of one person.
        folds: int (n,): each pair's fold; of at least two.

    Raises:
        InputError: There are fewer than two folds, or no pairs of one of the kinds outside of a fold.
    """
    scores = required("sklearn.metrics", "evaluate")

    numbers = np.unique(folds)
    if len(numbers) < 2:
        raise InputError(
            f"pairs: {len(numbers)} fold has pairs that can be used; the threshold is chosen on other folds than it is "
            "measured on, so two at least are needed"
        )
    found = []
    for number in numbers:
        inside = folds == number
        if len(np.unique(same[~inside])) < 2:
            raise InputError(f"pairs: without fold {number + 1} no pairs of one of the kinds are left to choose by")
        threshold = best_threshold(distances[~inside], same[~inside])
        right = (distances[inside] < threshold) == same[inside]
        found.append(Fold(int(inside.sum()), threshold, float(right.mean())))
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
    """The threshold that is right most often, half-way between two distances; of equal ones the lowest."""
    order = np.argsort(distances, kind="stable")
    ordered, truth = distances[order].astype(np.float64), same[order]
    rejected_rightly = np.concatenate([[0], np.cumsum(~truth)])
    accepted_rightly = np.concatenate([[0], np.cumsum(truth)])
    right = accepted_rightly + rejected_rightly[-1] - rejected_rightly  # with the first k accepted, k = 0 to n
    between = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])  # equal ones are accepted together
    best = int(np.argmax(np.where(between, right, -1)))
    below = ordered[best - 1] if best else ordered[0] - 1
    above = ordered[best] if best < len(ordered) else ordered[-1] + 1
    return float((below + above) / 2)


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n,), in [0, 4]: of embeddings of length 1, (n, crops, width), the mean over the crops.

    With a face and its mirrored one that is what facenet's `--use_flipped_images` measures, which puts both
    embeddings end to end, but for a factor of 2.
    """
    return np.square(first.astype(np.float64) - second).sum(axis=2).mean(axis=1)

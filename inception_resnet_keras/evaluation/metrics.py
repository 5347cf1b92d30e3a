"""Whether a classifier is as often right as it says: calibration error, and the temperature that mends it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..common.errors import InputError
from ..common.packages import required

BINS = 15  # Guo et al., arXiv 1706.04599
COLDEST, HOTTEST = 0.05, 20.0

FITTED_ON = (
    "least negative log likelihood of these pictures; the figures after scaling are of halves, each scaled by the "
    "temperature that was fitted on the other"
)


@dataclass(frozen=True)
class Bin:
    """Pictures whose greatest probability lies in (low, high]: their mean, and the share that is right."""

    low: float
    high: float
    pictures: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Of the likeliest class.

    ece: expected calibration error, in [0, 1]: the mean over pictures of |accuracy - confidence| of their bin.
    nll: mean negative log likelihood of the true class, in nats.
    temperature: what logits are to be divided by, fitted on all pictures; None for a single picture.
    scaled_ece, scaled_nll: the same two after scaling, of pictures that the temperature was not fitted on.
    fitted_on: says so.
    bins: those that hold pictures.
    """

    ece: float
    nll: float
    temperature: float | None
    scaled_ece: float | None
    scaled_nll: float | None
    fitted_on: str
    bins: list[Bin]


def calibration(labels: np.ndarray, probabilities: np.ndarray, seed: int = 0) -> Calibration:
    """Measures a classifier's calibration.

    Args:
        labels: (n,) the true classes' numbers, n at least 1.
        probabilities: (n, classes), rows that sum to 1.
        seed: Of the halves.
    """
    logs = log_probabilities(probabilities)
    bins, ece = binned(*confidence_and_correct(labels, probabilities))
    nll = negative_log_likelihood(labels, logs)
    if len(labels) < 2:
        return Calibration(ece, nll, None, None, None, FITTED_ON, bins)
    scaled = probabilities.astype(np.float32, copy=True)
    for fitted, held_out in halves(len(labels), seed):
        scaled[held_out] = softmax(logs[held_out] / fit_temperature(labels[fitted], logs[fitted]))
    return Calibration(
        ece=ece,
        nll=nll,
        temperature=fit_temperature(labels, logs),
        scaled_ece=binned(*confidence_and_correct(labels, scaled))[1],
        scaled_nll=negative_log_likelihood(labels, log_probabilities(scaled)),
        fitted_on=FITTED_ON,
        bins=bins,
    )


def confidence_and_correct(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) the likeliest class's probability, and whether it is the true one."""
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def binned(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> tuple[list[Bin], float]:
    """Bins of equal width that hold pictures, and the expected calibration error."""
    edges = np.linspace(0, 1, bins + 1)
    numbers = np.searchsorted(edges[1:-1], confidence, side="left")  # an edge belongs to the bin below it
    found = []
    for number in np.unique(numbers):
        inside = numbers == number
        low, high = edges[number : number + 2]
        found.append(
            Bin(
                low=float(low),
                high=float(high),
                pictures=int(inside.sum()),
                confidence=float(confidence[inside].mean(dtype=np.float64)),
                accuracy=float(right[inside].mean()),
            )
        )
    return found, sum(b.pictures * abs(b.accuracy - b.confidence) for b in found) / len(confidence)


def fit_temperature(labels: np.ndarray, logs: np.ndarray) -> float:
    """The temperature, 0.05 to 20, whose softmax(logs / temperature) gives the true classes the greatest likelihood.

    logs: (n, classes), logits or log-probabilities, which differ by what the softmax takes away again.
    """
    minimize_scalar = required("scipy.optimize", "evaluate").minimize_scalar

    def cost(logarithm: float) -> float:
        scaled = logs / np.float32(np.exp(logarithm))
        return negative_log_likelihood(labels, scaled - _log_sum_exp(scaled))

    bounds = (np.log(COLDEST), np.log(HOTTEST))  # within, the cost has one minimum: it is convex in 1 / temperature
    found = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x)) if found.fun <= cost(0.0) else 1.0


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Finite ones: what a float32 softmax has rounded to 0 becomes its least positive number."""
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny, dtype=np.float32))


def negative_log_likelihood(labels: np.ndarray, logs: np.ndarray) -> float:
    """Mean over the pictures, in nats; logs: (n, classes) log-probabilities."""
    return float(-logs[np.arange(len(labels)), labels].mean(dtype=np.float64))


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits - _log_sum_exp(logits))


def halves(count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(fitted on, held out), twice, each half once as either."""
    order = np.random.default_rng(seed).permutation(count)
    first, second = np.sort(order[: count // 2]), np.sort(order[count // 2 :])
    yield first, second
    yield second, first


def _log_sum_exp(logits: np.ndarray) -> np.ndarray:
    highest = logits.max(axis=1, keepdims=True)
    return highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))


TOP = 5


@dataclass(frozen=True)
class Figures:
    """pictures: how many were classified. All but the calibration are shares in [0, 1].

    top1: the share whose likeliest class is the true one. interval: where it lies with 95 % confidence (Wilson's).
    top5: the share whose true class is among the five likeliest; None of five classes or fewer.
    balanced: `balanced_accuracy`.
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
    binomtest = required("scipy.stats", "evaluate").binomtest
    scores = required("sklearn.metrics", "evaluate")

    ranks = true_class_ranks(labels, probabilities)
    right = int((ranks == 0).sum())
    interval = binomtest(right, len(labels)).proportion_ci(method="wilson")
    predicted, there = probabilities.argmax(axis=1), np.unique(labels)
    averaged = {"labels": there, "average": "macro", "zero_division": 0}
    return Figures(
        pictures=len(labels),
        top1=right / len(labels),
        interval=(float(interval.low), float(interval.high)),
        top5=float((ranks < TOP).mean()) if probabilities.shape[1] > TOP else None,
        balanced=balanced_accuracy(labels, predicted),
        macro_f1=float(scores.f1_score(labels, predicted, **averaged)),
        calibration=calibration(labels, probabilities),
    )


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The mean of the classes' recalls, in [0, 1], over the classes that have pictures.

    Each class counts alike, however many pictures it has.

    Args:
        labels: int (n,), the true classes' numbers, n at least 1.
        predicted: int (n,), the predicted ones.
    """
    counts = np.bincount(labels)
    right = np.bincount(labels[predicted == labels], minlength=len(counts))
    return float(np.mean(right[counts > 0] / counts[counts > 0]))


def true_class_ranks(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(n,): how many classes come before the true one, likeliest first; of equal ones the lower number is first."""
    of_truth = probabilities[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    return ((probabilities > of_truth) | ((probabilities == of_truth) & earlier)).sum(axis=1)


# Tables 2, 3 and 4: error, %, (top-1, top-5), by crops and network.
TABLES: dict[int, tuple[str, dict[str, tuple[float, float]]]] = {
    1: (
        "Table 2",
        {
            "inception_resnet_v1": (21.3, 5.5),
            "inception_v4": (20.0, 5.0),
            "inception_resnet_v2": (19.9, 4.9),
        },
    ),
    12: (
        "Table 3",
        {
            "inception_resnet_v1": (19.8, 4.6),
            "inception_v4": (18.7, 4.2),
            "inception_resnet_v2": (18.7, 4.1),
        },
    ),
    144: (
        "Table 4",
        {
            "inception_resnet_v1": (18.8, 4.3),
            "inception_v4": (17.7, 3.8),
            "inception_resnet_v2": (17.8, 3.7),
        },
    ),
}

ENSEMBLE = ("Table 5", ["inception_resnet_v2"] * 3 + ["inception_v4"], (16.5, 3.1))


def accuracy(networks: Collection[str], crops: int) -> tuple[str, float, float] | None:
    """(table, top-1, top-5), shares in [0, 1], of a network or of an ensemble of several; None where it has none."""
    table, errors = TABLES[crops]
    alike: Sequence[str] = sorted(networks)
    if crops == 144 and list(alike) == ENSEMBLE[1]:
        table, found = ENSEMBLE[0], ENSEMBLE[2]
    elif len(alike) == 1 and alike[0] in errors:
        found = errors[alike[0]]
    else:
        return None
    return table, round(1 - found[0] / 100, 4), round(1 - found[1] / 100, 4)


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

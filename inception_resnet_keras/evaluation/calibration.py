"""Calibration of a classifier: the expected calibration error, and the temperature that reduces it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..common.packages import required

BINS = 15  # as in Guo et al., arXiv 1706.04599
COLDEST, HOTTEST = 0.05, 20.0  # bounds of the temperature

FITTED_ON = (
    "least negative log likelihood of these pictures; the figures after scaling are of halves, each scaled by the "
    "temperature that was fitted on the other"
)


@dataclass(frozen=True)
class Bin:
    """The images whose highest probability lies in (low, high].

    Attributes:
        low, high: The bounds of the bin, in [0, 1].
        pictures: The number of images.
        confidence: The mean of their highest probabilities, in [0, 1].
        accuracy: The share that is classified correctly, in [0, 1].
    """

    low: float
    high: float
    pictures: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """The calibration of a classifier's most probable class.

    Attributes:
        ece: Expected calibration error, in [0, 1]: the mean over images of |accuracy - confidence| of their bin.
        nll: Mean negative log likelihood of the true class, in nats.
        temperature: The number to divide the logits by, fitted on all images; None for a single image.
        scaled_ece, scaled_nll: The same two after scaling, measured on images that the temperature was not fitted on.
        fitted_on: The images that the temperature was fitted on, in words.
        bins: The bins that are not empty.
    """

    ece: float
    nll: float
    temperature: float | None
    scaled_ece: float | None
    scaled_nll: float | None
    fitted_on: str
    bins: list[Bin]


def calibration(labels: np.ndarray, probabilities: np.ndarray, seed: int = 0) -> Calibration:
    """Measure a classifier's calibration.

    Args:
        labels: (n,) indices of the true classes; n is at least 1.
        probabilities: (n, classes); each row sums to 1.
        seed: Seed of the split into the two halves on which the scaled figures are measured.
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
    """The probability of the most probable class, (n,), and whether that class is the true one, bool (n,)."""
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def binned(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> tuple[list[Bin], float]:
    """The bins of equal width that are not empty, and the expected calibration error."""
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
    """The temperature, from 0.05 to 20, that maximises the likelihood of the true classes.

    logs: (n, classes), logits or log-probabilities. They differ by a constant per row, which the softmax removes.
    """
    minimize_scalar = required("scipy.optimize", "evaluate").minimize_scalar

    def cost(logarithm: float) -> float:
        scaled = logs / np.float32(np.exp(logarithm))
        return negative_log_likelihood(labels, scaled - _log_sum_exp(scaled))

    bounds = (np.log(COLDEST), np.log(HOTTEST))  # one minimum in between: the cost is convex in 1 / temperature
    found = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x)) if found.fun <= cost(0.0) else 1.0


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Finite log-probabilities: a probability that float32 rounded to 0 is replaced by the least positive float32."""
    return np.log(np.maximum(probabilities, np.finfo(np.float32).tiny, dtype=np.float32))


def negative_log_likelihood(labels: np.ndarray, logs: np.ndarray) -> float:
    """The mean over the images, in nats. logs: (n, classes) log-probabilities."""
    return float(-logs[np.arange(len(labels)), labels].mean(dtype=np.float64))


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits - _log_sum_exp(logits))


def halves(count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (indices to fit on, held-out indices) twice: each half of the images takes each role once."""
    order = np.random.default_rng(seed).permutation(count)
    first, second = np.sort(order[: count // 2]), np.sort(order[count // 2 :])
    yield first, second
    yield second, first


def _log_sum_exp(logits: np.ndarray) -> np.ndarray:
    highest = logits.max(axis=1, keepdims=True)
    return highest + np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))

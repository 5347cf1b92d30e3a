"""Tests of the difference between two models on the same images or the same folds.

| test | used for | source |
| --- | --- | --- |
| McNemar's, exact | accuracy: images that only one of the two classifies correctly | McNemar 1947 |
| Tango's score interval | the difference of two accuracies on the same images | Tango, Stat. Med. 17 (1998) |
| DeLong's, paired | the p-value of two areas under ROC curves of two classes | DeLong et al. 1988 |
| MOVER, from the areas' own intervals | the interval of that difference, and both for means of areas | Zou 2007 |
| corrected resampled t | the mean difference over folds or repetitions | Nadeau and Bengio, Mach. Learn. 52 (2003) |
| Holm's correction | the p-values of several comparisons | Holm 1979 |
| Student's t | differences whose influences are known: of Brier scores | |
| permutation | weighted sums over images or groups, such as of balanced accuracies | |

Images of one group, such as a patient, are not independent. If groups are given, the permutation test and Student's t
over groups replace McNemar's test and Tango's interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..common.packages import required
from .delong import delong
from .intervals import CONFIDENCE, MOVER_OF_AREAS, Value, normal_quantile


@dataclass(frozen=True)
class Difference:
    """The difference of a metric of two models, the second minus the first.

    Attributes:
        value: The difference.
        low, high: Its 95 % interval; None if none can be computed.
        p: The probability of a difference at least as large if the models were equally good; None if no test applies.
        method, test: The names of the methods that gave the interval and the p-value; "" for none.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    method: str = ""
    test: str = ""

    def within(self, most: float) -> Difference:
        """The same difference with its interval cut to [-most, most]: Student's t knows no bounds."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(-most, self.low), high=min(most, self.high))

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def includes_zero(self) -> bool:
        """Whether 0 lies in the interval."""
        return self.low is not None and self.high is not None and not self.excludes_zero


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p-value of McNemar's exact test.

    Args:
        only_first, only_second: The number of images that only this model classifies correctly.
    """
    if not only_first + only_second:
        return 1.0
    return float(required("scipy.stats", "compare").binomtest(only_second, only_first + only_second).pvalue)


def tango(only_first: int, only_second: int, pictures: int) -> tuple[float, float]:
    """Tango's score interval of the difference of two accuracies, the second minus the first, in [-1, 1].

    Args:
        only_first, only_second: The number of images that only this model classifies correctly.
        pictures: The number of all images, at least 1.
    """
    brentq = required("scipy.optimize", "compare").brentq
    z, value = normal_quantile(), (only_second - only_first) / pictures

    def score(difference: float) -> float:
        # The probability that only the first model is right, estimated under the constraint of this difference.
        b = (2 * pictures + only_first - only_second) * difference - only_first - only_second
        c = -only_first * difference * (1 - difference)
        first = (math.sqrt(max(b * b - 8 * pictures * c, 0.0)) - b) / (4 * pictures)
        variance = pictures * (2 * first + difference * (1 - difference))
        return (only_second - only_first - pictures * difference) / math.sqrt(max(variance, 1e-300))

    def bound(sign: int) -> float:
        end = -sign * 1.0
        if value == end:
            return end
        inside = end * (1 - 1e-12)
        if (score(inside) - sign * z) * sign <= 0:
            return end
        return float(brentq(lambda difference: score(difference) - sign * z, inside, value, xtol=1e-10))

    return bound(1), bound(-1)


def paired_accuracies(first_right: np.ndarray, second_right: np.ndarray) -> tuple[Difference, int, int]:
    """The difference of two accuracies on the same images, with McNemar's p-value and Tango's interval.

    Args:
        first_right, second_right: bool (n,): the images that each of the two models classifies correctly.

    Returns:
        The difference, the number of images that only the first model classifies correctly, and the number of images
        that only the second model does.
    """
    only_first, only_second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    low, high = tango(only_first, only_second, len(first_right))
    value = (only_second - only_first) / len(first_right)
    p = mcnemar(only_first, only_second)
    return Difference(value, low, high, p, "Tango's score", "McNemar, exact"), only_first, only_second


def paired_areas(positives: np.ndarray, first: np.ndarray, second: np.ndarray) -> Difference:
    """The difference of two areas under ROC curves on the same images, by DeLong's test.

    Args:
        positives: bool (n,): the images of the positive class.
        first, second: float (n,): the scores of each model.
    """
    normal = required("scipy.stats", "compare").norm
    areas, covariance = delong(positives, np.stack([first, second]))
    value = float(areas[1] - areas[0])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if variance <= 1e-16:  # both models order the images alike, or separate them perfectly
        return Difference(value, p=1.0 if abs(value) < 1e-12 else None, test="DeLong, paired")
    spread = math.sqrt(variance)
    half = normal_quantile() * spread
    p = float(2 * normal.sf(abs(value) / spread))
    return Difference(value, max(-1.0, value - half), min(1.0, value + half), p, "DeLong", "DeLong, paired")


def mover_difference(first: Value, second: Value, correlation: float, freedom: float = math.inf) -> Difference:
    """The difference of two metrics of the same images, with an interval from theirs and the p-value that it implies.

    Unlike a normal interval of the difference, it holds for few images and near the end of the scale, where the metrics
    are skewed (MOVER; Zou, Psychological Methods 12, 2007).

    Args:
        first, second: The metric of each model, with an interval.
        correlation: The correlation of the two.
        freedom: The degrees of freedom of the difference's variance, for Student's quantile; infinity takes the normal
            one.
    """
    value = second.value - first.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Difference(value)

    student = required("scipy.stats", "compare").t
    quantile = float(student.ppf(0.5 + CONFIDENCE / 2, freedom))

    def spread(of_second: float, of_first: float) -> float:
        squares = of_second**2 + of_first**2 - 2 * correlation * of_second * of_first
        return math.sqrt(max(0.0, squares)) / normal_quantile()

    below = spread(second.value - second.low, first.high - first.value)
    above = spread(second.high - second.value, first.value - first.low)
    towards_zero = below if value > 0 else above
    p = float(2 * student.sf(abs(value) / towards_zero, freedom)) if towards_zero > 0 else None
    low, high = max(-1.0, value - quantile * below), min(1.0, value + quantile * above)
    return Difference(value, low, high, p, MOVER_OF_AREAS, MOVER_OF_AREAS)


def corrected_resampled(differences: Sequence[float], tested_share: float) -> Difference:
    """The mean difference over folds or repetitions, by Nadeau and Bengio's corrected resampled t-test.

    The training sets of different folds overlap, so the folds' differences vary less than those of independent
    trainings would. The test adds n_test / n_train to 1 / runs.

    Args:
        differences: One per fold or repetition, at least two.
        tested_share: Held-out images per training image, n_test / n_train, such as 0.25 for five folds; 0 for runs
            that share only the images they are tested on, such as different seeds.

    Raises:
        ValueError: There are fewer than two differences.
    """
    student = required("scipy.stats", "compare").t
    values, runs = np.asarray(differences, np.float64), len(differences)
    if runs < 2:
        raise ValueError(f"differences: {runs} is given; at least two are needed")
    mean, variance = float(values.mean()), float(values.var(ddof=1))
    name = "corrected resampled t" if tested_share else "paired t"
    if variance <= 0:
        return Difference(mean, p=1.0 if mean == 0 else None, test=name)
    spread = math.sqrt((1 / runs + tested_share) * variance)
    half = float(student.ppf(0.5 + CONFIDENCE / 2, runs - 1)) * spread
    p = float(2 * student.sf(abs(mean) / spread, runs - 1))
    return Difference(mean, mean - half, mean + half, p, name, name)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for several comparisons by Holm's method, in the given order; None stays None."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    found: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        found[place] = highest
    return found


RESAMPLES = 9999


def mean_difference(contributions: np.ndarray, totals: np.ndarray) -> Difference:
    """A difference that is a sum over independent units, with an interval by Student's t and a p-value by permutation.

    Args:
        contributions: (n,): the summand of each unit, an image or a group.
        totals: (n,): the influence of each unit: its summand minus the expectation, so that these sum to 0.
    """
    stats = required("scipy.stats", "compare")
    value, count = float(contributions.sum()), len(totals)
    p = sign_flips(contributions)
    spread = math.sqrt(float((totals**2).sum()) * count / (count - 1)) if count > 1 else 0.0
    if spread <= 1e-15:
        return Difference(value, p=p, test=PERMUTATION)
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1)) * spread
    return Difference(value, value - half, value + half, p, "t", PERMUTATION)


def influence_difference(value: float, totals: np.ndarray) -> Difference:
    """A difference whose units' influences are known, such as of areas under curves, by Student's t.

    Args:
        value: The difference.
        totals: (n,): the influence of each unit, an image or a group, on the difference; these sum to 0.
    """
    student, count = required("scipy.stats", "compare").t, len(totals)
    spread = math.sqrt(float((totals**2).sum()) * count / (count - 1)) if count > 1 else 0.0
    if spread <= 1e-15:
        return Difference(value, p=1.0 if abs(value) < 1e-12 else None, test="t of influences")
    half = float(student.ppf(0.5 + CONFIDENCE / 2, count - 1)) * spread
    p = float(2 * student.sf(abs(value) / spread, count - 1))
    return Difference(value, value - half, value + half, p, "t of influences", "t of influences")


PERMUTATION = "permutation of the two models"


def sign_flips(contributions: np.ndarray) -> float:
    """The two-sided p-value of a sum of differences under exchanging the two models within each unit.

    `scipy.stats.permutation_test` tries all exchanges if they are few, otherwise 9,999 random ones.
    """
    test = required("scipy.stats", "compare").permutation_test
    different = contributions[contributions != 0]
    if not len(different):
        return 1.0
    if len(different) == 1:  # SciPy needs two values at least
        return 1.0

    def total(sample: np.ndarray, axis: int = -1) -> np.ndarray:
        return sample.sum(axis=axis)

    found = test(
        (different,),
        total,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, 2_000_000 // len(different)),
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)

"""95 % intervals of metrics: shares, areas under curves, and metrics that are resampled.

The interval of each metric was chosen by how often it covers the true value (guides/measurements.md has the measured
coverage): near 0 and 1, and for few images, resampling and normal approximations give intervals that are too narrow.

| interval | used for |
| --- | --- |
| Wilson's score interval | shares: accuracy, sensitivity, specificity, precision; F1, by way of TP / (TP + FP + FN) |
| MOVER, from Wilson's intervals (Zou and Donner 2008) | means of independent shares: balanced accuracy |
| DeLong's, on the logit scale, with Student's quantile | an area under the ROC curve |
| Newcombe's | such an area if it is 0 or 1, or if a class has fewer than ten images: DeLong's is then too narrow |
| MOVER, from such intervals and their correlations | means of several areas |
| jackknife, on the logit scale | average precision; if it is 1, the average precision of two normal distributions |
| | whose area is Newcombe's lower limit, since the area is then 1 as well |
| bootstrap-t | means of skewed values: the Brier score |
| bootstrap, BCa (SciPy's) | all other metrics |
| bootstrap of the bins | the calibration error, whose resamples are biased as it is itself |

Images of one group, such as a patient, are not independent. If groups are given, they take the place of images: a share
counts with its effective number of images (Korn and Graubard 1998), influences are added up within a group, and the
bootstrap draws groups.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..common.packages import required

CONFIDENCE = 0.95
RESAMPLES = 2000
FEWER_RESAMPLES = 500  # for many images, where the noise of the percentiles no longer matters
MANY = 5000  # above this many units the bootstrap takes percentiles: BCa's correction vanishes, its jackknife costs n²
POINTS = 2000  # points at which a curve is integrated
BATCH_CELLS = 2_000_000  # numbers drawn at once: 16 MB
WILSON, MOVER, DELONG, JACKKNIFE = "Wilson", "MOVER of Wilson's", "DeLong, logit", "jackknife, logit"
MOVER_OF_AREAS = "MOVER of DeLong's"
BCA, PERCENTILES, ERROR_OF_BINS = "bootstrap, BCa", "bootstrap, percentiles", "bootstrap of the bins"
STUDENTISED = "bootstrap-t"
NEWCOMBE = "Newcombe"
BINORMAL = "Newcombe, binormal"
LINEAR = "t, logit"
BY_GROUP = "by group"
# With fewer images or groups of a class, DeLong's interval of an area covers less than 93 %: with 5 of 50, 87 %.
FEW = 10


@dataclass(frozen=True)
class Value:
    """A metric with its 95 % interval.

    Attributes:
        value: The metric.
        low, high: The interval; None if none can be computed.
        method: The name of the method that gave the interval; "" for none.
    """

    value: float
    low: float | None = None
    high: float | None = None
    method: str = ""

    def percent(self, digits: int = 1) -> str:
        """The value and the interval in per cent, such as "94.2 % (91.0–96.5)"."""
        text = f"{100 * self.value:.{digits}f} %"
        if self.low is None or self.high is None:
            return text
        return f"{text} ({100 * self.low:.{digits}f}–{100 * self.high:.{digits}f})"

    def decimal(self, digits: int = 3) -> str:
        """As decimal numbers, such as "0.842 (0.790–0.881)"; with a negative bound "-0.012 (-0.101 to 0.088)"."""
        text = f"{self.value:.{digits}f}"
        if self.low is None or self.high is None:
            return text
        between = " to " if self.low < 0 else "–"
        return f"{text} ({self.low:.{digits}f}{between}{self.high:.{digits}f})"


class Units:
    """The independent units of a sample: images, or groups of images.

    Args:
        pictures: The number of images.
        groups: The group of each image; an image with "" is a unit of its own. None for no groups.
    """

    def __init__(self, pictures: int, groups: Sequence[str] | None = None) -> None:
        self.pictures = pictures
        self.numbers = np.arange(pictures)
        self.grouped = False
        if groups is not None:
            keys = [f"g{group}" if group else f"p{place}" for place, group in enumerate(groups)]
            self.numbers = np.unique(np.array(keys, dtype=object).astype(str), return_inverse=True)[1].reshape(-1)
            self.grouped = len(self) < pictures

    def __len__(self) -> int:
        return int(self.numbers.max()) + 1 if len(self.numbers) else 0

    def of(self, inside: np.ndarray) -> Units:
        """The units of some of the images. inside: bool (n,)."""
        return Units(int(inside.sum()), list(map(str, self.numbers[inside])) if self.grouped else None)

    def totals(self, values: np.ndarray) -> np.ndarray:
        """(units, ...): the sums of (n, ...) values within each unit."""
        if not self.grouped:
            return values
        found = np.zeros((len(self), *values.shape[1:]))
        np.add.at(found, self.numbers, values)
        return found

    def method(self, name: str) -> str:
        return f"{name}, {BY_GROUP}" if self.grouped else name


def normal_quantile() -> float:
    """The two-sided 95 % quantile of the normal distribution, 1.96."""
    return float(required("scipy.stats", "intervals").norm.ppf(0.5 + CONFIDENCE / 2))


def wilson(share: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of shares in [0, 1]. total: The numbers of trials, which need not be integers."""
    z2 = normal_quantile() ** 2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = np.sqrt(z2) / (1 + z2 / total) * np.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    low = np.where(share <= 0, 0.0, np.maximum(middle - half, 0))  # exactly 0, which rounding would miss
    return low, np.where(share >= 1, 1.0, np.minimum(middle + half, 1))


def shares(right: np.ndarray, counted: np.ndarray, units: Units) -> list[Value | None]:
    """Shares of images with Wilson's interval, one per column.

    Args:
        right: bool (n, k): the images that have the property.
        counted: bool (n, k): the images that the share refers to; a column without any gives None.
        units: The units of the n images.
    """
    totals = counted.sum(axis=0, dtype=np.int64)
    hits = (right & counted).sum(axis=0, dtype=np.int64)
    return shares_of(hits, totals, _effective(right & counted, counted, units) if units.grouped else totals, units)


def shares_of(hits: np.ndarray, totals: np.ndarray, effective: np.ndarray, units: Units) -> list[Value | None]:
    """The shares hits / totals with Wilson's interval. effective: The effective number of trials of each share."""
    share = hits / np.maximum(totals, 1)
    low, high = wilson(share, np.maximum(effective, 1e-9))
    return [
        Value(float(value), float(least), float(most), units.method(WILSON)) if total else None
        for value, least, most, total in zip(share, low, high, totals.tolist(), strict=True)
    ]


def _effective(right: np.ndarray, counted: np.ndarray, units: Units) -> np.ndarray:
    """(k,): the number of independent images whose share would vary as much as the share of these groups.

    The variance is that of a ratio of two group totals. If it is 0, as for shares of 0 and 1, each group counts as one
    image. With few groups, Student's quantile replaces the normal one (Korn and Graubard).
    """
    stats = required("scipy.stats", "intervals")
    hits, sizes = units.totals(right.astype(np.float64)), units.totals(counted.astype(np.float64))
    groups, total = (sizes > 0).sum(axis=0), sizes.sum(axis=0)
    share = hits.sum(axis=0) / np.maximum(total, 1)
    spread = ((hits - share * sizes) ** 2).sum(axis=0) * groups / np.maximum(groups - 1, 1) / np.maximum(total, 1) ** 2
    degenerate = (spread <= 0) | (groups < 2)
    found = np.where(degenerate, groups, share * (1 - share) / np.where(degenerate, 1, spread))
    student = stats.t.ppf(0.5 + CONFIDENCE / 2, np.maximum(groups - 1, 1))
    return np.minimum(found * np.where(groups > 1, (normal_quantile() / student) ** 2, 1), total)


def mean_of_parts(
    parts: Sequence[Value], method: str = MOVER, correlation: np.ndarray | None = None, least: float = 0.0
) -> Value:
    """The mean of metrics, with an interval from theirs (MOVER: variances recovered from the limits).

    Args:
        parts: The metrics, each with an interval.
        method: The name of the interval.
        correlation: (parts, parts): the correlations of the metrics (Zou, Psychological Methods 12, 2007). None for
            independent ones.
        least: The minimum of the metrics, whose maximum is 1.
    """
    values, lows, highs = (
        np.array(each, float) for each in zip(*((v.value, v.low, v.high) for v in parts), strict=True)
    )
    related = np.eye(len(values)) if correlation is None else correlation
    mean = float(values.mean())
    below, above = (
        float(np.sqrt(max(0.0, half @ related @ half))) / len(values) for half in (values - lows, highs - values)
    )
    return Value(mean, max(least, mean - below), min(1.0, mean + above), method)


def f1_of(jaccard: Value | None) -> Value | None:
    """F1 from the share J = TP / (TP + FP + FN): F1 = 2 J / (1 + J), and likewise for the bounds."""
    if jaccard is None:
        return None
    value, low, high = (2 * each / (1 + each) for each in (jaccard.value, jaccard.low or 0.0, jaccard.high or 0.0))
    return Value(value, low, high, jaccard.method)


def by_influence(value: float, influence: np.ndarray, units: Units, method: str, freedom: float | None = None) -> Value:
    """The interval of a metric in [0, 1] from each image's influence on it, on the logit scale.

    Args:
        value: The metric.
        influence: (n,): the first-order effect of each image on the metric; these sum to 0.
        units: The units of the n images.
        method: The name of the interval.
        freedom: Degrees of freedom of Student's quantile; None takes the normal quantile.
    """
    count = len(units)
    if not 0 < value < 1 or count < 2:
        return Value(value)
    spread = float(np.sqrt((units.totals(influence) ** 2).sum() * count / (count - 1)))
    return on_logit_scale(value, spread, units.method(method), freedom)


def on_logit_scale(value: float, spread: float, method: str, freedom: float | None = None) -> Value:
    """The interval of a metric in (0, 1) from its standard error, symmetric on the logit scale.

    Args:
        value, spread: The metric and its standard error.
        method: The name of the interval.
        freedom: Degrees of freedom of Student's quantile; None takes the normal quantile.
    """
    quantile = normal_quantile()
    if freedom is not None:
        quantile = float(required("scipy.stats", "intervals").t.ppf(0.5 + CONFIDENCE / 2, max(freedom, 1)))
    half = quantile * spread / (value * (1 - value))
    logit = np.log(value / (1 - value))
    low, high = (1 / (1 + np.exp(-(logit + each))) for each in (-half, half))
    return Value(value, float(low), float(high), method)


def newcombe(area: float, positives: float, negatives: float) -> tuple[float, float]:
    """The interval of an area under a ROC curve, also for 0 and 1, and for few images.

    Method 5 of Newcombe, Stat. Med. 25 (2006): a score interval with Hanley and McNeil's variance.

    Args:
        area: The area, in [0, 1].
        positives, negatives: The numbers of images.
    """
    brentq = required("scipy.optimize", "intervals").brentq
    z, size = normal_quantile(), (positives + negatives) / 2 - 1

    def distance(true: float) -> float:
        spread = true * (1 - true) * (1 + size * (1 - true) / (2 - true) + size * true / (1 + true))
        return abs(true - area) - z * float(np.sqrt(spread / (positives * negatives)))

    tiny = 1e-9
    low = 0.0 if area <= 2 * tiny else float(brentq(distance, tiny, area - tiny)) if distance(tiny) > 0 else 0.0
    high = (
        1.0
        if area >= 1 - 2 * tiny
        else float(brentq(distance, area + tiny, 1 - tiny))
        if distance(1 - tiny) > 0
        else 1.0
    )
    return low, high


def binormal_precision(area: float, share: float) -> float:
    """The average precision if the scores of positives and negatives are normal with equal variance.

    Args:
        area: The area under the ROC curve, in (0, 1).
        share: The share of positive images, in (0, 1).
    """
    normal = required("scipy.stats", "intervals").norm
    distance = np.sqrt(2) * normal.ppf(area)
    recall = (np.arange(POINTS) + 0.5) / POINTS
    false = normal.sf(normal.isf(recall) + distance)
    return float(np.mean(share * recall / (share * recall + (1 - share) * false)))


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    units: Units,
    *,
    bounds: tuple[float, float],
    seed: int = 0,
    method: str | None = None,
) -> list[Value]:
    """The intervals of several metrics from the same resamples, by `scipy.stats.bootstrap`.

    Args:
        statistic: A function of weights, float64 (resamples, n), the number of times each image was drawn. It returns
            (metrics, resamples), with NaN where a metric is undefined in a resample.
        units: The units of the n images.
        bounds: The minimum and the maximum of the metrics.
        seed: Seed of the resamples.
        method: "BCa" or "percentile". None takes BCa for up to `MANY` units.

    Returns:
        The metrics; a metric that is equal in all resamples has no interval.
    """
    resample = required("scipy.stats", "intervals").bootstrap
    count, many = len(units), len(units) > MANY
    method = method or ("percentile" if many else "BCa")
    values = statistic(np.ones((1, units.pictures)))[:, 0]
    if count < 2:
        return [Value(float(value)) for value in values]

    # SciPy resamples the indices of units; the statistic gets the number of times that each image was drawn.
    def of_indices(indices: np.ndarray, axis: int = -1) -> np.ndarray:
        drawn = np.atleast_2d(indices)
        rows = np.arange(len(drawn))[:, None] * count
        weights = np.bincount((drawn + rows).ravel(), minlength=len(drawn) * count).reshape(len(drawn), count)
        found = statistic(weights[:, units.numbers].astype(np.float64))
        # A metric is undefined in some resamples, such as those of a single class: the estimate takes its place.
        found = np.where(np.isnan(found), values[:, None], found)
        return found if indices.ndim > 1 else found[:, 0]

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # SciPy warns about metrics that are equal in all resamples
        found = resample(
            (np.arange(count),),
            of_indices,
            vectorized=True,
            n_resamples=FEWER_RESAMPLES if many else RESAMPLES,
            batch=max(1, BATCH_CELLS // max(count, units.pictures)),
            method=method,
            rng=np.random.default_rng(seed),
        )
    # An interval without width means that all resamples are equal.
    interval, name = found.confidence_interval, units.method(PERCENTILES if method == "percentile" else BCA)
    known = np.isfinite(interval.low) & np.isfinite(interval.high) & (interval.low < interval.high)
    return [
        Value(float(value), max(bounds[0], float(low)), min(bounds[1], float(high)), name)
        if valid
        else Value(float(value))
        for value, low, high, valid in zip(values, interval.low, interval.high, known, strict=True)
    ]


def mean(values: np.ndarray, units: Units, seed: int = 0) -> Value:
    """The mean of non-negative values, (n,), with the interval of the bootstrap-t.

    Each resample is scaled by its own standard error, which the mean of skewed values needs: with few images and a few
    large losses, other intervals cover 85 % (Efron and Tibshirani, An Introduction to the Bootstrap, 12.5).
    """
    count, found = len(units), float(values.mean())
    totals = units.totals(values - found)
    spread = float(np.sqrt((totals**2).sum() * count / max(count - 1, 1)))
    if count < 2 or spread <= 0:
        return Value(found)
    random, ratios = np.random.default_rng(seed), []
    resamples = FEWER_RESAMPLES if count > MANY else RESAMPLES
    batch = max(1, BATCH_CELLS // count)
    for start in range(0, resamples, batch):
        drawn = totals[random.integers(0, count, (min(batch, resamples - start), count))]
        errors = drawn.std(axis=1, ddof=1) * np.sqrt(count)
        sums = drawn.sum(axis=1)
        ratios.append(np.divide(sums, errors, out=np.zeros(len(sums)), where=errors > 0))
    tail = (1 - CONFIDENCE) / 2
    least, most = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    low, high = found - most * spread / units.pictures, found - least * spread / units.pictures
    return Value(found, max(0.0, float(low)), float(high), units.method(STUDENTISED))

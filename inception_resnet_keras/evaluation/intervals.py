"""Figures with their 95 % intervals: shares, areas under curves, and whatever is resampled.

Which interval a figure gets was chosen by how often it covers the true value (guides/evaluation.md has the measured
shares): near 0 and 1, and for few pictures, resampling and normal approximations claim too much.

| interval | of |
| --- | --- |
| Wilson's score interval | shares: accuracy, sensitivity, specificity, precision; F1, by way of TP / (TP + FP + FN) |
| MOVER, of Wilson's intervals (Zou and Donner 2008) | means of independent shares: balanced accuracy |
| DeLong's, on the logit's scale | an area under the ROC curve, or a mean of several; Newcombe's where it is 0 or 1 |
| jackknife, on the logit's scale | average precision; where it is 1, that of two normal distributions whose area is |
| | Newcombe's lower limit of the area, which is then 1 as well |
| bootstrap-t | means of values that are skewed: the Brier score |
| bootstrap, BCa (SciPy's) | all else |
| bootstrap of the bins | the calibration error, whose resamples are biased as it is itself |

Pictures of one group, such as a patient, are not independent. Where groups are given, they take the pictures' place:
a share counts with its effective number of pictures (Korn and Graubard 1998), influences are added up within a group,
and the bootstrap draws groups.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..common.packages import required

CONFIDENCE = 0.95
RESAMPLES = 2000
FEWER_RESAMPLES = 500  # of many pictures, where the percentiles' own noise no longer matters
MANY = 5000  # units from which the bootstrap takes percentiles: BCa's correction vanishes, its jackknife costs n²
POINTS = 2000  # of a curve that is integrated
BATCH_CELLS = 2_000_000  # drawn at once: 16 MB
WILSON, MOVER, DELONG, JACKKNIFE = "Wilson", "MOVER of Wilson's", "DeLong, logit", "jackknife, logit"
BCA, PERCENTILES, ERROR_OF_BINS = "bootstrap, BCa", "bootstrap, percentiles", "bootstrap of the bins"
STUDENTISED = "bootstrap-t"
NEWCOMBE = "Newcombe"
BINORMAL = "Newcombe, binormal"
LINEAR = "t, logit"
BY_GROUP = "by group"


@dataclass(frozen=True)
class Value:
    """A figure, and where it lies with 95 % confidence.

    value: The figure. low, high: The interval; None where none can be computed. method: How; "" for none.
    """

    value: float
    low: float | None = None
    high: float | None = None
    method: str = ""

    def percent(self, digits: int = 1) -> str:
        """Such as "94.2 % (91.0–96.5)"."""
        text = f"{100 * self.value:.{digits}f} %"
        if self.low is None or self.high is None:
            return text
        return f"{text} ({100 * self.low:.{digits}f}–{100 * self.high:.{digits}f})"

    def decimal(self, digits: int = 3) -> str:
        """Such as "0.842 (0.790–0.881)"; with a negative bound "-0.012 (-0.101 to 0.088)"."""
        text = f"{self.value:.{digits}f}"
        if self.low is None or self.high is None:
            return text
        between = " to " if self.low < 0 else "–"
        return f"{text} ({self.low:.{digits}f}{between}{self.high:.{digits}f})"


class Units:
    """What was drawn independently: pictures, or groups of pictures.

    Args:
        pictures: How many pictures there are.
        groups: The group of each, "" for a picture without one, which is then its own; None for no groups.
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
    """1.96."""
    return float(required("scipy.stats", "intervals").norm.ppf(0.5 + CONFIDENCE / 2))


def wilson(share: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's score interval of shares in [0, 1] of so many trials, which need not be whole numbers."""
    z2 = normal_quantile() ** 2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = np.sqrt(z2) / (1 + z2 / total) * np.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    low = np.where(share <= 0, 0.0, np.maximum(middle - half, 0))  # exactly, where rounding would miss it
    return low, np.where(share >= 1, 1.0, np.minimum(middle + half, 1))


def shares(right: np.ndarray, counted: np.ndarray, units: Units) -> list[Value | None]:
    """Shares of pictures, one per column.

    Args:
        right: bool (n, k): what is counted.
        counted: bool (n, k): among which pictures; a column without any gives None.
        units: Of the n pictures.
    """
    totals = counted.sum(axis=0, dtype=np.int64)
    hits = (right & counted).sum(axis=0, dtype=np.int64)
    return shares_of(hits, totals, _effective(right & counted, counted, units) if units.grouped else totals, units)


def shares_of(hits: np.ndarray, totals: np.ndarray, effective: np.ndarray, units: Units) -> list[Value | None]:
    """Wilson's interval of hits / totals, with an effective number of trials each."""
    share = hits / np.maximum(totals, 1)
    low, high = wilson(share, np.maximum(effective, 1e-9))
    return [
        Value(float(value), float(least), float(most), units.method(WILSON)) if total else None
        for value, least, most, total in zip(share, low, high, totals.tolist(), strict=True)
    ]


def _effective(right: np.ndarray, counted: np.ndarray, units: Units) -> np.ndarray:
    """(k,) the number of independent pictures whose share would vary as much as that of these groups.

    The variance is that of a ratio of two totals of groups; where it is 0, as of shares of 0 and 1, each group counts
    as one picture. Fewer groups give Student's quantile in place of the normal one (Korn and Graubard).
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


def mean_of_shares(parts: Sequence[Value], method: str = MOVER) -> Value:
    """The mean of independent figures, its interval from theirs (MOVER: variances recovered from the limits)."""
    values, lows, highs = (
        np.array(each, float) for each in zip(*((v.value, v.low, v.high) for v in parts), strict=True)
    )
    mean = float(values.mean())
    below = float(np.sqrt(((values - lows) ** 2).sum())) / len(values)
    above = float(np.sqrt(((highs - values) ** 2).sum())) / len(values)
    return Value(mean, max(0.0, mean - below), min(1.0, mean + above), method)


def f1_of(jaccard: Value | None) -> Value | None:
    """F1 from J = TP / (TP + FP + FN), which is a share: F1 = 2 J / (1 + J), and so are the bounds."""
    if jaccard is None:
        return None
    value, low, high = (2 * each / (1 + each) for each in (jaccard.value, jaccard.low or 0.0, jaccard.high or 0.0))
    return Value(value, low, high, jaccard.method)


def by_influence(value: float, influence: np.ndarray, units: Units, method: str, freedom: float | None = None) -> Value:
    """The interval of a figure in [0, 1] from each picture's influence on it, on the logit's scale.

    Args:
        value: The figure.
        influence: (n,): the figure is, to first order, the true one plus the sum of these, which is 0 here.
        units: Of the n pictures.
        method: How the interval is called.
        freedom: Degrees of freedom of Student's quantile; None takes the normal one.
    """
    count = len(units)
    if not 0 < value < 1 or count < 2:
        return Value(value)
    totals = units.totals(influence)
    spread = float(np.sqrt((totals**2).sum() * count / (count - 1)))
    quantile = normal_quantile()
    if freedom is not None:
        quantile = float(required("scipy.stats", "intervals").t.ppf(0.5 + CONFIDENCE / 2, max(freedom, 1)))
    half = quantile * spread / (value * (1 - value))
    logit = np.log(value / (1 - value))
    low, high = (1 / (1 + np.exp(-(logit + each))) for each in (-half, half))
    return Value(value, float(low), float(high), units.method(method))


def newcombe(area: float, positives: float, negatives: float) -> tuple[float, float]:
    """The interval of an area under a ROC curve, also of 0 and 1, where DeLong's variance vanishes.

    Method 5 of Newcombe, Stat. Med. 25 (2006): a score interval with Hanley and McNeil's variance.
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
    """The average precision where the scores of both kinds are normal and equally wide.

    Args:
        area: Under the ROC curve, in (0, 1). share: Of positive pictures, in (0, 1).
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
    """The intervals of several figures, of the same resamples, by `scipy.stats.bootstrap`.

    Args:
        statistic: Takes weights, float64 (resamples, n): how many times each picture was drawn; gives
            (figures, resamples), NaN where a resample has no such figure.
        units: Of the n pictures.
        bounds: The least and the greatest value that the figures may have.
        seed: Of the resamples.
        method: "BCa" or "percentile"; None is BCa for up to `MANY` units.

    Returns:
        The figures; those whose resamples are all alike have no interval.
    """
    resample = required("scipy.stats", "intervals").bootstrap
    count, many = len(units), len(units) > MANY
    method = method or ("percentile" if many else "BCa")
    values = statistic(np.ones((1, units.pictures)))[:, 0]
    if count < 2:
        return [Value(float(value)) for value in values]

    def of_indices(indices: np.ndarray, axis: int = -1) -> np.ndarray:
        drawn = np.atleast_2d(indices)
        rows = np.arange(len(drawn))[:, None] * count
        weights = np.bincount((drawn + rows).ravel(), minlength=len(drawn) * count).reshape(len(drawn), count)
        found = statistic(weights[:, units.numbers].astype(np.float64))
        # A resample without the figure, such as one of a single class, says nothing: the estimate takes its place.
        found = np.where(np.isnan(found), values[:, None], found)
        return found if indices.ndim > 1 else found[:, 0]

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # figures whose resamples are all alike
        found = resample(
            (np.arange(count),),
            of_indices,
            vectorized=True,
            n_resamples=FEWER_RESAMPLES if many else RESAMPLES,
            batch=max(1, BATCH_CELLS // max(count, units.pictures)),
            method=method,
            rng=np.random.default_rng(seed),
        )
    interval, name = found.confidence_interval, units.method(PERCENTILES if method == "percentile" else BCA)
    known = np.isfinite(interval.low) & np.isfinite(interval.high) & (interval.low < interval.high)
    return [
        Value(float(value), max(bounds[0], float(low)), min(bounds[1], float(high)), name)
        if there
        else Value(float(value))
        for value, low, high, there in zip(values, interval.low, interval.high, known, strict=True)
    ]


def mean(values: np.ndarray, units: Units, seed: int = 0) -> Value:
    """The mean of (n,) values that are not negative, with the interval of the bootstrap-t.

    Resamples are judged by their own standard errors, which a mean of skewed values needs: of few pictures with a few
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

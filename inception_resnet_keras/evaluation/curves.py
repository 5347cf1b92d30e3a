"""Curves over all thresholds, with bands: ROC, precision and recall, reliability, and the ROC of face distances.

Bands are pointwise 95 % intervals. The band of a single class is Wilson's interval for the images that the height of
the curve counts. The mean of several curves, and curves of grouped images, which are not independent, get percentiles
of resampled curves: whole groups are drawn with replacement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from ..common.packages import required
from .calibration import BINS, Calibration, binned, confidence_and_correct
from .figure_style import (
    GRID,
    HELD_OUT,
    INK,
    SERIES,
    TRAINING,
    add_caption,
    label,
    labels,
    plain,
    rows_of,
    save,
    styled,
    unused,
)
from .intervals import Units, shares, wilson
from .verification import Verification

Kind = Literal["roc", "precision_recall"]
KINDS: tuple[Kind, ...] = get_args(Kind)
AREAS: Mapping[Kind, str] = {"roc": "auc", "precision_recall": "average_precision"}  # their names in `metrics.Figures`
GRID_POINTS = 201  # points at which curves are averaged
MOST_PANELS = 10  # up to this many classes are drawn, one panel each; with more classes, the WORST of them
WORST = 7
RESAMPLES, FEWEST_RESAMPLES = 200, 100
WORK = 5e7  # upper bound of images × classes × resamples: about 2 seconds
LEAST_IN_BIN, MOST_BINS = 10, 15
NAME_LENGTH = 32  # maximum length of a name above a panel, in letters


@dataclass(frozen=True)
class Curve:
    """A curve over all thresholds.

    Attributes:
        x, y: The points, in [0, 1]: false and true positive rate of a ROC curve, otherwise recall and precision.
        band: (x, low, high), or None.
        area: The area under a ROC curve, otherwise the average precision.
        chance: The height of a random classifier's precision; 0.5 for ROC, which is its area.
        pictures: The number of images that have the class.
    """

    x: np.ndarray
    y: np.ndarray
    band: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    area: float
    chance: float
    pictures: int


@dataclass(frozen=True)
class CurveSet:
    """The curves of a classifier.

    Attributes:
        kind: The kind of curve.
        curves: The curve of each class that has both images and counter-examples, by class name.
        mean: The mean of these curves; None for one class.
        resamples: The number of resamples; 0 if all bands are Wilson's or there are none.
        grouped: Whether groups instead of images were resampled.
        several: Whether an image may have several of the classes.
    """

    kind: Kind
    curves: Mapping[str, Curve]
    mean: Curve | None
    resamples: int
    grouped: bool
    several: bool


def curve_set(
    kind: Kind,
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    groups: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> CurveSet:
    """Compute a classifier's curves: the second class of two, or each of several classes against the rest.

    Args:
        kind: "roc" or "precision_recall".
        labels: (n,) indices of the true classes; with several labels per image (n, classes), 1 where a label applies.
        probabilities: (n, classes).
        class_names: The names of the classes.
        groups: (n,) the group of each image, such as its patient; "" for an image without a group. None for no groups.
        seed: Seed of the resampling.
    """
    # Classes without images or without counter-examples have no curve.
    several = labels.ndim == 2
    truth = labels.astype(bool) if several else labels[:, None] == np.arange(len(class_names))
    chosen = [1] if not several and len(class_names) == 2 else range(len(class_names))
    numbers = [number for number in chosen if truth[:, number].any() and not truth[:, number].all()]
    # Only groups and the mean need resampling; it is left out if so many images allow too few resamples.
    units, grouped = _units(len(truth), groups)
    resamples = int(min(RESAMPLES, WORK / max(1, len(truth) * len(numbers))))
    resamples = resamples if resamples >= FEWEST_RESAMPLES and (grouped or len(numbers) > 1) else 0
    # The same resamples of all classes are summed one class after another, so that memory does not grow with classes.
    at = np.linspace(0, 1, GRID_POINTS)
    sums = np.zeros((resamples, GRID_POINTS))
    counts = np.zeros((resamples, 1))
    curves, heights = {}, np.zeros(GRID_POINTS)
    for number in numbers:
        curve = _curve(kind, truth[:, number], probabilities[:, number])
        heights += _height(kind, curve.x, curve.y, at)
        if resamples:
            drawn = _resampled(kind, truth[:, number], probabilities[:, number], units, resamples, at=at, seed=seed)
            valid = np.isfinite(drawn).all(axis=1, keepdims=True)
            sums += np.where(valid, drawn, 0)
            counts += valid
            if grouped:
                curve = _with_band(curve, at, drawn)
        elif grouped:
            curve = _with_band(curve, at, None)
        curves[class_names[number]] = curve
    mean = None
    if len(numbers) > 1:
        area = float(np.mean([curve.area for curve in curves.values()]))
        chance = float(np.mean([curve.chance for curve in curves.values()]))
        plain_mean = Curve(at, heights / len(numbers), None, area, chance, len(truth))
        with np.errstate(invalid="ignore"):
            mean = _with_band(plain_mean, at, sums / counts if resamples else None)
    return CurveSet(kind, curves, mean, resamples, grouped, several)


def _units(pictures: int, groups: Sequence[str] | None) -> tuple[np.ndarray, bool]:
    """The index of the unit that each image is resampled with, int64 (n,), and whether any unit has several images."""
    if groups is None or not any(groups):
        return np.arange(pictures), False
    named = [group or f"\0{number}" for number, group in enumerate(groups)]
    units = np.unique(named, return_inverse=True)[1]
    return units, len(np.unique(units)) < pictures


def _curve(kind: Kind, truth: np.ndarray, scores: np.ndarray) -> Curve:
    metrics = required("sklearn.metrics", "curves")
    positives = int(truth.sum())
    if kind == "roc":
        false, true, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
        low, high = _wilson(true * positives, positives)
        return Curve(false, true, (false, low, high), float(metrics.roc_auc_score(truth, scores)), 0.5, positives)
    precision, recall, _ = metrics.precision_recall_curve(truth, scores)
    precision, recall = precision[-2::-1], recall[-2::-1]  # scikit-learn's last point belongs to no threshold
    hits = recall * positives
    low, high = _wilson(hits, np.rint(hits / np.maximum(precision, 1e-12)))
    area = float(metrics.average_precision_score(truth, scores))
    return Curve(recall, precision, (recall, low, high), area, positives / len(truth), positives)


def _height(kind: Kind, x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The height of the curve at given x, without interpolation between thresholds, since none lies between them.

    For ROC: the highest true positive rate with at most this false positive rate. For precision: the precision at the
    first threshold that reaches this recall.
    """
    if kind == "roc":
        return y[np.searchsorted(x, at, side="right") - 1]
    return y[np.minimum(np.searchsorted(x, at - 1e-12, side="left"), len(y) - 1)]


def _resampled(
    kind: Kind, truth: np.ndarray, scores: np.ndarray, units: np.ndarray, resamples: int, *, at: np.ndarray, seed: int
) -> np.ndarray:
    """(resamples, points): the curve's height in each resample; NaN in resamples without positives or negatives."""
    # Images are sorted once; a resample only changes how often each of them counts.
    order = np.argsort(-scores, kind="stable")
    ordered, positive, owners = scores[order], truth[order], units[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # equal scores share one threshold
    found = np.full((resamples, len(at)), np.nan)
    for row, weights in enumerate(_weights(int(units.max()) + 1, resamples, seed)):
        drawn = weights[owners]
        true = np.cumsum(drawn * positive)[ends]
        false = np.cumsum(drawn)[ends] - true
        if not (true[-1] and false[-1]):
            continue
        if kind == "roc":
            x, y = np.append(0, false / false[-1]), np.append(0, true / true[-1])
        else:
            x, y = true / true[-1], true / np.maximum(true + false, 1)
        found[row] = _height(kind, x, y, at)
    return found


def _weights(units: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """The number of times each unit is drawn, resample by resample; the same for every class."""
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(random.integers(0, units, units), minlength=units)


def _with_band(curve: Curve, at: np.ndarray, drawn: np.ndarray | None) -> Curve:
    band = None
    if drawn is not None and len(drawn := drawn[np.isfinite(drawn).all(axis=1)]) >= FEWEST_RESAMPLES:
        low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
        band = at, low, high
    return Curve(curve.x, curve.y, band, curve.area, curve.chance, curve.pictures)


def _wilson(right: np.ndarray, count: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval of right / count, elementwise; 0 to 1 where the count is 0."""
    counts = np.broadcast_to(np.asarray(count, float), right.shape)
    low, high = wilson(right / np.maximum(counts, 1), np.maximum(counts, 1))
    return np.where(counts > 0, low, 0.0), np.where(counts > 0, high, 1.0)


# ----------------------------------------------------------------------------------------------------------------------
# Figures
# ----------------------------------------------------------------------------------------------------------------------
def plot_curves(found: CurveSet, path: Path, intervals: Mapping[str, tuple[float, float]] | None = None) -> None:
    save(curves_figure(found, intervals), path)


@styled
def curves_figure(found: CurveSet, intervals: Mapping[str, tuple[float, float]] | None = None) -> Figure:
    """A figure with one panel for the mean of the classes and one per class; the worst seven of more than 10 classes.

    intervals: 95 % intervals of the areas, by class name; that of the mean is under "".
    """
    # The panels: the mean first, then the classes.
    panels = [("", found.mean)] if found.mean else []
    shown = list(found.curves.items())
    if len(shown) > MOST_PANELS:
        shown = sorted(shown, key=lambda item: item[1].area)[:WORST]
    panels += shown
    if not panels:
        return _nothing_to_draw(found)
    # The grid: one row for up to four panels.
    columns = len(panels) if len(panels) <= 4 else 3 if len(panels) <= 6 else 4
    rows = rows_of(len(panels), columns)
    side = 4.2 if len(panels) == 1 else 2.75
    figure = Figure(figsize=(max(side * columns, 4.6), (side + 0.3) * rows + 0.75), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    names = labels([name for name, _ in panels], NAME_LENGTH)
    for axis, (name, curve), written in zip(axes, panels, names, strict=False):
        assert curve is not None
        _draw_curve(axis, found.kind, curve, mean=not name and found.mean is not None)
        area = (intervals or {}).get(name)
        axis.set_title(_panel_title(found, written, curve, area), fontsize=9 if len(panels) > 1 else 10, loc="left")
    unused(axes, len(panels))
    # Axis labels stand only at the left and below the last panel of each column.
    x, y = ("false positive rate", "true positive rate") if found.kind == "roc" else ("recall", "precision")
    for number, axis in enumerate(axes[: len(panels)]):
        below = number + columns >= len(panels)
        axis.set_xlabel(x if below else "")
        axis.xaxis.set_tick_params(labelbottom=below)
        axis.set_ylabel(y if number % columns == 0 else "")
    figure.suptitle("ROC" if found.kind == "roc" else "Precision and recall", fontsize=12)
    add_caption(figure, *_caption(found, len(shown)))
    return figure


def _draw_curve(axis: Axes, kind: Kind, curve: Curve, *, mean: bool) -> None:
    colour = SERIES[5] if mean else HELD_OUT
    steps: Literal["post", "pre"] = "post" if kind == "roc" else "pre"
    if kind == "roc":
        axis.plot([0, 1], [0, 1], color=TRAINING, linestyle="--", linewidth=0.9)
    else:
        axis.axhline(curve.chance, color=TRAINING, linestyle="--", linewidth=0.9)
    if curve.band is not None:
        axis.fill_between(*curve.band, step=steps, color=colour, alpha=0.2, linewidth=0)
    axis.step(curve.x, curve.y, where=steps, color=colour, linewidth=1.6)
    if kind == "roc":  # from 0 to the true positive rate that is reached without a false positive
        axis.vlines(curve.x[0], 0, curve.y[0], color=colour, linewidth=1.6)
    if kind == "precision_recall" and not mean:  # from recall 0 to the recall of the first threshold
        axis.hlines(curve.y[0], 0, curve.x[0], color=colour, linewidth=1.6)
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), aspect="equal")
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_formatter(PercentFormatter(1.0, decimals=0))
    plain(axis)


def _panel_title(found: CurveSet, name: str, curve: Curve, interval: tuple[float, float] | None) -> str:
    area = f"{'AUC' if found.kind == 'roc' else 'AP'} {curve.area:.3f}"
    if interval:
        area += f" ({interval[0]:.3f} to {interval[1]:.3f})"
    if not name:
        return f"mean of {len(found.curves)} {'labels' if found.several else 'classes'}\n{area}"
    return f"{name}\n{area}, n = {curve.pictures:,}"


def _caption(found: CurveSet, shown: int) -> Iterator[str]:
    kind = "label" if found.several else "class"
    if found.mean:
        yield f"Each {kind} against the rest; n: its number of pictures."
    else:
        yield f"n: pictures of this {kind}, against all others."
    if shown < len(found.curves):
        plural = "classes" if kind == "class" else "labels"
        yield f"Shown: the {shown} of {len(found.curves):,} {plural} with the smallest area."
    what = "groups" if found.grouped else "pictures"
    resampled = f"percentiles of {found.resamples} resamples of {what}"
    where = "at each false positive rate" if found.kind == "roc" else "at each recall"
    wilsons = "Wilson's at each threshold"
    if found.grouped:
        yield f"Bands: 95 %, {resampled}, {where}." if found.resamples else "No bands: too many pictures to resample."
    elif found.mean and found.resamples:
        yield f"Bands: 95 %, {wilsons}; for the mean {resampled}, {where}."
    elif found.mean:
        yield f"Bands: 95 %, {wilsons}; the mean has none, because there are too many pictures to resample."
    else:
        yield f"Bands: 95 %, {wilsons}."
    yield "Dashed: chance."


def _nothing_to_draw(found: CurveSet) -> Figure:
    figure = Figure(figsize=(6, 1.2))
    reason = "no curve: all pictures are of one class"
    if found.several:
        reason = "no curve: every label is on all pictures or on none"
    figure.text(0.5, 0.5, reason, ha="center", va="center")
    return figure


def plot_reliability(
    truth: np.ndarray,
    models: Sequence[tuple[str, np.ndarray, Calibration]],
    classes: Sequence[str],
    path: Path,
    groups: Sequence[str] | None = None,
) -> None:
    save(reliability(truth, models, classes, groups), path)


@styled
def reliability(
    truth: np.ndarray,
    models: Sequence[tuple[str, np.ndarray, Calibration]],
    classes: Sequence[str],
    groups: Sequence[str] | None = None,
) -> Figure:
    """A reliability diagram: accuracy over confidence with 95 % intervals, and the distribution of the confidence.

    With two classes: the share of images of the positive class over its probability.

    Args:
        truth: int (n,), indices of the true classes.
        models: The name, the probabilities (n, classes) and the calibration of each model.
        classes: The names of the classes; with two, the second one is the positive one.
        groups: (n,) the group of each image, as for `curve_set`.
    """
    # Above: accuracy over confidence, with the diagonal of a perfectly calibrated model. Below: the distribution.
    positive = label(classes[1], 28) if len(classes) == 2 else None
    figure = Figure(figsize=(5.6, 6.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(3.2, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color=TRAINING, linestyle="--", linewidth=1)
    edges = np.linspace(0, 1, 21)
    units = Units(len(truth), groups)
    total = len(truth)
    for colour, (name, probabilities, found) in zip(cycle(SERIES), models, strict=False):
        if positive is None:
            (confidence, correct), error = confidence_and_correct(truth, probabilities), found.ece
        else:
            confidence, correct = probabilities[:, 1], truth == 1
            error = binned(confidence, correct)[1]
        legend = f"{label(name, 28)}: ECE {error:.1%}"
        if positive is None and found.temperature is not None and found.scaled_ece is not None:
            legend += f", {found.scaled_ece:.1%} at T = {found.temperature:.2f}"
        # Bins of equal counts, so that every point has a similar interval.
        bins, sure, right, _ = equal_bins(confidence, correct)
        inside = bins[:, None] == np.arange(len(sure))
        intervals = shares(np.broadcast_to(correct[:, None], inside.shape), inside, units)
        low, high = np.array([(value.low, value.high) for value in intervals if value]).T
        errors = np.maximum([right - low, high - right], 0)
        upper.errorbar(
            sure, right, errors, color=colour, marker="o", markersize=5, linewidth=1.4, elinewidth=1, capsize=2.5
        ).set_label(legend)
        heights = np.histogram(confidence, edges)[0] / max(1, len(confidence))
        if len(models) == 1:
            lower.bar(edges[:-1], heights, width=0.05, align="edge", color=colour, edgecolor=GRID, linewidth=0.5)
        else:
            lower.stairs(heights, edges, color=colour, linewidth=1.4)
    upper.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel=f"share that is {positive or 'correct'}")
    lower.set(xlabel=f"probability of {positive or 'the most probable class'}", ylabel="share of pictures")
    lower.set_ylim(bottom=0)
    figure.legend(loc="outside upper left", fontsize=9)
    for axis in (upper, lower):
        plain(axis)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    lower.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    count = bin_count(total)
    by_group = f", based on {len(units):,} groups" if units.grouped else ""
    add_caption(
        figure,
        f"n = {total:,}. Each point: about {total // count:,} pictures of similar probability, "
        f"with Wilson's 95 % interval{by_group}. The ECE has {BINS} bins of equal width instead. "
        + (
            "Below the dashed line the model is overconfident."
            if positive is None
            else "Below the dashed line the probability is too high. The ECE is that of this probability."
        ),
    )
    return figure


def bin_count(pictures: int) -> int:
    """The number of bins for a number of images: one per 10 images, from 1 to 15."""
    return int(np.clip(pictures // LEAST_IN_BIN, 1, MOST_BINS))


def equal_bins(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Bins of about equal counts: the bin of each image; and each bin's mean confidence, accuracy and number of images.

    Images of equal confidence share a bin, so that there may be fewer than `bin_count` bins; no bin is empty.
    """
    order = np.argsort(confidence, kind="stable")
    ordered, right = confidence[order].astype(float), correct[order].astype(float)
    cuts = np.linspace(0, len(ordered), bin_count(len(ordered)) + 1).astype(int)[1:-1]
    starts = np.unique(np.append(0, np.searchsorted(ordered, ordered[cuts], side="left")))
    counts = np.diff(np.append(starts, len(ordered)))
    bins = np.searchsorted(ordered[starts], confidence, side="right") - 1
    return bins, np.add.reduceat(ordered, starts) / counts, np.add.reduceat(right, starts) / counts, counts


def plot_verification(found: Verification, distances: np.ndarray, same: np.ndarray, path: Path) -> None:
    save(verification(found, distances, same), path)


@styled
def verification(found: Verification, distances: np.ndarray, same: np.ndarray) -> Figure:
    """The distances of pairs of the same person and of different persons, and the ROC curve with Wilson's band."""
    # Left: both histograms, with the threshold between them.
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = np.histogram_bin_edges(distances, bins=min(60, max(10, len(distances) // 20)))
    for chosen, name, colour in ((same, "same person", HELD_OUT), (~same, "different persons", SERIES[1])):
        left.hist(distances[chosen], edges, color=colour, alpha=0.6, label=f"{name}, {chosen.sum():,} pairs")
    left.axvline(found.threshold, color=INK, linestyle="--", linewidth=1, label=f"threshold {found.threshold:.3f}")
    left.set(
        xlabel="squared distance of the embeddings",
        ylabel="pairs",
        title=f"accuracy {found.accuracy:.2%} ± {found.deviation:.2%}",
    )
    left.set_ylim(top=1.3 * left.get_ylim()[1])  # room for the legend
    left.legend(fontsize=9)
    # Right: the ROC curve on a logarithmic axis, which starts at half of the smallest rate that these pairs can show.
    least = 1 / max(2, (~same).sum())
    curve = np.array(found.roc)
    positives = int(same.sum())
    false = np.maximum(curve[:, 0], least / 2)
    low, high = _wilson(curve[:, 1] * positives, positives)
    right.fill_between(false, low, high, step="post", color=HELD_OUT, alpha=0.2, linewidth=0)
    right.step(false, curve[:, 1], where="post", color=HELD_OUT)
    right.plot(
        np.geomspace(least / 2, 1, 100), np.geomspace(least / 2, 1, 100), color=TRAINING, linestyle="--", linewidth=1
    )
    for share, accepts in found.true_accepts.items():
        if accepts is not None:
            right.plot(float(share.rstrip("%")) / 100, accepts, "o", color=SERIES[1], label=f"{accepts:.2%} at {share}")
    right.set(xscale="log", xlim=(least / 2, 1), ylim=(-0.02, 1.02), title=f"ROC, area {found.auc:.4f}")
    right.set(xlabel="false accepts (share of the pairs of different persons)", ylabel="true accepts")
    right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    right.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.10g}%"))
    if any(accepts is not None for accepts in found.true_accepts.values()):
        right.legend(loc="best", fontsize=9)
    for axis in (left, right):
        plain(axis)
    add_caption(figure, "Band: Wilson's 95 % interval of the true accept rate at each threshold.")
    return figure

"""Curves over all thresholds, with bands: ROC, precision and recall, reliability; and the ROC of faces' distances.

Bands are 95 % intervals at each place of a curve by itself. Of one class they are Wilson's, of the pictures that the
curve's height counts. Means of several classes' curves, and curves of grouped pictures, which are not independent, have
percentiles of resampled curves: whole groups are drawn with replacement.
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
from .calibration import Calibration, binned, confidence_and_correct
from .figure_style import (
    GRID,
    HELD_OUT,
    INK,
    LABEL_LENGTH,
    SERIES,
    TRAINING,
    add_caption,
    label,
    plain,
    rows_of,
    save,
    styled,
    unused,
)
from .intervals import wilson
from .verification import Verification

Kind = Literal["roc", "precision_recall"]
KINDS: tuple[Kind, ...] = get_args(Kind)
AREAS: Mapping[Kind, str] = {"roc": "auc", "precision_recall": "average_precision"}  # as `metrics.Figures` calls them
GRID_POINTS = 201  # at which curves are averaged
MOST_PANELS = 10  # classes that are drawn one by one; of more, the worst WORST
WORST = 7
RESAMPLES, FEWEST_RESAMPLES = 200, 100
WORK = 5e7  # pictures times classes times resamples, which takes about 2 seconds
LEAST_IN_BIN, MOST_BINS = 10, 15


@dataclass(frozen=True)
class Curve:
    """A curve over all thresholds.

    x, y: As drawn; of ROC the false and the true positive rate, otherwise recall and precision, in [0, 1].
    band: (x, low, high), or None. area: Under the curve; of precision and recall the average precision.
    chance: The height of a classifier that guesses, of precision and recall. pictures: How many have the class.
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

    kind: What they are. curves: By class: those that have pictures and counter-examples. mean: Of all these classes'
    curves; None for one class. resamples: How often pictures or groups were drawn; 0 where bands are Wilson's or none.
    grouped: Whether groups were drawn. several: Whether a picture may have several of the classes.
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
    """Computes a classifier's curves: of two one, that of the second; of more, each against the rest.

    Args:
        kind: "roc" or "precision_recall".
        labels: (n,) the true classes' numbers; of several labels per picture (n, classes), 1 where a label applies.
        probabilities: (n, classes).
        class_names: The names of the classes.
        groups: (n,) what pictures belong to, such as a patient; "" for a picture of its own.
        seed: Of the resampling.
    """
    several = labels.ndim == 2
    truth = labels.astype(bool) if several else labels[:, None] == np.arange(len(class_names))
    chosen = [1] if not several and len(class_names) == 2 else range(len(class_names))
    numbers = [number for number in chosen if truth[:, number].any() and not truth[:, number].all()]
    units, grouped = _units(len(truth), groups)
    resamples = int(min(RESAMPLES, WORK / max(1, len(truth) * len(numbers))))
    resamples = resamples if resamples >= FEWEST_RESAMPLES and (grouped or len(numbers) > 1) else 0
    at = np.linspace(0, 1, GRID_POINTS)
    sums = np.zeros((resamples, GRID_POINTS))
    counts = np.zeros((resamples, 1))
    curves, heights = {}, np.zeros(GRID_POINTS)
    for number in numbers:
        curve = _curve(kind, truth[:, number], probabilities[:, number])
        heights += _height(kind, curve.x, curve.y, at)
        if resamples:
            drawn = _resampled(kind, truth[:, number], probabilities[:, number], units, resamples, at=at, seed=seed)
            there = np.isfinite(drawn).all(axis=1, keepdims=True)
            sums += np.where(there, drawn, 0)
            counts += there
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
    """int64 (n,), what is drawn as one: a picture or a group; and whether any group has several pictures."""
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
    precision, recall = precision[-2::-1], recall[-2::-1]  # the last point is none of a threshold
    hits = recall * positives
    low, high = _wilson(hits, np.rint(hits / np.maximum(precision, 1e-12)))
    area = float(metrics.average_precision_score(truth, scores))
    return Curve(recall, precision, (recall, low, high), area, positives / len(truth), positives)


def _height(kind: Kind, x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The curve's height at places of x. Between two thresholds that of the next one is taken, as when they are used.

    Of ROC: the greatest true positive rate with at most so many false ones. Of precision: at the threshold that first
    reaches a recall.
    """
    if kind == "roc":
        return y[np.searchsorted(x, at, side="right") - 1]
    return y[np.minimum(np.searchsorted(x, at - 1e-12, side="left"), len(y) - 1)]


def _resampled(
    kind: Kind, truth: np.ndarray, scores: np.ndarray, units: np.ndarray, resamples: int, *, at: np.ndarray, seed: int
) -> np.ndarray:
    """(resamples, places): the curve's height of each resample; NaN where that lacks the class or all others."""
    order = np.argsort(-scores, kind="stable")
    ordered, positive, owners = scores[order], truth[order], units[order]
    ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # equal scores are passed together
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
    """How often each unit is drawn, resample by resample: the same for every class."""
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
    """Wilson's 95 % interval of right / count, element by element; 0 to 1 where the count is 0."""
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
    """A panel for the mean of the classes and one for each class; of more than 10 classes the worst seven.

    intervals: 95 % intervals of the areas, by class and, of the mean's, by "".
    """
    panels = [("", found.mean)] if found.mean else []
    shown = list(found.curves.items())
    if len(shown) > MOST_PANELS:
        shown = sorted(shown, key=lambda item: item[1].area)[:WORST]
    panels += shown
    if not panels:
        return _nothing_to_draw(found)
    columns = len(panels) if len(panels) <= 4 else 3 if len(panels) <= 6 else 4
    rows = rows_of(len(panels), columns)
    side = 4.2 if len(panels) == 1 else 2.75
    figure = Figure(figsize=(max(side * columns, 4.6), (side + 0.3) * rows + 0.75), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axis, (name, curve) in zip(axes, panels, strict=False):
        assert curve is not None
        _draw_curve(axis, found.kind, curve, mean=not name and found.mean is not None)
        area = (intervals or {}).get(name)
        axis.set_title(_panel_title(found, name, curve, area), fontsize=9 if len(panels) > 1 else 10, loc="left")
    unused(axes, len(panels))
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
    if kind == "roc":  # a mean's height at 0 is that which is reached without a false alarm
        axis.vlines(curve.x[0], 0, curve.y[0], color=colour, linewidth=1.6)
    if kind == "precision_recall" and not mean:  # from recall 0 to the first threshold's
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
    return f"{label(name, LABEL_LENGTH)}\n{area}, n = {curve.pictures:,}"


def _caption(found: CurveSet, shown: int) -> Iterator[str]:
    kind = "label" if found.several else "class"
    if found.mean:
        yield f"Each {kind} against the rest; n: pictures of it."
    else:
        yield f"n: pictures of this {kind}, against all others."
    if shown < len(found.curves):
        yield f"Of {len(found.curves):,} {kind}{'es' if kind == 'class' else 's'} the {shown} of the least area."
    what = "groups" if found.grouped else "pictures"
    resampled = f"percentiles of {found.resamples} resamples of {what}"
    where = "at each false positive rate" if found.kind == "roc" else "at each recall"
    wilsons = "Wilson's at each threshold"
    if found.grouped:
        yield f"Bands: 95 %, {resampled}, {where}." if found.resamples else "No bands: too many pictures to resample."
    elif found.mean and found.resamples:
        yield f"Bands: 95 %, {wilsons}; of the mean {resampled}, {where}."
    elif found.mean:
        yield f"Bands: 95 %, {wilsons}; the mean has none, since there are too many pictures to resample."
    else:
        yield f"Bands: 95 %, {wilsons}."
    yield "Dashed: chance."


def _nothing_to_draw(found: CurveSet) -> Figure:
    figure = Figure(figsize=(6, 1.2))
    reason = "no curve: the pictures are all of one class" if not found.several else "no label is on some pictures only"
    figure.text(0.5, 0.5, reason, ha="center", va="center")
    return figure


def plot_reliability(
    labels: np.ndarray, models: Sequence[tuple[str, np.ndarray, Calibration]], classes: Sequence[str], path: Path
) -> None:
    save(reliability(labels, models, classes), path)


@styled
def reliability(
    labels: np.ndarray, models: Sequence[tuple[str, np.ndarray, Calibration]], classes: Sequence[str]
) -> Figure:
    """How often a model is right where it is how sure, with 95 % intervals, and how many pictures that is.

    Of two classes, how many pictures are of the positive one where its probability is how great.

    Args:
        labels: int (n,), the true classes' numbers.
        models: Each one's name, probabilities (n, classes) and calibration.
        classes: The classes' names; of two, the second one is the positive one.
    """
    positive = label(classes[1], 28) if len(classes) == 2 else None
    figure = Figure(figsize=(5.6, 6.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(3.2, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color=TRAINING, linestyle="--", linewidth=1)
    edges = np.linspace(0, 1, 21)
    total = 0
    for colour, (name, probabilities, found) in zip(cycle(SERIES), models, strict=False):
        if positive is None:
            (confidence, correct), error = confidence_and_correct(labels, probabilities), found.ece
        else:
            confidence, correct = probabilities[:, 1], labels == 1
            error = binned(confidence, correct)[1]
        legend = f"{label(name, 28)}: ECE {error:.1%}"
        if positive is None and found.temperature is not None and found.scaled_ece is not None:
            legend += f", {found.scaled_ece:.1%} at T = {found.temperature:.2f}"
        sure, right, counts = equal_bins(confidence, correct)
        low, high = _wilson(right * counts, counts)
        errors = np.maximum([right - low, high - right], 0)
        upper.errorbar(
            sure, right, errors, color=colour, marker="o", markersize=5, linewidth=1.4, elinewidth=1, capsize=2.5
        ).set_label(legend)
        shares = np.histogram(confidence, edges)[0] / max(1, len(confidence))
        total = len(confidence)
        if len(models) == 1:
            lower.bar(edges[:-1], shares, width=0.05, align="edge", color=colour, edgecolor=GRID, linewidth=0.5)
        else:
            lower.stairs(shares, edges, color=colour, linewidth=1.4)
    upper.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel=f"share that is {positive or 'right'}")
    lower.set(xlabel=f"probability of {positive or 'the likeliest class'}", ylabel="share of pictures")
    lower.set_ylim(bottom=0)
    figure.legend(loc="outside upper left", fontsize=9)
    for axis in (upper, lower):
        plain(axis)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    lower.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    bins = bin_count(total)
    add_caption(
        figure,
        f"n = {total:,}. Each point: about {total // bins if bins else 0:,} pictures of neighbouring probabilities, "
        "with Wilson's 95 % interval. "
        + (
            "Below the dashed line the model is too sure."
            if positive is None
            else "Below the dashed line the probability is too great. The ECE is of this probability."
        ),
    )
    return figure


def bin_count(pictures: int) -> int:
    """How many bins so many pictures fill: one per 10 pictures, 1 to 15."""
    return int(np.clip(pictures // LEAST_IN_BIN, 1, MOST_BINS))


def equal_bins(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bins of about equally many pictures: each one's mean confidence, share that is right, and number of pictures.

    Pictures of equal confidence are in one bin, so that there may be fewer bins; none is empty.
    """
    order = np.argsort(confidence, kind="stable")
    ordered, right = confidence[order].astype(float), correct[order].astype(float)
    cuts = np.linspace(0, len(ordered), bin_count(len(ordered)) + 1).astype(int)[1:-1]
    starts = np.unique(np.append(0, np.searchsorted(ordered, ordered[cuts], side="left")))
    counts = np.diff(np.append(starts, len(ordered)))
    return np.add.reduceat(ordered, starts) / counts, np.add.reduceat(right, starts) / counts, counts


def plot_verification(found: Verification, distances: np.ndarray, same: np.ndarray, path: Path) -> None:
    save(verification(found, distances, same), path)


@styled
def verification(found: Verification, distances: np.ndarray, same: np.ndarray) -> Figure:
    """The distances of pairs of one person and of two, and the ROC curve with Wilson's band."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = np.histogram_bin_edges(distances, bins=min(60, max(10, len(distances) // 20)))
    for chosen, name, colour in ((same, "one person", HELD_OUT), (~same, "two persons", SERIES[1])):
        left.hist(distances[chosen], edges, color=colour, alpha=0.6, label=f"{name}, {chosen.sum():,} pairs")
    left.axvline(found.threshold, color=INK, linestyle="--", linewidth=1, label=f"threshold {found.threshold:.3f}")
    left.set(
        xlabel="squared distance of the embeddings",
        ylabel="pairs",
        title=f"accuracy {found.accuracy:.2%} ± {found.deviation:.2%}",
    )
    left.set_ylim(top=1.3 * left.get_ylim()[1])  # room for the legend
    left.legend(fontsize=9)
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
    right.set(xlabel="false accepts, share of the pairs of two persons", ylabel="true accepts")
    right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    right.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.10g}%"))
    if any(accepts is not None for accepts in found.true_accepts.values()):
        right.legend(loc="best", fontsize=9)
    for axis in (left, right):
        plain(axis)
    add_caption(figure, "Band: Wilson's 95 % interval of the true accepts at each threshold.")
    return figure

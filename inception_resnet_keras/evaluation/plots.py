"""Figures for runs and evaluations: learning curves, learning rates, confusion matrices, and galleries of images.

For each figure, one function returns it and another, `plot_…`, writes it as PNG. Curves over thresholds are in
`curves`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

from ..common.console import counted
from .figure_style import (
    GRID,
    HELD_OUT,
    INK,
    LABEL_LENGTH,
    SERIES,
    TRAINING,
    add_caption,
    interval_text,
    label,
    labels,
    percent,
    plain,
    rows_of,
    save,
    styled,
    unused,
)
from .intervals import wilson
from .multi_label import MultiLabelReport
from .report import HELD_OUT_FIGURES, Report

MOST_LABELS = 40
MISTAKES_SHOWN, PAIRS_SHOWN, COPIES_SHOWN = 16, 12, 24
NUMBERED_CLASSES = 20  # with more classes, cells have no room for numbers
MATRIX_CLASSES, MOST_CONFUSED = 60, 40  # with more than 60 classes, only the 40 most confused ones are drawn
FILE_LENGTH = 26  # maximum length of a file's name, in letters
RIGHT, WRONG = HELD_OUT, SERIES[1]  # colours of cells on the diagonal and of other cells
ON_DARK = "#ffffff"

History = Sequence[Mapping[str, float]]


# ----------------------------------------------------------------------------------------------------------------------
# Learning curves
# ----------------------------------------------------------------------------------------------------------------------
def plot_learning_curves(history: History, path: Path) -> None:
    save(learning_curves(history), path)


@styled
def learning_curves(history: History) -> Figure:
    """Loss, accuracy and learning rate over epochs, for training and held-out images.

    A line marks the start of the next phase of fine-tuning, a ring the epoch of best.keras. The histories of older
    versions have no rates, phases and best epochs: their figures have only the first two charts.
    """
    charts = _charts(history)
    figure = Figure(figsize=(4.5 * len(charts), 3.6), layout="constrained")
    axes = figure.subplots(1, len(charts))
    epochs = [row["epoch"] for row in history]
    phases = [row.get("phase", 1) for row in history]
    starts = [epoch for epoch, before, phase in zip(epochs[1:], phases, phases[1:], strict=False) if phase != before]
    best = [row for row in history if row["epoch"] == history[-1].get("best_epoch")]
    marker = "o" if len(history) <= 40 else None
    # Each chart: the starts of phases behind the curves, the best epoch in front of them.
    for axis, key in zip(axes, charts, strict=True):
        for start in starts:
            line = axis.axvline(start - 0.5, color=SERIES[5], linestyle=":", linewidth=1.5, zorder=1)
            line.set_label("trunk unfrozen" if start == starts[0] else None)
        if key == "learning rate":
            axis.plot(epochs, [row["learning_rate"] for row in history], color=SERIES[3], marker=marker)
            axis.set_yscale("log")
        else:
            axis.plot(epochs, [row[key] for row in history], color=TRAINING, marker=marker, label="training")
            axis.plot(epochs, [row[f"val_{key}"] for row in history], color=HELD_OUT, marker=marker, label="held out")
            for column, name in HELD_OUT_FIGURES.items() if key == "accuracy" else ():
                if all(column in row for row in history):
                    values = [row[column] for row in history]
                    axis.plot(epochs, values, color=SERIES[1], linestyle="--", label=f"held out, {name}")
            for row in best:
                ring = {"marker": "o", "markersize": 13, "markerfacecolor": "none", "linestyle": "none"}
                legend = f"best, epoch {row['epoch']:.0f}"
                axis.plot([row["epoch"]], [row[f"val_{key}"]], color=SERIES[2], label=legend, **ring)
        _finish_chart(axis, key)
    # A diverging held-out loss would flatten all other values on a linear axis.
    if min(row["loss"] for row in history) > 0 and max(row["val_loss"] for row in history) > 10:
        axes[0].set_yscale("log")
    axes[1].legend()
    return figure


def plot_learning_curves_of_runs(histories: Mapping[str, History], path: Path) -> None:
    save(learning_curves_of_runs(histories), path)


@styled
def learning_curves_of_runs(histories: Mapping[str, History]) -> Figure:
    """Loss and accuracy of several folds or seeds: a held-out line per run, and means with bands.

    histories: By the name of the run. A run that stopped early counts up to its last epoch.
    """
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    for axis, key in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for history in histories.values():
            values = [row[f"val_{key}"] for row in history]
            axis.plot([row["epoch"] for row in history], values, color=HELD_OUT, linewidth=0.7, alpha=0.45)
        for column, colour, name in ((key, TRAINING, "training"), (f"val_{key}", HELD_OUT, "held out")):
            epochs, means, deviations = _over_runs(list(histories.values()), column)
            axis.plot(epochs, means, color=colour, linewidth=2, marker="o", label=f"{name}, mean")
            axis.fill_between(epochs, means - deviations, means + deviations, color=colour, alpha=0.18, linewidth=0)
        _finish_chart(axis, key)
        axis.legend()
    lengths = {len(history) for history in histories.values()}
    add_caption(
        figure,
        f"Mean of {len(histories)} runs; bands: ± one standard deviation over the runs. Thin lines: held-out pictures "
        "of each run.",
        "Runs that stopped early count up to their last epoch." if len(lengths) > 1 else "",
    )
    return figure


def _over_runs(histories: Sequence[History], column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The epochs, and the mean and the standard deviation of a column over the runs that reached each epoch."""
    epochs = np.arange(1, max(map(len, histories)) + 1)
    values = [
        np.array([history[epoch][column] for history in histories if len(history) > epoch])
        for epoch in range(len(epochs))
    ]
    deviations = [each.std(ddof=1) if len(each) > 1 else 0.0 for each in values]
    return epochs, np.array([each.mean() for each in values]), np.array(deviations)


def _charts(history: History) -> tuple[str, ...]:
    has_rates = min(row.get("learning_rate", 0.0) for row in history) > 0
    return ("loss", "accuracy", "learning rate") if has_rates else ("loss", "accuracy")


def _finish_chart(axis: Axes, key: str) -> None:
    axis.set(xlabel="epoch", title=key)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if key == "accuracy":
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        low, high = axis.get_ylim()
        if high - low < 0.04:  # such as for perfect runs: ticks at whole per cents need room
            axis.set_ylim(max(low - 0.02, -0.02), min(high + 0.02, 1.02))
    plain(axis)


def plot_learning_rates(
    rates: Sequence[float], losses: Sequence[float], means: Sequence[float], suggestion: float | None, path: Path
) -> None:
    save(learning_rates(rates, losses, means, suggestion), path)


@styled
def learning_rates(
    rates: Sequence[float], losses: Sequence[float], means: Sequence[float], suggestion: float | None
) -> Figure:
    """The loss over the learning rate in a range test, with its running mean and the suggested rate."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot(rates, losses, color=TRAINING, linewidth=1, alpha=0.7, label="each batch")
    axis.plot(rates, means, color=HELD_OUT, linewidth=2, label="running mean")
    lowest = int(np.argmin(means))
    axis.plot(rates[lowest], means[lowest], "o", color=HELD_OUT, label=f"lowest, at {rates[lowest]:.1e}")
    if suggestion is not None:
        axis.axvline(suggestion, color=SERIES[1], linestyle="--", linewidth=1, label=f"suggested: {suggestion:.1e}")
    # Diverging losses may be millions of times larger than the losses that matter.
    first, least = means[0], min(losses)
    axis.set_ylim(least - 0.1 * (first - least or 1), first + 1.2 * (first - least or 1))
    axis.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    plain(axis)
    axis.legend(loc="upper left")
    return figure


# ----------------------------------------------------------------------------------------------------------------------
# Confusion
# ----------------------------------------------------------------------------------------------------------------------
def plot_confusion(report: Report, path: Path, title: str | None = None) -> None:
    save(confusion(report, title), path)


@styled
def confusion(report: Report, title: str | None = None, *, interval: tuple[float, float] | None = None) -> Figure:
    """The confusion matrix of the classes that are true or predicted: counts, and shares of the true class.

    With more than 60 classes, the 40 classes that are confused most often are drawn.

    Args:
        report: The report with the matrix.
        title: A first line of the heading; None for none.
        interval: The interval of the accuracy. None takes that of the report's figures, which holds for groups too; for
            a report that was read from a file, Wilson's.
    """
    # The heading describes all images, also those of classes that are not drawn.
    counts = np.array(report.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    occur = np.flatnonzero(counts.any(axis=1) | counts.any(axis=0))
    pictures, right = int(counts.sum()), int(counts.diagonal().sum())
    low, high = _interval(right, pictures)
    if interval is None and report.figures:
        interval = report.figures.interval
    if interval:
        low, high = interval
    heading = (
        f"n = {pictures:,}; accuracy {percent(right / max(pictures, 1))} (95 % interval "
        f"{interval_text(low, high)}); balanced accuracy {percent(report.balanced_accuracy)}"
    )
    # Choose the classes to draw.
    some = ""
    if len(occur) > MATRIX_CLASSES:
        wrong = counts - np.diag(counts.diagonal())
        confused = (wrong.sum(axis=0) + wrong.sum(axis=1))[occur]
        some = f"Shown: the {MOST_CONFUSED} of {len(occur)} classes that are confused most often."
        occur = np.sort(occur[np.argsort(-confused, kind="stable")[:MOST_CONFUSED]])
    supports = counts.sum(axis=1)[occur]
    counts, shares = (matrix[np.ix_(occur, occur)] for matrix in (counts, shares))
    # The size of the figure follows the number of classes and the length of their names.
    classes = len(counts)
    names = labels([report.classes[number].name for number in occur], LABEL_LENGTH)
    longest = max(map(len, names))
    side = float(np.clip(0.42 * classes, 2.1, 8.0))
    margin = 0.8 + 0.085 * longest
    figure = Figure(figsize=(max(2 * side + margin + 1.0, 7.2), side + margin + 0.9), layout="compressed")
    left, right_panel = figure.subplots(1, 2)
    small = float(np.clip(230 / max(classes, 1), 6.5, 9.0))
    numbered = classes <= NUMBERED_CLASSES
    for axis, heat, what in (
        (left, counts / max(counts.max(), 1), "pictures"),
        (right_panel, shares, "share of the true class"),
    ):
        _draw_cells(axis, heat if numbered else np.sqrt(heat))  # the square root makes rare mistakes visible
        axis.set_xticks(range(classes), names, rotation=90 if longest > 3 else 0, fontsize=small)
        axis.set(xlabel="predicted", title=what)
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
        if not numbered:
            _add_scale(figure, axis, counts.max() if axis is left else 1.0, shares=axis is not left)
    for place, count in np.ndenumerate(counts) if numbered else ():
        if count:
            _write_cell(left, place, f"{count:,}", count / counts.max(), small)
            _write_cell(right_panel, place, _share_text(float(shares[place])), float(shares[place]), small)
    left.set_yticks(
        range(classes), [f"{name}  ({n:,})" for name, n in zip(names, supports, strict=True)], fontsize=small
    )
    left.set_ylabel("true (pictures)")
    right_panel.set_yticks([])
    figure.suptitle("\n".join(filter(None, [title and label(title), heading])), fontsize=11)
    add_caption(figure, some, "Blue: correct; orange: wrong.")
    return figure


def _interval(right: int, pictures: int) -> tuple[float, float]:
    low, high = wilson(np.array(right / max(pictures, 1)), np.array(float(pictures)))
    return float(low), float(high)


def _draw_cells(axis: Axes, heat: np.ndarray) -> None:
    """Draw cells with an opacity in [0, 1], so that they suit both light and dark pages."""
    cells = np.zeros((*heat.shape, 4))
    cells[..., :3] = to_rgb(WRONG)
    np.einsum("iij->ij", cells)[:, :3] = to_rgb(RIGHT)
    cells[..., 3] = np.where(heat > 0, 0.06 + 0.94 * heat, 0)
    axis.imshow(cells, interpolation="nearest")
    edges = np.arange(len(heat) + 1) - 0.5
    axis.hlines(edges, -0.5, len(heat) - 0.5, color=TRAINING, linewidth=0.4, alpha=0.5)
    axis.vlines(edges, -0.5, len(heat) - 0.5, color=TRAINING, linewidth=0.4, alpha=0.5)


def _write_cell(axis: Axes, place: tuple[int, ...], text: str, heat: float, size: float) -> None:
    row, column = place
    axis.text(column, row, text, ha="center", va="center", fontsize=size, color=ON_DARK if heat > 0.55 else INK)


def _share_text(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.0995 or share == 0 else f"{100 * share:.1f}"


def _add_scale(figure: Figure, axis: Axes, most: float, *, shares: bool) -> None:
    ramp = LinearSegmentedColormap.from_list("right", [(*to_rgb(RIGHT), 0.0), (*to_rgb(RIGHT), 1.0)])
    formatted = PercentFormatter(1.0, decimals=0) if shares else None
    bar = figure.colorbar(
        ScalarMappable(PowerNorm(0.5, 0, most), ramp), ax=axis, shrink=0.6, aspect=30, pad=0.02, format=formatted
    )
    bar.outline.set_visible(False)


# ----------------------------------------------------------------------------------------------------------------------
# Several labels per picture
# ----------------------------------------------------------------------------------------------------------------------
def plot_labels(report: MultiLabelReport, path: Path) -> None:
    save(label_scores(report), path)


@styled
def label_scores(report: MultiLabelReport) -> Figure:
    """Precision, recall, F1 and average precision of each label that occurs, the most frequent label first.

    With more than 40 labels, those with the lowest average precision are drawn.
    """
    scores = [score for score in report.classes if score.support]
    title = f"mean average precision {report.mean_average_precision:.2%} of {report.pictures:,} pictures"
    if len(scores) > MOST_LABELS:
        title += f"; the {MOST_LABELS} of {len(scores)} labels with the lowest average precision"
        scores = sorted(scores, key=lambda score: score.average_precision or 0.0)[:MOST_LABELS]
    # One row per label: a grey line spans its scores, markers show them, and a blue line shows the interval.
    scores = sorted(scores, key=lambda score: (-score.support, score.name))
    figure = Figure(figsize=(7.5, 1.9 + 0.32 * len(scores)), layout="constrained")
    axis = figure.subplots()
    rows = range(len(scores))
    for row, score in zip(rows, scores, strict=True):
        values = (score.precision, score.recall, score.f1, score.average_precision or 0.0)
        axis.plot([min(values), max(values)], [row, row], color=GRID, linewidth=3, zorder=1)
    series: tuple[tuple[str, list[float], str, str], ...] = (
        ("precision", [score.precision for score in scores], SERIES[1], "<"),
        ("recall", [score.recall for score in scores], SERIES[2], ">"),
        ("F1", [score.f1 for score in scores], SERIES[5], "|"),
        ("average precision", [score.average_precision or 0.0 for score in scores], HELD_OUT, "o"),
    )
    for name, values_of, colour, marker in series:
        axis.plot(values_of, rows, marker, color=colour, markersize=7, markeredgewidth=1.6, label=name, clip_on=False)
    for row, score in zip(rows, scores, strict=True):
        value = score.values.get("average_precision")
        if value and value.low is not None and value.high is not None:
            axis.plot([value.low, value.high], [row, row], color=HELD_OUT, linewidth=1.2, zorder=2)
    names = labels([score.name for score in scores], 28)
    axis.set_yticks(rows, [f"{name}, {score.support:,}" for name, score in zip(names, scores, strict=True)])
    axis.set(xlim=(0, 1), ylim=(len(scores) - 0.4, -0.6), ylabel="label, number of pictures")
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    figure.suptitle(title, fontsize=11)
    axis.set_xlabel("blue line: 95 % interval of the average precision", fontsize=9)
    figure.legend(loc="outside lower center", ncols=4, fontsize=9)
    plain(axis)
    return figure


def plot_label_mistakes(report: MultiLabelReport, pictures: Sequence[np.ndarray], path: Path) -> None:
    save(label_mistakes(report, pictures), path)


@styled
def label_mistakes(report: MultiLabelReport, pictures: Sequence[np.ndarray]) -> Figure:
    """The images with the most wrong labels, with their missed labels and their wrongly added ones.

    pictures: The images of the report's first mistakes, uint8 (height, width, 3) each.
    """

    def listed(what: str, names: Sequence[str]) -> str:
        return f"{what} {label(', '.join(names), FILE_LENGTH)}" if names else ""

    cells = [
        (
            "\n".join(
                filter(
                    None,
                    (
                        label(Path(mistake.name).name, FILE_LENGTH, middle=True),
                        listed("missed", mistake.missed),
                        listed("added", mistake.added),
                    ),
                )
            ),
            picture,
        )
        for mistake, picture in zip(report.mistakes, pictures, strict=False)
    ]
    title = f"{len(cells)} of {counted(len(report.mistakes), 'picture')} with wrong labels, most wrong labels first"
    return _gallery(cells, title if cells else "all labels of all pictures are correct", cell=(2.6, 3.0), columns=4)


# ----------------------------------------------------------------------------------------------------------------------
# Galleries
# ----------------------------------------------------------------------------------------------------------------------
def plot_mistakes(report: Report, pictures: Sequence[np.ndarray] | np.ndarray, path: Path) -> None:
    save(mistakes(report, pictures), path)


@styled
def mistakes(report: Report, pictures: Sequence[np.ndarray] | np.ndarray, total: int | None = None) -> Figure:
    """The misclassified images with the highest confidence, each with its file's name and in its own shape.

    Args:
        report: The report with the mistakes.
        pictures: The images of the report's first mistakes, uint8 (height, width, 3) each.
        total: The number of all mistakes; None if all are in the report.
    """
    cells = []
    for mistake, picture in zip(report.mistakes, pictures, strict=False):
        predicted, true = labels([mistake.predicted, mistake.true], LABEL_LENGTH)
        file = label(Path(mistake.name).name, FILE_LENGTH, middle=True)
        cells.append((f"{file}\npredicted ({percent(mistake.probability, 0)}): {predicted}\ntrue: {true}", picture))
    title = f"{len(cells)} of {counted(total or len(report.mistakes), 'mistake')}, most confident first"
    return _gallery(cells, title if cells else "all pictures are classified correctly", cell=(2.6, 3.0), columns=4)


def plot_copies(rows: Sequence[Sequence[str]], decode: Callable[[str], Image.Image], path: Path) -> None:
    save(copies(rows, decode), path)


@styled
def copies(rows: Sequence[Sequence[str]], decode: Callable[[str], Image.Image]) -> Figure:
    """The first pairs of copies side by side, each image with its name, class and part.

    Args:
        rows: The rows of a run's copies.csv.
        decode: A function that returns an image by its name.
    """
    cells = []
    for one, of_class, part, other, other_class, other_part, kind, bits, problem in rows[:COPIES_SHOWN]:
        images = [thumbnail(decode(name), 200) for name in (one, other)]
        height = max(image.shape[0] for image in images)
        padded = [
            np.pad(image, ((0, height - image.shape[0]), (0, 6), (0, 0)), constant_values=255) for image in images
        ]
        what = f"{kind}{f', {bits} bits' if bits else ''}{f': {problem}' if problem else ''}"
        names = [
            f"{label(Path(name).name, 24, middle=True)} ({label(given, 14)}, {of_part})"
            for name, given, of_part in ((one, of_class, part), (other, other_class, other_part))
        ]
        cells.append(("\n".join([what, *names]), np.concatenate(padded, axis=1)))
    return _gallery(cells, f"{len(cells)} of {counted(len(rows), 'pair')} of copies", cell=(3.6, 2.6), columns=2)


def thumbnail(image: Image.Image, side: int = 400) -> np.ndarray:
    """An image as uint8 (height, width, 3), with sides of at most `side` pixels and its own aspect ratio."""
    small = image.copy()
    small.thumbnail((side, side))
    return np.asarray(small)


def plot_pairs(
    shown: Sequence[tuple[Sequence[str], bool, float, Sequence[Image.Image]]], wrong: int, path: Path
) -> None:
    """Write the figure of misjudged pairs.

    Args:
        shown: (names, whether of the same person, distance, the two images) of each pair.
        wrong: The number of all misjudged pairs.
        path: The file to write.
    """
    save(pairs(shown, wrong), path)


@styled
def pairs(shown: Sequence[tuple[Sequence[str], bool, float, Sequence[Image.Image]]], wrong: int) -> Figure:
    cells = []
    for faces, same, distance, images in shown:
        left, right = (np.asarray(image.resize((160, 160))) for image in images)
        both = np.concatenate([left, np.full((160, 8, 3), 255, np.uint8), right], axis=1)
        names = "\n".join(map(label, faces))
        cells.append((f"{'same person' if same else 'different persons'}, distance {distance:.2f}\n{names}", both))
    title = f"{len(cells)} of {wrong} misjudged pairs, farthest from the threshold first"
    return _gallery(cells, title if cells else "all pairs are judged correctly", cell=(3.4, 2.6), columns=2)


def _gallery(cells: Sequence[tuple[str, np.ndarray]], title: str, *, cell: tuple[float, float], columns: int) -> Figure:
    """A grid of images, each below its text, at most four per row; only the title if there are none.

    Args:
        cells: (text, image) of each cell.
        title: The title of the figure.
        cell: Width and height of a cell, in inches.
        columns: The minimum number of columns.
    """
    columns = max(columns, min(4, len(cells)))
    rows = max(1, rows_of(len(cells), columns))
    figure = Figure(figsize=(cell[0] * columns, cell[1] * rows + 0.3 if cells else 1.2))
    figure.set_layout_engine("constrained", wspace=0.08)  # space between neighbouring images
    if not cells:
        figure.text(0.5, 0.5, title, ha="center", va="center", fontsize=12)
        return figure
    figure.suptitle(title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (text, picture) in zip(grid, cells, strict=False):
        axis.imshow(picture)
        axis.set_axis_off()
        axis.set_title(text, fontsize=9, loc="left")
        axis.set_anchor("NW")
    unused(grid, len(cells))
    return figure

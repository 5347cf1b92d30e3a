"""Pictures of how good a model is: learning curves, confusion matrix, mistakes, reliability, ROC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from PIL import Image

from ..common.console import counted, printable
from ..common.files import replacing
from .calibration import Calibration
from .multi_label import MultiLabelReport
from .report import HELD_OUT_FIGURES, Report
from .verification import Verification

TRAINING, HELD_OUT = "#8a8a8a", "#0b62a4"
SERIES = (HELD_OUT, "#c8501e", "#2f7d4f", "#7a4fa3", "#b8860b", "#444444")  # told apart by the colour-blind too
MISTAKES_SHOWN, PAIRS_SHOWN, COPIES_SHOWN = 16, 12, 24
NUMBERED_CLASSES = 20  # of more classes a cell has no room for its number
MATRIX_CLASSES, MOST_CONFUSED = 60, 40  # as many as can be read; of more, so many are drawn
MOST_LABELS = 40
LABEL_LENGTH = 18


def plot_learning_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Loss, accuracy and learning rate by epoch, training beside held-out.

    A line marks where the next phase of fine-tuning starts, a ring the epoch that best.keras is of. A history of an
    older version has no rates, phases and best epochs: its figure has the first two charts.
    """
    rates = [row.get("learning_rate", 0.0) for row in history]
    charts = ("loss", "accuracy", "learning rate") if min(rates) > 0 else ("loss", "accuracy")
    figure = Figure(figsize=(4.5 * len(charts), 3.6), layout="constrained")
    axes = figure.subplots(1, len(charts))
    epochs = [row["epoch"] for row in history]
    phases = [row.get("phase", 1) for row in history]
    starts = [epoch for epoch, before, phase in zip(epochs[1:], phases, phases[1:], strict=False) if phase != before]
    best = [row for row in history if row["epoch"] == history[-1].get("best_epoch")]
    for axis, key in zip(axes, charts, strict=True):
        for start in starts:
            line = axis.axvline(start - 0.5, color=SERIES[5], linestyle=":", linewidth=1.5, zorder=1)
            line.set_label("trunk unfrozen" if start == starts[0] else None)
        if key == "learning rate":
            axis.plot(epochs, rates, color=SERIES[3], marker="o")
            axis.set_yscale("log")
        else:
            axis.plot(epochs, [row[key] for row in history], color=TRAINING, marker="o", label="training")
            axis.plot(epochs, [row[f"val_{key}"] for row in history], color=HELD_OUT, marker="o", label="held out")
            for column, name in HELD_OUT_FIGURES.items() if key == "accuracy" else ():
                if all(column in row for row in history):
                    values = [row[column] for row in history]
                    axis.plot(epochs, values, color=SERIES[1], marker=".", linestyle="--", label=f"held out, {name}")
            for row in best:
                ring = {"marker": "o", "markersize": 13, "markerfacecolor": "none", "linestyle": "none"}
                label = f"best, epoch {row['epoch']:.0f}"
                axis.plot([row["epoch"]], [row[f"val_{key}"]], color=SERIES[2], label=label, **ring)
        axis.set(xlabel="epoch", title=key)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _plain(axis)
    if min(row["loss"] for row in history) > 0 and max(row["val_loss"] for row in history) > 10:
        axes[0].set_yscale("log")
    axes[1].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes[1].legend(frameon=False)
    _write(figure, path)


def plot_learning_rates(
    rates: Sequence[float], losses: Sequence[float], means: Sequence[float], suggestion: float | None, path: Path
) -> None:
    """The loss of a learning-rate range test by the rate, with its running mean and the suggested rate."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot(rates, losses, color=TRAINING, linewidth=1, alpha=0.7, label="of each batch")
    axis.plot(rates, means, color=HELD_OUT, linewidth=2, label="running mean")
    lowest = int(np.argmin(means))
    axis.plot(rates[lowest], means[lowest], "o", color=HELD_OUT, label=f"lowest, at {rates[lowest]:.1e}")
    if suggestion is not None:
        axis.axvline(suggestion, color=SERIES[1], linestyle="--", linewidth=1, label=f"suggested: {suggestion:.1e}")
    # What diverges may be millions of times larger than the losses that matter.
    first, least = means[0], min(losses)
    axis.set_ylim(least - 0.1 * (first - least or 1), first + 1.2 * (first - least or 1))
    axis.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    _plain(axis)
    axis.legend(frameon=False, loc="upper left")
    _write(figure, path)


def plot_confusion(report: Report, path: Path, title: str | None = None) -> None:
    """The confusion matrix of the classes that occur, true or predicted, coloured by the share of a true class.

    Of more than 60 those 40 are drawn that are taken for others, or others for them, most often.
    """
    counts = np.array(report.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    occur = np.flatnonzero(counts.any(axis=1) | counts.any(axis=0))
    title = title or f"held-out accuracy {report.accuracy:.2%}"
    if len(occur) > MATRIX_CLASSES:
        wrong = counts - np.diag(counts.diagonal())
        confused = (wrong.sum(axis=0) + wrong.sum(axis=1))[occur]
        title += f"; the {MOST_CONFUSED} of {len(occur)} classes that are confused most"
        occur = np.sort(occur[np.argsort(-confused, kind="stable")[:MOST_CONFUSED]])
    counts, shares = (matrix[np.ix_(occur, occur)] for matrix in (counts, shares))
    classes = len(counts)
    side = min(16.0, 3.0 + 0.42 * classes)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [_short(report.classes[number].name) for number in occur]
    long = max(map(len, names)) > 3
    axis.set_xticks(range(classes), names, rotation=90 if long else 0)
    axis.set_yticks(range(classes), names)
    axis.set(xlabel="predicted", ylabel="true", title=title)
    if classes <= NUMBERED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.6 else "#222222"
                axis.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    figure.colorbar(image, ax=axis, shrink=0.8, format=PercentFormatter(1.0, decimals=0), label="share of true class")
    _write(figure, path)


def plot_mistakes(report: Report, pictures: Sequence[np.ndarray] | np.ndarray, path: Path) -> None:
    """The pictures classified wrongly with the greatest confidence_and_correct.

    pictures: uint8 (height, width, 3) each, those of the report's first mistakes.
    """
    cells = [
        (f"said {_short(mistake.predicted)}  {mistake.probability:.0%}\nis {_short(mistake.true)}", picture)
        for mistake, picture in zip(report.mistakes, pictures, strict=False)
    ]
    title = f"{len(cells)} of {counted(len(report.mistakes), 'mistake')}, the surest first"
    _gallery(cells, title if cells else "every picture is classified rightly", path, cell=(2.5, 2.9), columns=3)


def plot_labels(report: MultiLabelReport, path: Path) -> None:
    """Precision, recall, F1 and average precision of each label that a picture has, the most frequent label first.

    Of more than 40 labels those of least average precision are drawn.
    """
    scores = [score for score in report.classes if score.support]
    title = f"mean average precision {report.mean_average_precision:.2%} of {counted(report.pictures, 'picture')}"
    if len(scores) > MOST_LABELS:
        title += f"; the {MOST_LABELS} of {len(scores)} labels of least average precision"
        scores = sorted(scores, key=lambda score: score.average_precision or 0.0)[:MOST_LABELS]
    scores = sorted(scores, key=lambda score: (-score.support, score.name))
    figure = Figure(figsize=(7.5, 1.9 + 0.32 * len(scores)), layout="constrained")
    axis = figure.subplots()
    rows = range(len(scores))
    for row, score in zip(rows, scores, strict=True):
        values = (score.precision, score.recall, score.f1, score.average_precision or 0.0)
        axis.plot([min(values), max(values)], [row, row], color="#dddddd", linewidth=3, zorder=1)
    series: tuple[tuple[str, list[float], str, str], ...] = (
        ("precision", [score.precision for score in scores], SERIES[1], "<"),
        ("recall", [score.recall for score in scores], SERIES[2], ">"),
        ("F1", [score.f1 for score in scores], SERIES[5], "|"),
        ("average precision", [score.average_precision or 0.0 for score in scores], HELD_OUT, "o"),
    )
    for name, values_of, colour, marker in series:
        axis.plot(values_of, rows, marker, color=colour, markersize=7, markeredgewidth=1.6, label=name, clip_on=False)
    axis.set_yticks(rows, [f"{_short(score.name, 28)}, {score.support:,}" for score in scores])
    axis.set(xlim=(0, 1), ylim=(len(scores) - 0.4, -0.6), ylabel="label, pictures that have it")
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    figure.suptitle(title, fontsize=11)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    _plain(axis)
    _write(figure, path)


def plot_label_mistakes(report: MultiLabelReport, pictures: Sequence[np.ndarray], path: Path) -> None:
    """The pictures with the most wrong labels: which are missed, and which are predicted and not there.

    pictures: uint8 (height, width, 3) each, those of the report's first mistakes.
    """

    def listed(what: str, names: Sequence[str]) -> str:
        return f"{what} {_short(', '.join(names), 26)}" if names else ""

    cells = [
        ("\n".join(filter(None, (listed("missed", mistake.missed), listed("added", mistake.added)))), picture)
        for mistake, picture in zip(report.mistakes, pictures, strict=False)
    ]
    title = f"{len(cells)} of {counted(len(report.mistakes), 'picture')} with wrong labels, the most first"
    _gallery(cells, title if cells else "every label of every picture is right", path, cell=(2.5, 2.9), columns=3)


def plot_copies(rows: Sequence[Sequence[str]], decode: Callable[[str], Image.Image], path: Path) -> None:
    """The first pairs of copies side by side, each picture with its name, class and part.

    rows: Those of a run's copies.csv. decode: Gives a picture by its name.
    """
    cells = []
    for one, label, part, other, other_label, other_part, kind, bits, problem in rows[:COPIES_SHOWN]:
        images = [thumbnail(decode(name), 200) for name in (one, other)]
        height = max(image.shape[0] for image in images)
        padded = [
            np.pad(image, ((0, height - image.shape[0]), (0, 6), (0, 0)), constant_values=255) for image in images
        ]
        what = f"{kind}{f', {bits} bits' if bits else ''}{f': {problem}' if problem else ''}"
        names = [
            f"{_short(Path(name).name, 24)} ({_short(of_class, 14)}, {of_part})"
            for name, of_class, of_part in ((one, label, part), (other, other_label, other_part))
        ]
        cells.append(("\n".join([what, *names]), np.concatenate(padded, axis=1)))
    _gallery(cells, f"{len(cells)} of {counted(len(rows), 'pair')} of copies", path, cell=(3.6, 2.6), columns=2)


def thumbnail(image: Image.Image, side: int = 400) -> np.ndarray:
    """A picture as uint8 (height, width, 3), of at most `side` pixels a side."""
    small = image.copy()
    small.thumbnail((side, side))
    return np.asarray(small)


def plot_reliability(models: Sequence[tuple[str, Calibration]], path: Path) -> None:
    """How often a model is right where it is how sure, and how many pictures that is: a curve a model."""
    figure = Figure(figsize=(5.6, 6.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color=TRAINING, linestyle="--", linewidth=1)
    for colour, (name, found) in zip(cycle(SERIES), models, strict=False):
        legend = f"{_short(name, 28)}: ECE {found.ece:.1%}"
        if found.temperature is not None and found.scaled_ece is not None:
            legend += f", {found.scaled_ece:.1%} at T = {found.temperature:.2f}"
        sure = [each.confidence for each in found.bins]
        upper.plot(sure, [each.accuracy for each in found.bins], color=colour, marker="o", markersize=4, label=legend)
        middles = [(each.low + each.high) / 2 for each in found.bins]
        total = sum(each.pictures for each in found.bins)
        shares = [each.pictures / total for each in found.bins]
        if len(models) == 1:
            lower.bar(middles, shares, width=found.bins[0].high - found.bins[0].low, color=colour, edgecolor="white")
        else:
            lower.plot(middles, shares, color=colour, marker="o", markersize=3)
    upper.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="share that is right")
    lower.set(xlabel="probability of the likeliest class", ylabel="share of pictures")
    lower.set_ylim(bottom=0)
    figure.legend(loc="outside upper left", frameon=False, fontsize=9)
    for axis in (upper, lower):
        _plain(axis)
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    lower.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _write(figure, path)


def plot_verification(found: Verification, distances: np.ndarray, same: np.ndarray, path: Path) -> None:
    """The distances of pairs of one person and of two, and the ROC curve."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = np.histogram_bin_edges(distances, bins=min(60, max(10, len(distances) // 20)))
    for chosen, label, colour in ((same, "one person", HELD_OUT), (~same, "two persons", SERIES[1])):
        left.hist(
            distances[chosen], edges, color=colour, alpha=0.6, label=f"{label}, {counted(int(chosen.sum()), 'pair')}"
        )
    left.axvline(
        found.threshold, color="#222222", linestyle="--", linewidth=1, label=f"threshold {found.threshold:.3f}"
    )
    left.set(
        xlabel="squared distance of the embeddings",
        ylabel="pairs",
        title=f"accuracy {found.accuracy:.2%} ± {found.deviation:.2%}",
    )
    left.set_ylim(top=1.3 * left.get_ylim()[1])  # room for the legend
    left.legend(frameon=False, fontsize=9)
    least = 1 / max(2, (~same).sum())
    curve = np.array(found.roc)
    right.step(np.maximum(curve[:, 0], least / 2), curve[:, 1], where="post", color=HELD_OUT)
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
        right.legend(frameon=False, loc="best", fontsize=9)
    for axis in (left, right):
        _plain(axis)
    _write(figure, path)


def plot_pairs(
    shown: Sequence[tuple[Sequence[str], bool, float, Sequence[Image.Image]]], wrong: int, path: Path
) -> None:
    """Pairs judged wrongly, each as (names, whether of one person, distance, its two pictures), of `wrong` in all."""
    cells = []
    for said, same, distance, images in shown:
        left, right = (np.asarray(image.resize((160, 160))) for image in images)
        both = np.concatenate([left, np.full((160, 8, 3), 255, np.uint8), right], axis=1)
        names = "\n".join(map(label, said))
        cells.append((f"{'one person' if same else 'two persons'}, distance {distance:.2f}\n{names}", both))
    title = f"{len(cells)} of {counted(wrong, 'pair')} judged wrongly, the farthest from the threshold first"
    _gallery(cells, title if cells else "every pair is judged rightly", path, cell=(3.4, 2.6), columns=2)


def _gallery(
    cells: Sequence[tuple[str, np.ndarray]], title: str, path: Path, *, cell: tuple[float, float], columns: int
) -> None:
    """Pictures under what is said of each, four a row at the most; without any, the title alone.

    cell: inches, width and height. columns: at least.
    """
    columns = max(columns, min(4, len(cells)))
    rows = max(1, -(-len(cells) // columns))
    figure = Figure(figsize=(cell[0] * columns, cell[1] * rows if cells else 1.2))
    figure.set_layout_engine("constrained", wspace=0.12)  # a picture stands apart from the next
    if not cells:
        figure.text(0.5, 0.5, title, ha="center", va="center", fontsize=12)
    else:
        figure.suptitle(title)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in grid:
            axis.axis("off")
        for axis, (said, picture) in zip(grid, cells, strict=False):
            axis.imshow(picture)
            axis.set_title(said, fontsize=9)
    _write(figure, path)


def _plain(axis: Axes) -> None:
    axis.grid(alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def label(name: str, length: int | None = None) -> str:
    """A name as a text of a figure: printable, no formula whatever dollars it has, cut to `length` characters."""
    shown = printable(name)
    if length and len(shown) > length:
        shown = f"{shown[: length - 1]}…"
    return shown.replace("$", r"\$")


def _short(name: str, length: int = LABEL_LENGTH) -> str:
    return label(name, length)


def _write(figure: Figure, path: Path) -> None:
    with replacing(path) as beside:
        figure.savefig(beside, dpi=150)

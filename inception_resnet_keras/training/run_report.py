"""The end of a run: the report on its final model, the table of all probabilities, and the charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from ..common.console import say
from ..common.files import write_json
from ..data.images import UnreadableImageError
from ..data.labelled import TEST, VAL, Source
from ..evaluation.multi_label import MultiLabelReport, multi_label_report
from ..evaluation.predictions import concatenated, table_of
from ..evaluation.report import Report, classification_report
from .best_epoch import best_epoch, stops_early
from .run import RunFolder, RunWriter
from .training_result import LEARNING_CURVES
from .trouble import gpu_peak_bytes

if TYPE_CHECKING:
    from .epochs import Evaluated


def make_report(
    training: Source, held_out: Source, evaluated: Source, probabilities: np.ndarray, *, thresholds: Sequence[float]
) -> Report | MultiLabelReport:
    """Make the report on the evaluated pictures.

    Args:
        training: The training pictures, whose unreadable ones the report lists.
        held_out: The held-out pictures, whose unreadable ones the report lists.
        evaluated: The pictures that could be read.
        probabilities: (n, classes).
        thresholds: With several labels per picture, the labels' thresholds, chosen on the held-out pictures.
    """
    from .epochs import unreadable_pictures

    unreadable = unreadable_pictures(training, held_out)
    if evaluated.multi_label:
        names = evaluated.class_names, evaluated.names
        return multi_label_report(
            evaluated.labels, probabilities, thresholds, *names, unreadable=unreadable, groups=evaluated.groups
        )
    return classification_report(
        evaluated.labels, probabilities, evaluated.class_names, evaluated.names, unreadable, groups=evaluated.groups
    )


def write_predictions(run: RunFolder, held_out: Evaluated, test: Evaluated | None, thresholds: Sequence[float]) -> None:
    """Write the probabilities of all classes for the held-out pictures, followed by the test pictures."""
    tables = [
        table_of(
            source,
            source.class_names,
            source.labels,
            probabilities,
            part=part,
            thresholds=np.array(thresholds) if source.multi_label else None,
        )
        for part, (source, probabilities) in ((VAL, held_out), *([(TEST, test)] if test else []))
    ]
    concatenated(tables).write(run.predictions)


def write_report(
    writer: RunWriter,
    evaluated: Source,
    report: Report | MultiLabelReport,
    test: Report | MultiLabelReport | None = None,
) -> None:
    """Write the charts, then report.json, which marks the run as finished.

    Args:
        evaluated: The held-out pictures that could be read.
        report: The report on the held-out pictures.
        test: The report on the test pictures.
    """
    from ..evaluation import plots

    run, config, history = writer.run, writer.session.config, writer.session.position.history
    peak = gpu_peak_bytes()
    if peak is not None:
        say(writer.console, f"peak memory of the first GPU: {peak / 1e9:.2f} GB")

    def read_or_white(index: int) -> np.ndarray:
        try:
            return plots.thumbnail(evaluated.decode(index, (400, 400)))  # keeps the picture's shape
        except UnreadableImageError:  # removed since the evaluation
            return np.full((*config.image_size, 3), 255, np.uint8)

    plots.plot_learning_curves(history, run.path / LEARNING_CURVES)
    mistakes = [read_or_white(mistake.index) for mistake in report.mistakes[: plots.MISTAKES_SHOWN]]
    if isinstance(report, Report):
        plots.plot_confusion(report, run.path / "confusion_matrix.png", title="held-out pictures")
        plots.plot_mistakes(report, mistakes, run.path / "mistakes.png")
    else:
        plots.plot_labels(report, run.path / "labels.png")
        plots.plot_label_mistakes(report, mistakes, run.path / "mistakes.png")
    epochs = {
        "epoch": len(history),
        "epochs": config.epochs,
        "stopped_early": stops_early(config, history),
        "best": asdict(best_epoch(config, history)),
    }
    tested = {} if test is None else {"test": test.as_json()}
    write_json(run.report, {**report.as_json(), **epochs, "peak_gpu_bytes": peak, **tested})

"""What a finished run leaves beside its model: report and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..data.pictures import Pictures
from ..evaluation.report import Report, classification_report
from ..files import write_json
from .run import RunFolder


def write_report(
    run: RunFolder,
    held_out: Pictures,
    probabilities: np.ndarray,
    history: Sequence[Mapping[str, float]],
    unreadable: Sequence[tuple[str, str]],
) -> Report:
    """Writes the pictures, then report.json, which tells that all is there."""
    from ..evaluation import plots

    report = classification_report(held_out.labels, probabilities, held_out.class_names, held_out.names, unreadable)
    shown = np.array([mistake.index for mistake in report.mistakes[: plots.MISTAKES_SHOWN]], dtype=np.int64)
    pictures = held_out.images[shown] if len(shown) else np.empty((0, 1, 1, 3), np.uint8)
    plots.plot_learning_curves(history, run.path / "learning_curves.png")
    plots.plot_confusion(report, run.path / "confusion_matrix.png")
    plots.plot_mistakes(report, pictures, run.path / "mistakes.png")
    write_json(run.report, report.as_json())
    return report

"""What a finished run leaves beside its model: report and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..data.pictures import Pictures
from ..evaluation.report import Report
from ..files import write_json
from .run import RunFolder


def write_report(run: RunFolder, held_out: Pictures, report: Report, history: Sequence[Mapping[str, float]]) -> None:
    """Writes the pictures, then report.json, which tells that all is there."""
    from ..evaluation import plots

    shown = np.array([mistake.index for mistake in report.mistakes[: plots.MISTAKES_SHOWN]], dtype=np.int64)
    pictures = held_out.images[shown] if len(shown) else np.empty((0, 1, 1, 3), np.uint8)
    plots.plot_learning_curves(history, run.path / "learning_curves.png")
    plots.plot_confusion(report, run.path / "confusion_matrix.png")
    plots.plot_mistakes(report, pictures, run.path / "mistakes.png")
    write_json(run.report, report.as_json())

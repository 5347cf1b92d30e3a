"""What a finished run leaves beside its model: report and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..common.files import write_json
from ..data.images import UnreadableImageError
from ..data.labelled import Source
from ..evaluation.report import Report
from .config import TrainConfig
from .run import RunFolder


def write_report(
    run: RunFolder,
    config: TrainConfig,
    held_out: Source,
    report: Report,
    history: Sequence[Mapping[str, float]],
    *,
    peak_gpu_bytes: int | None,
) -> None:
    """Writes the pictures, then report.json, which tells that all is there."""
    from ..evaluation import plots

    size = (config.size, config.size)

    def seen(index: int) -> np.ndarray:
        try:
            return held_out.read(index, size, config.central_crop)
        except UnreadableImageError:  # it has gone since it was evaluated
            return np.full((*size, 3), 255, np.uint8)

    pictures = [seen(mistake.index) for mistake in report.mistakes[: plots.MISTAKES_SHOWN]]
    plots.plot_learning_curves(history, run.path / "learning_curves.png")
    plots.plot_confusion(report, run.path / "confusion_matrix.png")
    plots.plot_mistakes(report, pictures, run.path / "mistakes.png")
    write_json(run.report, {**report.as_json(), "peak_gpu_bytes": peak_gpu_bytes})

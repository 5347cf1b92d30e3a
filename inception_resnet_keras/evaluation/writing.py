"""The pictures and files that an evaluation of classifiers leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.sources import Source
from ..errors import InputError
from ..files import write_json
from . import plots
from .calibration import Calibration
from .figures import ranks_of_truth
from .output import write_csv
from .report import Report


@dataclass(frozen=True)
class Seen:
    """What was read of a source, its true classes, and what each model says of it, in the first one's order."""

    source: Source
    read: np.ndarray
    labels: np.ndarray
    probabilities: Sequence[np.ndarray]

    @cached_property
    def average(self) -> np.ndarray:
        return np.stack(self.probabilities).mean(axis=0, dtype=np.float64).astype(np.float32)

    @cached_property
    def names(self) -> list[str]:
        return [self.source.names[index] for index in self.read]


def write(
    folder: Path, seen: Seen, report: Report, curves: Sequence[tuple[str, Calibration]], summary: dict[str, object]
) -> None:
    """Tables and pictures, then `summary` as report.json, which tells that all is there."""
    names = [score.name for score in report.classes]
    predicted, ranks = seen.average.argmax(axis=1), ranks_of_truth(seen.labels, seen.average)
    write_csv(
        folder / "predictions.csv",
        ["picture", "true", "predicted", "probability", "probability of true", "rank of true"],
        (
            (name, names[true], names[said], f"{row[said]:.6f}", f"{row[true]:.6f}", rank + 1)
            for name, true, said, row, rank in zip(seen.names, seen.labels, predicted, seen.average, ranks, strict=True)
        ),
    )
    write_csv(
        folder / "confusion_matrix.csv",
        ["true \\ predicted", *names],
        ([name, *row] for name, row in zip(names, report.confusion, strict=True) if any(row)),
    )
    plots.plot_confusion(report, folder / "confusion_matrix.png", title=f"accuracy {report.accuracy:.2%}")
    plots.plot_reliability(curves, folder / "reliability.png")
    shown = [
        read_again(partial(seen.source.decode, int(seen.read[mistake.index])))
        for mistake in report.mistakes[: plots.MISTAKES_SHOWN]
    ]
    plots.plot_mistakes(report, [plots.thumbnail(image) for image in shown], folder / "mistakes.png")
    write_json(folder / "report.json", summary)


def read_again(decode: Callable[[], Image.Image]) -> Image.Image:
    """A picture that was read before; white where it has gone since."""
    try:
        return decode()
    except InputError:
        return Image.new("RGB", (1, 1), "white")

"""The return values of `train` and `finetune`: a finished run, or several runs of folds or seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..common import notebook
from ..common.console import counted
from ..evaluation.multi_label import MultiLabelReport
from ..evaluation.report import Report
from ..evaluation.tables import CLASSES_SHOWN, class_table
from .best_epoch import BestEpoch
from .folds import (
    FIGURES,
    StudyFigures,
    runs_table,
)
from .run import RunFolder

LEARNING_CURVES = "learning_curves.png"


@dataclass(frozen=True)
class TrainingResult:
    """A finished run.

    Attributes:
        folder: The run's folder.
        history: One row of metrics per epoch.
        report: The report on the held-out pictures, for the model after the last epoch, which is model.keras.
        test: The report of the same model on the test pictures; None without a test part.
        best: The epoch whose model is best.keras; None for several runs.
        stopped_early: Whether `patience` stopped the run before its last epoch.
        chief: Whether this process wrote the folder. Of several workers, only one does.
    """

    folder: RunFolder
    history: list[dict[str, float]]
    report: Report | MultiLabelReport
    best: BestEpoch | None = None
    stopped_early: bool = False
    chief: bool = True
    test: Report | MultiLabelReport | None = None

    def __repr__(self) -> str:
        return f"<TrainingResult: {self._epochs}, held-out {self.report.headline}, in {self.folder.path}>"

    @property
    def _epochs(self) -> str:
        return f"{counted(len(self.history), 'epoch')}{', stopped early' * self.stopped_early}"

    def _repr_html_(self) -> str:
        """HTML with the accuracy, the learning curves and the classes, for a notebook."""
        curves = self.folder.path / LEARNING_CURVES
        return notebook.page(
            notebook.heading(f"held-out {self.report.headline}; after {self._epochs}"),
            notebook.line(f"best.keras is the model after {self.best}"),
            notebook.picture(curves, "loss and accuracy by epoch", 760),
            notebook.table(class_table(self.report, CLASSES_SHOWN)),
            notebook.line(f"everything is in {self.folder.path}"),
        )


@dataclass(frozen=True)
class RepeatedResult(TrainingResult):
    """Several finished runs, one per fold or per seed.

    Attributes:
        folder: The folder that contains the runs.
        history: Empty; each run has its own.
        report: The report on the pooled held-out pictures of all runs; with folds, each picture occurs once.
        test: None; the folder's report.json has the figures of each run.
        runs: The folders of the runs.
        figures: The figures of each run on its held-out pictures, with their mean and standard deviation over the runs:
            accuracy and balanced accuracy; or, with several labels per picture, mean average precision, micro F1, macro
            F1, and the share of pictures with all labels right.
    """

    runs: Sequence[RunFolder] = ()
    figures: StudyFigures = field(default_factory=StudyFigures)

    def __repr__(self) -> str:
        key = self.figures.first
        by_run = f"{self.figures.mean[key]:.2%} ± {self.figures.sd[key]:.2%} by run"
        held_out = f"held-out {self._headline} of all, {by_run}"
        return f"<RepeatedResult: {len(self.runs)} runs, {held_out}, in {self.folder.path}>"

    @property
    def _headline(self) -> str:
        key = self.figures.first
        return f"{FIGURES[key]} {getattr(self.report, key):.2%}"

    def _repr_html_(self) -> str:
        """HTML with the figures of each run and the classes, for a notebook."""
        return notebook.page(
            notebook.heading(f"held-out {self._headline} of {len(self.runs)} runs"),
            notebook.table(runs_table(self.figures)),
            notebook.table(class_table(self.report, CLASSES_SHOWN)),
            notebook.line(f"everything is in {self.folder.path}"),
        )

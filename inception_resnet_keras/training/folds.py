"""Several runs in one folder, one per fold of a cross-validation or per seed, which are resumed as a whole.

The folder has a file folds.json or seeds.json with the settings, and one run's folder per fold or seed. A run is
finished when its report.json is written, and is then not trained again. At the end the held-out predictions of all runs
are pooled: predictions.csv and report.json contain all of them, with the figures of each run, their mean and their
standard deviation.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ..common.console import command, say
from ..common.errors import InputError
from ..common.files import LOCK, new_folder, only_writer, remove_partial, write_json
from ..data.labelled import VAL
from ..evaluation.multi_label import LabelMistake, LabelScore, MultiLabelReport, best_thresholds, multi_label_report
from ..evaluation.predictions import PREDICTIONS, PredictionTable, concatenated, read_predictions
from ..evaluation.report import ClassScore, Mistake, Report, classification_report
from .config import TrainConfig
from .pictures import keeping_fingerprints
from .run import RUNS, STUDIES, RunFolder

FOLDS, SEEDS = STUDIES
FIGURES = {  # the figures of a run's report; the first one that it has is its headline
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "mean_average_precision": "mean average precision",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "subset_accuracy": "all labels right",
}
THRESHOLDS_OF = {
    FOLDS: "each fold's labels are decided by the thresholds of maximum F1 on the other folds' held-out pictures",
    SEEDS: "each run's labels are decided by its own thresholds, which were chosen on these same pictures, so that F1, "
    "precision, recall and all right are too good",
}
AnyReport = Report | MultiLabelReport


@dataclass(frozen=True)
class Study:
    """Several runs in one folder.

    Attributes:
        kind: FOLDS or SEEDS.
        folder: The folder of the runs.
        configs: The settings of each run, by the name of its folder.
    """

    kind: str
    folder: Path
    configs: Mapping[str, TrainConfig]

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.folder / name)

    @property
    def word(self) -> str:
        """The word for one run: "fold" or "seed"."""
        return self.kind[:-1]


@dataclass(frozen=True)
class StudyFigures:
    """Figures of several runs.

    Attributes:
        runs: The figures of each run, by its name.
        mean, sd: Mean and standard deviation of each figure over the runs (the standard deviation of a sample; 0 for
            one run).
    """

    runs: dict[str, dict[str, float]] = field(default_factory=dict)
    mean: dict[str, float] = field(default_factory=dict)
    sd: dict[str, float] = field(default_factory=dict)

    @property
    def first(self) -> str:
        """The key of the first figure: "accuracy", or "mean_average_precision" with several labels per picture."""
        return next(iter(self.mean))


def is_study(config: TrainConfig) -> bool:
    """Whether the settings ask for several runs."""
    return bool(config.seeds or (config.folds and not config.fold))


def study_configs(config: TrainConfig) -> dict[str, TrainConfig]:
    """The settings of each run, by the name of its folder."""
    if config.folds:
        return {f"fold-{fold}": replace(config, fold=fold) for fold in range(1, config.folds + 1)}
    # Every run has the same held-out pictures, so that the runs differ only by the randomness of training.
    split_seed = config.seed if config.split_seed is None else config.split_seed
    seeds = range(config.seed, config.seed + config.seeds)
    return {f"seed-{seed}": replace(config, seeds=0, seed=seed, split_seed=split_seed) for seed in seeds}


@contextmanager
def new_study(out: Path | None, config: TrainConfig) -> Iterator[Study]:
    """Create the folder of several runs, locked for this writer. It is removed if nothing was trained in it."""
    kind = FOLDS if config.folds else SEEDS
    pictures = [folder for folder in (config.data, config.val) if folder]
    with new_folder(out, RUNS, f"{config.dataset}-{config.model}-{kind}", pictures) as folder, only_writer(folder):
        try:
            yield Study(kind, folder, study_configs(config))
        finally:
            _remove_if_untrained(folder)


def _remove_if_untrained(folder: Path) -> None:
    kept = RunFolder(folder).given.values()
    if any(entry.is_dir() and entry not in kept for entry in folder.iterdir()):
        return
    for file in (*FILES, LOCK):
        (folder / file).unlink(missing_ok=True)
    for each in kept:
        shutil.rmtree(each) if each.is_dir() else each.unlink(missing_ok=True)


FILES = tuple(f"{kind}.json" for kind in STUDIES)


def write_study(study: Study, config: TrainConfig) -> None:
    """Write folds.json or seeds.json, from which the runs are resumed."""
    write_json(study.folder / f"{study.kind}.json", {"command": config.command(), "config": config.settings()})


def find_study(folder: Path) -> Study | None:
    """The runs in a folder; None if it has no folds.json or seeds.json. Raises InputError if that file is damaged."""
    for kind, file in zip(STUDIES, FILES, strict=True):
        path = folder / file
        if os.path.lexists(path):
            try:
                settings = json.loads(path.read_text(encoding="utf-8"))["config"]
                return Study(kind, folder, study_configs(TrainConfig.from_settings(settings)))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise InputError(
                    f"{path}: is damaged ({str(error)[:200]}): restore it; without it, each run in {folder} can only "
                    "be resumed separately"
                ) from None
    return None


def train_study(
    study: Study,
    console: Console,
    start: Callable[[TrainConfig, Path], object],
    resume: Callable[[Path], object],
) -> tuple[list[RunFolder], StudyFigures, AnyReport]:
    """Train the unfinished runs, one after the other, and pool the held-out predictions of all runs.

    Args:
        study: The runs.
        console: The console for progress.
        start: A function that trains a new run with given settings in a given folder.
        resume: A function that resumes the run in a given folder.

    Returns:
        The runs' folders, their figures, and the report on all held-out predictions.
    """
    import keras

    try:
        with keeping_fingerprints():
            for number, (name, config) in enumerate(study.configs.items(), 1):
                run = study.run(name)
                heading = f"{study.word} {number} of {len(study.configs)}"
                if is_finished(run):
                    say(console, f"{heading} is already trained → {run.path}")
                    continue
                say(console, f"{heading} → {run.path}", style="bold")
                keras.backend.clear_session()  # release the previous run's graphs
                if run.config.exists():
                    resume(run.path)
                else:
                    remove_partial(run.path)
                    start(config, run.path)
    except KeyboardInterrupt:
        say(console, f"to continue: {command('train', '--resume', study.folder)}")
        raise
    found = pool(study)
    if isinstance(found[2], MultiLabelReport):
        say(console, THRESHOLDS_OF[study.kind])
    return found


def is_finished(run: RunFolder) -> bool:
    """Whether a run is finished: its report is written."""
    return run.report.exists() and not run.has_checkpoint()


def pool(study: Study) -> tuple[list[RunFolder], StudyFigures, AnyReport]:
    """Pool the held-out predictions of finished runs into predictions.csv and report.json of their folder."""
    from ..evaluation import plots
    from ..evaluation.html_report import write_report

    # Read the reports and predictions of all runs.
    runs = {name: study.run(name) for name in study.configs}
    reports = {name: _read_report(run) for name, run in runs.items()}
    first = next(iter(reports.values()))[0]
    classes = [score.name for score in first.classes]
    tables = [_held_out_by(study, name) for name in runs]
    for table, run in zip(tables, runs.values(), strict=True):
        if list(table.classes) != classes or table.multi_label != isinstance(first, MultiLabelReport):
            raise InputError(f"{run.predictions}: has other classes than {run.report}; restore both")
    # One report on all held-out pictures together.
    pooled = concatenated(tables)
    unreadable = sorted({each for report, _ in reports.values() for each in report.unreadable})
    if pooled.multi_label:
        cuts = _thresholds(study, tables, [each for each, _ in reports.values()])
        pooled = replace(pooled, predicted=(pooled.probabilities >= cuts).astype(np.uint8))
        of_pictures = pooled.labels, pooled.probabilities, cuts
        found = multi_label_report(
            *of_pictures, classes, pooled.pictures, unreadable=unreadable, groups=pooled.unit_names
        )
        plots.plot_labels(found, study.folder / "labels.png")
        report: AnyReport = found
    else:
        report = classification_report(
            pooled.labels, pooled.probabilities, classes, pooled.pictures, unreadable, groups=pooled.unit_names
        )
        plots.plot_confusion(report, study.folder / "confusion_matrix.png", title=f"held out by all {study.kind}")
    # The figures of each run, and their mean and standard deviation.
    held_out = _figures({name: found for name, (found, _) in reports.items()})
    tested = _figures({name: found for name, (_, found) in reports.items() if found is not None})
    pooled.write(study.folder / PREDICTIONS)
    histories = {name: run.read_history() for name, run in runs.items()}
    plots.plot_learning_curves_of_runs(histories, study.folder / "learning_curves.png")
    write_json(
        study.folder / "report.json",
        {
            **report.as_json(),
            **{"runs": held_out.runs, "mean": held_out.mean, "sd": held_out.sd},
            **({"test": {"runs": tested.runs, "mean": tested.mean, "sd": tested.sd}} if tested.runs else {}),
            **({"thresholds": THRESHOLDS_OF[study.kind]} if pooled.multi_label else {}),
        },
    )
    write_report(study.folder)
    return list(runs.values()), held_out, report


def _thresholds(study: Study, tables: Sequence[PredictionTable], reports: Sequence[AnyReport]) -> np.ndarray:
    """float64 (n, classes): the thresholds that decide the labels of each picture, chosen as in THRESHOLDS_OF."""
    found = []
    for number, (table, report) in enumerate(zip(tables, reports, strict=True)):
        if study.kind == FOLDS:
            others = concatenated([*tables[:number], *tables[number + 1 :]])
            cuts = best_thresholds(others.labels, others.probabilities)
        else:
            cuts = [score.threshold for score in report.classes if isinstance(score, LabelScore)]
        found.append(np.tile(cuts, (len(table), 1)))
    return np.concatenate(found)


def _figures(reports: Mapping[str, AnyReport]) -> StudyFigures:
    runs = {name: headline(report) for name, report in reports.items()}
    keys = list(next(iter(runs.values()), {}))
    values = {key: np.array([figures[key] for figures in runs.values()]) for key in keys}
    return StudyFigures(
        runs,
        {key: float(each.mean()) for key, each in values.items()},
        {key: float(each.std(ddof=1)) if len(each) > 1 else 0.0 for key, each in values.items()},
    )


def headline(report: AnyReport) -> dict[str, float]:
    """The figures of FIGURES that a report has, and its number of pictures."""
    found = {key: float(getattr(report, key)) for key in FIGURES if hasattr(report, key)}
    if isinstance(report, MultiLabelReport):
        del found["accuracy"]  # the same as subset_accuracy
    return {**found, "pictures": float(report.pictures)}


def runs_table(figures: StudyFigures) -> Table:
    """The figures of each run, their mean and their standard deviation."""
    keys = [key for key in FIGURES if key in figures.mean]
    table = Table("run", "pictures", *(FIGURES[key] for key in keys), title="held-out pictures, run by run")
    for name, row in [*figures.runs.items(), ("mean", figures.mean), ("standard deviation", figures.sd)]:
        pictures = f"{row['pictures']:,.0f}" if name in figures.runs else ""
        table.add_row(name, pictures, *(f"{row[key]:.2%}" for key in keys))
    return table


def _read_report(run: RunFolder) -> tuple[AnyReport, AnyReport | None]:
    """A finished run's reports on its held-out and its test pictures."""
    try:
        stored = json.loads(run.report.read_text(encoding="utf-8"))
        return _report(stored), _report(stored["test"]) if "test" in stored else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{run.report}: is damaged ({str(error)[:200]}); restore it") from None


def _report(stored: Mapping[str, Any]) -> AnyReport:
    unreadable = [(name, reason) for name, reason in stored["unreadable"]]
    if "mean_average_precision" in stored:
        return MultiLabelReport(
            pictures=int(stored["pictures"]),
            mean_average_precision=float(stored["mean_average_precision"]),
            micro_f1=float(stored["micro_f1"]),
            macro_f1=float(stored["macro_f1"]),
            subset_accuracy=float(stored["subset_accuracy"]),
            classes=[LabelScore(**{**score, "values": {}}) for score in stored["classes"]],
            mistakes=[LabelMistake(**mistake) for mistake in stored["mistakes"]],
            unreadable=unreadable,
        )
    return Report(
        accuracy=float(stored["accuracy"]),
        balanced_accuracy=float(stored["balanced_accuracy"]),
        rarest=ClassScore(**stored["rarest"]) if stored["rarest"] else None,
        classes=[ClassScore(**score) for score in stored["classes"]],
        confusion=stored["confusion"],
        mistakes=[Mistake(**mistake) for mistake in stored["mistakes"]],
        unreadable=unreadable,
    )


def _held_out_by(study: Study, name: str) -> PredictionTable:
    """A run's predictions for its held-out pictures, with the run's name in the column fold or seed."""
    table = read_predictions(study.run(name).predictions)
    if table.split is not None:  # files of earlier versions have held-out pictures only, and no column split
        table = table.take(np.array([part == VAL for part in table.split]))
    return replace(table, **{study.word: [name] * len(table)})  # type: ignore[arg-type]

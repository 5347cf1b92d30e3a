"""What an evaluation found, and how a terminal and a notebook show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ..common import notebook
from ..common.console import cell, counted, say
from ..common.machine import environment
from .metrics import Figures
from .multi_label import LABEL_NAMES, MultiLabelReport, score_text
from .report import Report, most_confused
from .results import class_figures_table, figures_table
from .verification import Verification

if TYPE_CHECKING:
    from rich.console import Console

    from ..data.crops import View

LEGEND = (
    "balanced: the mean of the classes' recalls. ECE: expected calibration error. T: the "
    "temperature to divide the logits by, fitted on these pictures; after T: the ECE then, on halves that T was not "
    "fitted on. NLL: in nats."
)

# What `evaluate` draws, with what it shows and its width in a notebook, in pixels.
DRAWN = (
    ("reliability", "accuracy beside confidence", 480),
    ("confusion_matrix", "the confusion matrix", 560),
)
VALIDATION = 50_000  # pictures of ILSVRC 2012's validation set, which published figures are of
CLASSES_SHOWN = 40  # of more classes, those with the least recall


@dataclass(frozen=True)
class Model:
    """One evaluated model: how it looked at the pictures, its figures, and the paper's and its source's beside them.

    paper: (table, top-1, top-5), shares in [0, 1]; None where it has none for this network and these crops, or
        the pictures are not of all 1000 classes.
    published: accuracy as the weights' source has it, %, likewise.
    notes: what was assumed.
    """

    name: str
    network: str
    view: View | None
    figures: Figures
    paper: tuple[str, float, float] | None
    published: dict[str, float]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    data: as it was asked for. crops: a picture. classes: the models'; report has which of them occur.
    models: each one alone, in the order given. average: of their probabilities; None of a single model.
    report: class by class, confusion matrix, mistakes and what could not be read, of the average or the one model.
    note: how the pictures relate to those that a run was trained on; "" where nothing is known.
    folder: where it is written. positive: of two classes the positive one; None of more, and of several labels.
    command: what repeats it; "" where no command can.
    """

    data: str
    crops: int
    classes: list[str]
    models: list[Model]
    average: Model | None
    report: Report
    note: str
    folder: Path
    positive: str | None = None
    command: str = ""

    @property
    def reported(self) -> Model:
        """What the report is of."""
        return self.average or self.models[0]

    @property
    def heading(self) -> str:
        """What was evaluated, and how its pictures were looked at."""
        return _heading(self)

    def show(self, console: Console) -> None:
        """Prints it in a terminal."""
        show_evaluation(console, self)

    def __repr__(self) -> str:
        scores = self.reported.figures
        names = ", ".join(model.name for model in self.models)
        said = f"top-1 {scores.top1:.2%}, balanced {scores.balanced:.2%} of {counted(scores.pictures, 'picture')}"
        return f"<Evaluation of {names} on {self.data}: {said}>"

    def _repr_html_(self) -> str:
        return evaluation_html(self)

    def as_json(self) -> dict[str, object]:
        """All but the confusion matrix and the single pictures, which are CSV files beside it."""
        return {
            "data": self.data,
            "note": self.note,
            "pictures": self.reported.figures.pictures,
            "classes": len(self.classes),
            "positive": self.positive,
            "command": self.command,
            **environment(),
            "crops": self.crops,
            "models": [asdict(model) for model in self.models],
            "average": asdict(self.average) if self.average else None,
            "rarest": asdict(self.report.rarest) if self.report.rarest else None,
            "most_confused": most_confused(self.report),
            "per_class": [asdict(score) for score in self.report.classes if score.support],
            "left_out": [list(entry) for entry in self.report.unreadable],
        }


@dataclass(frozen=True)
class FaceVerification:
    """What `verify_faces` found.

    model, pairs, data: as they were asked for. mirrored: whether each face was looked at mirrored too. view: how.
    pictures: how many were embedded. one_person, two_persons: how many pairs of each kind were judged.
    left_out: how many pairs were not, since `unreadable` (name, reason) has one of their pictures.
    notes: what was assumed, or left out.
    published: accuracy as the weights' source has it, %, by measure: LFW's is of that set's own 6,000 pairs.
    folder: where it is written.
    """

    model: str
    pairs: str
    data: str
    mirrored: bool
    view: View
    pictures: int
    one_person: int
    two_persons: int
    left_out: int
    verification: Verification
    unreadable: list[tuple[str, str]]
    notes: list[str]
    published: dict[str, float]
    folder: Path

    def as_json(self) -> dict[str, object]:
        found = asdict(self)
        del found["folder"]
        return found


def show_evaluation(console: Console, found: Evaluation) -> None:
    say(console, _heading(found), style="italic")
    if found.note:
        say(console, found.note, style="yellow")
    console.print(_models(found))
    console.print(figures_table(_named_figures(found)))
    if found.report.rarest:
        say(console, found.report.rarest_class)
    say(console, LEGEND)
    for model in filter(None, [*found.models, found.average]):
        for line in _published(model, found.reported.figures.pictures):
            say(console, line)
        for line in model.notes:
            say(console, f"{model.name}: {line}", style="yellow")
    console.print(_classes(found))


def evaluation_html(found: Evaluation) -> str:
    """The same for a notebook, with the pictures that were drawn of it."""
    models = list(filter(None, [*found.models, found.average]))
    said = [line for model in models for line in _published(model, found.reported.figures.pictures)]
    return notebook.page(
        notebook.heading(_heading(found)),
        notebook.line(found.note),
        notebook.table(_models(found)),
        notebook.table(figures_table(_named_figures(found))),
        notebook.line(found.report.rarest_class),
        *map(notebook.line, [LEGEND, *said, *(f"{model.name}: {line}" for model in models for line in model.notes)]),
        notebook.table(_classes(found)),
        *(notebook.picture(found.folder / f"{name}.png", what, width) for name, what, width in DRAWN),
        notebook.line(f"everything is in {found.folder}"),
    )


def show_verified(console: Console, found: FaceVerification) -> None:
    scores = found.verification
    kinds = f"{counted(found.one_person, 'pair')} of one person, {found.two_persons:,} of two"
    say(
        console,
        f"{kinds}; {counted(found.pictures, 'picture')}, each embedded once{looked_at(found.view)}",
        style="italic",
    )
    console.print(_folds(found))
    accuracy = f"{scores.accuracy:.2%} ± {scores.deviation:.2%}"
    say(console, f"accuracy {accuracy} (mean and standard deviation of the folds), each by the threshold of the others")
    for line in found.notes:
        say(console, line, style="yellow")
    if found.published:
        say(console, f"its weights are published with {_measures(found.published)}, on that set's own pairs")
    say(console, f"threshold of all pairs {scores.threshold:.4f}: one person's where the squared distance is below it")
    say(console, f"area under the ROC curve {scores.auc:.4f}")
    for share, accepts in scores.true_accepts.items():
        said = "too few pairs of two persons to tell" if accepts is None else f"{accepts:.2%}"
        say(console, f"true accepts at {share} false ones: {said}")


def class_table(report: Report | MultiLabelReport, most: int | None = None) -> Table:
    """Precision and recall of a run's classes on its held-out pictures; of more than `most`, those of least recall."""
    if isinstance(report, MultiLabelReport):
        return label_table(report, most)
    title, scores = "held-out pictures, class by class", report.classes
    if most is not None and len(scores) > most:
        title += f": the {most} of least recall; all {len(scores)} are in report.json"
        scores = sorted(scores, key=lambda score: score.recall)[:most]
    table = Table(title=title, title_justify="left")
    table.add_column("class", overflow="fold")
    for column in ("precision", "recall", "pictures"):
        table.add_column(column, justify="right")
    for score in scores:
        table.add_row(cell(score.name), f"{score.precision:.1%}", f"{score.recall:.1%}", f"{score.support:,}")
    return table


def label_table(report: MultiLabelReport, most: int | None = None) -> Table:
    """Scores of each label; of more than `most`, those of least average precision."""
    title, scores = "label by label", report.classes
    if most is not None and len(scores) > most:
        title += f": the {most} of least average precision; all {len(scores)} are in report.json"
        known = [score for score in scores if score.average_precision is not None]
        scores = sorted(known, key=lambda score: score.average_precision or 0.0)[:most]
    table = Table(title=title, title_justify="left")
    table.add_column("label", overflow="fold")
    for column in ("threshold", "precision", "recall", "F1", "AP", "AUC", "pictures"):
        table.add_column(column, justify="right")
    for score in scores:
        texts = (score_text(score, name) for name in ("precision", "recall", "f1", "average_precision", "auc"))
        table.add_row(cell(score.name), f"{score.threshold:.3f}", *texts, f"{score.support:,}")
    table.add_section()
    area = report.values["mean_auc"].percent() if "mean_auc" in report.values else ""
    mean = (report.text("macro_f1"), report.text("mean_average_precision"), area)
    table.add_row("mean", "", "", "", *mean, f"{report.pictures:,}")
    return table


def label_models_table(rows: Sequence[tuple[str, MultiLabelReport]]) -> Table:
    """The figures of each model of several labels per picture, by its name."""
    groups = rows[0][1].groups
    by = "" if groups is None else f" by {groups:,} groups"
    table = Table(title=f"with 95 % intervals{by}", title_justify="left")
    table.add_column("model", overflow="fold")
    for column in ("mAP", "micro F1", "macro F1", "all right"):
        table.add_column(column, justify="right")
    for name, report in rows:
        table.add_row(cell(name), *map(report.text, LABEL_NAMES))
    return table


def _heading(found: Evaluation) -> str:
    """What was looked at, and how."""
    views = {model.view for model in found.models if model.view}
    crops = f"{found.crops} crops a picture" if found.crops > 1 else "one crop a picture"
    if len(views) == 1 and found.crops == 1:
        crops += looked_at(next(iter(views)))
    occurring = sum(score.support > 0 for score in found.report.classes)
    positive = "" if found.positive is None else f", {found.positive!r} the positive one"
    pictures = counted(found.reported.figures.pictures, "picture")
    return f"{pictures} of {counted(occurring, 'class')}{positive}; {crops}"


def looked_at(view: View) -> str:
    share = "the whole of it" if view.fraction == 1 else f"{view.fraction:.4g} of it ({view.mode})"
    return f", {share}, {view.interpolation}, at {view.size[0]}×{view.size[1]}"


def _named_figures(found: Evaluation) -> list[tuple[str, Figures]]:
    return [(model.name, model.figures) for model in [*found.models, *([found.average] if found.average else [])]]


def _models(found: Evaluation) -> Table:
    table = Table()
    table.add_column("model", overflow="fold")
    for column in ("top-1", "95 %", "balanced", "top-5", "ECE", "T", "after T", "NLL"):
        table.add_column(column, justify="right")
    rows = [*found.models, *([found.average] if found.average else [])]
    for model in rows:
        score, calibration = model.figures, model.figures.calibration
        if model is found.average:
            table.add_section()
        cells: list[Text | str] = [
            cell(model.name),
            f"{score.top1:.2%}",
            f"{100 * score.interval[0]:.2f}–{100 * score.interval[1]:.2f}",
            f"{score.balanced:.2%}",
            _share(score.top5),
            f"{calibration.ece:.2%}",
            f"{calibration.temperature:.2f}" if calibration.temperature else "–",
            _share(calibration.scaled_ece),
            f"{calibration.nll:.3f}",
        ]
        table.add_row(*cells)
    return table


def _published(model: Model, pictures: int) -> list[str]:
    """What the weights' source and the paper have to be beside it."""
    here = f" (here: {pictures:,} of its {VALIDATION:,} pictures)" if pictures < VALIDATION else ""
    said = []
    if model.published:
        said.append(f"{model.name}: its weights are published with {_measures(model.published)}{here}")
    if model.paper:
        table, top1, top5 = model.paper
        said.append(
            f"{model.name}: the paper's {table} has top-1 {top1:.1%}, top-5 {top5:.1%}, of weights of its own{here}"
        )
    return said


def _measures(published: Mapping[str, float]) -> str:
    return ", ".join(f"{measure} {number:g} %" for measure, number in published.items())


def _classes(found: Evaluation) -> Table:
    figures = found.reported.figures
    title = f"class by class, {found.reported.name}" if found.average else "class by class"
    if len(figures.classes) > CLASSES_SHOWN:
        title += f": the {CLASSES_SHOWN} of least sensitivity; all {len(figures.classes)} are in report.json"
    return class_figures_table(figures, title, CLASSES_SHOWN)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def _folds(found: FaceVerification) -> Table:
    scores = found.verification
    table = Table()
    table.add_column("fold")
    for column in ("pairs", "threshold", "accuracy"):
        table.add_column(column, justify="right")
    for number, fold in enumerate(scores.folds, 1):
        table.add_row(str(number), f"{fold.pairs:,}", f"{fold.threshold:.4f}", f"{fold.accuracy:.2%}")
    table.add_section()
    total = sum(fold.pairs for fold in scores.folds)
    table.add_row("mean", f"{total:,}", "", f"{scores.accuracy:.2%} ± {scores.deviation:.2%}")
    return table

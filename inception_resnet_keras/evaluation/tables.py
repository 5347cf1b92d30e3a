"""The result of an evaluation, and its display in a terminal and a notebook."""

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
    "balanced: the mean of the classes' recalls. ECE: expected calibration error. T: the temperature to divide the "
    "logits by, fitted on these pictures. after T: the ECE after dividing by T, measured on pictures that T was not "
    "fitted on. NLL: negative log likelihood, in nats."
)

# Figures that a notebook shows: the file's name, its description and its width in pixels.
DRAWN = (
    ("reliability", "accuracy over confidence", 480),
    ("confusion_matrix", "the confusion matrix", 560),
)
VALIDATION = 50_000  # number of images of ILSVRC 2012's validation set, which published accuracies refer to
CLASSES_SHOWN = 40  # with more classes, those with the lowest recall are shown


@dataclass(frozen=True)
class Model:
    """An evaluated model.

    Attributes:
        name: The model, as given.
        network: The name of its network; "" if it is not one of this package's.
        view: How an image becomes its input; None for an average of models.
        figures: Its metrics.
        paper: (table, top-1, top-5) of the paper, accuracies in [0, 1]; None if the paper reports none for this network
            and these crops, or if the images are not of all 1000 classes.
        published: The accuracies that the source of the weights reports, in per cent, by measure; empty if the images
            are not of all 1000 classes.
        notes: Assumptions that were made.
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
    """The result of `evaluate`.

    Attributes:
        data: The images, as given.
        crops: The number of crops per image.
        classes: The classes of the models; some may have no images.
        models: The results of each model, in the given order.
        average: The results of the models' mean probabilities; None for a single model.
        report: Scores by class, confusion matrix, mistakes and unreadable files, of the average or the only model.
        note: How the images relate to the training images of runs; "" if nothing is known.
        folder: The folder with all files that were written.
        positive: With two classes the positive one; otherwise None, also with several labels per image.
        command: The command that repeats the evaluation; "" if none can.
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
        """The average of the models, or the only model: the report refers to it."""
        return self.average or self.models[0]

    @property
    def heading(self) -> str:
        """The number of images and classes, and the crops."""
        return _heading(self)

    def show(self, console: Console) -> None:
        """Print the evaluation in a terminal."""
        show_evaluation(console, self)

    def __repr__(self) -> str:
        scores = self.reported.figures
        names = ", ".join(model.name for model in self.models)
        result = f"top-1 {scores.top1:.2%}, balanced {scores.balanced:.2%} of {counted(scores.pictures, 'picture')}"
        return f"<Evaluation of {names} on {self.data}: {result}>"

    def _repr_html_(self) -> str:
        return evaluation_html(self)

    def as_json(self) -> dict[str, object]:
        """The content of report.json: everything but the confusion matrix and single images, which have CSV files."""
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
    """The result of `verify_faces`.

    Attributes:
        model, pairs, data: The arguments, as given.
        mirrored: Whether each face was embedded mirrored as well.
        view: How an image becomes the model's input.
        pictures: The number of embedded images.
        one_person, two_persons: The number of judged pairs of the same person, and of different persons.
        left_out: The number of pairs that were not judged because one of their images is missing or unreadable.
        verification: The accuracy, the threshold, the folds and the ROC curve.
        unreadable: (file, reason) of each missing or unreadable image.
        notes: Assumptions that were made.
        published: The accuracies that the source of the weights reports, in per cent, by measure; that of LFW refers
            to its own 6,000 pairs.
        folder: The folder with all files that were written.
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
    """The evaluation for a notebook, with its figures."""
    models = list(filter(None, [*found.models, found.average]))
    published = [line for model in models for line in _published(model, found.reported.figures.pictures)]
    return notebook.page(
        notebook.heading(_heading(found)),
        notebook.line(found.note),
        notebook.table(_models(found)),
        notebook.table(figures_table(_named_figures(found))),
        notebook.line(found.report.rarest_class),
        *map(
            notebook.line, [LEGEND, *published, *(f"{model.name}: {line}" for model in models for line in model.notes)]
        ),
        notebook.table(_classes(found)),
        *(notebook.picture(found.folder / f"{name}.png", what, width) for name, what, width in DRAWN),
        notebook.line(f"everything is in {found.folder}"),
    )


def show_verified(console: Console, found: FaceVerification) -> None:
    scores = found.verification
    kinds = f"{counted(found.one_person, 'pair')} of the same person, {found.two_persons:,} of different persons"
    say(
        console,
        f"{kinds}; {counted(found.pictures, 'picture')}, each embedded once{looked_at(found.view)}",
        style="italic",
    )
    console.print(_folds(found))
    accuracy = f"{scores.accuracy:.2%} ± {scores.deviation:.2%}"
    say(
        console,
        f"accuracy {accuracy} (mean and standard deviation over the folds; each fold uses the threshold of the others)",
    )
    for line in found.notes:
        say(console, line, style="yellow")
    if found.published:
        say(console, f"published accuracy of its weights, on their own pairs: {_measures(found.published)}")
    say(
        console,
        f"threshold from all pairs {scores.threshold:.4f}: a smaller squared distance counts as the same person",
    )
    say(console, f"area under the ROC curve {scores.auc:.4f}")
    for share, accepts in scores.true_accepts.items():
        text = "unknown, because there are too few pairs of different persons" if accepts is None else f"{accepts:.2%}"
        say(console, f"true accepts at {share} false accepts: {text}")


def class_table(report: Report | MultiLabelReport, most: int | None = None) -> Table:
    """A table with the precision and recall of each class on the held-out images of a run.

    most: The maximum number of classes, those with the lowest recall; None for all.
    """
    if isinstance(report, MultiLabelReport):
        return label_table(report, most)
    title, scores = "held-out pictures by class", report.classes
    if most is not None and len(scores) > most:
        title += f": the {most} with the lowest recall; report.json has all {len(scores)}"
        scores = sorted(scores, key=lambda score: score.recall)[:most]
    table = Table(title=title, title_justify="left")
    table.add_column("class", overflow="fold")
    for column in ("precision", "recall", "pictures"):
        table.add_column(column, justify="right")
    for score in scores:
        table.add_row(cell(score.name), f"{score.precision:.1%}", f"{score.recall:.1%}", f"{score.support:,}")
    return table


def label_table(report: MultiLabelReport, most: int | None = None) -> Table:
    """A table with the scores of each label.

    most: The maximum number of labels, those with the lowest average precision; None for all.
    """
    title, scores = "scores by label", report.classes
    if most is not None and len(scores) > most:
        title += f": the {most} with the lowest average precision; report.json has all {len(scores)}"
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
    """A table with the scores of models with several labels per image. rows: The name and report of each model."""
    groups = rows[0][1].groups
    by = "" if groups is None else f" based on {groups:,} groups"
    table = Table(title=f"with 95 % intervals{by}", title_justify="left")
    table.add_column("model", overflow="fold")
    for column in ("mAP", "micro F1", "macro F1", "all right"):
        table.add_column(column, justify="right")
    for name, report in rows:
        table.add_row(cell(name), *map(report.text, LABEL_NAMES))
    return table


def _heading(found: Evaluation) -> str:
    views = {model.view for model in found.models if model.view}
    crops = f"{found.crops} crops per picture" if found.crops > 1 else "one crop per picture"
    if len(views) == 1 and found.crops == 1:
        crops += looked_at(next(iter(views)))
    occurring = sum(score.support > 0 for score in found.report.classes)
    positive = "" if found.positive is None else f" (positive: {found.positive!r})"
    pictures = counted(found.reported.figures.pictures, "picture")
    return f"{pictures} of {counted(occurring, 'class')}{positive}; {crops}"


def looked_at(view: View) -> str:
    """The crop in words, such as ", 0.875 of the picture (squash), bilinear, at 299×299"."""
    share = "the whole picture" if view.fraction == 1 else f"{view.fraction:.4g} of the picture ({view.mode})"
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
    """The accuracies that the source of the weights and the paper report, in words."""
    here = f" (here: {pictures:,} of its {VALIDATION:,} pictures)" if pictures < VALIDATION else ""
    lines = []
    if model.published:
        lines.append(f"{model.name}: published accuracy of its weights: {_measures(model.published)}{here}")
    if model.paper:
        table, top1, top5 = model.paper
        lines.append(
            f"{model.name}: the paper's {table} reports top-1 {top1:.1%}, top-5 {top5:.1%} for its own weights{here}"
        )
    return lines


def _measures(published: Mapping[str, float]) -> str:
    return ", ".join(f"{measure} {number:g} %" for measure, number in published.items())


def _classes(found: Evaluation) -> Table:
    figures = found.reported.figures
    title = f"results by class, {found.reported.name}" if found.average else "results by class"
    if len(figures.classes) > CLASSES_SHOWN:
        title += f": the {CLASSES_SHOWN} with the lowest sensitivity; report.json has all {len(figures.classes)}"
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

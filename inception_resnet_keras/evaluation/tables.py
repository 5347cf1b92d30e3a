"""What an evaluation found, as tables and lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ..common.console import cell, say

if TYPE_CHECKING:
    from rich.console import Console

    from ..data.crops import View
    from .evaluate import Evaluation, Model
    from .faces import FaceVerification

LEGEND = (
    "±: 95 % interval (Wilson). ECE: expected calibration error. T: the temperature to divide the logits by, "
    "fitted on these pictures; after T: the ECE then, on halves that T was not fitted on. NLL: in nats."
)

VALIDATION = 50_000  # pictures of ILSVRC 2012's validation set, which published figures are of
CLASSES_SHOWN = 40  # of more classes, those with the least recall


def show_evaluation(console: Console, found: Evaluation) -> None:
    say(console, _heading(found), style="italic")
    if found.note:
        say(console, found.note, style="yellow")
    console.print(_models(found))
    say(console, LEGEND)
    for model in filter(None, [*found.models, found.average]):
        for line in _published(model, found.reported.figures.pictures):
            say(console, line)
        for line in model.notes:
            say(console, f"{model.name}: {line}", style="yellow")
    console.print(_classes(found))


def show_verified(console: Console, found: FaceVerification) -> None:
    scores = found.verification
    kinds = f"{found.one_person:,} pairs of one person, {found.two_persons:,} of two"
    say(console, f"{kinds}; {found.pictures:,} pictures, each embedded once{_looked_at(found.view)}", style="italic")
    console.print(_folds(found))
    accuracy = f"{scores.accuracy:.2%} ± {scores.deviation:.2%}"
    say(console, f"accuracy {accuracy}, each fold by the threshold of the others")
    for line in found.notes:
        say(console, line, style="yellow")
    if found.published:
        say(console, f"its weights are published with {_measures(found.published)}, on that set's own pairs")
    say(console, f"threshold of all pairs {scores.threshold:.4f}: one person's where the squared distance is below it")
    say(console, f"area under the ROC curve {scores.auc:.4f}")
    for share, accepts in scores.true_accepts.items():
        said = "too few pairs of two persons to tell" if accepts is None else f"{accepts:.2%}"
        say(console, f"true accepts at {share} false ones: {said}")


def _heading(found: Evaluation) -> str:
    """What was looked at, and how."""
    views = {model.view for model in found.models if model.view}
    crops = f"{found.crops} crops a picture" if found.crops > 1 else "one crop a picture"
    if len(views) == 1 and found.crops == 1:
        crops += _looked_at(next(iter(views)))
    occurring = sum(score.support > 0 for score in found.report.classes)
    return f"{found.reported.figures.pictures:,} pictures of {occurring} classes; {crops}"


def _looked_at(view: View) -> str:
    share = "the whole of it" if view.fraction == 1 else f"{view.fraction:.4g} of it ({view.mode})"
    return f", {share}, {view.interpolation}, at {view.size[0]}×{view.size[1]}"


def _models(found: Evaluation) -> Table:
    table = Table()
    table.add_column("model", overflow="fold")
    for column in ("top-1", "±", "top-5", "ECE", "T", "after T", "NLL"):
        table.add_column(column, justify="right")
    rows = [*found.models, *([found.average] if found.average else [])]
    for model in rows:
        score, calibration = model.figures, model.figures.calibration
        if model is found.average:
            table.add_section()
        cells: list[Text | str] = [
            cell(model.name),
            f"{score.top1:.2%}",
            f"{(score.interval[1] - score.interval[0]) / 2:.2%}",
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
    there = [score for score in found.report.classes if score.support]
    shown = there
    title = f"class by class, {found.reported.name}" if found.average else "class by class"
    if len(there) > CLASSES_SHOWN:
        shown = sorted(there, key=lambda score: score.recall)[:CLASSES_SHOWN]
        title += f": the {CLASSES_SHOWN} of least recall; all {len(there)} are in report.json"
    table = Table(title=cell(title, "table.title"), title_justify="left")
    table.add_column("class", overflow="fold")
    for column in ("precision", "recall", "F1", "pictures"):
        table.add_column(column, justify="right")
    for score in shown:
        shares = (f"{share:.1%}" for share in (score.precision, score.recall, score.f1))
        table.add_row(cell(score.name), *shares, f"{score.support:,}")
    table.add_section()
    scores = found.reported.figures
    table.add_row("mean of the classes", "", f"{scores.balanced:.1%}", f"{scores.macro_f1:.1%}", f"{scores.pictures:,}")
    return table


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

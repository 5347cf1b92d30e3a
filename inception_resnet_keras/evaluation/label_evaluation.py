"""Evaluation of models with several labels per image: the result, its display, and the files that it writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common import notebook
from ..common.console import counted, say
from ..common.errors import InputError
from ..common.files import write_json
from ..common.machine import environment
from ..data.labelled import Source
from ..models.one_pass import average as mean_of
from ..models.open import OpenedModel
from . import plots
from .html_report import write_report
from .multi_label import DEFAULT_THRESHOLD, MultiLabelReport, multi_label_report
from .predictions import PREDICTIONS, table_of
from .tables import CLASSES_SHOWN, Evaluation, label_models_table, label_table, looked_at
from .thresholds import write_thresholds

if TYPE_CHECKING:
    from rich.console import Console

    from ..data.crops import View

LABEL_LEGEND = (
    "mAP: the mean over labels of the average precision. F1, precision, recall and all right (the share of pictures "
    "whose labels are all correct) use the thresholds stored in each model; mAP and AUC need none."
)
CHOSEN_HERE = (
    "the thresholds were chosen on these pictures, so F1, precision, recall and all right are too optimistic: a test "
    "part gives unbiased figures"
)
NO_THRESHOLDS = (
    f"it has no thresholds: a label is predicted if its probability is at least {DEFAULT_THRESHOLD:g}, which is rarely "
    "optimal; `train` chooses thresholds on held-out pictures"
)


@dataclass(frozen=True)
class LabelModel:
    """An evaluated model with several labels per image. The attributes are those of `Model`."""

    name: str
    network: str
    view: View | None
    figures: MultiLabelReport
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, repr=False)
class LabelEvaluation(Evaluation):
    """The result of `evaluate` for models with several labels per image. Other attributes are those of `Evaluation`.

    Attributes:
        models: The evaluated models.
        average: The figures of the models' mean probabilities at their mean thresholds; None for one model.
        report: The scores of the average, or of the only model.
    """

    models: list[LabelModel]  # type: ignore[assignment]
    average: LabelModel | None  # type: ignore[assignment]
    report: MultiLabelReport  # type: ignore[assignment]

    def __repr__(self) -> str:
        names = ", ".join(model.name for model in self.models)
        pictures = counted(self.report.pictures, "picture")
        return f"<Evaluation of {names} on {self.data}: {self.report.headline}, of {pictures}>"

    def _repr_html_(self) -> str:
        return notebook.page(
            notebook.heading(self._heading),
            notebook.line(self.note),
            notebook.table(label_models_table(self._rows)),
            notebook.line(LABEL_LEGEND),
            *(notebook.line(f"{model.name}: {note}") for model in self.models for note in model.notes),
            notebook.table(label_table(self.report, CLASSES_SHOWN)),
            notebook.picture(self.folder / "labels.png", "scores of each label", 560),
            notebook.line(f"everything is in {self.folder}"),
        )

    def show(self, console: Console) -> None:
        say(console, self._heading, style="italic")
        if self.note:
            say(console, self.note, style="yellow")
        console.print(label_models_table(self._rows))
        say(console, LABEL_LEGEND)
        for model in self.models:
            for note in model.notes:
                say(console, f"{model.name}: {note}", style="yellow")
        console.print(label_table(self.report, CLASSES_SHOWN))

    def as_json(self) -> dict[str, object]:
        return {
            "data": self.data,
            "note": self.note,
            "pictures": self.report.pictures,
            "classes": len(self.classes),
            "command": self.command,
            **environment(),
            "crops": self.crops,
            "several_labels": True,
            "models": [_model_json(model) for model in self.models],
            "average": _model_json(self.average) if self.average else None,
            "per_class": [asdict(score) for score in self.report.classes],
            "left_out": [list(entry) for entry in self.report.unreadable],
        }

    @property
    def _rows(self) -> list[tuple[str, MultiLabelReport]]:
        return [(model.name, model.figures) for model in [*self.models, *([self.average] if self.average else [])]]

    @property
    def _heading(self) -> str:
        occurring = sum(score.support > 0 for score in self.report.classes)
        crops = f"{self.crops} crops per picture" if self.crops > 1 else "one crop per picture"
        views = {model.view for model in self.models if model.view}
        if len(views) == 1 and self.crops == 1:
            crops += looked_at(next(iter(views)))
        return f"{counted(self.report.pictures, 'picture')} with {counted(occurring, 'label')}; {crops}"


def with_thresholds(source: Source, subjects: Sequence[OpenedModel], data: str) -> list[OpenedModel]:
    """The models; sigmoid models without thresholds get `DEFAULT_THRESHOLD` if images have several labels.

    Raises:
        InputError: The images have several labels each and a model predicts one class, or the other way round.
    """
    found = [_with_default_thresholds(subject) if source.multi_label else subject for subject in subjects]
    for subject in found:
        if source.multi_label and not subject.thresholds:
            raise InputError(
                f"{subject.name}: predicts one class per picture, but pictures of {data} may have several labels; "
                "evaluate a model that `train` made from such pictures, or a Keras model that ends in sigmoids"
            )
        if subject.thresholds and not source.multi_label:
            raise InputError(
                f"{data}: has one class per picture, but {subject.name} predicts several labels per picture; give a "
                "CSV file with several labels: a column named labels, or one column of 0 and 1 per label"
            )
    return found


def _with_default_thresholds(subject: OpenedModel) -> OpenedModel:
    if not subject.sigmoids or subject.thresholds:
        return subject
    thresholds = (DEFAULT_THRESHOLD,) * subject.outputs
    return replace(subject, thresholds=thresholds, notes=(*subject.notes, NO_THRESHOLDS))


def evaluate_labels(
    source: Source,
    read: np.ndarray,
    labels: np.ndarray,
    probabilities: Sequence[np.ndarray],
    subjects: Sequence[OpenedModel],
    *,
    thresholds: Sequence[np.ndarray],
    picture: Callable[[int], np.ndarray],
    **about: Any,
) -> LabelEvaluation:
    """Score models with several labels per image, and write the evaluation's files.

    Args:
        source: The images.
        read: int (n,), the indices in the source of the images that could be read.
        labels: (n, classes), 1 where an image has a label, in the order of the first model's outputs.
        probabilities: (n, classes) of each model, in that order.
        subjects: The models.
        thresholds: (classes,) of each model, in that order.
        picture: A function that returns one of the n images by its index, uint8 (height, width, 3), for figures.
        about: `data`, `crops`, `classes`, `note`, `folder` and `command` of the evaluation; and `left_out`, the
            unreadable files of its report.

    Raises:
        InputError: No image that could be read has a label.
    """
    # Score each model, and the average of several at the mean of their thresholds.
    left_out = about.pop("left_out")
    names = [source.names[place] for place in read.tolist()]
    groups = None if source.groups is None else [source.groups[place] for place in read.tolist()]

    def scored(probabilities: np.ndarray, thresholds: np.ndarray) -> MultiLabelReport:
        return multi_label_report(
            labels, probabilities, thresholds, about["classes"], names, unreadable=left_out, groups=groups
        )

    models = [
        LabelModel(subject.name, subject.network, subject.view, scored(each, cuts), list(subject.notes))
        for subject, each, cuts in zip(subjects, probabilities, thresholds, strict=True)
    ]
    judged, cuts, average = probabilities[0], thresholds[0], None
    if len(models) > 1:
        judged, cuts = mean_of(probabilities), np.mean(thresholds, axis=0)
        average = LabelModel("average", "", None, scored(judged, cuts))
    report = (average or models[0]).figures
    found = LabelEvaluation(models=models, average=average, report=report, **about)
    # Write the files.
    several = len(models) > 1
    table = table_of(
        source,
        about["classes"],
        labels,
        judged,
        [(model.name, each) for model, each in zip(models, probabilities, strict=True)] if several else (),
        read=read,
        thresholds=cuts,
        models_thresholds=thresholds if several else (),
    )
    table.write(found.folder / PREDICTIONS)
    write_thresholds(found.folder, labels, judged, about["classes"])
    shown = [picture(mistake.index) for mistake in report.mistakes[: plots.MISTAKES_SHOWN]]
    plots.plot_labels(report, found.folder / "labels.png")
    plots.plot_label_mistakes(report, shown, found.folder / "mistakes.png")
    # report.json marks the folder as complete; report.html is made from the files.
    write_json(found.folder / "report.json", found.as_json())
    write_report(found.folder)
    return found


def _model_json(model: LabelModel) -> dict[str, object]:
    figures = model.figures
    return {
        "name": model.name,
        "network": model.network,
        "view": asdict(model.view) if model.view else None,
        "mean_average_precision": figures.mean_average_precision,
        "micro_f1": figures.micro_f1,
        "macro_f1": figures.macro_f1,
        "subset_accuracy": figures.subset_accuracy,
        "values": {name: asdict(value) for name, value in figures.values.items()},
        "groups": figures.groups,
        "notes": model.notes,
    }

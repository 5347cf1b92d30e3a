"""The results in report.html: metrics with intervals, curves, confusion, mistakes and explanations of one table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.console import command
from ..data.images import UnreadableImageError, decode
from . import curves, plots
from .curves import Kind
from .figure_style import percent, svg_of
from .intervals import Units, Value
from .metrics import CLASS_NAMES, Figures, area_intervals, figure_names, figures
from .multi_label import MultiLabelReport, label_area_intervals, multi_label_report, score_text
from .predictions import PredictionTable
from .report import Report, classification_report, most_confused
from .report_page import Block, Code, Line, Picture, Section, TableBlock

CLASSES_LISTED = 60
SHARES = ("accuracy", "top5", "balanced_accuracy", "sensitivity", "specificity", "precision", "ece")


def results(title: str, table: PredictionTable, *, used_for_training: bool = False) -> Section:
    """The section with metrics, curves, confusion matrix and mistakes of a table of predictions.

    Args:
        title: The title of the section.
        table: The predictions.
        used_for_training: Whether the images chose the best epoch, which a line then says.
    """
    section = Section(title)
    if used_for_training:
        section.blocks.append(
            Line(
                "These pictures chose the best epoch, and perhaps settings, so the results may be optimistic: a test "
                "part gives unbiased ones."
            )
        )
    units = Units(len(table), table.unit_names)
    if units.grouped:
        why = "pictures of a group are not independent"
        if table.seed is not None:
            why = f"{why}; a picture without a group is one with its results of all seeds"
        section.blocks.append(Line(f"Intervals are based on {len(units):,} groups, because {why}."))
    areas: dict[Kind, dict[str, tuple[float, float]]] = {}
    if table.multi_label:
        labelled = label_report(table)
        section.blocks += _label_results(labelled)
        areas = {kind: label_area_intervals(labelled, key) for kind, key in curves.AREAS.items()}
    else:
        scored = _figures(table)
        section.blocks += _class_results(table, scored)
        areas = {kind: area_intervals(scored, key) for kind, key in curves.AREAS.items()}
    names = list(table.classes)
    for kind in curves.KINDS:
        found = curves.curve_set(kind, table.labels, table.probabilities, names, table.unit_names)
        alt = "ROC curves" if kind == "roc" else "precision and recall"
        width = 420 if len(found.curves) < 2 else 0
        section.blocks.append(Picture(svg_of(curves.curves_figure(found, areas.get(kind))), alt, width))
    section.blocks += _mistakes(table)
    return section


def _class_results(table: PredictionTable, found: Figures) -> Iterator[Block]:
    # The headline, and the metrics over all classes.
    yield _class_headline(found)
    if found.positive is not None:
        yield Line(
            f"Positive class: {found.positive}. In the table of all classes, sensitivity, specificity, precision, F1, "
            "AUC and average precision refer to it."
        )
    names = figure_names(found)
    values = [[names[key], _text(key, value), value.method] for key, value in found.values.items()]
    yield TableBlock(["figure", "value (95 % interval)", "interval"], values, "All classes", texts=1)
    # The metrics of each class.
    scores, more = found.classes, ""
    if len(scores) > CLASSES_LISTED:
        more = f": the {CLASSES_LISTED} of {len(scores)} with the lowest sensitivity"
        scores = sorted(scores, key=lambda score: score.sensitivity.value if score.sensitivity else 0.0)[
            :CLASSES_LISTED
        ]
    rows = [
        [score.name, f"{score.pictures:,}", *(_text(key, getattr(score, key)) for key in CLASS_NAMES)]
        for score in scores
    ]
    header = ["class", "pictures", *CLASS_NAMES.values()]
    yield TableBlock(header, rows, f"Each class against the rest, with 95 % intervals{more}")
    # The confusions, and the calibration.
    report = _report(table)
    yield Picture(
        svg_of(plots.confusion(report, interval=found.interval)), "confusion matrix", 720 if len(scores) <= 4 else 0
    )
    confused = most_confused(report, 10)
    if confused:
        rows = [[true, other, f"{count:,}"] for true, other, count in confused]
        yield TableBlock(["true class", "predicted", "pictures"], rows, "Confused most often", texts=2)
    drawn = [("model", table.probabilities, found.calibration)]
    figure = curves.reliability(table.labels, drawn, list(table.classes), table.unit_names)
    yield Picture(svg_of(figure), "accuracy over confidence", 420)


def _figures(table: PredictionTable) -> Figures:
    return figures(table.labels, table.probabilities, list(table.classes), table.unit_names)


def headline(table: PredictionTable) -> Line:
    """A line with the accuracy and the balanced accuracy, or with the scores of all labels."""
    return _label_headline(label_report(table)) if table.multi_label else _class_headline(_figures(table))


def _class_headline(found: Figures) -> Line:
    accuracy, balanced = (found.values[key].percent() for key in ("accuracy", "balanced_accuracy"))
    return Line(
        f"Accuracy {accuracy} and balanced accuracy {balanced} on {found.pictures:,} pictures, with 95 % intervals in "
        "brackets.",
        strong=True,
    )


def _text(key: str, value: Value | None) -> str:
    """A metric as text: shares in per cent, areas and coefficients as decimal numbers."""
    if value is None:
        return "–"
    return value.percent() if key in SHARES else value.decimal()


def label_report(table: PredictionTable) -> MultiLabelReport:
    """The scores of a table with several labels per image, at thresholds that reproduce its predictions."""
    cuts, names = _thresholds(table), (list(table.classes), list(table.pictures))
    return multi_label_report(table.labels, table.probabilities, cuts, *names, groups=table.unit_names)


def _label_headline(report: MultiLabelReport) -> Line:
    return Line(report.headline[:1].upper() + report.headline[1:] + ", with 95 % intervals in brackets.", strong=True)


def _label_results(report: MultiLabelReport) -> Iterator[Block]:
    yield _label_headline(report)
    rows = [
        [
            score.name,
            f"{score.support:,}",
            *(score_text(score, name) for name in ("precision", "recall", "f1", "average_precision", "auc")),
        ]
        for score in report.classes[:CLASSES_LISTED]
    ]
    yield TableBlock(
        ["label", "pictures", "precision", "recall", "F1", "average precision", "AUC"],
        rows,
        "Label by label, with 95 % intervals; precision, recall and F1 at their thresholds",
    )
    yield Picture(svg_of(plots.label_scores(report)), "scores of each label", 720)


def _thresholds(table: PredictionTable) -> list[float]:
    """A threshold for each label that reproduces the table's predictions."""
    found = []
    for predicted, given in zip(table.predicted.T.astype(bool), table.probabilities.T, strict=True):
        below = float(given[~predicted].max()) if (~predicted).any() else 0.0
        above = float(given[predicted].min()) if predicted.any() else 1.0
        found.append((below + above) / 2 if below < above else above)
    return found


def _report(table: PredictionTable) -> Report:
    return classification_report(table.labels, table.probabilities, list(table.classes), list(table.pictures))


def _mistakes(table: PredictionTable) -> Iterator[Block]:
    """The most confident mistakes, with images if they are files that still exist."""
    if table.multi_label:
        return
    report = _report(table)
    if not report.mistakes:
        yield Line("All pictures are classified correctly.")
        return
    shown = []
    for mistake in report.mistakes[: plots.MISTAKES_SHOWN]:
        picture = _picture(mistake.name)
        if picture is not None:
            shown.append((mistake, plots.thumbnail(picture, 260)))
    if shown:
        few = replace(report, mistakes=[mistake for mistake, _ in shown])
        figure = plots.mistakes(few, [picture for _, picture in shown], len(report.mistakes))
        yield Picture(svg_of(figure), "the most confident mistakes")
    rows = [
        [mistake.name, mistake.true, mistake.predicted, percent(mistake.probability, 0)]
        for mistake in report.mistakes[: plots.MISTAKES_SHOWN]
    ]
    yield TableBlock(["picture", "true", "predicted", "probability"], rows, "The most confident mistakes", texts=3)


def explanations_of(folder: Path, table: PredictionTable, most: int) -> Section:
    """The section with explanations of the most confident mistakes and of as many correct predictions.

    Args:
        folder: The run's folder.
        table: The predictions to choose from.
        most: The maximum number of explanations.
    """
    section = Section("Explanations")
    if not most:
        again = command("report", folder, "--explanations", "4")
        section.blocks += [Line("None were requested. This command makes the report with four:"), Code(again)]
        return section
    from .explain import explained_figures

    # Only images whose files still exist can be explained, the most confident predictions first.
    confident = np.argsort(-table.probabilities.max(axis=1), kind="stable").tolist()
    existing = [place for place in confident if Path(table.pictures[place]).is_file()]
    right = table.predicted == table.labels
    wrong = [place for place in existing if not right[place]][: (most + 1) // 2]
    chosen = [*wrong, *[place for place in existing if right[place]][: most - len(wrong)]]
    files = [(Path(table.pictures[place]), table.classes[int(table.labels[place])]) for place in chosen]
    section.blocks += [
        Picture(svg_of(figure), f"explanation of {file.name}", 900)
        for figure, (file, _) in zip(explained_figures(folder, files), files, strict=False)
    ]
    if not section.blocks:
        section.blocks.append(Line("The pictures are not files, or no longer exist: none can be explained."))
    return section


def _picture(name: str) -> Image.Image | None:
    path = Path(name)
    try:
        return decode(path, (260, 260)) if path.is_file() else None
    except (UnreadableImageError, OSError, ValueError):
        return None

"""The metrics of an evaluation as tables for a terminal, a notebook and papers (results.md, results.tex)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from ..common.console import cell
from ..common.files import write_text
from .intervals import Value
from .metrics import CLASS_NAMES, Figures, figure_names
from .text_tables import latex_table, markdown_table, markdown_text

DECIMALS = {"mcc", "kappa", "quadratic_kappa", "auc", "average_precision", "brier"}  # the others are in per cent
RESULTS = "results"  # the files' name, before .md and .tex
ORDERED = "The quadratic kappa is meaningful only if the classes are ordered, such as grades."


def figures_table(models: Sequence[tuple[str, Figures]]) -> Table:
    """A table with one row per metric and one column per model."""
    header, rows = figure_rows(models)
    return _table(f"with 95 % intervals{_by(models)}", header, rows)


def class_figures_table(figures: Figures, title: str, most: int) -> Table:
    """A table with one row per class; with more than `most` classes, those with the lowest sensitivity."""
    header, rows = class_rows(figures, most)
    return _table(title, header, rows)


def figure_rows(models: Sequence[tuple[str, Figures]]) -> tuple[list[str], list[list[str]]]:
    """The header, and one row per metric that at least one of the models has."""
    rows = [
        [label, *(_text(name, figures.values.get(name)) for _, figures in models)]
        for name, label in figure_names(models[0][1]).items()
        if any(name in figures.values for _, figures in models)
    ]
    return ["figure", *(name for name, _ in models)], rows


def class_rows(figures: Figures, most: int | None = None) -> tuple[list[str], list[list[str]]]:
    """The header, and one row per class that has images."""
    classes = figures.classes
    if most is not None and len(classes) > most:
        classes = sorted(classes, key=lambda each: each.sensitivity.value if each.sensitivity else 0.0)[:most]
    rows = [
        [each.name, f"{each.pictures:,}", *(_text(name, getattr(each, name)) for name in CLASS_NAMES)]
        for each in classes
    ]
    return ["class", "pictures", *CLASS_NAMES.values()], rows


def write_results(folder: Path, heading: str, models: Sequence[tuple[str, Figures]], judged: Figures) -> None:
    """Write results.md and results.tex.

    Args:
        folder: The folder to write to.
        heading: A line about the images and the crops.
        models: The name and the metrics of each model.
        judged: The metrics of the model or average whose classes are listed.
    """
    note = f"95 % intervals{_by(models)}."
    tables = [figure_rows(models), class_rows(judged)]
    texts = [markdown_table(*table) for table in tables]
    write_text(folder / f"{RESULTS}.md", "\n\n".join([markdown_text(heading), note, *texts, ORDERED]) + "\n")
    comments = [[heading, note, "Needs the package booktabs.", ORDERED], []]
    parts = [latex_table(*table, lines) for table, lines in zip(tables, comments, strict=True)]
    write_text(folder / f"{RESULTS}.tex", "\n".join(parts))


def _by(models: Sequence[tuple[str, Figures]]) -> str:
    groups = models[0][1].groups
    return "" if groups is None else f" based on {groups:,} groups"


def _text(name: str, value: Value | None) -> str:
    if value is None:
        return "–"
    return value.decimal() if name in DECIMALS else value.percent()


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=cell(title, "table.title"), title_justify="left")
    for place, column in enumerate(header):
        table.add_column(cell(column), justify="right" if place else "left", overflow="fold")
    for first, *others in rows:
        table.add_row(cell(first), *others)
    return table

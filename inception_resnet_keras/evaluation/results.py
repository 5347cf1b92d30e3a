"""The figures of an evaluation as tables: for a terminal, a notebook, and papers (results.md, results.tex)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from ..common.console import cell
from ..common.files import write_text
from .intervals import Value
from .metrics import CLASS_NAMES, Figures, figure_names
from .text_tables import latex_table, markdown_table, markdown_text

DECIMALS = {"mcc", "kappa", "quadratic_kappa", "auc", "average_precision", "brier"}  # others are shares, in percent
RESULTS = "results"  # the files' name, before .md and .tex
ORDERED = "The quadratic kappa means something only if the classes are in order, such as grades."


def figures_table(models: Sequence[tuple[str, Figures]]) -> Table:
    """One row per figure, one column per model."""
    header, rows = figure_rows(models)
    return _table(f"with 95 % intervals{_by(models)}", header, rows)


def class_figures_table(figures: Figures, title: str, most: int) -> Table:
    """One row per class; of more than `most` classes, those of least sensitivity."""
    header, rows = class_rows(figures, most)
    return _table(title, header, rows)


def figure_rows(models: Sequence[tuple[str, Figures]]) -> tuple[list[str], list[list[str]]]:
    """The header, and a row per figure that one of the models has."""
    rows = [
        [label, *(_text(name, figures.values.get(name)) for _, figures in models)]
        for name, label in figure_names(models[0][1]).items()
        if any(name in figures.values for _, figures in models)
    ]
    return ["figure", *(name for name, _ in models)], rows


def class_rows(figures: Figures, most: int | None = None) -> tuple[list[str], list[list[str]]]:
    """The header, and a row per class that has pictures."""
    classes = figures.classes
    if most is not None and len(classes) > most:
        classes = sorted(classes, key=lambda each: each.sensitivity.value if each.sensitivity else 0.0)[:most]
    rows = [
        [each.name, f"{each.pictures:,}", *(_text(name, getattr(each, name)) for name in CLASS_NAMES)]
        for each in classes
    ]
    return ["class", "pictures", *CLASS_NAMES.values()], rows


def write_results(folder: Path, heading: str, models: Sequence[tuple[str, Figures]], judged: Figures) -> None:
    """Writes results.md and results.tex.

    Args:
        folder: Where.
        heading: What was evaluated on what.
        models: The models' figures, by their names. judged: Those of the model or average whose classes are listed.
    """
    note = f"95 % intervals{_by(models)}."
    tables = [figure_rows(models), class_rows(judged)]
    texts = [markdown_table(*table) for table in tables]
    write_text(folder / f"{RESULTS}.md", "\n\n".join([markdown_text(heading), note, *texts, ORDERED]) + "\n")
    comments = [[heading, note, "Needs the package booktabs.", ORDERED], []]
    parts = [latex_table(*table, said) for table, said in zip(tables, comments, strict=True)]
    write_text(folder / f"{RESULTS}.tex", "\n".join(parts))


def _by(models: Sequence[tuple[str, Figures]]) -> str:
    groups = models[0][1].groups
    return "" if groups is None else f" by {groups:,} groups"


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

"""The result of a comparison: differences between models on the same images, in numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.table import Table

from ..common import notebook
from ..common.console import cell, printable, say
from ..common.machine import environment
from .paired import PERMUTATION, Difference
from .text_tables import latex_table, markdown_table, markdown_text

if TYPE_CHECKING:
    from rich.console import Console

Metric = Literal["accuracy", "balanced_accuracy", "sensitivity", "specificity", "auc", "brier"]
METRICS: dict[Metric, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "auc": "AUC",
    "brier": "Brier score",
}
IN_PERCENT = ("accuracy", "balanced_accuracy", "sensitivity", "specificity")
NEEDS: dict[Metric, str] = {
    "balanced_accuracy": "one label per picture",
    "sensitivity": "two classes, one label per picture, and pictures of the positive class in every run",
    "specificity": "two classes, one label per picture, and pictures of the class that is not positive in every run",
    "auc": "pictures of at least two classes",
}
CLASSES_OF = {"sensitivity": " of the positive class", "specificity": " of the other class"}
SIGNIFICANT = 0.05
# The least number of images that only one of two models classifies correctly, or of groups: with fewer, the p-value of
# McNemar's test, or of permuting the two models group by group, cannot be below 0.05.
NEEDED = 6


@dataclass(frozen=True)
class Row:
    """One metric of two models.

    Attributes:
        metric: The name of the metric.
        first, second: The value of each model; over folds or seeds, the mean.
        difference: The value of the second model minus that of the first.
        corrected_p: The p-value after Holm's correction for all compared pairs; None if no test applies.
        counted: The images that the metric is the share of right ones of, such as the positive ones for sensitivity:
            how many only the first model classifies correctly, how many only the second does, and how many there are.
            None for other metrics, and over folds or seeds.
    """

    metric: Metric
    first: float
    second: float
    difference: Difference
    corrected_p: float | None = None
    counted: tuple[int, int, int] | None = None

    @property
    def better(self) -> float:
        """The difference, positive if the second model is better: a lower Brier score is better."""
        return -self.difference.value if self.metric == "brier" else self.difference.value


@dataclass(frozen=True)
class Pair:
    """Two models on the same images.

    Attributes:
        first, second: The names of the models.
        pictures: The number of images.
        only_first, only_second: The number of images that only this model classifies correctly.
        rows: The metrics of both models.
        runs: The number of folds or seeds; 0 for a single run each.
    """

    first: str
    second: str
    pictures: int
    only_first: int
    only_second: int
    rows: list[Row]
    runs: int = 0

    def row(self, metric: str) -> Row:
        return next(row for row in self.rows if row.metric == metric)


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`.

    Attributes:
        data: The images, as given.
        classes: The names of the classes.
        models: The names of the models.
        metric: The metric that the sentences are about.
        pairs: The compared pairs.
        study: "folds", "seeds", or "" for single runs.
        groups: The number of groups of images; None if no groups are known.
        notes: How the images relate to the training of the runs.
        folder: The folder with the files of the comparison.
        several_labels: Whether an image may have several labels.
        positive: With two classes, the positive one; otherwise None.
        command: The command that repeats the comparison; "" if none can.
        sentences: One conclusion per pair, in words.
    """

    data: str
    classes: list[str]
    models: list[str]
    metric: Metric
    pairs: list[Pair]
    study: str
    groups: int | None
    notes: list[str]
    folder: Path
    several_labels: bool = False
    positive: str | None = None
    command: str = ""
    sentences: list[str] = field(default_factory=list)

    def show(self, console: Console) -> None:
        """Print the comparison in a terminal."""
        say(console, self.heading, style="italic")
        for note in self.notes:
            say(console, note, style="yellow")
        console.print(self.table())
        for sentence in self.sentences:
            say(console, sentence)

    def __repr__(self) -> str:
        return f"<Comparison of {', '.join(self.models)} on {self.data}: {self.sentences[0]}>"

    def _repr_html_(self) -> str:
        return notebook.page(
            notebook.heading(self.heading),
            *map(notebook.line, self.notes),
            notebook.table(self.table()),
            *map(notebook.line, self.sentences),
            notebook.line(f"everything is in {self.folder}"),
        )

    @property
    def heading(self) -> str:
        """The number of models, of images and of runs, and the images' name."""
        pair = self.pairs[0]
        runs = f", {pair.runs} {self.study} each" if self.study else ""
        groups = f" of {self.groups:,} groups" if self.groups is not None else ""
        return f"{len(self.models)} models on {pair.pictures:,} pictures{groups} of {self.data}{runs}"

    def as_json(self) -> dict[str, object]:
        found = {name: value for name, value in asdict(self).items() if name != "folder"}
        return found | {"heading": self.heading, **environment()}

    def table(self) -> Table:
        """The differences, one row per pair and metric."""
        table = Table(title="differences: the second model minus the first", title_justify="left")
        for name, justify in zip(HEADER, ["left"] * TEXTS + ["right"] * (len(HEADER) - TEXTS), strict=True):
            table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
        for pair in self.pairs:
            for place, cells in enumerate(_cells(pair)):
                names = cells[:2] if not place else ["", ""]
                table.add_row(*map(cell, names), *cells[2:])
            table.add_section()
        return table

    def markdown(self) -> str:
        """The table and the sentences, in Markdown."""
        rows = [cells for pair in self.pairs for cells in _cells(pair)]
        lines = [self.heading, *self.notes]
        texts = [*map(markdown_text, lines), markdown_table(HEADER, rows, TEXTS), *map(markdown_text, self.sentences)]
        return "\n\n".join(texts) + "\n"

    def latex(self) -> str:
        """The table in LaTeX, with rules of the package booktabs."""
        rows = [cells for pair in self.pairs for cells in _cells(pair)]
        return latex_table(HEADER, rows, [self.heading, *self.notes, *self.sentences], TEXTS)


HEADER = ("first", "second", "figure", "first's", "second's", "difference (95 %)", "p", "p, Holm")
TEXTS = 3  # the first columns hold names


def _cells(pair: Pair) -> list[list[str]]:
    return [
        [
            pair.first,
            pair.second,
            METRICS[row.metric],
            _value(row.metric, row.first),
            _value(row.metric, row.second),
            _difference(row.metric, row.difference),
            p_text(row.difference.p),
            p_text(row.corrected_p),
        ]
        for row in pair.rows
    ]


def row_of_csv(row: Mapping[str, str]) -> list[str]:
    """The cells of `HEADER` from a row of comparison.csv."""
    metric = row["figure"]
    low, high, p, corrected = (float(row[name]) if row[name] else None for name in ("low", "high", "p", "p after Holm"))
    return [
        row["first"],
        row["second"],
        next((name for key, name in METRICS.items() if key == metric), metric),
        *(_value(metric, float(row[name])) for name in ("value of first", "value of second")),
        _difference(metric, Difference(float(row["difference"]), low, high)),
        p_text(p),
        p_text(corrected),
    ]


def _value(metric: str, value: float) -> str:
    return f"{value:.2%}" if metric in IN_PERCENT else f"{value:.4f}"


def _difference(metric: str, found: Difference) -> str:
    def text(value: float) -> str:
        return f"{100 * value:+.1f}" if metric in IN_PERCENT else f"{value:+.4f}"

    if found.low is None or found.high is None:
        return text(found.value)
    return f"{text(found.value)} ({text(found.low)} to {text(found.high)})"


def p_text(p: float | None) -> str:
    """A p-value as text, such as "0.034" or "< 0.001"; "–" for None."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _p_equation(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def verdict(
    pair: Pair,
    metric: Metric,
    *,
    study: str,
    pairs: int,
    several_labels: bool = False,
    groups: int | None = None,
) -> str:
    """The conclusion that the numbers of a pair support, in words.

    Args:
        pair: The two models.
        metric: The metric that the conclusion is about.
        study: "folds", "seeds", or "" for single runs.
        pairs: The number of pairs that Holm's correction counts.
        several_labels: Whether an image may have several labels.
        groups: The number of groups of images; None if no groups are known.
    """
    row, first, second = pair.row(metric), printable(pair.first), printable(pair.second)
    difference = row.difference
    unit = " points" if metric in IN_PERCENT else ""
    what = METRICS[metric]
    texts = []
    # First the counts that McNemar's test rests on: the images on which the two models disagree.
    if row.counted is not None:
        only_first, only_second, pictures = row.counted
        right = "gives all labels of" if several_labels else "classifies"
        correctly = "correctly " if not several_labels else ""
        texts.append(
            f"{second} {right} {_pictures(only_second)} {correctly}that {first} does not, and {first} "
            f"{_pictures(only_first)} that {second} does not, of {pictures:,}{CLASSES_OF.get(metric, '')}."
        )
    # Then the difference with its interval and test.
    where = f" on average over {pair.runs} {study}" if study else ""
    interval = ""
    if difference.low is not None and difference.high is not None:
        interval = f" (95 %: {_signed(metric, difference.low)} to {_signed(metric, difference.high)})"
    value = f"{_signed(metric, difference.value)}{unit}{where}"
    texts.append(f"The difference in {what}, {second} minus {first}, is {value}{interval}{_tested(row, pairs)}.")
    # Last the decision, which names the population that it holds for.
    p = row.corrected_p
    if p is None:
        texts.append("It does not vary between the compared units, so no test applies.")
    elif p < SIGNIFICANT and difference.includes_zero:
        texts.append(f"{_at_the_edge(pair, row, study)}. That does not show that the two are equal.")
    elif p < SIGNIFICANT:
        better, worse = (second, first) if row.better > 0 else (first, second)
        of = {
            "folds": "pictures like these, when trained and tested in this way",
            "seeds": "these held-out pictures, whatever the seed; this says nothing about other pictures",
            "": "pictures like these",
        }[study]
        texts.append(f"{better} is better than {worse} on {of}.")
    else:
        texts.append(_undecided(pair, row, study, groups))
    return " ".join(texts)


def _undecided(pair: Pair, row: Row, study: str, groups: int | None) -> str:
    text = f"{_basis(pair, row, study)} not show which of the two is better"
    difference = row.difference
    if difference.p is not None and difference.p < SIGNIFICANT:
        text += ", because several pairs were compared: one such difference among them may well be due to chance"
    elif difference.excludes_zero:
        text = _at_the_edge(pair, row, study)
    elif difference.low is not None and difference.high is not None:
        low, high = (_signed(row.metric, bound) for bound in (difference.low, difference.high))
        text += f": they are compatible with any difference from {low} to {high}"
    text += ". That does not show that the two are equal."
    if groups is not None and groups < NEEDED and row.difference.test == PERMUTATION:
        return (
            f"{text} The pictures belong to only {groups} group{'' if groups == 1 else 's'}; with fewer than {NEEDED}, "
            "no difference can be significant: more groups are needed."
        )
    different = sum(row.counted[:2]) if row.counted is not None else NEEDED
    if different < NEEDED:
        text += (
            f" Only one of the two is right about {_pictures(different)}; with fewer than {NEEDED}, no difference can "
            "be significant: more pictures are needed."
        )
    return text


def _at_the_edge(pair: Pair, row: Row, study: str) -> str:
    """The conclusion if only one of the interval and the test finds a difference: they are computed differently."""
    narrow, other = ("interval", "test") if row.difference.excludes_zero else ("test", "interval")
    return (
        f"{_basis(pair, row, study)} not show clearly which of the two is better: the {narrow} finds a difference, "
        f"the {other} does not"
    )


def _basis(pair: Pair, row: Row, study: str) -> str:
    if study:
        return f"These {pair.runs} {study} do"
    pictures = row.counted[2] if row.counted else pair.pictures
    return "This one picture does" if pictures == 1 else f"These {pictures:,} pictures do"


def _tested(row: Row, pairs: int) -> str:
    if row.difference.p is None:
        return ""
    text = f"; {row.difference.test}: {_p_equation(row.difference.p)}"
    if pairs > 1 and row.corrected_p is not None:
        text += f", {_p_equation(row.corrected_p)} after Holm's correction for {pairs} comparisons"
    return text


def _signed(metric: str, value: float) -> str:
    return f"{100 * value:+.1f}" if metric in IN_PERCENT else f"{value:+.4f}"


def _pictures(count: int) -> str:
    return f"{count:,} picture{'' if count == 1 else 's'}"


def csv_rows(pairs: Sequence[Pair]) -> list[list[object]]:
    """The rows of comparison.csv, under `CSV_HEADER`."""
    return [
        [
            *(pair.first, pair.second, row.metric, row.first, row.second, row.difference.value),
            *("" if bound is None else bound for bound in (row.difference.low, row.difference.high)),
            *("" if p is None else p for p in (row.difference.p, row.corrected_p)),
            *(row.difference.method, row.difference.test),
            *(row.counted or (pair.only_first, pair.only_second, pair.pictures)),
            pair.runs,
        ]
        for pair in pairs
        for row in pair.rows
    ]


CSV_HEADER = [
    *("first", "second", "figure", "value of first", "value of second", "difference", "low", "high"),
    *("p", "p after Holm", "interval", "test", "only first right", "only second right", "pictures", "runs"),
]

"""report.html for a run, folds or seeds, an evaluation or a comparison, made from the files in its folder.

Only files that train, evaluate and compare wrote are read, so that a report can be made again at any time. If a file is
missing, its part of the report is left out, and a line says so.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..common.arguments import is_integer, path_of
from ..common.console import command
from ..common.errors import InputError, refuse
from ..common.files import open_regular, read_text
from ..common.packages import install
from ..data.copies import COPIES_FILE
from ..data.labelled import TEST, TRAIN, VAL
from ..data.splits import SPLIT_FILE, Split, read_split
from ..models.model_file import read_run_config
from ..weights.runs import RUN_CONFIG
from . import plots
from .comparison import HEADER, row_of_csv
from .figure_style import percent, svg_of
from .predictions import PREDICTIONS, PredictionTable, read_predictions
from .report_page import Block, Code, Line, Picture, Section, TableBlock, require_own, write_page
from .report_results import CLASSES_LISTED, explanations_of, headline, results

REPORT = "report.html"
STUDIES = ("folds", "seeds")
COMPARISON = "comparison"
PART_NAMES = {TRAIN: "training", VAL: "held out", TEST: "test"}
LISTED = 30  # maximum number of rows in a table of files
RAISED = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, csv.Error)


def write_report(folder: str | PathLike[str], *, explanations: int = 0) -> Path:
    """Write report.html into a folder that `train`, `evaluate` or `compare` wrote.

    The page is self-contained: it can be opened without a network, sent and printed.

    Args:
        folder: The folder of a run, of several folds or seeds, of an evaluation or of a comparison.
        explanations: For a run, the number of images to explain by Grad-CAM and integrated gradients, at least 0: half
            of them the most confident mistakes, the others correct. Each image takes several passes of the model.

    Returns:
        The path of the page. An earlier report in the folder is replaced.

    Raises:
        ValueError: The folder is none of these, a file in it is damaged, or its report.html was not written by this
            package.

    Examples:
        >>> from inception_resnet_keras import evaluate, write_report
        >>> evaluation = evaluate("runs/photos-1", "photos")
        >>> write_report(evaluation.folder).name
        'report.html'
    """
    place = path_of("folder", folder)
    if not place.is_dir():
        raise InputError(f"{place}: is not a folder; give a folder that train, evaluate or compare wrote")
    require_own(place / REPORT)
    if not is_integer(explanations) or explanations < 0:
        raise refuse("explanations", explanations, "an integer of at least 0")
    title, about, sections = _read(place, explanations)
    write_page(place / REPORT, title, sections, about)
    return place / REPORT


def try_write_report(folder: Path) -> str:
    """Write report.html into a finished folder. Returns "", or the reason why it could not be written."""
    try:
        write_report(folder)
    except InputError as error:
        return str(error)
    except OSError as error:
        return f"{folder / REPORT}: {error.strerror or error}"
    return ""


def _read(folder: Path, explanations: int) -> tuple[str, str, list[Section]]:
    """The title of the report, a line about it, and its sections."""
    try:
        if kind := next((kind for kind in STUDIES if (folder / f"{kind}.json").is_file()), None):
            return _study(folder, kind)
        if (folder / RUN_CONFIG).is_file():
            return _run(folder, explanations)
        if (folder / f"{COMPARISON}.json").is_file():
            return _comparison(folder)
        if (folder / "report.json").is_file() and "models" in _json(folder / "report.json"):
            return _evaluation(folder)
    except InputError:
        raise
    except RAISED as error:
        raise InputError(f"{folder}: one of its files is damaged ({error!r:.200}); restore it") from None
    raise InputError(
        f"{folder}: has no config.json, folds.json, seeds.json, comparison.json or report.json of an evaluation; "
        "give a finished folder that train, evaluate or compare wrote"
    )


# ----------------------------------------------------------------------------------------------------------------------
# A run
# ----------------------------------------------------------------------------------------------------------------------
def _run(folder: Path, explanations: int) -> tuple[str, str, list[Section]]:
    stored = read_run_config(folder / RUN_CONFIG)
    config = stored["config"]
    report, history = _json_or_none(folder / "report.json"), _history(folder)
    table = _predictions(folder)
    # Results on a test part come first: the held-out images chose the best epoch.
    held_out = table.take(np.array([part != TEST for part in table.split])) if table and table.split else table
    tested = None
    if table and table.split and TEST in table.split:
        tested = table.take(np.array([part == TEST for part in table.split]))
    sections = [
        _data_card(folder, config, report),
        _network(config, len(table.classes) if table else None),
        _training(config, report, history),
        *([results("Results on the test pictures", tested)] if tested else []),
        *([results("Results on the held-out pictures", held_out, used_for_training=True)] if held_out else []),
        *([explanations_of(folder, tested or held_out, explanations)] if held_out and not held_out.multi_label else []),
        _environment(stored),
        _settings(stored),
    ]
    if not table:
        why = "it is not finished"
        if (folder / "report.json").is_file():
            why = f"earlier versions wrote none; {command('evaluate', folder)} gives the results"
        sections.insert(3, Section("Results", [Line(f"The run has no {PREDICTIONS}: {why}.")]))
    name = f"{config.get('model')} on {Path(str(config.get('data') or 'digits')).name}"
    return name, f"Run {folder.resolve().name}, started {stored.get('started', 'at an unknown time')}", sections


def _data_card(folder: Path, config: Mapping[str, Any], report: Mapping[str, Any] | None) -> Section:
    """The counts of images by class and part, groups, copies, and unreadable files."""
    section = Section("Data", [Line(f"Source: {config.get('data') or 'the handwritten digits of scikit-learn'}")])
    if config.get("val"):
        section.blocks.append(Line(f"Held-out pictures: {config['val']}"))
    if (folder / SPLIT_FILE).is_file():
        section.blocks += _counts(read_split(folder / SPLIT_FILE))
    else:
        section.blocks.append(Line("split.csv is missing: it is not known which pictures the run was trained on."))
    section.blocks += _copies(folder, config)
    left_out = [] if report is None else report.get("unreadable", [])
    section.blocks += _left_out(left_out)
    return section


def _counts(split: Split) -> Iterator[Block]:
    parts = [part for part in PART_NAMES if part in split.parts]
    labels = [label.split("|") for label in split.labels]
    several = any(len(each) > 1 for each in labels)
    counted = Counter((label, part) for each, part in zip(labels, split.parts, strict=True) for label in each)
    classes = sorted({label for label, _ in counted})
    rows = [[name, *(f"{counted[name, part]:,}" for part in parts)] for name in classes]
    totals = Counter(split.parts)
    total = [["pictures" if several else "all", *(f"{totals[part]:,}" for part in parts)]]
    shown = rows if len(rows) <= CLASSES_LISTED else rows[:CLASSES_LISTED]
    more = f"; the first {CLASSES_LISTED} of {len(rows)}; split.csv has all" if len(rows) > CLASSES_LISTED else ""
    caption = f"Pictures by {'label' if several else 'class'} and part{more}"
    yield TableBlock(["class", *(PART_NAMES[part] for part in parts)], [*shown, *total], caption)
    named = set(zip(split.groups, split.parts, strict=True))
    parts_of = Counter(group for group, _ in named if group)
    if parts_of:
        shared = sum(count > 1 for count in parts_of.values())
        counts = ", ".join(
            f"{sum(bool(group) and of == part for group, of in named):,} {PART_NAMES[part]}" for part in parts
        )
        leak = f"{shared:,} have pictures in several parts" if shared else "none has pictures in several parts"
        yield Line(f"Groups: {counts}; {leak}.", strong=bool(shared))
    else:
        yield Line("No groups are known: pictures of one patient, person or scene may be in several parts.")


def _copies(folder: Path, config: Mapping[str, Any]) -> Iterator[Block]:
    rows = _csv(folder / COPIES_FILE)
    if config.get("copies") == "skip":
        yield Line("The pictures were not searched for copies (copies = skip).")
    elif not rows:
        yield Line("The pictures contain no copies.")
    else:
        across = sum("across" in row["problem"] for row in rows)
        labels = sum("two labels" in row["problem"] for row in rows)
        left = sum("left out" in (row["split"], row["copy_split"]) for row in rows)
        yield Line(
            f"Copies: {len(rows):,} pairs of identical or near-identical pictures. In two parts: {across:,}; with two "
            f"labels: {labels:,}; with a picture that was left out: {left:,}. copies.csv lists them.",
            strong=bool(across or labels),
        )


def _left_out(entries: Sequence[Sequence[str]]) -> Iterator[Block]:
    if not entries:
        yield Line("Every picture could be read.")
        return
    more = f"; the first {LISTED}; report.json has all" if len(entries) > LISTED else ""
    caption = f"{len(entries):,} files that could not be used{more}"
    yield TableBlock(
        ["file", "reason"], [[str(each) for each in entry[:2]] for entry in entries[:LISTED]], caption, texts=2
    )


def _network(config: Mapping[str, Any], classes: int | None) -> Section:
    from ..diagrams import svg
    from ..diagrams.api import plot_architecture

    section = Section(
        "Network", [Line(f"{config['model']}, variant {config.get('variant')}, at {_size(config)} pixels")]
    )
    if not svg.can_draw():
        section.blocks.append(Line(f"Its diagram needs Graphviz: {install('plot')}, then make the report again."))
        return section
    size = config["size"]
    shape = (size, size, 3) if isinstance(size, int) else (*size, 3)
    try:
        diagram = plot_architecture(
            config["model"],
            variant=config["variant"],
            depths=config.get("depths") or None,
            scale=config.get("scale") or True,
            input_shape=shape,
            num_classes=classes,
        )
        section.blocks.append(Picture(diagram.svg().encode(), f"{config['model']}, stage by stage", 720))
    except InputError as error:  # the tables of this version lack the network
        section.blocks.append(Line(f"Its diagram could not be drawn: {error}"))
    return section


def _size(config: Mapping[str, Any]) -> str:
    size = config.get("size")
    return "×".join(map(str, size)) if isinstance(size, list) else f"{size}×{size}"


def _training(config: Mapping[str, Any], report: Mapping[str, Any] | None, history: list[dict[str, float]]) -> Section:
    """The recipe, the phases, the best epoch and the learning curves."""
    section = Section("Training")
    if history:
        rates = [row["learning_rate"] for row in history if "learning_rate" in row]
        phases = len({row.get("phase", 1) for row in history})
        seconds = sum(row.get("seconds", 0.0) for row in history)
        lines = [f"{len(history)} of {config.get('epochs')} epochs"]
        lines += ["stopped early"] if report and report.get("stopped_early") else []
        lines += [f"{phases} phases"] if phases > 1 else []
        lines += [f"mean learning rate of an epoch {min(rates):.2g} to {max(rates):.2g}"] if rates else []
        lines += [f"{seconds / 60:,.1f} minutes"] if seconds else []
        section.blocks.append(Line("; ".join(lines) + "."))
        best = (report or {}).get("best") or {}
        if best:
            section.blocks.append(
                Line(
                    f"best.keras holds epoch {best.get('epoch')}, chosen by held-out "
                    f"{best.get('monitor', 'accuracy')}; model.keras holds the last epoch, which the results are of."
                )
            )
        section.blocks.append(Picture(svg_of(plots.learning_curves(history)), "learning curves"))
    else:
        section.blocks.append(Line("No epoch has finished."))
    recipe = ("optimizer", "learning_rate", "schedule", "batch_size", "augmentation", "precision", "seed")
    listed = ", ".join(f"{name.replace('_', ' ')} {_setting(config[name])}" for name in recipe if name in config)
    section.blocks.insert(0, Line(f"Recipe: {listed}. All settings are at the end."))
    if config.get("weights"):
        section.blocks.append(Line(f"Started from the weights {config['weights']}"))
    return section


def _settings(stored: Mapping[str, Any]) -> Section:
    rows = [[name, _setting(value)] for name, value in stored["config"].items() if value not in (None, [], {}, "")]
    rows += [[f"{name}, chosen by the run", _setting(value)] for name, value in stored.get("chosen", {}).items()]
    return Section("All settings", [TableBlock(["setting", "value"], rows, texts=2, columns=True)])


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _environment(stored: Mapping[str, Any], when: str = "at the run's start") -> Section:
    rows = [*stored.get("machine", {}).items(), *stored.get("versions", {}).items()]
    section = Section("Environment and repetition")
    if rows:
        section.blocks.append(TableBlock(["", when], [[name, str(value)] for name, value in rows], texts=2))
    if stored.get("command"):
        section.blocks += [Line("The command that repeats it:"), Code(str(stored["command"]))]
    return section


def run_results(folder: Path) -> list[str]:
    """The headlines of a run's results, with intervals, on its test images and on its held-out images."""
    table = _predictions(folder)
    if table is None:
        return []
    found = []
    for title, part in (("Test pictures", TEST), ("Held-out pictures (they chose the best epoch)", VAL)):
        rows = np.array([of == part for of in table.split or [VAL] * len(table)])
        if rows.any():
            found.append(f"{title}: {headline(table.take(rows)).text}")
    return found


# ----------------------------------------------------------------------------------------------------------------------
# Folds and seeds, evaluations, comparisons
# ----------------------------------------------------------------------------------------------------------------------
def _study(folder: Path, kind: str) -> tuple[str, str, list[Section]]:
    stored = _json(folder / f"{kind}.json")
    config = stored["config"]
    word = kind[:-1]
    runs = sorted((each for each in folder.glob(f"{word}-*") if (each / RUN_CONFIG).is_file()), key=_number)
    if not runs:
        raise InputError(f"{folder}: none of its {kind} has started; there is nothing to report")
    # The data section shows the parts of the first run; those of the others are drawn alike.
    report, table = _json_or_none(folder / "report.json"), _predictions(folder)
    first = read_run_config(runs[0] / RUN_CONFIG)
    data = _data_card(runs[0], config, report)
    data.title = f"Data (parts of {runs[0].name})"
    training = Section("Training", [Line(f"{len(runs)} {kind}")])
    histories = {run.name: history for run in runs if (history := _history(run))}
    if histories:
        training.blocks.append(Picture(svg_of(plots.learning_curves_of_runs(histories)), "learning curves of the runs"))
    # A row per run, with mean and standard deviation below.
    by_run = Section(f"Results by {word}")
    if report and report.get("runs"):
        keys = [key for key in report["mean"] if key != "pictures"]
        rows = [[name, *(percent(row[key]) for key in keys)] for name, row in report["runs"].items()]
        rows += [
            [name, *(percent(report[key][each]) for each in keys)]
            for name, key in (("mean", "mean"), ("standard deviation", "sd"))
        ]
        header = [word, *(key.replace("_", " ") for key in keys)]
        by_run.blocks.append(TableBlock(header, rows, f"On the held-out pictures of each {word}"))
    # The results of all runs together.
    sections = [data, _network(config, len(table.classes) if table else None), training, by_run]
    if table:
        title = f"Results of all {kind}, pooled"
        sections.append(results(title, table, used_for_training=True))
    else:
        by_run.blocks.append(Line(f"Not all {kind} are finished; pooled results will follow when they are."))
    environment = _environment({**first, "command": stored.get("command")})
    name = f"{config.get('model')} on {Path(str(config.get('data') or 'digits')).name}, {len(runs)} {kind}"
    return name, f"In {folder.resolve().name}", [*sections, environment, _settings(stored)]


def _number(run: Path) -> tuple[int, str]:
    digits = run.name.rpartition("-")[2]
    return (int(digits) if digits.isdecimal() and len(digits) < 10 else 0), run.name


def _evaluation(folder: Path) -> tuple[str, str, list[Section]]:
    found, table = _json(folder / "report.json"), _predictions(folder)
    data = Section("Data")
    data.blocks.append(Line(f"{found['pictures']:,} pictures of {found['data']}; crops per picture: {found['crops']}"))
    if found.get("note"):
        data.blocks.append(Line(str(found["note"]), strong=True))
    data.blocks += _left_out(found.get("left_out", []))
    models = Section("Models")
    for model in [*found["models"], *([found["average"]] if found.get("average") else [])]:
        notes = "; ".join(map(str, model.get("notes", [])))
        models.blocks.append(Line(f"{model['name']}{': ' + notes if notes else ''}"))
    sections = [data, models]
    if table:
        several = list(table.models.items())
        for name, probabilities in several:
            sections.append(
                _summary(name, replace(table, probabilities=probabilities, predicted=table.models_predicted[name]))
            )
        sections.append(results("Results of their average" if several else "Results", table))
    earlier = command("evaluate", *(str(model["name"]) for model in found["models"]), "--data", str(found["data"]))
    sections.append(_repetition(found, earlier))
    return f"Evaluation on {Path(str(found['data'])).name}", f"In {folder.resolve().name}", sections


def _summary(name: str, table: PredictionTable) -> Section:
    """The headline of one of several models."""
    return Section(f"Results of {name}", [headline(table)])


def _comparison(folder: Path) -> tuple[str, str, list[Section]]:
    found = _json(folder / f"{COMPARISON}.json")
    conclusion = Section("Conclusions")
    conclusion.blocks += [Line(str(sentence)) for sentence in found.get("sentences", [])]
    data = Section("Data and models", [Line(f"Pictures: {found.get('data')}")])
    data.blocks += [Line(str(model)) for model in found.get("models", [])]
    data.blocks += [Line(str(note)) for note in found.get("notes", [])]
    rows = _csv(folder / f"{COMPARISON}.csv")
    numbers = Section("Differences")
    if rows:
        header = ["figure", "of the first", "of the second", *HEADER[-3:], "test"]
        for (first, second), of_pair in groupby(rows, lambda row: (row["first"], row["second"])):
            cells = [[*row_of_csv(row)[2:], row["test"]] for row in of_pair]
            numbers.blocks.append(TableBlock(header, cells, f"The first model: {first}; the second: {second}"))
        numbers.blocks.append(
            Line("Differences are the second minus the first, of shares in percentage points; comparison.csv has all.")
        )
    models = [str(model) for model in found.get("models", []) if model != "average"]
    if found.get("positive"):
        data.blocks.append(Line(f"Positive class: {found['positive']}"))
    again = _repetition(found, command("compare", *models, "--data", str(found.get("data"))))
    return "Comparison of models", f"In {folder.resolve().name}", [conclusion, numbers, data, again]


def _repetition(found: Mapping[str, Any], earlier: str) -> Section:
    """The command with all options. earlier: The command for folders of earlier versions, which stored none."""
    section = _environment({**found, "command": found.get("command", earlier)}, "at that time")
    if not found.get("command", earlier):
        section.blocks.append(Line("It was made in Python, with values that cannot be given on a command line."))
    return section


# ----------------------------------------------------------------------------------------------------------------------
# Files
# ----------------------------------------------------------------------------------------------------------------------
def _json(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is missing or damaged ({str(error)[:200]}); restore it") from None
    if not isinstance(stored, dict):
        raise InputError(f"{path}: is damaged: it is not a JSON object; restore it")
    return stored


def _json_or_none(path: Path) -> dict[str, Any] | None:
    return _json(path) if path.is_file() else None


def _csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none if it does not exist."""
    if not path.is_file():
        return []
    with io.TextIOWrapper(open_regular(path), "utf-8", "surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    if any(None in row or None in row.values() for row in rows):
        raise InputError(f"{path}: is damaged: a row has more or fewer values than there are columns; restore it")
    return rows


def _history(folder: Path) -> list[dict[str, float]]:
    """The finished epochs of a run."""
    return [{name: float(value) for name, value in row.items()} for row in _csv(folder / "history.csv")]


def _predictions(folder: Path) -> PredictionTable | None:
    return read_predictions(folder / PREDICTIONS) if (folder / PREDICTIONS).is_file() else None

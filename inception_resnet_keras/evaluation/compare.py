"""compare: test whether models differ, on the same images or over the same folds or seeds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..common.arguments import boolean, one_of, path_of, text_of
from ..common.console import printable
from ..common.errors import InputError
from ..common.files import new_folder, real_path, write_csv, write_json, write_text
from ..data.sources import source_part
from ..models.one_pass import average
from ..models.open import GivenModel
from ..models.runtimes import holds_model
from ..weights.runs import MODEL_FILE, RUN_CONFIG
from .comparison import CSV_HEADER, METRICS, NEEDS, Comparison, Metric, Pair, Row, csv_rows, verdict
from .differences import COUNTED, DIFFERENCES, VALUES, Contender, disagreements
from .evaluate import AVERAGE, evaluate, repeated
from .html_report import write_report
from .intervals import Units
from .paired import corrected_resampled, holm
from .predictions import PREDICTIONS, PredictionTable, read_predictions

COMPARISONS = Path("comparisons")
COMPARISON = "comparison"  # the name of its files, before .json, .csv, .md and .tex
EVALUATION = "evaluation"  # the evaluation's folder in the comparison's
MOST_DIFFERENT: dict[Metric, float] = {"brier": 2.0}  # bound of a difference; 1 for the other metrics
STUDIES = {"fold": "folds", "seed": "seeds"}  # column of a study's predictions.csv → the name of its runs


def compare(
    models: Sequence[GivenModel],
    data: str | PathLike[str] | None = None,
    *,
    out: str | PathLike[str] | None = None,
    metric: Metric = "accuracy",
    all_pairs: bool = False,
    allow_trained: bool = False,
    positive: str | None = None,
    **options: Any,
) -> Comparison:
    """Compare models on the same labelled images, with intervals and tests of their differences.

    Args:
        models: The models to compare, the reference first. With `data`, any model that `evaluate` takes; the average of
            their probabilities is compared too. Without `data`, folders that `evaluate` wrote, or folders that `train`
            wrote with `folds` or `seeds`: their predictions.csv is read, which must be of the same images.
        data: The labelled images, as `evaluate` takes them. None reads stored predictions.
        out: The folder to write, new or empty. None takes the next free one below comparisons/.
        metric: The metric that the conclusion is about: "accuracy", "balanced_accuracy", "sensitivity" or "specificity"
            (with two classes, the accuracy on images of the positive class or of the other), "auc" (area under the ROC
            curve, one class against the rest, averaged over the classes) or "brier" (Brier score). Choose it before
            you look at the results; the other metrics are reported beside it. With several labels per image, accuracy
            is the share of images whose labels are all correct, and only "auc" and "brier" are available beside it.
        all_pairs: Whether to compare each model with every other one, instead of each with the first.
        allow_trained: Whether to compare on images that one of the models was trained on.
        positive: With two classes, the name of the positive one, as for `evaluate`. None takes the second class; for
            stored predictions, the second class of the first folder.
        options: Further arguments of `evaluate`, only with `data`: group, crops, classes, preprocessing, precision,
            batch_size, trust, max_corrupt, progress and so on.

    Returns:
        A `Comparison`. Its `pairs` hold the differences of each pair with 95 % intervals, p-values, and p-values after
        Holm's correction for all compared pairs; its `sentences` hold one conclusion per pair, in words; and its
        `folder` holds comparison.json, .csv, .md and .tex, predictions.csv and report.html.

    Raises:
        ValueError: An argument is out of range, fewer than two models are given, the predictions are not of the same
            images, folds or seeds, or one of the models was trained on the images.

    Examples:
        >>> from inception_resnet_keras import compare
        >>> comparison = compare(["runs/photos-1", "runs/photos-2"], "photos", metric="accuracy")
        >>> comparison.models
        ['runs/photos-1', 'runs/photos-2', 'average']
        >>> print(comparison.sentences[0])
        runs/photos-2 classifies ... correctly that runs/photos-1 does not, ...
    """
    # Check the arguments, and remember the command that repeats the comparison.
    one_of("metric", metric, tuple(METRICS))
    boolean("all_pairs", all_pairs)
    boolean("allow_trained", allow_trained)
    if isinstance(models, str | PathLike) or not isinstance(models, Sequence):
        models = [models]
    if not models:
        raise InputError("models: none is given; give at least two, or one folder that `evaluate` wrote for several")
    written = None if out is None else path_of("out", out)
    positive = None if positive is None else text_of("positive", positive)
    repeat = _command(
        models, data, metric=metric, all_pairs=all_pairs, allow_trained=allow_trained, positive=positive, **options
    )
    # Without data, compare stored predictions.
    if data is None:
        if options:
            raise InputError(
                f"{next(iter(options))}: applies only to evaluating models on data: give data, or leave it out"
            )
        tables = [_stored(model) for model in models]
        if positive is not None:
            tables[0] = tables[0][0], tables[0][1].with_positive(positive)
        contenders = _contenders(tables)
        name = COMPARISON
        with new_folder(written, COMPARISONS, name) as folder:
            found = _compared(
                contenders,
                _source_text([given for given, _ in tables]),
                metric=metric,
                all_pairs=all_pairs,
                notes=_notes_of(tables),
                folder=folder,
                repeat=repeat,
            )
            _write(found, contenders)
        return found
    # With data, evaluate the models first, into a folder inside the comparison's folder.
    _require_models(models)
    text = text_of("data", data)
    place = source_part(text)[0]
    with new_folder(written, COMPARISONS, real_path(text.replace(":", "-")).name, [place]) as folder:
        evaluation = evaluate(
            models, text, out=folder / EVALUATION, allow_trained=allow_trained, positive=positive, **options
        )
        table = read_predictions(evaluation.folder / PREDICTIONS)
        contenders = _contenders([(str(evaluation.folder), table)], ensemble=True)
        notes = [evaluation.note] if evaluation.note else []
        found = _compared(
            contenders,
            evaluation.data,
            metric=metric,
            all_pairs=all_pairs,
            notes=notes,
            folder=folder,
            repeat=repeat,
        )
        _write(found, contenders)
    return found


def _command(models: Sequence[GivenModel], data: str | PathLike[str] | None, *, metric: Metric, **options: Any) -> str:
    """The command line that repeats the comparison; "" if a model is in memory or an option cannot be written."""
    defaults = {**(compare.__kwdefaults__ or {}), **(evaluate.__kwdefaults__ or {}), "allow_trained": False}
    return repeated("compare", models, {"data": data, "metric": metric, **options}, defaults)


def _require_models(models: Sequence[GivenModel]) -> None:
    """Raise InputError for fewer than two models, or for a folder that holds predictions but no model."""
    if len(models) < 2:
        raise InputError(f"models: {len(models)} is given; a comparison needs at least two")
    for model in models:
        if isinstance(model, str | PathLike) and _holds_predictions(Path(model)):
            raise InputError(
                f"{model}: holds predictions but no model: leave data out to compare folders of predictions, or give "
                "the models themselves"
            )


def _holds_predictions(folder: Path) -> bool:
    return folder.is_dir() and (folder / PREDICTIONS).is_file() and not holds_model(folder)


def _stored(model: GivenModel) -> tuple[str, PredictionTable]:
    """The folder's name, as given, and its predictions."""
    if not isinstance(model, str | PathLike):
        raise InputError("data: none is given; a Keras model in memory can be compared on labelled pictures: give data")
    folder = Path(model)
    if not folder.is_dir() or not (folder / PREDICTIONS).is_file():
        raise InputError(
            f"{model}: is not a folder with {PREDICTIONS}; give data to compare models on, or folders that `evaluate`, "
            "or `train` with folds or seeds, wrote"
        )
    if (folder / MODEL_FILE).is_file() and (folder / RUN_CONFIG).is_file():
        raise InputError(f"{model}: is a run; give data, the labelled pictures to compare the runs on")
    return str(model), read_predictions(folder / PREDICTIONS)


def _contenders(tables: Sequence[tuple[str, PredictionTable]], *, ensemble: bool = False) -> list[Contender]:
    """The models of the tables, each in the order of the first table's images and classes."""
    first_name, first = tables[0]
    found = []
    for name, table in tables:
        aligned = table if table is first else _aligned(name, table, first_name, first)
        prefix = f"{name}: " if len(tables) > 1 and len(aligned.models) > 1 else ""
        for model, probabilities in aligned.models.items():
            one = replace(
                aligned,
                probabilities=probabilities,
                predicted=aligned.models_predicted[model],
                models={},
                models_predicted={},
            )
            found.append(Contender(prefix + model, one))
        if not aligned.models:
            found.append(Contender(name, aligned))
        elif ensemble:
            found.append(Contender(f"{prefix}{AVERAGE}", replace(aligned, models={}, models_predicted={})))
    if len(found) < 2:
        raise InputError(f"models: {first_name} has the predictions of only one model; a comparison needs at least two")
    return _named(found)


def _named(contenders: list[Contender]) -> list[Contender]:
    """The contenders under distinct names: a name that occurs more than once gets its position appended."""
    times = Counter(contender.name for contender in contenders)
    return [
        replace(each, name=f"{each.name} ({place})") if times[each.name] > 1 else each
        for place, each in enumerate(contenders, 1)
    ]


def _study(table: PredictionTable) -> str:
    """The column that names the runs of a study, "fold" or "seed"; "" for predictions of single runs."""
    return next((column for column in STUDIES if getattr(table, column) is not None), "")


def _keys(table: PredictionTable) -> list[tuple[str, str]]:
    column = _study(table)
    runs = getattr(table, column) if column else [""] * len(table)
    return list(zip(table.pictures, runs, strict=True))


def _aligned(name: str, table: PredictionTable, first_name: str, first: PredictionTable) -> PredictionTable:
    """A table's rows in the order of the first table's; InputError if their images or runs differ."""
    # Both must be of folds, of seeds or of single runs, and of the same classes.
    kinds = [STUDIES.get(_study(each), "single runs") for each in (first, table)]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"{name}: has predictions of {kinds[1]}, but {first_name} of {kinds[0]}: they cannot be paired"
        )
    if set(table.classes) != set(first.classes) or table.multi_label != first.multi_label:
        other = [printable(each) for each in sorted(set(table.classes) ^ set(first.classes))][:5]
        raise InputError(f"{name}: has other classes than {first_name}: {', '.join(other) or 'several labels each'}")
    # Rows are matched by picture and run.
    keys, wanted = _keys(table), _keys(first)
    places = {key: place for place, key in enumerate(keys)}
    if len(places) < len(keys) or len(set(wanted)) < len(wanted):
        raise InputError(f"{name}: lists a picture more than once: it cannot be paired with {first_name}'s")
    if set(places) != set(wanted):
        raise InputError(_unpaired(name, set(places), first_name, set(wanted), _study(first)))
    order = np.array([places[key] for key in wanted])
    columns = np.array([table.classes.index(each) for each in first.classes])
    result = table.take(order).in_order(columns)
    if not np.array_equal(result.labels, first.labels):
        differs = result.labels != first.labels
        row = int(np.flatnonzero(differs.any(axis=1) if differs.ndim == 2 else differs)[0])
        raise InputError(f"{name}: has another label for {printable(first.pictures[row])} than {first_name}")
    return result


def _unpaired(name: str, found: set[tuple[str, str]], first_name: str, wanted: set[tuple[str, str]], study: str) -> str:
    missing, more = sorted(wanted - found), sorted(found - wanted)
    picture, run = (missing or more)[0]
    has, lacks = (first_name, name) if missing else (name, first_name)
    where = f" in {study} {run}" if study else ""
    advice = "evaluate both on the same pictures"
    if study:
        advice = f"train both with the same pictures, the same number of {STUDIES[study]} and the same seed"
    return (
        f"{name}: is not of the same pictures as {first_name}: {has} has {printable(picture)}{where}, {lacks} does not "
        f"({len(missing):,} of {len(wanted):,} are missing, {len(more):,} are others): {advice}"
    )


def _source_text(names: Sequence[str]) -> str:
    return f"the predictions in {', '.join(names)}" if len(names) > 1 else f"the predictions in {names[0]}"


def _notes_of(tables: Sequence[tuple[str, PredictionTable]]) -> list[str]:
    """The notes in the evaluations' own reports on how the images relate to the models' training."""
    notes = []
    for name, _ in tables:
        try:
            note = json.loads((Path(name) / "report.json").read_text(encoding="utf-8")).get("note")
        except (OSError, ValueError, AttributeError, RecursionError):
            note = None
        if isinstance(note, str) and note and note not in notes:
            notes.append(note)
    return notes


# The differences


def _compared(
    contenders: Sequence[Contender],
    data: str,
    *,
    metric: Metric,
    all_pairs: bool,
    notes: list[str],
    folder: Path,
    repeat: str,
) -> Comparison:
    table = contenders[0].table
    # Images of one group are not independent, so groups take the place of images in every test.
    units = Units(len(table), table.group if _has_groups(table) else None)
    chosen = combinations(contenders, 2) if all_pairs else ((contenders[0], each) for each in contenders[1:])
    pairs = [_pair(first, second, units) for first, second in chosen]
    # Holm's correction counts the pairs of one metric; only the metric that was chosen beforehand decides.
    for name in METRICS:
        rows = [[row for row in pair.rows if row.metric == name] for pair in pairs]
        if all(rows):
            corrected = holm([row.difference.p for (row,) in rows])
            for pair, (row,), p in zip(pairs, rows, corrected, strict=True):
                pair.rows[pair.rows.index(row)] = replace(row, corrected_p=p)
    study = STUDIES.get(_study(table), "")
    known = [row.metric for row in pairs[0].rows]
    if metric not in known:
        raise InputError(f"metric: {metric} needs {NEEDS[metric]}; for these pictures it can be {', '.join(known)}")
    counted = units.of(COUNTED[metric](table)) if metric in COUNTED else units
    groups = len(counted) if counted.grouped else None
    conclude = partial(
        verdict, metric=metric, study=study, pairs=len(pairs), several_labels=table.multi_label, groups=groups
    )
    return Comparison(
        data=data,
        classes=list(table.classes),
        models=[contender.name for contender in contenders],
        metric=metric,
        pairs=pairs,
        study=study,
        groups=len(units) if units.grouped else None,
        notes=notes,
        folder=folder,
        several_labels=table.multi_label,
        positive=table.classes[1] if len(table.classes) == 2 and not table.multi_label else None,
        command=repeat,
        sentences=[conclude(pair) for pair in pairs],
    )


def _has_groups(table: PredictionTable) -> bool:
    return table.group is not None and any(table.group)


def _pair(first: Contender, second: Contender, units: Units) -> Pair:
    tables = (first.table, second.table)
    different = first.right.astype(int) - second.right.astype(int)
    about: dict[str, Any] = {
        "first": first.name,
        "second": second.name,
        "only_first": int((different > 0).sum()),
        "only_second": int((different < 0).sum()),
    }
    column = _study(first.table)
    if column:
        rows, runs = _rows_over_runs(first, second, np.array(getattr(first.table, column)), folds=column == "fold")
        return Pair(pictures=len(set(first.table.pictures)), rows=rows, runs=runs, **about)
    rows = []
    for name, value in VALUES.items():
        values = [value(table) for table in tables]
        if values[0] is not None and values[1] is not None:
            found = DIFFERENCES[name](first, second, units)
            bounded = found.within(MOST_DIFFERENT.get(name, 1.0))
            rows.append(Row(name, values[0], values[1], bounded, counted=disagreements(name, first, second)))
    return Pair(pictures=len(first.table), rows=rows, **about)


def _rows_over_runs(first: Contender, second: Contender, runs: np.ndarray, *, folds: bool) -> tuple[list[Row], int]:
    """The metrics of both models with the tests of their differences over the runs, and the number of runs."""
    names = sorted(set(runs.tolist()))
    if len(names) < 2:
        raise InputError(f"models: {first.name} has predictions of only one run; at least two are needed")
    sizes = [int((runs == name).sum()) for name in names]
    # With K folds, each image is held out once and trained on in all other folds.
    share = float(np.mean([size / (len(runs) - size) for size in sizes])) if folds else 0.0
    rows = []
    for metric, value in VALUES.items():
        values = [[value(each.table.take(runs == name)) for name in names] for each in (first, second)]
        if any(each is None for row in values for each in row):
            continue
        before, after = (np.array(row, np.float64) for row in values)
        found = corrected_resampled((after - before).tolist(), share)
        bounded = found.within(MOST_DIFFERENT.get(metric, 1.0))
        rows.append(Row(metric, float(before.mean()), float(after.mean()), bounded))
    return rows, len(names)


# What is written


def _write(found: Comparison, contenders: Sequence[Contender]) -> None:
    models = [contender for contender in contenders if contender.name != AVERAGE]
    averages = [contender.table for contender in contenders if contender.name == AVERAGE]
    folder, first = found.folder, models[0].table
    # With several labels, only an evaluation knows the thresholds that the average uses: without one, write no table.
    if averages or not first.multi_label:
        mean = average([each.table.probabilities for each in models])
        table = averages[0] if averages else replace(first, probabilities=mean, predicted=mean.argmax(axis=1))
        replace(
            table,
            models={each.name: each.table.probabilities for each in models},
            models_predicted={each.name: each.table.predicted for each in models},
        ).write(folder / PREDICTIONS)
    write_csv(folder / f"{COMPARISON}.csv", CSV_HEADER, csv_rows(found.pairs))
    write_text(folder / f"{COMPARISON}.md", found.markdown())
    write_text(folder / f"{COMPARISON}.tex", found.latex())
    write_json(folder / f"{COMPARISON}.json", found.as_json())  # written last: it marks the folder as complete
    write_report(folder)

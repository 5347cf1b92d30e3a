"""Comparisons of models on the same pictures, of what evaluations wrote, and of folds and seeds."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inception_resnet_keras import compare, evaluate
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.evaluation.comparison import Comparison, Pair, Row, verdict
from inception_resnet_keras.evaluation.paired import PERMUTATION, Difference, mcnemar, tango
from inception_resnet_keras.evaluation.predictions import PredictionTable, prediction_table, read_predictions

from ..pictures import write_digits
from .models import write_model

WRITTEN = {"comparison.csv", "comparison.json", "comparison.md", "comparison.tex", "predictions.csv", "report.html"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("pictures") / "digits", classes=3, per_class=12)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    one = write_model(folder / "one.keras")
    other = write_model(folder / "other.keras", classes="201", seed=3)
    return [str(one), str(other)]


@pytest.fixture(scope="module")
def compared(models: list[str], digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return compare(models, digits, out=tmp_path_factory.mktemp("out"), batch_size=8)


def test_models_are_compared_with_the_first_and_so_is_their_average(
    compared: Comparison, models: list[str], digits: Path, tmp_path: Path
) -> None:
    assert compared.models == [*models, "average"]
    assert [(pair.first, pair.second) for pair in compared.pairs] == [(models[0], models[1]), (models[0], "average")]
    alone = [evaluate(model, digits, out=tmp_path / str(place)) for place, model in enumerate(models)]
    right = []
    for found in alone:
        with (found.folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
            right.append(np.array([row["true"] == row["predicted"] for row in csv.DictReader(file)]))
    pair = compared.pairs[0]
    assert pair.only_first == (right[0] & ~right[1]).sum()
    assert pair.only_second == (right[1] & ~right[0]).sum()
    row = pair.row("accuracy")
    assert (row.first, row.second) == pytest.approx([found.models[0].figures.top1 for found in alone])
    assert row.difference.p == pytest.approx(mcnemar(pair.only_first, pair.only_second))
    assert [each.metric for each in pair.rows] == ["accuracy", "balanced_accuracy", "auc", "brier"]
    assert {path.name for path in compared.folder.iterdir()} == {*WRITTEN, "evaluation"}


def test_groups_are_read_from_paths(
    models: list[str], digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--data={digits}", r"--group=re:/(\d\d)\d\.png$", f"--out={tmp_path / 'out'}", "--json"]
    assert main(["compare", *models, *options]) == 0
    assert json.loads(capsys.readouterr().out)["groups"] == 2


@pytest.mark.parametrize(("groups", "enough"), [(5, False), (6, True)])
def test_with_few_groups_no_difference_can_be_significant(tmp_path: Path, groups: int, enough: bool) -> None:
    """Even where one of two models is right on every picture and the other on none."""
    labels = np.tile([0, 1], 3 * groups)
    of = [f"g{number // 6}" for number in range(6 * groups)]
    right = (np.ones(6 * groups, bool), np.zeros(6 * groups, bool))
    folders = [write(tmp_path / str(n), table(each, labels=labels, group=of)) for n, each in enumerate(right)]
    found = compare(folders, out=tmp_path / "out")
    p = found.pairs[0].row("accuracy").difference.p
    assert p is not None
    assert (p < 0.05) is enough
    assert (f"The pictures belong to only {groups} groups; with fewer than 6" in found.sentences[0]) is not enough


def test_the_files_say_what_was_found(compared: Comparison) -> None:
    found = json.loads((compared.folder / "comparison.json").read_text())
    assert found["sentences"] == compared.sentences
    assert found["pairs"][0]["rows"][0]["difference"]["p"] == compared.pairs[0].rows[0].difference.p
    with (compared.folder / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(pair.rows) for pair in compared.pairs)
    assert float(rows[0]["difference"]) == compared.pairs[0].rows[0].difference.value
    assert all(
        sentence in (compared.folder / "comparison.md").read_text().replace("\\", "") for sentence in found["sentences"]
    )
    assert r"\toprule" in (compared.folder / "comparison.tex").read_text()
    table = read_predictions(compared.folder / "predictions.csv")
    assert list(table.models) == compared.models[:2]
    assert compared.sentences[0] in repr(compared)
    assert "McNemar" in compared._repr_html_()


def test_evaluations_are_compared_picture_by_picture(
    compared: Comparison, models: list[str], digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where one has the classes in another order, and the pictures."""
    folders = [evaluate(model, digits, out=tmp_path / name).folder for model, name in zip(models, "ab", strict=True)]
    path = folders[1] / "predictions.csv"
    header, *rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header + b"".join(reversed(rows)))
    assert main(["compare", *map(str, folders), "--out", str(tmp_path / "out"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    expected, found = compared.pairs[0], said["pairs"][0]
    assert (found["only_first"], found["only_second"]) == (expected.only_first, expected.only_second)
    for row, wanted in zip(found["rows"], expected.rows, strict=True):
        assert row["difference"]["value"] == pytest.approx(wanted.difference.value, abs=1e-6)
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN
    # One folder with the predictions of several models is compared within itself.
    within = compare([compared.folder / "evaluation"], out=tmp_path / "within")
    assert within.models == compared.models[:2]


def table(right: np.ndarray, *, labels: np.ndarray | None = None, **about: Any) -> PredictionTable:
    """Predictions of two classes that are right where they are to be."""
    random = np.random.default_rng(0)
    labels = np.arange(len(right)) % 2 if labels is None else labels
    sure = random.uniform(0.5, 1, len(right))
    of_truth = np.where(right, sure, 1 - sure)
    probabilities = np.stack(
        [np.where(labels == 0, of_truth, 1 - of_truth), np.where(labels == 1, of_truth, 1 - of_truth)]
    )
    names = [f"{number}.png" for number in range(len(right))]
    return prediction_table(names, ["no", "yes"], labels, probabilities.T.astype(np.float32), **about)


def write(folder: Path, predictions: PredictionTable) -> Path:
    folder.mkdir()
    predictions.write(folder / "predictions.csv")
    return folder


def test_the_positive_class_is_the_second_of_every_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [
        str(write(tmp_path / name, table(np.arange(40) >= wrong, group=[f"g{n // 4}" for n in range(40)])))
        for name, wrong in (("a", 9), ("b", 3))
    ]
    assert compare(folders, out=tmp_path / "default").positive == "yes"
    assert main(["compare", *folders, "--positive", "no", "--all-pairs", f"--out={tmp_path / 'out'}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["positive"], found["classes"]) == ("no", ["yes", "no"])
    assert found["command"].endswith(f"compare {folders[0]} {folders[1]} --all-pairs --positive no")
    assert read_predictions(tmp_path / "out" / "predictions.csv").classes == ["yes", "no"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Positive class: no" in page
    assert "--all-pairs --positive no" in page
    with pytest.raises(InputError, match="positive: got 'maybe'; it takes one of the two classes, 'no', 'yes'"):
        compare(folders, positive="maybe", out=tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_holms_correction_is_over_the_compared_pairs(tmp_path: Path) -> None:
    right = [np.arange(60) >= wrong for wrong in (20, 12, 4)]
    folders = [write(tmp_path / f"m{place}", table(each)) for place, each in enumerate(right)]
    against = compare(folders, out=tmp_path / "first")
    p_values = [pair.row("accuracy").difference.p or 0.0 for pair in against.pairs]
    assert p_values == pytest.approx([mcnemar(0, 8), mcnemar(0, 16)])
    assert [pair.row("accuracy").corrected_p for pair in against.pairs] == pytest.approx([p_values[0], 2 * p_values[1]])
    assert "after Holm's correction for 2 comparisons" in against.sentences[0]
    assert f"{folders[1]} is better than {folders[0]} on pictures like these." in against.sentences[0]
    assert len(compare(folders, out=tmp_path / "all", all_pairs=True).pairs) == 3


def test_sensitivity_is_compared_on_the_positive_class(tmp_path: Path) -> None:
    """40 pictures, every second one positive; the last 20 of all are 4 patients, so 10 positive ones are."""
    right = [np.isin(np.arange(40), wrong, invert=True) for wrong in ([1, 3, 5, 7, 9, 11, 13, 0, 2], [0, 15])]
    groups = [f"p{n // 5 if n >= 20 else n}" for n in range(40)]
    folders = [write(tmp_path / f"m{n}", table(each)) for n, each in enumerate(right)]
    grouped = [write(tmp_path / f"g{n}", table(each, group=groups)) for n, each in enumerate(right)]
    found = compare(folders, metric="sensitivity", out=tmp_path / "out")
    row, other = found.pairs[0].row("sensitivity"), found.pairs[0].row("specificity")
    assert (row.first, row.second, row.counted, row.difference.p) == (13 / 20, 19 / 20, (1, 7, 20), mcnemar(1, 7))
    assert (other.first, other.second, other.counted) == (18 / 20, 19 / 20, (0, 1, 20))
    assert "classifies 7 pictures correctly that" in found.sentences[0]
    assert "of 20 of the positive class. The difference in sensitivity" in found.sentences[0]
    turned = compare(folders, metric="specificity", positive="no", out=tmp_path / "turned")
    assert turned.pairs[0].row("specificity").difference == row.difference
    by_patient = compare(grouped, metric="sensitivity", out=tmp_path / "by patient").pairs[0].row("sensitivity")
    assert by_patient.difference.value == row.difference.value
    assert by_patient.difference.test == PERMUTATION
    lines = list(csv.DictReader((tmp_path / "out" / "comparison.csv").open(encoding="utf-8")))
    assert [line["pictures"] for line in lines] == ["40", "40", "20", "20", "40", "40"]


def test_a_metric_that_the_pictures_do_not_allow_is_refused(tmp_path: Path) -> None:
    """Of three classes none is the positive one, and of one class alone no area is known."""
    labels, random = np.arange(30) % 3, np.random.default_rng(0)
    three = random.dirichlet(np.ones(3), 30).astype(np.float32)
    names = [f"{number}.png" for number in range(30)]
    tables = [prediction_table(names, list("abc"), labels, each) for each in (three, three[::-1])]
    folders = [write(tmp_path / f"m{n}", each) for n, each in enumerate(tables)]
    with pytest.raises(InputError, match=r"metric: sensitivity needs two classes.*can be accuracy, balanced_accuracy,"):
        compare(folders, metric="sensitivity", out=tmp_path / "out")
    negatives = np.zeros(12, int)
    alone = [write(tmp_path / f"n{n}", table(np.arange(12) > n, labels=negatives)) for n in range(2)]
    for metric in ("sensitivity", "auc"):
        with pytest.raises(InputError, match=f"metric: {metric} needs .*can be accuracy, balanced_accuracy, specific"):
            compare(alone, metric=metric, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_of_one_group_count_as_one_unit(tmp_path: Path) -> None:
    """Each patient's ten pictures are all right or all wrong: ten times as many pictures say no more."""
    right = [np.repeat(np.arange(12) >= wrong, 10) for wrong in (6, 1)]
    groups = [f"patient {number // 10}" for number in range(120)]
    labels = np.repeat(np.arange(12) % 2, 10)
    alone = [write(tmp_path / f"a{n}", table(each, labels=labels)) for n, each in enumerate(right)]
    grouped = [write(tmp_path / f"g{n}", table(each, labels=labels, group=groups)) for n, each in enumerate(right)]
    one = compare(alone, out=tmp_path / "one").pairs[0].row("accuracy").difference
    other = compare(grouped, out=tmp_path / "other")
    found = other.pairs[0].row("accuracy").difference
    assert other.groups == 12
    assert (one.p or 1) < 1e-6
    assert found.p == pytest.approx(2 * 0.5**5)  # of five patients that differ, all in one direction
    assert found.high is not None
    assert one.high is not None
    assert found.high - found.value > 2 * (one.high - one.value)


@pytest.mark.parametrize("column", ["fold", "seed"])
def test_folds_and_seeds_are_paired_run_by_run(tmp_path: Path, column: str) -> None:
    random = np.random.default_rng(0)
    runs = [str(1 + number % 5) for number in range(200)]
    right = [random.random(200) < share for share in (0.7, 0.9)]
    folders = [
        write(tmp_path / f"m{n}", table(each, labels=np.arange(200) // 5 % 2, **{column: runs}))
        for n, each in enumerate(right)
    ]
    found = compare(folders, out=tmp_path / "out")
    per_run = [[each[np.array(runs) == run].mean() for run in "12345"] for each in right]
    differences = np.subtract(per_run[1], per_run[0])
    row = found.pairs[0].row("accuracy")
    assert (found.study, found.pairs[0].runs) == (f"{column}s", 5)
    assert row.difference.value == pytest.approx(differences.mean())
    spread = np.sqrt((1 / 5 + (0.25 if column == "fold" else 0)) * differences.var(ddof=1))
    assert row.difference.high == pytest.approx(differences.mean() + 2.7764451 * spread)
    assert ("whatever the seed" in found.sentences[0]) == (column == "seed")
    other = write(tmp_path / "other", table(right[1], labels=np.arange(200) // 5 % 2, **{column: runs[1:] + runs[:1]}))
    with pytest.raises(InputError, match=rf"does not .*: train both with .* number of {column}s and the same seed"):
        compare([folders[0], other], out=tmp_path / "no")
    plain = write(tmp_path / "plain", table(right[1], labels=np.arange(200) // 5 % 2))
    with pytest.raises(InputError, match=rf"predictions of single runs, but .* of {column}s: they cannot be paired"):
        compare([folders[0], plain], out=tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_no_interval_goes_beyond_a_hundred_points(tmp_path: Path) -> None:
    """Two folds of few pictures: Student's t with one degree of freedom would go to thousands of points."""
    runs, labels = [str(number % 2) for number in range(8)], np.arange(8) // 2 % 2
    rights = [np.array([1, 0, 0, 1, 1, 0, 1, 1], bool), np.ones(8, bool)]
    folders = [write(tmp_path / f"m{n}", table(each, labels=labels, fold=runs)) for n, each in enumerate(rights)]
    rows = compare(folders, out=tmp_path / "out").pairs[0].rows
    assert {row.metric for row in rows} >= {"accuracy", "sensitivity", "specificity", "brier"}
    for row in rows:
        if row.difference.low is not None and row.difference.high is not None:
            most = 2 if row.metric == "brier" else 1
            assert -most <= row.difference.low <= row.difference.value <= row.difference.high <= most
    assert "to +100.0)" in (tmp_path / "out" / "comparison.md").read_text()


def test_what_cannot_be_compared_is_refused(
    models: list[str], digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    right = np.arange(20) > 4
    base = write(tmp_path / "base", table(right))
    fewer = write(tmp_path / "fewer", table(right).take(np.arange(15)))
    labelled = table(right)
    other_label = write(
        tmp_path / "label", replace(labelled, labels=np.where(np.arange(20) == 7, 1 - labelled.labels, labelled.labels))
    )
    classes = write(tmp_path / "classes", replace(labelled, classes=["no", "maybe"]))
    for given, message in [
        ([base], "base has the predictions of only one model; a comparison needs at least two"),
        ([base, fewer], r"fewer: is not of the same pictures as .*does not \(5 of 20 are missing, 0 are others\)"),
        ([base, other_label], r"has another label for 7\.png"),
        ([base, classes], "classes: has other classes than .*: maybe, yes"),
        ([base, tmp_path / "nowhere"], r"is not a folder with predictions\.csv; give data"),
        ([], "models: none is given"),
    ]:
        with pytest.raises(InputError, match=message):
            compare(given)
    with pytest.raises(InputError, match="models: 1 is given; a comparison needs at least two"):
        compare(models[:1], digits)
    with pytest.raises(InputError, match="holds predictions but no model: leave data out"):
        compare([models[0], base], digits)
    with pytest.raises(InputError, match="metric: got 'f1'"):
        compare(models, digits, metric="f1")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="crops: applies only to evaluating models on data"):
        compare([base, base], crops=12)
    assert not (tmp_path / "comparisons").exists()


def test_pictures_that_a_run_was_trained_on_are_refused_unless_allowed(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from inception_resnet_keras import networks

    from .. import tiny

    monkeypatch.setitem(networks.NETWORKS, "few", {"paper": tiny.FEW})
    monkeypatch.chdir(tmp_path)
    runs = [str(tmp_path / f"run-{seed}") for seed in (1, 2)]  # each holds out another fifth
    for seed, run in enumerate(runs, 1):
        begin = ["train", "--model=few", "--size=32", "--epochs=1", "--batch-size=8", "--set=copies=allow"]
        assert main([*begin, f"--data={digits}", f"--seed={seed}", f"--out={run}"]) == 0
    capsys.readouterr()
    assert main(["compare", *runs, f"--data={digits}"]) == 1
    assert "were trained on these pictures" in (said := capsys.readouterr().err)
    assert "--allow-trained" in said
    assert not (tmp_path / "comparisons").exists()
    assert main(["compare", *runs, f"--data={digits}", "--allow-trained"]) == 0
    assert "were trained on these pictures" in capsys.readouterr().out


def pair(only_first: int, only_second: int, pictures: int, **row: float) -> Pair:
    low, high = tango(only_first, only_second, pictures)
    p = mcnemar(only_first, only_second)
    found = Difference((only_second - only_first) / pictures, low, high, p, "", "McNemar")
    counted = (only_first, only_second, pictures)
    rows = [Row("accuracy", 0.5, 0.5 + found.value, found, row.get("corrected_p", found.p), counted)]
    return Pair("A", "B", pictures, only_first, only_second, rows)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            pair(5, 12, 300),
            "do not show which of the two is better: they are compatible with any difference from -0.4 to +5.4",
        ),
        (
            pair(5, 12, 300),
            "B classifies 12 pictures correctly that A does not, and A 5 pictures that B does not, of 300.",
        ),
        (pair(5, 12, 300), "That does not show that the two are equal."),
        (pair(1, 3, 300), "with fewer than 6, no difference can be significant"),
        (pair(0, 0, 1), "This one picture does not show which of the two is better"),
        (pair(30, 3, 300), "A is better than B on pictures like these."),
        (pair(1, 12, 300, corrected_p=0.07), "one such difference among them may well be due to chance"),
    ],
)
def test_words_claim_no_more_than_the_numbers(given: Pair, said: str) -> None:
    assert said in verdict(given, "accuracy", study="", pairs=1)


@pytest.mark.parametrize(
    ("low", "p", "said"),
    [
        (0.01, 0.07, "the interval finds a difference, the test does not"),
        (-0.01, 0.04, "the test finds a difference, the interval does not"),
    ],
)
def test_a_test_and_an_interval_that_disagree_decide_nothing(low: float, p: float, said: str) -> None:
    row = Row("auc", 0.7, 0.8, Difference(0.1, low, 0.2, p, "", "DeLong, paired"), p)
    found = verdict(Pair("A", "B", 100, 0, 0, [row]), "auc", study="", pairs=1)
    assert f"do not show clearly which of the two is better: {said}. That does not show" in found
    assert "compatible" not in found
    assert "is better than" not in found


def test_a_smaller_brier_score_is_the_better_one() -> None:
    row = Row("brier", 0.4, 0.2, Difference(-0.2, -0.3, -0.1, 0.001, "", "t"), 0.001)
    found = verdict(Pair("A", "B", 100, 0, 0, [row]), "brier", study="", pairs=1)
    assert "B is better than A" in found

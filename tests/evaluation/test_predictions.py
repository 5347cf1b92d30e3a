"""predictions.csv is read as it was written, whatever the names, and a damaged one is refused."""

import csv
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.evaluation.metrics import figures
from inception_resnet_keras.evaluation.predictions import (
    ABOUT,
    RESERVED,
    PredictionTable,
    concatenated,
    prediction_table,
    read_predictions,
)

# What has a meaning in the file, and what CSV files and encodings make hard.
HARD = [
    *("split", "class split", "picture", "true", "predicted by x", "class predicted by x", "a by x", "a"),
    *("a|b", "a\\", "|", "\\|", 'q"uote', "two\nlines", "\r", "\udcff", "猫", "a,b", " "),
]
NAMES = st.one_of(st.sampled_from(HARD), st.text(st.characters(codec="utf-8"), min_size=1))
FILES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "classes": st.lists(NAMES, min_size=1, max_size=5, unique=True),
        "models": st.lists(NAMES, min_size=1, max_size=3),
        "several": st.booleans(),
        "about": st.sets(st.sampled_from(ABOUT)).map(sorted),
    }
)


def test_two_classes_in_another_order_are_read_again_also_where_both_are_as_likely(tmp_path: Path) -> None:
    probabilities = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]], np.float32)
    first = prediction_table(["x", "y", "z"], ["a", "b"], np.array([0, 1, 1]), probabilities)
    turned = first.with_positive("a")
    turned.write(tmp_path / "predictions.csv")
    found = read_predictions(tmp_path / "predictions.csv")
    assert found.classes == ["b", "a"]
    assert found.labels.tolist() == [1, 0, 0]
    assert found.predicted.tolist() == [1, 1, 0]
    np.testing.assert_array_equal(found.probabilities, probabilities[:, ::-1])
    same = turned.with_positive("b")
    assert (same.classes, same.labels.tolist()) == (["a", "b"], [0, 1, 1])
    several = prediction_table(["x"], ["a", "b"], np.ones((1, 2), np.uint8), probabilities[:1], thresholds=np.ones(2))
    with pytest.raises(InputError, match="positive: got 'a'; pictures may have several labels"):
        several.with_positive("a")


def drawn(seed: int, classes: list[str], models: list[str], *, several: bool, about: list[str]) -> PredictionTable:
    random = np.random.default_rng(seed)
    count = int(random.integers(1, 6))
    tables = random.dirichlet(np.ones(len(classes)), (len(models), count)).astype(np.float32)
    labels = random.integers(0, len(classes), count)
    if several:
        labels = random.integers(0, 2, (count, len(classes))).astype(np.uint8)
    cuts = np.full(len(classes), 0.5)
    return prediction_table(
        [f"picture {n}\udcfe" for n in range(count)],
        classes,
        labels,
        tables.mean(axis=0),
        list(zip(models, tables, strict=True)) if len(models) > 1 else (),
        thresholds=cuts if several else None,
        models_thresholds=[cuts] * len(models) if several and len(models) > 1 else (),
        **{name: [f"{name} {n % 2}" for n in range(count)] for name in about},
    )


def require_equal(one: PredictionTable, other: PredictionTable) -> None:
    for each in fields(PredictionTable):
        mine, read = getattr(one, each.name), getattr(other, each.name)
        if isinstance(mine, dict):
            assert list(mine) == list(read)
            for name in mine:
                np.testing.assert_array_equal(mine[name], read[name])
        elif isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, read, err_msg=each.name)
            assert mine.dtype == read.dtype
        else:
            assert mine == read, each.name


@settings(max_examples=40)
@given(given=FILES)
def test_any_names_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, given: dict[str, Any]
) -> None:
    table = drawn(**given)
    file = tmp_path_factory.mktemp("table") / "predictions.csv"
    table.write(file)
    require_equal(table, read_predictions(file))


def test_other_tools_find_the_columns_by_name(tmp_path: Path) -> None:
    table = drawn(1, ["cat", "split"], ["a", "b"], several=False, about=["split", "group"])
    table.write(tmp_path / "predictions.csv")
    with (tmp_path / "predictions.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("picture", "true", "predicted", "predicted by a", "predicted by b", "split", "group"),
        *("cat", "class split", "cat by a", "class split by a", "cat by b", "class split by b"),
    ]
    for place, row in enumerate(rows):
        assert np.float32(row["cat"]) == table.probabilities[place, 0]
        assert np.float32(row["class split by b"]) == table.models["b"][place, 1]
        assert row["true"] == table.classes[table.labels[place]]
        assert row["predicted by a"] == table.classes[int(table.models["a"][place].argmax())]
    assert RESERVED.fullmatch("predicted by a")


def test_models_of_one_name_get_their_places(tmp_path: Path) -> None:
    table = drawn(2, ["a", "b"], ["same", "same", "other"], several=False, about=[])
    assert list(table.models) == ["same (1)", "same (2)", "other"]
    table = drawn(2, ["a", "b"], ["a", "a", "a (1)"], several=False, about=[])
    assert list(table.models) == ["a (1) (1)", "a (2)", "a (1)"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("picture,", "file,", "its first columns are not picture, true and predicted"),
        (",cat,dog", ",cat,cat", "more than one class 'cat'"),
        ("predicted,", "predicted,predicted by a,", "not have one column per class for each"),
        ("cat,cat,0.75,0.25", "cat,cat,0.75", "row 1 has 4 columns, but the first row has 5"),
        ("cat,cat,", "cow,cat,", "row 1: 'cow' is not one of its 2 classes"),
        ("cat,cat,", "cat,dog,", "row 1 has a predicted class that is not the most probable"),
        ("0.75", "nan", "row 1 has values that are not probabilities"),
        ("0.75", "-1", "row 1 has values that are not probabilities"),
        ("0.75", "much", "could not convert"),
        ("0.75", "0.8", "row 1 has probabilities that do not sum to 1"),
        ("0.75", '"0.75', "unexpected end of data"),
    ],
)
def test_what_is_damaged_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    file = tmp_path / "predictions.csv"
    table = prediction_table(["x"], ["cat", "dog"], np.array([0]), np.array([[0.75, 0.25]], np.float32))
    table.write(file)
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=rf"predictions\.csv: is damaged \(.*(?:{says})"):
        read_predictions(file)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "predictions.csv"
    with pytest.raises(InputError, match="does not exist; `evaluate` writes it"):
        read_predictions(file)
    for content in (b"", b"picture,true,predicted,a\n", b"\x00\xff\xfe", b"picture,true,predicted\nx,a,a\n"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=re.escape(f"{file}: is damaged")):
            read_predictions(file)
    header = "picture,true,predicted,probability,probability of true,rank of true"
    file.write_text(f"{header}\nx,a,a,0.5,0.5,1\n")
    with pytest.raises(InputError, match="an earlier version wrote it, without the probabilities"):
        read_predictions(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_predictions(tmp_path)


def test_several_labels_need_thresholds() -> None:
    table = drawn(3, ["a", "b"], ["x"], several=True, about=[])
    with pytest.raises(ValueError, match="need thresholds"):
        prediction_table(table.pictures, table.classes, table.labels, table.probabilities)
    assert replace(table, group=["g"] * len(table)).group


def test_five_seeds_are_not_five_times_as_many_pictures() -> None:
    random = np.random.default_rng(0)
    labels, scores = random.integers(0, 3, 60), random.random((60, 3))
    probabilities = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    names = [f"{number}.png" for number in range(60)]
    one = prediction_table(names, list("abc"), labels, probabilities)
    tables = [replace(one, seed=[str(seed)] * 60) for seed in range(5)]
    pooled = concatenated(tables)
    assert one.unit_names is None
    widths = []
    for table in (one, pooled, replace(pooled, seed=None)):
        value = figures(table.labels, table.probabilities, table.classes, table.unit_names).values["accuracy"]
        assert value.low is not None
        assert value.high is not None
        widths.append(value.high - value.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.05)  # Student's quantile is a little larger
    assert widths[2] < 0.5 * widths[0]
    grouped = replace(pooled, group=["patient"] * 300)
    assert set(grouped.unit_names or []) == {"patient"}

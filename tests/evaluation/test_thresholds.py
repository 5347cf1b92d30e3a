"""Every threshold's row says what would happen at it."""

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from inception_resnet_keras.evaluation.thresholds import (
    MOST_CLASSES,
    MOST_THRESHOLDS,
    THRESHOLDS,
    operating_points,
    write_thresholds,
)


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / THRESHOLDS).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("several", [False, True])
def test_each_row_is_the_confusion_at_its_threshold(tmp_path: Path, several: bool) -> None:
    random = np.random.default_rng(0)
    probabilities = np.round(random.dirichlet(np.ones(3), 60), 2).astype(np.float32)  # with equal ones
    labels = random.integers(0, 2, (60, 3)) if several else random.integers(0, 3, 60)
    truth = labels.astype(bool) if several else labels[:, None] == np.arange(3)
    write_thresholds(tmp_path, labels, probabilities, ["a", "b", "c"])
    rows = read(tmp_path)
    assert len(rows) == sum(len(np.unique(column)) for column in probabilities.T)
    for row in rows:
        number = "abc".index(row["class"])
        said = probabilities[:, number] >= np.float32(row["threshold"])
        (negative, alarms), (missed, hits) = confusion_matrix(truth[:, number], said, labels=[False, True])
        names = ("true positives", "false positives", "false negatives", "true negatives")
        assert [int(row[name]) for name in names] == [hits, alarms, missed, negative]
        assert float(row["sensitivity"]) == pytest.approx(hits / (hits + missed), abs=1e-6)
        assert float(row["specificity"]) == pytest.approx(negative / (negative + alarms), abs=1e-6)
        assert float(row["precision"]) == pytest.approx(hits / (hits + alarms), abs=1e-6)


def test_of_two_classes_the_second_of_many_none(tmp_path: Path) -> None:
    probabilities = np.random.default_rng(1).dirichlet(np.ones(2), 1000)
    write_thresholds(tmp_path, np.arange(1000) % 2, probabilities, ["healthy", "ill"])
    rows = read(tmp_path)
    assert {row["class"] for row in rows} == {"ill"}
    assert len(rows) == MOST_THRESHOLDS
    (tmp_path / THRESHOLDS).unlink()
    write_thresholds(tmp_path, np.array([0]), np.ones((1, MOST_CLASSES + 1)), ["x"] * (MOST_CLASSES + 1))
    assert not (tmp_path / THRESHOLDS).exists()


def test_shares_of_nothing_are_empty() -> None:
    assert list(operating_points(np.array([True]), np.array([0.5]))) == [
        ["0.5", 1, 0, 0, 0, "1.000000", "", "1.000000"]
    ]

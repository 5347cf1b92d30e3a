from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inception_resnet_keras.evaluation import plots
from inception_resnet_keras.evaluation.report import Report, classification_report

LABELS = np.array([0, 0, 1, 1, 2])
PROBABILITIES = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0, 0.7, 0.3], [0.05, 0.95, 0], [0, 0.99, 0.01]])


@pytest.fixture
def report() -> Report:
    return classification_report(LABELS, PROBABILITIES, ["a", "b", "c"], list("vwxyz"), [("bad.png", "corrupt")])


def test_scores_by_hand(report: Report) -> None:
    assert report.accuracy == pytest.approx(3 / 5)
    assert report.confusion == [[1, 1, 0], [0, 2, 0], [0, 1, 0]]
    assert [score.precision for score in report.classes] == pytest.approx([1, 2 / 4, 0])
    assert [score.recall for score in report.classes] == pytest.approx([1 / 2, 1, 0])
    assert [score.support for score in report.classes] == [2, 2, 1]


def test_the_surest_mistake_comes_first(report: Report) -> None:
    assert [(m.name, m.true, m.predicted) for m in report.mistakes] == [("z", "c", "b"), ("w", "a", "b")]
    assert report.mistakes[0].probability == pytest.approx(0.99)
    assert report.as_json()["unreadable"] == [("bad.png", "corrupt")]


def ink(path: Path) -> float:
    """Share of a picture that is not white."""
    with Image.open(path) as image:
        return float((np.asarray(image.convert("L")) < 250).mean())


def test_pictures_are_drawn(report: Report, tmp_path: Path) -> None:
    epochs = [
        {"epoch": float(n), "loss": 1 / n, "val_loss": 2 / n, "accuracy": 0.5, "val_accuracy": 0.4} for n in (1, 2)
    ]
    plots.plot_learning_curves(epochs[:1], tmp_path / "one.png")
    plots.plot_learning_curves(epochs, tmp_path / "two.png")
    plots.plot_confusion(report, tmp_path / "confusion.png")
    plots.plot_mistakes(report, np.zeros((2, 8, 8, 3), np.uint8), tmp_path / "mistakes.png")
    plots.plot_mistakes(report, np.zeros((0, 8, 8, 3), np.uint8), tmp_path / "none.png")
    assert {path.name for path in tmp_path.iterdir()} == {
        "one.png",
        "two.png",
        "confusion.png",
        "mistakes.png",
        "none.png",
    }
    assert all(ink(path) > 0.003 for path in tmp_path.iterdir())
    assert ink(tmp_path / "mistakes.png") > 0.3  # two black pictures


def test_many_classes_with_long_names_fit(tmp_path: Path) -> None:
    names = [f"a class with quite a long name, number {n}" for n in range(120)]
    labels = np.arange(120)
    report = classification_report(labels, np.eye(120), names, names)
    plots.plot_confusion(report, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as image:
        assert max(image.size) < 3000
    assert report.accuracy == 1

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, recall_score

from inception_resnet_keras.evaluation import plots
from inception_resnet_keras.evaluation.calibration import calibration
from inception_resnet_keras.evaluation.curves import plot_reliability, plot_verification
from inception_resnet_keras.evaluation.figure_style import label
from inception_resnet_keras.evaluation.metrics import balanced_accuracy
from inception_resnet_keras.evaluation.report import Report, classification_report, most_confused
from inception_resnet_keras.evaluation.verification import verify

pytestmark = pytest.mark.usefixtures("charts")

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


def test_every_class_counts_alike_in_balanced_accuracy_and_the_rarest_is_named(report: Report) -> None:
    """Of classes as rare the one of the least recall; of even classes none; classes without pictures do not count."""
    recalls = [score.recall for score in report.classes]
    assert report.balanced_accuracy == pytest.approx(np.mean(recalls))
    shares = r"accuracy 60\.00% \(23\.07–88\.24\), balanced accuracy 50\.00% \(\S+–\S+\)"  # 3 of 5 by Wilson
    assert re.fullmatch(shares + r"; rarest class 'c', 1 picture: recall 0\.0%", report.headline)
    assert json.loads(json.dumps(report.as_json()))["rarest"]["name"] == "c"
    labels, names = np.array([0, 0, 0, 1, 1, 2, 2]), ["a", "b", "c", "d"]
    predicted = np.array([0, 0, 0, 1, 1, 2, 3])
    found = classification_report(labels, np.eye(4)[predicted], names, [""] * 7)
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, predicted[:7])) == 2.5 / 3
    assert found.rarest is not None
    assert found.rarest_class == "rarest class 'c', 2 pictures: recall 50.0%"
    even = classification_report(labels[[0, 3, 5]], np.eye(4)[[0, 1, 1]], names, [""] * 3)
    assert even.rarest is None
    assert re.fullmatch(r"accuracy 66\.67% \(20\.77–93\.85\), balanced accuracy 66\.67% \(\S+\)", even.headline)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=50))
def test_balanced_accuracy_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = np.array(pairs).T
    expected = recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
    assert balanced_accuracy(labels, predicted) == pytest.approx(expected)


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


def test_of_many_classes_those_that_are_confused_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(61).repeat(2)
    probabilities = np.eye(61)[labels]
    probabilities[[7, 8]] = np.eye(61)[[50, 51]]  # a picture of 3 and one of 4
    names = [f"class {n}" for n in range(61)]
    report = classification_report(labels, probabilities, names, [""] * 122)
    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.append(figure))
    plots.plot_confusion(report, tmp_path / "confusion.png")
    shown = [text.get_text() for text in drawn[0].axes[0].get_xticklabels()]
    assert len(shown) == 40
    assert {"class 3", "class 4", "class 50", "class 51"} <= set(shown)
    assert shown == sorted(shown, key=names.index)
    assert "Shown: the 40 of 61 classes that are confused most often." in drawn[0].get_supxlabel()
    assert most_confused(report) == [("class 3", "class 50", 1), ("class 4", "class 51", 1)]
    few = classification_report(np.array([0, 0]), np.eye(3)[[0, 2]], ["a", "b", "c"], ["", ""])
    plots.plot_confusion(few, tmp_path / "few.png", title="mine")
    assert [text.get_text() for text in drawn[1].axes[0].get_xticklabels()] == ["a", "c"]  # b does not occur
    assert drawn[1].get_suptitle().startswith("mine\nn = 2; accuracy 50.0 % (95 % interval 9.5 to 90.5 %); balanced")


def test_a_heading_has_the_interval_of_groups_and_mistakes_can_be_told_apart() -> None:
    labels, names = np.tile([0, 1, 1], 10), [f"adenocarcinoma of the lung, grade {number}" for number in (1, 2)]
    probabilities = np.tile([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], (10, 1))
    groups = [str(number // 3) for number in range(30)]
    found = classification_report(labels, probabilities, names, [""] * 30, groups=groups)
    assert found.figures is not None
    low, high = found.figures.interval
    assert f"(95 % interval {100 * low:.1f} to {100 * high:.1f} %)" in plots.confusion(found).get_suptitle()
    alone = classification_report(labels, probabilities, names, [""] * 30)
    assert plots.confusion(alone).get_suptitle() != plots.confusion(found).get_suptitle()
    _, predicted, true = (
        plots.mistakes(found, [np.zeros((2, 2, 3), np.uint8)]).axes[0].get_title(loc="left").split("\n")
    )
    assert predicted.split(": ")[1] != true.split(": ")[1]


def test_a_confusion_matrix_has_counts_and_shares_of_the_true_class(report: Report) -> None:
    counts, shares = (
        {text.get_position()[::-1]: text.get_text() for text in axis.texts} for axis in plots.confusion(report).axes
    )
    assert counts == {(0, 0): "1", (0, 1): "1", (1, 1): "2", (2, 1): "1"}
    assert shares == {(0, 0): "50", (0, 1): "50", (1, 1): "100", (2, 1): "100"}
    assert "balanced accuracy 50.0 %" in plots.confusion(report).get_suptitle()


def test_learning_curves_of_runs_have_the_mean_and_deviation_of_the_runs_that_still_train() -> None:
    def history(*losses: float) -> list[dict[str, float]]:
        return [
            {"epoch": n, "loss": loss, "val_loss": loss, "accuracy": 0.5, "val_accuracy": 0.5}
            for n, loss in enumerate(losses, 1)
        ]

    figure = plots.learning_curves_of_runs(
        {"fold-1": history(4, 2, 1), "fold-2": history(2, 1), "fold-3": history(3, 3)}
    )
    [mean] = [line for line in figure.axes[0].lines if line.get_label() == "held out, mean"]
    assert np.asarray(mean.get_ydata()).tolist() == [3, 2, 1]
    band = np.asarray(figure.axes[0].collections[1].get_paths()[0].vertices)
    assert {2.0, 4.0} <= set(band[band[:, 0] == 1, 1].tolist())  # 3 ± 1, the deviation of 4, 2 and 3
    assert "Runs that stopped early" in figure.get_supxlabel()


def test_mistakes_keep_their_shapes_and_have_their_files_names(report: Report) -> None:
    wide = np.zeros((10, 40, 3), np.uint8)
    figure = plots.mistakes(report, [wide, wide])
    assert [axis.get_title("left").split("\n")[0] for axis in figure.axes[:2]] == ["z", "w"]
    assert figure.axes[0].get_title("left").split("\n")[1:] == ["predicted (99 %): b", "true: c"]
    assert figure.axes[0].images[0].get_extent() == pytest.approx((-0.5, 39.5, 9.5, -0.5))
    assert figure.axes[0].get_aspect() == 1


def test_curves_say_their_figures(tmp_path: Path) -> None:
    found = calibration(LABELS, np.clip(PROBABILITIES, 0.01, 1) / np.clip(PROBABILITIES, 0.01, 1).sum(1, keepdims=True))
    told, names = (PROBABILITIES, found), [f"c{number}" for number in range(PROBABILITIES.shape[1])]
    plot_reliability(LABELS, [("one", *told)], names, tmp_path / "one.png")
    plot_reliability(
        LABELS, [("one", *told), ("a name that is too long to be shown", *told)], names, tmp_path / "two.png"
    )
    distances, same = np.array([0.1, 0.4, 0.6, 0.9] * 2), np.array([True, True, False, False] * 2)
    plot_verification(verify(distances, same, np.arange(8) // 4), distances, same, tmp_path / "roc.png")
    plots.plot_pairs([("a\nb", True, 1.5, [Image.new("RGB", (9, 5))] * 2)], 3, tmp_path / "pairs.png")
    plots.plot_pairs([], 0, tmp_path / "none.png")
    assert all(ink(path) > 0.003 for path in tmp_path.iterdir())


def test_any_name_is_drawn_as_it_is(tmp_path: Path) -> None:
    r"""No formula, of which \frac without its braces is none; one line; and no warning of signs the font lacks."""
    names = [r"$\frac$", "a$b_{$", "two\nlines", "\x1b[31m", "😀", r"\$", "[b]"]
    wrong = np.eye(len(names))[[1, 2, 3, 4, 5, 6, 0]]
    report = classification_report(np.arange(len(names)), wrong, names, names)
    plots.plot_confusion(report, tmp_path / "confusion.png")
    plots.plot_mistakes(report, np.zeros((len(names), 8, 8, 3), np.uint8), tmp_path / "mistakes.png")
    labels = np.arange(len(names))
    told = ("$\\frac$", wrong, calibration(labels, wrong))
    plot_reliability(labels, [told], names, tmp_path / "reliability.png")
    two = ("$\\frac$", wrong[:2, [0, 1]], calibration(labels[:2], wrong[:2, [0, 1]]))
    plot_reliability(labels[:2], [two], names[:2], tmp_path / "positive.png")
    assert label(names[0]) == r"\$\frac\$"  # as matplotlib wants signs that are no formula's
    assert label(names[2]) == r"two\nlines"


def test_many_classes_with_long_names_fit(tmp_path: Path) -> None:
    names = [f"a class with quite a long name, number {n}" for n in range(120)]
    labels = np.arange(120)
    report = classification_report(labels, np.eye(120), names, names)
    plots.plot_confusion(report, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as image:
        assert max(image.size) < 3000
    assert report.accuracy == 1

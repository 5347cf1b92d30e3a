"""Scores and thresholds of several labels per picture, recomputed without scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.stats import binomtest

from inception_resnet_keras.evaluation import multi_label, plots
from inception_resnet_keras.evaluation.intervals import Value
from inception_resnet_keras.evaluation.multi_label import MultiLabelReport, best_thresholds, multi_label_report

PICTURES = [f"{number}.png" for number in range(60)]


def drawn(seed: int, pictures: int = 60, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = (random.uniform(size=(pictures, classes)) < 0.3).astype(np.uint8)
    probabilities = np.clip(0.35 * labels + random.uniform(size=labels.shape) * 0.65, 0, 1).astype(np.float32)
    return labels, probabilities


def f1_of(truth: np.ndarray, predicted: np.ndarray) -> float:
    right = int((truth.astype(bool) & predicted).sum())
    wrong = int((truth.astype(bool) != predicted).sum())
    return 2 * right / (2 * right + wrong) if right else 0.0


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """The sum over distinct thresholds of the growth of recall times precision."""
    total, before = 0.0, 0.0
    for cut in sorted(set(scores.tolist()), reverse=True):
        predicted = scores >= cut
        recall = float(truth[predicted].sum() / truth.sum())
        total += (recall - before) * float(truth[predicted].mean())
        before = recall
    return total


def area(truth: np.ndarray, scores: np.ndarray) -> float:
    """The share of pairs of a picture with and one without the label in which the first has the greater score."""
    having, lacking = scores[truth == 1][:, None], scores[truth == 0][None]
    return float(((having > lacking) + 0.5 * (having == lacking)).mean())


def test_every_score_is_what_its_definition_says() -> None:
    labels, probabilities = drawn(0)
    probabilities = np.round(probabilities, 1)  # with ties
    thresholds = [0.3, 0.5, 0.5, 0.7]
    report = multi_label_report(
        labels, probabilities, thresholds, ["a", "b", "c", "d"], PICTURES, unreadable=[("x.png", "why")]
    )
    predicted = probabilities >= np.array(thresholds)
    for label, score in enumerate(report.classes):
        truth, said = labels[:, label], predicted[:, label]
        right = int((truth.astype(bool) & said).sum())
        assert (score.name, score.threshold, score.support) == ("abcd"[label], thresholds[label], int(truth.sum()))
        assert score.precision == pytest.approx(right / said.sum())
        assert score.recall == pytest.approx(right / truth.sum())
        assert score.f1 == pytest.approx(f1_of(truth, said))
        assert score.average_precision == pytest.approx(average_precision(truth, probabilities[:, label]))
        assert score.auc == pytest.approx(area(truth, probabilities[:, label]))
    assert report.mean_average_precision == pytest.approx(
        np.mean([average_precision(labels[:, label], probabilities[:, label]) for label in range(4)])
    )
    assert report.micro_f1 == pytest.approx(f1_of(labels.ravel(), predicted.ravel()))
    assert report.macro_f1 == pytest.approx(np.mean([f1_of(labels[:, k], predicted[:, k]) for k in range(4)]))
    assert report.subset_accuracy == pytest.approx(np.mean((labels == predicted).all(axis=1)))
    assert (report.pictures, report.unreadable) == (60, [("x.png", "why")])
    by_picture = zip(PICTURES, labels.tolist(), predicted.tolist(), strict=True)
    wrong = {name: sum(map(int.__ne__, true, said)) for name, true, said in by_picture}
    assert sorted(mistake.name for mistake in report.mistakes) == sorted(name for name in wrong if wrong[name])
    counted = [wrong[mistake.name] for mistake in report.mistakes]
    assert counted == sorted(counted, reverse=True)
    first = report.mistakes[0]
    assert first.true == [name for name, bit in zip("abcd", labels[first.index], strict=True) if bit]
    assert first.predicted == [name for name, bit in zip("abcd", predicted[first.index], strict=True) if bit]
    assert len(first.missed) + len(first.added) == counted[0]


def test_each_picture_may_have_thresholds_of_its_own() -> None:
    labels, probabilities = drawn(2)
    cuts = np.where(np.arange(60)[:, None] < 30, 0.3, 0.6) * np.ones(4)
    report = multi_label_report(labels, probabilities, cuts, list("abcd"), PICTURES)
    predicted = np.vstack([probabilities[:30] >= 0.3, probabilities[30:] >= 0.6])
    assert report.micro_f1 == pytest.approx(f1_of(labels.ravel(), predicted.ravel()))
    assert [score.threshold for score in report.classes] == pytest.approx([0.45] * 4)


def test_labels_that_no_picture_or_every_picture_has() -> None:
    labels, probabilities = drawn(1, classes=3)
    labels[:, 0], labels[:, 2] = 0, 1
    thresholds = best_thresholds(labels, probabilities)
    assert thresholds[0] == 0.5
    report = multi_label_report(labels, probabilities, thresholds, ["none", "some", "all"], PICTURES)
    none, some, every = report.classes
    assert (none.average_precision, none.auc, none.support) == (None, None, 0)
    assert (every.average_precision, every.auc, every.f1) == (1.0, None, 1.0)
    assert some.average_precision is not None
    assert report.mean_average_precision == pytest.approx((some.average_precision + 1) / 2)
    assert report.macro_f1 == pytest.approx((some.f1 + 1) / 2)


def scored(labels: np.ndarray, probabilities: np.ndarray, groups: list[str] | None = None) -> MultiLabelReport:
    names = [str(number) for number in range(len(labels))]
    return multi_label_report(labels, probabilities, [0.5] * labels.shape[1], list("abcd"), names, groups=groups)


def test_every_score_lies_in_its_interval_and_groups_that_are_copies_count_once() -> None:
    labels, probabilities = drawn(3)
    alone = scored(labels, probabilities)
    groups = [str(number // 5) for number in range(300)]
    copies = scored(np.repeat(labels, 5, axis=0), np.repeat(probabilities, 5, axis=0), groups)
    assert (alone.groups, copies.groups) == (None, 60)
    pairs: list[tuple[Any, Any]] = [(alone, copies), *zip(alone.classes, copies.classes, strict=True)]
    for one, other in pairs:
        names = set(one.values) - {"mean_auc", "specificity"}
        assert names == set(other.values) - {"mean_auc", "specificity"}
        assert len(names) == (4 if isinstance(one, MultiLabelReport) else 5)
        for name in names:
            found, grouped = one.values[name], other.values[name]
            assert found.value == pytest.approx(getattr(one, name), abs=1e-6), name
            assert found.low is not None
            assert found.high is not None
            assert grouped.low is not None
            assert found.low < found.value <= found.high
            assert found.value - found.low == pytest.approx(grouped.value - grouped.low, rel=0.2), name
            assert "by group" in grouped.method
    one = alone.classes[0]
    recall = one.values["recall"]
    wilsons = binomtest(round(recall.value * one.support), one.support).proportion_ci(method="wilson")
    assert (recall.low, recall.high) == pytest.approx((wilsons.low, wilsons.high), abs=1e-6)
    assert alone.headline.startswith(f"mean average precision {alone.values['mean_average_precision'].percent()}")


def test_scores_of_one_have_intervals_too() -> None:
    labels, _ = drawn(4)
    report = scored(labels, labels.astype(np.float32))
    for value in (*report.values.values(), *(value for score in report.classes for value in score.values.values())):
        assert (value.value, value.high) == (1, 1)
        assert value.low is not None
        assert 0.5 < value.low < 1


@pytest.mark.slow
@pytest.mark.parametrize(("pictures", "size"), [(60, 1), (300, 5)])
def test_intervals_of_labels_cover_the_true_value(pictures: int, size: int) -> None:
    """95 % intervals cover 93 to 97 % of the time, but for what 250 trials let be seen (two standard errors)."""
    random, trials = np.random.default_rng(6), 250

    def sample(count: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
        groups = np.arange(count) // size
        common = random.normal(size=(groups[-1] + 1, 1))[groups]  # makes labels depend on each other
        labels = (0.6 * common + 0.8 * random.normal(size=(count, 4)) > 0.4).astype(np.uint8)
        hard = random.normal(size=(groups[-1] + 1, 4))[groups] * (size > 1)
        logits = 2.4 * labels - 1.2 + 0.6 * hard + random.normal(size=(count, 4))
        return labels, (1 / (1 + np.exp(-logits))).astype(np.float32), [str(group) for group in groups]

    def values(report: MultiLabelReport) -> dict[str, Value]:
        return {**report.values, **{f"{name} of a label": value for name, value in report.classes[0].values.items()}}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multi_label, "mean_values", lambda *given: {})  # of so many pictures only the scores are needed
        many = sample(100_000)
        whole = scored(*many[:2])
    truth = {name: getattr(whole, name) for name in multi_label.LABEL_NAMES}
    truth["mean_auc"] = float(np.mean([score.auc for score in whole.classes if score.auc is not None]))
    truth |= {f"{name} of a label": value.value for name, value in whole.classes[0].values.items()}
    covered = dict.fromkeys(truth, 0)
    for _ in range(trials):
        labels, probabilities, groups = sample(pictures)
        found = values(scored(labels, probabilities, groups if size > 1 else None))
        for name, true in truth.items():
            covered[name] += (found[name].low or 0) <= true <= (found[name].high or 0)
    print(pictures, size, {name: round(hits / trials, 3) for name, hits in covered.items()})
    for name, hits in covered.items():
        assert 0.93 - 0.028 <= hits / trials <= 0.97 + 0.022, name


@given(seed=st.integers(0, 10_000), decimals=st.integers(1, 7), pictures=st.integers(1, 12))
def test_no_threshold_has_a_greater_f1(seed: int, decimals: int, pictures: int) -> None:
    labels, probabilities = drawn(seed, pictures, 2)
    probabilities = np.round(probabilities, decimals)
    for label, threshold in enumerate(best_thresholds(labels, probabilities)):
        truth, scores = labels[:, label], probabilities[:, label]
        assert 0 <= threshold <= 1
        if not truth.any():
            continue
        best = f1_of(truth, scores >= threshold)
        values = np.unique(scores).astype(np.float64)
        every = [0.0, *((values[1:] + values[:-1]) / 2), 1.0]
        assert best == pytest.approx(max(f1_of(truth, scores >= cut) for cut in every))
        assert not (scores == threshold).any() or threshold == 0  # half-way, so that rounding decides nothing


@pytest.mark.usefixtures("charts")
def test_scores_and_mistakes_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, probabilities = drawn(3, classes=50)
    labels[:, 7] = 0
    names = [f"label {number} $x$" for number in range(50)]
    few = multi_label_report(labels[:, :8], probabilities[:, :8], [0.5] * 8, names[:8], PICTURES)
    many = multi_label_report(labels, probabilities, [0.5] * 50, names, PICTURES)
    drawings: list[Figure] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: drawings.append(figure))
    plots.plot_labels(few, tmp_path / "few.png")
    plots.plot_labels(many, tmp_path / "many.png")
    rows = drawings[0].axes[0]
    scores = sorted((score for score in few.classes if score.support), key=lambda score: (-score.support, score.name))
    said = [text.get_text() for text in rows.get_yticklabels()]
    assert said == [f"label {score.name.split()[1]} \\$x\\$, {score.support}" for score in scores]  # no formula
    places = {line.get_label(): line.get_xdata() for line in rows.get_lines()}
    assert np.asarray(places["recall"]).tolist() == [score.recall for score in scores]
    assert np.asarray(places["average precision"]).tolist() == [score.average_precision for score in scores]
    assert len(drawings[1].axes[0].get_yticklabels()) == 40

    pictures = [np.zeros((8, 8, 3), np.uint8)] * 16
    plots.plot_label_mistakes(few, pictures, tmp_path / "mistakes.png")
    titles = [title for axis in drawings[2].axes if (title := axis.get_title("left"))]
    assert len(titles) == 16
    assert titles[0].split("\n")[0] == few.mistakes[0].name
    assert titles[0].split("\n")[1].startswith("missed label" if few.mistakes[0].missed else "added label")
    right = multi_label_report(labels[:, :2], labels[:, :2] / 2 + 0.25, [0.5] * 2, names[:2], PICTURES)
    plots.plot_label_mistakes(right, [], tmp_path / "none.png")
    assert [text.get_text() for text in drawings[3].texts] == ["all labels of all pictures are correct"]

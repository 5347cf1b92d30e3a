"""Scores and thresholds of several labels per picture, recomputed without scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inception_resnet_keras.evaluation.multi_label import best_thresholds, multi_label_report


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
    report = multi_label_report(labels, probabilities, thresholds, ["a", "b", "c", "d"], [("x.png", "why")])
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


def test_labels_that_no_picture_or_every_picture_has() -> None:
    labels, probabilities = drawn(1, classes=3)
    labels[:, 0], labels[:, 2] = 0, 1
    thresholds = best_thresholds(labels, probabilities)
    assert thresholds[0] == 0.5
    report = multi_label_report(labels, probabilities, thresholds, ["none", "some", "all"])
    none, some, every = report.classes
    assert (none.average_precision, none.auc, none.support) == (None, None, 0)
    assert (every.average_precision, every.auc, every.f1) == (1.0, None, 1.0)
    assert some.average_precision is not None
    assert report.mean_average_precision == pytest.approx((some.average_precision + 1) / 2)
    assert report.macro_f1 == pytest.approx((some.f1 + 1) / 2)


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

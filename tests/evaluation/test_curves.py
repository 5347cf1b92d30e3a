"""Curves with bands, against scikit-learn, SciPy and counting."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from inception_resnet_keras.evaluation import curves
from inception_resnet_keras.evaluation.calibration import calibration
from inception_resnet_keras.evaluation.curves import (
    Kind,
    bin_count,
    curve_set,
    curves_figure,
    equal_bins,
    reliability,
)

pytestmark = pytest.mark.usefixtures("charts")


def drawn(classes: int, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    logits = random.normal(size=(count, classes))
    logits[np.arange(count), labels] += 1.5
    return labels, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), [f"class {n}" for n in range(classes)]


def test_areas_are_scikit_learns_and_classes_without_pictures_have_no_curve() -> None:
    labels, probabilities, names = drawn(3, 60)
    probabilities = np.hstack([probabilities, np.zeros((60, 1))])
    roc, precision = (curve_set(kind, labels, probabilities, [*names, "none"]) for kind in ("roc", "precision_recall"))
    assert list(roc.curves) == names
    for number, name in enumerate(names):
        truth = labels == number
        assert roc.curves[name].area == pytest.approx(roc_auc_score(truth, probabilities[:, number]))
        assert precision.curves[name].area == pytest.approx(average_precision_score(truth, probabilities[:, number]))
        assert roc.curves[name].pictures == truth.sum()
    assert roc.mean is not None
    assert roc.mean.area == pytest.approx(np.mean([curve.area for curve in roc.curves.values()]))


def test_of_two_classes_the_second_ones_curve_is_drawn_with_wilsons_band() -> None:
    labels, probabilities, names = drawn(2, 40)
    found = curve_set("roc", labels, probabilities, names)
    [curve] = found.curves.values()
    assert (list(found.curves), found.mean, found.resamples) == (["class 1"], None, 0)
    assert curve.band is not None
    positives = int((labels == 1).sum())
    for place in (0, len(curve.x) // 2, -1):
        hits = round(float(curve.y[place]) * positives)
        expected = binomtest(hits, positives).proportion_ci(method="wilson")
        assert (curve.band[1][place], curve.band[2][place]) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_precisions_band_counts_the_pictures_that_are_predicted() -> None:
    truth, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    [curve] = curve_set("precision_recall", truth, np.stack([1 - scores, scores], 1), ["no", "yes"]).curves.values()
    assert curve.x.tolist() == [0.5, 0.5, 1, 1]
    assert curve.y.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 2 / 4])
    assert curve.band is not None
    for place, (hits, predicted) in enumerate([(1, 1), (1, 2), (2, 3), (2, 4)]):
        expected = binomtest(hits, predicted).proportion_ci(method="wilson")
        assert (curve.band[1][place], curve.band[2][place]) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("kind", ["roc", "precision_recall"])
def test_bands_of_groups_are_wider_where_the_pictures_of_a_group_are_alike(kind: Kind) -> None:
    labels, probabilities, names = drawn(2, 40, seed=3)
    labels, probabilities = labels.repeat(4), probabilities.repeat(4, axis=0)
    groups = [str(number) for number in np.arange(40).repeat(4)]
    alone = curve_set(kind, labels, probabilities, names).curves["class 1"].band
    grouped = curve_set(kind, labels, probabilities, names, groups)
    band = grouped.curves["class 1"].band
    assert grouped.grouped
    assert grouped.resamples
    assert alone is not None
    assert band is not None
    width = np.mean(band[2] - band[1])
    assert width > 1.2 * np.mean(np.interp(band[0], alone[0], alone[2] - alone[1]))
    assert "resamples of groups" in curves_figure(grouped).get_supxlabel()


def test_the_means_band_holds_the_mean_of_new_pictures() -> None:
    labels, probabilities, names = drawn(4, 200)
    found = curve_set("roc", labels, probabilities, names).mean
    other, more, _ = drawn(4, 20_000, seed=9)
    truth = curve_set("roc", other, more, names).mean
    assert found is not None
    assert truth is not None
    assert found.band is not None
    inside = (found.band[1] <= truth.y + 1e-9) & (truth.y <= found.band[2] + 1e-9)
    assert inside[5:].mean() > 0.9  # at a false positive rate of 0, more pictures have a lower curve
    assert (found.band[2] - found.band[1])[20:].max() < 0.2


def test_of_many_classes_the_mean_and_the_worst_are_drawn() -> None:
    labels, probabilities, names = drawn(12, 240)
    found = curve_set("roc", labels, probabilities, names)
    figure = curves_figure(found, {"": (0.8, 0.9)})
    titles = [title for axis in figure.axes if (title := axis.get_title("left"))]
    worst = sorted(found.curves, key=lambda name: found.curves[name].area)[: curves.WORST]
    assert [title.split("\n")[0] for title in titles] == ["mean of 12 classes", *worst]
    assert titles[0].endswith("(0.800 to 0.900)")
    assert "Shown: the 7 of 12 classes with the smallest area." in figure.get_supxlabel().replace("\n", " ")
    several = curve_set("roc", np.eye(12)[labels], probabilities, names)
    assert several.mean is not None
    assert found.mean is not None
    assert several.mean.area == pytest.approx(found.mean.area)
    nothing = curves_figure(curve_set("roc", np.zeros(3, int), probabilities[:3], names))
    assert nothing.texts[0].get_text() == "no curve: all pictures are of one class"


def test_bins_fit_the_number_of_pictures_and_none_is_empty() -> None:
    assert [bin_count(pictures) for pictures in (1, 5, 20, 50, 150, 5000)] == [1, 1, 2, 5, 15, 15]
    random = np.random.default_rng(0)
    confidence = random.random(200)
    correct = random.random(200) < confidence
    bins, sure, right, counts = equal_bins(confidence, correct)
    assert np.bincount(bins, confidence) / counts == pytest.approx(sure)
    assert np.bincount(bins, correct) / counts == pytest.approx(right)
    assert len(sure) == 15
    assert (counts.sum(), counts.min() > 10, counts.max() < 16) == (200, True, True)
    assert (sure @ counts, right @ counts) == pytest.approx((confidence.sum(), correct.sum()))
    assert (np.diff(sure) > 0).all()
    same = equal_bins(np.repeat([0.5, 1.0], 100), np.ones(200, bool))
    assert [values.tolist() for values in same[1:]] == [[0.5, 1], [1, 1], [100, 100]]


def test_bars_of_grouped_pictures_are_those_of_their_groups() -> None:
    """Ten copies of a picture in one group say no more than the picture: the bars are wider than of 500 pictures."""
    random = np.random.default_rng(1)
    labels, scores = random.integers(0, 3, 50).repeat(10), random.random((50, 3)).repeat(10, axis=0)
    probabilities = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    groups, heights = [str(number // 10) for number in range(500)], []
    for given in (None, groups):
        figure = reliability(labels, [("a", probabilities, calibration(labels, probabilities))], list("abc"), given)
        segments = figure.axes[0].containers[0][2][0].get_segments()
        heights.append(np.mean([end[1] - start[1] for start, end in segments]))
        assert ("based on 50 groups" in figure.get_supxlabel().replace("\n", " ")) == (given is groups)
    assert heights[1] > 1.5 * heights[0]


def test_panels_of_names_with_one_beginning_can_be_told_apart() -> None:
    names = [f"adenocarcinoma of the left upper lobe, grade {number}" for number in range(3)]
    labels, probabilities = np.arange(30) % 3, np.random.default_rng(0).random((30, 3))
    titles = [axis.get_title(loc="left") for axis in curves_figure(curve_set("roc", labels, probabilities, names)).axes]
    assert len({title.split("\n")[0] for title in titles}) == 4

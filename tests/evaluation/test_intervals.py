"""Figures beside other computations of them, and how often their intervals cover the true value."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap as scipys_bootstrap
from scipy.stats import norm
from sklearn import metrics as sklearns

from inception_resnet_keras.evaluation import intervals
from inception_resnet_keras.evaluation.intervals import Units, Value, binormal_precision, newcombe, wilson
from inception_resnet_keras.evaluation.metrics import (
    NAMES,
    OF_POSITIVE,
    areas_value,
    figures,
    mean_area,
    precision_and_influence,
    precision_value,
)


def drawn(
    random: np.random.Generator, count: int, shares: list[float], skill: float, group: int = 1
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A classifier's probabilities; pictures of one group have one class, and share what makes them hard."""
    groups = np.arange(count) // group
    labels = random.choice(len(shares), groups.max() + 1, p=shares)[groups]
    hard = random.normal(size=(groups.max() + 1, len(shares)))[groups] * (group > 1)
    logits = skill * np.eye(len(shares))[labels] + hard + 1.2 * random.normal(size=(count, len(shares)))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probabilities.astype(np.float32), [str(number) for number in groups]


def others(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """The figures by scikit-learn, and the calibration error by its definition."""
    predicted, classes = probabilities.argmax(axis=1), np.unique(labels)
    truth = np.eye(probabilities.shape[1])[labels]
    confidence = probabilities.max(axis=1)
    two = probabilities.shape[1] == 2
    judged = [1] if two else classes
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            error += inside.mean() * abs((predicted == labels)[inside].mean() - confidence[inside].mean())
    return {
        "accuracy": sklearns.accuracy_score(labels, predicted),
        "balanced_accuracy": sklearns.balanced_accuracy_score(labels, predicted),
        "macro_f1": sklearns.f1_score(labels, predicted, labels=classes, average="macro", zero_division=0),
        "mcc": sklearns.matthews_corrcoef(labels, predicted),
        "kappa": sklearns.cohen_kappa_score(labels, predicted),
        "quadratic_kappa": sklearns.cohen_kappa_score(labels, predicted, weights="quadratic"),
        "auc": np.mean([sklearns.roc_auc_score(truth[:, each], probabilities[:, each]) for each in judged]),
        "average_precision": np.mean(
            [sklearns.average_precision_score(truth[:, each], probabilities[:, each]) for each in judged]
        ),
        "brier": np.square(probabilities - truth).sum(axis=1).mean(),
        "ece": error,
    } | (
        {
            "sensitivity": sklearns.recall_score(labels, predicted),
            "specificity": sklearns.recall_score(labels, predicted, pos_label=0),
            "precision": sklearns.precision_score(labels, predicted, zero_division=0),
            "f1": sklearns.f1_score(labels, predicted, zero_division=0),
        }
        if two
        else {}
    )


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(20, 80), classes=st.integers(2, 4))
def test_figures_are_those_of_scikit_learn_and_lie_in_their_intervals(seed: int, count: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    labels, probabilities, _ = drawn(random, count, [1 / classes] * classes, 1.5)
    labels[:classes] = range(classes)
    found = figures(labels, probabilities)
    expected = others(labels, probabilities)
    for name, value in found.values.items():
        assert name in NAMES
        assert value.value == pytest.approx(float(expected[name]), abs=1e-5), name
        if value.low is not None and value.high is not None:
            assert value.low - 1e-9 <= value.value <= value.high + 1e-9, name
    for number, of_class in enumerate(found.classes):
        true, said = labels == number, probabilities.argmax(axis=1) == number
        assert of_class.sensitivity is not None
        assert of_class.specificity is not None
        assert of_class.sensitivity.value == pytest.approx(sklearns.recall_score(true, said))
        assert of_class.specificity.value == pytest.approx(sklearns.recall_score(~true, ~said))
        if of_class.precision is not None and of_class.f1 is not None:
            assert of_class.precision.value == pytest.approx(sklearns.precision_score(true, said))
            assert of_class.f1.value == pytest.approx(sklearns.f1_score(true, said))
        else:
            assert not said.any()


def test_newcombes_interval_meets_its_equation_and_takes_areas_of_one() -> None:
    for area, positives, negatives in [(0.8, 20, 30), (0.97, 10, 40), (1.0, 10, 10), (0.0, 5, 50)]:
        low, high = newcombe(area, positives, negatives)
        assert 0 <= low <= area <= high <= 1
        for bound in {low, high} - {0.0, 1.0}:
            q = (positives + negatives) / 2 - 1
            variance = bound * (1 - bound) * (1 + q * (1 - bound) / (2 - bound) + q * bound / (1 + bound))
            assert abs(area - bound) == pytest.approx(
                1.959964 * math.sqrt(variance / (positives * negatives)), rel=1e-4
            )
    kinds = np.repeat([True, False], 12)
    found = areas_value(kinds, kinds.astype(float), Units(24))
    assert (found.value, found.high, found.method) == (1.0, 1.0, "Newcombe")
    assert found.low is not None
    assert 0.8 < found.low < 0.95


def test_the_jackknife_of_the_average_precision_leaves_out_picture_by_picture() -> None:
    random = np.random.default_rng(0)
    positives = random.random(40) < 0.3
    scores = np.round(random.normal(size=40) + positives, 1)  # with ties
    value, influence = precision_and_influence(positives, scores)
    assert value == pytest.approx(sklearns.average_precision_score(positives, scores))
    left_out = np.array(
        [sklearns.average_precision_score(np.delete(positives, n), np.delete(scores, n)) for n in range(40)]
    )
    np.testing.assert_allclose(influence, (left_out.mean() - left_out) * 39 / 40, atol=1e-12)


def test_the_bootstrap_is_scipys_of_the_same_statistic() -> None:
    random = np.random.default_rng(1)
    values = random.exponential(size=60)

    def median(weights: np.ndarray) -> np.ndarray:
        return np.array([[np.median(np.repeat(values, row.astype(int))) for row in weights]])

    (found,) = intervals.bootstrap(median, Units(60), bounds=(0, 10))
    expected = scipys_bootstrap((values,), np.median, n_resamples=4000, rng=random).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.12)


def test_groups_that_are_copies_count_as_one_picture_each() -> None:
    labels, probabilities, _ = drawn(np.random.default_rng(2), 40, [0.5, 0.5], 1.5)
    alone = figures(labels, probabilities)
    names = [str(number // 10) for number in range(400)]
    copies = figures(np.repeat(labels, 10), np.repeat(probabilities, 10, axis=0), groups=names)
    assert copies.groups == 40
    for name in ("accuracy", "auc", "brier"):
        one, other = alone.values[name], copies.values[name]
        assert one.value == pytest.approx(other.value, abs=1e-6)
        assert one.low is not None
        assert other.low is not None
        assert one.value - one.low == pytest.approx(other.value - other.low, rel=0.15), name
        assert "by group" in other.method


def test_figures_of_two_classes_are_of_the_positive_one() -> None:
    labels, probabilities, _ = drawn(np.random.default_rng(4), 60, [0.7, 0.3], 1.5)
    one, other = (
        figures(labels, probabilities, ["no", "yes"]),
        figures(1 - labels, np.ascontiguousarray(probabilities[:, ::-1]), ["yes", "no"]),
    )
    assert (one.positive, other.positive) == ("yes", "no")
    for name, value in others(labels, probabilities).items():
        if name != "quadratic_kappa":
            assert one.values[name].value == pytest.approx(float(value), abs=1e-6), name
    for name, opposite in (("sensitivity", "specificity"), ("accuracy", "accuracy"), ("brier", "brier")):
        assert one.values[name].value == pytest.approx(other.values[opposite].value)
    for name in ("precision", "f1", "average_precision"):
        assert one.values[name].value != pytest.approx(other.values[name].value)
        assert other.values[name] == next(getattr(each, name) for each in other.classes if each.name == "no")
    assert figures(np.arange(6) % 3, np.eye(3)[[0, 1, 2, 1, 1, 2]]).positive is None


def test_an_average_precision_of_one_has_an_interval_that_covers() -> None:
    """Of two normal distributions far apart, whose average precision is known, many samples have one of exactly 1."""
    random, covered, flawless, trials = np.random.default_rng(7), 0, 0, 400
    positives = np.arange(50) < 15
    many = np.arange(300_000) < 90_000
    truth = sklearns.average_precision_score(many, random.normal(size=len(many)) + 3.5 * many)
    assert binormal_precision(float(norm.cdf(3.5 / math.sqrt(2))), 0.3) == pytest.approx(truth, abs=2e-3)
    for _ in range(trials):
        found = precision_value(positives, random.normal(size=50) + 3.5 * positives, Units(50))
        flawless += found.value == 1
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert flawless > trials / 5
    assert covered / trials >= 0.93 - 0.022
    perfect = figures(np.arange(30) % 3, np.eye(3, dtype=np.float32)[np.arange(30) % 3])
    for value in (perfect.values["average_precision"], *(each.average_precision for each in perfect.classes)):
        assert value is not None
        assert (value.value, value.high, value.method) == (1, 1, "Newcombe, binormal")
        assert 0.5 < (value.low or 0) < 0.95


def test_wilsons_interval_of_fractional_trials() -> None:
    low, high = wilson(np.array([0.8, 0.0, 1.0]), np.array([10.0, 10.0, 4.5]))
    np.testing.assert_allclose(low[0], 0.4902, atol=1e-4)
    np.testing.assert_allclose(high[0], 0.9433, atol=1e-4)
    assert (low[1], high[2]) == (0, 1)


def test_a_value_in_words() -> None:
    assert Value(0.9421, 0.9102, 0.9648).percent() == "94.2 % (91.0–96.5)"
    assert Value(-0.012, -0.101, 0.088).decimal() == "-0.012 (-0.101 to 0.088)"
    assert Value(0.5).percent() == "50.0 %"


def test_many_classes_and_pictures_take_seconds() -> None:
    random = np.random.default_rng(3)
    probabilities = random.dirichlet(np.full(1000, 0.01), 3000).astype(np.float32)
    found = figures(random.integers(0, 1000, 3000), probabilities)
    assert set(found.values) == set(NAMES) - set(OF_POSITIVE)


@pytest.mark.parametrize(
    ("count", "shares", "group"), [(50, [0.9, 0.1], 1), (50, [0.8, 0.1, 0.1], 1), (100, [0.8, 0.2], 5)]
)
def test_areas_of_rare_classes_are_covered(count: int, shares: list[float], group: int) -> None:
    """With the normal quantile and influences alone, DeLong's interval covers 82 to 91 % of the time here."""
    random, trials, covered, samples = np.random.default_rng(8), 300, 0, 0
    truth = others(*drawn(random, 100_000, shares, 1.5, group)[:2])["auc"]
    for _ in range(trials):
        labels, probabilities, groups = drawn(random, count, shares, 1.5, group)
        judged = [number for number in range(len(shares)) if 0 < (labels == number).sum() < count]
        if not judged:  # no picture of the rare class
            continue
        units = Units(count, groups if group > 1 else None)
        parts = [(labels == number, probabilities[:, number]) for number in (judged if len(shares) > 2 else [1])]
        found = mean_area(parts, [areas_value(*part, units) for part in parts], units)
        samples += 1
        covered += (found.low or 0) <= truth <= (found.high or 0)
    assert covered / samples >= 0.93 - 2 * math.sqrt(0.95 * 0.05 / trials)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "shares", "skill", "group"),
    [
        (50, [0.5, 0.5], 1.5, 1),
        (50, [0.5, 0.3, 0.2], 1.5, 1),
        (500, [1 / 3] * 3, 2.5, 1),
        (500, [0.6, 0.3, 0.1], 1.5, 5),
    ],
)
def test_intervals_cover_the_true_value(count: int, shares: list[float], skill: float, group: int) -> None:
    """95 % intervals cover 93 to 97 % of the time, but for what the trials let be seen (two standard errors)."""
    random, trials = np.random.default_rng(5), 400 if count < 500 else 200
    error = 2 * math.sqrt(0.95 * 0.05 / trials)
    truth = others(*drawn(random, 300_000, shares, skill, group)[:2])
    covered = dict.fromkeys(truth, 0)
    for _ in range(trials):
        labels, probabilities, groups = drawn(random, count, shares, skill, group)
        found = figures(labels, probabilities, groups=groups if group > 1 else None).values
        for name, true in truth.items():
            value = found.get(name)
            covered[name] += value is not None and value.low is not None and value.low <= true <= (value.high or 0)
    print(count, shares, group, {name: round(hits / trials, 3) for name, hits in covered.items()})
    for name, hits in covered.items():
        if name in found:
            assert 0.93 - error <= hits / trials <= 0.97 + error, name

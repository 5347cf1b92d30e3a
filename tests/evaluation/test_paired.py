"""Tests and intervals of differences: against other computations, and by how often they are right."""

import math
from functools import cache

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binom, norm, ttest_1samp

from inception_resnet_keras.evaluation.comparison import Metric
from inception_resnet_keras.evaluation.differences import DIFFERENCES, VALUES, Contender
from inception_resnet_keras.evaluation.intervals import Units
from inception_resnet_keras.evaluation.paired import (
    corrected_resampled,
    holm,
    mcnemar,
    paired_areas,
    sign_flips,
    tango,
)
from inception_resnet_keras.evaluation.predictions import prediction_table


@pytest.mark.parametrize(("first", "second"), [(0, 0), (5, 0), (6, 0), (12, 5), (1, 9), (200, 260)])
def test_mcnemars_p_sums_the_outcomes_that_are_as_rare(first: int, second: int) -> None:
    count = first + second
    probabilities = binom.pmf(np.arange(count + 1), count, 0.5)
    rarer = probabilities <= probabilities[second] * (1 + 1e-9)
    assert mcnemar(first, second) == pytest.approx(float(probabilities[rarer].sum()))


def test_fewer_than_six_pictures_decide_nothing() -> None:
    assert mcnemar(5, 0) > 0.05 > mcnemar(6, 0)


def by_likelihood(only_first: int, only_second: int, pictures: int) -> tuple[float, float]:
    """Tango's interval with the nuisance parameter found by maximising the likelihood."""

    def score(difference: float) -> float:
        def cost(first: float) -> float:
            shares = first, first + difference, 1 - 2 * first - difference
            counts = only_first, only_second, pictures - only_first - only_second
            return -sum(n * math.log(max(share, 1e-300)) for n, share in zip(counts, shares, strict=True))

        bounds = max(0.0, -difference), (1 - difference) / 2
        first = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-13}).x
        variance = (2 * first + difference - difference**2) / pictures
        return float(((only_second - only_first) / pictures - difference) / math.sqrt(max(variance, 1e-300)))

    z, value = norm.ppf(0.975), (only_second - only_first) / pictures
    low = brentq(lambda d: score(d) - z, -1 + 1e-9, value - 1e-12) if value > -1 else -1.0
    high = brentq(lambda d: score(d) + z, value + 1e-12, 1 - 1e-9) if value < 1 else 1.0
    return low, high


@pytest.mark.parametrize(
    "counts", [(12, 2, 50), (2, 12, 50), (0, 5, 40), (7, 7, 100), (0, 0, 30), (1, 0, 20), (30, 10, 200), (20, 0, 20)]
)
def test_tangos_interval_is_that_of_the_constrained_likelihood(counts: tuple[int, int, int]) -> None:
    np.testing.assert_allclose(tango(*counts), by_likelihood(*counts), atol=1e-6)


def test_without_correction_the_t_test_is_the_paired_one() -> None:
    values = [0.01, 0.03, -0.01, 0.02, 0.02]
    found = corrected_resampled(values, 0.0)
    expected = ttest_1samp(values, 0)
    interval = expected.confidence_interval()
    assert (found.p, found.low, found.high) == pytest.approx((expected.pvalue, interval.low, interval.high))
    # The correction of five folds, whose variance is (1/5 + 1/4) / (1/5) times as large.
    corrected = corrected_resampled(values, 0.25)
    assert corrected.high is not None
    assert found.high is not None
    assert corrected.high - corrected.value == pytest.approx((found.high - found.value) * math.sqrt(0.45 / 0.2))
    assert corrected_resampled([0.1, 0.1], 0.25).low is None
    with pytest.raises(ValueError, match="at least two are needed"):
        corrected_resampled([0.1], 0.25)


def test_holms_correction() -> None:
    """The example of R's `p.adjust(c(0.01, 0.04, 0.03), "holm")`; a comparison without p counts for none."""
    assert holm([0.01, 0.04, None, 0.03]) == pytest.approx([0.03, 0.06, None, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_all_exchanges_are_tried_where_they_are_few() -> None:
    different = np.array([0.1, 0.2, 0.0, -0.05, 0.3])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1).T
    sums = signs @ different
    expected = (np.abs(sums) >= abs(different.sum()) - 1e-12).mean()
    assert sign_flips(different) == pytest.approx(expected)
    assert sign_flips(np.zeros(4)) == 1.0


def test_areas_of_two_orders_that_are_alike_do_not_differ() -> None:
    positives, scores = np.array([True, False, True, False, True]), np.array([0.3, 0.2, 0.9, 0.5, 0.6])
    found = paired_areas(positives, scores, scores**2)
    assert (found.value, found.p, found.low) == (0.0, 1.0, None)


Shares = tuple[float, ...]
THREE, TWO = (1 / 2, 1 / 3, 1 / 6), (2 / 3, 1 / 3)


def drawn(
    random: np.random.Generator, count: int, skill: tuple[float, float], group: int = 1, shares: Shares = THREE
) -> tuple[Contender, Contender]:
    """Two models, of classes that have these shares of the pictures; pictures of one group share their difficulty."""
    groups, classes = np.arange(count) // group, len(shares)
    labels = random.choice(classes, groups.max() + 1, p=shares)[groups]
    hard = random.normal(size=(groups.max() + 1, classes))[groups] * (1.0 if group > 1 else 0.0)
    shared = random.normal(size=(count, classes)) + hard
    found = []
    for each in skill:
        own = random.normal(size=(groups.max() + 1, classes))[groups] * (0.7 if group > 1 else 0.0)
        logits = each * np.eye(classes)[labels] + shared + own + 0.7 * random.normal(size=(count, classes))
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        names, of = [str(number) for number in range(count)], list("abc")[:classes]
        found.append(Contender("", prediction_table(names, of, labels, probabilities.astype(np.float32))))
    return found[0], found[1]


@cache
def true_differences(skill: tuple[float, float], group: int, shares: Shares) -> dict[Metric, float]:
    """The metrics that these classes have, each with its difference."""
    tables = [each.table for each in drawn(np.random.default_rng(99), 300_000, skill, group, shares)]
    values = {name: [value(table) for table in tables] for name, value in VALUES.items()}
    return {name: second - first for name, (first, second) in values.items() if first is not None is not second}


def test_sensitivity_is_the_accuracy_on_one_classs_pictures() -> None:
    """The interval and the test are those of the positive pictures alone, and specificity's those of the others."""
    first, second = drawn(np.random.default_rng(3), 200, (0.8, 2.0), shares=TWO)
    units = Units(200)
    names: tuple[Metric, Metric] = ("specificity", "sensitivity")
    for number, name in enumerate(names):
        inside = np.flatnonzero(first.table.labels == number)
        before, after = (each.table.predicted[inside] == number for each in (first, second))
        found = DIFFERENCES[name](first, second, units)
        assert found.value == pytest.approx(after.mean() - before.mean())
        only = int((before & ~after).sum()), int((after & ~before).sum())
        assert found.p == pytest.approx(mcnemar(*only))
        assert (found.low, found.high) == pytest.approx(by_likelihood(*only, len(inside)), abs=1e-6)


@pytest.mark.parametrize(
    ("count", "group", "shares"), [(50, 1, (0.9, 0.1)), (50, 1, (0.8, 0.1, 0.1)), (100, 5, (0.8, 0.2))]
)
@pytest.mark.parametrize("skill", [(1.5, 1.5), (1.5, 2.2)])
def test_differences_of_areas_of_rare_classes(
    count: int, group: int, shares: Shares, skill: tuple[float, float]
) -> None:
    """A normal interval covers 78 to 85 % of the time where the models differ, and rejects up to 12 % of equal ones."""
    random, trials, covered, rejected = np.random.default_rng(9), 200, 0, 0
    tables = [each.table for each in drawn(random, 100_000, skill, group, shares)]
    before, after = (VALUES["auc"](table) or 0.0 for table in tables)
    truth, units = after - before, Units(count, [str(n // group) for n in range(count)] if group > 1 else None)
    for _ in range(trials):
        first, second = drawn(random, count, skill, group, shares)
        while not first.table.labels.any():  # a sample without any picture of the rare class has no area
            first, second = drawn(random, count, skill, group, shares)
        found = DIFFERENCES["auc"](first, second, units)
        low, high = (0.0, 0.0) if found.low is None or found.high is None else (found.low, found.high)
        covered += low <= (truth if skill[0] != skill[1] else 0.0) <= high
        rejected += found.p is not None and found.p < 0.05
    noise = 2 * math.sqrt(0.05 * 0.95 / trials)
    assert covered / trials >= 0.93 - noise
    assert skill[0] != skill[1] or rejected / trials <= 0.05 + noise


@pytest.mark.parametrize("counts", [(60, 2), (60, 3), (40, 40, 2)])
def test_areas_of_two_or_three_pictures_differ_by_chance(counts: tuple[int, ...]) -> None:
    """DeLong's test rejects 10 to 19 % of equal models here: two pictures hardly show how alike the models are."""
    random, trials = np.random.default_rng(11), 200
    labels, classes = np.repeat(np.arange(len(counts)), counts), len(counts)
    rejected = 0
    for _ in range(trials):
        shared, models = random.normal(size=(len(labels), classes)), []
        for _ in range(2):
            logits = 0.7 * np.eye(classes)[labels] + 0.6 * shared + 0.8 * random.normal(size=(len(labels), classes))
            probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            names, of = [str(number) for number in range(len(labels))], list("abc")[:classes]
            models.append(Contender("", prediction_table(names, of, labels, probabilities.astype(np.float32))))
        found = DIFFERENCES["auc"](models[0], models[1], Units(len(labels)))
        significant = found.p is not None and found.p < 0.05
        assert significant == found.excludes_zero
        rejected += significant
    assert rejected / trials <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / trials)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "group", "trials", "shares"),
    [(50, 1, 300, THREE), (500, 1, 120, THREE), (500, 5, 120, THREE), (500, 5, 120, TWO)],
)
@pytest.mark.parametrize("skill", [(1.5, 1.5), (1.5, 2.2)])
def test_intervals_cover_and_tests_keep_their_level(
    count: int, group: int, trials: int, shares: Shares, skill: tuple[float, float]
) -> None:
    """95 % intervals cover 93 to 97 % of the time, and tests of equal models find 5 % different, or fewer.

    Tango's interval of few pictures and the exact tests err on the safe side, so there is no upper bound here but for
    what the noise of this many trials lets be seen.
    """
    random, truths = np.random.default_rng(7), true_differences(skill, group, shares)
    if skill[0] == skill[1]:
        truths = dict.fromkeys(truths, 0.0)
    covered, rejected = dict.fromkeys(truths, 0), dict.fromkeys(truths, 0)
    for _ in range(trials):
        first, second = drawn(random, count, skill, group, shares)
        units = Units(count, [str(number // group) for number in range(count)] if group > 1 else None)
        for name, truth in truths.items():
            found = DIFFERENCES[name](first, second, units)
            low, high = (0.0, 0.0) if found.low is None or found.high is None else (found.low, found.high)
            covered[name] += low <= truth <= high
            rejected[name] += found.p is not None and found.p < 0.05
    noise = 2.6 * math.sqrt(0.05 * 0.95 / trials)
    print(count, group, skill, {name: round(hits / trials, 3) for name, hits in covered.items()}, rejected)
    for name in truths:
        assert 0.93 - noise / 2 <= covered[name] / trials <= 0.97 + noise, name
        if skill[0] == skill[1]:
            assert rejected[name] / trials <= 0.05 + noise, name

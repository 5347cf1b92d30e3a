import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from inception_resnet_keras.evaluation.calibration import (
    binned,
    calibration,
    confidence_and_correct,
    fit_temperature,
    halves,
    log_probabilities,
    negative_log_likelihood,
    softmax,
)

SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int, count: int, classes: int = 4, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from softmax(logits), and the probabilities of a model that says softmax(logits / temperature)."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, classes))
    true = softmax(logits)
    labels = (true.cumsum(axis=1) < random.random((count, 1))).sum(axis=1).clip(0, classes - 1)
    return labels, softmax(logits / temperature).astype(np.float32)


def test_the_error_by_hand() -> None:
    """Bins of 0.1: 0.95 and 0.91, both right; 0.55 right, 0.52 wrong; 0.6 wrong, on the edge so in the same bin."""
    confidence, right = np.array([0.95, 0.91, 0.55, 0.52, 0.6]), np.array([True, True, True, False, False])
    bins, ece = binned(confidence, right, bins=10)
    assert [(b.pictures, round(b.low, 6)) for b in bins] == [(3, 0.5), (2, 0.9)]
    assert [b.accuracy for b in bins] == pytest.approx([1 / 3, 1])
    assert ece == pytest.approx(3 / 5 * abs(1 / 3 - (0.55 + 0.52 + 0.6) / 3) + 2 / 5 * abs(1 - 0.93))


@given(seed=SEEDS, count=st.integers(1, 300))
def test_bins_are_scikit_learns(seed: int, count: int) -> None:
    confidence, right = confidence_and_correct(*drawn(seed, count))
    bins, ece = binned(confidence, right)
    accuracy, mean = calibration_curve(right, confidence, n_bins=15)
    np.testing.assert_allclose([b.accuracy for b in bins], accuracy)
    np.testing.assert_allclose([b.confidence for b in bins], mean, rtol=1e-6)
    assert sum(b.pictures for b in bins) == count
    assert 0 <= ece <= 1
    assert ece >= abs(right.mean() - confidence.mean(dtype=float)) - 1e-6  # one bin's error is the least of all


@given(seed=SEEDS, count=st.integers(2, 60))
def test_a_temperature_never_makes_its_own_pictures_less_likely(seed: int, count: int) -> None:
    labels, probabilities = drawn(seed, count)
    logs = log_probabilities(probabilities)
    temperature = fit_temperature(labels, logs)
    assert 0.05 <= temperature <= 20
    scaled = softmax(logs / temperature)
    np.testing.assert_allclose(scaled.sum(axis=1), 1, rtol=1e-4)
    assert negative_log_likelihood(labels, log_probabilities(scaled)) <= negative_log_likelihood(labels, logs) + 1e-5
    assert (scaled.argmax(axis=1) == probabilities.argmax(axis=1)).all()


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_is_wrong_is_found_and_mended(temperature: float) -> None:
    labels, probabilities = drawn(0, 20_000, 10, temperature)
    found = calibration(labels, probabilities)
    assert found.temperature == pytest.approx(1 / temperature, rel=0.03)
    assert found.scaled_ece is not None
    assert found.scaled_nll is not None
    assert found.scaled_ece < 0.015
    if temperature != 1:
        assert found.ece > 0.1
        assert found.scaled_nll < found.nll
    exact = probabilities.astype(float)
    assert found.nll == pytest.approx(
        log_loss(labels, exact / exact.sum(axis=1, keepdims=True), labels=range(10)), rel=1e-4
    )
    assert "halves" in found.fitted_on


def test_logits_and_log_probabilities_have_one_temperature() -> None:
    labels, probabilities = drawn(1, 500, temperature=0.5)
    logs = log_probabilities(probabilities)
    shifted = logs + np.random.default_rng(0).normal(0, 3, (500, 1)).astype(np.float32)
    assert fit_temperature(labels, shifted) == pytest.approx(fit_temperature(labels, logs), rel=1e-3)


def test_what_a_softmax_rounded_to_nothing_stays_finite() -> None:
    probabilities = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], np.float32)
    found = calibration(np.array([0, 1, 2]), probabilities)
    assert np.isfinite(np.array([found.nll, found.scaled_nll, found.temperature], float)).all()
    assert found.ece == pytest.approx(1 / 3)
    single = calibration(np.array([0]), probabilities[:1])
    assert (single.temperature, single.scaled_ece) == (None, None)


def test_halves_are_fitted_and_held_out_by_turns() -> None:
    (one, other), (third, fourth) = halves(7, 0)
    assert sorted([*one, *other]) == list(range(7))
    assert (one.tolist(), other.tolist()) == (fourth.tolist(), third.tolist())

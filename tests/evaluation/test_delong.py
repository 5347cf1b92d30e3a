"""Areas under ROC curves and their covariance, against other computations of both."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from inception_resnet_keras.evaluation.delong import components, delong


def directly(positives: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As DeLong et al. write it: every positive picture beside every negative one, equal scores counting half."""
    first, second = scores[:, positives, None], scores[:, None, ~positives]
    wins = (first > second) + 0.5 * (first == second)
    of_positives, of_negatives = wins.mean(axis=2), wins.mean(axis=1)
    return wins.mean(axis=(1, 2)), np.cov(of_positives) / positives.sum() + np.cov(of_negatives) / (~positives).sum()


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(5, 60), digits=st.integers(0, 3))
def test_areas_and_covariance_are_those_of_all_pairs_of_pictures(seed: int, count: int, digits: int) -> None:
    random = np.random.default_rng(seed)
    positives = np.resize([True, True, False, False, False], count)
    random.shuffle(positives)
    scores = np.round(random.normal(size=(3, count)) + positives, digits)  # with ties
    areas, covariance = delong(positives, scores)
    expected = directly(positives, scores)
    np.testing.assert_allclose(areas, expected[0], atol=1e-12)
    np.testing.assert_allclose(covariance, expected[1], atol=1e-12)
    np.testing.assert_allclose(areas, [roc_auc_score(positives, each) for each in scores], atol=1e-12)


def test_the_contributions_average_to_the_area() -> None:
    random = np.random.default_rng(0)
    positives = random.random(500) < 0.2
    areas, lower, higher = components(positives, random.normal(size=(2, 500)) + positives)
    np.testing.assert_allclose(lower.mean(axis=1), areas)
    np.testing.assert_allclose(higher.mean(axis=1), areas)


def test_two_pictures_of_each_kind_are_needed() -> None:
    with pytest.raises(ValueError, match="1 pictures are positive and 3 are not"):
        delong(np.array([True, False, False, False]), np.arange(4.0))

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.evaluation.verification import best_threshold, squared_distances, verify

distances_and_truth = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=40)


@given(pairs=distances_and_truth)
def test_no_threshold_is_right_more_often(pairs: list[tuple[int, bool]]) -> None:
    distances, same = np.array([pair[0] for pair in pairs]) / 4, np.array([pair[1] for pair in pairs])
    found = best_threshold(distances, same)
    best = ((distances < found) == same).mean()
    for threshold in np.arange(-1, 4, 0.125):
        assert ((distances < threshold) == same).mean() <= best
    assert found not in distances


def test_folds_by_hand() -> None:
    """Fold 2 alone says 0.25, 1 says 0.5: each is scored by the other's threshold."""
    distances = np.array([0.1, 0.4, 0.6, 0.9, 0.1, 0.2, 0.3, 0.7])
    same = np.array([True, True, False, False, True, True, False, False])
    found = verify(distances, same, np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    assert [fold.threshold for fold in found.folds] == pytest.approx([0.25, 0.5])
    assert [fold.accuracy for fold in found.folds] == [0.75, 0.75]  # 0.4 rejected; 0.3 accepted
    assert (found.accuracy, found.deviation) == (0.75, 0)
    assert found.auc == roc_auc_score(same, -distances) == 15 / 16  # of 16 comparisons 0.4 with 0.3 is wrong
    assert found.threshold == pytest.approx(0.25)  # 7 of 8, as 0.5; the lower
    assert found.true_accepts == {"0.1%": None, "1%": None}
    assert (found.roc[0], found.roc[-1]) == ((0, 0), (1, 1))


def test_true_accepts_at_a_share_of_false_ones() -> None:
    """Of 1000 pairs of two persons one may pass at 0.1 %, ten at 1 %."""
    random = np.random.default_rng(0)
    different, one = np.sort(random.uniform(0.5, 2, 1000)), random.uniform(0, 1, 1000)
    distances = np.concatenate([one, different])
    same = np.arange(2000) < 1000
    found = verify(distances, same, np.arange(2000) % 10)
    assert found.true_accepts["0.1%"] == pytest.approx((one < different[1]).mean())
    assert found.true_accepts["1%"] == pytest.approx((one < different[10]).mean())
    assert len(found.folds) == 10
    assert found.deviation == pytest.approx(np.std([fold.accuracy for fold in found.folds]))


def test_too_few_folds_or_kinds_are_refused() -> None:
    with pytest.raises(InputError, match="1 fold has usable pairs"):
        verify(np.array([0.1, 0.2]), np.array([True, False]), np.zeros(2, int))
    with pytest.raises(InputError, match="without fold 1, all usable pairs are of the same kind"):
        verify(np.array([0.1, 0.2, 0.3]), np.array([True, False, True]), np.array([0, 0, 1]))


@given(seed=st.integers(0, 2**32 - 1))
def test_mirrored_distances_are_facenets(seed: int) -> None:
    """facenet puts a face's embedding and its mirrored one's end to end: twice the mean of the squared distances."""
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(2, 3, 2, 8))
    ends = np.square(first.reshape(3, 16) - second.reshape(3, 16)).sum(axis=1)
    np.testing.assert_allclose(2 * squared_distances(first, second), ends)
    units = first[:, :1] / np.linalg.norm(first[:, :1], axis=2, keepdims=True)
    assert squared_distances(units, -units) == pytest.approx(4)

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, top_k_accuracy_score

from inception_resnet_keras.evaluation.metrics import figures, true_class_ranks
from inception_resnet_keras.evaluation.paper_tables import paper_accuracy

pytestmark = pytest.mark.usefixtures("charts")


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 80), classes=st.integers(6, 20))
def test_figures_are_scikit_learns(seed: int, count: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    probabilities = random.dirichlet(np.ones(classes), count).astype(np.float32)
    found, predicted = figures(labels, probabilities), probabilities.argmax(axis=1)
    assert found.top1 == pytest.approx(accuracy_score(labels, predicted))
    assert found.top5 == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5, labels=range(classes)))
    there = np.unique(labels)
    assert found.macro_f1 == pytest.approx(f1_score(labels, predicted, labels=there, average="macro", zero_division=0))
    if set(predicted) <= set(labels):
        assert found.balanced == pytest.approx(balanced_accuracy_score(labels, predicted))
    low, high = found.interval
    assert 0 <= low <= found.top1 + 1e-12
    assert found.top1 <= high + 1e-12 <= 1 + 1e-9
    order = random.permutation(count)
    again = figures(labels[order], probabilities[order])
    assert (again.top1, again.top5, again.interval) == (found.top1, found.top5, found.interval)
    assert again.calibration.ece == pytest.approx(found.calibration.ece, abs=1e-6)


def test_wilsons_interval() -> None:
    """8 of 10: 0.4902 to 0.9433, as in every table of it."""
    labels = np.zeros(10, int)
    probabilities = np.eye(2)[[0] * 8 + [1] * 2]
    assert figures(labels, probabilities).interval == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert figures(labels, probabilities).top5 is None


def test_of_equal_probabilities_the_lower_number_is_first_as_argmax_has_it() -> None:
    assert true_class_ranks(np.arange(4), np.full((4, 4), 0.25)).tolist() == [0, 1, 2, 3]
    assert true_class_ranks(np.array([2, 0]), np.array([[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]])).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("networks", "crops", "says"),
    [
        (["inception_resnet_v1"], 1, ("Table 2", 0.787, 0.945)),
        (["inception_v4"], 12, ("Table 3", 0.813, 0.958)),
        (["inception_resnet_v2"], 144, ("Table 4", 0.822, 0.963)),
        (["inception_resnet_v2", "inception_v4", *["inception_resnet_v2"] * 2], 144, ("Table 5", 0.835, 0.969)),
        (["inception_resnet_v2", "inception_v4"], 144, None),
        (["tiny"], 1, None),
    ],
)
def test_the_papers_tables(networks: list[str], crops: int, says: object) -> None:
    assert paper_accuracy(networks, crops) == says

"""One pass over pictures, with plain functions as models."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.crops import View, cut
from inception_resnet_keras.data.images import UnreadableImageError
from inception_resnet_keras.models.one_pass import batched, classify, mapped_ahead, one_pass
from inception_resnet_keras.models.open import OpenedModel

from ..data.photographs import photograph

PHOTOGRAPH = photograph(40, 56)


@dataclass
class Means:
    """A model: the share of each colour in a picture; it notes what it was given."""

    given: list[np.ndarray] = field(default_factory=list)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.given.append(images)
        sums = images.sum(axis=(1, 2)) + 1
        return (sums / sums.sum(axis=1, keepdims=True)).astype(np.float32)


def subject(run: Any, side: int = 16, fraction: float = 1.0) -> OpenedModel:
    return OpenedModel("means", "", ["red", "green", "blue"], False, 3, View((side, side), fraction), run)


def shaded(index: int, size: tuple[float, float] | None = None) -> Image.Image:
    if index % 3 == 2:
        raise UnreadableImageError(Path(f"{index}.png"), "is corrupt")
    return Image.fromarray(np.asarray(PHOTOGRAPH) // (1 + index))


@pytest.mark.parametrize(("crops", "batch_size"), [(1, 1), (1, 3), (1, 64), (12, 5), (12, 40), (144, 100)])
def test_each_picture_has_the_mean_of_its_crops(crops: int, batch_size: int) -> None:
    one, other, told = Means(), Means(), []
    models = [subject(one), subject(other, side=24)]
    options: dict[str, Any] = {"crops": crops, "batch_size": batch_size}
    read, (first, second) = classify(
        range(7), shaded, models, **options, progress=lambda done, total: told.append((done, total))
    )
    assert read.tolist() == [0, 1, 3, 4, 6]
    for index, *found in zip(read, first, second, strict=True):
        for model, probabilities in zip(models, found, strict=True):
            wanted = Means()(cut(shaded(int(index)), model.view, crops).astype(np.float32)).mean(axis=0)
            np.testing.assert_allclose(probabilities, wanted, atol=1e-6)
            assert probabilities.sum() == pytest.approx(1)
    assert max(map(len, one.given)) <= batch_size
    assert {images.dtype for images in one.given} == {np.dtype(np.float32)}
    assert max(images.max() for images in one.given) > 200  # pixels, not scaled
    assert told[-1] == (7, 7)
    assert sum(map(len, one.given)) == sum(map(len, other.given)) == 5 * crops


def test_mirrored_crops_follow_theirs() -> None:
    run = Means()
    read, (found,) = one_pass(range(2), shaded, [subject(run)], flip=True, batch_size=8)
    (given,) = run.given
    assert found.shape == (2, 2, 3)
    np.testing.assert_array_equal(given[1::2], given[::2, :, ::-1])
    assert read.tolist() == [0, 1]


def test_no_picture_at_all() -> None:
    read, (found,) = classify(range(1), lambda index, size: shaded(2), [subject(Means())])
    assert (len(read), len(found)) == (0, 0)


@pytest.mark.parametrize(
    ("says", "error"),
    [
        ([2.0, -1.0, 0.0], "means: its outputs are not probabilities that sum to 1"),
        ([0.9, 0.9, 0.1], "means: its outputs are not probabilities that sum to 1"),
        ([np.nan, 0.5, 0.5], "means: computes NaN or infinity for 1 of 1 pictures, the first of them a.png"),
    ],
)
def test_what_are_no_probabilities_is_refused(says: list[float], error: str) -> None:
    with pytest.raises(InputError, match=error):
        classify(["a.png"], shaded, [subject(lambda images: np.tile(np.array(says, np.float32), (len(images), 1)))])


def test_what_ends_a_pass_ends_it() -> None:
    def full(index: int, size: tuple[float, float] | None) -> Image.Image:
        raise InputError("too many are corrupt")

    with pytest.raises(InputError, match="too many"):
        classify(range(100), full, [subject(Means())])


@given(count=st.integers(0, 30), ahead=st.integers(1, 40), length=st.integers(1, 40))
def test_results_come_in_order_and_not_too_early(count: int, ahead: int, length: int) -> None:
    started, lock = [0], threading.Lock()

    def work(item: int) -> int:
        with lock:
            started[0] += 1
        return 2 * item

    with ThreadPoolExecutor(4) as threads:
        taken = 0
        for batch in batched(mapped_ahead(threads, work, range(count), ahead), length):
            assert batch == [2 * item for item in range(taken, taken + len(batch))]
            taken += len(batch)
            assert started[0] <= taken + ahead
    assert taken == count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inception_resnet_keras.data.pictures import Pictures
from inception_resnet_keras.training.batches import Batches, shifted
from inception_resnet_keras.training.loop import batch_norm_momentum_for


def numbered(count: int) -> Pictures:
    """Pictures that are told apart by the value of their first channel."""
    images = np.zeros((count, 6, 6, 3), np.uint8)
    images[..., 0] = np.arange(count).reshape(-1, 1, 1)
    return Pictures([str(n) for n in range(count)], np.arange(count) % 3, images, ["a", "b", "c"])


def epoch(batches: Batches) -> list[int]:
    """The pictures of an epoch, in the order that they come in."""
    seen = []
    for index in range(len(batches)):
        pixels, labels = batches[index]
        numbers = pixels[:, 0, 0, 0].astype(int)
        assert pixels.dtype == np.float32
        assert (labels == numbers % 3).all()
        seen += numbers.tolist()
    return seen


@given(count=st.integers(1, 40), size=st.integers(1, 12), seed=st.integers(0, 9))
def test_an_epoch_is_every_picture_once(count: int, size: int, seed: int) -> None:
    shuffled = Batches(numbered(count), size, seed=seed, shift=0.1)
    first = epoch(shuffled)
    assert sorted(first) == list(range(count))
    shuffled.on_epoch_end()
    second = epoch(shuffled)
    assert sorted(second) == list(range(count))
    assert epoch(Batches(numbered(count), size, seed=seed, epoch=1)) == second
    assert epoch(Batches(numbered(count), size)) == list(range(count))


def test_shifts_come_again_with_the_seed_and_change_with_the_epoch() -> None:
    pictures = Pictures(["a"] * 8, np.zeros(8, int), np.random.default_rng(0).integers(0, 256, (8, 20, 20, 3)), ["a"])
    same, again, later = (Batches(pictures, 8, seed=3, shift=0.2, epoch=number) for number in (0, 0, 1))
    assert np.array_equal(same[0][0], again[0][0])
    assert not np.array_equal(np.sort(same[0][0], axis=None), np.sort(later[0][0], axis=None))


@given(share=st.floats(0, 0.49), seed=st.integers(0, 99))
def test_a_shift_moves_the_whole_picture_and_repeats_its_edge(share: float, seed: int) -> None:
    image = np.arange(10 * 14, dtype=np.float32).reshape(1, 10, 14, 1)
    moved = shifted(image, share, np.random.default_rng(seed))
    assert moved.shape == image.shape
    rows, columns = (moved[0, :, 0, 0] // 14).astype(int), (moved[0, 0, :, 0] % 14).astype(int)
    for found, side in ((rows, 10), (columns, 14)):
        most = round(share * side)
        assert np.abs(found - np.arange(side)).max() <= most
        assert set(np.diff(found)) <= {0, 1}


def test_a_short_runs_statistics_settle_and_a_long_runs_are_the_papers() -> None:
    assert batch_norm_momentum_for(200) == pytest.approx(0.9)
    assert batch_norm_momentum_for(1) == batch_norm_momentum_for(30) == 0.8
    assert batch_norm_momentum_for(10**7) == 0.9997

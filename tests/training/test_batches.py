from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inception_resnet_keras.data.pictures import Pictures
from inception_resnet_keras.training.batches import Batch, batches_an_epoch, epoch_batches, moves, shifted
from inception_resnet_keras.training.loop import batch_norm_hint, batch_norm_momentum_for


def numbered(count: int) -> Pictures:
    """Pictures that are told apart by the value of their first channel."""
    images = np.zeros((count, 6, 6, 3), np.uint8)
    images[..., 0] = np.arange(count).reshape(-1, 1, 1)
    return Pictures([str(n) for n in range(count)], np.arange(count) % 3, images, ["a", "b", "c"])


def noise(count: int) -> Pictures:
    images = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3), np.uint8)
    return Pictures(["a"] * count, np.arange(count) % 3, images, ["a", "b", "c"])


def seen(batches: Iterable[Batch]) -> list[int]:
    """The pictures of an epoch, in the order that they come in."""
    found = []
    for pixels, labels in batches:
        numbers = pixels[:, 0, 0, 0].astype(int)
        assert pixels.dtype == np.float32
        assert (labels == numbers % 3).all()
        found += numbers.tolist()
    return found


@given(count=st.integers(1, 40), size=st.integers(1, 12), seed=st.integers(0, 9))
def test_an_epoch_is_every_picture_once(count: int, size: int, seed: int) -> None:
    first, second, again = (
        seen(epoch_batches(numbered(count), size, seed=seed, shift=0.1, epoch=epoch)) for epoch in (0, 1, 1)
    )
    assert sorted(first) == sorted(second) == list(range(count))
    assert second == again
    assert seen(epoch_batches(numbered(count), size)) == list(range(count))


@given(count=st.integers(1, 40), size=st.integers(1, 12), start=st.integers(0, 5), shards=st.integers(1, 4))
def test_a_batch_is_the_same_wherever_the_epoch_is_taken_up_and_however_it_is_shared(
    count: int, size: int, start: int, shards: int
) -> None:
    options: dict[str, Any] = {"seed": 3, "shift": 0.2, "epoch": 2}
    whole = list(epoch_batches(noise(count), size, **options))[start:]
    parts = [epoch_batches(noise(count), size, **options, start=start, shard=(part, shards)) for part in range(shards)]
    shared = list(zip(*parts, strict=True))
    assert len(whole) == len(shared)
    for (pixels, labels), of_parts in zip(whole, shared, strict=True):
        assert np.array_equal(np.concatenate([part for part, _ in of_parts]), pixels)
        assert np.array_equal(np.concatenate([part for _, part in of_parts]), labels)


def test_a_last_batch_too_small_for_every_replica_is_left_out() -> None:
    assert [batches_an_epoch(9, 4, replicas) for replicas in (1, 2)] == [3, 2]
    assert [batches_an_epoch(8, 4, replicas) for replicas in (1, 2)] == [2, 2]
    assert batches_an_epoch(1, 4, 2) == 0


def test_shifts_come_again_with_the_seed_and_change_with_the_epoch() -> None:
    same, again, later = (next(epoch_batches(noise(8), 8, seed=3, shift=0.2, epoch=epoch))[0] for epoch in (0, 0, 1))
    assert np.array_equal(same, again)
    assert not np.array_equal(np.sort(same, axis=None), np.sort(later, axis=None))


@given(share=st.floats(0, 0.49), seed=st.integers(0, 99))
def test_a_shift_moves_the_whole_picture_and_repeats_its_edge(share: float, seed: int) -> None:
    image = np.arange(10 * 14, dtype=np.float32).reshape(1, 10, 14, 1)
    moved = shifted(image, moves(share, (10, 14), 1, np.random.default_rng(seed)))
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


def test_a_momentum_too_slow_for_the_run_is_told_with_one_that_suits() -> None:
    hint = batch_norm_hint(0.9997, 200)
    assert "0.9997" in hint
    assert "give 0.9," in hint
    for steps in (10, 200, 10**5):
        assert not batch_norm_hint(batch_norm_momentum_for(steps), steps)

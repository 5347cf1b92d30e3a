"""Dynamic batching, on functions in place of networks: what is run together, what waits, and what is bounded."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack

import numpy as np
import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.crops import View
from inception_resnet_keras.deploy.batching import Batcher, NotReadyError, QueueFullError
from inception_resnet_keras.models.open import OpenedModel, Run

SIDE = 2
Start = Callable[..., Batcher]


def means(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2, 3), dtype=np.float64)[:, None].astype(np.float32)


class Gate:
    """A model that waits before each batch until it is let through, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[np.ndarray] = []
        self.entered, self.through = threading.Semaphore(0), threading.Semaphore(0)
        self.warm = False

    def __call__(self, images: np.ndarray) -> np.ndarray:
        if self.warm:
            self.entered.release()
            assert self.through.acquire(timeout=20)
            self.batches.append(images)
        return means(images)


def opened(run: Run) -> OpenedModel:
    return OpenedModel("a model", "", None, False, 1, View((SIDE, SIDE)), run)


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(run, **options)` is a warm batcher, which is closed after the test."""
    with ExitStack() as stack:

        def started(run: Run, **options: object) -> Batcher:
            batcher = Batcher(lambda: opened(run), **options)  # type: ignore[arg-type]
            batcher.start()
            assert batcher.settled.wait(20)
            stack.callback(batcher.close)
            if isinstance(run, Gate):
                run.warm = True
                stack.callback(lambda: run.through.release(1000))  # before it is closed, which waits for batches
            return batcher

        yield started


def picture(value: float) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), value, np.float32)


def values(futures: Sequence[Future[np.ndarray]]) -> list[float]:
    return [float(future.result(20)[0]) for future in futures]


def test_each_picture_gets_its_own_result_from_batches_that_are_full(start: Start) -> None:
    gate, seen = Gate(), []
    batcher = start(gate, max_batch=4, observe=lambda *told: seen.append(told))
    with batcher.reserve(10):
        first = batcher.submit(picture(0))
        assert gate.entered.acquire(timeout=20)  # the model is busy: the others gather
        rest = [batcher.submit(picture(value)) for value in range(1, 10)]
        gate.through.release(4)
        assert values([first, *rest]) == list(range(10))
    assert [len(batch) for batch in gate.batches][:3] == [1, 4, 4]
    assert sum(pictures for pictures, _, _ in seen) == 10
    assert all(0 < pictures <= length and seconds >= 0 for pictures, length, seconds in seen)


def test_a_shorter_batch_is_filled_up_to_a_length_that_was_warmed_up(start: Start) -> None:
    lengths: list[int] = []

    def run(images: np.ndarray) -> np.ndarray:
        lengths.append(len(images))
        return means(images)

    batcher = start(run, max_batch=8, lengths=(1, 4, 8), max_wait=5)
    assert lengths == [1, 4, 8]
    with batcher.reserve(9):
        futures = [batcher.submit(picture(value)) for value in range(3)]
        more = [batcher.submit(picture(value)) for value in range(3, 9)]
        batcher.close()  # what waits is computed, and nothing else is waited for
        assert values([*futures, *more]) == list(range(9))
    assert set(lengths[3:]) <= {1, 4, 8}


def test_a_picture_waits_for_company_only_where_there_is_some(start: Start) -> None:
    batcher = start(means, max_batch=2, max_wait=30)
    begun = time.monotonic()
    with batcher.reserve(1):
        assert values([batcher.submit(picture(1))]) == [1]  # alone: at once
    with batcher.reserve(2):  # another one is being decoded
        first = batcher.submit(picture(1))
        time.sleep(0.05)
        assert not first.done()
        assert values([first, batcher.submit(picture(2))]) == [1, 2]
    assert time.monotonic() - begun < 20
    brief = start(means, max_batch=2, max_wait=0.01)
    with brief.reserve(2):  # the other one never comes
        assert values([brief.submit(picture(3))]) == [3]


def test_places_bound_what_is_in_progress_and_are_given_back(start: Start) -> None:
    batcher = start(means, max_batch=2, places=3)
    with batcher.reserve(2):
        with pytest.raises(QueueFullError, match="2 pictures are in progress, of at most 3"), batcher.reserve(2):
            pass
        with batcher.reserve(1):
            assert batcher.in_progress == 3
    with pytest.raises(RuntimeError, match="on purpose"), batcher.reserve(3):
        raise RuntimeError("on purpose")
    assert batcher.in_progress == 0


def test_a_picture_that_nobody_waits_for_is_not_computed(start: Start) -> None:
    gate = Gate()
    batcher = start(gate, max_batch=4)
    with batcher.reserve(3):
        busy = batcher.submit(picture(0))
        assert gate.entered.acquire(timeout=20)
        given_up, kept = batcher.submit(picture(1)), batcher.submit(picture(2))
        assert given_up.cancel()
        gate.through.release(2)
        assert values([busy, kept]) == [0, 2]
    assert [batch[:, 0, 0, 0].tolist() for batch in gate.batches] == [[0], [2]]


def test_a_picture_that_breaks_a_batch_breaks_itself_alone(start: Start) -> None:
    def run(images: np.ndarray) -> np.ndarray:
        if (images == 13).any():
            raise RuntimeError("unlucky")
        return np.where(means(images) == 7, np.nan, means(images))

    batcher = start(run, max_batch=4, max_wait=5)
    with batcher.reserve(4):
        futures = [batcher.submit(picture(value)) for value in (1, 13, 7, 2)]
        assert values([futures[0], futures[3]]) == [1, 2]
        with pytest.raises(RuntimeError, match="unlucky"):
            futures[1].result(20)
        with pytest.raises(InputError, match="a model: computes NaN or infinity"):
            futures[2].result(20)
    with batcher.reserve(1):
        assert values([batcher.submit(picture(3))]) == [3]


def test_pictures_are_taken_only_while_the_model_is_warm_and_the_batcher_open() -> None:
    go = threading.Event()

    def open_late() -> OpenedModel:
        assert go.wait(20)
        return opened(means)

    batcher = Batcher(open_late)
    batcher.start()
    with pytest.raises(NotReadyError), batcher.reserve(1):
        pass
    go.set()
    assert batcher.settled.wait(20)
    assert batcher.ready
    with batcher.reserve(1):
        batcher.close()
        with pytest.raises(NotReadyError):
            batcher.submit(picture(1))
    assert not batcher.ready


def test_a_model_that_cannot_be_opened_is_told_of_and_ends_the_thread() -> None:
    def refuse() -> OpenedModel:
        raise InputError("model: is damaged")

    batcher = Batcher(refuse)
    batcher.start()
    assert batcher.settled.wait(20)
    assert str(batcher.error) == "model: is damaged"
    assert not batcher.ready
    batcher.close()


def test_a_model_that_is_still_being_opened_is_not_waited_for() -> None:
    go = threading.Event()

    def open_late() -> OpenedModel:
        go.wait(20)
        return opened(means)

    batcher = Batcher(open_late)
    batcher.start()
    begun = time.monotonic()
    batcher.close()
    assert time.monotonic() - begun < 5
    go.set()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch": 0}, "max_batch: got 0"),
        ({"max_wait": -1}, "max_wait: got -1"),
        ({"max_wait": 60}, "max_wait: got 60"),
        ({"places": 7}, "places: got 7; it takes at least max_batch=8"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Batcher(lambda: opened(means), **options)  # type: ignore[arg-type]

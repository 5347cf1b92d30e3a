"""Dynamic batching: the pictures of many requests go through one model together.

One thread owns the model: it opens it, warms it up and runs it, so that no engine is entered by two threads at once.
Whoever has pictures first reserves places for them, decodes them meanwhile, and submits them one by one. The number of
places is the bound on everything that is decoded, waits or is computed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from ..common.arguments import number_between, positive_integer
from ..common.errors import InputError
from ..models.open import OpenedModel, require_finite

MOST_WAIT = 60.0  # seconds: a batch that is not full by then never will be
Observer = Callable[[int, int, float], None]


class QueueFullError(Exception):
    """Raised where more pictures are in progress than the batcher has places for."""


class NotReadyError(Exception):
    """Raised before the model is warm, and after the batcher was closed."""


@dataclass
class _Picture:
    pixels: np.ndarray
    future: Future[np.ndarray] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


class Batcher:
    """A model in a thread of its own, which takes single pictures and runs them in batches.

    A batch is run when it is full, or when its first picture has waited for `max_wait`. A picture that is alone does
    not wait: if the last batch was a single picture and no other one is in progress, it is run at once.

    Args:
        open: Opens the model; called in the thread.
        max_batch: The largest batch, at least 1.
        max_wait: Seconds that a picture waits for others, in [0, 60).
        places: How many pictures may be in progress, at least `max_batch`: being decoded, waiting or computed.
        lengths: The lengths of the batches that the model is run with, ascending, the last one `max_batch`; a shorter
            batch is filled up with black pictures. None for every length. The warm-up runs each of them.
        observe: Called in the thread after each batch, with the pictures in it, its length and its seconds.

    Attributes:
        model: The opened model; None until it is warm.
        error: Why the model could not be opened or warmed up; None where nothing went wrong.
        settled: Set once the model is warm, or `error` is known.
    """

    def __init__(
        self,
        open: Callable[[], OpenedModel],
        *,
        max_batch: int = 8,
        max_wait: float = 0.005,
        places: int = 128,
        lengths: Sequence[int] | None = None,
        observe: Observer = lambda pictures, length, seconds: None,
    ) -> None:
        self.max_batch = positive_integer("max_batch", max_batch)
        self.max_wait = number_between("max_wait", max_wait, 0, MOST_WAIT, f"seconds in [0, {MOST_WAIT:g})")
        self.places = positive_integer("places", places)
        if self.places < self.max_batch:
            raise InputError(f"places: got {places}, fewer than max_batch={max_batch}; a batch would never be full")
        self.lengths = list(range(1, self.max_batch + 1)) if lengths is None else list(lengths)
        assert self.lengths == sorted(set(self.lengths))
        assert self.lengths[-1] == self.max_batch
        self.model: OpenedModel | None = None
        self.error: Exception | None = None
        self.settled = threading.Event()
        self._open, self._observe = open, observe
        self._changed = threading.Condition()
        self._waiting: deque[_Picture] = deque()
        self._reserved = 0
        self._closing = False
        self._last_length = 1
        # A daemon: an engine that compiles for minutes does not keep a process from ending.
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)

    def start(self) -> None:
        """Begin to open the model; returns at once."""
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether pictures are taken."""
        return self.model is not None and not self._closing

    @property
    def in_progress(self) -> int:
        """The number of places that are taken."""
        return self._reserved

    @contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """Hold places for `count` pictures within the block.

        Raises:
            QueueFullError: There are not so many free places.
            NotReadyError: The model is not warm yet, or the batcher is closed.
        """
        with self._changed:
            if not self.ready:
                raise NotReadyError("the model is not ready")
            if self._reserved + count > self.places:
                raise QueueFullError(f"{self._reserved} pictures are in progress, at most {self.places} may be")
            self._reserved += count
        try:
            yield
        finally:
            with self._changed:
                self._reserved -= count
                self._changed.notify()  # who waits for company may wait for nobody now

    def submit(self, pixels: np.ndarray) -> Future[np.ndarray]:
        """Hand in one picture, of a reserved place.

        Args:
            pixels: (height, width, 3) of the model's size, RGB of 0-255 of any real dtype.

        Returns:
            The future of what the model gives for it, float32 (outputs,). It holds an InputError if that is NaN or
            infinite, and any other exception that the model's library raises for this picture alone.

        Raises:
            NotReadyError: The batcher was closed.
        """
        picture = _Picture(pixels)
        with self._changed:
            if not self.ready:
                raise NotReadyError("the model is not ready")
            self._waiting.append(picture)
            self._changed.notify()
        return picture.future

    def close(self, timeout: float | None = None) -> None:
        """Take no more pictures, compute those that wait, and end the thread.

        timeout: Seconds to wait for that; None for as long as it takes. A model that is still being opened is not
            waited for.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self.settled.is_set():
            self._thread.join(timeout)

    # In the thread

    def _work(self) -> None:
        try:
            model = self._open()
            for length in self.lengths:
                if self._closing:
                    return
                model.run(np.zeros((length, *model.view.size, 3), np.float32))
            self.model = model
        except Exception as error:  # told by whoever started us
            self.error = error
            return
        finally:
            self.settled.set()
        while batch := self._next_batch():
            self._compute(model, batch)

    def _next_batch(self) -> list[_Picture]:
        """The pictures to compute next; none once the batcher is closed and nothing waits."""
        batch: list[_Picture] = []
        with self._changed:
            while not batch:
                while not self._waiting:
                    if self._closing:
                        return []
                    self._changed.wait()
                ends = self._waiting[0].arrived + self.max_wait
                while len(self._waiting) < self.max_batch and self._has_company():
                    left = ends - time.monotonic()
                    if left <= 0:
                        break
                    self._changed.wait(left)
                while self._waiting and len(batch) < self.max_batch:
                    picture = self._waiting.popleft()
                    if picture.future.set_running_or_notify_cancel():  # else nobody waits for it any more
                        batch.append(picture)
            self._last_length = len(batch)
        return batch

    def _has_company(self) -> bool:
        """Whether more pictures are likely to come soon."""
        return not self._closing and (self._last_length > 1 or self._reserved > len(self._waiting))

    def _compute(self, model: OpenedModel, batch: list[_Picture]) -> None:
        try:
            outputs = self._run(model, batch)
        except Exception as error:
            if len(batch) > 1:  # one picture, or too little memory for so many: the others do not suffer from it
                for picture in batch:
                    self._compute(model, [picture])
            else:
                batch[0].future.set_exception(error)
            return
        for picture, output in zip(batch, outputs, strict=True):
            try:
                require_finite(model.name, output[None], ["the picture"])
            except InputError as error:
                picture.future.set_exception(error)
            else:
                picture.future.set_result(output)

    def _run(self, model: OpenedModel, batch: list[_Picture]) -> np.ndarray:
        """float32 (pictures, outputs)."""
        length = next(each for each in self.lengths if each >= len(batch))
        started = time.perf_counter()
        images = np.zeros((length, *model.view.size, 3), np.float32)
        for place, picture in enumerate(batch):
            images[place] = picture.pixels
        outputs = model.run(images)[: len(batch)]
        self._observe(len(batch), length, time.perf_counter() - started)
        return outputs

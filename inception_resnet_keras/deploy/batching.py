"""Dynamic batching: the images of many requests go through one model together.

One thread owns the model: it opens it, warms it up and runs it, so that no two threads use an engine at once. Callers
first reserve places for their images, then decode them, and submit them one by one. The number of places bounds the
images that are being decoded, waiting or being computed.
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

MOST_WAIT = 60.0  # upper bound of `max_wait`, in seconds
Observer = Callable[[int, int, float], None]


class QueueFullError(Exception):
    """Raised if more images are in progress than the batcher has places for."""


class NotReadyError(Exception):
    """Raised before the model is warm, and after the batcher was closed."""


@dataclass
class _Picture:
    pixels: np.ndarray
    future: Future[np.ndarray] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


class Batcher:
    """A model in its own thread, which takes single images and runs them in batches.

    A batch is run when it is full, or when its first image has waited for `max_wait`. A lone image does not wait: if
    the last batch was a single image and no other one is in progress, it is run at once.

    Args:
        open: A function that opens the model; called in the thread.
        max_batch: The maximum batch size, at least 1.
        max_wait: The time that an image waits for others, in seconds, in [0, 60).
        places: The maximum number of images in progress (being decoded, waiting or being computed), at least
            `max_batch`.
        lengths: The batch sizes that the model is run with, ascending and ending in `max_batch`; a smaller batch is
            padded with black images. None allows every size. The warm-up runs each of them.
        observe: Called in the thread after each batch as `observe(pictures, length, seconds)`, with the number of
            images, the batch size and the duration.

    Attributes:
        model: The opened model; None until it is warm.
        error: The reason why the model could not be opened or warmed up; None if it could.
        settled: An event that is set once the model is warm or has failed.
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
            raise InputError(
                f"places: got {places}; it takes at least max_batch={max_batch}, or no batch would be full"
            )
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
        # A daemon, so that an engine that compiles for minutes does not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)

    def start(self) -> None:
        """Start to open the model, and return at once."""
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether images are accepted."""
        return self.model is not None and not self._closing

    @property
    def in_progress(self) -> int:
        """The number of places in use."""
        return self._reserved

    @contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """Reserve places for `count` images within the block.

        Raises:
            QueueFullError: Too few places are free.
            NotReadyError: The model is not warm yet, or the batcher is closed.
        """
        with self._changed:
            if not self.ready:
                raise NotReadyError("the model is not ready")
            if self._reserved + count > self.places:
                raise QueueFullError(f"{self._reserved} pictures are in progress, of at most {self.places}")
            self._reserved += count
        try:
            yield
        finally:
            with self._changed:
                self._reserved -= count
                self._changed.notify()  # a batch may be waiting for these images

    def submit(self, pixels: np.ndarray) -> Future[np.ndarray]:
        """Submit one image, for which a place is reserved.

        Args:
            pixels: (height, width, 3) in the model's size, RGB of 0-255 of any real dtype.

        Returns:
            A future of the model's output, float32 (outputs,). It raises InputError if the output has NaN or infinity,
            and any other exception that the model's library raises for this image alone.

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
        """Accept no more images, compute the waiting ones, and end the thread.

        timeout: The maximum time to wait for the thread, in seconds; None for no limit. If the model is still being
            opened, return at once.
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
        except Exception as error:  # reported by the caller that started this thread
            self.error = error
            return
        finally:
            self.settled.set()
        while batch := self._next_batch():
            self._compute(model, batch)

    def _next_batch(self) -> list[_Picture]:
        """The images to compute next; empty once the batcher is closed and no image waits."""
        batch: list[_Picture] = []
        with self._changed:
            while not batch:
                while not self._waiting:
                    if self._closing:
                        return []
                    self._changed.wait()
                # Wait for company, at most until the first image has waited for `max_wait`.
                ends = self._waiting[0].arrived + self.max_wait
                while len(self._waiting) < self.max_batch and self._has_company():
                    left = ends - time.monotonic()
                    if left <= 0:
                        break
                    self._changed.wait(left)
                while self._waiting and len(batch) < self.max_batch:
                    picture = self._waiting.popleft()
                    if picture.future.set_running_or_notify_cancel():  # False if its caller has cancelled it
                        batch.append(picture)
            self._last_length = len(batch)
        return batch

    def _has_company(self) -> bool:
        """Whether more images are likely to arrive soon."""
        return not self._closing and (self._last_length > 1 or self._reserved > len(self._waiting))

    def _compute(self, model: OpenedModel, batch: list[_Picture]) -> None:
        try:
            outputs = self._run(model, batch)
        except Exception as error:
            if len(batch) > 1:  # one image may be the cause, or too little memory: compute each image alone
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
        """The outputs of the images, float32 (pictures, outputs)."""
        length = next(each for each in self.lengths if each >= len(batch))
        started = time.perf_counter()
        images = np.zeros((length, *model.view.size, 3), np.float32)
        for place, picture in enumerate(batch):
            images[place] = picture.pixels
        outputs = model.run(images)[: len(batch)]
        self._observe(len(batch), length, time.perf_counter() - started)
        return outputs

"""Progress display of a run, as a live bar or plain lines, and stop requests by Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..common.bars import PLAIN_LINE_EVERY
from ..common.console import say
from ..evaluation.report import HELD_OUT_FIGURES

if TYPE_CHECKING:
    from .session import Position


class _ImagesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f} images/s" if speed else "– images/s")


class TrainingProgress:
    """Displays the steps of a run as a bar with images/s, data wait and time left, and a permanent line per epoch.

    Args:
        console: The console.
        epochs: Number of epochs.
        images: Pictures per epoch.
        steps: Steps per epoch.
        done: Number of pictures, over all epochs, on which a resumed run is already trained.
    """

    def __init__(self, console: Console, *, epochs: int, images: int, steps: int, done: int = 0) -> None:
        self.console, self.epochs, self.steps = console, epochs, steps
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            _ImagesPerSecond(),
            TextColumn("data wait {task.fields[wait]:.0%}"),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeRemainingColumn(),
        )
        self._live = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        total = epochs * images
        self._task = self._live.add_task("", total=total, completed=done, loss=float("nan"), wait=0.0)
        self._epoch, self._waited, self._elapsed = -1, 0.0, 0.0
        self._last_line = time.monotonic()

    def __enter__(self) -> TrainingProgress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def step(self, position: Position, images: int, loss: float, waited: float, seconds: float) -> None:
        """Display a finished step.

        Args:
            position: The run's position after the step.
            images: Number of pictures of the step.
            loss: Loss of the step.
            waited: Seconds of waiting for data.
            seconds: Duration of the step in seconds, including this wait.
        """
        if position.epoch != self._epoch:
            self._epoch, self._waited, self._elapsed = position.epoch, 0.0, 0.0
        self._waited += waited
        self._elapsed += seconds
        description = f"epoch {position.epoch + 1}/{self.epochs}  step {position.batch:,}/{self.steps:,}"
        wait = self._waited / max(self._elapsed, 1e-9)
        self._live.update(self._task, description=description, advance=images, loss=loss, wait=wait)
        task = self._live.tasks[0]
        left = f"{task.time_remaining:.0f} s left" if task.time_remaining is not None else "time left unknown"
        self._plain_line(
            f"{description}  loss {loss:.3f}  {task.speed or 0:.1f} images/s  data wait {wait:.0%}  {left}"
        )

    @contextmanager
    def evaluating(self, images: int, part: str = "val") -> Iterator[Callable[[int], None]]:
        """Display an evaluation of `images` pictures; yields a function to call with each batch's size."""
        pictures = "held-out pictures" if part == "val" else f"{part} pictures"
        epoch = self._live.tasks[0].description
        done = 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            description = f"{pictures} {done:,}/{images:,}"
            self._live.update(self._task, description=description)
            self._plain_line(description)

        self._live.update(self._task, description=f"{pictures} 0/{images:,}", refresh=True)
        try:
            yield advance
        finally:
            self._live.update(self._task, description=epoch)

    def _plain_line(self, text: str) -> None:
        """Print a line if there is no terminal and some time has passed since the last line."""
        now = time.monotonic()
        if not self.console.is_terminal and now - self._last_line > PLAIN_LINE_EVERY:
            self._last_line = now
            say(self.console, text)

    def epoch_end(self, epoch: int, row: dict[str, float]) -> None:
        more = "".join(f"{name} {row[column]:.2%}  " for column, name in HELD_OUT_FIGURES.items() if column in row)
        say(
            self.console,
            f"epoch {epoch + 1}/{self.epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.2%}  "
            f"held-out loss {row['val_loss']:.4f}  held-out accuracy {row['val_accuracy']:.2%}  {more}"
            f"{row['images_per_second']:.1f} images/s  {row['seconds']:.0f} s",
        )


class InterruptedRun(Exception):  # noqa: N818 - not an error: the user asked for it
    """Raised after the step in which Ctrl-C was pressed or SIGTERM was received."""


@contextmanager
def stop_requests(console: Console) -> Iterator[Callable[[], bool]]:
    """Catch Ctrl-C and SIGTERM; yields a function that returns whether one was received.

    A second signal interrupts immediately.
    """
    requested = threading.Event()

    def handle(*_: object) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()
        console.print("stopping after this step; Ctrl-C again stops at once, back at the last checkpoint")

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield requested.is_set
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""What a person sees of a run: one live line, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..common.console import say

if TYPE_CHECKING:
    from .session import Position

PLAIN_LINE_EVERY = 30.0  # seconds, where there is no terminal


class _ImagesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f} images/s" if speed else "– images/s")


@contextmanager
def reading(console: Console) -> Iterator[Progress]:
    """A bar for pictures being read; tells nothing where there is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield progress


class TrainingProgress:
    """Steps of a run as a bar with images/s, data wait and time left; an epoch's end as a line that stays.

    images, steps: of an epoch. done: how many pictures were trained on before, by a run that is gone on with.
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
        self._epoch, self._waited, self._stepped = -1, 0.0, 0.0
        self._said = time.monotonic()

    def __enter__(self) -> TrainingProgress:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def step(self, position: Position, images: int, loss: float, waited: float, seconds: float) -> None:
        """One step ended, and its place is counted: its pictures, loss, and of its seconds those waited for data."""
        if position.epoch != self._epoch:
            self._epoch, self._waited, self._stepped = position.epoch, 0.0, 0.0
        self._waited += waited
        self._stepped += seconds
        description = f"epoch {position.epoch + 1}/{self.epochs}  step {position.batch:,}/{self.steps:,}"
        wait = self._waited / max(self._stepped, 1e-9)
        self._live.update(self._task, description=description, advance=images, loss=loss, wait=wait)
        task = self._live.tasks[0]
        left = f"{task.time_remaining:.0f} s left" if task.time_remaining is not None else "time left unknown"
        self._say_now_and_then(
            f"{description}  loss {loss:.3f}  {task.speed or 0:.1f} images/s  data wait {wait:.0%}  {left}"
        )

    @contextmanager
    def evaluating(self, images: int) -> Iterator[Callable[[int], None]]:
        """Shows how far the evaluation of so many held-out pictures is; yields what tells it of more of them."""
        epoch = self._live.tasks[0].description
        done = 0

        def evaluated(more: int) -> None:
            nonlocal done
            done += more
            told = f"held-out pictures {done:,}/{images:,}"
            self._live.update(self._task, description=told)
            self._say_now_and_then(told)

        self._live.update(self._task, description=f"held-out pictures 0/{images:,}", refresh=True)
        try:
            yield evaluated
        finally:
            self._live.update(self._task, description=epoch)

    def _say_now_and_then(self, text: str) -> None:
        now = time.monotonic()
        if not self.console.is_terminal and now - self._said > PLAIN_LINE_EVERY:
            self._said = now
            say(self.console, text)

    def epoch_end(self, epoch: int, row: dict[str, float]) -> None:
        say(
            self.console,
            f"epoch {epoch + 1}/{self.epochs}  loss {row['loss']:.4f}  accuracy {row['accuracy']:.2%}  "
            f"held-out loss {row['val_loss']:.4f}  held-out accuracy {row['val_accuracy']:.2%}  "
            f"{row['images_per_second']:.1f} images/s  {row['seconds']:.0f} s",
        )

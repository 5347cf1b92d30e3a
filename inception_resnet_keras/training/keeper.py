"""The callback that keeps a run: progress, history and model, epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras

from ..errors import InputError
from ..saving import Card, save_model
from .interruption import InterruptedRun
from .progress import TrainingProgress
from .run import RunFolder


class Keeper(keras.callbacks.Callback):
    """Tells progress, keeps history and model at each epoch's end, and stops between two steps.

    history: a row of figures for each epoch that ended; rows are added.
    stop_asked: whether to stop, asked after each step; InterruptedRun is raised then.
    """

    def __init__(
        self,
        run: RunFolder,
        card: Card,
        history: list[dict[str, float]],
        *,
        progress: TrainingProgress,
        stop_asked: Callable[[], bool],
        batch_size: int,
        images: int,
    ) -> None:
        super().__init__()
        self.run, self.card, self.history, self.progress = run, card, history, progress
        self.stop_asked, self.batch_size, self.images = stop_asked, batch_size, images

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch, self.started = epoch, time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.trained_in = time.monotonic() - self.started
        done = min(self.batch_size, self.images - batch * self.batch_size)
        self.progress.step(self.epoch, done, float(logs["loss"]))
        self._stop_if_asked()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self._stop_if_asked()

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        self._stop_if_asked()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        row: dict[str, float] = {"epoch": epoch + 1, **{key: float(value) for key, value in (logs or {}).items()}}
        row["seconds"] = round(time.monotonic() - self.started, 2)
        row["images_per_second"] = round(self.images / self.trained_in, 2)
        save(self.model, self.run, self.card)
        self.history.append(row)
        self.run.write_history(self.history)
        self.progress.epoch_end(epoch, row)

    def _stop_if_asked(self) -> None:
        if self.stop_asked():
            raise InterruptedRun


def save(model: keras.Model, run: RunFolder, card: Card) -> None:
    """Saves a run's model; InputError says what is kept where the disk refuses it."""
    try:
        save_model(model, run.model, card)
    except OSError as error:
        kept = f"the one before is whole in {run.model}" if run.model.exists() else "none was saved before"
        raise InputError(
            f"{run.path}: the model could not be saved ({error.strerror or error}); {kept}. "
            f"Free some space, then go on: inception-resnet-keras train --resume {run.path}"
        ) from error

"""The loop over epochs and batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import islice

import numpy as np

from ..data.pictures import Pictures
from ..errors import InputError
from .batches import epoch_batches
from .diagnosis import diagnose
from .distribution import worker
from .interruption import InterruptedRun
from .keeper import Keeper
from .phases import phases
from .progress import TrainingProgress
from .room import in_memory
from .session import Session
from .step import StepFigures

LEAST_PROBABILITY = 1e-7  # as Keras's own cross entropy has it


class Runner:
    """Trains a session to its last epoch, from wherever it stands."""

    def __init__(
        self,
        session: Session,
        keeper: Keeper,
        training: Pictures,
        held_out: Pictures,
        *,
        progress: TrainingProgress,
        stop_asked: Callable[[], bool],
    ) -> None:
        self.session, self.keeper, self.progress, self.stop_asked = session, keeper, progress, stop_asked
        self.training, self.held_out = training, held_out
        self.shard = worker(session.strategy)

    def run(self) -> np.ndarray:
        """Trains what is left; the held-out pictures' probabilities under the finished model.

        Raises InterruptedRun after the step in which any worker asked to stop.
        """
        session, position = self.session, self.session.position
        probabilities = None
        while position.epoch < session.config.epochs:
            phase = next(phase for phase in phases(session.config) if phase.first <= position.epoch < phase.last)
            if phase != session.phase:
                session.enter(phase)
            self._train_epoch()
            probabilities = self._end_epoch()
        return self._evaluate() if probabilities is None else probabilities

    def _train_epoch(self) -> None:
        config, position = self.session.config, self.session.position
        batches = epoch_batches(
            self.training,
            config.batch_size,
            seed=config.seed,
            shift=config.shift,
            epoch=position.epoch,
            start=position.batch,
            shard=self.shard,
        )
        started = before = time.monotonic()
        self._seconds = (position.seconds, position.training_seconds)
        for images, labels in islice(batches, self.session.steps - position.batch):
            waited = time.monotonic() - before
            with in_memory(self.session, images, labels, self.progress.console):
                figures = self._step(images, labels)
            spent = time.monotonic() - started
            position.seconds, position.training_seconds = (earlier + spent for earlier in self._seconds)
            self.progress.step(position.epoch, int(figures.count), figures.loss, waited, time.monotonic() - before)
            if figures.stop:
                raise InterruptedRun
            before = time.monotonic()
            self.keeper.checkpoint_if_due()

    def _step(self, images: np.ndarray, labels: np.ndarray) -> StepFigures:
        session, position = self.session, self.session.position
        figures, gradients = session.stepper.compute(images, labels, stop=self.stop_asked())
        # mixed_float16 meets infinite gradients as it looks for its scale, and leaves such steps out itself.
        scaled = session.config.precision == "mixed_float16"
        if not math.isfinite(figures.loss) or not (scaled or math.isfinite(figures.gradient)):
            what = "loss" if not math.isfinite(figures.loss) else "gradient"
            raise InputError(
                f"the {what} of epoch {position.epoch + 1}, step {position.batch + 1} is not finite, so it was not "
                f"taken. {diagnose(session.model, images, figures, gradients)}. {self.keeper.advice()}"
            )
        session.stepper.apply(gradients, position.step)
        position.add(figures)
        return figures

    def _end_epoch(self) -> np.ndarray:
        """Evaluates and keeps the epoch; nothing of it counts before its checkpoint is whole."""
        session, position = self.session, self.session.position
        started = time.monotonic()
        self.keeper.require_finite()
        session.stepper.swap_averages()
        try:
            probabilities = self._evaluate()
            row = self._row(probabilities)
            row["seconds"] = round(position.seconds + time.monotonic() - started, 2)
            best = row["val_accuracy"] > position.best
            self.keeper.model(best=best)
        finally:
            session.stepper.swap_averages()
        position.best = max(position.best, row["val_accuracy"])
        position.history.append(row)
        position.end_epoch()
        self.keeper.epoch()
        self.progress.epoch_end(position.epoch - 1, row)
        return probabilities

    def _row(self, probabilities: np.ndarray) -> dict[str, float]:
        position = self.session.position
        loss, correct, count = position.sums
        labels = self.held_out.labels
        of_truth = probabilities[np.arange(len(labels)), labels]
        return {
            "epoch": position.epoch + 1,
            "accuracy": correct / count,
            "loss": loss / count,
            "val_accuracy": float(np.mean(probabilities.argmax(axis=1) == labels)),
            "val_loss": float(-np.log(np.clip(of_truth, LEAST_PROBABILITY, 1)).mean()),
            "seconds": 0.0,
            "images_per_second": round(count / position.training_seconds, 2),
        }

    def _evaluate(self) -> np.ndarray:
        batches = epoch_batches(self.held_out, self.session.config.batch_size)
        found = []
        for each in self.session.stepper.predict(images for images, _ in batches):
            found.append(each)
            if self.stop_asked() and self.shard[1] == 1:  # several workers stop together, after a step
                raise InterruptedRun
        return np.concatenate(found)

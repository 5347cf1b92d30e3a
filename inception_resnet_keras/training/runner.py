"""The loop over epochs and batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import tensorflow as tf

from ..common.console import command, printable, say
from ..common.errors import InputError
from ..data.images import UnreadableImageError
from ..data.labelled import Source
from ..data.pipeline import batches
from .diagnosis import diagnose
from .distribution import worker
from .interruption import InterruptedRun
from .keeper import Keeper
from .phases import phases
from .progress import TrainingProgress
from .room import in_memory
from .session import Position, Session
from .step import StepFigures

LONG_EVALUATION = 30.0  # seconds; a checkpoint is written before one

ABORTED = "Collective ops is aborted"  # as TensorFlow tells of a worker that is no longer there

LEAST_PROBABILITY = 1e-7  # as Keras's own cross entropy has it


class Runner:
    """Trains a session to its last epoch, from wherever it stands."""

    def __init__(
        self,
        session: Session,
        keeper: Keeper,
        training: Source,
        held_out: Source,
        *,
        progress: TrainingProgress,
        stop_asked: Callable[[], bool],
    ) -> None:
        self.session, self.keeper, self.progress, self.stop_asked = session, keeper, progress, stop_asked
        self.training, self.held_out = training, held_out
        self.shard = worker(session.strategy)
        config, position = session.config, session.position
        self._told = set(unreadable(training, held_out))
        self._relist()
        common: dict[str, Any] = {
            "options": config.data_options(),
            "size": (config.size, config.size),
            "batch_size": config.batch_size,
            "seed": config.seed,
        }
        self._evaluated = batches(held_out, training=False, numbered=True, **common)
        self._batches: Iterator[Any] = iter(())
        if position.epoch < config.epochs:
            # One pipeline for all epochs that are left: the next one is read ahead while this one is evaluated.
            made = batches(
                training,
                training=True,
                epoch=position.epoch,
                start=position.batch,
                epochs=config.epochs - position.epoch,
                shard=self.shard,
                drop_remainder=session.steps < math.ceil(len(training) / config.batch_size),
                **common,
            )
            self._batches = self._told_of(made)

    def run(self) -> tuple[Source, np.ndarray]:
        """Trains what is left; the held-out pictures that could be read, and their probabilities at last.

        Raises InterruptedRun after the step, or the batch of held-out pictures, in which any worker asked to stop;
        InputError where another worker is no longer there.
        """
        try:
            return self._run()
        except InterruptedRun:
            self._exchange_unreadable()  # a run that is gone on with does not come by these pictures again
            raise
        except tf.errors.OpError as error:
            if self.shard[1] == 1 or ABORTED not in str(error):
                raise
            begun = self.keeper.run.has_checkpoint()
            again = command("train", "--resume", self.keeper.run.path) if begun else "the same command"
            raise InputError(
                "another worker has ended, and this one cannot go on without it: what that one said tells why. Start "
                f"all of them again with: {again}"
            ) from error

    def _run(self) -> tuple[Source, np.ndarray]:
        session, position = self.session, self.session.position
        found = None
        while position.epoch < session.config.epochs:
            phase = next(phase for phase in phases(session.config) if phase.first <= position.epoch < phase.last)
            if phase != session.phase:
                session.enter(phase)
            self._train_epoch()
            found = self._end_epoch()
        return self._evaluate() if found is None else found

    def _told_of(self, made: tf.data.Dataset) -> Iterator[Any]:
        """Batches of tensors; too many unreadable pictures are the InputError that lists them."""
        every = iter(made)
        while True:
            with ExitStack() as told:
                for corrupt in {self.training.corrupt, self.held_out.corrupt}:
                    told.enter_context(corrupt.told())
                batch = next(every, None)
            if batch is None:
                return
            yield batch

    def _train_epoch(self) -> None:
        position = self.session.position
        started = before = time.monotonic()
        self._seconds = (position.seconds, position.training_seconds)
        while position.batch < self.session.steps:
            images, labels = next(self._batches)
            waited = time.monotonic() - before
            with in_memory(self.session, images, labels, self.progress.console):
                figures = self._step(images, labels)
            spent = time.monotonic() - started
            position.seconds, position.training_seconds = (earlier + spent for earlier in self._seconds)
            self.progress.step(position, int(figures.count), figures.loss, waited, time.monotonic() - before)
            self._note_unreadable()
            if figures.stop:
                raise InterruptedRun
            self.keeper.checkpoint_if_due()
            before = time.monotonic()  # writing is no wait for data

    def _step(self, images: tf.Tensor, labels: tf.Tensor) -> StepFigures:
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

    def _end_epoch(self) -> tuple[Source, np.ndarray]:
        """Evaluates and keeps the epoch; nothing of it counts before its checkpoint is whole."""
        session, position = self.session, self.session.position
        started = time.monotonic()
        self.keeper.require_finite()
        if evaluation_seconds(position, len(self.held_out)) >= LONG_EVALUATION:
            self.keeper.checkpoint()  # what comes before the evaluation is not lost with it
        session.stepper.swap_averages()
        try:
            seen, probabilities = self._evaluate()
            self._exchange_unreadable()
            for source in (self.training, self.held_out):
                source.corrupt.check()
            row = self._row(seen, probabilities)
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
        return seen, probabilities

    def _exchange_unreadable(self) -> None:
        """What any worker found is told, and kept with the position, by all."""
        for source in (self.training, self.held_out):
            if self.shard[1] == 1:
                break
            here = dict(source.corrupt.listed())
            found = self.session.stepper.together(np.array([name in here for name in source.names], np.float32))
            for index in np.flatnonzero(found).tolist():
                if source.names[index] not in here:
                    source.corrupt.list_one(source.names[index], _reason(source, index))
        self._note_unreadable()
        for name, reason in self.session.position.unreadable:
            if (name, reason) not in self._told:
                say(self.progress.console, f"left out: {printable(name)}: {reason}", style="yellow")
        self._told |= set(self.session.position.unreadable)

    def _note_unreadable(self) -> None:
        """So that a checkpoint has it: a resumed epoch does not come by these pictures again."""
        both = {name: reason for source in (self.training, self.held_out) for name, reason in source.corrupt.listed()}
        self.session.position.unreadable = sorted(both.items())

    def _relist(self) -> None:
        for source in (self.training, self.held_out):
            there = set(source.names)
            for name, reason in self.session.position.unreadable:
                if name in there:
                    source.corrupt.list_one(name, reason)

    def _row(self, seen: Source, probabilities: np.ndarray) -> dict[str, float]:
        position = self.session.position
        loss, correct, count = position.sums
        labels = seen.labels
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

    def _evaluate(self) -> tuple[Source, np.ndarray]:
        """The held-out pictures that can be read, and their probabilities."""
        numbers, found = [], []
        with self.progress.evaluating(len(self.held_out)) as evaluated:
            for images, _, indices in self._told_of(self._evaluated):
                if not len(indices):  # none of the batch can be read
                    continue
                numbers.append(indices.numpy())
                probabilities, stop = self.session.stepper.predict(images.numpy(), stop=self.stop_asked())
                found.append(probabilities)
                evaluated(len(indices))
                if stop:
                    raise InterruptedRun
        if not found:
            raise InputError("val: no held-out picture can be read")
        return self.held_out.take(np.concatenate(numbers)), np.concatenate(found)


def evaluation_seconds(position: Position, images: int) -> float:
    """How long so many pictures will take, at a third of what they took in this epoch's training."""
    trained = position.sums[2]
    return position.training_seconds / trained * images / 3 if trained else 0.0


def unreadable(training: Source, held_out: Source) -> list[tuple[str, str]]:
    """(name, reason) of all that could not be read so far, and of what lies beside the pictures."""
    listed = {source.corrupt: source.corrupt.listed() for source in (training, held_out)}
    beside = {place for source in (training, held_out) for place in source.beside}
    return sorted({pair for pairs in listed.values() for pair in pairs}) + sorted(beside)


def _reason(source: Source, index: int) -> str:
    try:
        source.read(index)
    except UnreadableImageError as error:
        return error.reason
    except InputError:  # past the bound, against which all are held once all are exchanged
        return dict(source.corrupt.listed())[source.names[index]]
    return "another worker could not read it"

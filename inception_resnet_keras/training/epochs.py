"""The training loop: train on the batches of an epoch, evaluate, save and report; then the next epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from ..common.console import say
from ..common.errors import InputError
from ..data.images import UnreadableImageError
from ..data.labelled import Source
from ..data.parts import Parts
from ..data.pipeline import batches
from ..evaluation.metrics import balanced_accuracy
from ..evaluation.multi_label import best_thresholds, mean_average_precision
from ..models.open import require_finite
from .balance import weighted
from .best_epoch import best_epoch, is_finished
from .cluster import worker
from .config import TrainConfig
from .optimizers import phases
from .progress import InterruptedRun, TrainingProgress
from .run import RunWriter
from .session import Position, Session
from .step import StepMetrics
from .trouble import diagnose, explain_out_of_memory

SHOWN_EVERY = 0.1  # seconds between two updates of the displayed figures
MOST_HELD = 512 * 1024**2  # bytes of batches in memory whose steps were started but not waited for
LONG_EVALUATION = 30.0  # seconds of evaluation above which a checkpoint is saved before it
Evaluated = tuple[Source, np.ndarray]  # the pictures that could be read, and their probabilities
LEAST_PROBABILITY = 1e-7  # the lower bound that Keras's cross entropy uses


@dataclass(frozen=True)
class _StartedStep:
    """A step that was started and not waited for yet.

    Attributes:
        images, labels, weights: Its batch; weights are None if all pictures have the same.
        metrics: Its metrics, on the device.
        waited: Seconds of waiting for data.
        seconds: Seconds until the step was started, including this wait.
    """

    images: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor | None
    metrics: tf.Tensor
    waited: float
    seconds: float

    def wait(self) -> StepMetrics:
        return StepMetrics(*self.metrics.numpy().tolist())


class Trainer:
    """Trains a session from its position to the last epoch.

    Args:
        writer: Saves the session; its `session` is trained.
        parts: The training pictures, the held-out pictures for evaluation after each epoch, and the test pictures.
        progress: Displays the steps.
        stop_requested: Returns whether the user asked to stop.
    """

    def __init__(
        self,
        writer: RunWriter,
        parts: Parts,
        *,
        progress: TrainingProgress,
        stop_requested: Callable[[], bool],
    ) -> None:
        self.writer, self.progress, self.stop_requested = writer, progress, stop_requested
        self.session = session = writer.session
        self.training, self.held_out, self._test = training, held_out, _ = parts
        self.shard = worker(session.strategy)
        self._started: list[_StartedStep] = []
        self._asked: tf.Tensor | None = None  # metrics of the previous step, with the workers' stop requests
        self._shown = time.monotonic()
        self._reported = set(unreadable_pictures(training, held_out))
        self._restore_unreadable()
        config, position = session.config, session.position
        self._common = batch_settings(config)
        self._held_out_batches = batches(held_out, training=False, numbered=True, **self._common)
        self._training_batches: Iterator[Any] = iter(())
        if not is_finished(config, position.history):
            # One pipeline for all remaining epochs, so that the next epoch is read in advance during evaluation.
            self._training_batches = self._read(training_batches(session, training, config.epochs - position.epoch))

    def train(self) -> Evaluated:
        """Train the remaining epochs.

        Returns:
            The held-out pictures that could be read, and the final model's probabilities for them.

        Raises:
            InterruptedRun: After the step, or the batch of held-out pictures, in which any worker asked to stop.
            InputError: A value is not finite, or too many pictures are unreadable.
        """
        try:
            return self._train_epochs()
        except InterruptedRun:
            self._exchange_unreadable()  # a resumed epoch skips batches, and would not report these pictures again
            raise

    def test(self) -> Evaluated | None:
        """Evaluate the final model on the test pictures; None without a test part. Raises the errors of `train`.

        The test pictures are used for nothing else: not in the epochs, and not for any choice.
        """
        if self._test is None:
            return None
        test_batches = batches(self._test, training=False, numbered=True, **self._common)
        with self.session.averaged_weights():
            return self._evaluate(self._test, test_batches, "test")

    def _train_epochs(self) -> Evaluated:
        session, position = self.session, self.session.position
        evaluation = None
        while not is_finished(session.config, position.history):
            phase = next(phase for phase in phases(session.config) if phase.first <= position.epoch < phase.last)
            if phase != session.phase:
                session.start_phase(phase)
            self._train_epoch()
            evaluation = self._end_epoch()
        if evaluation is None:
            # The run was interrupted after its last epoch: evaluate the final model again for the report.
            with session.averaged_weights():
                evaluation = self._evaluate(self.held_out, self._held_out_batches, "val")
                thresholds = self._thresholds(*evaluation)
                self.writer.save_model(epoch=position.epoch, best=False, thresholds=thresholds)
        return evaluation

    # One epoch

    def _train_epoch(self) -> None:
        """Train to the end of the epoch. Steps are started ahead, so that the device is never idle."""
        position = self.session.position
        start = before = time.monotonic()
        earlier, earlier_training = position.seconds, position.training_seconds  # before an interruption
        while position.batch + len(self._started) < self.session.steps:
            images, labels, *more = next(self._training_batches)
            weights = more[0] if more else None
            waited, stop = time.monotonic() - before, self.stop_requested()
            with explain_out_of_memory(self.session, images, labels, self.progress.console):
                number = position.step + len(self._started)
                metrics = self.session.stepper.step(images, labels, number, weights=weights, stop=stop)
                self._started.append(_StartedStep(images, labels, weights, metrics, waited, time.monotonic() - before))
                if self.shard[1] > 1:
                    stop = self._workers_stop()
                # Decide about a checkpoint once per step, and finish all started steps before it: a checkpoint must
                # not contain the weights of a step that the position does not count.
                save = self.writer.checkpoint_is_due() and self._may_finish_alone()
                if stop or save or (self.shard[1] == 1 and self._figures_are_due()):
                    self._finish_steps()
            spent = time.monotonic() - start
            position.seconds, position.training_seconds = earlier + spent, earlier_training + spent
            self._record_unreadable()
            if stop:
                raise InterruptedRun
            if save:
                self.writer.save_checkpoint()
            before = time.monotonic()  # after saving, which does not count as waiting for data
        self._finish_steps()

    def _workers_stop(self) -> bool:
        """Whether the workers stop after the step that was just started.

        They decide by the requests in the previous step, for which every worker waits while the new one is computed.
        All workers therefore stop after the same step, without being idle.
        """
        self._finish_steps(unfinished=1)
        before, self._asked = self._asked, self._started[-1].metrics
        return before is not None and before.numpy()[-1] > 0

    def _may_finish_alone(self) -> bool:
        """Whether this worker may finish its newest step independently of the others.

        Not if the step is not finite: the diagnosis needs all workers, and follows after the next step.
        """
        return self.shard[1] == 1 or not self._started[-1].wait().broken(self.session.config.precision)

    def _figures_are_due(self) -> bool:
        """Whether to wait for the started steps now, to update the display or to release their batches."""
        held = sum(step.images.shape.num_elements() * step.images.dtype.size for step in self._started)
        return time.monotonic() - self._shown >= SHOWN_EVERY or held >= MOST_HELD

    def _finish_steps(self, unfinished: int = 0) -> None:
        """Wait for the started steps except the newest `unfinished`, and advance the position by them."""
        position = self.session.position
        while len(self._started) > unfinished:
            step = self._started[0]
            metrics = step.wait()
            if what := metrics.broken(self.session.config.precision):
                _, gradients = self.session.stepper.compute(step.images, step.labels, step.weights)
                problem = diagnose(self.session.model, step.images, metrics, gradients)
                raise InputError(
                    f"the {what} of epoch {position.epoch + 1}, step {position.batch + 1} is not finite, so it was not "
                    f"taken. {problem}. {self.writer.divergence_advice()}"
                )
            position.add_step(metrics)
            self.progress.step(position, int(metrics.count), metrics.loss, step.waited, step.seconds)
            del self._started[0]
        self._shown = time.monotonic()

    def _end_epoch(self) -> Evaluated:
        """Evaluate and save the epoch, which counts as finished when its checkpoint is written."""
        session, position = self.session, self.session.position
        start = time.monotonic()
        # Save a checkpoint before a long evaluation, so that a crash in the evaluation does not lose the epoch.
        self.writer.require_finite()
        if expected_evaluation_seconds(position, len(self.held_out)) >= LONG_EVALUATION:
            self.writer.save_checkpoint()
        # Evaluate, and save the model that was evaluated.
        with session.averaged_weights():
            evaluated, probabilities = self._evaluate(self.held_out, self._held_out_batches, "val")
            self._exchange_unreadable()
            for source in (self.training, self.held_out):
                source.corrupt.check()
            row = self._history_row(evaluated, probabilities)
            row["seconds"] = round(position.seconds + time.monotonic() - start, 2)
            best = best_epoch(session.config, [*position.history, row])
            row["best_epoch"] = best.epoch
            self.writer.save_model(
                epoch=position.epoch + 1,
                best=best.epoch == position.epoch + 1,
                thresholds=self._thresholds(evaluated, probabilities),
            )
        # Advance the position, and save it.
        position.history.append(row)
        position.end_epoch()
        self.writer.save_epoch()
        self.progress.epoch_end(position.epoch - 1, row)
        return evaluated, probabilities

    def _evaluate(self, source: Source, source_batches: tf.data.Dataset, part: str) -> Evaluated:
        """Evaluate a part: the pictures that could be read, and their probabilities."""
        numbers, parts = [], []
        with self.progress.evaluating(len(source), part) as advance:
            for images, _, indices in self._read(source_batches):
                if not len(indices):  # no picture of the batch can be read
                    continue
                numbers.append(indices.numpy())
                probabilities, stop = self.session.stepper.predict(images.numpy(), stop=self.stop_requested())
                parts.append(probabilities)
                advance(len(indices))
                if stop:
                    raise InterruptedRun
        if not parts:
            raise InputError(f"{part}: no picture of this part can be read")
        evaluated = source.take(np.concatenate(numbers))
        try:
            return evaluated, require_finite(f"{part}: the trained model", np.concatenate(parts), evaluated.names)
        except InputError as error:
            raise InputError(f"{error}. {self.writer.divergence_advice()}") from None

    def _history_row(self, evaluated: Source, probabilities: np.ndarray) -> dict[str, float]:
        position = self.session.position
        loss, correct, count = position.sums
        return {
            "epoch": position.epoch + 1,
            "accuracy": correct / count,
            "loss": loss / count,
            **(label_figures if evaluated.multi_label else class_figures)(evaluated.labels, probabilities),
            "seconds": 0.0,
            "images_per_second": round(count / position.training_seconds, 2),
            "learning_rate": float(f"{self.session.learning_rate():.6g}"),
            "phase": phases(self.session.config).index(self.session.phase) + 1,
        }

    def _thresholds(self, evaluated: Source, probabilities: np.ndarray) -> list[float]:
        """With several labels per picture, the thresholds of maximum F1 on the held-out pictures; otherwise []."""
        return best_thresholds(evaluated.labels, probabilities) if evaluated.multi_label else []

    def _read(self, dataset: tf.data.Dataset) -> Iterator[Any]:
        """The batches of a dataset. Raises InputError with a list of them if too many pictures are unreadable."""
        iterator = iter(dataset)
        while True:
            with ExitStack() as stack:
                for corrupt in {part.corrupt for part in (self.training, self.held_out, self._test) if part}:
                    stack.enter_context(corrupt.raising_input_errors())
                batch = next(iterator, None)
            if batch is None:
                return
            yield batch

    # Unreadable pictures: a worker encounters those of its own shard; the position records those of all workers

    def _record_unreadable(self) -> None:
        """Record them in the position, and so in checkpoints, because a resumed epoch does not read them again."""
        both = {name: reason for source in (self.training, self.held_out) for name, reason in source.corrupt.listed()}
        self.session.position.unreadable = sorted(both.items())

    def _restore_unreadable(self) -> None:
        if not self.session.position.unreadable:
            return
        for source in (self.training, self.held_out):
            names = set(source.names)
            for name, reason in self.session.position.unreadable:
                if name in names:
                    source.corrupt.list_one(name, reason)

    def _exchange_unreadable(self) -> None:
        """Share the unreadable pictures among all workers, and print the new ones."""
        for source in (self.training, self.held_out):
            if self.shard[1] == 1:
                break
            own = dict(source.corrupt.listed())
            unreadable = np.array([name in own for name in source.names], np.float32)
            for index in np.flatnonzero(self.session.stepper.sum_over_workers(unreadable)).tolist():
                if source.names[index] not in own:
                    source.corrupt.list_one(source.names[index], _reason(source, index))
        self._record_unreadable()
        for name, reason in self.session.position.unreadable:
            if (name, reason) not in self._reported:
                say(self.progress.console, f"left out: {name}: {reason}", style="yellow")
        self._reported |= set(self.session.position.unreadable)


def batch_settings(config: TrainConfig) -> dict[str, Any]:
    """The arguments of `data.pipeline.batches` that are the same for training and evaluation."""
    return {
        "options": config.data_options,
        "size": config.image_size,
        "batch_size": config.batch_size,
        "seed": config.seed,
    }


def training_batches(session: Session, training: Source, epochs: int) -> tf.data.Dataset:
    """This worker's training batches from the session's position on, over `epochs` epochs."""
    config, position = session.config, session.position
    return batches(
        weighted(config, training),
        training=True,
        sampler=config.sampler,
        epoch=position.epoch,
        start=position.batch,
        epochs=epochs,
        shard=worker(session.strategy),
        drop_remainder=session.steps < math.ceil(len(training) / config.batch_size),
        **batch_settings(config),
    )


def class_figures(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """The history's columns about the held-out pictures, from int labels (n,) and probabilities (n, classes)."""
    predicted, true_class = probabilities.argmax(axis=1), probabilities[np.arange(len(labels)), labels]
    return {
        "val_accuracy": float(np.mean(predicted == labels)),
        "val_balanced_accuracy": balanced_accuracy(labels, predicted),
        "val_loss": float(-np.log(np.clip(true_class, LEAST_PROBABILITY, 1)).mean()),
    }


def label_figures(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """The history's columns about the held-out pictures, for several labels per picture.

    The accuracy is the share of correct decisions at a threshold of 0.5, with one decision per picture and label. The
    loss is the binary cross entropy, averaged over pictures and labels as in training.

    Args:
        labels: uint8 (n, classes).
        probabilities: (n, classes).
    """
    decided_as_is = np.where(labels == 1, probabilities, 1 - probabilities.astype(np.float64))
    return {
        "val_accuracy": float(np.mean((probabilities >= 0.5) == (labels == 1))),
        "val_loss": float(-np.log(np.clip(decided_as_is, LEAST_PROBABILITY, 1)).mean()),
        "val_mean_average_precision": mean_average_precision(labels, probabilities),
    }


def expected_evaluation_seconds(position: Position, images: int) -> float:
    """Expected duration of an evaluation: a third of this epoch's training time per picture."""
    trained = position.sums[2]
    return position.training_seconds / trained * images / 3 if trained else 0.0


def unreadable_pictures(training: Source, held_out: Source) -> list[tuple[str, str]]:
    """(name, reason) of the pictures that could not be read so far, and of the files that are not pictures."""
    listed = {source.corrupt: source.corrupt.listed() for source in (training, held_out)}
    beside = {file for source in (training, held_out) for file in source.beside}
    return sorted({pair for pairs in listed.values() for pair in pairs}) + sorted(beside)


def _reason(source: Source, index: int) -> str:
    """The reason why a picture that another worker reported cannot be read."""
    try:
        source.read(index)
    except UnreadableImageError as error:
        return error.reason
    except InputError:  # too many are unreadable: all workers check this together after the exchange
        return dict(source.corrupt.listed())[source.names[index]]
    return "another worker could not read it"

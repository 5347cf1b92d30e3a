"""One training step on `tf.distribute`: gradients, then the optimizer, then the moving average of the weights.

A step is one call, on one replica and on several. The device itself decides to leave the weights unchanged if the loss
or the gradient is not finite. Only public API of TensorFlow and Keras is used. `Model.fit` is not, because it fails
under `MultiWorkerMirroredStrategy` (keras issue 20585).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .cluster import sum_over_workers, worker
from .config import TrainConfig
from .forward import training_forward

SUM = tf.distribute.ReduceOp.SUM
graph = tf.function(autograph=False)  # every `if` below is decided by Python when a function is traced


@dataclass(frozen=True)
class StepMetrics:
    """Metrics of one step, summed over all replicas.

    Attributes:
        classifier, auxiliary, penalty: The parts of the loss: cross entropy, weighted auxiliary loss, L2.
        correct, count: Number of pictures of the batch that are classified correctly, and of all. With several labels
            per picture, each picture adds to `correct` the share of its labels that are decided correctly at 0.5.
        gradient: Squared global norm of the gradients.
        stop: Number of replicas that ask to stop.
    """

    classifier: float
    auxiliary: float
    penalty: float
    correct: float
    count: float
    gradient: float
    stop: float

    @property
    def loss(self) -> float:
        return self.classifier + self.auxiliary + self.penalty

    def broken(self, precision: str) -> str:
        """ "loss" or "gradient" if that is not finite, so that the step is not taken; otherwise "".

        mixed_float16 adjusts its loss scale by infinite gradients, and skips such steps itself.
        """
        if not math.isfinite(self.loss):
            return "loss"
        return "" if math.isfinite(self.gradient) or precision == "mixed_float16" else "gradient"


class Stepper:
    """Training and prediction steps of a model. Make a new stepper when the `trainable` flags change.

    Args:
        model: The model, made in the strategy's scope.
        optimizer: The optimizer, built for the model's trainable variables.
        config: The run's settings.
        strategy: The distribution strategy.
        averages: The moving average of each variable of `averaged(model)`; empty for none.
        fused: Whether to compute batch norm by TensorFlow's fused kernel where possible.
        multi_label: Whether a picture may have several labels, so that the model ends in sigmoids, and the loss is the
            binary cross entropy, averaged over the labels.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        config: TrainConfig,
        strategy: tf.distribute.Strategy,
        averages: Sequence[tf.Variable] = (),
        *,
        fused: bool = True,
        multi_label: bool = False,
    ) -> None:
        self.multi_label = multi_label
        self.model, self.optimizer, self.config, self.strategy = model, optimizer, config, strategy
        self.averages = averages
        self.replicas = strategy.num_replicas_in_sync
        self._local_replicas = self.replicas // worker(strategy)[1]
        self._forward = training_forward(model, config, fused=fused)
        self._variables = list(model.trainable_variables)
        self._traced: set[Any] = set()  # see `_trace_for_any_batch`
        self._failed = tf.Variable(False, trainable=False)  # set if a step was not taken; no later step is then taken
        # Keras updates a weight in a dozen passes over memory, which XLA fuses into one. XLA does not promise the same
        # bits in every run, so it is not used with `deterministic`.
        one_pass = sys.platform == "linux" and not config.deterministic
        self._update_weights = tf.function(optimizer.apply, autograph=False, jit_compile=one_pass)
        self._micro_batch_size = max(1, -(-config.batch_size // (self.replicas * config.accumulate)))
        if config.jit:  # XLA compiles the work on one micro-batch; accumulation stays outside
            compiled = tf.function(self._micro_batch_gradients, autograph=False, jit_compile=True)
            self._micro_batch_gradients = compiled  # type: ignore[method-assign]

    def step(self, images: Any, labels: Any, number: int, *, weights: Any = None, stop: bool = False) -> tf.Tensor:
        """Start optimizer step `number` of the run, counted from 0.

        If the loss or the gradient is not finite, this step and all later ones leave the weights unchanged.

        Args:
            images: This worker's part of the batch, (n, height, width, 3), values 0 to 255.
            labels: int (n,), or float32 (n, classes) for mixed pictures and for several labels per picture.
            number: Number of the step.
            weights: Weights of the pictures in the loss, as for `compute`.
            stop: Whether this worker asks to stop; the metrics count the requests.

        Returns:
            The metrics in the order of `StepMetrics`, on the device. The call does not wait for them.
        """
        arguments = (*self._inputs(images, labels, weights, stop), tf.constant(number, tf.float32))
        if self.replicas == 1 and self.config.accumulate == 1:  # otherwise a batch is divided by its static size
            self._trace_for_any_batch(self._take_step, arguments[:3], arguments[3:])
        return self._take_step(*arguments)

    @graph
    def _take_step(self, images: Any, labels: Any, weights: Any, stop: Any, number: tf.Tensor) -> tf.Tensor:
        metrics, gradients = self.strategy.run(self._replica_gradients, (images, labels, weights, stop))
        metrics = self.strategy.reduce(SUM, metrics, axis=None)
        finite = tf.math.is_finite(tf.reduce_sum(metrics[:3]))  # the same test as `StepMetrics.broken`
        if self.config.precision != "mixed_float16":
            finite &= tf.math.is_finite(metrics[5])
        take = finite & ~self._failed
        self._failed.assign(~take)

        def apply() -> bool:
            self.strategy.run(self._apply_on_replica, tuple(gradients))
            self._update_averages(number)
            return True

        tf.cond(take, apply, lambda: False)
        return metrics

    def _apply_on_replica(self, *gradients: tf.Tensor) -> None:
        # A reduction over replicas needs tensors that are placed on a device, hence the identity.
        gradients = tuple(tf.identity(gradient) for gradient in gradients)
        if self.replicas == 1:
            self._update_weights(list(gradients))
        else:
            self.optimizer.apply(list(gradients))

    def _update_averages(self, number: tf.Tensor) -> None:
        if self.averages:
            # A smaller decay in the first steps, as in TensorFlow 1's ExponentialMovingAverage(num_updates=step).
            decay = tf.minimum(self.config.average, (1 + number) / (10 + number))
            for average, variable in zip(self.averages, averaged(self.model), strict=True):
                average.assign(decay * average + (1 - decay) * variable.value)

    def _inputs(self, images: Any, labels: Any, weights: Any, stop: bool) -> tuple[Any, Any, Any, Any]:
        """This worker's part of a batch and its stop request, split over its replicas."""
        stops = np.full(self._local_replicas, stop, np.float32)
        weights = None if weights is None else self._split(weights)
        return self._split(images), self._split(labels), weights, self._split(stops)

    # Gradients

    def compute(self, images: Any, labels: Any, weights: Any = None) -> tuple[StepMetrics, Any]:
        """Compute metrics and gradients of a batch, and wait for them. Trainable weights do not change.

        Args:
            images: This worker's part of the batch, (n, height, width, 3), values 0 to 255.
            labels: int (n,), or float32 (n, classes) for mixed pictures and for several labels per picture.
            weights: Factors of the pictures' cross entropies, float32 (n,). For mixed pictures (n, classes): each share
                of a label times the weight of its picture, so that a mixed picture's loss is the mixture of two
                weighted losses; with several labels per picture, one more column holds the mixed weight. The batch's
                loss is the sum over its pictures divided by their number, as with Keras's `sample_weight`, not by the
                sum of the weights. `None` gives all pictures the weight 1.
        """
        metrics, gradients = self._compute_on_replicas(*self._inputs(images, labels, weights, False))
        return StepMetrics(*metrics.numpy().tolist()), gradients

    @graph
    def _compute_on_replicas(self, images: Any, labels: Any, weights: Any, stop: Any) -> Any:
        metrics, gradients = self.strategy.run(self._replica_gradients, (images, labels, weights, stop))
        return self.strategy.reduce(SUM, metrics, axis=None), gradients

    def _replica_gradients(
        self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | None, stop: tf.Tensor
    ) -> Any:
        total = tf.cast(tf.shape(images)[0], tf.float32)
        if self.replicas > 1:
            total = tf.distribute.get_replica_context().all_reduce(SUM, total)
        metrics, gradients = self._accumulated_gradients(images, labels, weights, total)
        # mixed_float16 scales its loss; the factor is 1 for any other precision.
        scale = self.optimizer.scale_loss(tf.constant(1.0))
        if self.config.clip_norm and self.replicas > 1:  # clip by the norm of the whole batch's gradients
            gradients = tf.distribute.get_replica_context().all_reduce(SUM, gradients)
        norm = tf.linalg.global_norm(gradients) / scale
        if self.config.clip_norm:
            # Keras's optimizer will sum over the replicas again, hence the division.
            factor = tf.minimum(1.0, self.config.clip_norm / norm) / float(self.replicas)
            gradients = [gradient * factor for gradient in gradients]
        return tf.concat([metrics, [tf.square(norm)], stop[:1]], axis=0), gradients

    def _accumulated_gradients(
        self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | None, total: tf.Tensor
    ) -> Any:
        """Metrics and gradients of a replica's part of the batch, with one micro-batch in memory at a time."""
        count, size = images.shape[0], self._micro_batch_size
        if self.config.accumulate == 1 or count <= size:
            return self._micro_batch_gradients(images, labels, weights, total, tf.constant(1.0))

        metrics, gradients = tf.zeros(5), [tf.zeros(variable.shape, variable.dtype) for variable in self._variables]
        # Unrolled, because replicas cannot synchronize inside a tf.while_loop, as synchronized batch norm does.
        for start in range(0, count, size):
            part = slice(start, min(start + size, count))
            share = (part.stop - part.start) / count
            # Start this micro-batch after the previous one, so that only one set of activations is in memory.
            with tf.control_dependencies([metrics, *gradients]):
                pictures = tf.identity(images[part])
            part_weights = None if weights is None else weights[part]
            part_metrics, part_gradients = self._micro_batch_gradients(
                pictures, labels[part], part_weights, total, tf.constant(share)
            )
            metrics += part_metrics
            gradients = [gradient + more for gradient, more in zip(gradients, part_gradients, strict=True)]
        return metrics, gradients

    def _micro_batch_gradients(
        self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | None, total: tf.Tensor, share: tf.Tensor
    ) -> Any:
        """Metrics and gradients of one micro-batch.

        Args:
            total: Number of pictures of the whole batch.
            share: The micro-batch's share of the replica's pictures.
        """
        with tf.GradientTape() as tape:
            outputs = self._forward(images)
            outputs = outputs if isinstance(outputs, list) else [outputs]
            losses = [tf.reduce_sum(self._cross_entropy(labels, weights, output)) / total for output in outputs]
            if len(losses) > 1:
                losses[1] *= self.config.aux_weight
            penalty = tf.add_n(self.model.losses) * share / self.replicas if self.model.losses else tf.constant(0.0)
            loss = self.optimizer.scale_loss(tf.add_n([*losses, penalty]))
        gradients = tape.gradient(loss, [variable.value for variable in self._variables])
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        correct = tf.reduce_sum(self._correct(labels, outputs[0]))
        auxiliary = losses[1] if len(losses) > 1 else tf.constant(0.0)
        count = tf.cast(tf.shape(images)[0], tf.float32)
        return tf.stack([losses[0], auxiliary, penalty, correct, count]), gradients

    def _correct(self, labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        """1 for each correctly classified picture, otherwise 0; with several labels the share of correct decisions.

        A mixed picture counts for the class with the larger share.
        """
        if self.multi_label:
            return tf.reduce_mean(tf.cast((probabilities >= 0.5) == (labels >= 0.5), tf.float32), axis=-1)
        truth = labels if labels.shape.rank == 1 else tf.argmax(labels, -1)
        return tf.cast(tf.argmax(probabilities, -1) == tf.cast(truth, tf.int64), tf.float32)

    def _cross_entropy(self, labels: tf.Tensor, weights: tf.Tensor | None, probabilities: tf.Tensor) -> tf.Tensor:
        """The cross entropy of each picture, smoothed and weighted.

        Smoothing moves a label towards equal shares of the classes, and each of several labels towards 1/2.
        """
        smoothing = self.config.label_smoothing
        if self.multi_label:
            if weights is not None and weights.shape.rank == 2:
                parts, weights = weights[:, :-1], weights[:, -1]
                labels = tf.math.divide_no_nan(parts, weights[:, None])
            # Keras computes this from the sigmoid's logits, as below.
            losses = keras.ops.binary_crossentropy(labels * (1 - smoothing) + smoothing / 2, probabilities)
            losses = tf.reduce_mean(losses, axis=-1)
            return losses if weights is None else losses * weights
        classes = probabilities.shape[-1]
        truth = tf.one_hot(labels, classes) if labels.shape.rank == 1 else labels
        if weights is not None and weights.shape.rank == 2:
            # Split the weighted label shares into a label that sums to 1 and one weight.
            parts, weights = weights, tf.reduce_sum(weights, axis=1)
            truth = tf.math.divide_no_nan(parts, weights[:, None])
        # Keras computes this from the softmax's logits, so that no precision is lost to rounding.
        losses = keras.ops.categorical_crossentropy(truth * (1 - smoothing) + smoothing / classes, probabilities)
        return losses if weights is None else losses * weights

    # Weights

    @graph
    def swap_averages(self) -> None:
        """Exchange the weights with their moving averages, which must exist."""
        for average, variable in zip(self.averages, averaged(self.model), strict=True):
            value = tf.identity(variable.value)
            variable.value.assign(average)
            average.assign(value)

    # Predictions

    def predict(self, images: np.ndarray, *, stop: bool = False) -> tuple[np.ndarray, bool]:
        """Probabilities (n, classes) of a batch, and whether any worker asks to stop.

        Every worker passes the whole batch and receives all its probabilities. The stop request is sent as an extra
        column of the predictions, so that all workers receive it after the same batch without another exchange.
        """
        if self.replicas == 1:
            batch = tf.convert_to_tensor(images)
            self._trace_for_any_batch(self._predict_on_replicas, (batch,))
            return self._predict_on_replicas(batch).numpy(), stop
        padding = -len(images) % self.replicas
        padded = np.concatenate([images, np.repeat(images[-1:], padding, axis=0)]) if padding else images
        size = len(padded) // self.replicas

        def part(context: Any) -> tf.Tensor:
            return tf.convert_to_tensor(padded[context.replica_id_in_sync_group * size :][:size])

        parts = self.strategy.experimental_distribute_values_from_function(part)
        stops = self._split(np.full(self._local_replicas, stop, np.float32))
        columns = self._predict_on_replicas(parts, stops).numpy()
        return columns[: len(images), :-1], bool(columns[:, -1].any())

    @graph
    def _predict_on_replicas(self, images: Any, stop: Any = None) -> tf.Tensor:
        def on_replica(images: tf.Tensor, stop: tf.Tensor | None) -> tf.Tensor:
            outputs = self.model(images, training=False)
            probabilities = outputs[0] if isinstance(outputs, list) else outputs
            if stop is None:
                return probabilities
            return tf.concat([probabilities, tf.fill([tf.shape(probabilities)[0], 1], stop[0])], axis=1)

        columns = self.strategy.run(on_replica, (images, stop))
        return columns if self.replicas == 1 else self.strategy.gather(columns, axis=0)

    def _trace_for_any_batch(self, function: Any, batch: Any, others: Sequence[Any] = ()) -> None:
        """Trace a compiled function before its first call, so that one trace serves batches of any size.

        An epoch's last batch is often smaller, and tracing a whole network again for it would take seconds.

        Args:
            batch: The arguments with one row per picture, or None.
            others: The arguments that follow them.
        """
        ranks = (function, *(None if rows is None else rows.shape.rank for rows in batch))
        if ranks not in self._traced:
            self._traced.add(ranks)
            rows = [None if rows is None else tf.TensorSpec([None, *rows.shape[1:]], rows.dtype) for rows in batch]
            function.get_concrete_function(*rows, *(tf.TensorSpec(other.shape, other.dtype) for other in others))

    # Replicas and workers

    def sum_over_workers(self, numbers: np.ndarray) -> np.ndarray:
        """The sum of all workers' `numbers`, float32 (n,)."""
        return sum_over_workers(self.strategy, numbers)

    def _split(self, rows: Any) -> Any:
        """A worker's rows, split over its replicas."""
        if self.replicas == 1:
            return tf.convert_to_tensor(rows)
        local = self._local_replicas

        def part(context: Any) -> tf.Tensor:
            index = context.replica_id_in_sync_group % local
            return tf.convert_to_tensor(rows[len(rows) * index // local : len(rows) * (index + 1) // local])

        return self.strategy.experimental_distribute_values_from_function(part)


def averaged(model: keras.Model) -> list[keras.Variable]:
    """The variables that have a moving average: all weights, including batch-norm statistics."""
    return list(model.weights)

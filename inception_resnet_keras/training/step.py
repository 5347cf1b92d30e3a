"""One training step on `tf.distribute`: gradients, then the optimizer, then the running average.

The two are separate so that a step whose loss or gradient is not finite is seen before it changes a
weight. Everything here is TensorFlow's and Keras's public API; `Model.fit` cannot do it under
`MultiWorkerMirroredStrategy` (keras issue 20585).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .config import TrainConfig
from .distribution import worker
from .remat import rematerialised


@dataclass(frozen=True)
class StepFigures:
    """Of one step over all replicas.

    loss: what is minimised, the sum of classifier, auxiliary (weighted) and penalty.
    correct, count: of the batch's pictures. gradient: the squared length. stop: workers that ask to.
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


class Stepper:
    """Steps of a model whose `trainable` flags are set; made anew when they change.

    averages: the running average of each of `averaged(model)`, empty for none.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        config: TrainConfig,
        strategy: tf.distribute.Strategy,
        averages: Sequence[tf.Variable] = (),
    ) -> None:
        self.model, self.optimizer, self.config, self.strategy = model, optimizer, config, strategy
        self.averages = averages
        self.replicas = strategy.num_replicas_in_sync
        self._local = self.replicas // worker(strategy)[1]
        self._forward = rematerialised(model) if config.remat else lambda images: model(images, training=True)
        self._variables = list(model.trainable_variables)
        self._micro_size = max(1, -(-config.batch_size // (self.replicas * config.accumulate)))
        function = partial(tf.function, autograph=False)  # every branch here is Python's
        self._micro = function(self._gradients_of, jit_compile=True) if config.jit else self._gradients_of
        self._compute, self._apply = function(self._computed), function(self._applied)
        self._several = function(self._repeated)
        self._predict, self._swap = function(self._predicted), function(self._swapped)

    def compute(self, images: Any, labels: Any, *, stop: bool = False) -> tuple[StepFigures, Any]:
        """The figures and gradients of this worker's part of a batch; no trainable weight changes.

        images: (n, height, width, 3), 0-255. labels: int (n,), or float32 (n, classes) of mixed pictures.
        """
        figures, gradients = self._compute(
            self._spread(images), self._spread(labels), self._spread(np.full(self._local, stop, np.float32))
        )
        return StepFigures(*figures.numpy().tolist()), gradients

    def apply(self, gradients: Any, step: int) -> None:
        """One optimizer step, the `step`-th of the run, and the running average's move after it."""
        self._apply(gradients, tf.constant(step, tf.float32))

    def several(self, images: Any, labels: Any, steps: int) -> tf.Tensor:
        """So many optimizer steps on one and the same batch in a single call, of one replica.

        Nothing is looked at between them, and no running average moves. Returns the last one's
        figures, in `StepFigures`' order, without waiting for them.
        """
        return self._several(images, labels, tf.constant(steps))

    def predict(self, images: np.ndarray, *, stop: bool = False) -> tuple[np.ndarray, bool]:
        """A batch's probabilities (n, classes), and whether any worker asks to stop.

        Every worker gives and gets the whole batch. The wish travels as a column beside the probabilities, so
        that all hear of it after the same batch and none waits for the others once more.
        """
        padding = -len(images) % self.replicas
        padded = np.concatenate([images, np.repeat(images[-1:], padding, axis=0)]) if padding else images
        share = len(padded) // self.replicas

        def part(context: Any) -> tf.Tensor:
            return tf.convert_to_tensor(padded[context.replica_id_in_sync_group * share :][:share])

        if self.replicas == 1:
            return self._predict(padded).numpy(), stop
        parts = self.strategy.experimental_distribute_values_from_function(part)
        found = self._predict(parts, self._spread(np.full(self._local, stop, np.float32))).numpy()
        return found[: len(images), :-1], bool(found[:, -1].any())

    def together(self, numbers: np.ndarray) -> np.ndarray:
        """The sum of every worker's `numbers`, float32 (n,)."""
        if worker(self.strategy)[1] == 1:
            return numbers
        share = numbers / np.float32(self._local)  # each of a worker's replicas gives its part
        given = self.strategy.experimental_distribute_values_from_function(lambda _: tf.convert_to_tensor(share))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, given, axis=None).numpy()

    def swap_averages(self) -> None:
        """Exchanges weights and their running averages."""
        if self.averages:
            self._swap()

    def _spread(self, rows: Any) -> Any:
        """A worker's rows over its replicas."""
        if self.replicas == 1:
            return tf.convert_to_tensor(rows)
        local = self._local

        def part(context: Any) -> tf.Tensor:
            index = context.replica_id_in_sync_group % local
            return tf.convert_to_tensor(rows[len(rows) * index // local : len(rows) * (index + 1) // local])

        return self.strategy.experimental_distribute_values_from_function(part)

    def _computed(self, images: Any, labels: Any, stop: Any) -> Any:
        figures, gradients = self.strategy.run(self._on_replica, (images, labels, stop))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, figures, axis=None), gradients

    def _on_replica(self, images: tf.Tensor, labels: tf.Tensor, stop: tf.Tensor) -> Any:
        total = tf.cast(tf.shape(images)[0], tf.float32)
        if self.replicas > 1:
            total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, total)
        figures, gradients = self._accumulated(images, labels, total)
        # The scale of mixed_float16's loss; 1 for any other.
        scale = self.optimizer.scale_loss(tf.constant(1.0))
        if self.config.clip_norm and self.replicas > 1:
            gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        length = tf.linalg.global_norm(gradients) / scale
        if self.config.clip_norm:
            factor = tf.minimum(1.0, self.config.clip_norm / length) / float(self.replicas)  # Keras sums once more
            gradients = [gradient * factor for gradient in gradients]
        return tf.concat([figures, [tf.square(length)], stop[:1]], axis=0), gradients

    def _accumulated(self, images: tf.Tensor, labels: tf.Tensor, total: tf.Tensor) -> Any:
        """Figures and gradients of a replica's part, in micro-batches of which one is held at a time."""
        count, size = images.shape[0], self._micro_size
        if self.config.accumulate == 1 or count <= size:
            return self._micro(images, labels, total, tf.constant(1.0))

        figures, gradients = tf.zeros(5), [tf.zeros(variable.shape, variable.dtype) for variable in self._variables]
        # Written out, not a tf.while_loop, in which no replica may wait for the others (batch norm does).
        for start in range(0, count, size):
            part = slice(start, min(start + size, count))
            share = (part.stop - part.start) / count
            with tf.control_dependencies([figures, *gradients]):  # so that one's maps are gone before the next's
                pictures = tf.identity(images[part])
            more, others = self._micro(pictures, labels[part], total, tf.constant(share))
            figures += more
            gradients = [mine + other for mine, other in zip(gradients, others, strict=True)]
        return figures, gradients

    def _gradients_of(self, images: tf.Tensor, labels: tf.Tensor, total: tf.Tensor, share: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            outputs = self._forward(images)
            outputs = outputs if isinstance(outputs, list) else [outputs]
            losses = [tf.reduce_sum(self._cross_entropy(labels, output)) / total for output in outputs]
            if len(losses) > 1:
                losses[1] *= self.config.aux_weight
            penalty = tf.add_n(self.model.losses) * share / self.replicas if self.model.losses else tf.constant(0.0)
            loss = self.optimizer.scale_loss(tf.add_n([*losses, penalty]))
        gradients = tape.gradient(loss, [variable.value for variable in self._variables])
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        truth = labels if labels.shape.rank == 1 else tf.argmax(labels, -1)
        correct = tf.reduce_sum(tf.cast(tf.argmax(outputs[0], -1) == tf.cast(truth, tf.int64), tf.float32))
        auxiliary = losses[1] if len(losses) > 1 else tf.constant(0.0)
        count = tf.cast(tf.shape(images)[0], tf.float32)
        return tf.stack([losses[0], auxiliary, penalty, correct, count]), gradients

    def _cross_entropy(self, labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        classes = probabilities.shape[-1]
        truth = tf.one_hot(labels, classes) if labels.shape.rank == 1 else labels
        smoothing = self.config.label_smoothing
        # Keras goes back to the logits that a softmax read, so that nothing is lost to rounding.
        return keras.ops.categorical_crossentropy(truth * (1 - smoothing) + smoothing / classes, probabilities)

    def _applied(self, gradients: Any, step: tf.Tensor) -> None:
        def on_replica(*each: tf.Tensor) -> None:
            self.optimizer.apply([tf.identity(gradient) for gradient in each])  # placed, as a reduction needs it

        self.strategy.run(on_replica, tuple(gradients))
        if self.averages:
            # A young average forgets faster, as TensorFlow 1's did when it was told the step.
            kept = tf.minimum(self.config.average, (1 + step) / (10 + step))
            for average, variable in zip(self.averages, averaged(self.model), strict=True):
                average.assign(kept * average + (1 - kept) * variable.value)

    def _repeated(self, images: tf.Tensor, labels: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        def once(done: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            figures, gradients = self._computed(images, labels, tf.zeros(1))
            self.optimizer.apply([tf.convert_to_tensor(gradient) for gradient in gradients])
            return done + 1, figures

        _, figures = tf.while_loop(lambda done, _: done < steps, once, (0, tf.zeros(len(fields(StepFigures)))))
        return figures

    def _predicted(self, images: Any, stop: Any = None) -> tf.Tensor:
        def probabilities(images: tf.Tensor, stop: tf.Tensor | None) -> tf.Tensor:
            outputs = self.model(images, training=False)
            found = outputs[0] if isinstance(outputs, list) else outputs
            return found if stop is None else tf.concat([found, tf.fill([tf.shape(found)[0], 1], stop[0])], axis=1)

        found = self.strategy.run(probabilities, (images, stop))
        return found if self.replicas == 1 else self.strategy.gather(found, axis=0)

    def _swapped(self) -> None:
        for average, variable in zip(self.averages, averaged(self.model), strict=True):
            value = tf.identity(variable.value)
            variable.value.assign(average)
            average.assign(value)


def averaged(model: keras.Model) -> list[keras.Variable]:
    """The variables that a running average is kept of: all weights, batch-norm statistics included."""
    return list(model.weights)

"""The state of a run in memory, which checkpoints save: model, optimizer, moving averages and position."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..common.errors import InputError
from ..networks.build import build
from .config import TrainConfig
from .optimizers import Phase, freeze, learning_rate_factors, make_optimizer, phases, schedule
from .pretrained import card_of, classifier_note, keeps_classifier
from .step import StepMetrics, Stepper, averaged


@dataclass
class Position:
    """The progress of a run: everything in a checkpoint that is not an array.

    Attributes:
        epoch, batch: The next batch to train on, both counted from 0.
        step: Number of optimizer steps taken.
        sums: Sums over the epoch's batches so far: loss times pictures, correct pictures, pictures.
        seconds, training_seconds: Duration of the epoch so far, in all and of its training.
        history: One row of metrics per finished epoch.
        unreadable: (name, reason) of the unreadable pictures so far.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    seconds: float = 0.0
    training_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def add_step(self, metrics: StepMetrics) -> None:
        self.batch += 1
        self.step += 1
        more = (metrics.loss * metrics.count, metrics.correct, metrics.count)
        self.sums = [total + part for total, part in zip(self.sums, more, strict=True)]

    def end_epoch(self) -> None:
        self.epoch += 1
        self.batch, self.sums, self.seconds, self.training_seconds = 0, [0.0, 0.0, 0.0], 0.0, 0.0


def mean_rate(
    schedule: keras.optimizers.schedules.LearningRateSchedule, steps: int
) -> Callable[[tf.Tensor], tf.Tensor]:
    """A compiled function from the number of an epoch's first step (int64) to the epoch's mean learning rate."""

    @tf.function(autograph=False)
    def mean(first: tf.Tensor) -> tf.Tensor:
        steps_of_epoch = tf.range(first, first + steps, dtype=tf.int64)
        return tf.reduce_mean(tf.map_fn(schedule, steps_of_epoch, fn_output_signature=tf.float32))

    return mean


class Session:
    """The state of a run, and the stepper that advances it.

    Args:
        config: The run's settings.
        classes: Names of the classes.
        steps: Optimizer steps per epoch.
        momentum: Momentum of the batch-norm statistics.
        strategy: The distribution strategy.
        pictures: Digests of the training, the held-out and, if there are any, the test pictures. Checkpoints record
            them.
        multi_label: Whether a picture may have several of the classes, so that the classifier ends in sigmoids.
    """

    def __init__(
        self,
        config: TrainConfig,
        classes: list[str],
        steps: int,
        momentum: float,
        strategy: tf.distribute.Strategy,
        *,
        pictures: Sequence[str] = ("", ""),
        multi_label: bool = False,
    ) -> None:
        self.multi_label = multi_label
        self.config, self.classes, self.strategy = config, classes, strategy
        self.steps, self.momentum, self.pictures = steps, momentum, list(pictures)
        self.position = Position()
        keras.utils.set_random_seed(config.seed)
        with strategy.scope():
            self.model = _build_model(config, len(classes), momentum, strategy.num_replicas_in_sync > 1, multi_label)
            self.averages = _make_averages(self.model) if config.average else []
        self.start_phase(phases(config)[0])

    def start_phase(self, phase: Phase, rates: keras.optimizers.schedules.LearningRateSchedule | None = None) -> None:
        """Freeze layers for a phase, and make a new optimizer and stepper for its trained variables.

        Args:
            rates: A learning-rate schedule that replaces the configured one.
        """
        self.phase = phase
        freeze(self.model, self.config, phase)
        self.schedule = rates or schedule(self.config, phase, self.steps)
        self._mean_rate = mean_rate(self.schedule, self.steps)
        with self.strategy.scope():
            factors = learning_rate_factors(self.model, self.config.layer_rate)
            self.optimizer = make_optimizer(self.config, self.schedule, self.model.trainable_variables, factors)
        self.stepper = Stepper(
            self.model, self.optimizer, self.config, self.strategy, self.averages, multi_label=self.multi_label
        )

    def learning_rate(self) -> float:
        """Mean learning rate of the classifier over the current epoch; `layer_rate` lowers it for the stages below."""
        first = (self.position.epoch - self.phase.first) * self.steps
        return float(self._mean_rate(tf.constant(first, tf.int64)))

    def load_pretrained(self, source: str) -> str:
        """Load a checkpoint into all layers below the classifier; returns a report about the loaded weights.

        The classifier is loaded too if the checkpoint is a run's model with the same classes in the same order.
        """
        from ..weights.load import load_weights

        card = card_of(source)
        same = keeps_classifier(card, self.classes, multi_label=self.multi_label)
        report = load_weights(self.model, source, new_head="aux" if same else True)
        for average, variable in zip(self.averages, averaged(self.model), strict=False):
            average.assign(variable.value)
        return "\n".join(
            filter(None, (str(report), classifier_note(source, card, self.classes, multi_label=self.multi_label)))
        )

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Within the block, the model's weights are replaced by their moving averages, if the run has any."""
        if not self.averages:
            yield
            return
        self.stepper.swap_averages()
        try:
            yield
        finally:
            self.stepper.swap_averages()

    def inference_model(self) -> keras.Model:
        """The classifier with the same layers, without optimizer and auxiliary head."""
        return keras.Model(self.model.inputs[0], self.model.outputs[0], name=self.model.name)

    def variables(self) -> dict[str, Any]:
        """Every variable of the run by its key in a checkpoint: `group/index/path`."""
        # Seed generators are part of the state. Their names are numbered within a process, so the keys omit the names.
        weights = {weight.path for weight in self.model.weights}
        groups = {
            "model": [(weight.path, weight) for weight in self.model.weights],
            "random": [("", state) for state in self.model.non_trainable_variables if state.path not in weights],
            "optimizer": [(_without_owner(variable.path), variable) for variable in self.optimizer.variables],
            "average": [("", variable) for variable in self.averages],
        }
        return {
            f"{group}/{index:05d}/{path}": variable
            for group, members in groups.items()
            for index, (path, variable) in enumerate(members)
        }

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The content of a checkpoint: arrays by key, and everything else, which fits into JSON."""
        arrays = {key: np.asarray(variable.numpy()) for key, variable in self.variables().items()}
        data = {"classes": self.classes, "steps": self.steps, "pictures": self.pictures}
        return arrays, {**data, "position": vars(self.position)}

    def state_bytes(self) -> int:
        """The size of a checkpoint's arrays in bytes, computed without copying them."""
        return sum(math.prod(each.shape) * tf.as_dtype(each.dtype).size for each in self.variables().values())

    def set_state(self, path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Restore a state that was read from `path`.

        Raises InputError, before anything changes, if it belongs to other pictures or another configuration.
        """
        try:
            self._check_same_pictures(path, meta)
            # Earlier versions also stored the highest accuracy, which follows from the history.
            self.position = Position(**{key: value for key, value in meta["position"].items() if key != "best"})
            self.position.unreadable = [(name, reason) for name, reason in self.position.unreadable]
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}: was written by another version of this program, or by another program ({error!r:.200}): "
                "resume with the version that the run's config.json names"
            ) from None
        # The checkpoint at an epoch's end is written before the next phase starts.
        epoch = max(self.position.epoch - (self.position.batch == 0), 0)
        every = phases(self.config)
        phase = next((phase for phase in every if phase.first <= epoch < phase.last), every[-1])
        if phase != self.phase:
            self.start_phase(phase)
        assign_variables(self.variables(), arrays, path)

    def _check_same_pictures(self, path: Path, meta: Mapping[str, Any]) -> None:
        if meta["classes"] != self.classes or meta["steps"] != self.steps:
            raise InputError(
                f"{path}: was written for {meta['steps']} steps per epoch and {len(meta['classes'])} classes, "
                f"{', '.join(meta['classes'][:5])}…; now there are {self.steps} and {len(self.classes)}, "
                f"{', '.join(self.classes[:5])}…: the pictures have changed"
            )
        parts = ("training", "held-out", "test")
        for which, before, now in zip_longest(parts, meta["pictures"], self.pictures):
            if before != now:
                raise InputError(
                    f"{path}: was written for other {which} pictures: files were added, removed, renamed or moved to "
                    "another class since, or can no longer be read. Restore them, or start a new run with "
                    f"--weights {path.parent.with_name('model.keras')}"
                )


def assign_variables(variables: Mapping[str, Any], arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Set every variable from its array. Raises InputError, before any is set, if keys or shapes differ."""
    shapes = {key: tuple(variable.shape) for key, variable in variables.items()}
    stored = {key: value.shape for key, value in arrays.items()}
    if shapes != stored:
        differ = sorted(shapes.items() ^ stored.items())
        shown = ", ".join(f"{key} {shape}" for key, shape in differ[:4])
        raise InputError(f"{path}: belongs to another network or configuration than this run; they differ in {shown}")
    for key, variable in variables.items():
        variable.assign(arrays[key])


def _build_model(
    config: TrainConfig, classes: int, momentum: float, synchronized: bool, multi_label: bool
) -> keras.Model:
    return build(
        config.network,
        classes,
        input_shape=_input_shape(*config.image_size),
        batch_norm_momentum=momentum,
        synchronized_batch_norm=synchronized,
        weight_decay=config.l2,
        dropout_rate=config.dropout,
        aux_head=config.aux_weight > 0,
        include_preprocessing=True,
        dtype=config.precision,
        classifier_activation="sigmoid" if multi_label else "softmax",
    )


def _input_shape(height: int, width: int) -> tuple[int, int, int]:
    return (3, height, width) if keras.config.image_data_format() == "channels_first" else (height, width, 3)


def _make_averages(model: keras.Model) -> list[tf.Variable]:
    return [tf.Variable(variable.value, trainable=False) for variable in averaged(model)]


def _without_owner(path: str) -> str:
    """A path such as `adam_1/iterations` without its first part, which numbers the optimizers of a process."""
    return path.partition("/")[2]

"""A run in memory: model, optimizer, averages and position; and their way to a checkpoint and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from .. import networks
from ..common.errors import InputError
from ..networks.build import build
from .checkpoints import Checkpoint, restore
from .config import TrainConfig
from .optimizers import make_optimizer, schedule
from .phases import Phase, freeze, phases, rates
from .step import StepFigures, Stepper, averaged


@dataclass
class Position:
    """Where a run is, beside its arrays.

    epoch, batch: the next to be trained on. step: optimizer steps done. sums: of the epoch's batches so
    far: loss times pictures, correct ones, pictures. seconds, training_seconds: of this epoch.
    best: the highest held-out accuracy so far. history: a row of figures for each epoch that ended.
    unreadable: pictures found damaged so far, each with the reason.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    seconds: float = 0.0
    training_seconds: float = 0.0
    best: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    def add(self, figures: StepFigures) -> None:
        self.batch += 1
        self.step += 1
        more = (figures.loss * figures.count, figures.correct, figures.count)
        self.sums = [total + part for total, part in zip(self.sums, more, strict=True)]

    def end_epoch(self) -> None:
        self.epoch += 1
        self.batch, self.sums, self.seconds, self.training_seconds = 0, [0.0, 0.0, 0.0], 0.0, 0.0


class Session:
    """What a run's checkpoint holds, and the stepper that moves it.

    steps: optimizer steps an epoch. pictures: digests of the training and the held-out ones, which a
    checkpoint keeps.
    """

    def __init__(
        self,
        config: TrainConfig,
        classes: list[str],
        steps: int,
        momentum: float,
        strategy: tf.distribute.Strategy,
        *,
        pictures: tuple[str, str] = ("", ""),
    ) -> None:
        self.config, self.classes, self.strategy = config, classes, strategy
        self.steps, self.momentum, self.pictures = steps, momentum, list(pictures)
        self.position = Position()
        keras.utils.set_random_seed(config.seed)
        with strategy.scope():
            self.model = _new_model(config, len(classes), momentum, strategy.num_replicas_in_sync > 1)
            self.averages = _averages(self.model) if config.average else []
        self.enter(phases(config)[0])

    def enter(self, phase: Phase) -> None:
        """Begins a phase: what learns changes, so optimizer and step are made anew."""
        self.phase = phase
        freeze(self.model, self.config, phase)
        rate = schedule(self.config, (phase.last - phase.first) * self.steps, self.steps)
        with self.strategy.scope():
            slower = rates(self.model, self.config.layer_rate)
            self.optimizer = make_optimizer(self.config, rate, self.model.trainable_variables, slower)
        self.stepper = Stepper(self.model, self.optimizer, self.config, self.strategy, self.averages)

    def load_pretrained(self, source: str) -> str:
        """Sets the trunk from a checkpoint; what was loaded and left, as text."""
        from ..weights.load import load_weights

        report = load_weights(self.model, source, new_head=True)
        for average, variable in zip(self.averages, averaged(self.model), strict=False):
            average.assign(variable.value)
        return str(report)

    def variables(self) -> dict[str, Any]:
        """Every variable of the run, by its place in a checkpoint; random generators are among the model's."""
        weights = {weight.path for weight in self.model.weights}  # a generator's name counts up within a process
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
        arrays = {key: np.asarray(variable.numpy()) for key, variable in self.variables().items()}
        data = {"classes": self.classes, "steps": self.steps, "pictures": self.pictures}
        return arrays, {**data, "position": vars(self.position)}

    def set_state(self, path: Path, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint; InputError where it is of other data or another configuration."""
        meta = checkpoint.meta
        if meta["classes"] != self.classes or meta["steps"] != self.steps:
            raise InputError(
                f"{path}: was written for {meta['steps']} steps an epoch and {len(meta['classes'])} classes, "
                f"{', '.join(meta['classes'][:5])}…; now there are {self.steps} and {len(self.classes)}, "
                f"{', '.join(self.classes[:5])}…: the pictures have changed"
            )
        for which, before, now in zip(("training", "held-out"), meta["pictures"], self.pictures, strict=True):
            if before != now:
                raise InputError(
                    f"{path}: was written for other {which} pictures: files were added, removed, renamed or moved to "
                    "another class since, or can no longer be read. Put them back, or start a new run with "
                    f"--weights {path.parent.with_name('model.keras')}"
                )
        self.position = Position(**meta["position"])
        self.position.unreadable = [(name, reason) for name, reason in self.position.unreadable]
        every = phases(self.config)
        # An epoch's end is checkpointed before the next phase begins.
        reached = max(self.position.epoch - (self.position.batch == 0), 0)
        phase = next((phase for phase in every if phase.first <= reached < phase.last), every[-1])
        if phase != self.phase:
            self.enter(phase)
        restore(self.variables(), checkpoint.arrays, path)

    def deployable(self) -> keras.Model:
        """The classifier alone, over the same layers: no optimizer, no auxiliary head."""
        return keras.Model(self.model.inputs[0], self.model.outputs[0], name=self.model.name)


def _new_model(config: TrainConfig, classes: int, momentum: float, synchronized: bool) -> keras.Model:
    return build(
        networks.find(config.model, config.variant),
        classes,
        input_shape=_input_shape(config.size),
        batch_norm_momentum=momentum,
        synchronized_batch_norm=synchronized,
        weight_decay=config.l2,
        dropout_rate=config.dropout,
        aux_head=config.aux_weight > 0,
        include_preprocessing=True,
        dtype=config.precision,
    )


def _averages(model: keras.Model) -> list[tf.Variable]:
    return [tf.Variable(variable.value, trainable=False) for variable in averaged(model)]


def _input_shape(side: int) -> tuple[int, int, int]:
    return (3, side, side) if keras.config.image_data_format() == "channels_first" else (side, side, 3)


def _without_owner(path: str) -> str:
    """Of `adam_1/iterations`: two optimizers of one process differ in the first part alone."""
    return path.partition("/")[2]

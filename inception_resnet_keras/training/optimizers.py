"""Training phases with frozen layers, learning-rate schedules, and optimizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from ..networks import names
from .config import TrainConfig, trunk_stages


@dataclass(frozen=True)
class Phase:
    """The epochs `first` to `last` - 1, counted from 0, and whether only the classifier is trained in them."""

    first: int
    last: int
    head_only: bool


def phases(config: TrainConfig) -> list[Phase]:
    """The phases of a run: one, or two if the classifier is trained alone first."""
    both = [Phase(0, config.head_epochs, True), Phase(config.head_epochs, config.epochs, False)]
    return [phase for phase in both if phase.first < phase.last]


def describe_phases(config: TrainConfig) -> str:
    """A text about the trained layers and the peak learning rate of each phase of a fine-tuning run."""
    parts = []
    for phase in phases(config):
        what = "the classifier alone"
        if not phase.head_only:
            first = config.first_unfrozen
            what = "all stages" if first in (None, trunk_stages(config.network)[0]) else f"the stages from {first} on"
        epochs = f"epochs {phase.first + 1} to {phase.last}" if phase.last - phase.first > 1 else f"epoch {phase.last}"
        parts.append(f"{epochs}: {what}, learning rate {config.phase_rate(head_only=phase.head_only):g}")
    return "; ".join(parts)


def freeze(model: keras.Model, config: TrainConfig, phase: Phase) -> None:
    """Set the `trainable` flag of every layer for a phase. (Keras reads the layers' flags, not only the model's.)"""
    first = config.first_unfrozen
    unfrozen = first is None
    for layer in model.layers:  # in the order of the graph, so that `unfrozen` holds from the first stage upwards
        stage = names.stage(layer.name)
        unfrozen = unfrozen or stage == first
        in_head = stage is None
        layer.trainable = in_head or (unfrozen and not phase.head_only)
        if isinstance(layer, keras.layers.BatchNormalization) and config.freeze_batch_norm and not in_head:
            layer.trainable = False


def learning_rate_factors(model: keras.Model, layer_rate: float) -> dict[str, float]:
    """Factors of the learning rate by variable path: 1 in the head, times `layer_rate` for each stage below it."""
    stages = list(dict.fromkeys(stage for layer in model.layers if (stage := names.stage(layer.name))))
    below_head = {stage: len(stages) - index for index, stage in enumerate(stages)}
    return {
        variable.path: layer_rate ** below_head.get(names.stage(layer.name) or "", 0)
        for layer in model.layers
        for variable in layer.trainable_variables
    }


@keras.saving.register_keras_serializable("inception_resnet_keras")
class TensorFlow1RMSprop(keras.optimizers.RMSprop):
    """The RMSProp of TensorFlow 1, which trained the paper's networks. Its accumulator starts at 1.

    Keras's accumulator starts at 0, so that its first step is 1/√(1-rho) times larger if epsilon is small, and 1.38
    times larger for an epsilon of 1 and a gradient of 1. Both add epsilon inside the square root.
    """

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        for velocity in self._velocities:
            velocity.assign(keras.ops.ones_like(velocity))


@keras.saving.register_keras_serializable("inception_resnet_keras")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A linear rise to `rate` over `steps` steps, followed by the schedule `after` from its start."""

    def __init__(self, steps: int, rate: float, after: keras.optimizers.schedules.LearningRateSchedule) -> None:
        super().__init__()
        self.steps, self.rate, self.after = steps, rate, after

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        rising = self.rate * (step + 1) / (self.steps + 1)
        return keras.ops.where(step < self.steps, rising, self.after(keras.ops.maximum(step - self.steps, 0)))

    def get_config(self) -> dict[str, Any]:
        after = keras.saving.serialize_keras_object(self.after)
        return {"steps": self.steps, "rate": self.rate, "after": after}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WarmUp:
        return cls(config["steps"], config["rate"], keras.saving.deserialize_keras_object(config["after"]))


def schedule(
    config: TrainConfig, phase: Phase, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning-rate schedule of a phase, whose first optimizer step is number 0."""
    schedules = keras.optimizers.schedules
    steps = (phase.last - phase.first) * steps_per_epoch
    rate, warm_up = config.phase_rate(head_only=phase.head_only), round(config.warmup * steps)
    if config.schedule == "cosine":
        # Keras's own warm-up, although its first values differ from WarmUp, because older runs used it.
        if config.warmup:
            warm_up = max(1, warm_up)
            return schedules.CosineDecay(
                rate / warm_up, max(1, steps - warm_up), warmup_target=rate, warmup_steps=warm_up
            )
        return schedules.CosineDecay(rate, steps)
    decay_rate = 1.0 if config.schedule == "constant" else config.decay_rate
    decay_steps = max(1, round(config.decay_epochs * steps_per_epoch))
    after = schedules.ExponentialDecay(rate, decay_steps, decay_rate, staircase=True)
    return WarmUp(warm_up, rate, after) if warm_up else after


def make_optimizer(
    config: TrainConfig,
    rate: keras.optimizers.schedules.LearningRateSchedule,
    variables: Sequence[keras.Variable],
    factors: Mapping[str, float] | None = None,
) -> keras.optimizers.Optimizer:
    """Make the configured optimizer, built for `variables`. Must be called in the strategy's scope.

    Args:
        factors: Factors of the learning rate by variable path; 1 for all others.
    """
    kinds: dict[str, tuple[type[keras.optimizers.Optimizer], dict[str, Any]]] = {
        "adam": (keras.optimizers.Adam, {}),
        "adamw": (keras.optimizers.AdamW, {"weight_decay": config.weight_decay}),
        "sgd": (keras.optimizers.SGD, {"momentum": config.momentum, "nesterov": config.momentum > 0}),
        "rmsprop": (
            TensorFlow1RMSprop,
            {"rho": config.rho, "momentum": config.momentum, "epsilon": config.epsilon},
        ),
    }
    kind, options = kinds[config.optimizer]
    factors = {path: factor for path, factor in (factors or {}).items() if factor != 1}
    optimizer = (_discriminative(kind, factors) if factors else kind)(rate, **options)
    if config.weight_decay:
        optimizer.exclude_from_weight_decay([variable for variable in variables if variable.name != "kernel"])
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def _discriminative(
    kind: type[keras.optimizers.Optimizer], factors: Mapping[str, float]
) -> type[keras.optimizers.Optimizer]:
    """A subclass of an optimizer that multiplies each variable's learning rate by its factor."""

    class Discriminative(kind):
        def build(self, variables: Sequence[Any]) -> None:
            super().build(variables)
            self.factors = [factors.get(variable.path, 1.0) for variable in variables]

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(gradient, variable, learning_rate * self.factors[self._get_variable_index(variable)])

    Discriminative.__name__ = kind.__name__
    return Discriminative

"""Optimizers and learning-rate schedules of a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from .config import TrainConfig


@keras.saving.register_keras_serializable("inception_resnet_keras")
class TensorFlow1RMSprop(keras.optimizers.RMSprop):
    """RMSProp as the paper's networks were trained with: its accumulator starts at 1.

    Keras's starts at 0, which makes the first step 1/√(1-rho) times larger where ε is small, and
    1.38 times at ε 1 and a gradient of 1. ε is inside the root in both.
    """

    def build(self, variables: Sequence[Any]) -> None:
        if self.built:
            return
        super().build(variables)
        for velocity in self._velocities:
            velocity.assign(keras.ops.ones_like(velocity))


@keras.saving.register_keras_serializable("inception_resnet_keras")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A linear rise from rate/steps to the rate at `steps`, then another schedule from its start."""

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


def schedule(config: TrainConfig, steps: int, steps_an_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate over `steps` optimizer steps."""
    schedules = keras.optimizers.schedules
    rate, warm_up = config.learning_rate, round(config.warmup * steps)
    if config.schedule == "cosine":
        # Keras's own warm-up, so that a run without a recipe is what it always was.
        if config.warmup:
            warm_up = max(1, warm_up)
            return schedules.CosineDecay(
                rate / warm_up, max(1, steps - warm_up), warmup_target=rate, warmup_steps=warm_up
            )
        return schedules.CosineDecay(rate, steps)
    stairs = 1.0 if config.schedule == "constant" else config.decay_rate
    every = max(1, round(config.decay_epochs * steps_an_epoch))
    after = schedules.ExponentialDecay(rate, every, stairs, staircase=True)
    return WarmUp(warm_up, rate, after) if warm_up else after


def make_optimizer(
    config: TrainConfig,
    rate: keras.optimizers.schedules.LearningRateSchedule,
    variables: Sequence[keras.Variable],
    slower: Mapping[str, float] | None = None,
) -> keras.optimizers.Optimizer:
    """The configured optimizer, built for `variables`; call it in the strategy's scope.

    slower: By a variable's path, the share of the learning rate that it learns with; 1 where absent.
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
    shares = {path: share for path, share in (slower or {}).items() if share != 1}
    optimizer = (_discriminative(kind, shares) if shares else kind)(rate, **options)
    if config.weight_decay:
        optimizer.exclude_from_weight_decay([variable for variable in variables if variable.name != "kernel"])
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def _discriminative(
    kind: type[keras.optimizers.Optimizer], shares: Mapping[str, float]
) -> type[keras.optimizers.Optimizer]:
    """A kind of optimizer that multiplies each variable's learning rate by its share."""

    class Discriminative(kind):
        def build(self, variables: Sequence[Any]) -> None:
            super().build(variables)
            self.shares = [shares.get(variable.path, 1.0) for variable in variables]

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(gradient, variable, learning_rate * self.shares[self._get_variable_index(variable)])

    Discriminative.__name__ = kind.__name__
    return Discriminative

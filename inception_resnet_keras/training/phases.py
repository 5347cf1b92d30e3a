"""Which layers learn in which epochs, and how fast: the whole network, or fine-tuning's two phases."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from ..networks import names
from .config import TrainConfig


@dataclass(frozen=True)
class Phase:
    """first, last: epochs from 0, `last` not among them. head_only: whether the classifier alone learns."""

    first: int
    last: int
    head_only: bool


def phases(config: TrainConfig) -> list[Phase]:
    head, every = config.head_epochs, config.epochs
    found = [Phase(0, head, True), Phase(head, every, False)]
    return [phase for phase in found if phase.first < phase.last]


def freeze(model: keras.Model, config: TrainConfig, phase: Phase) -> None:
    """Sets each layer's `trainable`: Keras asks it of the layer itself, a model's flag is not enough."""
    learning = phase.head_only or config.unfreeze_from is None
    for layer in model.layers:
        stage = names.stage(layer.name)
        learning = learning or stage == config.unfreeze_from
        in_head = stage is None
        layer.trainable = in_head or (learning and not phase.head_only)
        if isinstance(layer, keras.layers.BatchNormalization) and config.freeze_batch_norm and not in_head:
            layer.trainable = False


def rates(model: keras.Model, layer_rate: float) -> dict[str, float]:
    """By a variable's path, its share of the learning rate: 1 in the head, `layer_rate` less a stage below."""
    stages = list(dict.fromkeys(stage for layer in model.layers if (stage := names.stage(layer.name))))
    below = {stage: len(stages) - index for index, stage in enumerate(stages)}
    return {
        variable.path: layer_rate ** below.get(names.stage(layer.name) or "", 0)
        for layer in model.layers
        for variable in layer.trainable_variables
    }

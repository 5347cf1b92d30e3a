"""What went wrong in a step whose loss or gradient is not finite."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from .step import StepFigures

SHOWN = 3


def diagnose(model: keras.Model, images: np.ndarray, figures: StepFigures, gradients: Any) -> str:
    """The losses, and the first layer, weight and gradients that are not finite, in one line."""
    parts = {"classifier": figures.classifier, "auxiliary head": figures.auxiliary, "penalty": figures.penalty}
    said = ["losses: " + ", ".join(f"{name} {value:g}" for name, value in parts.items())]
    pixels = np.asarray(images)
    if not np.isfinite(pixels).all():
        said.append("the pictures themselves hold values that are not finite")
    weights = [weight.path for weight in model.weights if not np.isfinite(weight.numpy()).all()]
    if weights:
        said.append(f"weights that are not finite: {_first(weights)}")
    if (layer := first_broken_layer(model, pixels)) is not None:
        said.append(f"the first layer whose output is not finite: {layer}")
    broken = [
        variable.path
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
        if not all(np.isfinite(part.numpy()).all() for part in getattr(gradient, "values", [gradient]))
    ]
    if broken:
        said.append(f"{len(broken)} of {len(gradients)} gradients are not finite, from {broken[-1]} down")
    return "; ".join(said)


def first_broken_layer(model: keras.Model, images: np.ndarray) -> str | None:
    """The first layer, in the order of the graph, that turns this batch into something not finite."""
    layers = [layer for layer in model.layers if not isinstance(layer.output, list)]
    with keras.StatelessScope():  # the statistics stay as they are
        outputs = keras.Model(model.inputs[0], [layer.output for layer in layers])(images, training=True)
    finite = (bool(keras.ops.all(keras.ops.isfinite(output))) for output in outputs)
    return next((layer.name for layer, fine in zip(layers, finite, strict=True) if not fine), None)


def _first(found: list[str]) -> str:
    more = len(found) - SHOWN
    return ", ".join(found[:SHOWN]) + (f" and {more} more" if more > 0 else "")

"""A model's forward pass that keeps only what stands between its blocks, and computes each again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import keras
import tensorflow as tf

from ..networks import names


def rematerialised(model: keras.Model) -> Callable[[Any], Any]:
    """`model(images, training=True)`, whose blocks' inner maps are computed again in the backward pass.

    Batch-norm statistics move once: what the second computation would assign is dropped. Blocks hold
    no dropout, so that both computations are the same.
    """
    cuts = _cuts(model)
    tensors = [model.inputs[0], *cuts]
    segments = [keras.Model(before, after) for before, after in pairwise(tensors)]
    aux = next((index for index, tensor in enumerate(cuts) if len(model.outputs) > 1 and _reads_aux(model, tensor)), -1)
    tail = keras.Model([cuts[-1], *([cuts[aux]] if aux >= 0 and aux != len(cuts) - 1 else [])], model.outputs)

    def forward(images: Any) -> Any:
        x, kept = images, []
        for segment in segments:
            x = _recomputed(segment)(x)
            kept.append(x)
        inputs = [x] if len(tail.inputs) == 1 else [x, kept[aux]]
        outputs = tail(inputs, training=True)
        return outputs if isinstance(outputs, list) and len(outputs) > 1 else _only(outputs)

    return forward


def _only(outputs: Any) -> Any:
    return outputs[0] if isinstance(outputs, list) else outputs


def _cuts(model: keras.Model) -> list[Any]:
    """The last tensor of each stage, in the order of the walk."""
    last: dict[str, Any] = {}
    for layer in model.layers:
        stage = names.stage(layer.name)
        if stage and not names.in_branch(layer.name):
            last[stage] = layer.output
    return list(last.values())


def _reads_aux(model: keras.Model, tensor: Any) -> bool:
    first = next(layer for layer in model.layers if names.place(layer.name) == names.AUX)
    return first.input is tensor


def _recomputed(segment: keras.Model) -> Callable[[Any], Any]:
    @tf.custom_gradient
    def call(x: tf.Tensor) -> Any:
        y = segment(x, training=True)

        def gradient(upstream: tf.Tensor, variables: Any = ()) -> Any:
            # After `upstream` is there, or the graph's optimizer would merge this with the first computation.
            with tf.control_dependencies([upstream]), keras.StatelessScope(), tf.GradientTape() as tape:
                again = tf.identity(x)
                tape.watch(again)
                output = segment(again, training=True)
            found = tape.gradient(output, [again, *variables], output_gradients=upstream)
            return (found[0], found[1:]) if variables else found[0]

        return y, gradient

    return call

"""The gradient of a score by what a Keras model reads, on each engine that Keras runs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

Outputs = dict[str, Any]
Differentiate = Callable[[list[Any], Any], tuple[Outputs, Any, Any]]


@dataclass(frozen=True)
class ScoreGradient:
    """A score's gradient by one of a model's inputs, picture by picture; layers run as outside training.

    model: From a list of inputs to a dict, whose "head" is (n, width). by: The number of the input.
    """

    model: keras.Model
    by: int = 0

    def __call__(
        self, inputs: Sequence[np.ndarray], direction: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """The outputs; the score, which is the head along `direction`, (n,); and the gradient, shaped as the input."""
        import keras

        tensors = [keras.ops.convert_to_tensor(array) for array in inputs]
        outputs, scores, slopes = self._differentiate(tensors, keras.ops.convert_to_tensor(direction))
        return {name: float_array(output) for name, output in outputs.items()}, float_array(scores), float_array(slopes)

    @cached_property
    def _differentiate(self) -> Differentiate:
        import keras

        return {"tensorflow": self._by_tensorflow, "jax": self._by_jax, "torch": self._by_torch}[
            keras.config.backend()
        ]()

    def _by_tensorflow(self) -> Differentiate:
        import tensorflow as tf

        def differentiate(inputs: list[Any], direction: Any) -> tuple[Outputs, Any, Any]:
            with tf.GradientTape() as tape:
                tape.watch(inputs[self.by])
                outputs = self.model(inputs, training=False)
                scores = _along(outputs["head"], direction)
            return outputs, scores, tape.gradient(scores, inputs[self.by])

        return differentiate

    def _by_jax(self) -> Differentiate:
        import jax

        variables = self.model.trainable_variables, self.model.non_trainable_variables
        values = [[variable.value for variable in group] for group in variables]

        def total(x: Any, weights: list[Any], inputs: list[Any], direction: Any) -> tuple[Any, tuple[Outputs, Any]]:
            given = [x if number == self.by else each for number, each in enumerate(inputs)]
            outputs, _ = self.model.stateless_call(*weights, given, training=False)
            scores = _along(outputs["head"], direction)
            return scores.sum(), (outputs, scores)  # no picture's score depends on another picture

        compiled = jax.jit(jax.grad(total, has_aux=True))  # an operation at a time takes longer than to compile all

        def differentiate(inputs: list[Any], direction: Any) -> tuple[Outputs, Any, Any]:
            slopes, (outputs, scores) = compiled(inputs[self.by], values, inputs, direction)
            return outputs, scores, slopes

        return differentiate

    def _by_torch(self) -> Differentiate:
        import torch

        def differentiate(inputs: list[Any], direction: Any) -> tuple[Outputs, Any, Any]:
            with torch.enable_grad():
                inputs[self.by].requires_grad_(True)
                outputs = self.model(inputs, training=False)
                scores = _along(outputs["head"], direction)
                (slopes,) = torch.autograd.grad(scores.sum(), inputs[self.by])
            return outputs, scores, slopes

        return differentiate


def _along(head: Any, direction: Any) -> Any:
    from keras import ops

    return ops.sum(ops.cast(head, "float32") * direction, axis=-1)


def float_array(tensor: Any) -> np.ndarray:
    """A tensor of the engine as a float32 array."""
    from keras import ops

    return ops.convert_to_numpy(ops.cast(tensor, "float32"))

"""The gradient of a score with respect to an input of a Keras model, on every Keras backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.errors import refuse
from ..common.packages import configured_engine

if TYPE_CHECKING:
    import keras

Outputs = dict[str, Any]
Differentiate = Callable[[list[Any], Any], tuple[Outputs, Any, Any]]


@dataclass(frozen=True)
class ScoreGradient:
    """The gradient of each image's score with respect to one input of a model, which runs in inference mode.

    Attributes:
        model: A model from a list of inputs to a dict of outputs, of which "head" has the shape (n, width).
        by: The index of the input.
    """

    model: keras.Model
    by: int = 0

    def __call__(
        self, inputs: Sequence[np.ndarray], direction: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """The outputs; the score, (n,), which is the inner product of the head and `direction`; and the gradient.

        The gradient has the shape of the input.
        """
        import keras

        tensors = [keras.ops.convert_to_tensor(array) for array in inputs]
        outputs, scores, slopes = self._differentiate(tensors, keras.ops.convert_to_tensor(direction))
        return {name: float_array(output) for name, output in outputs.items()}, float_array(scores), float_array(slopes)

    @cached_property
    def _differentiate(self) -> Differentiate:
        ways = {"tensorflow": self._by_tensorflow, "jax": self._by_jax, "torch": self._by_torch}
        if (engine := configured_engine()) not in ways:
            raise refuse("KERAS_BACKEND", engine, f"{' or '.join(ways)} here, because gradients are needed")
        return ways[engine]()

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
            return scores.sum(), (outputs, scores)  # the sum, because no score depends on another image

        compiled = jax.jit(jax.grad(total, has_aux=True))  # running it uncompiled takes longer than compiling it

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
    """A backend tensor as a float32 array."""
    from keras import ops

    return ops.convert_to_numpy(ops.cast(tensor, "float32"))

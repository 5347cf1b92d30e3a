"""Why a model says what it says of a picture: Grad-CAM at any endpoint, and integrated gradients.

Grad-CAM is Selvaraju et al., arXiv 1610.02391; integrated gradients Sundararajan et al., arXiv 1703.01365.
Both explain a logit, not the softmax, whose gradient vanishes where the model is sure.

Libraries were tried first (with Keras 3.15, TensorFlow 2.21). xplique 2.0.2 wants TensorFlow 2.20 at most, and
`tensorflow[and-cuda]` on Linux; shap 0.54 wants Python 3.12 and has no Grad-CAM; captum and grad-cam are for
PyTorch. tf-keras-vis 0.8.7 runs, but neither it nor saliency 0.2.1 has been released since March 2024, and what they
would take over is the few lines of `_differentiate` and what follows it, without channels-first or embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..arguments import is_integer, positive_integer
from ..errors import InputError, refuse
from ..features import STRIDES, channels_first, embedding_of, endpoints
from ..spec import names

STEPS = 32
LEAST_SIDE = 5  # cells a side of the map that is taken where none is named: fewer tell no place


@dataclass(frozen=True)
class Explanation:
    """Of one picture.

    number, probability: the class that is explained, and what the model gives it; None for a similarity.
    score: the class's logit, or the cosine similarity, from -1 to 1. endpoint: the map that Grad-CAM reads.
    cam: float32, (height, width) of that map, from 0 to 1: where it speaks for the class; 0 everywhere
        where nothing does.
    gradients: float32 (height, width) of the picture: each pixel's part in the score, above 0 for, below
        against. They add up to the score's difference from a grey picture's, but for `gap`.
    difference: that difference. gap: what the steps taken miss of it.
    """

    number: int | None
    probability: float | None
    score: float
    endpoint: str
    cam: np.ndarray
    gradients: np.ndarray
    difference: float
    gap: float


def explain(
    model: keras.Model,
    images: Any,
    *,
    classes: int | Sequence[int] | None = None,
    against: Any = None,
    endpoint: str | None = None,
    steps: int = STEPS,
    batch_size: int = 8,
) -> list[Explanation]:
    """Explains a model's answers.

    Args:
        model: A model of this project, built or loaded, with its classifier or its embedding.
        images: (n, height, width, channels), or channels first, as the model takes them: pixels of
            0-255 where it scales them itself, else what `preprocess_input` returns.
        classes: The output to explain, one for all pictures or one each; None for the likeliest.
        against: One picture (1, height, width, channels): what makes each of `images` similar to it is
            explained, by the cosine of the two embeddings: what a classifier reads, where there is one.
            A model without a classifier needs it.
        endpoint: A map that `features.endpoints` names; None for the last of at least 5×5, which at
            299 pixels is the last of all, 8×8.
        steps: Of integrated gradients, from grey to the picture, at least 1: more make `gap` smaller.
        batch_size: How many pictures or steps go through the model at once.

    Returns:
        One explanation a picture, in order.

    Raises:
        ValueError: The model has neither classifier nor embedding, or an argument does not fit it or another.
    """
    steps, batch_size = positive_integer("steps", steps), positive_integer("batch_size", batch_size)
    there = endpoints(model)
    pixels = _pixels("images", images, model)
    first = channels_first(model)
    place = map_endpoint(model, pixels.shape[2:4] if first else pixels.shape[1:3], endpoint, first=first)
    if against is None and names.LOGITS not in there:
        embedding_of(model)  # a model of maps is told so
        raise InputError(
            f"model: {model.name!r} gives embeddings, which have no classes: give the picture to compare with "
            "(against, `--against` of the command)"
        )
    if against is not None and classes is not None:
        raise refuse("classes", classes, "None beside against: a similarity to a picture has no class")
    head = there[names.LOGITS] if against is None else _unit(embedding_of(model))
    outputs = {"map": there[place], "head": head}
    if names.PREDICTIONS in there:
        outputs["predictions"] = there[names.PREDICTIONS]
    network = _Network(keras.Model(model.input, outputs), first, steps, batch_size)
    numbers: Sequence[int | None]
    if against is None:
        numbers = _numbers(network, pixels, classes)
        directions = np.eye(head.shape[-1], dtype=np.float32)[np.array(numbers)]
    else:
        numbers = [None] * len(pixels)
        directions = np.repeat(network.run(_pixels("against", against, model)[:1]), len(pixels), axis=0)
    return [
        network.explained(picture, direction, number, place)
        for picture, direction, number in zip(pixels, directions, numbers, strict=True)
    ]


def _unit(vectors: Any) -> Any:
    """A Keras tensor (batch, width), each row at length 1, in float32."""
    return keras.ops.normalize(keras.ops.cast(vectors, "float32"), axis=-1)


def map_endpoint(model: keras.Model, size: Sequence[int], endpoint: str | None, *, first: bool) -> str:
    """The endpoint to read, checked to be a map; None for the last of at least 5×5 for pictures of `size`."""
    maps = {name: tensor for name, tensor in endpoints(model).items() if len(tensor.shape) == 4}
    if endpoint is not None:
        if endpoint not in maps:
            raise refuse("endpoint", endpoint, f"of this model's maps one: {', '.join(maps)}")
        return endpoint
    stages = [name for name in maps if name not in STRIDES]
    shape = (1, model.input_shape[1], *size) if first else (1, *size, model.input_shape[-1])
    shapes = keras.Model(model.input, [maps[name] for name in stages]).compute_output_shape(shape)
    sides = [min(shape[2:4] if first else shape[1:3]) for shape in shapes]
    return next((name for name, side in zip(stages[::-1], sides[::-1], strict=True) if side >= LEAST_SIDE), stages[0])


@dataclass(frozen=True)
class _Network:
    """model: from the image to "map", "head" and, where it has them, "predictions"."""

    model: keras.Model
    first: bool  # channels
    steps: int
    batch_size: int

    def explained(self, picture: np.ndarray, direction: np.ndarray, number: int | None, place: str) -> Explanation:
        outputs, score, slopes = self.differentiate(picture[None], direction, of="map")
        cam = np.maximum(self._last(outputs["map"][0]) @ self._last(slopes[0]).mean(axis=(0, 1)), 0)
        grey = np.full_like(picture, self.grey)
        gradients = self.integrated(picture, grey, direction)
        difference = float(score[0] - self.differentiate(grey[None], direction, of="image")[1][0])
        return Explanation(
            number=number,
            probability=None if number is None else _probability(outputs, number),
            score=float(score[0]),
            endpoint=place,
            cam=cam / cam.max() if cam.max() > 0 else cam,
            gradients=gradients,
            difference=difference,
            gap=float(difference - gradients.sum()),
        )

    def integrated(self, picture: np.ndarray, grey: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """(picture - grey) times the mean gradient on the way from grey to the picture, over channels added."""
        total = np.zeros_like(picture)
        for start in range(0, self.steps, self.batch_size):
            numbers = np.arange(start, min(start + self.batch_size, self.steps), dtype=np.float32)
            shares = (numbers[:, None, None, None] + 0.5) / self.steps  # each step's middle
            total += self.differentiate(grey + shares * (picture - grey), direction, of="image")[2].sum(axis=0)
        return self._last((picture - grey) * total / self.steps).sum(axis=-1)

    def differentiate(
        self, pixels: np.ndarray, direction: np.ndarray, *, of: str
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Outputs, the head along `direction`, and its gradient by the "map" or the "image", a picture each."""
        image = tf.convert_to_tensor(pixels)
        with tf.GradientTape() as tape:
            tape.watch(image)
            outputs = self.model(image, training=False)
            scores = tf.reduce_sum(tf.cast(outputs["head"], tf.float32) * direction, axis=-1)
        gradient = tape.gradient(scores, outputs["map"] if of == "map" else image)
        return {name: _array(output) for name, output in outputs.items()}, _array(scores), _array(gradient)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """The head's numbers."""
        size = self.batch_size
        parts = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        return np.concatenate([_array(self.model(part, training=False)["head"]) for part in parts])

    @property
    def grey(self) -> float:
        """The pixel that the network reads as zero."""
        scaling = next((layer for layer in self.model.layers if layer.name == names.PREPROCESS), None)
        return 0.0 if scaling is None else -float(scaling.offset) / float(scaling.scale)

    def _last(self, values: np.ndarray) -> np.ndarray:
        return np.moveaxis(values, 0, -1) if self.first else values


def _numbers(network: _Network, pixels: np.ndarray, classes: Any) -> list[int]:
    """The class of each picture."""
    count = network.model.output["head"].shape[-1]
    if classes is None:
        return [int(number) for number in network.run(pixels).argmax(axis=-1)]
    asked = [classes] * len(pixels) if is_integer(classes) else classes
    fits = isinstance(asked, Sequence | np.ndarray) and len(asked) == len(pixels)
    if not fits or not all(is_integer(number) and 0 <= number < count for number in asked):
        raise refuse("classes", classes, f"None, an integer from 0 to {count - 1}, or {len(pixels)} such integers")
    return [int(number) for number in asked]


def _pixels(argument: str, given: Any, model: keras.Model) -> np.ndarray:
    pixels, expected = np.asarray(given, np.float32), model.input_shape[1:]
    fits = pixels.ndim == 4 and all(want in (None, have) for have, want in zip(pixels.shape[1:], expected, strict=True))
    if not fits or not len(pixels):
        raise refuse(argument, f"an array of shape {pixels.shape}", f"shape (n, {str(expected)[1:-1]}), n at least 1")
    return pixels


def _probability(outputs: dict[str, np.ndarray], number: int) -> float:
    """What the model gives the class; of a model that ends in logits, their softmax."""
    if "predictions" in outputs:
        return float(outputs["predictions"][0, number])
    shifted = np.exp(outputs["head"][0] - outputs["head"][0].max())
    return float(shifted[number] / shifted.sum())


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(tf.cast(tensor, tf.float32))

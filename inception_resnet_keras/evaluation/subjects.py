"""What is evaluated: a model as a function from pictures to probabilities or embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..data.crops import View

if TYPE_CHECKING:
    import keras

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Subject:
    """An opened model.

    name: as it was asked for. network: whose table it is of, "" where that is not known.
    classes: names in the order of the outputs; None where it carries none.
    imagenet: whether its outputs are ImageNet's classes. outputs: how many it has.
    view: how one picture becomes its input.
    run: float32 (n, height, width, 3), pixels of 0-255, to float32 (n, outputs).
    published: accuracy as its source publishes it, %, by measure.
    assumed: whether nothing says that the weights were made for this view.
    averages: whether its file has running averages of the weights that were not taken.
    model: the Keras model behind `run`, from pixels in its own data format; None for what `export` wrote.
    """

    name: str
    network: str
    classes: list[str] | None
    imagenet: bool
    outputs: int
    view: View
    run: Run
    published: Mapping[str, float] = field(default_factory=dict)
    assumed: bool = False
    averages: bool = False
    model: keras.Model | None = None


def without_background(run: Run, images: np.ndarray) -> np.ndarray:
    """Slim's class 0 is none of ImageNet's: the others' probabilities, made to sum to 1; equal ones if it has all."""
    found = run(images)[:, 1:]
    total = found.sum(axis=1, keepdims=True)
    return np.where(total > 0, found / np.maximum(total, np.finfo(found.dtype).tiny), 1 / found.shape[1])


def normalised(run: Run, images: np.ndarray) -> np.ndarray:
    vectors = run(images)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def keras_run(model: keras.Model) -> Run:
    """A model on arrays, compiled for batches of the first one's length: a shorter one is filled up."""
    from ..features import channels_first

    first = channels_first(model)
    length = 0

    def run(images: np.ndarray) -> np.ndarray:
        nonlocal length
        length = max(length, len(images))
        missing = length - len(images)
        batch = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else images
        return np.asarray(model.predict_on_batch(np.moveaxis(batch, -1, 1) if first else batch))[: len(images)]

    return run

"""ImageNet's class names for a network's outputs."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..common.arguments import is_integer
from ..common.errors import refuse
from . import download

# Keras's own: the same file in the same place as `keras.applications` has it.
URL = "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"

DIGEST = "md5:c2c37ea517e94d9795004a39431a14cb"

FOLDER = "models"

CLASSES = 1000


class Label(NamedTuple):
    """WordNet's id, the class's name, and its probability."""

    id: str
    name: str
    probability: float


def label_offset(outputs: int | None) -> int | None:
    """The number of ImageNet's first class among so many outputs; None where they are not as many as its classes.

    0 of 1000; 1 of 1001, whose class 0 is TF-Slim's "background".
    """
    return {CLASSES: 0, CLASSES + 1: 1}.get(outputs or 0)


def decode_predictions(probabilities: ArrayLike, top: int = 5) -> list[list[Label]]:
    """The most probable ImageNet classes of each picture.

    The class index is Keras's imagenet_class_index.json: from Keras's cache, where it is fetched to
    at the first call.

    Args:
        probabilities: (batch, 1000), or (batch, 1001) where class 0 is "background", which is left out.
        top: How many classes a picture, 1 to 1000.

    Returns:
        For each picture its classes, the most probable first: (id, name, probability).

    Raises:
        ValueError: probabilities has another shape, top is out of range, or the class index is not
            in the cache and cannot be fetched; it says what to fetch from where to where.
    """
    array = np.asarray(probabilities)
    if array.ndim != 2 or label_offset(array.shape[1]) is None:
        raise refuse(
            "probabilities", f"an array of shape {array.shape}", f"shape (batch, {CLASSES}) or (batch, {CLASSES + 1})"
        )
    if not is_integer(top) or not 1 <= top <= CLASSES:
        raise refuse("top", top, f"an integer from 1 to {CLASSES}")
    index = class_index()
    array = array[:, -CLASSES:]
    order = np.argsort(-array, axis=1, kind="stable")[:, :top]
    return [[_label(index[number], row[number]) for number in best] for row, best in zip(array, order, strict=True)]


def _label(entry: tuple[str, str], probability: float) -> Label:
    return Label(entry[0], entry[1], float(probability))


@lru_cache(maxsize=1)
def class_index() -> list[tuple[str, str]]:
    """(WordNet id, name) of ImageNet's classes, by number."""
    path = download.fetch(URL, FOLDER, DIGEST)
    entries = json.loads(path.read_text(encoding="utf-8"))
    return [tuple(entries[str(number)]) for number in range(CLASSES)]

"""The small real data of the examples: scikit-learn's handwritten digits, as files in a folder a class."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """uint8 (1797, 8, 8), 0-255, and their labels (1797,)."""
    digits = load_digits()
    return np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target


def write_digits(
    folder: Path, which: Iterable[int], per_class: int, *, first: int = 0, name: str = "{number:03d}.png"
) -> Path:
    """Writes `per_class` pictures of each of some digits, from its picture number `first` on.

    name: of a picture's file; `digit` and `number`, which counts from 1, stand for themselves.
    """
    images, labels = digit_images()
    for digit in which:
        of_class = folder / str(digit)
        of_class.mkdir(parents=True)
        chosen = images[labels == digit][first : first + per_class]
        for number, image in enumerate(chosen, 1):
            Image.fromarray(image).save(of_class / name.format(digit=digit, number=number))
    return folder

"""The small real data of the examples: scikit-learn's handwritten digits, as files in one folder per class."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """The digits as uint8 (1797, 8, 8), 0-255, and their labels (1797,)."""
    digits = load_digits()
    return np.rint(digits.images * (255 / 16)).astype(np.uint8), digits.target


def digit_forms() -> np.ndarray:
    """The form that each digit was written on, 1 to 14, (1797,).

    The digits are in the order in which they were written. Every writer filled in the same form of up to 130 digits, so
    the sequence of the labels starts again with each form. UCI documents 13 writers of these digits: one of them may
    have filled in two forms.
    """
    labels = "".join(map(str, load_digits().target))
    before = 31  # digits of a form before this part of it, which is complete on all forms
    first = [match.start() - before for match in re.finditer("95565098984177351", labels)]
    return np.searchsorted(first, np.arange(len(labels)), side="right")


def write_forms(folder: Path, forms: Collection[int]) -> Path:
    """Writes all digits of some forms: DIGIT/form_FORM_NUMBER.png, counted over all digits."""
    images, labels = digit_images()
    for number, (image, label, form) in enumerate(zip(images, labels, digit_forms(), strict=True)):
        if form in forms:
            path = folder / str(label) / f"form_{form:02d}_{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return folder


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

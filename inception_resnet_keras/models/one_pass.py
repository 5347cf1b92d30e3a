"""One pass over images for any number of models: each image is decoded once, or once per size that they need."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
from PIL import Image

from ..common.devices import usable_cores
from ..common.errors import InputError
from ..data.crops import Enough, View, look
from ..data.images import UnreadableImageError
from .open import OpenedModel, Run, require_finite

Progress = Callable[[int, int], None]
ProgressCallback = Callable[[str, int, int], None]
Decode = Callable[[int, Enough], Image.Image]
Given = TypeVar("Given")
Made = TypeVar("Made")
SUM_TOLERANCE = 1e-2  # in half precision, sums of probabilities differ from 1 by a few thousandths


def one_pass(
    names: Sequence[object],
    decode: Decode,
    subjects: Sequence[OpenedModel],
    *,
    crops: int = 1,
    flip: bool = False,
    averaged: bool = False,
    batch_size: int = 32,
    progress: Progress = lambda done, total: None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Compute the outputs of models for images.

    Args:
        names: The images' names in messages.
        decode: A function that decodes the image with a given index, at the size of `data.crops.decoding_size`. It
            raises UnreadableImageError to skip the image, and any other error to end the pass.
        subjects: The models. Models with equal views share their crops.
        crops: Crops per image, 1, 12 or 144.
        flip: Whether to add the mirror image of each crop.
        averaged: Whether to return only the mean over an image's crops.
        batch_size: Number of crops that a model computes at once.
        progress: A function that is called with the number of finished images and their total.

    Returns:
        The indices of the images that were read, int64 (n,); and for each model its outputs, float32
        (n, crops, outputs). With `flip` there are twice as many crops, each followed by its mirror image. With
        `averaged` the outputs are (n, outputs).

    Raises:
        InputError: A model computes NaN or infinity.
    """
    # An image is decoded and cropped once for each different view.
    count = len(names)
    views = list(dict.fromkeys(subject.view for subject in subjects))

    def looked_at(index: int) -> dict[View, np.ndarray] | None:
        try:
            found = look(partial(decode, index), views, crops)
        except UnreadableImageError:
            return None
        return {view: _with_mirrored(pixels) for view, pixels in found.items()} if flip else found

    read: list[int] = []
    # One array per model, filled batch by batch: joining a list of parts at the end would need twice the memory.
    outputs: list[np.ndarray] = []
    pictures = max(1, batch_size // (crops * (2 if flip else 1)))
    done = 0
    with ThreadPoolExecutor(usable_cores()) as threads:
        ahead = 2 * pictures + min(usable_cores(), 16)  # limited, because 144 crops of one image take 40 MB
        # Threads decode while the models compute.
        for batch in batched(mapped_ahead(threads, looked_at, range(count), ahead), pictures):
            readable = [found for found in batch if found is not None]
            numbers = [done + number for number, found in enumerate(batch) if found is not None]
            read += numbers
            for place, subject in enumerate(subjects if readable else ()):
                each = _outputs(subject.run, [found[subject.view] for found in readable], batch_size)
                require_finite(subject.name, each, [names[number] for number in numbers])
                if averaged:
                    each = each.mean(axis=1, dtype=np.float64).astype(np.float32)
                if len(outputs) == place:
                    outputs.append(np.empty((count, *each.shape[1:]), each.dtype))
                outputs[place][len(read) - len(numbers) : len(read)] = each
            done += len(batch)
            progress(done, count)
    if not read:
        return np.empty(0, np.int64), [np.empty((0, 0), np.float32)] * len(subjects)
    return np.array(read, np.int64), [each[: len(read)] for each in outputs]


def classify(
    names: Sequence[object],
    decode: Decode,
    subjects: Sequence[OpenedModel],
    *,
    crops: int = 1,
    batch_size: int = 32,
    several: bool = False,
    progress: Progress = lambda done, total: None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """`one_pass` for probabilities, averaged over an image's crops: float32 (n, classes) per model.

    `several` is whether an image may have several labels, so that its probabilities need not sum to 1. Raises
    InputError if a model's outputs are not probabilities.
    """
    checked = [replace(subject, run=_checked(subject, several=several)) for subject in subjects]
    return one_pass(names, decode, checked, crops=crops, batch_size=batch_size, progress=progress, averaged=True)


def average(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of several models' probabilities, float32. For one model, its own array."""
    if len(outputs) == 1:
        return outputs[0]
    total = outputs[0].astype(np.float64)
    for each in outputs[1:]:
        total += each
    return (total / len(outputs)).astype(np.float32)


def mapped_ahead(
    threads: ThreadPoolExecutor, function: Callable[[Given], Made], items: Iterable[Given], ahead: int
) -> Iterator[Made]:
    """The results of a function on threads, in order. At most `ahead` results are computed in advance."""
    rest = iter(items)
    waiting: deque[Future[Made]] = deque(threads.submit(function, item) for item in islice(rest, ahead))
    try:
        while waiting:
            made = waiting.popleft().result()
            waiting.extend(threads.submit(function, item) for item in islice(rest, 1))
            yield made
    finally:
        for future in waiting:
            future.cancel()


def batched(items: Iterable[Given], length: int) -> Iterator[list[Given]]:
    """Lists of `length` items; the last one may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, length)):
        yield batch


def _with_mirrored(pixels: np.ndarray) -> np.ndarray:
    """Each crop followed by its mirror image."""
    return np.stack([pixels, pixels[..., ::-1, :]], axis=1).reshape(-1, *pixels.shape[1:])


def _outputs(run: Run, pictures: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
    crops = np.concatenate(pictures)
    parts = [run(crops[start : start + batch_size].astype(np.float32)) for start in range(0, len(crops), batch_size)]
    return np.concatenate(parts).reshape(len(pictures), len(pictures[0]), -1)


def _checked(subject: OpenedModel, *, several: bool) -> Run:
    """The model's `run`, with an error if its outputs are not probabilities. NaN is left to `one_pass`."""

    def run(images: np.ndarray) -> np.ndarray:
        found = subject.run(images)
        if several:
            if found.min() < 0 or found.max() > 1:
                raise InputError(
                    f"{subject.name}: its outputs are not probabilities in [0, 1] ({found[0, :3]} …): for several "
                    "labels, only a model that ends in sigmoids can be evaluated or averaged"
                )
            return found
        if found.min() < 0 or np.abs(found.sum(axis=1) - 1).max() > SUM_TOLERANCE:
            raise InputError(
                f"{subject.name}: its outputs are not probabilities that sum to 1 ({found[0, :3]} …): only a model "
                "that ends in a softmax can be evaluated or averaged"
            )
        return found

    return run

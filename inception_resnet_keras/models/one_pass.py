"""One pass over the pictures, whatever the number of models: each is decoded once, or once a size they need."""

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
SUM_TOLERANCE = 1e-2  # half precision's sums are off by a few thousandths


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
    """What models say of pictures.

    Args:
        names: The pictures, as errors call them.
        decode: Gives picture number `index`, for a size as `data.crops.decoding_size` has it; raises
            UnreadableImageError for one that is to be left out, anything else to end the pass.
        subjects: The models; those of equal views share their crops.
        crops: 1, 12 or 144 a picture.
        flip: Whether to look at each crop mirrored too.
        averaged: Whether to keep the mean over a picture's crops only.
        batch_size: How many crops go through a model at once.
        progress: Called with how many pictures are done of how many.

    Returns:
        int64 (n,) the numbers of the pictures that were read; and for each model float32
        (n, crops, outputs), or twice the crops with `flip`, a crop followed by its mirrored one; or
        averaged (n, outputs).

    Raises:
        InputError: A model gives NaN or infinity.
    """
    count = len(names)
    views = list(dict.fromkeys(subject.view for subject in subjects))

    def looked_at(index: int) -> dict[View, np.ndarray] | None:
        try:
            found = look(partial(decode, index), views, crops)
        except UnreadableImageError:
            return None
        return {view: _with_mirrored(pixels) for view, pixels in found.items()} if flip else found

    read: list[int] = []
    outputs: list[np.ndarray] = []  # one array a model, filled as batches come: lists of parts would take twice that
    pictures = max(1, batch_size // (crops * (2 if flip else 1)))
    done = 0
    with ThreadPoolExecutor(usable_cores()) as threads:
        ahead = 2 * pictures + min(usable_cores(), 16)  # 144 crops of a picture take 40 MB
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
    return np.array(read, np.int64), [said[: len(read)] for said in outputs]


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
    """As `one_pass`, the probabilities of a picture's crops averaged: float32 (n, classes) a model.

    several: Whether a picture may have several labels, so that its probabilities do not sum to 1.

    Raises InputError where a model gives none.
    """
    checked = [replace(subject, run=_checked(subject, several=several)) for subject in subjects]
    return one_pass(names, decode, checked, crops=crops, batch_size=batch_size, progress=progress, averaged=True)


def average(outputs: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of several models' probabilities, float32; of one model, what it gives."""
    if len(outputs) == 1:
        return outputs[0]
    total = outputs[0].astype(np.float64)
    for each in outputs[1:]:
        total += each
    return (total / len(outputs)).astype(np.float32)


def mapped_ahead(
    threads: ThreadPoolExecutor, function: Callable[[Given], Made], items: Iterable[Given], ahead: int
) -> Iterator[Made]:
    """The results in order, at most `ahead` of them made before they are asked for."""
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
    rest = iter(items)
    while batch := list(islice(rest, length)):
        yield batch


def _with_mirrored(pixels: np.ndarray) -> np.ndarray:
    return np.stack([pixels, pixels[..., ::-1, :]], axis=1).reshape(-1, *pixels.shape[1:])


def _outputs(run: Run, pictures: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
    crops = np.concatenate(pictures)
    parts = [run(crops[start : start + batch_size].astype(np.float32)) for start in range(0, len(crops), batch_size)]
    return np.concatenate(parts).reshape(len(pictures), len(pictures[0]), -1)


def _checked(subject: OpenedModel, *, several: bool) -> Run:
    """The model's run, refused where it gives no probabilities; NaN passes, which `one_pass` refuses by name."""

    def run(images: np.ndarray) -> np.ndarray:
        found = subject.run(images)
        if several:
            if found.min() < 0 or found.max() > 1:
                raise InputError(
                    f"{subject.name}: gives no probabilities of labels, which are in [0, 1] (but {found[0, :3]} …)"
                )
            return found
        if found.min() < 0 or np.abs(found.sum(axis=1) - 1).max() > SUM_TOLERANCE:
            raise InputError(
                f"{subject.name}: gives no probabilities that sum to 1 (but {found[0, :3]} …): only a model that ends "
                "in a softmax can be evaluated or averaged"
            )
        return found

    return run

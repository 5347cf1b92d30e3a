"""Pictures in batches, in an order that the seed and the epoch give: batch k is a function of these alone."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import keras
import numpy as np

from ..data.pictures import Pictures

AHEAD = 4  # batches made while one is trained on

Batch = tuple[np.ndarray, np.ndarray]


def batches_an_epoch(pictures: int, batch_size: int, replicas: int = 1) -> int:
    """How many are trained on: a last one that is too small to give every replica a picture is not."""
    whole, rest = divmod(pictures, batch_size)
    return whole + (rest >= replicas)


def epoch_batches(
    pictures: Pictures,
    batch_size: int,
    *,
    seed: int | None = None,
    shift: float = 0.0,
    epoch: int = 0,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """(pixels of 0-255 as float32, labels), batch after batch, every picture once an epoch.

    seed: shuffles the pictures anew each epoch; None leaves them in order.
    shift: each picture is moved by up to this share of its side; its edge pixels fill what that opens.
    start: the first batch's number: a resumed epoch goes on as it would have.
    shard: (i, n) gives the i-th of n nearly equal parts of each batch; together they are the batch.
    """
    order = np.arange(len(pictures))
    if seed is not None:
        order = np.random.default_rng((seed, epoch)).permutation(order)
    part, parts = shard

    def make(index: int) -> Batch:
        chosen = order[index * batch_size : (index + 1) * batch_size]
        ends = [len(chosen) * end // parts for end in (part, part + 1)]
        pixels = pictures.images[chosen[slice(*ends)]].astype(np.float32)
        if shift and seed is not None:
            random = np.random.default_rng((seed, epoch, index))
            by = moves(shift, pixels.shape[1:3], len(chosen), random)  # of the whole batch, however it is shared
            pixels = shifted(pixels, by[slice(*ends)])
        if keras.config.image_data_format() == "channels_first":
            pixels = np.moveaxis(pixels, -1, 1)
        return pixels, pictures.labels[chosen[slice(*ends)]]

    waiting: deque[Future[Batch]] = deque()
    threads = ThreadPoolExecutor(min(AHEAD, os.cpu_count() or 1))
    try:
        for index in range(start, math.ceil(len(pictures) / batch_size)):
            waiting.append(threads.submit(make, index))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def moves(share: float, size: tuple[int, int], count: int, random: np.random.Generator) -> np.ndarray:
    """(count, 2) whole pixels, up to `share` of the height and of the width either way."""
    most = [round(share * side) for side in size]
    return random.integers([-move for move in most], [move + 1 for move in most], (count, 2))


def shifted(images: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Each of (n, height, width, channels) moved by its row of `by`, in pixels; edges are repeated."""
    rows, columns = (np.arange(side) for side in images.shape[1:3])
    moved_rows = np.clip(rows + by[:, :1], 0, rows[-1])
    moved_columns = np.clip(columns + by[:, 1:], 0, columns[-1])
    return images[np.arange(len(images))[:, None, None], moved_rows[:, :, None], moved_columns[:, None, :]]

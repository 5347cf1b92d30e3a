"""Pictures to Keras in batches, in an order that the seed and the epoch give."""

from __future__ import annotations

import math
import os

import keras
import numpy as np

from ..data.pictures import Pictures


class Batches(keras.utils.PyDataset):
    """Batches of (pixels of 0-255 as float32, labels), all of them once an epoch.

    seed: shuffles the pictures anew each epoch; None leaves them in order.
    shift: each picture is moved by up to this share of its side, another way each epoch; its edge
        pixels fill what that leaves open.
    epoch: the number of the first epoch, so that a resumed run goes on as it would have.
    """

    def __init__(
        self, pictures: Pictures, batch_size: int, *, seed: int | None = None, shift: float = 0.0, epoch: int = 0
    ) -> None:
        super().__init__(workers=os.cpu_count() or 1)
        self.pictures, self.batch_size, self.seed, self.shift, self.epoch = pictures, batch_size, seed, shift, epoch
        self._order = self._shuffled()

    def __len__(self) -> int:
        return math.ceil(len(self.pictures) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        pixels = self.pictures.images[chosen].astype(np.float32)
        if self.shift and self.seed is not None:
            pixels = shifted(pixels, self.shift, np.random.default_rng((self.seed, self.epoch, index)))
        if keras.config.image_data_format() == "channels_first":
            pixels = np.moveaxis(pixels, -1, 1)
        return pixels, self.pictures.labels[chosen]

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._order = self._shuffled()

    def _shuffled(self) -> np.ndarray:
        order = np.arange(len(self.pictures))
        return order if self.seed is None else np.random.default_rng((self.seed, self.epoch)).permutation(order)


def shifted(images: np.ndarray, share: float, random: np.random.Generator) -> np.ndarray:
    """Each of (n, height, width, channels) moved by up to `share` of its height and its width."""
    most = [round(share * side) for side in images.shape[1:3]]
    moves = random.integers([-move for move in most], [move + 1 for move in most], (len(images), 2))
    rows, columns = (np.arange(side) for side in images.shape[1:3])
    moved_rows = np.clip(rows + moves[:, :1], 0, rows[-1])
    moved_columns = np.clip(columns + moves[:, 1:], 0, columns[-1])
    return images[np.arange(len(images))[:, None, None], moved_rows[:, :, None], moved_columns[:, None, :]]

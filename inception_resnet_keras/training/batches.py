"""Pictures to Keras in batches, in an order that the seed and the epoch give."""

from __future__ import annotations

import math
import os

import keras
import numpy as np

from ..data.pictures import Pictures


class Batches(keras.utils.PyDataset):
    """Batches of (pixels of 0-255 as float32, labels); shuffled anew each epoch where `seed` is given."""

    def __init__(self, pictures: Pictures, batch_size: int, *, seed: int | None = None, epoch: int = 0) -> None:
        super().__init__(workers=os.cpu_count() or 1)
        self.pictures, self.batch_size, self.seed, self.epoch = pictures, batch_size, seed, epoch
        self._order = self._shuffled()

    def __len__(self) -> int:
        return math.ceil(len(self.pictures) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        pixels = self.pictures.images[chosen].astype(np.float32)
        if keras.config.image_data_format() == "channels_first":
            pixels = np.moveaxis(pixels, -1, 1)
        return pixels, self.pictures.labels[chosen]

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._order = self._shuffled()

    def _shuffled(self) -> np.ndarray:
        order = np.arange(len(self.pictures))
        return order if self.seed is None else np.random.default_rng((self.seed, self.epoch)).permutation(order)

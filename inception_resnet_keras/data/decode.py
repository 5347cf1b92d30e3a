"""Pictures' bytes to crops of the wanted size, within a tf.data pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from .images import UnreadableImageError
from .sources import JPEG, PILLOW, Source

NEEDED = ("index", "present", "kind", "window", "ratio")
SCALES = (2, 4, 8)  # the fractions of its size that a JPEG can be decoded at

Rows = dict[str, Any]  # tensors by name


def dct_ratios(boxes: np.ndarray, size: tuple[int, int], margin: int) -> np.ndarray:
    """int32 (n,): the smallest scale, as 1/ratio, that leaves a crop `margin` times `size` at least."""
    ratios = np.ones(len(boxes), np.int32)
    for ratio in SCALES:
        ratios[(boxes[:, 2:] // ratio >= margin * np.array(size)).all(axis=1)] = ratio
    return ratios


class Decoder:
    """Crops of a source's pictures, resized: uint8 (n, height, width, 3), and which could be read.

    Rows hold index (int64), present (bool), kind (int32), window (int32: top, left, height, width, at
    full size) and ratio (int32). A damaged file never raises: it is listed in `source.corrupt`, and its
    picture, like an absent one, is of zeros.

    accurate: antialiased, with smooth chroma, as `read_image` resizes; else as the released training
        code did, bilinear between the four nearest pixels.
    """

    def __init__(self, source: Source, size: tuple[int, int], *, accurate: bool) -> None:
        self.source, self.size, self.accurate = source, size, accurate
        self._absent = (tf.zeros([*size, 3], tf.uint8), tf.constant(False))

    def __call__(self, rows: Rows, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """All of `count` rows are tried together: to try each alone costs a sixth of its decoding."""
        each = tf.data.Dataset.from_tensor_slices({name: rows[name] for name in NEEDED})
        none = tf.data.Dataset.from_tensors((tf.zeros([0, *self.size, 3], tf.uint8), tf.zeros([0], tf.bool)))
        tried = each.map(self._hasty).ignore_errors(log_warning=False).batch(count).concatenate(none).take(1)
        images, readable = tried.get_single_element()
        return tf.cond(
            tf.size(readable) == count,
            lambda: (images, readable),
            lambda: each.map(self._careful).batch(count).get_single_element(),
        )

    def _hasty(self, row: Rows) -> tuple[tf.Tensor, tf.Tensor]:
        """Raises for what is damaged, which nothing in a graph can catch but a dataset that leaves errors out."""
        found = {0: lambda: self._absent, 1: lambda: self._by_pillow(row), 2: lambda: self._by_tensorflow(row)}
        way = tf.where(row["present"], tf.where(row["kind"] == PILLOW, 1, 2), 0)
        return tf.switch_case(way, found)

    def _careful(self, row: Rows) -> tuple[tf.Tensor, tf.Tensor]:
        one = tf.data.Dataset.from_tensors(row).map(self._hasty).ignore_errors(log_warning=False)
        image, readable = one.concatenate(tf.data.Dataset.from_tensors(self._absent)).take(1).get_single_element()
        return tf.cond(readable | ~row["present"], lambda: (image, readable), lambda: self._by_pillow(row))

    def _by_tensorflow(self, row: Rows) -> tuple[tf.Tensor, tf.Tensor]:
        content = self.source.contents.graph(row["index"])
        image = tf.cond(row["kind"] == JPEG, lambda: self._jpeg(content, row), lambda: self._plain(content, row))
        return self._resized(image), tf.constant(True)

    def _jpeg(self, content: tf.Tensor, row: Rows) -> tf.Tensor:
        method = "INTEGER_ACCURATE" if self.accurate else "INTEGER_FAST"

        def at(scale: int) -> tf.Tensor:
            return tf.io.decode_and_crop_jpeg(
                content, row["window"] // scale, 3, ratio=scale, fancy_upscaling=self.accurate, dct_method=method
            )

        # An op's ratio is no tensor: a branch for each, found by counting how many of them `ratio` reaches.
        branches = [lambda scale=scale: at(scale) for scale in (1, *SCALES)]
        return tf.switch_case(tf.reduce_sum(tf.cast(row["ratio"] >= SCALES, tf.int32)), branches)

    def _plain(self, content: tf.Tensor, row: Rows) -> tf.Tensor:
        image = tf.io.decode_image(content, 3, expand_animations=False)
        top, left, height, width = tf.unstack(row["window"])
        return image[top : top + height, left : left + width]

    def _by_pillow(self, row: Rows) -> tuple[tf.Tensor, tf.Tensor]:
        image, readable = tf.numpy_function(
            self._pillow, [row["index"], row["window"]], [tf.uint8, tf.bool], stateful=False
        )
        return self._resized(image), tf.ensure_shape(readable, [])

    def _pillow(self, index: np.ndarray, window: np.ndarray) -> tuple[np.ndarray, np.bool_]:
        top, left, height, width = window
        nothing = np.zeros((1, 1, 3), np.uint8)
        try:
            image = self.source.read(int(index))[top : top + height, left : left + width]
        except UnreadableImageError:
            return nothing, np.False_
        if image.shape[:2] != (height, width):
            self.source.corrupt.add(self.source.names[int(index)], "has become smaller since it was opened")
            return nothing, np.False_
        return np.ascontiguousarray(image), np.True_

    def _resized(self, image: tf.Tensor) -> tf.Tensor:
        image = tf.ensure_shape(image, [None, None, 3])
        resized = tf.image.resize(image, self.size, antialias=self.accurate)
        return tf.ensure_shape(tf.cast(resized + 0.5, tf.uint8), [*self.size, 3])


class HeldOutReader:
    """Pictures to the bit as `read_image` gives them, so as `predict` sees them: uint8, and which could be read."""

    def __init__(self, source: Source, size: tuple[int, int], crop: float) -> None:
        self.source, self.size, self.crop = source, size, crop

    def __call__(self, rows: Rows, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        images, readable = tf.numpy_function(
            self._read, [rows["index"], rows["present"]], [tf.uint8, tf.bool], stateful=False
        )
        return tf.ensure_shape(images, [count, *self.size, 3]), tf.ensure_shape(readable, [count])

    def _read(self, indices: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images, readable = np.zeros((len(indices), *self.size, 3), np.uint8), np.zeros(len(indices), bool)
        for place in np.flatnonzero(present):
            try:
                images[place] = self.source.read(int(indices[place]), self.size, self.crop)
                readable[place] = True
            except UnreadableImageError:
                continue
        return images, readable

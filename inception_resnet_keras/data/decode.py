"""A picture's bytes to a crop of the wanted size, within a tf.data pipeline."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from .images import UnreadableImageError
from .sources import JPEG, PILLOW, Source

SCALES = (2, 4, 8)  # the fractions of its size that a JPEG can be decoded at


def dct_ratios(boxes: np.ndarray, size: tuple[int, int], margin: int) -> np.ndarray:
    """int32 (n,): the smallest scale, as 1/ratio, that leaves a crop `margin` times `size` at least."""
    ratios = np.ones(len(boxes), np.int32)
    for ratio in SCALES:
        ratios[(boxes[:, 2:] // ratio >= margin * np.array(size)).all(axis=1)] = ratio
    return ratios


def decoder(source: Source, size: tuple[int, int], *, accurate: bool) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """A function for `map`: one picture's crop as float32 (height, width, 3), and whether it could be read.

    It takes index (int64), kind (int32), window (int32: top, left, height, width, at full size) and
    ratio (int32); never raises for a damaged file, but lists it in `source.corrupt` and gives zeros.

    accurate: antialiased, with smooth chroma, as `read_image` resizes; else as the released training
        code did, bilinear between the four nearest pixels.
    """
    contents = source.contents
    nothing = np.zeros((1, 1, 3), np.uint8)
    method = "INTEGER_ACCURATE" if accurate else "INTEGER_FAST"

    def pillow(index: np.ndarray, window: np.ndarray) -> tuple[np.ndarray, np.bool_]:
        top, left, height, width = window
        try:
            image = source.read(int(index))[top : top + height, left : left + width]
        except UnreadableImageError:
            return nothing, np.False_
        if image.shape[:2] != (height, width):
            source.corrupt.add(source.names[int(index)], "has become smaller since it was opened")
            return nothing, np.False_
        return np.ascontiguousarray(image), np.True_

    def by_pillow(index: tf.Tensor, window: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, readable = tf.numpy_function(pillow, [index, window], [tf.uint8, tf.bool])
        return resized(image), tf.ensure_shape(readable, [])

    def resized(image: tf.Tensor) -> tf.Tensor:
        image = tf.ensure_shape(image, [None, None, 3])
        return tf.image.resize(image, size, antialias=accurate)

    def jpeg(content: tf.Tensor, window: tf.Tensor, ratio: tf.Tensor) -> tf.Tensor:
        def at(scale: int) -> tf.Tensor:
            return tf.io.decode_and_crop_jpeg(
                content, window // scale, 3, ratio=scale, fancy_upscaling=accurate, dct_method=method
            )

        # An op's ratio is no tensor: a branch for each, found by counting how many of them `ratio` reaches.
        branches = [lambda scale=scale: at(scale) for scale in (1, *SCALES)]
        return tf.switch_case(tf.reduce_sum(tf.cast(ratio >= SCALES, tf.int32)), branches)

    def plain(content: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(content, 3, expand_animations=False)
        top, left, height, width = tf.unstack(window)
        return image[top : top + height, left : left + width]

    def by_tensorflow(index: tf.Tensor, kind: tf.Tensor, window: tf.Tensor, ratio: tf.Tensor) -> tf.Tensor:
        content = contents.graph(index)
        return tf.cond(kind == JPEG, lambda: jpeg(content, window, ratio), lambda: plain(content, window))

    def tried(index: tf.Tensor, kind: tf.Tensor, window: tf.Tensor, ratio: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What raises in a graph cannot be caught; a dataset of one picture that leaves out errors can be empty."""
        one = tf.data.Dataset.from_tensors((index, kind, window, ratio)).map(by_tensorflow)
        empty = tf.data.Dataset.from_tensors(tf.zeros([0, 0, 3], tf.uint8))
        image = one.ignore_errors(log_warning=False).concatenate(empty).take(1).get_single_element()
        return tf.cond(
            tf.size(image) > 0, lambda: (resized(image), tf.constant(True)), lambda: by_pillow(index, window)
        )

    def decode(index: tf.Tensor, kind: tf.Tensor, window: tf.Tensor, ratio: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, readable = tf.cond(
            kind == PILLOW, lambda: by_pillow(index, window), lambda: tried(index, kind, window, ratio)
        )
        return tf.ensure_shape(image, [*size, 3]), readable

    return decode

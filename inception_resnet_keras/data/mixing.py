"""Pictures moved, mixed and made up for, within a tf.data pipeline."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from .corrupt import NOTHING_LEFT


def moves(uniforms: np.ndarray, share: float, size: tuple[int, int]) -> np.ndarray:
    """int32 (n, 2): rows and columns to move by, each up to `share` of its side, either way."""
    most = np.rint(share * np.array(size))
    return np.floor(uniforms * (2 * most + 1) - most).astype(np.int32)


def shifted(images: tf.Tensor, move: tf.Tensor) -> tf.Tensor:
    """Pictures (n, height, width, 3), each moved by its row of `move`; edge pixels fill what that leaves open."""
    for axis in (0, 1):
        side = images.shape[axis + 1]
        from_ = tf.clip_by_value(tf.range(side) + move[:, axis : axis + 1], 0, side - 1)
        images = tf.gather(images, from_, axis=axis + 1, batch_dims=1)
    return images


def mixed(images: tf.Tensor, labels: tf.Tensor, own: tf.Tensor, patch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """MixUp and CutMix of a batch, each picture with its neighbour: the 1st with the 2nd, the 3rd with the 4th.

    The epoch is shuffled, so a neighbour is any other picture, and no worker needs another's. Keras's
    layers draw from a generator's state: a resumed epoch would not be the same.

    Args:
        images: float32 (n, height, width, 3). A last one without a neighbour stays as it is.
        labels: float32 (n, classes), one-hot.
        own: float32 (n,), the picture's share of the mixed label.
        patch: int32 (n, 4): what CutMix takes from the neighbour, as top, left, bottom, right; empty
            for MixUp, where the pixels are mixed as the labels are.
    """
    count = tf.shape(images)[0]
    neighbour = tf.minimum(tf.bitwise.bitwise_xor(tf.range(count), 1), count - 1)
    others, of_others = tf.gather(images, neighbour), tf.gather(labels, neighbour)
    rows, columns = (tf.range(side)[None] for side in images.shape[1:3])
    within_rows = (rows >= patch[:, 0:1]) & (rows < patch[:, 2:3])
    within_columns = (columns >= patch[:, 1:2]) & (columns < patch[:, 3:4])
    within = (within_rows[:, :, None] & within_columns[:, None, :])[..., None]
    cut = (patch[:, 2] > patch[:, 0]) & (patch[:, 3] > patch[:, 1])
    share = own[:, None, None, None]
    blended = tf.where(cut[:, None, None, None], images, share * images + (1 - share) * others)
    return tf.where(within, others, blended), own[:, None] * labels + (1 - own[:, None]) * of_others


def mended(rows: dict[str, tf.Tensor], readable: tf.Tensor, *, refill: bool) -> dict[str, tf.Tensor]:
    """A batch without its unreadable pictures, or with readable ones of it, in turn, in their places."""
    good = tf.where(readable)[:, 0]
    if not refill:
        return {name: tf.gather(row, good) for name, row in rows.items()}
    count = tf.size(good)
    with tf.control_dependencies([tf.debugging.Assert(count > 0, [NOTHING_LEFT])]):
        chosen = tf.tensor_scatter_nd_update(
            tf.range(tf.size(readable, tf.int64)),
            tf.where(~readable),
            tf.gather(good, tf.range(tf.size(readable) - count) % tf.maximum(count, 1)),
        )
    return {name: tf.gather(row, chosen) for name, row in rows.items()}

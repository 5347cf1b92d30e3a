"""Variations of a batch of pictures in the graph: colour distortion, shifts, MixUp and CutMix.

The colour distortion is that of the released code, compiled by XLA into one pass over the pixels.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from .labelled import NOTHING_LEFT


def distorted(images: tf.Tensor, flip: tf.Tensor, colour: tf.Tensor, *, slow: bool) -> tf.Tensor:
    """Mirror pictures and change their colours.

    Args:
        images: uint8 or float32 (n, height, width, 3), 0-255, of a static shape.
        flip: bool (n,), whether each picture is mirrored.
        colour: float32 (n, 5): brightness (added, on the scale of 0-255), saturation (a factor), hue (added, as a
            share of a full turn), contrast (a factor), and the order: 1 applies brightness before saturation and hue
            before contrast, 0 the reverse.
        slow: Whether to change hue and contrast too (the released code's slow mode).

    Returns:
        float32 of the same shape, clipped to 0-255.
    """
    return (_slow if slow else _fast)(images, flip, colour)


@tf.function(jit_compile=True, autograph=False)
def _fast(images: tf.Tensor, flip: tf.Tensor, colour: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(_brightness_and_saturation(images, flip, colour), 0.0, 255.0)


@tf.function(jit_compile=True, autograph=False)
def _slow(images: tf.Tensor, flip: tf.Tensor, colour: tf.Tensor) -> tf.Tensor:
    def one(given: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, (_, _, hue, contrast, first) = given[0], tf.unstack(given[1])

        def recontrasted(image: tf.Tensor) -> tf.Tensor:
            return tf.image.adjust_contrast(image, contrast)

        def rehued(image: tf.Tensor) -> tf.Tensor:
            return tf.image.adjust_hue(image / 255.0, hue) * 255.0

        return tf.cond(first > 0, lambda: recontrasted(rehued(image)), lambda: rehued(recontrasted(image)))

    images = _brightness_and_saturation(images, flip, colour)
    return tf.clip_by_value(tf.map_fn(one, (images, colour), fn_output_signature=tf.float32), 0.0, 255.0)


def _brightness_and_saturation(images: tf.Tensor, flip: tf.Tensor, colour: tf.Tensor) -> tf.Tensor:
    flip = flip[:, None, None, None]
    brightness, saturation, _, _, first = (column[:, None, None, None] for column in tf.unstack(colour, axis=1))
    before, after = brightness * first, brightness * (1 - first)
    images = tf.cast(tf.where(flip, images[:, :, ::-1], images), tf.float32) + before
    # Scales the saturation of the HSV colour space and clips it at 1: each channel's distance from the strongest
    # channel is multiplied by one factor. Equal to tf.image.adjust_saturation, without converting to HSV and back.
    strongest = tf.maximum(tf.maximum(images[..., 0:1], images[..., 1:2]), images[..., 2:3])
    weakest = tf.minimum(tf.minimum(images[..., 0:1], images[..., 1:2]), images[..., 2:3])
    factor = tf.minimum(saturation, tf.math.divide_no_nan(strongest, strongest - weakest))
    return strongest - (strongest - images) * factor + after


def moves(uniforms: np.ndarray, share: float, size: tuple[int, int]) -> np.ndarray:
    """int32 (n, 2): by how many rows and columns to shift each picture, up to ±`share` of the side."""
    most = np.rint(share * np.array(size))
    return np.floor(uniforms * (2 * most + 1) - most).astype(np.int32)


def shifted(images: tf.Tensor, move: tf.Tensor) -> tf.Tensor:
    """Shift each picture of (n, height, width, 3) by its row of `move`; the edge pixels are repeated into the gap."""
    for axis in (0, 1):
        side = images.shape[axis + 1]
        from_ = tf.clip_by_value(tf.range(side) + move[:, axis : axis + 1], 0, side - 1)
        images = tf.gather(images, from_, axis=axis + 1, batch_dims=1)
    return images


def mixed(images: tf.Tensor, labels: tf.Tensor, own: tf.Tensor, patch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Apply MixUp or CutMix to pairs of neighbours in a batch: the 1st picture with the 2nd, the 3rd with the 4th.

    The epoch is shuffled, so that neighbours are random pairs, and no worker needs another worker's pictures. Keras's
    layers are not used: they draw from a generator's state, so that a resumed epoch would differ.

    Args:
        images: float32 (n, height, width, 3). If n is odd, the last picture is not changed.
        labels: float32 (n, columns): one-hot labels, or 0 and 1 for several labels per picture. Further columns, such
            as labels multiplied by weights, are mixed in the same way.
        own: float32 (n,), each picture's own share of its mixed label.
        patch: int32 (n, 4): the box that CutMix copies from the neighbour, as top, left, bottom, right. An empty box
            means MixUp, which mixes the pixels in the same ratio as the labels.

    Returns:
        The mixed images and labels, of the same shapes.
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


def refill_unreadable(rows: dict[str, tf.Tensor], readable: tf.Tensor, *, refill: bool) -> dict[str, tf.Tensor]:
    """Remove a batch's unreadable pictures or, with `refill`, replace each by a readable picture of the batch."""
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

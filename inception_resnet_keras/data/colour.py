"""The released code's colour distortion, compiled into one pass over the pixels."""

from __future__ import annotations

import tensorflow as tf


def distorted(images: tf.Tensor, flip: tf.Tensor, colour: tf.Tensor, *, slow: bool) -> tf.Tensor:
    """Pictures mirrored and recoloured.

    Args:
        images: uint8 or float32 (n, height, width, 3), 0-255, of a static shape.
        flip: bool (n,), whether each is mirrored.
        colour: float32 (n, 5): brightness (added, of 255), saturation (a factor), hue (added, of a full
            turn), contrast (a factor), and 1 where brightness comes before saturation and hue before
            contrast.
        slow: Hue and contrast too.

    Returns:
        float32 of the same shape and range, clipped.
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
    # Saturation of hue-saturation-value, scaled, at most 1: what a channel lacks of the strongest grows by
    # a factor. This is tf.image.adjust_saturation without the way to that space and back.
    strongest = tf.maximum(tf.maximum(images[..., 0:1], images[..., 1:2]), images[..., 2:3])
    weakest = tf.minimum(tf.minimum(images[..., 0:1], images[..., 1:2]), images[..., 2:3])
    factor = tf.minimum(saturation, tf.math.divide_no_nan(strongest, strongest - weakest))
    return strongest - (strongest - images) * factor + after

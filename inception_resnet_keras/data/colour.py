"""The released code's colour distortion, compiled into one pass over the pixels."""

from __future__ import annotations

import tensorflow as tf


def distorted(image: tf.Tensor, flip: tf.Tensor, colour: tf.Tensor, *, slow: bool) -> tf.Tensor:
    """A picture mirrored and recoloured.

    Args:
        image: float32 (height, width, 3), 0-255, of a static shape.
        flip: Whether it is mirrored.
        colour: Brightness (added, of 255), saturation (a factor), hue (added, of a full turn), contrast
            (a factor), and 1 where brightness comes before saturation and hue before contrast.
        slow: Hue and contrast too.

    Returns:
        The same shape and range, clipped.
    """
    return (_slow if slow else _fast)(image, flip, colour)


@tf.function(jit_compile=True, autograph=False)
def _fast(image: tf.Tensor, flip: tf.Tensor, colour: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(_brightness_and_saturation(image, flip, colour), 0.0, 255.0)


@tf.function(jit_compile=True, autograph=False)
def _slow(image: tf.Tensor, flip: tf.Tensor, colour: tf.Tensor) -> tf.Tensor:
    image = _brightness_and_saturation(image, flip, colour)
    hue, contrast, first = colour[2], colour[3], colour[4] > 0

    def recontrasted(image: tf.Tensor) -> tf.Tensor:
        return tf.image.adjust_contrast(image, contrast)

    def rehued(image: tf.Tensor) -> tf.Tensor:
        return tf.image.adjust_hue(image / 255.0, hue) * 255.0

    image = tf.cond(first, lambda: recontrasted(rehued(image)), lambda: rehued(recontrasted(image)))
    return tf.clip_by_value(image, 0.0, 255.0)


def _brightness_and_saturation(image: tf.Tensor, flip: tf.Tensor, colour: tf.Tensor) -> tf.Tensor:
    brightness, saturation, first = colour[0], colour[1], colour[4] > 0
    image = tf.where(flip, image[:, ::-1], image) + tf.where(first, brightness, 0.0)
    # Saturation of hue-saturation-value, scaled, at most 1: what a channel lacks of the strongest grows by
    # a factor. This is tf.image.adjust_saturation without the way to that space and back.
    strongest = tf.maximum(tf.maximum(image[..., 0:1], image[..., 1:2]), image[..., 2:3])
    weakest = tf.minimum(tf.minimum(image[..., 0:1], image[..., 1:2]), image[..., 2:3])
    factor = tf.minimum(saturation, tf.math.divide_no_nan(strongest, strongest - weakest))
    return strongest - (strongest - image) * factor + tf.where(first, 0.0, brightness)

"""RandAugment (arXiv 1909.13719) with all random numbers passed in.

Keras's layer is not used: it draws from a generator's state, so that a resumed epoch would differ; it applies the same
operations to the whole batch, rotates by up to 180°, and computes all operations to use one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tensorflow as tf

from .draws import RAND_AUGMENT_OPS

FILL = 127.5
ROTATION = math.radians(30)
SHEAR = 0.3
TRANSLATION = 0.45  # share of the side


def rand_augmented(images: tf.Tensor, operations: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
    """Apply k operations to each picture, one after another.

    Args:
        images: float32 (n, height, width, 3), 0-255.
        operations: int32 (n, k), indices into `OPERATIONS`.
        strengths: float32 (n, k), in [-1, 1]. ±1 is the full range of an operation; the sign is the direction, if an
            operation has one.

    Returns:
        float32 (n, height, width, 3), 0-255.
    """

    def one(given: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, numbers, strength = given

        def act(number: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
            branches = [lambda act=act: act(image, strength[number]) for act in OPERATIONS]
            return tf.ensure_shape(tf.switch_case(numbers[number], branches), image.shape)

        # A loop in the graph, so that the operations are traced once: tracing them takes a second.
        return tf.while_loop(
            lambda number, _: number < operations.shape[1],
            lambda number, image: (number + 1, act(number, image)),
            (tf.constant(0), image),
        )[1]

    return tf.map_fn(one, (images, operations, strengths), fn_output_signature=tf.float32)


def _transformed(image: tf.Tensor, matrix: list[tf.Tensor]) -> tf.Tensor:
    """Affine transform about the centre: pixel (x, y) of the result is read at (a x + b y + c, d x + e y + f)."""
    height, width = image.shape[:2]
    x, y = (width - 1) / 2, (height - 1) / 2
    a, b, c, d, e, f = (tf.convert_to_tensor(number, tf.float32) for number in matrix)
    row = tf.stack([a, b, c + x - a * x - b * y, d, e, f + y - d * x - e * y, 0.0, 0.0])
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=row[None],
        output_shape=[height, width],
        fill_value=FILL,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return moved[0]


def _blend(other: tf.Tensor, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(other + factor * (image - other), 0.0, 255.0)


def _factor(strength: tf.Tensor) -> tf.Tensor:
    return 1 + 0.9 * strength


def _grey(image: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(image * [0.299, 0.587, 0.114], axis=-1, keepdims=True)


def rotate(image: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    sine, cosine = tf.sin(ROTATION * strength), tf.cos(ROTATION * strength)
    return _transformed(image, [cosine, -sine, 0.0, sine, cosine, 0.0])


def shear_x(image: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    return _transformed(image, [1.0, SHEAR * strength, 0.0, 0.0, 1.0, 0.0])


def shear_y(image: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    return _transformed(image, [1.0, 0.0, 0.0, SHEAR * strength, 1.0, 0.0])


def translate_x(image: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    return _transformed(image, [1.0, 0.0, TRANSLATION * strength * image.shape[1], 0.0, 1.0, 0.0])


def translate_y(image: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    return _transformed(image, [1.0, 0.0, 0.0, 0.0, 1.0, TRANSLATION * strength * image.shape[0]])


def brightness(image: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    return _blend(tf.zeros_like(image), image, _factor(strength))


def colour(image: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    return _blend(_grey(image), image, _factor(strength))


def contrast(image: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    return _blend(tf.reduce_mean(_grey(image)), image, _factor(strength))


def sharpness(image: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    kernel = tf.constant([[1.0, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    smooth = tf.nn.depthwise_conv2d(image[None], tf.tile(kernel[:, :, None, None], [1, 1, 3, 1]), [1] * 4, "VALID")
    edge = tf.pad(tf.ones_like(smooth[0], tf.bool), [[1, 1], [1, 1], [0, 0]])
    smooth = tf.where(edge, tf.pad(smooth[0], [[1, 1], [1, 1], [0, 0]]), image)
    return _blend(smooth, image, _factor(strength))


def posterize(image: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Keep the upper 8 to 4 bits of each value."""
    step = 2.0 ** tf.round(4 * tf.abs(strength))
    return tf.floor(image / step) * step


def solarize(image: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    return tf.where(image >= 256 * (1 - tf.abs(strength)), 255 - image, image)


def solarize_add(image: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    return tf.where(image < 128, tf.minimum(image + 110 * tf.abs(strength), 255.0), image)


def auto_contrast(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    low, high = (reduce(image, axis=(0, 1), keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max))
    return tf.where(high > low, (image - low) * tf.math.divide_no_nan(255.0, high - low), image)


def equalize(image: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
    """Equalise the histogram of each channel, as Pillow's `ImageOps.equalize` does."""
    levels = tf.cast(tf.round(image), tf.int32)

    def channel(values: tf.Tensor) -> tf.Tensor:
        counts = tf.math.bincount(tf.reshape(values, [-1]), minlength=256, maxlength=256)
        step = (tf.reduce_sum(counts) - counts[tf.reduce_max(values)]) // 255
        table = tf.clip_by_value((tf.cumsum(counts, exclusive=True) + step // 2) // tf.maximum(step, 1), 0, 255)
        return tf.gather(tf.where(step > 0, table, tf.range(256)), values)

    return tf.cast(tf.stack([channel(levels[..., number]) for number in range(3)], axis=-1), tf.float32)


OPERATIONS: tuple[Callable[[tf.Tensor, tf.Tensor], tf.Tensor], ...] = (
    rotate,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
    brightness,
    colour,
    contrast,
    sharpness,
    posterize,
    solarize,
    solarize_add,
    auto_contrast,
    equalize,
)

assert len(OPERATIONS) == RAND_AUGMENT_OPS, "draws.py must draw from as many operations"

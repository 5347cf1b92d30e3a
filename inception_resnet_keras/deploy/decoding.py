"""The bytes of an encoded picture to the pixels that `read_image` gives, as TensorFlow operations."""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from ..data.images import REDUCING_GAP

_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF_BYTES = 65_536  # the directory is looked for in so many bytes: it stands at the file's beginning
_ORIENTATION = 0x0112


def decode(content: tf.Tensor, size: tuple[int, int], crop: float = 1.0) -> tf.Tensor:
    """Decode a picture and resize the middle of it, bilinear with antialiasing, step by step as Pillow does.

    A JPEG is turned upright as its EXIF orientation says, and a transparent PNG is laid over white. GIF (its first
    frame), BMP and opaque WebP are what `tf.io.decode_image` makes of them.

    Args:
        content: A scalar string: the bytes of the file.
        size: (height, width) of the result.
        crop: The share of each side, about the middle, that is resized, in (0, 1].

    Returns:
        float32 (height, width, 3), RGB, whole numbers of 0-255.
    """
    is_png = tf.strings.substr(content, 0, len(_PNG)) == _PNG
    image = tf.case(
        [(tf.io.is_jpeg(content), lambda: _jpeg(content, size, crop)), (is_png, lambda: _png(content))],
        default=lambda: tf.cast(tf.io.decode_image(content, 3, expand_animations=False), tf.float32),
    )
    return _resized(tf.ensure_shape(image, [None, None, 3]), size, crop)


_SUPPORT = 0.5  # of Pillow's bilinear filter, half a pixel less than its radius


def _resized(image: tf.Tensor, size: tuple[int, int], crop: float) -> tf.Tensor:
    """What `data.images.resized` computes by Pillow: the columns, then the rows, rounded to whole numbers each time."""
    for axis in (1, 0):
        image = _resized_along(image, axis, size[axis], crop)
    return image


def _resized_along(image: tf.Tensor, axis: int, size: int, crop: float) -> tf.Tensor:
    length = tf.shape(image)[axis]
    side = tf.cast(length, tf.float64)
    low = side * (1 - crop) / 2
    high = side - low
    factor = tf.maximum(tf.cast((high - low) / size / REDUCING_GAP, tf.int32), 1)
    margin = _SUPPORT * (high - low) / size
    first = tf.maximum(tf.cast(low - margin, tf.int32), 0)  # fractions are cut off, as Python's int does
    last = tf.minimum(tf.cast(tf.math.ceil(high + margin), tf.int32), length)
    image, low, high = tf.cond(
        factor > 1,
        lambda: (
            _reduced(image[:, first:last] if axis else image[first:last], axis, factor),
            (low - tf.cast(first, tf.float64)) / tf.cast(factor, tf.float64),
            (high - tf.cast(first, tf.float64)) / tf.cast(factor, tf.float64),
        ),
        lambda: (image, low, high),
    )
    return _weighted(image, axis, size, low, high)


_TAPS = 9  # pixels that one of the result is made of at most: fewer than four times as many are left to resize
_BITS = 22  # of Pillow's weights


def _weighted(image: tf.Tensor, axis: int, size: int, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    """Resizes low to high along an axis by Pillow's weights of 22 bits; in float32 halves are rounded by chance."""
    length = tf.shape(image)[axis]
    start, end = tf.cast(low, tf.float32), tf.cast(high, tf.float32)  # as Pillow's box, and so is its length
    low, scale = tf.cast(start, tf.float64), tf.cast(end - start, tf.float64) / size
    support = tf.maximum(scale, 1.0)
    centres = low + (tf.range(size, dtype=tf.float64) + 0.5) * scale
    first = tf.maximum(tf.cast(centres - support + 0.5, tf.int32), 0)
    last = tf.minimum(tf.cast(centres + support + 0.5, tf.int32), length)
    places = first[:, None] + tf.range(_TAPS)
    distances = tf.abs(tf.cast(places, tf.float64) - centres[:, None] + 0.5) / support
    weights = tf.where(places < last[:, None], tf.maximum(1 - distances, 0.0), 0.0)
    weights = tf.floor(weights / tf.reduce_sum(weights, 1, keepdims=True) * 2.0**_BITS + 0.5)
    places, lines = tf.minimum(places, length - 1), tf.cast(image, tf.float64)
    total = tf.add_n(
        [
            tf.gather(lines, places[:, tap], axis=axis)
            * tf.reshape(weights[:, tap], [1, -1, 1] if axis else [-1, 1, 1])
            for tap in range(_TAPS)
        ]
    )
    return tf.cast(tf.clip_by_value(tf.floor(total / 2.0**_BITS + 0.5), 0, 255), tf.float32)


def _reduced(image: tf.Tensor, axis: int, factor: tf.Tensor) -> tf.Tensor:
    """Means of `factor` pixels along an axis as Pillow's `Image.reduce` has them; the last may be of fewer.

    Pillow multiplies by 2^24 / n, cut off, in place of dividing by n, which takes 1 from every mean that is whole after
    rounding is added.
    """
    blocks = tf.range(tf.shape(image)[axis]) // factor
    lines = tf.cast(tf.transpose(image, [1, 0, 2]) if axis else image, tf.int64)
    pixels = tf.math.segment_sum(tf.ones_like(blocks, tf.int64), blocks)[:, None, None]
    total = tf.math.segment_sum(lines, blocks) + pixels // 2
    means = tf.cast(total * (2**24 // pixels) // 2**24, tf.float32)
    return tf.transpose(means, [1, 0, 2]) if axis else means


def _png(content: tf.Tensor) -> tf.Tensor:
    image = tf.cast(tf.io.decode_png(content, 4), tf.float32)
    depth, colour = tf.unstack(tf.io.decode_raw(tf.strings.substr(content, 24, 2), tf.uint8), 2)
    opaque = (colour == 0) & (depth < 8)  # TensorFlow fills the alpha of such with another number
    alpha = tf.where(opaque, 1.0, image[..., 3:] / 255)
    return tf.round(image[..., :3] * alpha + 255 * (1 - alpha))


def _jpeg(content: tf.Tensor, size: tuple[int, int], crop: float) -> tf.Tensor:
    # libjpeg decodes at a half, a quarter or an eighth where twice the size is left, as `data.images.decode` asks for.
    least = [max(1, round(2 * side / crop)) for side in size]
    times = tf.reduce_min(tf.image.extract_jpeg_shape(content)[:2] // least)
    place = tf.reduce_sum(tf.cast(times >= _FRACTIONS[1:], tf.int32))
    image = tf.switch_case(place, [partial(_jpeg_at, content, fraction) for fraction in _FRACTIONS])
    turned = orientation(content)
    image = tf.cond(turned > 4, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    rows, columns = (tf.where(tf.reduce_any(turned == list(kinds)), -1, 1) for kinds in ((3, 4, 7, 8), (2, 3, 6, 7)))
    return image[::rows, ::columns]


_FRACTIONS = (1, 2, 4, 8)


def _jpeg_at(content: tf.Tensor, fraction: int) -> tf.Tensor:
    return tf.cast(tf.io.decode_jpeg(content, 3, ratio=fraction, dct_method="INTEGER_ACCURATE"), tf.float32)


def orientation(content: tf.Tensor) -> tf.Tensor:
    """int32: a JPEG's EXIF orientation, 1 (upright) to 8; 1 if it has none."""
    head = tf.strings.substr(content, 0, _EXIF_BYTES)
    after = tf.concat([tf.strings.split(head, b"Exif\0\0", maxsplit=1)[1:], [b""]], 0)[0]
    exif = tf.pad(tf.cast(tf.io.decode_raw(after, tf.uint8), tf.int32), [[0, 16]])  # zeros, so that any has a header
    # The number of 16 bits at each place, in the file's order of bytes: "II" is little-endian, "MM" big-endian.
    little, first, second = exif[0] == ord("I"), exif[:-1], exif[1:]
    number = tf.where(little, first + 256 * second, 256 * first + second)
    last = tf.size(number) - 1
    # A directory is its count of entries, then 12 bytes for each: a tag, a type, a count, and at 8 the value.
    directory = tf.minimum(tf.where(little, number[4], number[6]), last)
    entries = directory + 2 + 12 * tf.range(number[directory])
    entries = entries[entries + 8 <= last]
    value = tf.reduce_max(tf.where(tf.gather(number, entries) == _ORIENTATION, tf.gather(number, entries + 8), 1))
    return tf.where((value >= 1) & (value <= 8), value, 1)

"""Decode encoded images with TensorFlow operations to the same pixels as `read_image`."""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from ..data.images import REDUCING_GAP, SIXTEEN_BITS

_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF_BYTES = 65_536  # the EXIF directory is searched for in this many bytes at the beginning of the file
_ORIENTATION = 0x0112


def decode(
    content: tf.Tensor, size: tuple[int, int], crop: float = 1.0, value_range: tuple[float, float] | None = None
) -> tf.Tensor:
    """Decode an image and resize its central part, bilinear with antialiasing, with the same steps as Pillow.

    A JPEG is rotated upright according to its EXIF orientation, and a transparent PNG is put on a white background. GIF
    (its first frame), BMP and opaque WebP are decoded by `tf.io.decode_image`.

    Args:
        content: A scalar string: the bytes of the file.
        size: (height, width) of the result.
        crop: The central share of each side that is resized, in (0, 1].
        value_range: The values that become 0 and 255 in a PNG of 16 bits; None for all 16 bits.

    Returns:
        float32 (height, width, 3), RGB, integers of 0-255.
    """
    is_png = tf.strings.substr(content, 0, len(_PNG)) == _PNG
    image = tf.case(
        [(tf.io.is_jpeg(content), lambda: _jpeg(content, size, crop)), (is_png, lambda: _png(content, value_range))],
        default=lambda: tf.cast(tf.io.decode_image(content, 3, expand_animations=False), tf.float32),
    )
    return _resized(tf.ensure_shape(image, [None, None, 3]), size, crop)


_SUPPORT = 0.5  # the radius of Pillow's bilinear filter minus half a pixel


def _resized(image: tf.Tensor, size: tuple[int, int], crop: float) -> tf.Tensor:
    """Resize as `data.images.resized` does with Pillow: columns, then rows, rounding to integers each time."""
    for axis in (1, 0):
        image = _resized_along(image, axis, size[axis], crop)
    return image


def _resized_along(image: tf.Tensor, axis: int, size: int, crop: float) -> tf.Tensor:
    # Pillow first averages blocks of `factor` pixels of the part that it needs, then resizes these.
    length = tf.shape(image)[axis]
    side = tf.cast(length, tf.float64)
    low = side * (1 - crop) / 2
    high = side - low
    factor = tf.maximum(tf.cast((high - low) / size / REDUCING_GAP, tf.int32), 1)
    margin = _SUPPORT * (high - low) / size
    first = tf.maximum(tf.cast(low - margin, tf.int32), 0)  # truncated, as by Python's int
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


_TAPS = 9  # maximum number of pixels per output pixel: after averaging, the side shrinks less than fourfold
_BITS = 22  # fraction bits of Pillow's weights


def _weighted(image: tf.Tensor, axis: int, size: int, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    """Resize the range from low to high along an axis with Pillow's weights, which are integers of 22 bits.

    float32 weights would round values half-way between two integers at random.
    """
    length = tf.shape(image)[axis]
    start, end = tf.cast(low, tf.float32), tf.cast(high, tf.float32)  # Pillow's box is float32
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
    """Means of `factor` pixels along an axis, as by Pillow's `Image.reduce`; the last block may have fewer pixels.

    Pillow multiplies by a truncated 2^24 / n instead of dividing by n, which lowers every mean by 1 that is an integer
    after the rounding term is added.
    """
    blocks = tf.range(tf.shape(image)[axis]) // factor
    lines = tf.cast(tf.transpose(image, [1, 0, 2]) if axis else image, tf.int64)
    pixels = tf.math.segment_sum(tf.ones_like(blocks, tf.int64), blocks)[:, None, None]
    total = tf.math.segment_sum(lines, blocks) + pixels // 2
    means = tf.cast(total * (2**24 // pixels) // 2**24, tf.float32)
    return tf.transpose(means, [1, 0, 2]) if axis else means


def _png(content: tf.Tensor, value_range: tuple[float, float] | None) -> tf.Tensor:
    depth, colour = tf.unstack(tf.io.decode_raw(tf.strings.substr(content, 24, 2), tf.uint8), 2)
    scaled = depth == 16
    if value_range is None:  # `data.images.decode` then takes the upper byte of 16-bit colours, as TensorFlow does
        scaled &= (colour == 0) | (colour == 4)
    image = tf.cond(
        scaled,
        lambda: _png_of_16_bits(content, value_range or SIXTEEN_BITS),
        lambda: tf.cast(tf.io.decode_png(content, 4), tf.float32),
    )
    opaque = (colour == 0) & (depth < 8)  # TensorFlow sets a wrong alpha for grey PNGs of fewer than 8 bits
    alpha = tf.where(opaque, 1.0, image[..., 3:] / 255)
    return tf.round(image[..., :3] * alpha + 255 * (1 - alpha))


def _png_of_16_bits(content: tf.Tensor, value_range: tuple[float, float]) -> tf.Tensor:
    """RGB scaled by the range, and the opacity, which always has all 16 bits: integers of 0-255."""
    values = tf.cast(tf.io.decode_png(content, 4, tf.uint16), tf.float32)
    low, high = (
        tf.constant([value_range[0]] * 3 + [SIXTEEN_BITS[0]]),
        tf.constant([value_range[1]] * 3 + [SIXTEEN_BITS[1]]),
    )
    return tf.round(tf.clip_by_value((values - low) * (255 / (high - low)), 0, 255))


def _jpeg(content: tf.Tensor, size: tuple[int, int], crop: float) -> tf.Tensor:
    # libjpeg decodes at 1/2, 1/4 or 1/8 if at least twice the size remains, as `data.images.decode` requests.
    least = [max(1, round(2 * side / crop)) for side in size]
    times = tf.reduce_min(tf.image.extract_jpeg_shape(content)[:2] // least)
    place = tf.reduce_sum(tf.cast(times >= _FRACTIONS[1:], tf.int32))
    image = tf.switch_case(place, [partial(_jpeg_at, content, fraction) for fraction in _FRACTIONS])
    # Orientations above 4 transpose the image; the others flip it.
    turned = orientation(content)
    image = tf.cond(turned > 4, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    rows, columns = (tf.where(tf.reduce_any(turned == list(kinds)), -1, 1) for kinds in ((3, 4, 7, 8), (2, 3, 6, 7)))
    return image[::rows, ::columns]


_FRACTIONS = (1, 2, 4, 8)


def _jpeg_at(content: tf.Tensor, fraction: int) -> tf.Tensor:
    return tf.cast(tf.io.decode_jpeg(content, 3, ratio=fraction, dct_method="INTEGER_ACCURATE"), tf.float32)


def orientation(content: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of a JPEG, int32, from 1 (upright) to 8; 1 if it has none."""
    head = tf.strings.substr(content, 0, _EXIF_BYTES)
    after = tf.concat([tf.strings.split(head, b"Exif\0\0", maxsplit=1)[1:], [b""]], 0)[0]
    exif = tf.pad(tf.cast(tf.io.decode_raw(after, tf.uint8), tf.int32), [[0, 16]])  # so that a header can be read
    # The 16-bit number at each position, in the byte order of the file: "II" is little-endian, "MM" big-endian.
    little, first, second = exif[0] == ord("I"), exif[:-1], exif[1:]
    number = tf.where(little, first + 256 * second, 256 * first + second)
    last = tf.size(number) - 1
    # A directory is the number of its entries, then 12 bytes per entry: tag, type, count and, at byte 8, the value.
    directory = tf.minimum(tf.where(little, number[4], number[6]), last)
    entries = directory + 2 + 12 * tf.range(number[directory])
    entries = entries[entries + 8 <= last]
    value = tf.reduce_max(tf.where(tf.gather(number, entries) == _ORIENTATION, tf.gather(number, entries + 8), 1))
    return tf.where((value >= 1) & (value <= 8), value, 1)

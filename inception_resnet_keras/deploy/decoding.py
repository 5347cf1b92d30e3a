"""An encoded picture's bytes to the pixels that `read_image` gives, as TensorFlow operations."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from ..data.images import MAX_PIXELS

_PNG = b"\x89PNG\r\n\x1a\n"


def decode(content: tf.Tensor, size: tuple[int, int], crop: float = 1.0) -> tf.Tensor:
    """A JPEG or PNG: float32 (height, width, 3), 0-255, the middle `crop` of each side.

    It is resized bilinear with antialiasing. What is transparent in a PNG is laid over white; a JPEG is
    turned upright as its EXIF orientation says. GIF (its first frame), BMP and opaque WebP are what
    TensorFlow makes of them. More than `MAX_PIXELS` by its header is an InvalidArgumentError before it is decoded.
    """
    small_enough = tf.debugging.assert_less_equal(
        claimed_pixels(content), tf.constant(MAX_PIXELS, tf.int64), "a picture has more pixels than are read"
    )
    with tf.control_dependencies([] if small_enough is None else [small_enough]):
        content = tf.identity(content)
    image = tf.case(
        [(tf.io.is_jpeg(content), lambda: _jpeg(content)), (_is_png(content), lambda: _png(content))],
        default=lambda: tf.cast(tf.io.decode_image(content, 3, expand_animations=False), tf.float32),
    )
    return tf.clip_by_value(tf.round(_resized(tf.ensure_shape(image, [None, None, 3]), size, crop)), 0, 255)


def claimed_pixels(content: tf.Tensor) -> tf.Tensor:
    """int64: width times height, as a picture's header tells it; 0 of what is no picture, which no decoder takes."""
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 0, 32), tf.uint8), tf.int64)
    head = tf.concat([head, tf.zeros([32], tf.int64)], 0)

    def area(at: tuple[int, int], width: int, *, big: bool = False, mask: int = -1, more: int = 0) -> tf.Tensor:
        """Of two numbers of `width` bytes."""
        places = 256 ** np.arange(width, dtype=np.int64)
        sides = [
            (tf.reduce_sum(head[start : start + width] * places[:: -1 if big else 1]) & mask) + more for start in at
        ]
        return sides[0] * sides[1]

    def starts(text: bytes, at: int = 0) -> tf.Tensor:
        return tf.reduce_all(head[at : at + len(text)] == list(text))

    def of_bmp() -> tf.Tensor:
        width, height = tf.unstack(tf.bitcast(tf.cast(tf.reshape(head[18:26], [2, 4]), tf.uint8), tf.int32))
        # its height is negative where its first row is the upper one
        return tf.abs(tf.cast(width, tf.int64)) * tf.abs(tf.cast(height, tf.int64))

    def of_lossless_webp() -> tf.Tensor:
        bits = tf.reduce_sum(head[21:25] * 256 ** np.arange(4, dtype=np.int64))
        return ((bits & 0x3FFF) + 1) * ((bits // 2**14 & 0x3FFF) + 1)

    def of_jpeg() -> tf.Tensor:
        return tf.reduce_prod(tf.cast(tf.image.extract_jpeg_shape(content)[:2], tf.int64))

    return tf.case(
        [
            (tf.io.is_jpeg(content), of_jpeg),
            (_is_png(content), lambda: area((16, 20), 4, big=True)),
            (starts(b"GIF8"), lambda: area((6, 8), 2)),
            (starts(b"BM"), of_bmp),
            (starts(b"VP8 ", 12), lambda: area((26, 28), 2, mask=0x3FFF)),
            (starts(b"VP8L", 12), of_lossless_webp),
            (starts(b"VP8X", 12), lambda: area((24, 27), 3, more=1)),
        ],
        default=lambda: tf.constant(0, tf.int64),
    )


def _resized(image: tf.Tensor, size: tuple[int, int], crop: float) -> tf.Tensor:
    """What `tf.image.resize` computes, of a box whose edges lie between pixels."""
    sides = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = tf.constant(size, tf.float32) / (sides * crop)
    resized = tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=size,
        scale=scale,
        translation=-scale * sides * (1 - crop) / 2,
        kernel_type="triangle",
        antialias=True,
    )
    return resized[0]


def _is_png(content: tf.Tensor) -> tf.Tensor:
    return tf.strings.substr(content, 0, len(_PNG)) == _PNG


def _jpeg(content: tf.Tensor) -> tf.Tensor:
    image = tf.cast(tf.io.decode_jpeg(content, 3, dct_method="INTEGER_ACCURATE"), tf.float32)
    turned = [
        lambda: image,
        lambda: image[:, ::-1],
        lambda: image[::-1, ::-1],
        lambda: image[::-1],
        lambda: tf.transpose(image, [1, 0, 2]),
        lambda: tf.transpose(image, [1, 0, 2])[:, ::-1],
        lambda: tf.transpose(image, [1, 0, 2])[::-1, ::-1],
        lambda: tf.transpose(image, [1, 0, 2])[::-1],
    ]
    return tf.switch_case(orientation(content) - 1, turned, default=turned[0])


def _png(content: tf.Tensor) -> tf.Tensor:
    image = tf.cast(tf.io.decode_png(content, 4), tf.float32)
    depth, colour = tf.unstack(tf.io.decode_raw(tf.strings.substr(content, 24, 2), tf.uint8), 2)
    opaque = (colour == 0) & (depth < 8)  # TensorFlow fills the alpha of such with another number
    alpha = tf.where(opaque, 1.0, image[..., 3:] / 255)
    return tf.round(image[..., :3] * alpha + 255 * (1 - alpha))


def orientation(content: tf.Tensor) -> tf.Tensor:
    """int32: a JPEG's EXIF orientation, 1 (upright) to 8; 1 where it has none."""
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 0, 65_536), tf.uint8), tf.int32)
    length = tf.size(head)

    def number(at: tf.Tensor, little: tf.Tensor, width: int) -> tf.Tensor:
        """Of `width` bytes; what lies beyond the end reads as the last byte, and the values' bounds refuse it."""
        places = tf.clip_by_value(at + tf.range(width), 0, length - 1)
        digits = tf.gather(head, places)
        digits = tf.cond(little, lambda: digits[::-1], lambda: digits)
        return tf.reduce_sum(digits * 256 ** tf.range(width)[::-1])

    def big(at: tf.Tensor, width: int) -> tf.Tensor:
        return number(at, tf.constant(False), width)

    def is_exif(at: tf.Tensor) -> tf.Tensor:
        return (big(at, 2) == 0xFFE1) & (big(at + 4, 4) == int.from_bytes(b"Exif")) & (big(at + 8, 2) == 0)

    def goes_on(at: tf.Tensor) -> tf.Tensor:
        is_segment = (big(at, 1) == 0xFF) & (big(at, 2) != 0xFFDA)
        return (at + 18 < length) & is_segment & ~is_exif(at)

    def read(at: tf.Tensor) -> tf.Tensor:
        start = at + 10  # of the TIFF header, from which offsets count
        little = big(start, 1) == ord("I")
        directory = start + tf.clip_by_value(number(start + 4, little, 4), 0, 65_536)
        entries = directory + 2 + 12 * tf.range(tf.minimum(number(directory, little, 2), 100))
        found = tf.map_fn(
            lambda entry: tf.where(number(entry, little, 2) == 0x0112, number(entry + 8, little, 2), 0), entries
        )
        value = tf.reduce_max(tf.concat([found, [0]], 0))
        return tf.where((value >= 1) & (value <= 8), value, 1)

    def searched() -> tf.Tensor:
        (at,) = tf.while_loop(goes_on, lambda at: (at + 2 + tf.maximum(big(at + 2, 2), 1),), [tf.constant(2)])
        return tf.cond((at + 18 < length) & is_exif(at), lambda: read(at), lambda: tf.constant(1))

    return tf.cond(length > 20, searched, lambda: tf.constant(1))

"""The bytes of an encoded picture to the pixels that `read_image` gives, as TensorFlow operations."""

from __future__ import annotations

import tensorflow as tf

_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF_BYTES = 65_536  # the directory is looked for in so many bytes: it stands at the file's beginning
_ORIENTATION = 0x0112


def decode(content: tf.Tensor, size: tuple[int, int], crop: float = 1.0) -> tf.Tensor:
    """Decode a picture and resize the middle of it, bilinear with antialiasing.

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
        [(tf.io.is_jpeg(content), lambda: _jpeg(content)), (is_png, lambda: _png(content))],
        default=lambda: tf.cast(tf.io.decode_image(content, 3, expand_animations=False), tf.float32),
    )
    return tf.clip_by_value(tf.round(_resized(tf.ensure_shape(image, [None, None, 3]), size, crop)), 0, 255)


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


def _png(content: tf.Tensor) -> tf.Tensor:
    image = tf.cast(tf.io.decode_png(content, 4), tf.float32)
    depth, colour = tf.unstack(tf.io.decode_raw(tf.strings.substr(content, 24, 2), tf.uint8), 2)
    opaque = (colour == 0) & (depth < 8)  # TensorFlow fills the alpha of such with another number
    alpha = tf.where(opaque, 1.0, image[..., 3:] / 255)
    return tf.round(image[..., :3] * alpha + 255 * (1 - alpha))


def _jpeg(content: tf.Tensor) -> tf.Tensor:
    image = tf.cast(tf.io.decode_jpeg(content, 3, dct_method="INTEGER_ACCURATE"), tf.float32)
    turned = orientation(content)
    image = tf.cond(turned > 4, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    rows, columns = (tf.where(tf.reduce_any(turned == list(kinds)), -1, 1) for kinds in ((3, 4, 7, 8), (2, 3, 6, 7)))
    return image[::rows, ::columns]


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

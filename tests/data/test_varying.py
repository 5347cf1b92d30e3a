"""What is done to pixels, against plain numpy, TensorFlow's own and Pillow's."""

import colorsys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from inception_resnet_keras.data import rand_augment as ra
from inception_resnet_keras.data.augment import distorted, mixed, moves, refill_unreadable, shifted

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.float32)
FULL = tf.constant(1.0)


def saturated(image: np.ndarray, factor: float) -> np.ndarray:
    """By way of hue, saturation and value, pixel by pixel."""
    out = np.empty_like(image)
    for place in np.ndindex(image.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(image[place] / 255.0))
        out[place] = np.multiply(colorsys.hsv_to_rgb(hue, min(1.0, saturation * factor), value), 255)
    return out


def coloured(image: np.ndarray, values: list[float], *, flip: bool = False, slow: bool = False) -> np.ndarray:
    """A picture's distortion, with another beside it that is left as it is."""
    still, found = distorted(
        tf.constant([PIXELS, image], tf.float32),
        tf.constant([False, flip]),
        tf.constant([[0, 1, 0, 1, 0], values], tf.float32),
        slow=slow,
    )
    np.testing.assert_allclose(still, PIXELS, atol=0.01)
    return found.numpy()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("brightness", [-32.0, 0.0, 32.0])
def test_fast_colours(flip: bool, factor: float, brightness: float) -> None:
    found = coloured(PIXELS, [brightness, factor, 0, 1, 0], flip=flip)
    expected = np.clip(saturated(PIXELS, factor) + brightness, 0, 255)
    np.testing.assert_allclose(found, expected[:, ::-1] if flip else expected, atol=0.01)


def test_brightness_first() -> None:
    light = PIXELS * 0.8 + 10
    found = coloured(light, [5.0, 1.4, 0, 1, 1])
    np.testing.assert_allclose(found, saturated(light + 5, 1.4).clip(0, 255), atol=0.01)


@pytest.mark.parametrize("first", [0.0, 1.0])
def test_slow_colours(first: float) -> None:
    values = [3.0, 1.2, 0.15, 1.3, first]
    found = coloured(PIXELS, values, slow=True)
    image = tf.constant(PIXELS / 255)

    def brightness(x: Any) -> Any:
        return x + values[0] / 255

    def saturation(x: Any) -> Any:
        return tf.image.adjust_saturation(x, values[1])

    def hue(x: Any) -> Any:
        return tf.image.adjust_hue(x, values[2])

    def contrast(x: Any) -> Any:
        return tf.image.adjust_contrast(x, values[3])

    orders = {1.0: (brightness, saturation, hue, contrast), 0.0: (saturation, brightness, contrast, hue)}
    for act in orders[first]:
        image = act(image)
    difference = np.abs(found - np.clip(image * 255, 0, 255))
    # Beyond 255 TensorFlow's saturation of an overbright pixel is the same up to rounding.
    assert np.quantile(difference, 0.99) < 0.05


def test_shifts_repeat_the_edge() -> None:
    for down, right in ((0, 0), (3, -2), (-3, 4)):
        still, found = shifted(tf.constant([PIXELS, PIXELS]), tf.constant([[0, 0], [down, right]]))
        np.testing.assert_array_equal(still, PIXELS)
        rows, columns = (np.arange(12) + down).clip(0, 11), (np.arange(16) + right).clip(0, 15)
        np.testing.assert_array_equal(found, PIXELS[rows][:, columns])
    drawn = moves(np.random.default_rng(0).random((5000, 2)), 0.1, (50, 100))
    assert set(drawn[:, 0]) == set(range(-5, 6))
    assert set(drawn[:, 1]) == set(range(-10, 11))


def test_mixing_in_pairs() -> None:
    images = np.random.default_rng(0).uniform(0, 255, (5, 4, 6, 3)).astype(np.float32)
    labels = np.eye(5, dtype=np.float32)
    own = np.array([0.25, 0.75, 0.5, 1.0, 0.3], np.float32)
    patch = np.array([[0] * 4, [0] * 4, [0, 0, 4, 3], [0] * 4, [0] * 4], np.int32)
    found, shares = mixed(tf.constant(images), tf.constant(labels), tf.constant(own), tf.constant(patch))
    np.testing.assert_allclose(found[0], 0.25 * images[0] + 0.75 * images[1], rtol=1e-5)
    np.testing.assert_allclose(found[1], 0.75 * images[1] + 0.25 * images[0], rtol=1e-5)
    np.testing.assert_array_equal(found[2, :, :3], images[3, :, :3])
    np.testing.assert_array_equal(found[2, :, 3:], images[2, :, 3:])
    np.testing.assert_allclose(found[3:], images[3:], rtol=1e-5)  # its weight is 1; the last has no neighbour
    np.testing.assert_allclose(np.sum(shares, axis=1), 1, rtol=1e-6)
    assert shares[0].numpy().tolist() == [0.25, 0.75, 0, 0, 0]
    assert shares[4].numpy().tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("refill", [True, False])
def test_unreadable_pictures_are_replaced_or_left_out(refill: bool) -> None:
    rows = {"label": tf.range(6)}
    readable = tf.constant([False, True, True, False, True, False])
    expected = [1, 1, 2, 2, 4, 4] if refill else [1, 2, 4]
    assert refill_unreadable(rows, readable, refill=refill)["label"].numpy().tolist() == expected
    if refill:
        with pytest.raises(tf.errors.InvalidArgumentError, match="no picture of a batch can be read"):
            refill_unreadable(rows, tf.zeros([6], tf.bool), refill=True)
    else:
        assert refill_unreadable(rows, tf.zeros([6], tf.bool), refill=False)["label"].shape == (0,)


def pillow(name: str, strength: float) -> np.ndarray:
    image, factor = Image.fromarray(PIXELS.astype(np.uint8)), 1 + 0.9 * strength
    done = {
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "colour": lambda: ImageEnhance.Color(image).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
        "posterize": lambda: ImageOps.posterize(image, 8 - round(4 * abs(strength))),
        "solarize": lambda: ImageOps.solarize(image, round(256 * (1 - abs(strength)))),
        "auto_contrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
    }[name]()
    return np.asarray(done).astype(np.float32)


@pytest.mark.parametrize("strength", [-1.0, -0.5, 0.5, 1.0])
@pytest.mark.parametrize(
    "name",
    ["brightness", "colour", "contrast", "sharpness", "posterize", "solarize", "auto_contrast", "equalize"],
)
def test_rand_augments_colours_are_pillows(name: str, strength: float) -> None:
    found = getattr(ra, name)(tf.constant(PIXELS), tf.constant(strength))
    np.testing.assert_allclose(found, pillow(name, strength), atol=2.1)


@pytest.mark.parametrize(
    ("act", "data"),
    [
        (ra.shear_x, (1, 0.3, None, 0, 1, None)),
        (ra.shear_y, (1, 0, None, 0.3, 1, None)),
        (ra.rotate, (np.cos(np.pi / 6), -0.5, None, 0.5, np.cos(np.pi / 6), None)),
    ],
)
def test_rand_augments_moves_are_pillows(act: Any, data: tuple[Any, ...]) -> None:
    rows, columns = np.mgrid[0:40, 0:50]
    smooth = np.stack([rows * 5, columns * 4, rows + columns], -1).astype(np.float32)
    a, b, _, d, e, _ = data
    x, y = 25, 20  # Pillow's coordinates are of pixels' corners
    matrix = (a, b, x - a * x - b * y, d, e, y - d * x - e * y)
    fill = (127, 127, 127)
    expected = Image.fromarray(smooth.astype(np.uint8)).transform(
        (50, 40), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill
    )
    found = act(tf.constant(smooth), FULL).numpy()
    inner = (slice(12, 28), slice(15, 35))
    np.testing.assert_allclose(found[inner], np.asarray(expected)[inner].astype(float), atol=1.5)


def test_rand_augments_remaining_operations() -> None:
    moved = ra.translate_x(tf.constant(PIXELS), tf.constant(0.5)).numpy()
    whole = 3  # 0.45 · 0.5 · 16 is 3.6 columns
    np.testing.assert_allclose(moved[:, 0], 0.4 * PIXELS[:, whole] + 0.6 * PIXELS[:, whole + 1], atol=0.01)
    assert (ra.translate_y(tf.constant(PIXELS), FULL).numpy()[-4:] == ra.FILL).all()
    added = ra.solarize_add(tf.constant(PIXELS), FULL)
    np.testing.assert_array_equal(added, np.where(PIXELS < 128, np.minimum(PIXELS + 110, 255), PIXELS))


def test_operations_follow_one_another() -> None:
    numbers = [ra.OPERATIONS.index(ra.solarize), ra.OPERATIONS.index(ra.brightness)]
    found = ra.rand_augmented(
        tf.constant([PIXELS, PIXELS]), tf.constant([numbers, numbers[::-1]]), tf.constant([[0.5, -0.5], [0.3, 0.1]])
    )
    expected = ra.brightness(ra.solarize(tf.constant(PIXELS), tf.constant(0.5)), tf.constant(-0.5))
    np.testing.assert_array_equal(found[0], expected)
    expected = ra.solarize(ra.brightness(tf.constant(PIXELS), tf.constant(0.3)), tf.constant(0.1))
    np.testing.assert_array_equal(found[1], expected)

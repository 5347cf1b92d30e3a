"""The bytes that a served model is sent become the pixels that `predict` reads from the file."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images

from inception_resnet_keras.data.images import read_image
from inception_resnet_keras.deploy.decoding import decode, orientation

from ..data.photographs import photograph, write_formats
from ..pictures import png_of_16_bits

SIZE = (32, 40)


@pytest.fixture(scope="module")
def decoded() -> Callable[[bytes], np.ndarray]:
    graph = tf.function(lambda content: decode(content, SIZE), input_signature=[tf.TensorSpec([], tf.string)])
    return lambda content: graph(content).numpy()


def test_every_kind_of_picture(decoded: Callable[[bytes], np.ndarray], tmp_path: Path) -> None:
    for file in write_formats(tmp_path / "pictures").values():
        if file.name == "clear.webp":
            continue  # TensorFlow reads none with transparency
        difference = np.abs(decoded(file.read_bytes()) - read_image(file, SIZE))
        assert difference.max() <= 1, file.name
        assert (difference > 0).mean() <= 0.01, file.name


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
@pytest.mark.parametrize("value_range", [None, (0.0, 4095.0), (100.0, 3000.0)])
def test_pngs_of_16_bits_are_scaled_as_predict_scales_them(
    layers: int, value_range: tuple[float, float] | None, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (*SIZE, layers)).astype(np.uint16)
    if layers in (2, 4):
        values[..., -1] *= 16
    content = png_of_16_bits(values)
    seen = decode(tf.constant(content), SIZE, 1.0, value_range).numpy()
    assert np.abs(seen - read_image(Path("picture"), SIZE, content=content, value_range=value_range)).max() <= 1
    if value_range and layers in (1, 3):
        low, high = value_range
        expected = ((values - low) * (255 / (high - low))).clip(0, 255)
        assert np.abs(seen - expected).max() <= 0.51


PHOTOGRAPHS = [Image.fromarray(image) for image in load_sample_images().images]  # 640×427, as a camera took them
SIDES = [(640, 427), (427, 640), (96, 80), (2600, 1733), (1500, 200), (120, 900), (50, 40)]  # (width, height)


@pytest.mark.parametrize(("size", "crop"), [((96, 96), 1.0), ((96, 80), 0.875), ((299, 299), 0.875), ((75, 107), 0.5)])
def test_the_pixels_of_photographs_are_those_that_predict_reads(size: tuple[int, int], crop: float) -> None:
    """Each one: JPEGs of any size are decoded at the same fraction, and resized in the same steps."""
    graph = tf.function(lambda content: decode(content, size, crop), input_signature=[tf.TensorSpec([], tf.string)])
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("RGB", {"format": "JPEG", "quality": 90}),
        ("RGB", {"format": "JPEG", "subsampling": 0}),
        ("RGB", {"format": "JPEG", "progressive": True, "exif": turned}),
        ("L", {"format": "JPEG"}),
        ("CMYK", {"format": "JPEG"}),
        ("RGB", {"format": "PNG", "compress_level": 1}),
        ("RGB", {"format": "BMP"}),
    ]
    for number, (sides, (mode, settings)) in enumerate(product(SIDES, kinds)):
        file = BytesIO()
        PHOTOGRAPHS[number % 2].resize(sides, Image.Resampling.BICUBIC).convert(mode).save(file, **settings)
        content = file.getvalue()
        read = read_image(Path("a picture"), size, crop=crop, content=content)
        np.testing.assert_array_equal(graph(content).numpy(), read, err_msg=f"{sides} {mode} {settings}")


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_a_picture_is_turned_upright(
    decoded: Callable[[bytes], np.ndarray], tmp_path: Path, turned: int, endian: str
) -> None:
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "a maker"  # Make, which comes before Orientation
    exif[0x0112] = turned
    file = tmp_path / "turned.jpg"
    photograph(50, 70).save(file, exif=exif)
    assert int(orientation(file.read_bytes())) == turned
    np.testing.assert_array_equal(decoded(file.read_bytes()), read_image(file, SIZE))


@pytest.fixture(scope="module")
def orientation_of() -> Callable[[bytes], int]:
    graph = tf.function(orientation, input_signature=[tf.TensorSpec([], tf.string)])
    return lambda content: int(graph(content))


@given(spoilt=st.dictionaries(st.integers(0, 120), st.integers(0, 255), max_size=8), length=st.integers(0, 200))
def test_damaged_headers_are_upright_or_turned_and_never_fail(
    orientation_of: Callable[[bytes], int], spoilt: dict[int, int], length: int
) -> None:
    content = bytearray(_HEADER[:length])
    for place, value in spoilt.items():
        if place < len(content):
            content[place] = value
    assert 1 <= orientation_of(bytes(content)) <= 8


def _header() -> bytes:
    exif, file = Image.Exif(), BytesIO()
    exif[0x010F], exif[0x0112] = "a maker", 6
    photograph(50, 70).save(file, "JPEG", exif=exif)
    return file.getvalue()[:200]


_HEADER = _header()

"""The bytes that a served model is sent become the pixels that `predict` reads from the file."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inception_resnet_keras.data.images import read_image
from inception_resnet_keras.deploy.decoding import decode, orientation

from ..data.photographs import photograph, write_formats

SIZE = (32, 40)


@pytest.fixture(scope="module")
def decoded() -> Callable[[bytes], np.ndarray]:
    graph = tf.function(lambda content: decode(content, SIZE), input_signature=[tf.TensorSpec([], tf.string)])
    return lambda content: graph(content).numpy()


def test_every_kind_of_picture(decoded: Callable[[bytes], np.ndarray], tmp_path: Path) -> None:
    files = write_formats(tmp_path / "pictures")
    photograph(400, 600).save(tmp_path / "large.jpg", quality=95)
    for file in (*files.values(), tmp_path / "large.jpg"):
        if file.name == "clear.webp":
            continue  # TensorFlow reads none with transparency
        difference = np.abs(decoded(file.read_bytes()) - read_image(file, SIZE))
        assert difference.max() <= (3 if file.name == "large.jpg" else 1), file.name  # Pillow reduces in two steps
        assert difference.mean() < 0.5, file.name


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
    assert np.abs(decoded(file.read_bytes()) - read_image(file, SIZE)).max() <= 1


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

"""Pictures for tests: small folders of handwritten digits as PNG files, and sources without content."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from inception_resnet_keras.data.labelled import CorruptPictures, Memory, Source


def write_digits(folder: Path, classes: int = 3, per_class: int = 20) -> Path:
    """A folder a class, `per_class` pictures of 24×24 in each."""
    digits = load_digits()
    for label in range(classes):
        of_class = folder / str(label)
        of_class.mkdir(parents=True)
        for number, image in enumerate(digits.images[digits.target == label][:per_class]):
            grey = Image.fromarray((image * 15.9).astype("uint8"))
            grey.resize((24, 24), Image.Resampling.BILINEAR).save(of_class / f"{number:03d}.png")
    return folder


def labelled(counts: list[int]) -> Source:
    """Pictures without content, so many of each class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    count = len(labels)
    return Source(
        class_names=[f"c{number}" for number in range(len(counts))],
        names=[f"p{index}" for index in range(count)],
        labels=labels,
        sizes=np.ones((count, 2), np.int32),
        kinds=np.zeros(count, np.uint8),
        contents=Memory([b"%d" % index for index in range(count)]),
        corrupt=CorruptPictures(0, count),
    )


def png_of_16_bits(values: np.ndarray, transparent: np.ndarray | None = None) -> bytes:
    """A PNG of 16 bits, after its specification: Pillow writes none. transparent: The colour that is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, layers = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[layers], 0, 0, 0))
    if transparent is not None:
        start += chunk(b"tRNS", transparent.astype(">u2").tobytes())
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")

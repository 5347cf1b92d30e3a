"""A photograph in every format that is read, and small folders of them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def photograph(height: int, width: int) -> Image.Image:
    return Image.fromarray(load_sample_images().images[0]).resize((width, height), Image.Resampling.BICUBIC)


def write_photographs(folder: Path, counts: tuple[int, ...] = (5, 6), size: tuple[int, int] = (60, 80)) -> Path:
    """JPEGs, a folder a class, each of another box of the photograph."""
    whole = photograph(size[0] + 40, size[1] + 40)
    for label, count in enumerate(counts):
        (folder / f"class {label}").mkdir(parents=True)
        for number in range(count):
            box = (number, 10 * label, number + size[1], 10 * label + size[0])
            whole.crop(box).save(folder / f"class {label}" / f"{number}.jpg", quality=95)
    return folder


def write_formats(folder: Path, size: tuple[int, int] = (50, 70)) -> dict[str, Path]:
    """One of each way that a picture can be stored, by name."""
    folder.mkdir(parents=True)
    image = photograph(*size)
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = image.convert("RGBA")
    clear.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, size[1]).astype(np.uint8), (size[0], 1))))
    sixteen = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    saved: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "plain.jpg": (image, {}),
        "grey.jpg": (image.convert("L"), {}),
        "cmyk.jpg": (image.convert("CMYK"), {}),
        "turned.jpg": (image, {"exif": exif}),
        "progressive.jpg": (image, {"progressive": True}),
        "plain.png": (image, {}),
        "grey.png": (image.convert("L"), {}),
        "palette.png": (image.quantize(32), {}),
        "clear.png": (clear, {}),
        "sixteen.png": (sixteen, {}),
        "bit.png": (image.convert("1"), {}),
        "plain.webp": (image, {"lossless": True}),
        "clear.webp": (clear, {"lossless": True}),
        "plain.bmp": (image, {}),
        "animated.gif": (image.quantize(32), {"save_all": True, "append_images": [image.quantize(8)]}),
    }
    paths = {}
    for name, (picture, options) in saved.items():
        paths[name] = folder / name
        picture.save(paths[name], **options)
    return paths

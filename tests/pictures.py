"""Small folders of real pictures to train on: handwritten digits as PNG files."""

from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits


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

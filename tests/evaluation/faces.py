"""A folder of pictures a "person" and a file of pairs, as Labeled Faces in the Wild has them: of handwritten digits."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from inception_resnet_keras.evaluation.faces import Face, Pair, format_pairs


def write_faces(folder: Path, persons: int = 3, each: int = 5, side: int = 24) -> Path:
    """person/person_0001.png and so on."""
    digits = load_digits()
    for label in range(persons):
        name = f"Digit_{label}"
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(digits.images[digits.target == label][:each], 1):
            grey = Image.fromarray((image * 15.9).astype("uint8"))
            grey.resize((side, side), Image.Resampling.BILINEAR).save(folder / name / f"{name}_{number:04d}.png")
    return folder


def face_file(folder: Path, face: Face) -> Path:
    return folder / face.person / f"{face}.png"


def write_pairs(path: Path, persons: int = 3, each: int = 5, folds: int = 3, pairs: int = 6) -> Path:
    random = np.random.default_rng(0)

    def face(person: np.integer, number: np.integer) -> Face:
        return Face(f"Digit_{person}", int(number) + 1)

    found = []
    for fold in range(folds):
        for _ in range(pairs):
            person, (one, other) = random.integers(persons), random.choice(each, 2, replace=False)
            found.append(Pair(fold, face(person, one), face(person, other)))
        for _ in range(pairs):
            first, second = random.choice(persons, 2, replace=False)
            found.append(Pair(fold, face(first, random.integers(each)), face(second, random.integers(each))))
    path.write_text(format_pairs(found, folds, pairs), encoding="utf-8")
    return path

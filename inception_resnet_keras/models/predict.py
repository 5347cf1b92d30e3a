"""What a saved model says of pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.arguments import positive_integer
from ..common.errors import InputError
from ..data.images import UnreadableImageError, read_image
from ..data.sources import picture_files
from .runtimes import Runtime, find_model, open_model


@dataclass(frozen=True)
class Prediction:
    """top: (class, probability in [0, 1]), the likeliest first; or why there is none."""

    path: str
    top: list[tuple[str, float]]
    error: str | None = None


def expand(paths: Iterable[Path]) -> list[Path]:
    """Files as they are, a folder as the pictures in it; InputError where there is none."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = picture_files(path)
            if not found:
                raise InputError(f"{path}: has no picture in it")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"{path}: there is no such file or folder")
    return files


def predict(run: Path, images: Sequence[Path], *, top: int = 5, batch_size: int = 32) -> list[Prediction]:
    """The likeliest classes of pictures.

    Args:
        run: What `open_model` opens, a run's folder or an exported model: classes, size and
            preprocessing are in it.
        images: Files, and folders that stand for the pictures in them.
        top: How many classes to give a picture, at least 1; of fewer classes all.
        batch_size: How many pictures go through the model at once.

    Returns:
        One prediction a file, in order; a file that cannot be read has an error in place of classes.

    Raises:
        InputError: The model is missing or damaged, a file is missing, or a folder has no picture.
    """
    top = positive_integer("top", top)
    find_model(run)  # what is missing is told before an engine is started
    files = expand(images)
    Image.preinit()  # or Pillow brings forty formats besides to read one
    model = open_model(run)
    if not model.card.gives_classes:
        raise InputError(f"{run}: gives an embedding of a picture, no classes; open_model(path).run(images) returns it")
    predictions: list[Prediction] = []
    for start in range(0, len(files), batch_size):
        predictions += _predict_batch(model, files[start : start + batch_size], top)
    return predictions


def _predict_batch(model: Runtime, files: Sequence[Path], top: int) -> list[Prediction]:
    pixels, errors = [], {}
    for file in files:
        try:
            pixels.append(read_image(file, model.card.size, crop=model.card.central_crop))
        except UnreadableImageError as error:
            errors[file] = error.reason
    rows = iter(model.run(np.stack(pixels)) if pixels else ())
    found = []
    for file in files:
        if file in errors:
            found.append(Prediction(str(file), [], errors[file]))
            continue
        row = next(rows)
        best = np.argsort(-row, kind="stable")[:top]
        found.append(Prediction(str(file), [(model.card.classes[index], float(row[index])) for index in best]))
    return found

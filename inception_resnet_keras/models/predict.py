"""What a saved model says of pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.arguments import path_of, positive_integer
from ..common.errors import InputError
from ..data.images import UnreadableImageError, read_image
from ..data.pictures import picture_files
from .runtimes import Runtime, find_model, open_model


@dataclass(frozen=True)
class Prediction:
    """top: (class, probability in [0, 1]), the likeliest first; or why there is none."""

    path: str
    top: list[tuple[str, float]]
    error: str | None = None


def expand(paths: Iterable[str | PathLike[str]]) -> list[Path]:
    """Files as they are, a folder as the pictures in it; InputError where there is none."""
    files: list[Path] = []
    for path in map(Path, paths):
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


def predict(
    model: str | PathLike[str],
    images: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    top: int = 5,
    batch_size: int = 32,
) -> list[Prediction]:
    """Classify image files with a trained or an exported model.

    Args:
        model: A run's folder, its model.keras, or what `export_model` wrote. Classes, image size and
            preprocessing are stored in it.
        images: Image files, and folders that stand for the images in them; or one of these.
        top: Number of classes per image, at least 1. A model of fewer classes gives all of them.
        batch_size: Number of images that go through the model at once, at least 1.

    Returns:
        One prediction per file, in order. A file that cannot be read has an error in place of classes.

    Raises:
        ValueError: The model is missing or damaged or gives no classes, a file is missing, or a folder has no image.

    Examples:
        ```python
        for prediction in predict("runs/photos-1", ["a.png", "more"]):
            print(prediction.path, prediction.top[:1])
        ```
    """
    run = path_of("model", model)
    files = [images] if isinstance(images, str | PathLike) else images
    top, batch_size = positive_integer("top", top), positive_integer("batch_size", batch_size)
    find_model(run)  # what is missing is told before an engine is started
    paths = expand(files)
    Image.preinit()  # or Pillow brings forty formats besides to read one
    runtime = open_model(run)
    if not runtime.card.gives_classes:
        raise InputError(f"{run}: gives an embedding of a picture, no classes; open_model(path).run(images) returns it")
    predictions: list[Prediction] = []
    for start in range(0, len(paths), batch_size):
        predictions += _predict_batch(runtime, paths[start : start + batch_size], top)
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

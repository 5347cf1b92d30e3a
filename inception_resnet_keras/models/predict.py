"""What a saved model says of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.arguments import positive_integer
from ..common.errors import InputError
from ..common.files import require_regular
from ..data.crops import cut, decoding_size
from ..data.folders import picture_files
from ..data.images import UnreadableImageError, decode
from ..data.preprocessing import Convention
from ..weights.labels import class_index, read_class_names
from .open import GivenModel, OpenedModel, locate, require_finite
from .precision import Precision, check_precision, speed_up


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
            require_regular(path)
            files.append(path)
        else:
            raise InputError(f"{path}: there is no such file or folder")
    return files


def predict(
    model: GivenModel,
    images: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    top: int = 5,
    batch_size: int = 32,
    classes: str | PathLike[str] | Sequence[str] | None = None,
    preprocessing: Convention | None = None,
    precision: Precision | None = None,
    trust: bool = False,
    note: Callable[[str], object] = lambda text: None,
) -> list[Prediction]:
    """Classify image files with a trained or an exported model.

    Args:
        model: A run's folder, a .keras or .h5 file, what `export_model` wrote, a registered name such as
            "inception_v4=imagenet", a checkpoint, or a Keras model.
        images: Image files, and folders that stand for the images in them; or one of these.
        top: Number of classes per image, at least 1. A model of fewer classes gives all of them.
        batch_size: Number of images that go through the model at once, at least 1.
        classes: Class names in the order of the outputs, or a file with one per line, for a model that carries none.
        preprocessing: How the model takes pixels, as `preprocess_input` names it, where that cannot be measured.
        precision: What a Keras model computes in, after it was folded: "float32", "mixed_bfloat16", "mixed_float16",
            or "auto", which takes mixed_bfloat16 where a short timed probe finds it faster by a fifth. None is the
            model's own.
        trust: Whether to load a SavedModel with operations that `export_model` does not write. It can run any
            program, so pass True only if you trust whoever made it.
        note: Called with what was assumed of the model or added to it, one sentence each.

    Returns:
        One prediction per file, in order. A file that cannot be read has an error in place of classes.

    Raises:
        ValueError: The model is missing or damaged or gives no classes or NaN, a file is missing, or a folder has no
            image.

    Examples:
        ```python
        for prediction in predict("runs/photos-1", ["a.png", "more"]):
            print(prediction.path, prediction.top[:1])
        ```
    """
    files = [images] if isinstance(images, str | PathLike) else images
    top, batch_size = positive_integer("top", top), positive_integer("batch_size", batch_size)
    # A missing model is reported before an engine is started.
    source = locate(model, preprocessing=preprocessing, trust=trust)
    check_precision(source, precision)
    paths = expand(files)
    Image.preinit()  # or Pillow brings forty formats besides to read one
    opened = speed_up(source.open(), precision, min(batch_size, len(paths)))
    for text in opened.notes:
        note(f"{opened.name}: {text}")
    names = class_names(opened) if classes is None else read_class_names(classes, opened.outputs)
    predictions: list[Prediction] = []
    for start in range(0, len(paths), batch_size):
        predictions += _predict_batch(opened, names, paths[start : start + batch_size], top)
    return predictions


def class_names(opened: OpenedModel) -> list[str]:
    """The names of a model's classes: its own, ImageNet's, or their numbers where nothing names them."""
    if opened.classes:
        return opened.classes
    if opened.imagenet:
        try:
            return [name for _, name in class_index()]
        except InputError:  # not in Keras's cache, and not to be fetched
            pass
    return [f"class {number}" for number in range(opened.outputs)]


def _predict_batch(opened: OpenedModel, names: Sequence[str], files: Sequence[Path], top: int) -> list[Prediction]:
    view = opened.view
    pixels, errors = [], {}
    for file in files:
        try:
            pixels.append(cut(decode(file, decoding_size(view, 1)), view, 1)[0])
        except UnreadableImageError as error:
            errors[file] = error.reason
    rows: Iterator[np.ndarray] = iter(())
    if pixels:
        outputs = opened.run(np.stack(pixels).astype(np.float32))
        rows = iter(require_finite(opened.name, outputs, [file for file in files if file not in errors]))
    found = []
    for file in files:
        if file in errors:
            found.append(Prediction(str(file), [], errors[file]))
            continue
        row = next(rows)
        best = np.argsort(-row, kind="stable")[:top]
        found.append(Prediction(str(file), [(names[index], float(row[index])) for index in best]))
    return found

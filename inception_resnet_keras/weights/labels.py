"""Names of the classes that a network's outputs are: given as a list or a file, or ImageNet's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from os import PathLike, fspath
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..common.arguments import is_integer
from ..common.errors import InputError, refuse
from ..common.files import read_short_text
from . import download

# Keras's own: the same file in the same place as `keras.applications` has it.
URL = "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"
DIGEST = "md5:c2c37ea517e94d9795004a39431a14cb"
FOLDER = "models"
CLASSES = 1000
LONGEST_LIST = 64 * 1024**2  # bytes of a file of class names
IMAGENET = "imagenet"  # in place of class names: its own
BACKGROUND = "background"  # class 0 of TF-Slim's 1001


class Label(NamedTuple):
    """WordNet's id, the class's name, and its probability."""

    id: str
    name: str
    probability: float


def label_offset(outputs: int | None) -> int | None:
    """The number of ImageNet's first class among so many outputs; None where they are not as many as its classes.

    0 of 1000; 1 of 1001, whose class 0 is TF-Slim's "background".
    """
    return {CLASSES: 0, CLASSES + 1: 1}.get(outputs or 0)


def decode_predictions(probabilities: ArrayLike, top: int = 5) -> list[list[Label]]:
    """The most probable ImageNet classes of each picture.

    The class index is Keras's imagenet_class_index.json: from Keras's cache, where it is fetched to
    at the first call.

    Args:
        probabilities: (batch, 1000), or (batch, 1001) where class 0 is "background", which is left out.
        top: How many classes a picture, 1 to 1000.

    Returns:
        For each picture its classes, the most probable first: (id, name, probability).

    Raises:
        ValueError: probabilities has another shape or holds NaN, top is out of range, or the class index is not
            in the cache and cannot be fetched; it says what to fetch from where to where.
    """
    array = np.asarray(probabilities)
    if array.ndim != 2 or label_offset(array.shape[1]) is None:
        raise refuse(
            "probabilities", f"an array of shape {array.shape}", f"shape (batch, {CLASSES}) or (batch, {CLASSES + 1})"
        )
    if not is_integer(top) or not 1 <= top <= CLASSES:
        raise refuse("top", top, f"an integer from 1 to {CLASSES}")
    if broken := np.flatnonzero(~np.isfinite(array).all(axis=1)).tolist():
        raise InputError(
            f"probabilities: row {broken[0]} holds NaN or infinity, which has no rank: the model is damaged"
        )
    index = class_index()
    array = array[:, -CLASSES:]
    order = np.argsort(-array, axis=1, kind="stable")[:, :top]
    return [[_label(index[number], row[number]) for number in best] for row, best in zip(array, order, strict=True)]


def _label(entry: tuple[str, str], probability: float) -> Label:
    return Label(entry[0], entry[1], float(probability))


@lru_cache(maxsize=1)
def class_index() -> list[tuple[str, str]]:
    """(WordNet id, name) of ImageNet's classes, by number."""
    path = download.fetch(URL, FOLDER, DIGEST)
    entries = json.loads(path.read_text(encoding="utf-8"))
    return [tuple(entries[str(number)]) for number in range(CLASSES)]


def read_class_names(
    classes: str | PathLike[str] | Sequence[str],
    outputs: int | None = None,
    *,
    argument: str = "classes",
    different: bool = False,
) -> list[str]:
    """Class names in the order of a model's outputs.

    Args:
        classes: A list of names; "imagenet" for ImageNet's 1000, with "background" before them for 1001 outputs; or
            a file with one name per line.
        outputs: How many outputs the model has; None if that is checked elsewhere.
        argument: What errors call the list.
        different: Whether no name may be given twice, because pictures are matched with classes by name. ImageNet's
            English names are not all different: two of its classes are called "crane".

    Raises:
        InputError: The file cannot be read, there is no name or one is given twice, or there are not as many as
            outputs.
    """
    where = argument
    if isinstance(classes, str) and classes == IMAGENET and not Path(classes).exists():
        names = [name for _, name in class_index()]
        if outputs == len(names) + 1:
            names = [BACKGROUND, *names]
    elif isinstance(classes, str | PathLike):
        names, where = _read_names(Path(fspath(classes))), str(classes)
    elif isinstance(classes, Sequence) and all(isinstance(name, str) and name for name in classes):
        names = list(classes)
    else:
        raise refuse(argument, classes, f"a file's path, a list of names, or {IMAGENET!r}")
    if not names:
        raise InputError(f"{where}: names no classes; every output needs a name of its own")
    if different and (twice := repeated(names)):
        raise InputError(f"{where}: names {quoted(twice)} more than once")
    if outputs is not None and len(names) != outputs:
        raise InputError(f"{argument}: {len(names)} names were given, and the model has {outputs} outputs")
    return names


def _read_names(path: Path) -> list[str]:
    needed = "it must have one class name per line"
    try:
        text = read_short_text(path, LONGEST_LIST, names=True)  # those of folders, say
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {needed}") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}; {needed}") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def repeated(names: Sequence[str]) -> list[str]:
    """The names that a list has more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def quoted(names: Sequence[str], most: int = 10) -> str:
    """The first names of a list, quoted, and how many more there are."""
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")

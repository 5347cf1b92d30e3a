"""The names of a network's classes, from a list, a file, or ImageNet's index."""

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

# Keras's own index: the same file in the same place as for `keras.applications`.
URL = "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json"
DIGEST = "md5:c2c37ea517e94d9795004a39431a14cb"
FOLDER = "models"
CLASSES = 1000
LONGEST_LIST = 64 * 1024**2  # bytes of a file with class names
IMAGENET = "imagenet"  # means ImageNet's class names
BACKGROUND = "background"  # class 0 of TF-Slim's 1001


class Label(NamedTuple):
    """A class of ImageNet: its WordNet id, such as "n02123159", its name, and its probability in [0, 1]."""

    id: str
    name: str
    probability: float


def label_offset(outputs: int | None) -> int | None:
    """The output for ImageNet's first class: 0 of 1000 outputs; 1 of 1001, where output 0 is "background".

    None for any other number of outputs.
    """
    return {CLASSES: 0, CLASSES + 1: 1}.get(outputs or 0)


def decode_predictions(probabilities: ArrayLike, top: int = 5) -> list[list[Label]]:
    """The most probable ImageNet classes of each image.

    The class names come from Keras's imagenet_class_index.json, which is downloaded into Keras's cache at the first
    call.

    Args:
        probabilities: An array of shape (batch, 1000); or (batch, 1001) where output 0 is "background", which is
            ignored.
        top: Number of classes per image, 1 to 1000.

    Returns:
        For each image a list of `top` classes, the most probable first, as (WordNet id, name, probability).

    Raises:
        ValueError: `probabilities` has another shape or contains NaN or infinity; `top` is out of range; or the class
            index is not in the cache and cannot be downloaded (the message has its address and path).

    Examples:
        >>> import numpy as np
        >>> from inception_resnet_keras import decode_predictions
        >>> probabilities = np.zeros((1, 1000))
        >>> probabilities[0, [281, 282]] = 0.25, 0.75
        >>> decode_predictions(probabilities, top=2)[0]
        [Label(id='n02123159', name='tiger_cat', probability=0.75),
         Label(id='n02123045', name='tabby', probability=0.25)]
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
            f"probabilities: row {broken[0]} has NaN or infinity, which cannot be ranked: the model is damaged"
        )
    index = class_index()
    array = array[:, -CLASSES:]
    order = np.argsort(-array, axis=1, kind="stable")[:, :top]
    return [[_label(index[number], row[number]) for number in best] for row, best in zip(array, order, strict=True)]


def _label(entry: tuple[str, str], probability: float) -> Label:
    return Label(entry[0], entry[1], float(probability))


@lru_cache(maxsize=1)
def class_index() -> list[tuple[str, str]]:
    """(WordNet id, name) of ImageNet's 1000 classes, in order."""
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
        classes: A list of names; "imagenet" for ImageNet's 1000, preceded by "background" for 1001 outputs; or a file
            with one name per line.
        outputs: Number of the model's outputs; None if the caller checks it.
        argument: The argument's name in messages.
        different: Whether all names must differ, because images are matched with classes by name. ImageNet's English
            names do not all differ: two of its classes are called "crane".

    Raises:
        InputError: The file cannot be read, there are no names, a name occurs twice, or the number of names is not
            the number of outputs.
    """
    where = argument
    if isinstance(classes, str) and classes == IMAGENET and not Path(classes).exists():
        if outputs not in (None, CLASSES, CLASSES + 1):  # before a download that would not help
            raise InputError(f"{argument}: ImageNet has {CLASSES} classes, and the model {outputs} outputs")
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
        raise InputError(f"{where}: has no class names; every output needs one")
    if different and (twice := repeated(names)):
        raise InputError(f"{where}: has {quoted(twice)} more than once; every class needs a different name")
    if outputs is not None and len(names) != outputs:
        raise InputError(f"{argument}: got {len(names)} names, and the model has {outputs} outputs; give one for each")
    return names


def _read_names(path: Path) -> list[str]:
    needed = "it must have one class name per line"
    try:
        text = read_short_text(path, LONGEST_LIST, names=True)  # classes may be named after folders
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {needed}") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}; {needed}") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def repeated(names: Sequence[str]) -> list[str]:
    """The names that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def quoted(names: Sequence[str], most: int = 10) -> str:
    """The first `most` names of a list, quoted, and the number of the others."""
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")

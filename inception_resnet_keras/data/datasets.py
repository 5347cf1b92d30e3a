"""Writing the labelled images of a `tf.data.Dataset` as a packed folder, which is then opened like any other source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..common.errors import InputError, refuse, shown
from .images import MAX_SIDE
from .packed import PackedFolder, write_packed

if TYPE_CHECKING:
    import tensorflow as tf

TAKES = (
    "a tf.data.Dataset of (image, label): pixels of 0-255 (height, width, 1 or 3), and integers, one-hot vectors, or "
    "vectors of 0 and 1 of several labels"
)


class Dataset(Protocol):
    """The type of a `tf.data.Dataset` for type checkers, because TensorFlow does not ship types."""

    @property
    def element_spec(self) -> Any: ...

    def cardinality(self) -> Any: ...


def is_dataset(data: Any) -> bool:
    """Whether `data` is a `tf.data.Dataset`. Does not import TensorFlow."""
    return any(kind.__module__.startswith("tensorflow.") and "Dataset" in kind.__name__ for kind in type(data).__mro__)


def pack_dataset(
    dataset: tf.data.Dataset,
    out: Path,
    *,
    argument: str = "data",
    class_names: Sequence[str] | None = None,
    several: bool = False,
    every_class: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PackedFolder:
    """Write the images of a dataset, read once and in its order, as PNG into a new packed folder.

    Args:
        dataset: Images with labels, batched or one by one, such as `keras.utils.image_dataset_from_directory` returns.
            Images are (height, width, channels) with 1 or 3 channels, of any size, uint8 or float pixels of 0-255;
            float pixels are rounded. Labels are integers, one-hot vectors, or vectors of 0 and 1 with several labels
            per image. Vectors count as several labels if any of them has more or fewer than one 1.
        out: The folder to create; it must not exist.
        argument: Name of the dataset in error messages.
        class_names: Names in the order of the labels. None takes the dataset's own `class_names`, otherwise numbers.
        several: Whether to treat one-hot vectors as several labels per image, as for held-out images of training
            images with several labels.
        every_class: Whether each class must have an image; held-out images may lack some.
        progress: Called with the number of images written so far and the total, which is 0 if it is unknown.

    Returns:
        The folder, with the numbers of its images, files and bytes.

    Raises:
        InputError: The dataset is infinite or empty, has elements of another kind, pixels outside 0-255 or a label
            without a name; or a class has no image. Nothing is left at `out`.
    """
    import tensorflow as tf

    # Check the elements' specs, and separate batches into single images.
    images, labels = _element(dataset, argument)
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError(f"{argument}: the dataset repeats without end: leave out .repeat()")
    batched = images.shape.rank == 4
    if batched:
        dataset = dataset.unbatch()
    one_hot = labels.shape.rank == (2 if batched else 1)
    # Encode images in the dataset's own threads; check values and labels while writing, because reading twice may give
    # other images.
    total = max(int(dataset.cardinality()), 0)
    encoded = dataset.map(lambda image, label: (*_encoded(image), label), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    names = class_names if class_names is not None else getattr(dataset, "class_names", None)
    bounds = np.array([np.inf, -np.inf])

    def pictures() -> Iterator[tuple[bytes, np.ndarray, tuple[int, int]]]:
        for number, (content, size, low, high, label) in enumerate(encoded):
            where = f"{argument}: image {number}"
            bounds[:] = min(bounds[0], float(low)), max(bounds[1], float(high))
            if not (float(low) >= 0 and float(high) <= 255):  # written so that NaN fails too
                raise InputError(f"{where} has values from {low:g} to {high:g}; unscaled pixels of 0-255 are needed")
            height, width, channels = size.numpy().tolist()
            if channels not in (1, 3) or max(height, width) > MAX_SIDE:
                raise InputError(
                    f"{where} is {height}×{width}×{channels}; it must have 1 or 3 channels, and sides of at most "
                    f"{MAX_SIDE}"
                )
            given = label.numpy()
            vector = one_hot and given.size > 1
            yield (
                content.numpy(),
                _row(given, names, where) if vector else _number(given, names, where),
                (height, width),
            )
            progress(number + 1, total)
        # Floats that are all at most 1 were scaled before; a single dark image may have such values.
        if images.dtype.is_floating and bounds[1] <= 1:
            raise InputError(
                f"{argument}: no value is above {bounds[1]:g}; pixels of 0-255 are needed: remove the step that scales "
                "them"
            )

    return write_packed(
        pictures(), out, names, what=f"{argument}: the dataset", several=several, every_class=every_class
    )


def _element(dataset: tf.data.Dataset, argument: str) -> tuple[Any, Any]:
    """The tensor specs of the images and of the labels; raises InputError if they are not usable."""
    spec = dataset.element_spec
    if isinstance(spec, dict) and {"image", "label"} <= spec.keys():
        raise InputError(f"{argument}: its elements are dicts; give pairs: .map(lambda x: (x['image'], x['label']))")
    pair = isinstance(spec, tuple) and len(spec) == 2 and all(hasattr(one, "shape") for one in spec)
    if not pair or spec[0].shape.rank not in (3, 4):
        raise refuse(argument, f"a dataset of {spec}", TAKES)
    images, labels = spec
    rank = images.shape.rank - 3
    if images.shape[-1] not in (1, 3, None) or labels.shape.rank not in (rank, rank + 1):
        raise refuse(argument, f"a dataset of {spec}", TAKES)
    return images, labels


def _encoded(image: Any) -> tuple[Any, Any, Any, Any]:
    """The PNG, the shape, and the lowest and highest value of an image; runs in the dataset's own threads."""
    import tensorflow as tf

    values = tf.cast(image, tf.float32)
    pixels = tf.cast(tf.clip_by_value(tf.round(values), 0, 255), tf.uint8)
    # Minimum and maximum ignore NaN, so it is looked for separately.
    bad = tf.reduce_any(tf.math.is_nan(values))
    low = tf.where(bad, tf.constant(float("nan")), tf.reduce_min(values))
    return tf.io.encode_png(pixels), tf.shape(image), low, tf.reduce_max(values)


def _row(label: np.ndarray, names: Sequence[str] | None, where: str) -> np.ndarray:
    """uint8 (classes,): a label given as a vector, 1 for each class that applies."""
    if not np.isin(label, (0, 1)).all():
        takes = "an integer, a one-hot vector or a vector of 0 and 1 is needed"
        raise InputError(f"{where} has the label {shown(label.tolist())}; {takes}")
    if names is not None and len(label) != len(names):
        raise InputError(f"{where} has a label of {len(label)} values, but there are {len(names)} classes")
    return label.astype(np.uint8)


def _number(label: np.ndarray, names: Sequence[str] | None, where: str) -> np.ndarray:
    """int64 (): a label as the number of its class."""
    number = int(label.reshape(()))
    if number != label.reshape(()):
        raise InputError(f"{where} has the label {label}; an integer is needed")
    if number < 0 or (names is not None and number >= len(names)):
        classes = "the classes" if names is None else f"the {len(names)} classes"
        raise InputError(f"{where} has the label {number}, which is not one of {classes}, counted from 0")
    return np.array(number, np.int64)

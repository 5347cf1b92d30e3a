"""Labelled pictures before decoding: `Source`, the places of the pictures' bytes, and the list of corrupt pictures."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from ..common.arguments import count_or_share, is_integer
from ..common.console import counted
from ..common.devices import usable_cores
from ..common.errors import InputError
from ..common.files import open_regular, read_bytes
from .images import UnreadableImageError, decode, resized

if TYPE_CHECKING:
    import tensorflow as tf

# The parts of a split, and their accepted names in folders and in the column split of a CSV file, in any case.
PARTS = ("train", "val", "test")
TRAIN, VAL, TEST = PARTS
PART_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "test": TEST,
    "testing": TEST,
}
SHOWN = 5
SAMPLED = 64  # number of pictures whose bytes are part of a source's fingerprint
NOTHING_LEFT = "no picture of a batch can be read"


@dataclass(frozen=True)
class Source:
    """n labelled pictures in a fixed order, not decoded.

    Attributes:
        class_names: Names in the order of the labels.
        names: The origin of each picture, for reports: a path, or "digit 17".
        labels: int64 (n,), indices into class_names; with several labels per picture (`multi_label`) uint8 (n,
            classes), 1 for each class that applies.
        sizes: int32 (n, 2), height and width after turning upright.
        kinds: uint8 (n,): JPEG, PLAIN or PILLOW, the way each picture is decoded.
        contents: Returns each picture's bytes.
        corrupt: The pictures that could not be read, when the source was opened (these are left out) or later. Sources
            that are taken from this one share the list.
        beside: (place, reason) of what lies beside the pictures and is not read.
        notes: Sentences to print about how ambiguous input was interpreted.
        parts: "train", "val" or "test" for each picture if the source declares a split, otherwise None.
        groups: The group of each picture, such as a patient, if the source has groups, otherwise None. Pictures of one
            group belong on one side of a split.
        value_range: The values that become 0 and 255 in pictures of more than 8 bits; None if there are no such
            pictures or the range is not known.
        weights: float32 (n,), the weight of each picture in the loss if the source has weights, otherwise None.
    """

    class_names: Sequence[str]
    names: Sequence[str]
    labels: np.ndarray
    sizes: np.ndarray
    kinds: np.ndarray
    contents: Contents
    corrupt: CorruptPictures
    beside: Sequence[tuple[str, str]] = ()
    parts: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    weights: np.ndarray | None = None
    value_range: tuple[float, float] | None = None
    notes: Sequence[str] = ()

    @property
    def multi_label(self) -> bool:
        """Whether a picture may have several labels, or none."""
        return self.labels.ndim == 2

    def label_texts(self) -> Iterator[str]:
        """The class of each picture; several labels are joined by "|"."""
        if not self.multi_label:
            return (self.class_names[label] for label in self.labels.tolist())
        return ("|".join(self.class_names[label] for label in np.flatnonzero(row).tolist()) for row in self.labels)

    @cached_property
    def class_counts(self) -> np.ndarray:
        """int64 (classes,): the number of pictures of each class."""
        if self.multi_label:
            return self.labels.sum(axis=0, dtype=np.int64)
        return np.bincount(self.labels, minlength=len(self.class_names))

    def __len__(self) -> int:
        return len(self.labels)

    def test_part(self, name: str) -> tuple[Source, str]:
        """The pictures to evaluate a model on, and a sentence about the choice.

        These are the test part if the source declares one, otherwise all pictures. The sentence is empty for a source
        without parts.

        Args:
            name: The source's name in the sentence.
        """
        if self.parts is None:
            return self, ""
        chosen = np.flatnonzero(np.array(self.parts) == TEST)
        if len(chosen):
            share = f"{len(chosen):,} of {counted(len(self), 'picture')}"
            return self.take(chosen), f"the test part of {name} is evaluated: {share}"
        declared = " and ".join(part for part in PARTS if part in self.parts)
        return self, f"{name} declares {declared} and no test part: all its {len(self):,} pictures are evaluated"

    def take(self, chosen: np.ndarray) -> Source:
        return replace(
            self,
            names=[self.names[index] for index in chosen.tolist()],
            labels=self.labels[chosen],
            sizes=self.sizes[chosen],
            kinds=self.kinds[chosen],
            contents=self.contents.take(chosen),
            parts=None if self.parts is None else [self.parts[index] for index in chosen.tolist()],
            groups=None if self.groups is None else [self.groups[index] for index in chosen.tolist()],
            weights=None if self.weights is None else self.weights[chosen],
        )

    def read(self, index: int, size: tuple[int, int] | None = None, crop: float = 1.0) -> np.ndarray:
        """Decode one picture as `read_image` does. An unreadable picture is listed in `corrupt`, and raised."""
        if size is None:
            return np.asarray(self.decode(index))
        return np.asarray(resized(self.decode(index, (size[0] / crop, size[1] / crop)), size, crop))

    def decode(self, index: int, enough: tuple[float, float] | None = None) -> Image.Image:
        """Decode one picture as `images.decode` does. An unreadable picture is listed in `corrupt`, and raised."""
        try:
            try:
                content = self.contents.read(index)
            except OSError as error:
                raise UnreadableImageError(Path(self.names[index]), error.strerror or str(error)) from None
            return decode(Path(self.names[index]), enough, content=content, value_range=self.value_range)
        except UnreadableImageError as error:
            self.corrupt.add(self.names[index], error.reason)
            raise

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the class names and of every picture's name, label and weight (if there are weights), in order."""
        recorded = [list(self.class_names), list(self.names), self.labels.tolist()]
        if self.weights is not None:
            recorded.append(self.weights.tolist())
        return hashlib.sha256(json.dumps(recorded).encode()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the digest, of all sizes, and of the bytes of some pictures, spread evenly over the source.

        It detects that other pictures have the same names, without reading all pictures.
        """
        found = hashlib.sha256(self.digest.encode())
        found.update(np.ascontiguousarray(self.sizes).tobytes())
        for index in np.linspace(0, len(self) - 1, min(len(self), SAMPLED)).astype(int).tolist():
            found.update(hashlib.sha256(self._content(index)).digest())
        return found.hexdigest()

    def read_all(self, size: tuple[int, int], crop: float = 1.0) -> np.ndarray:
        """Decode all pictures: uint8 (n, height, width, 3). Raises UnreadableImageError for the first corrupt one."""
        with ThreadPoolExecutor(usable_cores()) as threads:
            return np.stack(list(threads.map(lambda index: self.read(index, size, crop), range(len(self)))))

    @cached_property
    def in_memory(self) -> Source:
        """The same pictures, with the files' bytes read once and kept in memory."""
        with ThreadPoolExecutor(usable_cores()) as threads:
            return replace(self, contents=Memory(list(threads.map(self._content, range(len(self))))))

    def _content(self, index: int) -> bytes:
        try:
            return self.contents.read(index)
        except OSError:
            return b""  # reported as corrupt when it is decoded


@dataclass(frozen=True)
class Listing:
    """Labelled picture files listed by a folder or a CSV file, before any of them is opened.

    The fields are those of `Source`. files: The paths. lines: int64 (n,), the line of each picture in a CSV file.
    """

    files: Sequence[str]
    class_names: Sequence[str]
    labels: np.ndarray
    parts: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    weights: np.ndarray | None = None
    beside: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    lines: np.ndarray | None = None


class Contents(Protocol):
    def read(self, index: int) -> bytes:
        """The bytes of one picture; raises OSError if they cannot be read."""

    def graph(self, index: tf.Tensor) -> tf.Tensor:
        """`read` within a tf.data pipeline: from a scalar int64 to a scalar string."""

    def take(self, chosen: np.ndarray) -> Contents:
        """The contents of the chosen pictures."""


class Files:
    """One file per picture."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths

    def read(self, index: int) -> bytes:
        return read_bytes(self.paths[index])

    def graph(self, index: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.io.read_file(tf.gather(self._tensor, index))

    def take(self, chosen: np.ndarray) -> Files:
        return Files([self.paths[index] for index in chosen.tolist()])

    @cached_property
    def _tensor(self) -> tf.Tensor:
        import tensorflow as tf

        with tf.init_scope():  # made once, outside the graph that asks first
            return tf.constant(list(map(os.fsencode, self.paths)))


class Memory:
    """Pictures' bytes in memory."""

    def __init__(self, contents: Sequence[bytes]) -> None:
        self.contents = contents

    def read(self, index: int) -> bytes:
        return self.contents[index]

    def graph(self, index: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.gather(self._tensor, index)

    def take(self, chosen: np.ndarray) -> Memory:
        return Memory([self.contents[index] for index in chosen.tolist()])

    @cached_property
    def _tensor(self) -> tf.Tensor:
        import tensorflow as tf

        with tf.init_scope():  # made once, outside the graph that asks first
            return tf.constant(self.contents)


class Ranges:
    """Parts of larger files: picture i is `lengths[i]` bytes at `offsets[i]` of the file number `numbers[i]`."""

    def __init__(self, paths: Sequence[Path], numbers: np.ndarray, offsets: np.ndarray, lengths: np.ndarray) -> None:
        self.paths, self.numbers, self.offsets, self.lengths = paths, numbers, offsets, lengths

    def read(self, index: int) -> bytes:
        with open_regular(self.paths[self.numbers[index]]) as file:
            file.seek(int(self.offsets[index]))
            content = file.read(int(self.lengths[index])) or b""
        if len(content) != self.lengths[index]:
            raise OSError(f"{self.paths[self.numbers[index]]} was shortened since it was opened")
        return content

    def graph(self, index: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.ensure_shape(tf.numpy_function(self.read, [index], tf.string, stateful=False), [])

    def take(self, chosen: np.ndarray) -> Ranges:
        return Ranges(self.paths, self.numbers[chosen], self.offsets[chosen], self.lengths[chosen])


class CorruptPictures:
    """The unreadable pictures of a source, each listed once, with an upper bound on their number.

    Args:
        bound: The largest number that is allowed: an integer, or a share of `total` as a float below 1.
    """

    def __init__(self, bound: float, total: int) -> None:
        count_or_share("max_corrupt", bound, "pictures")
        self.bound, self.total = (int(bound) if is_integer(bound) else int(bound * total)), total
        self._reasons: dict[str, str] = {}
        self._lock = Lock()  # tf.data calls from many threads

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, name: str, reason: str) -> None:
        """List a picture; raises InputError if the bound is exceeded."""
        self.list_one(name, reason)
        self.check()

    def list_one(self, name: str, reason: str) -> None:
        """List a picture without checking the bound, to list several before one check."""
        with self._lock:
            self._reasons[name] = reason

    def listed(self) -> list[tuple[str, str]]:
        """(name, reason), sorted by name."""
        with self._lock:
            return sorted(self._reasons.items())

    def check(self) -> None:
        """Raise InputError if there are more unreadable pictures than the bound allows."""
        if len(self) > self.bound:
            unreadable = f"{len(self)} of {self.total} pictures cannot be read, max_corrupt allows {self.bound}"
            raise InputError(f"{unreadable}: {self._shown()}. Repair or remove them, or raise max_corrupt")

    def _shown(self) -> str:
        listed = self.listed()
        more = f"; and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
        return "; ".join(f"{name}: {reason}" for name, reason in listed[:SHOWN]) + more

    @contextmanager
    def raising_input_errors(self) -> Iterator[None]:
        """Replace tf.data's errors within the block by the InputError of the bound, if it is exceeded."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            self.check()
            if NOTHING_LEFT in str(error):
                raise InputError(f"{NOTHING_LEFT}: {self._shown()}. Repair or remove them") from None
            raise

"""Labelled pictures that are not decoded yet: `Source`, where its bytes lie, and which pictures cannot be read."""

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

# The parts of a split, and how folders and the column split of a CSV file call them, in any case.
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
SAMPLED = 64  # pictures whose bytes are part of a fingerprint
NOTHING_LEFT = "no picture of a batch can be read"


@dataclass(frozen=True)
class Source:
    """Labelled pictures, in a fixed order, not decoded.

    class_names: in the order of the labels.
    names: where each comes from, for reports: a path, or "digit 17".
    labels: int64 (n,), indices into class_names; with several labels per picture uint8 (n, classes), 1 where a class
        applies (`multi_label`).
    sizes: int32 (n, 2), height and width, upright.
    kinds: uint8 (n,): JPEG, PLAIN or PILLOW, how each is decoded.
    contents: gives each picture's bytes.
    corrupt: the pictures that could not be read: found when the source was opened, and left out, or
        since. What is taken from a source shares it.
    beside: what lies beside the pictures and is not read, each place with why.
    notes: how the source was understood where it could be otherwise, each a sentence to print.
    parts: "train", "val" or "test" per picture, where the source itself declares a split; else None.
    groups: the group of each picture, such as a patient, where the source names groups; else None. Pictures of one
        group belong on one side of a split.
    value_range: the values that become 0 and 255 in pictures of more than 8 bits; None where none has more, or none is
        known.
    weights: float32 (n,), the weight of each picture in the loss, where the source gives weights; else None.
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
        """The class of each picture; of several per picture all, with "|" between them."""
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
        """The pictures to evaluate a model on, and a sentence that says which.

        These are the test part where the source declares one, else all pictures. The sentence is empty for a source
        without parts.

        name: What the sentence calls the source.
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
        """One picture as `read_image` gives it; an unreadable one is listed in `corrupt` and raised."""
        if size is None:
            return np.asarray(self.decode(index))
        return np.asarray(resized(self.decode(index, (size[0] / crop, size[1] / crop)), size, crop))

    def decode(self, index: int, enough: tuple[float, float] | None = None) -> Image.Image:
        """The same as `images.decode` gives it."""
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
        """SHA-256 of the classes and of every picture's name, label and, where there are weights, weight, in order."""
        told = [list(self.class_names), list(self.names), self.labels.tolist()]
        if self.weights is not None:
            told.append(self.weights.tolist())
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the digest, of all sizes, and of the bytes of some pictures, spread evenly over the source.

        It differs where the same names stand for other pictures, without reading all of them.
        """
        found = hashlib.sha256(self.digest.encode())
        found.update(np.ascontiguousarray(self.sizes).tobytes())
        for index in np.linspace(0, len(self) - 1, min(len(self), SAMPLED)).astype(int).tolist():
            found.update(hashlib.sha256(self._content(index)).digest())
        return found.hexdigest()

    def read_all(self, size: tuple[int, int], crop: float = 1.0) -> np.ndarray:
        """Every picture, uint8 (n, height, width, 3); UnreadableImageError at the first that cannot be read."""
        with ThreadPoolExecutor(usable_cores()) as threads:
            return np.stack(list(threads.map(lambda index: self.read(index, size, crop), range(len(self)))))

    @cached_property
    def in_memory(self) -> Source:
        """The same pictures, their content read once and kept."""
        with ThreadPoolExecutor(usable_cores()) as threads:
            return replace(self, contents=Memory(list(threads.map(self._content, range(len(self))))))

    def _content(self, index: int) -> bytes:
        try:
            return self.contents.read(index)
        except OSError:
            return b""  # told as corrupt when its turn comes


@dataclass(frozen=True)
class Listing:
    """Labelled picture files that are named by a folder or a CSV file, before any of them is opened.

    The fields are as in `Source`; files: the paths. lines: int64 (n,), the line of each in a CSV file.
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
        """The bytes of one picture; OSError where they cannot be read."""

    def graph(self, index: tf.Tensor) -> tf.Tensor:
        """The same within a tf.data pipeline: a scalar int64 to a scalar string."""

    def take(self, chosen: np.ndarray) -> Contents:
        """Those of the chosen pictures."""


class Files:
    """A file a picture."""

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
    """Bytes that are kept."""

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
    """Parts of larger files: of file `numbers[i]`, `lengths[i]` bytes from `offsets[i]` on."""

    def __init__(self, paths: Sequence[Path], numbers: np.ndarray, offsets: np.ndarray, lengths: np.ndarray) -> None:
        self.paths, self.numbers, self.offsets, self.lengths = paths, numbers, offsets, lengths

    def read(self, index: int) -> bytes:
        with open_regular(self.paths[self.numbers[index]]) as file:
            file.seek(int(self.offsets[index]))
            content = file.read(int(self.lengths[index])) or b""
        if len(content) != self.lengths[index]:
            raise OSError(f"{self.paths[self.numbers[index]]} has become shorter")
        return content

    def graph(self, index: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.ensure_shape(tf.numpy_function(self.read, [index], tf.string, stateful=False), [])

    def take(self, chosen: np.ndarray) -> Ranges:
        return Ranges(self.paths, self.numbers[chosen], self.offsets[chosen], self.lengths[chosen])


class CorruptPictures:
    """The unreadable pictures of a source, each once, up to a bound.

    bound: an integer for that many, or a float below 1 for a share of `total`.
    """

    def __init__(self, bound: float, total: int) -> None:
        count_or_share("max_corrupt", bound, "pictures")
        self.bound, self.total = (int(bound) if is_integer(bound) else int(bound * total)), total
        self._reasons: dict[str, str] = {}
        self._lock = Lock()  # tf.data asks from many threads

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, name: str, reason: str) -> None:
        """Lists a picture; InputError where that passes the bound."""
        self.list_one(name, reason)
        self.check()

    def list_one(self, name: str, reason: str) -> None:
        """Lists a picture, as one of several that are checked together."""
        with self._lock:
            self._reasons[name] = reason

    def listed(self) -> list[tuple[str, str]]:
        """(name, reason), sorted by name."""
        with self._lock:
            return sorted(self._reasons.items())

    def check(self) -> None:
        """Raises InputError where there are more than the bound allows."""
        if len(self) > self.bound:
            unreadable = f"{len(self)} of {self.total} pictures cannot be read, max_corrupt allows {self.bound}"
            raise InputError(f"{unreadable}: {self._shown()}. Mend or remove them, or allow more")

    def _shown(self) -> str:
        listed = self.listed()
        more = f"; and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
        return "; ".join(f"{name}: {reason}" for name, reason in listed[:SHOWN]) + more

    @contextmanager
    def raising_input_errors(self) -> Iterator[None]:
        """Turns what tf.data raises within the block, once the bound is passed, into that InputError."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            self.check()
            if NOTHING_LEFT in str(error):
                raise InputError(f"{NOTHING_LEFT}: {self._shown()}. Mend or remove them") from None
            raise

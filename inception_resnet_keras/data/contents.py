"""Where the bytes of pictures come from: files, ranges of larger files, memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf


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
        return Path(self.paths[index]).read_bytes()

    def graph(self, index: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        return tf.io.read_file(tf.gather(self._tensor, index))

    def take(self, chosen: np.ndarray) -> Files:
        return Files([self.paths[index] for index in chosen])

    @cached_property
    def _tensor(self) -> tf.Tensor:
        import tensorflow as tf

        with tf.init_scope():  # made once, outside the graph that asks first
            return tf.constant(self.paths)


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
        return Memory([self.contents[index] for index in chosen])

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
        with self.paths[self.numbers[index]].open("rb", buffering=0) as file:
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

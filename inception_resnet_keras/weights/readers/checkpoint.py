"""The result of every reader: a file's tensors by name, not yet read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...common.console import printable
from ...common.errors import InputError, reason_of


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file. `read` reads its values."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass
class Checkpoint:
    """An open file. Close it, or use it in a `with` statement.

    Attributes:
        path, format: The file, and its format in words.
        tensors: The tensors by name, in the file's own order and layout.
        resources: Open files and temporary folders, which are closed with the checkpoint.
        layers: For a Keras file with a graph, the configuration of each layer, by name.
        metadata: A safetensors file's metadata.
        checksums: Whether the format has checksums over the values, so that damaged values are detected.
    """

    path: Path
    format: str
    tensors: dict[str, Tensor]
    resources: ExitStack = field(default_factory=ExitStack)
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    checksums: bool = True

    def read(self, name: str) -> np.ndarray:
        """The values of a tensor. Raises InputError if they are damaged."""
        tensor = self.tensors[name]
        with damage(self.path, f"tensor {name!r}"):
            array = tensor.read()
        if array.shape != tensor.shape:
            raise InputError(f"{self.path}: {name} has shape {array.shape}, but its header says {tensor.shape}")
        return array

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *error: object) -> None:
        self.resources.close()


def no_checksums(path: object) -> str:
    """The note for a file in a format without checksums."""
    return (
        "this format has no checksum over its values, so damaged values cannot be detected: keep the weights as "
        f".keras, which has one: inception-resnet-keras convert {path} OUT.keras"
    )


@contextmanager
def damage(path: Path, what: str) -> Iterator[None]:
    """Within the block, turn all errors of a parser into an InputError that names the file."""
    try:
        yield
    except InputError as error:
        if printable(path) in str(error):
            raise
        raise InputError(f"{path}: {error}") from None
    except ImportError:
        raise  # a missing package is not the file's fault
    except Exception as error:  # on hostile bytes a parser may raise anything
        raise InputError(f"{path}: {what} cannot be read ({reason_of(error)}); it is damaged or truncated") from error


def within(path: Path, what: str, size: int, limit: int) -> None:
    """Raise InputError if something would take more memory than its file has bytes for."""
    if size < 0 or size > limit:
        raise InputError(f"{path}: {what} claims {size} bytes, and the file has room for {limit}: it is damaged")

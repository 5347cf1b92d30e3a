"""What every reader gives: a file's tensors by name, none of them read yet."""

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
    """One tensor of a file; `read` fetches it."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass
class Checkpoint:
    """An open file: its tensors in its own order and layout. Close it, or use it in a `with`.

    layers: Of a .keras file the settings of each layer, by name. metadata: What a safetensors file has.
    checksums: Whether the format has checksums over the values, so that a damaged number is noticed.
    """

    path: Path
    format: str
    tensors: dict[str, Tensor]
    resources: ExitStack = field(default_factory=ExitStack)
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    checksums: bool = True

    def read(self, name: str) -> np.ndarray:
        tensor = self.tensors[name]
        with damage(self.path, f"tensor {name!r}"):
            array = tensor.read()
        if array.shape != tensor.shape:
            raise InputError(f"{self.path}: {name} holds shape {array.shape} where its header says {tensor.shape}")
        return array

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *error: object) -> None:
        self.resources.close()


def no_checksums(path: object) -> str:
    """What to tell about a file of a format without checksums."""
    return (
        "this format has no checksum over its values, so a changed number cannot be noticed: keep the weights as "
        f".keras, which has one: inception-resnet-keras convert {path} OUT.keras"
    )


@contextmanager
def damage(path: Path, what: str) -> Iterator[None]:
    """Whatever a parser raises becomes an InputError that names the file."""
    try:
        yield
    except InputError as error:
        if printable(path) in str(error):
            raise
        raise InputError(f"{path}: {error}") from None
    except ImportError:
        raise  # what is missing here is no fault of the file
    except Exception as error:  # a parser that is fed hostile bytes: whatever it raises is the file's fault
        raise InputError(f"{path}: {what} cannot be read ({reason_of(error)}); it is damaged or cut short") from error


def within(path: Path, what: str, size: int, limit: int) -> None:
    """Refuses what would be larger in memory than the file it comes from allows."""
    if size < 0 or size > limit:
        raise InputError(f"{path}: {what} claims {size} bytes, and the file has room for {limit}: it is damaged")

"""Reads and writes safetensors files with the library of that name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...common.errors import InputError
from ...common.packages import required
from .checkpoint import Checkpoint, Tensor

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32"}


def read(path: Path) -> Checkpoint:
    """Open a safetensors file."""
    opener = require()
    file = opener(path, framework="numpy").__enter__()
    tensors = {}
    for name in file.keys():  # noqa: SIM118 - it is not a mapping
        part = file.get_slice(name)
        dtype = DTYPES.get(part.get_dtype())
        if dtype is None:
            raise InputError(f"{path}: {name} has type {part.get_dtype()}; supported are {', '.join(DTYPES)}")
        tensors[name] = Tensor(tuple(part.get_shape()), dtype, lambda name=name: file.get_tensor(name))  # type: ignore[misc]
    checkpoint = Checkpoint(path, "safetensors", tensors, metadata=file.metadata() or {}, checksums=False)
    checkpoint.resources.callback(file.__exit__, None, None, None)
    return checkpoint


def require() -> Any:
    """The library's `safe_open`. Raises an error that names the extra if it is not installed."""
    return required("safetensors", "a .safetensors file").safe_open


def save(path: Path, arrays: dict[str, Any], metadata: dict[str, str]) -> None:
    """Write arrays by name, with metadata."""
    require()
    from safetensors.numpy import save_file

    save_file(arrays, path, metadata=metadata)

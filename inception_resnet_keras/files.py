"""Files that are whole or not there at all."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside `path`, of the same suffix, to be written to.

    When the block ends well, what was written is flushed to the disk and takes `path`'s place in one
    step; when it fails, it is removed and whatever `path` held stays.
    """
    beside = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield beside
        flush(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    if os.name == "posix":
        flush(path.parent)  # the new name itself


def write_text(path: Path, text: str) -> None:
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """A number that is none or has no end is written as null: JSON has neither, and most readers refuse both."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flush(path: Path) -> None:
    """Writes what the system still holds of a file, or of a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def placing(*targets: Path) -> Iterator[Path]:
    """Yields an empty folder beside `targets`, in which files and folders of their names are to be written.

    When the block ends well, they are flushed to the disk and renamed to the targets, in this order;
    when anything fails, none of them is left. Raises FileExistsError for a target that is there by then.
    A process that is killed outright leaves its folder, `.NAME.*.partial`, which hinders no other.
    """
    last = targets[-1]
    beside = Path(tempfile.mkdtemp(prefix=f".{last.name}.", suffix=".partial", dir=last.parent))
    placed: list[Path] = []
    try:
        yield beside
        for path in (*beside.rglob("*"), beside):
            if os.name == "posix" or path.is_file():
                flush(path)
        for target in targets:
            if target.exists():
                raise FileExistsError(f"{target} has come to be while it was written; it is not overwritten")
            os.rename(beside / target.name, target)
            placed.append(target)
    except BaseException:
        for target in placed:
            _remove(target)
        raise
    finally:
        _remove(beside)
    if os.name == "posix":
        flush(last.parent)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""Files that are whole or not there at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
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
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


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
    beside = last.with_name(f".{last.name}.{secrets.token_hex(8)}.partial")
    placed: list[Path] = []
    try:
        beside.mkdir()  # here, so that no interrupt falls between it and its removal
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

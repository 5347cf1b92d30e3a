"""Files that are whole or not there at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from .errors import InputError


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


@dataclass(frozen=True)
class FreshFolder:
    """path: an empty folder. made: it and its parents, as far as they were not there before, the innermost first."""

    path: Path
    made: tuple[Path, ...]

    def remove_if_empty(self) -> None:
        """Removes what was made, as far as nothing is in it; a folder that was there before stays."""
        for folder in self.made:
            try:
                folder.rmdir()
            except OSError:
                return


def fresh_folder(out: Path | None, parent: Path, stem: str, not_below: Iterable[str | Path] = ()) -> FreshFolder:
    """Makes a folder to write to: `out`, new or empty, or `parent`/`stem`-1, or the next number that is free.

    not_below: folders of pictures, in which it would be taken for a class; what is no folder is passed over.

    Raises InputError where the folder lies below one of those, holds anything, or cannot be made.
    """
    place = out or parent
    for pictures in map(Path, not_below):
        if pictures.is_dir() and place.resolve().is_relative_to(pictures.resolve()):
            raise InputError(
                f"{place}: lies in the folder of pictures {pictures}, where it would be taken for a class; give a "
                "folder elsewhere with --out"
            )
    if out and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already and is no empty folder; give a new one, nothing is overwritten")
    try:
        if out:
            return FreshFolder(out, _made(out, exist_ok=True))
        for number in count(1):
            try:
                return FreshFolder(path := parent / f"{stem}-{number}", _made(path, exist_ok=False))
            except FileExistsError:
                continue  # of a run before, or of another one that was a moment faster
    except OSError as error:
        raise InputError(f"{place}: cannot be made ({error.strerror}); give another folder with --out") from None
    raise AssertionError("numbers do not end")


def _made(path: Path, *, exist_ok: bool) -> tuple[Path, ...]:
    missing = tuple(folder for folder in (path, *path.parents) if not folder.exists())
    path.mkdir(parents=True, exist_ok=exist_ok)
    return missing

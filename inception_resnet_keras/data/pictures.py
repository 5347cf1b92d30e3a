"""The files of pictures below a folder, and what lies there besides."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..common.errors import InputError
from .images import SUFFIXES


def picture_files(path: Path) -> list[Path]:
    """The files below a folder that are named as pictures, sorted; links are followed, hidden files passed over."""
    return sorted(file for file in _files(path) if file.suffix.lower() in SUFFIXES)


def files_by_class(path: Path) -> dict[str, list[Path]]:
    """The pictures of each class's folder; InputError where there is no such folder, or a class has none."""
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise InputError(f"{path}: found {found} there; a folder is needed that holds a folder of pictures a class")
    classes = [entry for entry in path.iterdir() if entry.is_dir() and not _passed_over(entry)]
    if not classes:
        loose = len(picture_files(path))
        found = f"{loose} pictures outside any class" if loose else "nothing"
        raise InputError(f"{path}: holds {found}; put each class's pictures in a folder of the class's name")
    by_class = {entry.name: picture_files(entry) for entry in sorted(classes)}
    for name, files in by_class.items():
        if not files:
            raise InputError(
                f"{path / name}: class {name!r} has no picture, no file ending in {', '.join(SUFFIXES)}; add some, or "
                "remove the folder"
            )
    return by_class


def not_read(path: Path) -> list[tuple[str, str]]:
    """What else lies in a folder of classes, each kind with why it is not read: nothing vanishes unsaid."""
    kinds: Counter[str] = Counter()
    for entry in path.iterdir():
        if entry.is_dir() and not _passed_over(entry):
            kinds.update(file.suffix.lower() for file in _files(entry) if file.suffix.lower() not in SUFFIXES)
    found = [
        (str(path), f"{count:,} files that end in {suffix or 'nothing'} are not read: {', '.join(SUFFIXES)} are")
        for suffix, count in sorted(kinds.items())
    ]
    loose = sum(entry.suffix.lower() in SUFFIXES for entry in path.iterdir() if not entry.is_dir())
    return found + ([(str(path), f"{loose:,} pictures beside the classes' folders are not read")] if loose else [])


def _passed_over(folder: Path) -> bool:
    """Hidden folders, those that archivers leave (`__MACOSX`), and training runs are no classes."""
    return folder.name.startswith((".", "__")) or (folder / "model.keras").exists()


def _files(path: Path) -> Iterator[Path]:
    """Every file below a folder but hidden ones; links are followed, each folder is entered once."""
    entered: set[str] = set()
    for here, folders, files in os.walk(path, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        true = os.path.realpath(here)
        if true in entered:
            folders.clear()
            continue
        entered.add(true)
        yield from (Path(here, name) for name in files if not name.startswith("."))

"""Listing the pictures of a folder with one folder per class, or with one such folder for each part of a split."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

import numpy as np

from ..common.console import counted
from ..common.errors import InputError
from .images import SUFFIXES
from .labelled import PART_NAMES, PARTS, TRAIN, Listing
from .spelling import canonical

READ = f"{', '.join(SUFFIXES)} are"
TO_CSV = "or name each picture in a CSV file with the columns path and label"


@dataclass(frozen=True)
class Layout:
    """The meaning of a folder's subfolders.

    Attributes:
        parts: The folder of each part of a split, in the order of PARTS; empty if the subfolders are classes.
        beside: (place, reason) of everything that is not read.
        notes: Sentences about what was ambiguous.
    """

    parts: Mapping[str, Path]
    beside: list[tuple[str, str]]
    notes: list[str]


def list_folder(path: Path, part: str | None = None) -> Listing:
    """List the pictures of a folder and their labels, without opening them.

    Args:
        path: A folder with one folder per class; or with folders named train, val and test (or training, valid,
            validation, testing, in upper or lower case) that each hold one folder per class.
        part: List only this part of a split.

    Returns:
        The pictures; with the part of each picture if the folder is split and `part` is None.

    Raises:
        InputError: The folder has no subfolders, a class has no picture, `part` does not exist, or it cannot be
            decided whether the subfolders are classes or parts.
    """
    layout = require_part(path, part)
    if not layout.parts:
        by_class = files_by_class(path)
        notes = [*layout.notes, *_folders_within_classes(path)]
        return _listing({None: by_class}, beside=not_read(path), notes=notes)
    chosen = {part: layout.parts[part]} if part else dict(layout.parts)
    by_part: dict[str | None, dict[str, list[str]]] = {}
    beside = list(layout.beside)
    for name, folder in chosen.items():
        by_part[name], empty = _classes_of_part(folder)
        beside += [*empty, *not_read(folder)]
    if part:
        return _listing({None: by_part[part]}, beside=beside, notes=layout.notes)
    counts = [
        f"{name} {sum(map(len, classes.values())):,} ({layout.parts[str(name)].name})"
        for name, classes in by_part.items()
    ]
    note = f"{path}: the split is given by its folders: {', '.join(counts)} pictures"
    return _listing(by_part, beside=beside, notes=[*layout.notes, note])


def require_part(path: Path, part: str | None) -> Layout:
    """The layout of a folder; raises InputError if it is ambiguous or lacks the part."""
    layout = read_layout(path)
    if part and part not in layout.parts:
        has = f"it has {' and '.join(layout.parts)}" if layout.parts else "its subfolders are classes"
        raise InputError(f"{path}: has no part {part!r}; {has}")
    return layout


def read_layout(path: Path) -> Layout:
    """Whether a folder's subfolders are classes or parts; raises InputError if that is ambiguous."""
    # Subfolders that are named like parts may still be classes: their content and their neighbours decide.
    folders = class_folders(path)
    named = [folder for folder in folders if folder.name.casefold() in PART_NAMES]
    if not named:
        _almost_parts(path, folders)
        return Layout({}, [], [])
    with_classes = [folder for folder in named if any(map(_has_pictures, class_folders(folder)))]
    others = [folder for folder in folders if folder not in named]
    other_pictures = [folder for folder in others if _has_pictures(folder)]
    if other_pictures and with_classes:
        raise InputError(
            f"{path}: has {_listed(with_classes)} with folders in them, like the parts of a split, and also "
            f"{_listed(other_pictures)}: if it is split, move the folders that are not parts elsewhere; if these are "
            f"classes, put the pictures of {_listed(with_classes)} directly into the folder, {TO_CSV}"
        )
    if other_pictures:
        taken = "is taken as a class, not as a part" if len(named) == 1 else "are taken as classes, not as parts"
        note = f"{path}: {_listed(named)} {taken} of a split, because it lies beside {_listed(other_pictures)}"
        return Layout({}, [], [note if len(named) == 1 else note.replace("it lies", "they lie")])
    if not with_classes:
        if not any(map(_has_pictures, named)):
            raise InputError(f"{path}: its folders {_listed(named)} hold no pictures")
        raise InputError(
            f"{path}: has {_listed(named)}, named like the parts of a split, with pictures but no folders in them: in "
            f"each of them put the pictures of each class into a folder with the class's name, {TO_CSV}"
        )
    # The folder is split: assign one folder to each part.
    parts: dict[str, Path] = {}
    for folder in with_classes:
        part = PART_NAMES[folder.name.casefold()]
        if part in parts:
            both = f"{parts[part].name} and {folder.name}"
            raise InputError(f"{path}: has both {both}, which are names of the same part: merge them")
        parts[part] = folder
    # Record everything else in the folder with the reason why it is not read.
    beside = [(str(folder), reason) for folder, reason in _folders(path) if reason]
    beside += [(str(folder), "holds no pictures") for folder in others]
    for folder in named:
        if folder in with_classes:
            continue
        loose = len(picture_names(folder))
        if loose and PART_NAMES[folder.name.casefold()] == TRAIN:
            has = f"holds {counted(loose, 'picture')} and no folder of a class, unlike {_listed(with_classes)}"
            raise InputError(f"{folder}: {has}; put the pictures of each class into a folder with the class's name")
        unlabelled = f"{counted(loose, 'picture', 'is', 'are')} outside any class's folder, without a label: not read"
        beside.append((str(folder), unlabelled if loose else "holds no pictures"))
    if loose := _loose(path):
        beside.append((str(path), f"{counted(loose, 'picture')} beside the parts' folders, not read"))
    return Layout({part: parts[part] for part in PARTS if part in parts}, beside, [])


def picture_files(path: Path) -> list[Path]:
    """The picture files below a folder, by their endings, sorted. Links are followed; hidden files are skipped."""
    return list(map(Path, picture_names(path)))


def picture_names(path: Path) -> list[str]:
    """`picture_files` as strings, which take a fifth of the memory of paths. Sorted folder by folder, as paths are."""
    return sorted((file for file in _files(path) if _suffix(file) in SUFFIXES), key=lambda file: file.split(os.sep))


def pictures_and_others(path: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """The pictures below a folder, as from `picture_files`, and (file, reason) of all other files, sorted.

    The content of a hidden folder, of an unreadable one, and of a folder reached a second time by a link is not
    listed; the folder itself is.
    """
    others: list[tuple[str, str]] = []
    pictures: list[str] = []
    for file in _files(path, others):
        if (suffix := _suffix(file)) in SUFFIXES:
            pictures.append(file)
        else:
            ending = f"ends in {suffix}" if suffix else "has no ending"
            others.append((file, f"{ending}; pictures end in {', '.join(SUFFIXES)}"))
    return (
        sorted(pictures, key=lambda file: file.split(os.sep)),
        sorted(others, key=lambda other: other[0].split(os.sep)),
    )


def files_by_class(path: Path) -> dict[str, list[str]]:
    """The pictures of each class's folder; raises InputError if there are no folders or a class has no pictures."""
    classes = class_folders(path)
    if not classes:
        loose = len(picture_names(path))
        found = f"{counted(loose, 'picture')} outside any class" if loose else "no pictures"
        raise InputError(f"{path}: holds {found}; put the pictures of each class into a folder with the class's name")
    by_class: dict[str, list[str]] = {}
    for entry in classes:
        files, name = picture_names(entry), canonical(entry.name)
        if not files:
            raise InputError(
                f"{entry}: class {name!r} has no picture (a file ending in {', '.join(SUFFIXES)}); add pictures, "
                "or remove the folder"
            )
        by_class.setdefault(name, []).extend(files)
    return by_class


def class_folders(path: Path) -> list[Path]:
    """The subfolders that may be classes, sorted.

    Hidden folders, folders left by archivers (`__MACOSX`), and training runs are skipped.
    """
    return [folder for folder, reason in _folders(path) if not reason]


def _folders(path: Path) -> list[tuple[Path, str]]:
    """The subfolders, sorted, each with the reason why it is not a class; "" if it may be one."""
    with os.scandir(path) as entries:  # unlike `Path.iterdir`, gives each entry's kind without asking the disk again
        folders = sorted(path / entry.name for entry in entries if entry.is_dir())

    def reason(folder: Path) -> str:
        if folder.name.startswith("."):
            return "is a hidden folder: it is not read"
        if folder.name.startswith("__"):
            return "begins with __, like folders left by archivers: it is not read"
        return "holds a training run: it is not read" if (folder / "model.keras").exists() else ""

    return [(folder, reason(folder)) for folder in folders]


def not_read(path: Path) -> list[tuple[str, str]]:
    """(place, reason) of everything in a folder of classes that is not read, so that no file is ignored silently."""
    kinds: Counter[str] = Counter()
    left: list[tuple[str, str]] = []
    for entry in class_folders(path):
        kinds.update(suffix for file in _files(entry, left) if (suffix := _suffix(file)) not in SUFFIXES)
    reasons: dict[str, list[str]] = {}
    for place, reason in left:
        reasons.setdefault(reason, []).append(place)
    found = [
        (str(path), f"{counted(count, 'file')} ending in {suffix or 'nothing'}, not read: {READ}")
        for suffix, count in sorted(kinds.items())
    ]
    found += [
        (places[0], reason if len(places) == 1 else f"{reason}, like {len(places) - 1:,} others: none of them is read")
        for reason, places in reasons.items()
    ]
    found += [(str(folder), reason) for folder, reason in _folders(path) if reason]
    loose = _loose(path)
    return found + (
        [(str(path), f"{counted(loose, 'picture')} beside the classes' folders, not read")] if loose else []
    )


def _classes_of_part(folder: Path) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """The pictures of each class in a part's folder, and (folder, reason) of its folders without pictures."""
    by_class: dict[str, list[str]] = {}
    empty = []
    for entry in class_folders(folder):
        if files := picture_names(entry):
            by_class.setdefault(canonical(entry.name), []).extend(files)
        else:
            empty.append((str(entry), "holds no pictures"))
    return by_class, empty


def _folders_within_classes(path: Path) -> list[str]:
    """A note if the folders within all classes have the same names, as the parts of a split or the classes would."""
    classes = class_folders(path)
    within = [{folder.name for folder in class_folders(entry)} for entry in classes]
    if all(names and {name.casefold() for name in names} <= PART_NAMES.keys() for names in within):
        names = " and ".join(sorted({name.casefold() for name in set.union(*within)}))
        return [
            f"{path}: the folders {names} within each class are not used as the parts of a split; to use them, put the "
            "classes' folders into the parts' folders instead"
        ]
    shared = set.intersection(*within)
    if len(classes) < 2 or len(shared) < 2 or any(map(_loose, classes)):
        return []
    return [
        f"{path}: its folders {_listed(classes)} are taken as the classes, and the folders "
        f"{_listed(map(Path, sorted(shared)))} within each of them are not: if these are the classes, sort the "
        f"pictures by them, {TO_CSV}"
    ]


def nested_classes(path: Path) -> str:
    """The end of an error about a single class: what to do if the classes lie in folders one level deeper."""
    layout = read_layout(path)
    holders = {name for part in (layout.parts.values() or [path]) for name in class_folders(part)}
    within = sorted({entry.name for folder in holders for entry in class_folders(folder) if _has_pictures(entry)})
    if len(within) < 2:
        return ""
    to_do = "move them up into the folders of the parts" if layout.parts else f"give {next(iter(holders))}"
    return f"; it holds the folders {', '.join(within[:10])}: if the pictures are sorted by these, {to_do}"


def _almost_parts(path: Path, folders: Sequence[Path]) -> None:
    """Raise InputError if all folders are named almost like the parts of a split, such as train_data and test_data."""
    words = [[PART_NAMES.get(word) for word in re.split(r"[\W_]+", each.name.casefold())] for each in folders]
    parts = [{part for part in (each[0], each[-1]) if part} for each in words]
    if all(len(part) == 1 for part in parts) and {TRAIN} < set().union(*parts):
        raise InputError(
            f"{path}: its folders {_listed(folders)} are named almost like the parts of a split: rename them to train, "
            f"val and test, with one folder per class in each; if they are classes, name each picture in a CSV file "
            "with the columns path and label"
        )


def _listing(
    by_part: Mapping[str | None, Mapping[str, list[str]]], *, beside: list[tuple[str, str]], notes: list[str]
) -> Listing:
    class_names = sorted({name for classes in by_part.values() for name in classes})
    numbers = {name: number for number, name in enumerate(class_names)}
    groups = [(part, numbers[name], files) for part, classes in by_part.items() for name, files in classes.items()]
    parts = list(chain.from_iterable(repeat(part or "", len(files)) for part, _, files in groups))
    return Listing(
        files=list(chain.from_iterable(files for _, _, files in groups)),
        class_names=class_names,
        labels=np.repeat([number for _, number, _ in groups], [len(files) for _, _, files in groups]).astype(np.int64),
        parts=None if None in by_part else parts,
        beside=beside,
        notes=notes,
    )


def _listed(folders: Iterable[Path]) -> str:
    names = [folder.name for folder in folders]
    return ", ".join(names[:10] + ["…"] * (len(names) > 10))


def _loose(path: Path) -> int:
    """The number of pictures directly in a folder, outside its subfolders."""
    return sum(entry.suffix.lower() in SUFFIXES for entry in path.iterdir() if not entry.is_dir())


def _has_pictures(path: Path) -> bool:
    return any(_suffix(file) in SUFFIXES for file in _files(path))


def _suffix(file: str) -> str:
    """`Path.suffix` in lower case."""
    suffix = os.path.splitext(file)[1].lower()
    return "" if suffix == "." else suffix


def _files(path: Path, left: list[tuple[str, str]] | None = None) -> Iterator[str]:
    """Every file below a folder except hidden ones. Links are followed; each folder is entered once.

    Args:
        left: A list to which (place, reason) of everything skipped is appended.
    """
    left = [] if left is None else left
    entered: set[str] = set()

    def failed(error: OSError) -> None:
        left.append((str(error.filename), f"cannot be listed ({error.strerror})"))

    for here, folders, files in os.walk(path, followlinks=True, onerror=failed):
        true = os.path.realpath(here)
        if true in entered:
            folders.clear()
            left.append((here, "leads to a folder that was already read"))
            continue
        entered.add(true)
        for names, what in ((folders, "a hidden folder"), (files, "a hidden file")):
            left += ((os.path.join(here, name), f"is {what}") for name in names if name.startswith("."))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(here, name) for name in files if not name.startswith("."))

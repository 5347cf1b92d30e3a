"""Labelled pictures as they are stored: folders, CSV manifests, packed shards, tfds names, the digits."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from ..errors import InputError
from .contents import Contents, Files, Memory
from .corrupt import CorruptPictures
from .images import UnreadableImageError, decode, has_transparency, opened
from .pictures import digit_images, files_by_class, split_numbers

JPEG, PLAIN, PILLOW = range(3)  # how a picture is decoded: its crop only; by TensorFlow; by read_image

MAX_CORRUPT = 0.01
# What TensorFlow decodes to the pixels that read_image gives; the rest takes Pillow's path.
_PLAIN_MODES = {"JPEG": ("RGB", "L"), "PNG": ("RGB", "L", "P"), "WEBP": ("RGB",)}

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """Labelled pictures, in a fixed order, not decoded.

    class_names: in the order of the labels.
    names: where each comes from, for reports: a path, or "digit 17".
    labels: int64 (n,), indices into class_names.
    sizes: int32 (n, 2), height and width, upright.
    kinds: uint8 (n,): JPEG, PLAIN or PILLOW, how each is decoded.
    contents: gives each picture's bytes.
    corrupt: the pictures that could not be read: found when the source was opened, and left out, or
        since. What is taken from a source shares it.
    """

    class_names: Sequence[str]
    names: Sequence[str]
    labels: np.ndarray
    sizes: np.ndarray
    kinds: np.ndarray
    contents: Contents
    corrupt: CorruptPictures

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: np.ndarray) -> Source:
        return replace(
            self,
            names=[self.names[index] for index in chosen],
            labels=self.labels[chosen],
            sizes=self.sizes[chosen],
            kinds=self.kinds[chosen],
            contents=self.contents.take(chosen),
        )

    def read(self, index: int) -> np.ndarray:
        """One picture as `read_image` gives it; an unreadable one is listed in `corrupt` and raised."""
        return np.asarray(self.decode(index))

    def decode(self, index: int, size: tuple[int, int] | None = None) -> Image.Image:
        """The same as `images.decode` gives it."""
        try:
            try:
                content = self.contents.read(index)
            except OSError as error:
                raise UnreadableImageError(Path(self.names[index]), error.strerror or str(error)) from None
            return decode(Path(self.names[index]), size, content=content)
        except UnreadableImageError as error:
            self.corrupt.add(self.names[index], error.reason)
            raise

    @cached_property
    def in_memory(self) -> Source:
        """The same pictures, their content read once and kept."""
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return replace(self, contents=Memory(list(threads.map(self._content, range(len(self))))))

    def _content(self, index: int) -> bytes:
        try:
            return self.contents.read(index)
        except OSError:
            return b""  # told as corrupt when its turn comes


def open_source(
    path_or_name: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    least_classes: int = 2,
    max_corrupt: float = MAX_CORRUPT,
    progress: Progress = lambda done, total: None,
) -> Source:
    """Opens labelled pictures: reads every header, decodes nothing.

    Args:
        path_or_name: "digits", scikit-learn's 1,797 handwritten ones; "tfds:NAME" or
            "tfds:NAME:SPLIT" (split "train" by default), a dataset that tensorflow-datasets has
            prepared on this machine; else a path: a folder that `pack` wrote, a folder that holds a
            folder of pictures a class, or a .csv file with the columns path (relative to the file)
            and label (a class's name).
        class_names: The classes of the training set, for a held-out set: this one may lack some, and
            may have no others. None takes its own, sorted by name.
        least_classes: How many of its own classes it must have, where `class_names` is None.
        max_corrupt: How many pictures may be unreadable: a number, or a share below 1.
        progress: Called with how many headers are read of how many.

    Raises:
        InputError: Nothing usable is there, classes do not fit, a class has no picture, or more
            pictures than `max_corrupt` have no readable header.
    """
    from . import records

    text = str(path_or_name)
    path = Path(path_or_name)
    if text == "digits":
        source = _digits(max_corrupt)
    elif text.startswith("tfds:"):
        source = records.open_tfds(text, max_corrupt, progress)
    elif (path / records.INDEX).is_file():
        source = records.open_packed(path, max_corrupt)
    elif path.suffix.lower() == ".csv":
        source = _scanned(path, *_manifest(path), max_corrupt, progress)
    else:
        found = files_by_class(path)
        for name, files in found.items():
            if not files:
                raise InputError(f"{path / name}: class {name!r} has no picture; add some, or remove the folder")
        labelled = [(file, name) for name in sorted(found) for file in found[name]]
        source = _scanned(path, [file for file, _ in labelled], [name for _, name in labelled], max_corrupt, progress)
    return _with_classes(source, text, class_names, least_classes)


def held_out_split(source: Source, seed: int) -> tuple[Source, Source]:
    """A fifth of every class, at least one picture, held out; the same for the same seed.

    Raises InputError where a class has a single picture.
    """
    rest, chosen = split_numbers(source.labels, source.class_names, source.names, seed)
    return source.take(rest), source.take(chosen)


def header(path: Path, content: bytes | None = None) -> tuple[int, int, int]:
    """(height, width, kind) of a picture, from its header; UnreadableImageError where it has none."""
    with opened(path, content) as file:
        width, height = file.size
        turned = file.getexif().get(ExifTags.Base.Orientation, 1) != 1
        if file.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8):
            height, width = width, height
        plain = file.mode in _PLAIN_MODES.get(file.format or "", ()) and not has_transparency(file)
        animated = getattr(file, "is_animated", False)
        if turned or not plain or animated:
            return height, width, PILLOW
        return height, width, JPEG if file.format == "JPEG" else PLAIN


def _scanned(
    path: Path, files: Sequence[Path], labels: Sequence[str], max_corrupt: float, progress: Progress
) -> Source:
    """A source of files, those without a readable header left out."""
    corrupt = CorruptPictures(max_corrupt, len(files))
    headers = np.zeros((len(files), 3), np.int32)

    def scan(index: int) -> UnreadableImageError | None:
        try:
            headers[index] = header(files[index])
        except UnreadableImageError as error:
            return error
        return None

    unreadable = {}
    with ThreadPoolExecutor(4 * (os.cpu_count() or 1)) as threads:
        for index, error in enumerate(threads.map(scan, range(len(files)))):
            if error:
                unreadable[index] = error.reason
            progress(index + 1, len(files))
    class_names = sorted(set(labels))
    numbers = {name: number for number, name in enumerate(class_names)}
    every = Source(
        class_names=class_names,
        names=[str(file) for file in files],
        labels=np.array([numbers[label] for label in labels], np.int64),
        sizes=headers[:, :2],
        kinds=headers[:, 2].astype(np.uint8),
        contents=Files([str(file) for file in files]),
        corrupt=corrupt,
    )
    readable = np.setdiff1d(np.arange(len(files)), list(unreadable))
    for index, name in enumerate(class_names):
        if not (every.labels[readable] == index).any():
            first = next(number for number in unreadable if every.labels[number] == index)
            raise InputError(f"{path}: class {name!r} has no readable picture: {files[first]}: {unreadable[first]}")
    for index, reason in unreadable.items():
        corrupt.list_one(str(files[index]), reason)
    corrupt.check()
    return every.take(readable)


def _manifest(path: Path) -> tuple[list[Path], list[str]]:
    """Files and labels of a CSV manifest."""
    files: list[Path] = []
    labels: list[str] = []
    seen: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            if missing := {"path", "label"} - set(rows.fieldnames or ()):
                raise InputError(
                    f"{path}: lacks the column {' and '.join(sorted(missing))}; its first line names the columns, "
                    f"path and label, and is {','.join(rows.fieldnames or ())!r}"
                )
            for row in rows:
                name, label = (row["path"] or "").strip(), (row["label"] or "").strip()
                if not name or not label:
                    raise InputError(f"{path}, line {rows.line_num}: has no {'label' if name else 'path'}")
                if name in seen:
                    raise InputError(f"{path}, line {rows.line_num}: {name!r} stands in line {seen[name]} already")
                seen[name] = rows.line_num
                files.append(path.parent / name)
                labels.append(label)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no CSV file in UTF-8: {error}") from None
    if not files:
        raise InputError(f"{path}: names no pictures; a line a picture is needed: path,label")
    return files, labels


def _digits(max_corrupt: float) -> Source:
    images, labels = digit_images()
    contents = []
    for image in images:
        content = BytesIO()
        Image.fromarray(image).save(content, "PNG")
        contents.append(content.getvalue())
    return Source(
        class_names=[str(digit) for digit in range(10)],
        names=[f"digit {index}" for index in range(len(labels))],
        labels=labels,
        sizes=np.full((len(labels), 2), 8, np.int32),
        kinds=np.full(len(labels), PLAIN, np.uint8),
        contents=Memory(contents),
        corrupt=CorruptPictures(max_corrupt, len(labels)),
    )


def _with_classes(source: Source, told: str, class_names: Sequence[str] | None, least: int) -> Source:
    if class_names is None:
        if len(source.class_names) < least:
            raise InputError(f"{told}: holds one class only, {source.class_names[0]!r}; at least two are needed")
        return source
    numbers: dict[Any, int] = {name: number for number, name in enumerate(class_names)}
    if unknown := [name for name in source.class_names if name not in numbers]:
        raise InputError(f"{told}: has classes that the training set lacks: {', '.join(unknown[:10])}")
    renumbered = np.array([numbers[name] for name in source.class_names], np.int64)
    return replace(source, class_names=list(class_names), labels=renumbered[source.labels])

"""Labelled pictures as they are stored: folders, CSV manifests, packed shards, tfds names, the digits."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from ..common.errors import InputError
from .contents import Contents, Files, Memory
from .corrupt import CorruptPictures
from .images import UnreadableImageError, decode, has_transparency, opened, resized
from .manifest import read_manifest
from .pictures import files_by_class, not_read

JPEG, PLAIN, PILLOW = range(3)  # how a picture is decoded: its crop only; by TensorFlow; by read_image

MAX_CORRUPT = 0.01

HELD_OUT = 0.2

PNG_SIGNATURE = 8  # bytes
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
    beside: what lies beside the pictures and is not read, each place with why.
    """

    class_names: Sequence[str]
    names: Sequence[str]
    labels: np.ndarray
    sizes: np.ndarray
    kinds: np.ndarray
    contents: Contents
    corrupt: CorruptPictures
    beside: Sequence[tuple[str, str]] = ()

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

    def read(self, index: int, size: tuple[int, int] | None = None, crop: float = 1.0) -> np.ndarray:
        """One picture as `read_image` gives it; an unreadable one is listed in `corrupt` and raised."""
        if size is None:
            return np.asarray(self.decode(index))
        return np.asarray(resized(self.decode(index, (size[0] / crop, size[1] / crop)), size, crop))

    def decode(self, index: int, enough: tuple[float, float] | None = None) -> Image.Image:
        """The same as `images.decode` gives it."""
        try:
            try:
                content = self.contents.read(index)
            except OSError as error:
                raise UnreadableImageError(Path(self.names[index]), error.strerror or str(error)) from None
            return decode(Path(self.names[index]), enough, content=content)
        except UnreadableImageError as error:
            self.corrupt.add(self.names[index], error.reason)
            raise

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the classes and of every picture's name and label, in their order."""
        told = [list(self.class_names), list(self.names), self.labels.tolist()]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def read_all(self, size: tuple[int, int], crop: float = 1.0) -> np.ndarray:
        """Every picture, uint8 (n, height, width, 3); UnreadableImageError at the first that cannot be read."""
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return np.stack(list(threads.map(lambda index: self.read(index, size, crop), range(len(self)))))

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
        path_or_name: "digits", scikit-learn's 1,797 handwritten ones (unless a file or folder is
            named so); "tfds:NAME" or
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
    if text == "digits" and not path.exists():
        source = _digits(max_corrupt)
    elif text.startswith("tfds:"):
        source = records.open_tfds(text, max_corrupt, progress)
    elif (path / records.INDEX).is_file():
        source = records.open_packed(path, max_corrupt)
    elif path.suffix.lower() == ".csv":
        source = _scanned(path, *read_manifest(path), max_corrupt, progress)
    else:
        labelled = [(file, name) for name, files in files_by_class(path).items() for file in files]
        source = _scanned(path, [file for file, _ in labelled], [name for _, name in labelled], max_corrupt, progress)
        source = replace(source, beside=not_read(path))
    return _with_classes(source, text, class_names, least_classes)


def require_source(path_or_name: str | Path, argument: str) -> None:
    """Raises InputError where `open_source` would find no source there; reads no picture, nor its header.

    argument: what it was given as, to be named.
    """
    from . import records

    text, path = str(path_or_name), Path(path_or_name)
    if text.startswith("tfds:"):
        records.tfds_split(text)
    elif (path / records.INDEX).is_file():
        records.open_packed(path, 1)
    elif path.suffix.lower() == ".csv" and not path.is_dir():
        read_manifest(path)
    elif not path.is_dir() and (text != "digits" or path.exists()):
        found = "a file" if path.exists() else "nothing"
        raise InputError(
            f"{argument}: {path}: found {found} there; a folder that holds a folder of pictures a class, one that pack "
            "wrote, a .csv of path,label or tfds:NAME is needed"
        )


def held_out_split(source: Source, seed: int) -> tuple[Source, Source]:
    """A fifth of every class, at least one picture, held out; the same for the same seed.

    Raises InputError where a class has a single picture.
    """
    by_class = [np.flatnonzero(source.labels == label) for label in range(len(source.class_names))]
    single = [
        f"{source.class_names[label]!r} ({source.names[found[0]]})"
        for label, found in enumerate(by_class)
        if len(found) == 1
    ]
    if single:
        listed = ", ".join(single[:10] + ["…"] * (len(single) > 10))
        raise InputError(
            f"{len(single)} classes have one readable picture: {listed}; at least two are needed to hold one out: "
            "add pictures, or give held-out pictures of their own"
        )
    random = np.random.default_rng(seed)
    held = [random.permutation(found)[: max(1, round(HELD_OUT * len(found)))] for found in by_class]
    chosen = np.sort(np.concatenate(held))
    return source.take(np.setdiff1d(np.arange(len(source)), chosen)), source.take(chosen)


def header(path: Path, content: bytes | None = None) -> tuple[int, int, int]:
    """(height, width, kind) of a picture, from its header; UnreadableImageError where it has none."""
    with opened(path, content) as file:
        width, height = file.size
        # Pillow decodes a whole PNG to look for an orientation behind its pixels.
        exif = file.format != "PNG" or "exif" in file.info or _exif_at_end(path, content)
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1) if exif else 1
        if orientation in (5, 6, 7, 8):
            height, width = width, height
        plain = file.mode in _PLAIN_MODES.get(file.format or "", ()) and not has_transparency(file)
        animated = getattr(file, "is_animated", False)
        if orientation != 1 or not plain or animated:
            return height, width, PILLOW
        return height, width, JPEG if file.format == "JPEG" else PLAIN


def _exif_at_end(path: Path, content: bytes | None) -> bool:
    """Whether a PNG has an eXIf chunk behind its pixels; chunk after chunk is skipped."""
    with path.open("rb") if content is None else BytesIO(content) as file:
        file.seek(PNG_SIGNATURE)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in (b"eXIf", b"IEND"):
                return kind == b"eXIf"
            file.seek(length + 4, os.SEEK_CUR)  # its data and checksum
    return False


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


def _digits(max_corrupt: float) -> Source:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    contents = []
    for image in np.rint(bunch.images * (255 / 16)).astype(np.uint8):
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

"""Sets of labelled pictures: a user's folders, or the handwritten digits that scikit-learn ships."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from .images import SUFFIXES, UnreadableImageError, read_image

IN_MEMORY_BYTES = 2 * 1024**3  # decoded pictures up to this are kept, and decoded once
HELD_OUT = 0.2

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures of one size.

    names: where each comes from, for reports: a path, or "digit 17".
    labels: int64 (n,), indices into class_names.
    images: indexed by an array of numbers, gives uint8 (that many, height, width, 3).
    unreadable: files left out, each with the reason.
    """

    names: Sequence[str]
    labels: np.ndarray
    images: np.ndarray | LazyImages
    class_names: Sequence[str]
    unreadable: Sequence[tuple[str, str]] = field(default=())

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: np.ndarray) -> Pictures:
        return replace(
            self,
            names=[self.names[index] for index in chosen],
            labels=self.labels[chosen],
            images=self.images.subset(chosen) if isinstance(self.images, LazyImages) else self.images[chosen],
        )


class LazyImages:
    """Pictures too many to keep: decoded each time they are asked for."""

    def __init__(self, paths: Sequence[Path], size: tuple[int, int]) -> None:
        self.paths, self.size = paths, size

    def __getitem__(self, chosen: np.ndarray) -> np.ndarray:
        return np.stack([read_image(self.paths[index], self.size) for index in chosen])

    def subset(self, chosen: np.ndarray) -> LazyImages:
        return LazyImages([self.paths[index] for index in chosen], self.size)


def digits(size: tuple[int, int]) -> tuple[Pictures, Pictures]:
    """scikit-learn's 1,797 handwritten digits at `size`: a training set, and a fixed held-out fifth."""
    grey, labels = digit_images()
    side = (size[1], size[0])
    resized = (Image.fromarray(image).resize(side, Image.Resampling.BILINEAR).convert("RGB") for image in grey)
    pictures = Pictures(
        names=[f"digit {index}" for index in range(len(grey))],
        labels=labels,
        images=np.stack([np.asarray(image) for image in resized]),
        class_names=[str(digit) for digit in range(10)],
    )
    return held_out_split(pictures, seed=0)


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's handwritten digits: uint8 (1797, 8, 8), 0-255, and their int64 labels."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.rint(bunch.images * (255 / 16)).astype(np.uint8), bunch.target.astype(np.int64)


def folder(
    path: Path,
    size: tuple[int, int],
    *,
    class_names: Sequence[str] | None = None,
    progress: Progress = lambda done, total: None,
) -> Pictures:
    """The pictures of a folder that holds a folder a class.

    Args:
        path: The folder. A class's pictures may lie in folders of its own. Hidden files are passed over.
        size: (height, width) that each picture is resized to.
        class_names: The classes of the training set, for a validation folder: it may lack some, and
            may have no others. None takes the folder's own, sorted by name, at least two.
        progress: Called with how many are decoded of how many.

    Raises:
        InputError: The folder is missing or empty, has fewer than two classes or unknown ones, or a
            class without a readable picture. Single unreadable pictures are listed in the result.
    """
    found = files_by_class(path)
    if class_names is None:
        class_names = sorted(found)
        if len(class_names) < 2:
            raise InputError(f"{path}: holds one class only, {class_names[0]!r}; at least two folders are needed")
    elif unknown := sorted(found.keys() - set(class_names)):
        raise InputError(f"{path}: has classes that the training set lacks: {', '.join(unknown)}")

    paths = [file for name in class_names for file in found.get(name, ())]
    labels = np.repeat(np.arange(len(class_names)), [len(found.get(name, ())) for name in class_names])
    images, unreadable = _decode(paths, size, progress)
    read = np.array([index for index in range(len(paths)) if index not in unreadable], dtype=np.int64)
    counts = Counter(labels[read].tolist())
    for label, name in enumerate(class_names):
        if name in found and not counts[label]:
            reasons = "; ".join(str(unreadable[index]) for index in islice(unreadable, 3) if labels[index] == label)
            kinds = f"it has no file ending in {', '.join(SUFFIXES)}"
            raise InputError(f"{path / name}: class {name!r} has no readable picture: {reasons or kinds}")
    pictures = Pictures(
        names=[str(file) for file in paths],
        labels=labels,
        images=LazyImages(paths, size) if images is None else images,
        class_names=list(class_names),
        unreadable=[*((str(error.path), error.reason) for error in unreadable.values()), *not_read(path)],
    )
    return pictures.take(read)


def held_out_split(pictures: Pictures, seed: int) -> tuple[Pictures, Pictures]:
    """A fifth of every class, at least one picture, held out; the same for the same seed.

    Raises InputError where a class has a single picture.
    """
    rest, chosen = split_numbers(pictures.labels, pictures.class_names, pictures.names, seed)
    return pictures.take(rest), replace(pictures.take(chosen), unreadable=())


def split_numbers(
    labels: np.ndarray, class_names: Sequence[str], names: Sequence[str], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which pictures to train on and which to hold out, as `held_out_split` says, both in order."""
    by_class = [np.flatnonzero(labels == label) for label in range(len(class_names))]
    single = [f"{class_names[label]!r} ({names[found[0]]})" for label, found in enumerate(by_class) if len(found) == 1]
    if single:
        listed = ", ".join(single[:10] + ["…"] * (len(single) > 10))
        raise InputError(
            f"{len(single)} classes have one readable picture: {listed}; at least two are needed to hold one out: "
            "add pictures, or give a validation folder"
        )
    random = np.random.default_rng(seed)
    held = [random.permutation(found)[: max(1, round(HELD_OUT * len(found)))] for found in by_class]
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def picture_files(path: Path) -> list[Path]:
    """The files below a folder that are named as pictures, sorted; links are followed, hidden files passed over."""
    return sorted(file for file in _files(path) if file.suffix.lower() in SUFFIXES)


def files_by_class(path: Path) -> dict[str, list[Path]]:
    """The pictures of each class's folder; InputError where there is no such folder."""
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise InputError(f"{path}: found {found} there; a folder is needed that holds a folder of pictures a class")
    classes = [entry for entry in path.iterdir() if entry.is_dir() and not _passed_over(entry)]
    if not classes:
        loose = len(picture_files(path))
        found = f"{loose} pictures outside any class" if loose else "nothing"
        raise InputError(f"{path}: holds {found}; put each class's pictures in a folder of the class's name")
    return {entry.name: picture_files(entry) for entry in classes}


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


def _decode(
    paths: Sequence[Path], size: tuple[int, int], progress: Progress
) -> tuple[np.ndarray | None, dict[int, UnreadableImageError]]:
    """Every picture decoded once, to know which are readable; the array is None where it would not fit."""
    shape = (len(paths), *size, 3)
    images = np.zeros(shape, np.uint8) if np.prod(shape, dtype=np.int64) <= IN_MEMORY_BYTES else None
    unreadable: dict[int, UnreadableImageError] = {}

    def read(index: int) -> None:
        try:
            image = read_image(paths[index], size)
        except UnreadableImageError as error:
            unreadable[index] = error
        else:
            if images is not None:
                images[index] = image

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for done, _ in enumerate(threads.map(read, range(len(paths))), 1):
            progress(done, len(paths))
    return images, dict(sorted(unreadable.items()))

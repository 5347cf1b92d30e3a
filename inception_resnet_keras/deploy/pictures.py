"""The pictures that an export is calibrated and checked on: a user's, or photographs that scikit-learn ships."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.errors import InputError
from ..common.files import real_path
from ..common.packages import required
from ..data import DIGITS
from ..data.folders import picture_files
from ..data.images import UnreadableImageError, read_image
from ..data.labelled import TEST, Source
from ..data.sources import list_files, open_source, require_source, source_kind

CALIBRATED_ON = 300  # at most: what nncf recommends
CHECKED_ON = 64  # at most


@dataclass(frozen=True)
class Sample:
    """Decoded pictures: uint8 (n, height, width, 3), where they are from, and how many could not be read."""

    images: np.ndarray
    source: str
    unreadable: int = 0

    def __len__(self) -> int:
        return len(self.images)


def pictures_in(argument: str, folder: Path) -> list[Path]:
    """The pictures below a folder, in folders a class or loose; InputError where there is none."""
    if not folder.is_dir():
        raise InputError(f"{argument}: {folder} is no folder; name one with pictures in it")
    found = picture_files(folder)
    if not found:
        raise InputError(f"{argument}: {folder} has no picture in it")
    return found


def shuffled_pictures(argument: str, folder: Path) -> list[Path]:
    """A folder's pictures in an order that mixes its classes, the same each time."""
    return _mixed(pictures_in(argument, folder))


def validation_files(place: Path) -> list[Path]:
    """`validate`'s pictures in such an order, of a split source its test part; none where they are no files."""
    require_source(place, "validate")
    if not source_kind(place).has_files:
        return []
    try:
        listing = list_files(place)
    except InputError as error:
        raise InputError(f"validate: {error}") from None
    parts = listing.parts if listing.parts and TEST in listing.parts else [TEST] * len(listing.files)
    return _mixed([Path(file) for file, part in zip(listing.files, parts, strict=True) if part == TEST])


def _mixed(files: Sequence[Path]) -> list[Path]:
    return [files[index] for index in np.random.default_rng(0).permutation(len(files))]


def held_out(files: Sequence[Path]) -> int:
    """How many of the pictures to calibrate on are kept to compare on: a fifth, none of a handful."""
    return min(CHECKED_ON, len(files) // 5)


def overlaps(used: list[Path], files: dict[str, list[Path]], compared: str, at_most: int) -> Iterator[str]:
    """What int8 was quantised on and is judged by: such pictures say less of others."""
    calibrated = {real_path(file) for file in used}
    judged = {compared: files[compared][:at_most]}
    for name, seen in (judged | {key: files[key] for key in ("validate",) if key in files}).items():
        both = sum(real_path(file) in calibrated for file in seen)
        if both:
            yield (
                f"{both} of the {len(seen)} pictures of {name} are among those that int8 was calibrated on: "
                "others would show more"
            )


def sample(files: Sequence[Path], size: tuple[int, int], crop: float, at_most: int, source: str) -> Sample:
    """The first so many that can be read; InputError where none can."""
    images: list[np.ndarray] = []
    unreadable = 0
    for file in files:
        try:
            images.append(read_image(file, size, crop=crop))
        except UnreadableImageError:
            unreadable += 1
        if len(images) == at_most:
            break
    if not images:
        raise InputError(f"{source}: none of its {len(files)} pictures can be read")
    return Sample(np.stack(images), source, unreadable)


def sample_of(source: Source, size: tuple[int, int], crop: float, at_most: int, told: str) -> Sample:
    """The same of a source's pictures, its classes mixed."""
    images: list[np.ndarray] = []
    for index in np.random.default_rng(0).permutation(len(source)).tolist():
        with suppress(UnreadableImageError):
            images.append(source.read(index, size, crop))
        if len(images) == at_most:
            break
    if not images:
        raise InputError(f"{told}: none of its {len(source)} pictures can be read")
    return Sample(np.stack(images), told, len(source.corrupt))


def shipped(size: tuple[int, int]) -> Sample:
    """Ten handwritten digits, and two photographs whole and by quarters."""
    load_sample_images = required("sklearn.datasets", "export").load_sample_images

    photographs: Sequence[np.ndarray] = load_sample_images().images
    crops = []
    for photograph in photographs:
        height, width = (side // 2 for side in photograph.shape[:2])
        crops += [photograph, *(photograph[y:, x:][:height, :width] for y in (0, height) for x in (0, width))]
    digits = open_source(DIGITS)
    first = [int(np.flatnonzero(digits.labels == digit)[0]) for digit in range(len(digits.class_names))]
    pictures = [*map(Image.fromarray, crops), *map(digits.decode, first)]
    resized = [picture.convert("RGB").resize((size[1], size[0]), Image.Resampling.BILINEAR) for picture in pictures]
    return Sample(np.stack([np.asarray(picture) for picture in resized]), "photographs and digits of scikit-learn")

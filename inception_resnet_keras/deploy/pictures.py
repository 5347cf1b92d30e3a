"""The pictures that an export is calibrated and judged on: a user's, or photographs that scikit-learn ships.

No picture is both: those with the pixels of one that int8 was calibrated on are left out of the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from ..common.console import counted
from ..common.devices import usable_cores
from ..common.errors import InputError
from ..common.files import real_path
from ..common.packages import required
from ..data import DIGITS
from ..data.folders import picture_files
from ..data.images import UnreadableImageError, read_image
from ..data.labelled import Source
from ..data.sources import list_files, open_source, require_source, source_kind

CALIBRATED_ON = 300  # at most: what nncf recommends
LEAST_CALIBRATED = 10  # fewer are refused unless the user says so
ENOUGH_CALIBRATED = 100  # fewer are warned of
HELD_OUT = 5  # one in so many pictures of a folder that is calibrated and judged on is only judged on
READ_AT_ONCE = 64
KEPT_BYTES = 2**30  # of decoded pictures; of more, each is decoded whenever it is asked for
Read = Callable[[], np.ndarray]


class Images(Protocol):
    """uint8 (n, height, width, 3), decoded already or as they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, which: Any, /) -> Any: ...


class LazyImages:
    """Pictures that are decoded again whenever they are asked for, by number or by slice."""

    def __init__(self, readers: Sequence[Read]) -> None:
        self._readers = readers

    def __len__(self) -> int:
        return len(self._readers)

    def __getitem__(self, which: int | slice) -> np.ndarray:
        if isinstance(which, int):
            return self._readers[which]()
        with ThreadPoolExecutor(usable_cores()) as threads:
            return np.stack(list(threads.map(lambda read: read(), self._readers[which])))


@dataclass(frozen=True)
class Sample:
    """Pictures of one size.

    images: uint8 (n, height, width, 3). source: Where they are from.
    unreadable: How many could not be read. calibrated: How many were left out, because int8 was calibrated on them.
    labels: Of the last pictures, as many as have one: int64 (m,) or, of several labels per picture, uint8 (m, classes).
    digests: SHA-256 of each one's pixels.
    """

    images: Images
    source: str
    unreadable: int = 0
    calibrated: int = 0
    labels: np.ndarray | None = None
    digests: frozenset[bytes] = field(default=frozenset(), repr=False)

    def __len__(self) -> int:
        return len(self.images)

    def notes(self) -> list[str]:
        """What was left out, and why, a sentence each."""
        notes = []
        if self.unreadable:
            notes.append(f"{counted(self.unreadable, 'picture', 'of', 'of')} {self.source} could not be read: left out")
        if self.calibrated:
            left_out = counted(self.calibrated, "picture", "of", "of")
            notes.append(f"{left_out} {self.source} left out of the comparison: int8 was calibrated on their pixels")
        return notes


def shuffled_pictures(argument: str, folder: Path) -> list[Path]:
    """The pictures below a folder, in folders a class or loose, in an order that mixes its classes, the same each time.

    Raises InputError where there is none.
    """
    if not folder.is_dir():
        raise InputError(f"{argument}: {folder} is no folder; name one with pictures in it")
    files = picture_files(folder)
    if not files:
        raise InputError(f"{argument}: {folder} has no picture in it")
    return [files[index] for index in np.random.default_rng(0).permutation(len(files))]


def require_labelled(place: Path) -> None:
    """Raises InputError, before any picture is opened, where `validate` is no source of labelled pictures."""
    require_source(place, "validate")
    if source_kind(place).has_files:
        try:
            list_files(place)
        except InputError as error:
            raise InputError(f"validate: {error}") from None


def require_calibration(count: int, least: int, folder: object, kept: int = 0) -> None:
    """Raises InputError where too few pictures are calibrated on. kept: How many are judged on instead."""
    if count < least:
        but = f" beside the {kept} that are kept to compare on" if kept else ""
        raise InputError(
            f"calibrate: {folder} has {counted(count, 'picture')} to calibrate on{but}; int8 takes at least {least}, "
            f"and {ENOUGH_CALIBRATED} to {CALIBRATED_ON} are better: give more, or allow so few by min_calibration "
            f"(--min-calibration {count})"
        )


def calibration_files(files: Sequence[Path], judged: Iterable[str | Path] | None) -> tuple[list[Path], int]:
    """Which of `calibrate`'s files int8 is calibrated on, and how many are kept to be judged on.

    Files that are not judged come first. Of those that are, a fifth is kept if nothing else is judged.

    judged: The paths of the pictures to judge on; None for `calibrate`'s own.
    """
    places = None if judged is None else {real_path(path) for path in judged}
    is_judged = [places is None or real_path(file) in places for file in files]
    shared = [file for file, also in zip(files, is_judged, strict=True) if also]
    apart = [file for file, also in zip(files, is_judged, strict=True) if not also]
    others = 0 if places is None else len(places) - len(shared)
    kept = max(len(files) // HELD_OUT - others, 0 if others > 0 else 1) if shared else 0
    used = [*apart, *shared][: min(CALIBRATED_ON, len(files) - kept)]
    return used, max(0, min(kept, len(files) - len(used)))


def read_files(files: Sequence[Path], size: tuple[int, int], crop: float, source: str, **options: Any) -> Sample:
    """Picture files, as `read_sample` reads them."""
    return read_sample([partial(read_image, file, size, crop=crop) for file in files], source, **options)


def read_labelled(labelled: Source, size: tuple[int, int], crop: float, source: str, **options: Any) -> Sample:
    """A source's pictures and their labels, as `read_sample` reads them."""
    readers = [partial(labelled.read, index, size, crop) for index in range(len(labelled))]
    return read_sample(readers, source, labels=labelled.labels, **options)


def read_sample(
    readers: Sequence[Read],
    source: str,
    *,
    labels: np.ndarray | None = None,
    calibrated: frozenset[bytes] = frozenset(),
) -> Sample:
    """Decodes every picture once: those that can be read, and whose pixels int8 was not calibrated on.

    Up to a gibibyte of them is kept; of more, each is decoded again whenever it is asked for.

    Raises InputError where none is left.
    """
    chosen: list[int] = []
    digests: list[bytes] = []
    kept: list[np.ndarray] = []
    left_out = 0
    with ThreadPoolExecutor(usable_cores()) as threads:
        for start in range(0, len(readers), READ_AT_ONCE):
            some = threads.map(_read_if_possible, readers[start : start + READ_AT_ONCE])
            for number, picture in enumerate(some, start):
                if picture is None:
                    continue
                digest = sha256(picture.tobytes()).digest()
                digests.append(digest)
                if digest in calibrated:
                    left_out += 1
                    continue
                chosen.append(number)
                if len(chosen) * picture.nbytes <= KEPT_BYTES:
                    kept.append(picture)
    if not digests:
        raise InputError(f"{source}: none of its {len(readers)} pictures can be read")
    if not chosen:
        raise InputError(
            f"{source}: each of its {counted(left_out, 'picture')} has the pixels of one that int8 is calibrated on: "
            "nothing is left to compare on; give others to compare on, or more to calibrate"
        )
    return Sample(
        np.stack(kept) if len(kept) == len(chosen) else LazyImages([readers[number] for number in chosen]),
        source,
        len(readers) - len(digests),
        left_out,
        None if labels is None else labels[chosen],
        frozenset(digests),
    )


def _read_if_possible(read: Read) -> np.ndarray | None:
    try:
        return read()
    except UnreadableImageError:
        return None


def judged_sample(samples: Sequence[Sample]) -> Sample:
    """Several samples as one; labels are those of the last, as only `validate`'s have some."""
    if len(samples) == 1:
        return samples[0]
    readers = [partial(sample.images.__getitem__, number) for sample in samples for number in range(len(sample))]
    return replace(
        samples[-1],
        images=LazyImages(readers),
        source=" and ".join(sample.source for sample in samples),
        unreadable=sum(sample.unreadable for sample in samples),
        calibrated=sum(sample.calibrated for sample in samples),
    )


@dataclass(frozen=True)
class ExportPictures:
    """What an export is calibrated on (None but for int8) and judged on, and what the user should know of them."""

    calibration: Sample | None
    judged: Sample
    notes: tuple[str, ...] = ()


def choose_pictures(
    folders: Mapping[str, tuple[str, Sequence[Path]]],
    labelled: tuple[str, Source] | None,
    size: tuple[int, int],
    crop: float,
    least: int,
) -> ExportPictures:
    """Which pictures int8 is calibrated on, up to 300 of `calibrate`'s, and which an export is judged on.

    The latter are all of `check` and `validate`, or else all others of `calibrate`, without those with the same pixels.

    Args:
        folders: What was given as "check" and "calibrate": each folder's name and its shuffled files.
        labelled: `validate`'s name and pictures; None where it was not given.
        size: (height, width) of the model. crop: Its central crop.
        least: The fewest pictures to calibrate on.

    Raises:
        InputError: Too few can be calibrated on, or none is left to judge on.
    """
    check, calibrate = folders.get("check"), folders.get("calibrate")
    calibration, notes = None, []
    if calibrate is not None:
        name, files = calibrate
        judged: list[str | Path] = [*(check[1] if check else ()), *(labelled[1].names if labelled else ())]
        used, kept = calibration_files(files, judged if check or labelled else None)
        require_calibration(len(used), least, name, kept)
        calibration = read_files(used, size, crop, name)
        require_calibration(len(calibration), least, f"{name}, without {calibration.unreadable} unreadable,")
        notes += calibration.notes()
        if len(calibration) < ENOUGH_CALIBRATED:
            notes.append(
                f"int8 was calibrated on {counted(len(calibration), 'picture')} only, and finds the ranges of the "
                f"layers from them: give --calibrate {ENOUGH_CALIBRATED} to {CALIBRATED_ON} such as the model will see"
            )
    calibrated = calibration.digests if calibration else frozenset()
    samples = []
    if check:
        samples.append(read_files(check[1], size, crop, check[0], calibrated=calibrated))
    if labelled:
        samples.append(read_labelled(labelled[1], size, crop, labelled[0], calibrated=calibrated))
    if not samples and calibrate:
        rest = sorted(set(calibrate[1]) - set(used))
        source = f"{calibrate[0]}, those that int8 was not calibrated on"
        samples.append(read_files(rest, size, crop, source, calibrated=calibrated))
    return ExportPictures(calibration, judged_sample(samples or [shipped(size)]), tuple(notes))


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

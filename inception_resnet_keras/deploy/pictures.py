"""The images for calibrating and comparing an export: the user's, or photographs that come with scikit-learn.

No image serves both: images whose pixels equal those of a calibration image are left out of the comparison.
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
from ..data.crops import View
from ..data.folders import picture_files
from ..data.images import UnreadableImageError, read_image
from ..data.labelled import Source
from ..data.sources import list_files, open_source, require_source, source_kind

CALIBRATED_ON = 300  # maximum number of images for calibration, as nncf recommends
LEAST_CALIBRATED = 10  # fewer are refused unless the user allows it
ENOUGH_CALIBRATED = 100  # fewer cause a warning
HELD_OUT = 5  # one in five images of a folder that serves both purposes is kept for the comparison
READ_AT_ONCE = 64
KEPT_BYTES = 2**30  # maximum size of decoded images in memory; if there are more, each is decoded when it is needed
Read = Callable[[], np.ndarray]


class Images(Protocol):
    """Images as uint8 (n, height, width, 3), decoded already or on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, which: Any, /) -> Any: ...


class LazyImages:
    """Images that are decoded on each access, by index or by slice."""

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
    """Images of one size.

    Attributes:
        images: uint8 (n, height, width, 3).
        source: Their origin, in words.
        unreadable: The number of images that could not be read.
        calibrated: The number of images that were left out because int8 was calibrated on their pixels.
        labels: The labels of the last m images, int64 (m,) or, with several labels per image, uint8 (m, classes); None
            if there are no labels.
        digests: The SHA-256 of the pixels of each image.
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
        """Notes on the images that were left out."""
        notes = []
        if self.unreadable:
            notes.append(f"{counted(self.unreadable, 'picture', 'of', 'of')} {self.source} could not be read: left out")
        if self.calibrated:
            left_out = counted(self.calibrated, "picture", "of", "of")
            notes.append(f"{left_out} {self.source} left out of the comparison: int8 was calibrated on their pixels")
        return notes


def shuffled_pictures(argument: str, folder: Path) -> list[Path]:
    """The images below a folder, in a random order that is the same each time.

    Raises:
        InputError: The folder does not exist or has no images.
    """
    if not folder.is_dir():
        raise InputError(f"{argument}: {folder} is not a folder; give a folder with pictures")
    files = picture_files(folder)
    if not files:
        raise InputError(f"{argument}: {folder} has no pictures; give a folder with pictures")
    return [files[index] for index in np.random.default_rng(0).permutation(len(files))]


def require_labelled(place: Path) -> None:
    """Raise InputError, before any image is opened, if `validate` is not a source of labelled images."""
    require_source(place, "validate")
    if source_kind(place).has_files:
        try:
            list_files(place)
        except InputError as error:
            raise InputError(f"validate: {error}") from None


def require_calibration(count: int, least: int, folder: object, kept: int = 0) -> None:
    """Raise InputError if there are too few images for calibration. kept: The number kept for the comparison."""
    if count < least:
        but = f" besides the {kept} that are kept for the comparison" if kept else ""
        raise InputError(
            f"calibrate: {folder} has {counted(count, 'picture')} to calibrate on{but}; int8 takes at least {least}, "
            f"and {ENOUGH_CALIBRATED} to {CALIBRATED_ON} are better: give more, or allow fewer by min_calibration "
            f"(--min-calibration {count})"
        )


def calibration_files(files: Sequence[Path], judged: Iterable[str | Path] | None) -> tuple[list[Path], int]:
    """Choose the calibration images among the files of `calibrate`.

    Files that are not used for the comparison are chosen first. If there is nothing else to compare on, a fifth of the
    files is kept for the comparison.

    Args:
        files: The files of `calibrate`.
        judged: The paths of the images to compare on; None if these are the files of `calibrate`.

    Returns:
        The files to calibrate on, and the number of files kept for the comparison.
    """
    places = None if judged is None else {real_path(path) for path in judged}
    is_judged = [places is None or real_path(file) in places for file in files]
    shared = [file for file, also in zip(files, is_judged, strict=True) if also]
    apart = [file for file, also in zip(files, is_judged, strict=True) if not also]
    others = 0 if places is None else len(places) - len(shared)
    kept = max(len(files) // HELD_OUT - others, 0 if others > 0 else 1) if shared else 0
    used = [*apart, *shared][: min(CALIBRATED_ON, len(files) - kept)]
    return used, max(0, min(kept, len(files) - len(used)))


def read_files(files: Sequence[Path], view: View, source: str, **options: Any) -> Sample:
    """Read image files with `read_sample`, each in its view."""
    seen: dict[str, Any] = {"crop": view.fraction, "value_range": view.value_range}
    return read_sample([partial(read_image, file, view.size, **seen) for file in files], source, **options)


def read_labelled(labelled: Source, view: View, source: str, **options: Any) -> Sample:
    """Read the images of a source, with their labels, with `read_sample`. The source has the view's value range."""
    readers = [partial(labelled.read, index, view.size, view.fraction) for index in range(len(labelled))]
    return read_sample(readers, source, labels=labelled.labels, **options)


def read_sample(
    readers: Sequence[Read],
    source: str,
    *,
    labels: np.ndarray | None = None,
    calibrated: frozenset[bytes] = frozenset(),
) -> Sample:
    """Decode each image once, and keep those that are readable and were not used for calibration.

    Up to one gibibyte of pixels is kept in memory; if there are more, each image is decoded again on access.

    Args:
        readers: A function per image that decodes it.
        source: The origin of the images, in words.
        labels: Their labels; None for none.
        calibrated: The SHA-256 of the pixels of each calibration image.

    Raises:
        InputError: No image remains.
    """
    # Decode in threads, a few at a time, so that memory does not depend on the number of images.
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
    # Report what was left out, or that nothing remains.
    if not digests:
        raise InputError(f"{source}: none of its {len(readers)} pictures can be read; give other pictures")
    if not chosen:
        raise InputError(
            f"{source}: each of its {counted(left_out, 'picture')} has the pixels of a calibration picture: nothing is "
            "left to compare on; give other pictures to compare on, or more to calibrate"
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
    """Several samples as one. The labels are those of the last sample, because only `validate` has labels."""
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
    """The images for an export.

    Attributes:
        calibration: The images for calibration; None for other precisions than int8.
        judged: The images for the comparison.
        notes: Notes on them for the user.
    """

    calibration: Sample | None
    judged: Sample
    notes: tuple[str, ...] = ()


def choose_pictures(
    folders: Mapping[str, tuple[str, Sequence[Path]]],
    labelled: tuple[str, Source] | None,
    view: View,
    least: int,
) -> ExportPictures:
    """Choose the images for calibration, up to 300 of `calibrate`, and those for the comparison.

    The latter are all of `check` and `validate` or, without these, the remaining images of `calibrate`; images whose
    pixels equal those of a calibration image are left out.

    Args:
        folders: The name and the shuffled files of "check" and "calibrate", if given.
        labelled: The name and the images of `validate`; None if it is not given.
        view: The size, the central crop and the value range of the model's input.
        least: The minimum number of images for calibration.

    Raises:
        InputError: There are too few images for calibration, or none for the comparison.
    """
    # Calibration comes first: the comparison must avoid its images.
    check, calibrate = folders.get("check"), folders.get("calibrate")
    calibration, notes = None, []
    if calibrate is not None:
        name, files = calibrate
        judged: list[str | Path] = [*(check[1] if check else ()), *(labelled[1].names if labelled else ())]
        used, kept = calibration_files(files, judged if check or labelled else None)
        require_calibration(len(used), least, name, kept)
        calibration = read_files(used, view, name)
        different, copies = len(calibration.digests), len(calibration) - len(calibration.digests)
        without = f"{calibration.unreadable} unreadable" + (f" and {copies} copies" if copies else "")
        require_calibration(different, least, f"{name}, without {without},")
        notes += calibration.notes()
        if different < ENOUGH_CALIBRATED:
            notes.append(
                f"int8 was calibrated on only {counted(different, 'picture')}, which determine the ranges of "
                f"the layers: give --calibrate {ENOUGH_CALIBRATED} to {CALIBRATED_ON} pictures like the model's inputs"
            )
    # Then the comparison.
    calibrated = calibration.digests if calibration else frozenset()
    samples = []
    if check:
        samples.append(read_files(check[1], view, check[0], calibrated=calibrated))
    if labelled:
        samples.append(read_labelled(labelled[1], view, labelled[0], calibrated=calibrated))
    if not samples and calibrate:
        rest = sorted(set(calibrate[1]) - set(used))
        source = f"{calibrate[0]}, without the calibration pictures"
        samples.append(read_files(rest, view, source, calibrated=calibrated))
    return ExportPictures(calibration, judged_sample(samples or [shipped(view.size)]), tuple(notes))


def shipped(size: tuple[int, int]) -> Sample:
    """Ten handwritten digits, and two photographs with their quarters, which come with scikit-learn."""
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

"""Opening sources of labelled pictures. `source_kind` decides what a name or path stands for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..common.console import counted
from ..common.devices import usable_cores
from ..common.errors import InputError
from ..common.files import require_regular
from ..common.packages import required
from . import DIGITS, SOURCE_HELP
from .folders import list_folder, nested_classes, require_part
from .images import PILLOW, PLAIN, UnreadableImageError, header
from .labelled import PART_NAMES, PARTS, TEST, TRAIN, VAL, CorruptPictures, Files, Listing, Memory, Ranges, Source
from .manifest import read_manifest, taken, without_repeated
from .packed import INDEX, open_packed, read_records
from .spelling import alike_note, canonical, written_as

MAX_CORRUPT = 0.01
SCANNED_AT_ONCE = 256  # headers read by one task
WAITING = 4  # ratio of elapsed to processor time above which reading headers counts as waiting for the disk
TFDS = "tfds:"
Progress = Callable[[int, int], None]


class SourceKind(Enum):
    """The kinds of sources of labelled pictures."""

    DIGITS = "scikit-learn's handwritten digits"
    FOLDER = "a folder with one folder per class, or with train, val and test folders of them"
    MANIFEST = "a .csv of path,label"
    PACKED = "a folder that pack wrote"
    TFDS = "a dataset that tensorflow-datasets prepared"

    @property
    def has_files(self) -> bool:
        """Whether each picture is a file of its own, named by its path."""
        return self in (SourceKind.FOLDER, SourceKind.MANIFEST)


def source_kind(path_or_name: str | Path) -> SourceKind:
    """The kind of source that a path or name stands for. Nothing is opened.

    Files and folders have precedence over names: a folder called "digits" is that folder.

    Raises:
        InputError: There is no such file or folder, or it is not a source.
    """
    text, path = str(path_or_name), Path(path_or_name)
    if text.startswith(TFDS):
        return SourceKind.TFDS
    named, _ = source_part(path_or_name)
    if (named / INDEX).is_file():
        return SourceKind.PACKED
    if named.is_dir():
        return SourceKind.FOLDER
    if named.suffix.lower() == ".csv":
        return SourceKind.MANIFEST
    if text == DIGITS and not path.exists():
        return SourceKind.DIGITS
    require_regular(path)
    found = "is not a source of labelled pictures" if path.exists() else "does not exist"
    raise InputError(f"{path}: {found}; labelled pictures are {SOURCE_HELP}")


def source_part(path_or_name: str | Path) -> tuple[Path, str | None]:
    """The path of a source, and the part of its split that is named after a colon.

    "RUN/split.csv:val" and "FOLDER:validation" name the part "val". For any other name the part is None, also for an
    existing file or folder whose own name ends like this.
    """
    name, colon, word = str(path_or_name).rpartition(":")
    part = PART_NAMES.get(word.casefold())
    if colon and part and not Path(path_or_name).exists() and (name.lower().endswith(".csv") or Path(name).is_dir()):
        return Path(name), part
    return Path(path_or_name), None


def absolute_source(path_or_name: str) -> str:
    """The name of the same source for use from any folder: an existing path is made absolute."""
    path, part = source_part(path_or_name)
    if not path.exists():
        return path_or_name
    return f"{os.path.abspath(path)}:{part}" if part else os.path.abspath(path)


def same_source(one: str, other: str) -> bool:
    """Whether two paths or names stand for the same source."""
    (path, part), (other_path, other_part) = source_part(one), source_part(other)
    if path.exists() and other_path.exists():
        return part == other_part and path.samefile(other_path)
    if path.exists() or other_path.exists():
        return False
    return _with_tfds_split(one) == _with_tfds_split(other)


def _with_tfds_split(name: str) -> str:
    return f"{name}:train" if name.startswith(TFDS) and name.count(":") == 1 else name


def require_source(path_or_name: str | Path, argument: str) -> None:
    """Check cheaply that `open_source` will find a source, without reading pictures or their headers.

    Args:
        path_or_name: As for `open_source`.
        argument: Name of the argument in error messages.

    Raises:
        InputError: The source does not exist, or its list of pictures (CSV file or index) is damaged.
    """
    try:
        kind = source_kind(path_or_name)
        if kind is SourceKind.TFDS:
            tfds_split(str(path_or_name))
        elif kind is SourceKind.PACKED:
            path, part = source_part(path_or_name)
            _packed_part(path, part, 1)
        elif kind is SourceKind.MANIFEST:
            manifest, part = source_part(path_or_name)
            _checked.clear()
            signature = _signature(manifest, part)
            _checked[signature] = read_manifest(manifest, part)
        elif kind is SourceKind.FOLDER:
            path, part = source_part(path_or_name)
            require_part(path, part)
    except InputError as error:
        raise InputError(f"{argument}: {error}") from None


_checked: dict[tuple[object, ...], Listing] = {}  # a CSV file's listing, kept from `require_source` to `open_source`


def _signature(manifest: Path, part: str | None) -> tuple[object, ...]:
    """Values that change if the CSV file changes."""
    try:
        found = manifest.stat()
    except OSError:  # reported when the file is read
        return ()
    return str(manifest), manifest.absolute(), part, found.st_ino, found.st_size, found.st_mtime_ns


def open_source(
    path_or_name: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    least_classes: int = 2,
    max_corrupt: float = MAX_CORRUPT,
    progress: Progress = lambda done, total: None,
) -> Source:
    """Open labelled pictures: read every header, but decode nothing.

    Args:
        path_or_name: A folder with one folder per class, or with folders named train, val and test that each hold one
            folder per class (see `folders.list_folder`); a .csv file with the columns path (absolute, or relative to
            the file) and label, and optionally split, group and weight (see `manifest`), such as a run's split.csv; a
            folder written by `pack`; "tfds:NAME" or "tfds:NAME:SPLIT" (default split "train") for a dataset that
            tensorflow-datasets has prepared on this machine; or "digits" for scikit-learn's 1,797 handwritten digits,
            unless a file or folder has that name. "SOURCE:train", "SOURCE:val" and "SOURCE:test" select one part of a
            folder, a .csv or a packed folder that declares parts; the resulting source declares none.
        class_names: The class names of the training set, to open a held-out set. Its classes must be among them. None
            uses the source's own classes, sorted by name.
        least_classes: The smallest allowed number of classes if `class_names` is None.
        max_corrupt: The largest allowed number of unreadable pictures: an integer, or a share as a float below 1.
        progress: Called with the number of headers read so far and the total.

    Returns:
        The pictures with readable headers; the others are listed in its `corrupt`.

    Raises:
        InputError: The source does not exist or cannot be used, classes do not fit, a class has no picture, a part has
            a class that the training part lacks, or more pictures than `max_corrupt` have no readable header.

    Examples:
        >>> source = open_source("digits")
        >>> len(source), source.read(0).shape
        (1797, (8, 8, 3))
    """
    kind, (path, part) = source_kind(path_or_name), source_part(path_or_name)
    if kind is SourceKind.DIGITS:
        source = _digits(max_corrupt)
    elif kind is SourceKind.TFDS:
        source = _open_tfds(str(path_or_name), max_corrupt, progress)
    elif kind is SourceKind.PACKED:
        source = _packed_part(path, part, max_corrupt)
    else:
        listing = _checked.pop(_signature(path, part), None) or list_files(path_or_name)
        source = _scanned(path, listing, max_corrupt, progress)
    return _with_classes(source, str(path_or_name), class_names, least_classes)


def list_files(path_or_name: str | Path) -> Listing:
    """List the pictures of a source of files without opening them. Raises the errors of `open_source`."""
    path, part = source_part(path_or_name)
    return list_folder(path, part) if path.is_dir() else read_manifest(path, part)


def _packed_part(path: Path, part: str | None, max_corrupt: float) -> Source:
    source = open_packed(path, max_corrupt)
    if part is None:
        return source
    if part not in (source.parts or ()):
        parts = " and ".join(each for each in PARTS if each in (source.parts or ())) or "none"
        raise InputError(f"{path}: has no part {part!r}; it has {parts}")
    return replace(source.take(np.flatnonzero(np.array(source.parts) == part)), parts=None)


def _scanned(path: Path, listing: Listing, max_corrupt: float, progress: Progress) -> Source:
    """Make a source of listed files, leaving out those without a readable header."""
    files = listing.files
    headers = np.zeros((len(files), 3), np.int32)
    identities = np.zeros((len(files), 2), np.uint64)  # device and inode of each file listed by a CSV file
    unreadable: dict[int, str] = {}

    def scan(start: int) -> None:
        """Read a block of headers; a task per file would cost more than reading its header."""
        for index in range(start, min(start + SCANNED_AT_ONCE, len(files))):
            try:
                headers[index] = header(files[index])
                if listing.lines is not None:
                    status = os.stat(files[index])
                    identities[index] = status.st_dev, status.st_ino
            except UnreadableImageError as error:
                unreadable[index] = error.reason
            except OSError as error:  # removed since its header was read
                unreadable[index] = error.strerror or str(error)

    # Use many threads only while the disk or the network is waited for; otherwise threads wait for one another, which
    # costs more than it saves.
    at_once, done = 1, 0
    with ThreadPoolExecutor(4 * usable_cores()) as threads:
        while done < len(files):
            starts = range(done, len(files), SCANNED_AT_ONCE)[:at_once]
            begun, used = time.perf_counter(), time.process_time()
            list(threads.map(scan, starts))
            waits = time.perf_counter() - begun > WAITING * (time.process_time() - used)
            at_once = 4 * usable_cores() if waits else 1
            done = min(starts[-1] + SCANNED_AT_ONCE, len(files))
            progress(done, len(files))
    # Leave out files without a readable header, within the bound of `max_corrupt`.
    _require_readable_classes(path, listing, unreadable)
    corrupt = CorruptPictures(max_corrupt, len(files))
    for index, reason in unreadable.items():
        corrupt.list_one(files[index], reason)
    corrupt.check()
    readable = np.setdiff1d(np.arange(len(files)), list(unreadable))
    headers, read = headers[readable], taken(listing, readable) if unreadable else listing
    # Count a file once that a CSV file lists under several paths.
    if listing.lines is not None:
        repeated = _same_files(read.files, identities[readable])
        read = without_repeated(path, read, repeated)
        headers = np.delete(headers, [again for _, again in repeated], axis=0)
    return Source(
        class_names=read.class_names,
        names=read.files,
        labels=read.labels,
        sizes=headers[:, :2],
        kinds=headers[:, 2].astype(np.uint8),
        contents=Files(read.files),
        corrupt=corrupt,
        beside=read.beside,
        parts=read.parts,
        groups=read.groups,
        weights=read.weights,
        notes=read.notes,
    )


def _require_readable_classes(path: Path, listing: Listing, unreadable: dict[int, str]) -> None:
    """Raise InputError for a class whose pictures all lack a readable header."""
    readable = np.setdiff1d(np.arange(len(listing.files)), list(unreadable))
    lacking = np.setdiff1d(_labels_used(listing.labels), _labels_used(listing.labels[readable]))
    if len(lacking):
        of_class = listing.labels[:, lacking[0]] if listing.labels.ndim == 2 else listing.labels == lacking[0]
        first = min(index for index in unreadable if of_class[index])
        raise InputError(
            f"{path}: class {listing.class_names[lacking[0]]!r} has no readable picture: {listing.files[first]}: "
            f"{unreadable[first]}"
        )


def _labels_used(labels: np.ndarray) -> np.ndarray:
    return np.flatnonzero(labels.any(axis=0)) if labels.ndim == 2 else np.unique(labels)


def _same_files(files: Sequence[str], identities: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of paths that lead to the same file by another spelling or a link: the first path of a file, and another.

    Files with equal device and inode are compared again, because some file systems make up these numbers.
    """
    order = np.lexsort((*identities.T, np.arange(len(files)))[::-1])
    alike = (identities[order[1:]] == identities[order[:-1]]).all(axis=1)
    pairs = []
    first = 0
    for place, same in enumerate(alike.tolist(), 1):
        if not same:
            first = place
        elif os.path.samefile(files[order[first]], files[order[place]]):
            pairs.append((int(order[first]), int(order[place])))
    return sorted(pairs, key=lambda pair: pair[1])


def _digits(max_corrupt: float) -> Source:
    load_digits = required("sklearn.datasets", DIGITS).load_digits

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


def _open_tfds(text: str, max_corrupt: float, progress: Progress) -> Source:
    """Open a split, with image and label, of a dataset that tensorflow-datasets has prepared as TFRecord files."""
    features, part, files = tfds_split(text)
    rows = list(_examples(files, part.num_examples, progress))
    numbers, offsets, lengths, labels, headers, reasons = zip(*rows, strict=True)
    every = Source(
        class_names=list(features["label"].names),
        names=[f"{text} {index}" for index in range(len(rows))],
        labels=np.array(labels, np.int64),
        sizes=np.array(headers, np.int32)[:, :2],
        kinds=np.array(headers, np.uint8)[:, 2],
        contents=Ranges(files, np.array(numbers), np.array(offsets), np.array(lengths)),
        corrupt=CorruptPictures(max_corrupt, len(rows)),
    )
    for name, reason in zip(every.names, reasons, strict=True):
        if reason:
            every.corrupt.list_one(name, reason)
    every.corrupt.check()
    return every.take(np.flatnonzero([not reason for reason in reasons]))


def tfds_split(text: str) -> tuple[Any, Any, list[Path]]:
    """The features, split and files of a prepared dataset; nothing is read. Raises InputError if it is not usable."""
    name, _, split = text.removeprefix("tfds:").partition(":")
    split = split or "train"
    builder = _builder(name)
    if split not in builder.info.splits:
        raise InputError(f"{text}: {name} has no split {split!r}; it has {', '.join(builder.info.splits)}")
    features = builder.info.features
    if not {"image", "label"} <= set(features):
        raise InputError(f"{text}: has the features {', '.join(features)}; image and label are needed")
    part = builder.info.splits[split]
    files = [Path(file) for file in part.filepaths]
    if any(".tfrecord" not in file.name for file in files):
        raise InputError(f"{text}: is prepared as {files[0].suffix} files; prepare it with --file_format=tfrecord")
    return features, part, files


def _builder(name: str) -> Any:
    tfds = required("tensorflow_datasets", "tfds:")
    try:
        builder = tfds.builder(name)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise InputError(f"tfds:{name}: tensorflow-datasets knows no such dataset ({error})") from None
    if not (Path(builder.data_dir) / "dataset_info.json").is_file():
        raise InputError(
            f"tfds:{name}: is not prepared in {builder.data_dir}; prepare it with: tfds build {name} "
            "(this may download many gigabytes)"
        )
    return builder


def _examples(files: list[Path], total: int, progress: Progress) -> Iterator[tuple[Any, ...]]:
    """For each example: file number, the picture's offset and length, label, header, and the error in the header."""
    example_of = required("tensorflow", "tfds:").train.Example.FromString
    done = 0
    for number, file in enumerate(files):
        for offset, record in read_records(file):
            feature = example_of(record).features.feature
            image, label = feature["image"].bytes_list.value[0], feature["label"].int64_list.value[0]
            reason = ""
            found = (0, 0, PILLOW)
            try:
                found = header(file, image)
            except UnreadableImageError as error:
                reason = error.reason
            done += 1
            progress(done, total)
            yield number, offset + record.index(image), len(image), label, found, reason


def _with_classes(source: Source, place: str, class_names: Sequence[str] | None, least: int) -> Source:
    _require_trained_classes(source, place)
    source = replace(source, notes=[*source.notes, *alike_note("classes", source.class_names)])
    if class_names is None:
        if len(source.class_names) < least:
            folder, _ = source_part(place)
            deeper = nested_classes(folder) if source_kind(place) is SourceKind.FOLDER else ""
            raise InputError(
                f"{place}: holds one class only, {source.class_names[0]!r}; at least two are needed{deeper}"
            )
        return source
    numbers: dict[Any, int] = {canonical(name): number for number, name in enumerate(class_names)}
    if unknown := [name for name in source.class_names if canonical(name) not in numbers]:
        listed = ", ".join(written_as(name, class_names) for name in unknown[:10])
        raise InputError(f"{place}: has classes that the training set lacks: {listed}")
    renumbered = np.array([numbers[canonical(name)] for name in source.class_names], np.int64)
    if source.multi_label:
        labels = np.zeros((len(source), len(class_names)), np.uint8)
        labels[:, renumbered] = source.labels
    else:
        labels = renumbered[source.labels]
    return replace(source, class_names=list(class_names), labels=labels)


def _require_trained_classes(source: Source, place: str) -> None:
    """Raise InputError for a class that a declared part has and the training part lacks, as it cannot be learned."""
    if source.parts is None or TRAIN not in source.parts:
        return
    parts = np.array(source.parts)
    for part in (VAL, TEST):
        used, trained = (_labels_used(source.labels[parts == each]) for each in (part, TRAIN))
        if missing := [source.class_names[label] for label in np.setdiff1d(used, trained).tolist()]:
            known = [source.class_names[label] for label in trained]
            shown = ", ".join([written_as(name, known) for name in missing[:10]] + ["…"] * (len(missing) > 10))
            raise InputError(
                f"{place}: the {part} part has {counted(len(missing), 'class')} without a training picture: {shown}; "
                "add training pictures of these classes, or remove them from that part"
            )

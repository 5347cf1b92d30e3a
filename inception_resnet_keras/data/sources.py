"""Sources of labelled pictures: what a name or path stands for is decided here, in `source_kind`."""

from __future__ import annotations

import csv
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from enum import Enum
from io import BytesIO, TextIOWrapper
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..common.arguments import is_unicode
from ..common.devices import usable_cores
from ..common.errors import LONGEST_SHOWN, InputError
from ..common.files import open_regular, require_regular
from ..common.packages import required
from . import DIGITS, SOURCE_HELP
from .images import PILLOW, PLAIN, SUFFIXES, UnreadableImageError, header
from .labelled import CorruptPictures, Files, Memory, Ranges, Source
from .packed import INDEX, open_packed, read_records

MAX_CORRUPT = 0.01
SCANNED_AT_ONCE = 256  # headers
WAITING = 4  # times as long as they are worked on, headers are waited for
PARTS = ("train", "val")  # what the column split of a run's split.csv says
TFDS = "tfds:"
Progress = Callable[[int, int], None]


class SourceKind(Enum):
    """What a source of labelled pictures can be."""

    DIGITS = "scikit-learn's handwritten digits"
    FOLDER = "a folder with one folder per class"
    MANIFEST = "a .csv of path,label"
    PACKED = "a folder that pack wrote"
    TFDS = "a dataset that tensorflow-datasets prepared"

    @property
    def has_files(self) -> bool:
        """Whether each picture is a file of its own, named by its path."""
        return self in (SourceKind.FOLDER, SourceKind.MANIFEST)


def source_kind(path_or_name: str | Path) -> SourceKind:
    """The kind of source that a path or name stands for; nothing of it is opened.

    A file or folder comes before a name: a folder called "digits" is that folder.

    Raises:
        InputError: There is no such file or folder, or it is no source.
    """
    text, path = str(path_or_name), Path(path_or_name)
    if text.startswith(TFDS):
        return SourceKind.TFDS
    if (path / INDEX).is_file():
        return SourceKind.PACKED
    if path.is_dir():
        return SourceKind.FOLDER
    if manifest_part(path_or_name)[0].suffix.lower() == ".csv":
        return SourceKind.MANIFEST
    if text == DIGITS and not path.exists():
        return SourceKind.DIGITS
    require_regular(path)
    found = "a file" if path.exists() else "nothing"
    raise InputError(f"{path}: found {found} there; labelled pictures are {SOURCE_HELP}")


def absolute_source(path_or_name: str) -> str:
    """The same source, named so that it is found from any folder: a path that exists becomes absolute."""
    path, part = manifest_part(path_or_name)
    if not path.exists():
        return path_or_name
    return f"{os.path.abspath(path)}:{part}" if part else os.path.abspath(path)


def same_source(one: str, other: str) -> bool:
    """Whether two paths or names stand for the same source."""
    (path, part), (other_path, other_part) = manifest_part(one), manifest_part(other)
    if path.exists() and other_path.exists():
        return part == other_part and path.samefile(other_path)
    if path.exists() or other_path.exists():
        return False
    return _with_tfds_split(one) == _with_tfds_split(other)


def _with_tfds_split(name: str) -> str:
    return f"{name}:train" if name.startswith(TFDS) and name.count(":") == 1 else name


def require_source(path_or_name: str | Path, argument: str) -> None:
    """A cheap check that `open_source` finds a source: reads no picture, nor its header.

    Args:
        path_or_name: As `open_source` takes it.
        argument: What it was given as, for the error.

    Raises:
        InputError: There is no source, or its list of pictures (a manifest, an index) is damaged.
    """
    try:
        kind = source_kind(path_or_name)
        if kind is SourceKind.TFDS:
            tfds_split(str(path_or_name))
        elif kind is SourceKind.PACKED:
            open_packed(Path(path_or_name), 1)
        elif kind is SourceKind.MANIFEST:
            manifest, part = manifest_part(path_or_name)
            _checked.clear()
            signature = _signature(manifest, part)
            _checked[signature] = read_manifest(manifest, part)
    except InputError as error:
        raise InputError(f"{argument}: {error}") from None


_checked: dict[tuple[object, ...], tuple[list[str], list[str]]] = {}  # read for a check, kept until it is opened


def _signature(manifest: Path, part: str | None) -> tuple[object, ...]:
    """What changes if a manifest does."""
    try:
        found = manifest.stat()
    except OSError:  # whoever reads it says so
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
    """Opens labelled pictures: reads every header, decodes nothing.

    Args:
        path_or_name: A folder with one folder per class; a .csv file with the columns path (absolute, or
            relative to the file) and label (a class's name), others being ignored; the split.csv of a run,
            "RUN/split.csv:train" and "RUN/split.csv:val" for either part of it; a folder that `pack` wrote;
            "tfds:NAME" or "tfds:NAME:SPLIT" (split "train" by default), a dataset that tensorflow-datasets
            has prepared on this machine; or "digits", scikit-learn's 1,797 handwritten ones, unless a file
            or folder has that name.
        class_names: The classes of the training set, for a held-out set: this one may lack some, and
            may have no others. None takes its own, sorted by name.
        least_classes: The least number of classes, where `class_names` is None.
        max_corrupt: How many pictures may be unreadable: a number, or a share below 1.
        progress: Called with the number of headers read, and their total.

    Raises:
        InputError: Nothing usable is there, classes do not fit, a class has no picture, or more
            pictures than `max_corrupt` have no readable header.

    Example:
        source = open_source("digits")
        assert source.read(0).shape == (8, 8, 3)
    """
    path, kind = Path(path_or_name), source_kind(path_or_name)
    if kind is SourceKind.DIGITS:
        source = _digits(max_corrupt)
    elif kind is SourceKind.TFDS:
        source = _open_tfds(str(path_or_name), max_corrupt, progress)
    elif kind is SourceKind.PACKED:
        source = open_packed(path, max_corrupt)
    elif kind is SourceKind.MANIFEST:
        manifest, part = manifest_part(path_or_name)
        rows = _checked.pop(_signature(manifest, part), None) or read_manifest(manifest, part)
        source = _scanned(manifest, *rows, max_corrupt, progress)
    else:
        by_class = files_by_class(path)
        files = list(chain.from_iterable(by_class.values()))
        labels = list(chain.from_iterable(repeat(name, len(files)) for name, files in by_class.items()))
        source = _scanned(path, files, labels, max_corrupt, progress)
        source = replace(source, beside=not_read(path))
    return _with_classes(source, str(path_or_name), class_names, least_classes)


def picture_files(path: Path) -> list[Path]:
    """The files below a folder that are named as pictures, sorted; links are followed, hidden files passed over."""
    return list(map(Path, _picture_names(path)))


def _picture_names(path: Path) -> list[str]:
    """The same as text, which a million files take a fifth of the memory as. In the order of paths, part by part."""
    return sorted((file for file in _files(path) if _suffix(file) in SUFFIXES), key=lambda file: file.split(os.sep))


def files_by_class(path: Path) -> dict[str, list[str]]:
    """The pictures of each class's folder; InputError where there are no such folders, or a class has none."""
    classes = [entry for entry in path.iterdir() if entry.is_dir() and not _passed_over(entry)]
    if not classes:
        loose = len(_picture_names(path))
        found = f"{loose} pictures outside any class" if loose else "nothing"
        raise InputError(f"{path}: holds {found}; put each class's pictures in a folder of the class's name")
    by_class = {entry.name: _picture_names(entry) for entry in sorted(classes)}
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
            kinds.update(suffix for file in _files(entry) if (suffix := _suffix(file)) not in SUFFIXES)
    found = [
        (str(path), f"{count:,} files that end in {suffix or 'nothing'} are not read: {', '.join(SUFFIXES)} are")
        for suffix, count in sorted(kinds.items())
    ]
    loose = sum(entry.suffix.lower() in SUFFIXES for entry in path.iterdir() if not entry.is_dir())
    return found + ([(str(path), f"{loose:,} pictures beside the classes' folders are not read")] if loose else [])


def _passed_over(folder: Path) -> bool:
    """Hidden folders, those that archivers leave (`__MACOSX`), and training runs are no classes."""
    return folder.name.startswith((".", "__")) or (folder / "model.keras").exists()


def _suffix(file: str) -> str:
    """As `Path.suffix` has it, in lower case."""
    suffix = os.path.splitext(file)[1].lower()
    return "" if suffix == "." else suffix


def _files(path: Path) -> Iterator[str]:
    """Every file below a folder but hidden ones; links are followed, each folder is entered once."""
    entered: set[str] = set()
    for here, folders, files in os.walk(path, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        true = os.path.realpath(here)
        if true in entered:
            folders.clear()
            continue
        entered.add(true)
        yield from (os.path.join(here, name) for name in files if not name.startswith("."))


def manifest_part(path_or_name: str | Path) -> tuple[Path, str | None]:
    """ "RUN/split.csv:val" as the path of the file and the part of it; the part is None of any other name."""
    name, colon, part = str(path_or_name).rpartition(":")
    if colon and part in PARTS and name.lower().endswith(".csv") and not Path(path_or_name).exists():
        return Path(name), part
    return Path(path_or_name), None


def read_manifest(path: Path, part: str | None = None) -> tuple[list[str], list[str]]:
    """Files and labels of a CSV file with the columns path (absolute, or relative to the file) and label.

    part: takes only the rows whose column split says so.

    Raises InputError where it is no such file, names nothing, or a line lacks one or repeats a path.
    """
    names: list[str] = []
    labels: list[str] = []
    seen: set[str] = set()
    classes: dict[str, str] = {}  # so that a class's name is kept once
    rows = manifest_rows(path, ("path", "label", *(("split",) if part else ())))
    for line, (name, label, *parts) in rows:
        if parts and parts[0] != part:
            continue
        if not name or not label:
            raise InputError(f"{path}, line {line}: has no {'label' if name else 'path'}")
        if name in seen:
            raise InputError(f"{path}, line {line}: {name!r} stands in line {_line_of(path, name, part)} already")
        seen.add(name)
        names.append(name)
        labels.append(classes.setdefault(label, label))
    del seen
    files = [_below(path.parent, name) for name in names]
    if not files:
        of_part = f" whose split is {part!r}" if part else ""
        raise InputError(f"{path}: names no pictures{of_part}; a line a picture is needed: path,label")
    return files, labels


def _below(folder: Path, name: str) -> str:
    """`str(folder / name)`, in a tenth of the time where the name is plain."""
    if name[0] in "./" or "//" in name or "/." in name or name[-1] == "/" or os.name != "posix":
        return str(folder / name)
    return name if str(folder) == "." else os.path.join(folder, name)


def _line_of(path: Path, name: str, part: str | None) -> int:
    """The first line of a manifest that names a picture."""
    rows = manifest_rows(path, ("path", *(("split",) if part else ())))
    return next(line for line, (other, *parts) in rows if other == name and (not parts or parts[0] == part))


def manifest_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number of each row of a CSV file that has these columns at least, and their values; a lacking one is "".

    Raises InputError where it is no CSV file in UTF-8, lacks a column, or has a row with more values than columns.
    """
    try:
        with TextIOWrapper(open_regular(path), "utf-8-sig", "surrogateescape", newline="") as file:
            rows = csv.reader(file, strict=True)
            names = next(rows, [])
            if missing := set(columns) - set(names):
                raise InputError(
                    f"{path}: lacks the column {' and '.join(sorted(missing))}; its first line names the columns, "
                    f"{' and '.join(columns)}, and is {','.join(names)!r:.{LONGEST_SHOWN}}"
                )
            # Written by `train`: a space at a name's end belongs to it, and a byte that is not UTF-8.
            exact = "sha256" in names
            places = [len(names) - 1 - names[::-1].index(name) for name in columns]  # of two columns of a name the last
            for row in rows:
                if not row:
                    continue
                if len(row) > len(names):
                    raise InputError(
                        f"{path}, line {rows.line_num}: has more values than the {len(names)} columns of the first "
                        "line; put a value with a comma in it in quotes"
                    )
                values = [row[place] if place < len(row) else "" for place in places]
                if not exact and not all(text.isascii() or is_unicode(text) for text in values):
                    raise InputError(f"{path}: is no CSV file in UTF-8: line {rows.line_num} is not")
                yield rows.line_num, values if exact else [text.strip() for text in values]
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except csv.Error as error:
        raise InputError(f"{path}: is no CSV file in UTF-8: {error}") from None


def _scanned(path: Path, files: Sequence[str], labels: Sequence[str], max_corrupt: float, progress: Progress) -> Source:
    """A source of files, those without a readable header left out."""
    corrupt = CorruptPictures(max_corrupt, len(files))
    headers = np.zeros((len(files), 3), np.int32)
    unreadable: dict[int, str] = {}

    def scan(start: int) -> None:
        """Reads a stretch of headers: a task for each file would cost more than its header."""
        for index in range(start, min(start + SCANNED_AT_ONCE, len(files))):
            try:
                headers[index] = header(files[index])
            except UnreadableImageError as error:
                unreadable[index] = error.reason

    # Many threads only where the disk or the network is waited for: else they wait for one another, which costs more.
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
    class_names = sorted(set(labels))
    numbers = {name: number for number, name in enumerate(class_names)}
    every = Source(
        class_names=class_names,
        names=files,
        labels=np.fromiter((numbers[label] for label in labels), np.int64, len(labels)),
        sizes=headers[:, :2],
        kinds=headers[:, 2].astype(np.uint8),
        contents=Files(files),
        corrupt=corrupt,
    )
    readable = np.setdiff1d(np.arange(len(files)), list(unreadable))
    lacking = np.setdiff1d(np.arange(len(class_names)), every.labels[readable])
    if len(lacking):
        first = min(number for number in unreadable if every.labels[number] == lacking[0])
        raise InputError(
            f"{path}: class {class_names[lacking[0]]!r} has no readable picture: {files[first]}: {unreadable[first]}"
        )
    for index, reason in unreadable.items():
        corrupt.list_one(files[index], reason)
    corrupt.check()
    return every.take(readable) if unreadable else every


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
    """A split of a dataset that tensorflow-datasets has prepared here, as TFRecord files, with image and label."""
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
    """Features, split and files of such a dataset, none of them read; InputError where it is not as needed."""
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
            "(it may download much)"
        )
    return builder


def _examples(files: list[Path], total: int, progress: Progress) -> Iterator[tuple[Any, ...]]:
    """File number, offset and length of the picture, label, header and, where that is unreadable, why."""
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


def _with_classes(source: Source, told: str, class_names: Sequence[str] | None, least: int) -> Source:
    if unnamed := [name for name in source.class_names if not is_unicode(name)]:
        raise InputError(f"{told}: the name of class {unnamed[0]!r} is not UTF-8, as a model's classes are: rename it")
    if class_names is None:
        if len(source.class_names) < least:
            raise InputError(f"{told}: holds one class only, {source.class_names[0]!r}; at least two are needed")
        return source
    numbers: dict[Any, int] = {name: number for number, name in enumerate(class_names)}
    if unknown := [name for name in source.class_names if name not in numbers]:
        raise InputError(f"{told}: has classes that the training set lacks: {', '.join(unknown[:10])}")
    renumbered = np.array([numbers[name] for name in source.class_names], np.int64)
    return replace(source, class_names=list(class_names), labels=renumbered[source.labels])

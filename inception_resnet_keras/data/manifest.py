"""Reading CSV files that list pictures with their labels and, optionally, parts, groups and weights.

The columns are path (absolute, or relative to the file) and label, and optionally split (train, val or test), group
and weight, in any order and in upper or lower case. Several labels of a picture are written in its cell of the column
label, separated by "|" or ";"; or there is no column label, and every other column is a label and holds 0 or 1.
"""

from __future__ import annotations

import csv
import math
import os
import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from ..common.arguments import is_unicode
from ..common.console import counted
from ..common.errors import LONGEST_SHOWN, InputError, shown
from ..common.files import open_regular
from .labelled import PART_NAMES, PARTS, TRAIN, Listing
from .spelling import canonical

SEPARATORS = ("|", ";")
LABEL, LABELS = "label", "labels"  # the column "labels" always holds several labels; a run's split.csv may have it
KNOWN = ("path", LABEL, LABELS, "split", "group", "weight", "sha256")
BITS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "False": 0, "True": 1, "FALSE": 0, "TRUE": 1}
DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
STARTS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PK\x03\x04": "an Excel workbook or another ZIP file"}
MOST_NUMBERS = 20  # more different labels with a fraction than this are taken for measurements, not classes


def read_manifest(path: Path, part: str | None = None) -> Listing:
    """List the pictures of a CSV file, without looking for them on the disk.

    Args:
        path: The CSV file.
        part: List only the rows with this value in the column split.

    Returns:
        The pictures in the file's order. A picture that is repeated on several lines is listed once.

    Raises:
        InputError: The file is not such a CSV file or lists nothing, a line lacks a value or has an invalid one, or
            two lines about the same picture contradict each other.
    """
    header = manifest_header(path)
    columns = _columns(path, header)
    if part and "split" not in columns:
        raise InputError(f"{path}: lacks the column split, which is needed to select the rows of {part!r}")
    rows = _Rows(path, header, columns)
    rows.read(part)
    class_names, labels, notes = rows.labels()
    listing = Listing(
        files=rows.files,
        class_names=class_names,
        labels=labels,
        parts=rows.parts if "split" in columns and not part else None,
        groups=rows.groups if "group" in columns else None,
        weights=rows.checked_weights() if "weight" in columns else None,
        notes=[*notes, *rows.notes(part)],
        beside=unread_columns(path),
        lines=np.array(rows.lines, np.int64),
    )
    return without_repeated(path, listing, rows.repeated)


def without_repeated(path: Path, listing: Listing, pairs: Sequence[tuple[int, int]]) -> Listing:
    """Remove rows about pictures that are already listed.

    Args:
        path: The CSV file.
        listing: Its rows.
        pairs: Pairs of rows about the same picture: the one that is kept, and the one that is removed.

    Raises:
        InputError: Two rows about the same picture have different labels, parts, groups or weights.
    """
    if not pairs:
        return listing
    assert listing.lines is not None
    for first, again in pairs:
        one, other = _values(listing, first), _values(listing, again)
        if differing := [what for what in one if one[what] != other[what]]:
            what = differing[0]
            spelt = "" if listing.files[first] == listing.files[again] else f", as {listing.files[first]}"
            raise InputError(
                f"{path}, line {listing.lines[again]}: {listing.files[again]} is already listed in line "
                f"{listing.lines[first]}{spelt}, with {what} {one[what]!r} instead of {other[what]!r}; keep one of the "
                "two lines"
            )
    first, again = pairs[0]
    count = counted(len(pairs), "line", "repeats a picture", "repeat pictures")
    reason = (
        f"{count}, such as line {listing.lines[again]} ({listing.files[again]}), the picture of line "
        f"{listing.lines[first]} ({listing.files[first]}): each picture counts once; give a column weight to make "
        "pictures count more"
    )
    kept = np.setdiff1d(np.arange(len(listing.files)), [again for _, again in pairs])
    return replace(taken(listing, kept), beside=[*listing.beside, (str(path), reason)])


def taken(listing: Listing, kept: np.ndarray) -> Listing:
    """The rows of a listing with the numbers `kept`."""
    rows = kept.tolist()
    return replace(
        listing,
        files=[listing.files[row] for row in rows],
        labels=listing.labels[kept],
        parts=None if listing.parts is None else [listing.parts[row] for row in rows],
        groups=None if listing.groups is None else [listing.groups[row] for row in rows],
        weights=None if listing.weights is None else listing.weights[kept],
        lines=None if listing.lines is None else listing.lines[kept],
    )


def manifest_header(path: Path) -> list[str]:
    """The names of a CSV file's columns as written; raises InputError if it is not a CSV file in UTF-8."""
    with _reader(path) as rows:
        header: list[str] = next(rows, [])
    if not all(is_unicode(name) and "\0" not in name for name in header):
        with open_regular(path) as file:
            start = file.read(4)
        found = next(
            (f"it is {what}" for sign, what in STARTS.items() if start.startswith(sign)), "line 1 is not text in UTF-8"
        )
        raise InputError(f"{path}: is not a CSV file in UTF-8: {found}; save it as a CSV file in UTF-8")
    return header


def manifest_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """The line number of each row of a CSV file, and its values of these columns; a missing value is "".

    Raises InputError if the file is not a CSV file in UTF-8, lacks a column, or has a row with more values than
    columns.
    """
    with _reader(path) as rows:
        names: list[str] = next(rows, [])
        if missing := set(columns) - set(names):
            raise InputError(
                f"{path}: lacks the column {' and '.join(sorted(missing))}; the first line must name the columns "
                f"{' and '.join(columns)}, and is {','.join(names)!r:.{LONGEST_SHOWN}}"
            )
        # In a file written by `train`, spaces at the end of a name and bytes that are not UTF-8 are part of the name.
        exact = "sha256" in names
        places = [len(names) - 1 - names[::-1].index(name) for name in columns]  # the last of equally named columns
        for row in rows:
            if not row or not (exact or any(text.strip() for text in row)):  # spreadsheets write lines of commas only
                continue
            if len(row) > len(names):
                raise InputError(
                    f"{path}, line {rows.line_num}: has more values than the {len(names)} columns of the first "
                    "line; put values that contain a comma in quotes"
                )
            values = [row[place] if place < len(row) else "" for place in places]
            if not exact and not all(text.isascii() or is_unicode(text) for text in values):
                # The name of an existing file may have any bytes; everything else must be text.
                others = values[columns[0].casefold() == "path" and os.path.lexists(path.parent / values[0].strip()) :]
                if not all(map(is_unicode, others)):
                    raise InputError(f"{path}: is not a CSV file in UTF-8: line {rows.line_num} is not UTF-8")
            yield rows.line_num, values if exact else [text.strip() for text in values]


@contextmanager
def _reader(path: Path) -> Iterator[Any]:
    """Open a CSV file for reading; errors in it, also within the block, are raised as InputErrors."""
    try:
        with TextIOWrapper(open_regular(path), "utf-8-sig", "surrogateescape", newline="") as file:
            yield csv.reader(file, strict=True)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except csv.Error as error:
        raise InputError(f"{path}: is not a CSV file in UTF-8: {error}") from None


def _columns(path: Path, header: Sequence[str]) -> dict[str, str]:
    """The known columns of a file, each with its name as written in the file."""
    columns: dict[str, str] = {}
    for name in header:
        known = name.strip().casefold()
        if known not in KNOWN:
            continue
        if known in columns:
            raise InputError(f"{path}: has two columns {known!r}; rename or remove one")
        columns[known] = name
    if LABEL in columns and LABELS in columns:
        raise InputError(f"{path}: has both a column label and a column labels; remove one")
    label_given = LABEL in columns or LABELS in columns
    if "path" not in columns or (not label_given and len(header) <= len(columns)):
        missing = " and ".join(name for name in (LABEL, "path") if name not in columns)
        raise InputError(
            f"{path}: lacks the column {missing}; the first line must name the columns path and label, and is "
            f"{','.join(header)!r:.{LONGEST_SHOWN}}{_other_delimiter(header)}"
        )
    return columns


def _other_delimiter(header: Sequence[str]) -> str:
    """The end of an error if the values of a file are separated by another sign than a comma."""
    for sign, what in DELIMITERS.items():
        if "path" in (name.strip().casefold() for name in ",".join(header).split(sign)):
            return f": its values are separated by {what}; save it with commas"
    return ""


class _Rows:
    """The lines of a CSV file, collected one by one and interpreted after all are read.

    Args:
        path: The file.
        header: The names of its columns.
        columns: The known columns with their names in the header.
    """

    def __init__(self, path: Path, header: Sequence[str], columns: dict[str, str]) -> None:
        self.path, self.columns = path, columns
        self.exact = "sha256" in header  # written by `train`
        self.cell = LABELS if LABELS in columns else LABEL if LABEL in columns else None
        self.other = [name for name in header if name not in columns.values()]
        self.of_label = [] if self.cell else self.other
        self.read_rows = 0  # rows of all parts
        self.files: list[str] = []
        self.lines = array("q")
        self.numbers = array("q")  # the number, in `cells`, of each row's label cell
        self.cells: dict[str, int] = {}  # a number for each distinct label cell
        self.cell_lines: list[int] = []  # the first line of each distinct label cell
        self.bits = bytearray()
        self.parts: list[str] = []
        self.groups: list[str] = []
        self.weights = array("d")
        self.repeated: list[tuple[int, int]] = []

    def read(self, part: str | None) -> None:
        """Read every line, and keep those of the part.

        The labels of all lines are read, so that they are interpreted in the same way for every part.
        """
        path, columns = self.path, self.columns
        optional = [name for name in ("split", "group", "weight") if name in columns]
        wanted = [columns["path"], *([columns[self.cell]] if self.cell else self.of_label)]
        known = 1 + (1 if self.cell else len(self.of_label))
        first: dict[str, int] = {}
        groups: dict[str, str] = {}
        label_of = self._cell if self.cell else self._bits
        # A file may have a million lines: values are kept in compact arrays, and equal texts are shared.
        for line, values in manifest_rows(path, [*wanted, *(columns[name] for name in optional)]):
            name, given = values[0], dict(zip(optional, values[known:], strict=True))
            if not name:
                raise InputError(f"{path}, line {line}: has no path")
            self.read_rows += 1
            declared = self._part(line, given["split"]) if "split" in given else None
            kept = part is None or declared == part
            # Labels are read of every line, all other values only of the part's lines.
            label_of(line, values[1:known], kept)
            if not kept:
                continue
            file = picture_path(path.parent, name)
            number = first.setdefault(file, len(self.files))
            if number != len(self.files):
                self.repeated.append((number, len(self.files)))
            self.files.append(file)
            self.lines.append(line)
            if declared is not None:
                self.parts.append(declared)
            if "group" in given:
                group = canonical(given["group"])
                self.groups.append(groups.setdefault(group, group))
            if "weight" in given:
                self.weights.append(self._weight(line, given["weight"]))
        if not self.files:
            of_part = f" whose split is {part!r}" if part else ""
            raise InputError(f"{path}: names no pictures{of_part}; one line per picture is needed: path,label")

    def _cell(self, line: int, values: Sequence[str], kept: bool) -> None:
        number = self.cells.setdefault(values[0] if self.exact else canonical(values[0]), len(self.cells))
        if number == len(self.cell_lines):
            self.cell_lines.append(line)
        if kept:
            self.numbers.append(number)

    def _bits(self, line: int, values: Sequence[str], kept: bool) -> None:
        try:
            row = bytes([BITS[value] for value in values])
        except KeyError:
            name, value = next(pair for pair in zip(self.of_label, values, strict=True) if pair[1] not in BITS)
            raise InputError(
                f"{self.path}: lacks the column label, and its other columns do not hold 0 or 1 (or false or true) for "
                f"one label each: {name!r} holds {shown(value)} in line {line}. Rename the column of the labels to "
                f"'label'; or, if {name!r} is a label, write 0 or 1, otherwise remove the column"
            ) from None
        if kept:
            self.bits += row

    def _part(self, line: int, value: str) -> str:
        part = PART_NAMES.get(value.casefold())
        if part is None:
            raise InputError(
                f"{self.path}, line {line}: the column split holds {shown(value)}; it takes {', '.join(PART_NAMES)}. "
                "Rename the column if it has another meaning"
            )
        return part

    def _weight(self, line: int, value: str) -> float:
        try:
            weight = float(value)
        except ValueError:
            weight = math.nan
        if not 0 <= weight <= float(np.finfo(np.float32).max):
            raise InputError(
                f"{self.path}, line {line}: the column weight holds {shown(value)}; it takes a number of at least 0"
            )
        return weight

    def checked_weights(self) -> np.ndarray:
        weights = np.array(self.weights, np.float32)
        trained = np.array([part == TRAIN for part in self.parts]) if TRAIN in self.parts else slice(None)
        if not weights[trained].any():
            raise InputError(f"{self.path}: every training weight is 0; pictures of weight 0 do not train anything")
        return weights

    def labels(self) -> tuple[list[str], np.ndarray, list[str]]:
        """Class names, labels as in `Source`, and notes about how they were interpreted."""
        if not self.cell:
            return self._one_column_per_label()
        separator = self._separator()
        if separator is None:
            return self._one_label()
        return self._several_labels(separator)

    def _separator(self) -> str | None:
        """The separator between the labels of one cell; None if each cell is one class."""
        if self.exact:
            return SEPARATORS[0] if self.cell == LABELS else None
        used = {separator: cell for cell in self.cells for separator in SEPARATORS if separator in cell}
        if len(used) == 2:
            lines = " and ".join(str(self.cell_lines[self.cells[cell]]) for cell in used.values())
            raise InputError(
                f"{self.path}: cells of the column {self.cell} hold both | and ; (lines {lines}), so that it is "
                "ambiguous which separates labels; use one of them, and neither within a name"
            )
        return next(iter(used)) if used else SEPARATORS[0] if self.cell == LABELS else None

    def _one_label(self) -> tuple[list[str], np.ndarray, list[str]]:
        if "" in self.cells:
            raise InputError(f"{self.path}, line {self.cell_lines[self.cells['']]}: has no label")
        if not self.exact:
            self._refuse_regression()
        used = np.unique(np.array(self.numbers, np.int64)).tolist()
        texts = list(self.cells)
        class_names = sorted(texts[number] for number in used)
        places = np.zeros(len(texts), np.int64)
        for place, name in enumerate(class_names):
            places[self.cells[name]] = place
        return class_names, places[np.array(self.numbers, np.int64)], self._joined_names(class_names)

    def _joined_names(self, class_names: Sequence[str]) -> list[str]:
        """A note if a class may be several labels separated by a sign that does not separate labels."""
        known = set(class_names)
        for name in [] if self.exact else class_names:
            if any(part.strip() in known for part in re.split("[,/+&]", name) if part != name):
                return [
                    f"{self.path}: the label {name!r} counts as one class; to give a picture several labels, separate "
                    f"them by {SEPARATORS[0]!r} or {SEPARATORS[1]!r}"
                ]
        return []

    def _several_labels(self, separator: str) -> tuple[list[str], np.ndarray, list[str]]:
        of_cell: list[list[str]] = []
        for cell, line in zip(self.cells, self.cell_lines, strict=True):
            names = cell.split(separator) if cell else []
            if not self.exact:
                names = [name.strip() for name in names]
            if "" in names:
                raise InputError(f"{self.path}, line {line}: {shown(cell)} has an empty label; remove it")
            of_cell.append(names)
        class_names = sorted({name for names in of_cell for name in names})
        numbers = {name: number for number, name in enumerate(class_names)}
        table = np.zeros((len(of_cell), len(class_names)), np.uint8)
        for row, names in enumerate(of_cell):
            table[row, [numbers[name] for name in names]] = 1
        labels = table[np.array(self.numbers, np.int64)]
        how = f"separated by {separator!r} in the column {self.cell}"
        return class_names, labels, [self._several(labels, how)]

    def _one_column_per_label(self) -> tuple[list[str], np.ndarray, list[str]]:
        names = [canonical(name.strip()) for name in self.of_label]
        if len(names) == 1:
            raise InputError(
                f"{self.path}: lacks the column label, and has only one column of 0 and 1, {names[0]!r}: rename it to "
                "'label' for two classes 0 and 1"
            )
        for name in names:
            if not name or names.count(name) > 1 or SEPARATORS[0] in name:
                raise InputError(
                    f"{self.path}: without a column label, the name of each other column is a label, and "
                    f"{shown(name)} is empty, given twice or contains {SEPARATORS[0]!r}: rename it"
                )
        order = sorted(range(len(names)), key=names.__getitem__)
        labels = np.frombuffer(bytes(self.bits), np.uint8).reshape(len(self.files), len(names))[:, order].copy()
        return [names[place] for place in order], labels, [self._several(labels, "one column of 0 and 1 for each")]

    def _several(self, labels: np.ndarray, how: str) -> str:
        without = int((~labels.any(axis=1)).sum())
        return (
            f"{self.path}: a picture may have several of {labels.shape[1]} labels ({how}): "
            f"{labels.sum(axis=1, dtype=np.int64).mean():.2f} on average, none for {counted(without, 'picture')}"
        )

    def _refuse_regression(self) -> None:
        """Raise InputError if the labels look like measurements, not classes."""
        try:
            numbers = [float(cell) for cell in self.cells]
        except ValueError:
            return
        fractions = [number for number in numbers if math.isfinite(number) and number != int(number)]
        if fractions and (len(numbers) > MOST_NUMBERS or 2 * len(numbers) > self.read_rows):
            raise InputError(
                f"{self.path}: the column label holds {len(numbers):,} different numbers, such as {fractions[0]:g}: "
                "predicting numbers (regression) is not supported; give each picture the name of a class, such as a "
                "range of numbers"
            )

    def notes(self, part: str | None) -> list[str]:
        if part or "split" not in self.columns:
            return []
        counts = ", ".join(f"{name} {count:,}" for name in PARTS if (count := self.parts.count(name)))
        return [f"{self.path}: the column split divides the pictures into {counts}"]


def unread_columns(path: Path, used: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(place, reason) of the columns of a CSV file that are not read.

    Args:
        path: The file.
        used: Columns that are read for another purpose.
    """
    header = manifest_header(path)
    columns = _columns(path, header)
    other = [name for name in header if name not in columns.values() and name not in used]
    if not {LABEL, LABELS} & columns.keys() or not other or "sha256" in header:
        return []
    names = ", ".join(map(repr, other[:20])) + (", …" if len(other) > 20 else "")
    which = f"the column {names} is" if len(other) == 1 else f"the columns {names} are"
    takes = ", ".join(("path", LABEL, "split", "group", "weight"))
    unless = "" if used else ", unless named by the setting group"
    return [(str(path), f"{which} not read{unless}; columns read: {takes}")]


def _values(listing: Listing, row: int) -> dict[str, Any]:
    """The values that a row gives for its picture, by column."""
    label = listing.labels[row]
    numbers = np.flatnonzero(label).tolist() if label.ndim else [int(label)]
    values: dict[str, Any] = {"label": SEPARATORS[0].join(listing.class_names[number] for number in numbers)}
    if listing.parts is not None:
        values["split"] = listing.parts[row]
    if listing.groups is not None:
        values["group"] = listing.groups[row]
    if listing.weights is not None:
        values["weight"] = float(listing.weights[row])
    return values


def picture_path(folder: Path, name: str) -> str:
    """The path of a picture that a CSV file names, absolute or below the file's folder.

    If there is no such file, the name is also read as written on Windows, with backslashes, or on a Mac, which
    decomposes letters such as "ä"; the first that exists counts.
    """
    path = _below(folder, name)
    if (name.isascii() and "\\" not in name) or os.path.lexists(path):
        return path
    spelt = (unicodedata.normalize(form, each) for each in (name, name.replace("\\", "/")) for form in ("NFC", "NFD"))
    return next((other for each in spelt if os.path.lexists(other := _below(folder, each))), path)


def _below(folder: Path, name: str) -> str:
    """`str(folder / name)`, computed in a tenth of the time if the name is plain."""
    if name[0] in "./" or "//" in name or "/." in name or name[-1] == "/" or os.name != "posix":
        return str(folder / name)
    return name if str(folder) == "." else os.path.join(folder, name)

"""Pairs of faces in the format of Labeled Faces in the Wild's pairs.txt.

The first line has the number of folds and that of the pairs of each kind in a fold (`10<tab>300`), or the second
alone for one fold. Then come, fold by fold, the pairs of one person (`name<tab>1<tab>4`: the person's pictures
name_0001 and name_0004) and as many of two (`name<tab>1<tab>other<tab>2`). http://vis-www.cs.umass.edu/lfw/
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError

LARGEST = 16 * 1024**2  # bytes; LFW's own has 160 thousand


class Face(NamedTuple):
    """A picture of a person, numbered from 1."""

    person: str
    number: int

    def __str__(self) -> str:
        return f"{self.person}_{self.number:04d}"


class Pair(NamedTuple):
    """Two faces, and the fold that they belong to, from 0."""

    fold: int
    first: Face
    second: Face

    @property
    def same(self) -> bool:
        return self.first.person == self.second.person


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file, fold by fold, in each the pairs of one person first; InputError where it is no such file."""
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path}: has {path.stat().st_size:,} bytes: that is no file of pairs")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text in UTF-8; LFW's pairs.txt is one") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); LFW's pairs.txt is needed") from None
    return parse_pairs(text, str(path))


def parse_pairs(text: str, told: str) -> list[Pair]:
    """As `read_pairs`, of a text; `told` is what an error calls it."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise InputError(f"{told}: is empty; its first line has the folds and the pairs of each kind: 10<tab>300")
    folds, each = _header(told, lines[0][1])
    if len(lines) - 1 != 2 * folds * each:
        raise InputError(
            f"{told}: has {len(lines) - 1} pairs, and {lines[0][1].strip()!r} in its first line is 2 × {folds} × {each}"
        )
    pairs = []
    for position, (number, line) in enumerate(lines[1:]):
        fold, place = divmod(position, 2 * each)
        pairs.append(_pair(f"{told}, line {number}", fold, line, matched=place < each))
    return pairs


def format_pairs(pairs: Iterable[Pair], folds: int, each: int) -> str:
    """The text of a file of pairs that are in its order."""
    lines = [f"{folds}\t{each}"]
    for _, first, second in pairs:
        other = (second.person,) if first.person != second.person else ()
        lines.append("\t".join(map(str, (*first, *other, second.number))))
    return "\n".join(lines) + "\n"


def _header(told: str, line: str) -> tuple[int, int]:
    fields = line.split()
    if len(fields) > 2 or not all(field.isascii() and field.isdigit() and len(field) < 10 for field in fields):
        raise InputError(
            f"{told}: begins with {line[:60]!r}, not with the folds and the pairs of each kind: 10<tab>300"
        )
    folds, each = (int(field) for field in (fields if len(fields) == 2 else ["1", *fields]))
    if folds < 1 or each < 1:
        raise InputError(f"{told}: begins with {line.strip()!r}: at least one fold of one pair of each kind is needed")
    return folds, each


def _pair(told: str, fold: int, line: str, *, matched: bool) -> Pair:
    fields = line.strip().split("\t") if "\t" in line else line.split()
    wanted = 3 if matched else 4
    if len(fields) != wanted:
        what = "name, number, number" if matched else "name, number, name, number"
        raise InputError(f"{told}: is {line.strip()[:80]!r}; here stands a pair of {what}")
    person, other = (fields[0], fields[0]) if matched else (fields[0], fields[2])
    pair = Pair(fold, Face(person.strip(), _number(told, fields[1])), Face(other.strip(), _number(told, fields[-1])))
    for face in pair[1:]:
        if not face.person or face.person.startswith(".") or any(sign in face.person for sign in "/\\\0"):
            raise InputError(f"{told}: {face.person!r} is no person's name")
    if pair.same != matched:
        raise InputError(f"{told}: has one person twice, {person!r}, where a pair of two persons stands")
    if pair.first == pair.second:
        raise InputError(f"{told}: pairs {pair.first} with itself")
    return pair


def _number(told: str, text: str) -> int:
    text = text.strip()
    if not text.isascii() or not text.isdigit() or not 1 <= len(text) < 10 or int(text) < 1:
        raise InputError(f"{told}: {text[:20]!r} is no picture's number, which counts from 1")
    return int(text)

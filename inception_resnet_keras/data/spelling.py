"""Names of classes and groups: one form of each name, and notes on different names that look alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from ..common.console import printable

SHOWN = 5


def canonical(name: str) -> str:
    """The name with composed letters (Unicode's form NFC).

    "é" may be written as one character or as two, depending on the system. Both look the same and are one name.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def look_alike(name: str) -> str:
    """A key that is equal for names that differ only in case, spaces, leading zeros or invisible characters."""
    try:
        return f"number {float(name):g}"
    except ValueError:
        folded = unicodedata.normalize("NFKC", name).casefold()
    letters = "".join(sign for sign in folded if sign != "_" and unicodedata.category(sign)[0] not in "ZC")
    return re.sub(r"(?<![\d.])0+(?=\d)", "", letters)


def alike_names(names: Iterable[str]) -> list[list[str]]:
    """The sets of two or more names that look alike, sorted."""
    by_key: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        by_key.setdefault(look_alike(name), []).append(name)
    return [several for several in by_key.values() if len(several) > 1]


def alike_note(what: str, names: Iterable[str]) -> list[str]:
    """A note if some names look alike; they count as different ones.

    Args:
        what: The plural of what is named: "classes" or "groups".
        names: The names.
    """
    found = alike_names(names)
    if not found:
        return []
    shown = "; ".join(" and ".join(printable(repr(name)) for name in several[:SHOWN]) for several in found[:SHOWN])
    more = f"; and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
    return [
        f"these {what} count as different, although their names differ only in upper and lower case, spaces, leading "
        f"zeros or invisible characters: {shown}{more}; if they are the same, give them one name"
    ]


def written_as(name: str, among: Iterable[str]) -> str:
    """A name and, in parentheses, a name among others that looks like it: "'Cat' (written 'cat' there)"."""
    key = look_alike(name)
    other = next((each for each in among if look_alike(each) == key), None)
    return repr(name) if other is None else f"{name!r} (written {other!r} there)"

"""Checks of single arguments. Each raises InputError with the argument's name, its value and the accepted values."""

from __future__ import annotations

import difflib
import math
import numbers
import re
from collections.abc import Hashable, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeGuard

from .errors import refuse

LONGEST_INTEGER = 63  # bits without the sign; no framework takes longer ones
MOST = 2**31 - 1  # the largest count; the product of two still fits in 64 bits


def is_integer(value: Any) -> bool:
    """Whether the value is an integer (not a bool) of at most 64 bits, sign included."""
    integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return integer and int(value).bit_length() <= LONGEST_INTEGER


def is_number(value: Any) -> TypeGuard[float]:
    """Whether the value is a finite real number (not a bool)."""
    try:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def is_unicode(text: str) -> bool:
    """Whether a text can be encoded in UTF-8. A file name with bytes in another encoding cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def positive_integer(argument: str, value: Any, most: int = MOST) -> int:
    """An integer from 1 to `most`."""
    if not is_integer(value) or not 1 <= value <= most:
        above = isinstance(value, int) and value > most
        raise refuse(argument, value, "an integer of at least 1" + (f", at most {most}" if above else ""))
    return int(value)


def number_between(argument: str, value: Any, low: float, high: float, takes: str) -> float:
    """A number in [low, high). `takes` describes the range in the error message."""
    if not is_number(value) or not low <= value < high:
        raise refuse(argument, value, takes)
    return float(value)


def count_or_share(argument: str, value: Any, what: str) -> float:
    """A count (an integer of at least 0) or a share (a float in [0, 1)). `what` names the counted things."""
    if not (is_integer(value) and value >= 0) and not (is_number(value) and 0 <= value < 1):
        raise refuse(argument, value, f"a number of {what}, at least 0, or a share of them below 1")
    return value


def read_size(text: str) -> int | tuple[int, int] | None:
    """An image size in pixels from the command line, SIDE or HEIGHTxWIDTH; None if the text is neither."""
    found = re.fullmatch(r"(-?\d{1,9})(?:[x×](-?\d{1,9}))?", text, flags=re.ASCII)
    if found is None:
        return None
    return int(found[1]) if found[2] is None else (int(found[1]), int(found[2]))


def value_range_of(argument: str, value: Any) -> tuple[float, float]:
    """A pair (low, high): the values that become 0 and 255 in images of more than 8 bits."""
    pair = isinstance(value, tuple | list) and len(value) == 2 and all(map(is_number, value))
    if not pair or not value[0] < value[1]:
        raise refuse(argument, value, "two numbers, low < high: the values that become 0 and 255")
    return float(value[0]), float(value[1])


def boolean(argument: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise refuse(argument, value, "True or False")
    return value


def text_of(argument: str, value: Any, takes: str = "a text or a path") -> str:
    """A name or path that is not empty, given as a string or a path-like object."""
    if not isinstance(value, str | PathLike) or not isinstance(text := fspath(value), str) or not text:
        raise refuse(argument, value, takes)
    return text


def path_of(argument: str, value: Any) -> Path:
    """A path, given as a string or a path-like object."""
    return Path(text_of(argument, value, "a path"))


def one_of(argument: str, value: Any, choices: Sequence[Any]) -> Any:
    """One of the choices."""
    if not isinstance(value, Hashable) or value not in choices:  # an array is refused first: its == gives an array
        raise refuse(argument, value, " or ".join(map(repr, choices)))
    return value


def nearest(word: str, among: Sequence[str]) -> str:
    """The text "; did you mean …?" with the most similar word, to end an error with; "" if no word is similar."""
    near = difflib.get_close_matches(word, among, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""

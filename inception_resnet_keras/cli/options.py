"""Types of command-line options that several verbs take."""

from __future__ import annotations

import argparse

from ..common.arguments import read_size


def size(text: str) -> int | tuple[int, int]:
    """The value of --size: a side, or (height, width)."""
    found = read_size(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"got {text!r}; it takes a side in pixels, such as 299, or HEIGHTxWIDTH")
    return found


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size."""
    return size if isinstance(size, tuple) else (size, size)

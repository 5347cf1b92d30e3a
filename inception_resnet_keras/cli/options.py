"""Command-line options that several verbs take, and their types."""

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


def add_positive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--positive",
        metavar="CLASS",
        help="of two classes the positive one, for sensitivity, AUC, thresholds and so on (default: the second)",
    )


def add_one_crop(parser: argparse.ArgumentParser) -> None:
    """How the one crop of a picture is taken."""
    add = parser.add_argument
    add("--crop-fraction", type=float, metavar="F", help="that one crop looks at, instead of the weights' own")
    add("--crop-mode", choices=("squash", "center"), help="whether one crop keeps the picture's shape, or is square")
    add("--interpolation", choices=("bilinear", "bicubic", "lanczos", "nearest"), help="instead of the weights' own")

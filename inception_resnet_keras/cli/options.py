"""Options of several verbs: their help texts and types."""

from __future__ import annotations

import argparse

from ..common.arguments import read_size

WEIGHTS_HELP = "[NETWORK[:VARIANT]=]WEIGHTS: a checkpoint or a registered name, such as inception_v4=imagenet"
MODEL_HELP = f"a run's folder, a .keras file, or {WEIGHTS_HELP}"
ANY_MODEL_HELP = (
    "a run's folder; a .keras or .h5 model; an exported .onnx, .xml or .tflite file or SavedModel folder; or "
    f"{WEIGHTS_HELP}"
)
PREPROCESSING_HELP = (
    "preprocessing that the model expects, if it cannot be determined from the model (none: values of 0-255)"
)
CLASSES_HELP = "file of class names, one per line, for models that do not contain them"
CROPS_HELP = "crops per picture whose predictions are averaged: 1, 12 or 144"
EMA_HELP = "use the moving averages of the weights, if the checkpoint has them"
GROUP_HELP = "groups of pictures that belong together, such as patients, as for train --group"
MAX_CORRUPT_HELP = "unreadable pictures that may be left out: a number, or a share below 1"


def size(text: str) -> int | tuple[int, int]:
    """The value of --size: a side, or (height, width)."""
    found = read_size(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"got {text!r}; it takes a side in pixels, such as 299, or HEIGHTxWIDTH")
    return found


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a size."""
    return size if isinstance(size, tuple) else (size, size)


def add_value_range(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--value-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="values that become 0 and 255 in pictures of more than 8 bits (default: the model's own)",
    )


def add_positive(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--positive",
        metavar="CLASS",
        help="the positive one of two classes, for sensitivity, AUC, thresholds and so on (default: the second)",
    )


def add_one_crop(parser: argparse.ArgumentParser) -> None:
    """Add the options for a single crop per picture."""
    add = parser.add_argument
    add(
        "--crop-fraction",
        type=float,
        metavar="F",
        help="for a single crop: share of the picture that is used, in (0, 1] (default: that of the weights)",
    )
    add(
        "--crop-mode",
        choices=("squash", "center"),
        help="for a single crop: resize the whole shape to the input (squash), or cut out the central square (center) "
        "(default: that of the weights)",
    )
    add(
        "--interpolation",
        choices=("bilinear", "bicubic", "lanczos", "nearest"),
        help="interpolation for resizing (default: that of the weights)",
    )

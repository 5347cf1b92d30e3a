"""Crops for evaluation: one central crop, or the paper's 12 or 144 crops.

The 144 crops are GoogLeNet's (arXiv 1409.4842, section 7), which the paper adopts. The picture is resized so that its
shorter side has one of four lengths. Three squares are cut from it: left, middle and right, or top, middle and bottom
if the picture is higher than wide. Each square yields its four corners, its centre and the whole square, and all six
mirrored: 4 × 3 × 6 × 2 = 144. The 12 crops are those of the first length's middle square.

GoogLeNet's lengths 256, 288, 320 and 352 are for an input of 224 pixels. For other inputs the ratio is kept: 342, 384,
427 and 470 at 299 pixels. The papers do not publish lengths for other inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from PIL import Image

from ..common.arguments import is_integer, is_number, one_of
from ..common.errors import InputError, refuse
from .images import resized

Crops = Literal[1, 12, 144]
CropMode = Literal["squash", "center"]
Interpolation = Literal["bilinear", "bicubic", "lanczos", "nearest"]
CROPS: tuple[Crops, ...] = get_args(Crops)
MODES: tuple[CropMode, ...] = get_args(CropMode)
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)
LEAST_DRAFT = 2  # `images.decode` never decodes a JPEG below this multiple of the size that is enough
GOOGLENET_SIDE, GOOGLENET_LENGTHS = 224, (256, 288, 320, 352)
Box = tuple[float, float, float, float]  # top, left, height, width


@dataclass(frozen=True)
class View:
    """How a picture is cropped and resized to a network's input.

    Attributes:
        size: (height, width) of the input, in pixels.
        fraction: Share of the picture that is used, in (0, 1].
        mode: "squash" resizes the middle, `fraction` of each side, to `size` whatever its shape, as TF-Slim's
            evaluation does; with a `fraction` of 1 that is the whole picture. "center" resizes the picture so that its
            shorter side is `size` / `fraction`, and cuts out the middle `size`, as timm and torchvision do; square
            inputs only.
        interpolation: "bilinear", "bicubic", "lanczos" or "nearest"; all but "nearest" with antialiasing.
        value_range: The values that become 0 and 255 in a picture of more than 8 bits, as for `images.read_image`.
    """

    size: tuple[int, int]
    fraction: float = 1.0
    mode: str = "squash"
    interpolation: str = "bilinear"
    value_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not all(is_integer(side) and side > 0 for side in self.size):
            raise refuse("size", self.size, "(height, width), integers of at least 1")
        if not is_number(self.fraction) or not 0 < self.fraction <= 1:
            raise refuse("crop fraction", self.fraction, "a number in (0, 1]")
        one_of("crop mode", self.mode, MODES)
        one_of("interpolation", self.interpolation, INTERPOLATIONS)
        if self.mode == "center":
            self.side()

    @property
    def plain(self) -> bool:
        """Whether `read_image` makes the same pixels, as training and `predict` do."""
        return (self.mode, self.interpolation) == ("squash", "bilinear")

    def for_crops(self, count: int) -> View:
        """The view to use with `count` crops; 12 and 144 crops have fixed places and need a square input."""
        if count == 1:
            return self
        side = self.side()
        return View((side, side), interpolation=self.interpolation, value_range=self.value_range)

    def side(self) -> int:
        """The side of a square input; raises InputError if the input is not square."""
        if self.size[0] != self.size[1]:
            raise InputError(f"crops: square crops need a square input, and this is {self.size[0]}×{self.size[1]}")
        return self.size[0]


@dataclass(frozen=True)
class Changes:
    """Settings that replace those of a view; None keeps the view's own. Checked as `View` checks its own."""

    fraction: float | None = None
    mode: str | None = None
    interpolation: str | None = None

    def __post_init__(self) -> None:
        self.of(View((1, 1)))

    def of(self, view: View) -> View:
        return View(
            view.size,
            view.fraction if self.fraction is None else self.fraction,
            view.mode if self.mode is None else self.mode,
            view.interpolation if self.interpolation is None else self.interpolation,
            view.value_range,
        )


class Crop(NamedTuple):
    """A part of a picture.

    Attributes:
        grid: (height, width) of the whole picture after a notional resize; `box` is given on this grid.
        box: Top, left, height and width. The content of the box is resized to the network's input.
        mirrored: Whether the crop is mirrored left to right.
    """

    grid: tuple[int, int]
    box: Box
    mirrored: bool = False

    def window(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The box as left, top, right and bottom, in pixels of a picture of this height and width."""
        down, across = height / self.grid[0], width / self.grid[1]
        top, left, tall, wide = self.box
        return left * across, top * down, min((left + wide) * across, width), min((top + tall) * down, height)


def make_crops(view: View, count: int, height: int, width: int) -> list[Crop]:
    """The 1, 12 or 144 crops of a picture of this height and width."""
    if one_of("crops", count, CROPS) == 1:
        return [central_crop(view, height, width)]
    every = googlenet_crops(view.side(), height, width)
    return every if count == 144 else every[12:24]


def central_crop(view: View, height: int, width: int) -> Crop:
    """The single crop of a view."""
    if view.mode == "squash":
        top, left = (side * (1 - view.fraction) / 2 for side in (height, width))
        return Crop((height, width), (top, left, height - 2 * top, width - 2 * left))
    side = view.side()
    grid = shorter_side_to(math.floor(side / view.fraction), height, width)
    return Crop(grid, (round((grid[0] - side) / 2), round((grid[1] - side) / 2), side, side))


def googlenet_crops(side: int, height: int, width: int) -> list[Crop]:
    """All 144 crops, ordered by length, square (from the top or left), place and mirroring.

    The places are the corners (top left, top right, bottom left, bottom right), the centre, and the whole square.
    """
    found = []
    for length in lengths(side):
        grid = shorter_side_to(length, height, width)
        for square in squares(*grid):
            for box in places(square, side):
                found += [Crop(grid, box, mirrored) for mirrored in (False, True)]
    return found


def lengths(side: int) -> list[int]:
    """The four lengths of the shorter side, for an input of `side` pixels."""
    return [round(length * side / GOOGLENET_SIDE) for length in GOOGLENET_LENGTHS]


def shorter_side_to(length: int, height: int, width: int) -> tuple[int, int]:
    """The height and width of a picture after its shorter side is resized to `length`, rounded down."""
    if height <= width:
        return length, int(length * width / height)
    return int(length * height / width), length


def squares(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """The left, middle and right square of a picture, or top, middle and bottom if it is higher than wide."""
    side = min(height, width)
    spare = max(height, width) - side
    offsets = (0, spare // 2, spare)
    return [(offset, 0, side, side) if height > width else (0, offset, side, side) for offset in offsets]


def places(square: tuple[int, int, int, int], side: int) -> list[tuple[int, int, int, int]]:
    """Six boxes of a square: its four corners and its centre, each with sides of `side`, and the whole square."""
    top, left, length, _ = square
    far, middle = length - side, (length - side) // 2
    offsets = ((0, 0), (0, far), (far, 0), (far, far), (middle, middle))
    return [*((top + down, left + across, side, side) for down, across in offsets), square]


Enough = tuple[float, float] | None


def decoding_size(view: View, count: int) -> Enough:
    """The argument `enough` of `images.decode`: a size for one plain crop, otherwise None, the picture's full size.

    With a size, a large JPEG may be decoded at a fraction of its size, the same fraction as in `read_image`.
    """
    if count > 1 or not view.plain:
        return None
    return view.size[0] / view.fraction, view.size[1] / view.fraction


def decoded(decode: Callable[[Enough], Image.Image], sizes: Iterable[Enough]) -> dict[Enough, Image.Image]:
    """Decode a picture for each of several sizes, and again only if a JPEG would be decoded at another fraction."""
    found: dict[Enough, Image.Image] = {}
    for enough in sorted(set(sizes), key=lambda size: -math.prod(size or (math.inf,))):
        alike = (image for size, image in found.items() if _comes_alike(image, size, enough))
        found[enough] = next(alike, None) or decode(enough)
    return found


def _comes_alike(image: Image.Image, size: Enough, enough: Enough) -> bool:
    """Whether a picture decoded for `size` would certainly have the same pixels if decoded for `enough`.

    `enough` is no larger than `size`, so that the question is only whether a smaller JPEG fraction would be used.
    """
    if enough is None or (size is not None and (size[0] < enough[0] or size[1] < enough[1])):
        return False
    ways = (image.size, image.size[::-1])  # both orientations, because the picture is turned upright after decoding
    return max(min(width / enough[1], height / enough[0]) for width, height in ways) < 2 * LEAST_DRAFT - 0.1


def look(decode: Callable[[Enough], Image.Image], views: Iterable[View], count: int = 1) -> dict[View, np.ndarray]:
    """The crops of one picture for each of several views: uint8 (count, height, width, 3), RGB, 0-255.

    Args:
        decode: Decodes the picture for a size that `decoding_size` returned.
        count: 1, 12 or 144 crops.
    """
    sizes = {view: decoding_size(view, count) for view in views}
    images = decoded(decode, sizes.values())
    return {view: cut(images[size], view, count) for view, size in sizes.items()}


def cut(image: Image.Image, view: View, count: int) -> np.ndarray:
    """The crops of a picture as pixels: uint8 (count, height, width, 3), RGB, 0-255.

    Each crop is resized once, directly from the picture, also the whole square, which GoogLeNet resizes twice.
    """
    if count == 1 and view.plain:
        return np.asarray(resized(image, view.size, view.fraction))[None]
    crops = make_crops(view, count, image.height, image.width)
    found: list[np.ndarray] = []
    for crop in crops:
        found.append(found[-1][:, ::-1] if crop.mirrored else _pixels(image, crop, view))
    return np.stack(found)


def _pixels(image: Image.Image, crop: Crop, view: View) -> np.ndarray:
    method = Image.Resampling[view.interpolation.upper()]
    window = crop.window(image.height, image.width)
    return np.asarray(image.resize((view.size[1], view.size[0]), method, box=window))

"""All random numbers of an epoch, drawn with NumPy as a pure function of seed, epoch and position.

A position is a picture's place in the shuffled epoch. Positions are grouped into blocks of 256, and each block has its
own generator. The draws therefore do not depend on earlier draws, the batch size or the number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .options import DataOptions

BLOCK = 256
BRIGHTNESS = 32.0  # on the scale of 0-255
SATURATION = (0.5, 1.5)
HUE = 0.2
CONTRAST = (0.5, 1.5)
RAND_AUGMENT_OPS = 14


@dataclass(frozen=True)
class Draws:
    """The draws of n pictures, one value or one row per picture.

    Attributes:
        crop: Uniform numbers (n, 4) for aspect, height, top and left.
        move: Uniform numbers (n, 2).
        flip: bool (n,).
        colour: float32 (n, 5): brightness, saturation, hue, contrast, and 1 if brightness is changed first.
        operations: int32 (n, rand_augment).
        strengths: float32 (n, rand_augment), in [-1, 1]; the sign is a direction.
        mix: float32 (n, 4): 1 for CutMix or 0 for MixUp, the picture's own weight from the Beta distribution, and the
            centre of the CutMix patch.
    """

    crop: np.ndarray
    move: np.ndarray
    flip: np.ndarray
    colour: np.ndarray
    operations: np.ndarray
    strengths: np.ndarray
    mix: np.ndarray

    def rows(self, chosen: slice) -> Draws:
        return Draws(**{name: values[chosen] for name, values in vars(self).items()})


@lru_cache(maxsize=4)
def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The index of the picture at each position of an epoch: a permutation."""
    found = np.random.default_rng((seed, epoch)).permutation(count)
    found.flags.writeable = False  # because the cache returns the same array again
    return found


def balanced_order(labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The index of the picture at each position of an epoch in which every class has equally many positions.

    The epoch has the same length as that of `order`. If it is not divisible by the number of classes, randomly drawn
    classes have one position more. A class's pictures are drawn without replacement until all are used, then again.

    Args:
        labels: int (n,), the class of each picture. Classes without pictures are left out.
        seed: The run's seed.
        epoch: Number of the epoch, from 0.

    Returns:
        int64 (n,), in random order.
    """
    random = np.random.default_rng((seed, epoch))
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    classes = [members for members in by_class if len(members)]
    share, rest = divmod(len(labels), len(classes))
    lengths = share + (random.permutation(len(classes)) < rest)
    drawn = [
        np.concatenate([random.permutation(members) for _ in range(-(-length // len(members)))])[:length]
        for members, length in zip(classes, lengths.tolist(), strict=True)
    ]
    return random.permutation(np.concatenate(drawn))


def draws(options: DataOptions, seed: int, epoch: int, first: int, last: int) -> Draws:
    """The draws of the positions from `first` up to, but not including, `last`."""
    blocks = range(first // BLOCK, max(last - 1, first) // BLOCK + 1)
    parts = [vars(_block(options, np.random.default_rng((seed, epoch, 1 + block)))) for block in blocks]
    every = Draws(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    start = blocks.start * BLOCK
    return every.rows(slice(first - start, last - start))


def _block(options: DataOptions, random: np.random.Generator) -> Draws:
    """The draws of a block. All are always drawn, so that turning one option on does not change the others' draws."""
    uniforms = random.random((BLOCK, 16))
    first = uniforms[:, 7] < 0.5
    low, high = np.array([SATURATION, (-HUE, HUE), CONTRAST]).T
    colour = np.column_stack([BRIGHTNESS * (2 * uniforms[:, 8] - 1), low + (high - low) * uniforms[:, 9:12], first])
    cut = uniforms[:, 12] < 0.5 if options.mixup and options.cutmix else np.full(BLOCK, options.cutmix > 0)
    alphas = np.where(cut, options.cutmix, options.mixup)
    weights = random.beta(alphas, alphas) if options.mixes else np.ones(BLOCK)
    return Draws(
        crop=uniforms[:, :4],
        move=uniforms[:, 4:6],
        flip=uniforms[:, 6] < 0.5,
        colour=colour.astype(np.float32),
        operations=random.integers(0, RAND_AUGMENT_OPS, (BLOCK, options.rand_augment), np.int32),
        strengths=(random.choice([-1.0, 1.0], (BLOCK, options.rand_augment)) * (options.rand_magnitude / 10)).astype(
            np.float32
        ),
        mix=np.column_stack([cut, weights, uniforms[:, 13:15]]).astype(np.float32),
    )


def inception_boxes(
    sizes: np.ndarray, uniforms: np.ndarray, area: tuple[float, float], aspect: tuple[float, float]
) -> np.ndarray:
    """The released code's random crops, drawn as TensorFlow's `sample_distorted_bounding_box` draws them.

    An aspect ratio (width / height) is drawn first, then a height for which the crop's area is within bounds and the
    crop fits into the picture, then a place.

    Args:
        sizes: (n, 2), the height and width of each picture.
        uniforms: (n, 4), uniform random numbers in [0, 1).
        area: Lower and upper bound of the crop's share of the picture.
        aspect: Lower and upper bound of the crop's width / height.

    Returns:
        int32 (n, 4): top, left, height and width of each crop; the whole picture if no crop fits.
    """
    heights, widths = sizes.T.astype(np.int64)
    least, most = (share * heights * widths for share in area)
    ratio = aspect[0] + (aspect[1] - aspect[0]) * uniforms[:, 0]
    shortest = np.rint(np.sqrt(least / ratio)).astype(np.int64)
    tallest = np.rint(np.sqrt(most / ratio)).astype(np.int64)
    tallest = np.minimum.reduce([tallest, heights, ((widths + 0.5 - 1e-7) / ratio).astype(np.int64)])
    shortest = np.minimum(shortest, tallest)
    height = shortest + (uniforms[:, 1] * (tallest - shortest + 1)).astype(np.int64)
    width = np.rint(height * ratio).astype(np.int64)
    # Rounding may exceed a bound by one row: correct the height by one.
    height += (height * width < least).astype(np.int64) - (height * width > most)
    width = np.rint(height * ratio).astype(np.int64)
    covered = height * width
    fits = (covered >= least) & (covered <= most) & (height > 0) & (width > 0) & (height <= heights) & (width <= widths)
    height, width = np.where(fits, height, heights), np.where(fits, width, widths)
    top = (uniforms[:, 2] * (heights - height + 1)).astype(np.int64)
    left = (uniforms[:, 3] * (widths - width + 1)).astype(np.int64)
    return np.column_stack([top, left, height, width]).astype(np.int32)


def patches(mix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The patches and label shares of CutMix and MixUp.

    Returns int32 (n, 4), the CutMix patch as top, left, bottom and right, empty for MixUp; and float32 (n,), the
    picture's own share of its label: the uncovered share of the picture for CutMix, the drawn weight for MixUp.
    """
    sides = np.array(size)
    cut, weight = mix[:, 0] > 0, mix[:, 1]
    half = 0.5 * np.sqrt(1 - weight)[:, None] * sides
    centre = mix[:, 2:4] * sides
    corners = np.column_stack([np.rint(centre - half), np.rint(centre + half)])
    corners = np.where(cut[:, None], corners, 0).clip(0, np.tile(sides, 2)).astype(np.int32)
    covered = (corners[:, 2:] - corners[:, :2]).prod(axis=1) / sides.prod()
    return corners, np.where(cut, 1 - covered, weight).astype(np.float32)

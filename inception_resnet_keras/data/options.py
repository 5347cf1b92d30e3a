"""Settings for splitting, reading and augmenting pictures, as frozen dataclasses."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..common.arguments import boolean, is_integer, is_number, number_between, one_of, positive_integer
from ..common.errors import refuse

AUGMENTATIONS = ("none", "shift", "inception")
CACHES = ("none", "memory")
HELD_OUT_SHARE = 0.2
COPY_DISTANCE = 8  # of 64 bits
PARENT, PATTERN = "parent", "re:"  # values of the setting `group`


@dataclass(frozen=True)
class DataOptions:
    """Settings of the input pipeline. An InputError names a field that is out of range.

    The fields from `augmentation` to `cutmix` apply in training only, `central_crop` in evaluation only.

    Args:
        augmentation: "none" resizes the whole picture. "shift" also shifts it by up to `shift` of each side and repeats
            the edge pixels. "inception" is the released code's augmentation: a random box is resized and mirrored at
            random, its brightness changed by up to ±32 of 255 and its saturation by a factor of 0.5 to 1.5.
        shift: Largest shift of "shift", as a share of the side, from 0 to below 0.5.
        area: Smallest and largest share of the picture that the box of "inception" covers, in (0, 1].
        aspect: Smallest and largest width / height of the box of "inception", above 0.
        slow_colour: With "inception", also change hue by up to ±0.2 and contrast by a factor of 0.5 to 1.5 (the
            released code's slow mode).
        rand_augment: Number of RandAugment operations per picture (arXiv 1909.13719), which replace the colour changes
            of "inception"; 0 for none.
        rand_magnitude: Strength of the RandAugment operations, 0 to 10.
        mixup: Alpha of the Beta distribution of MixUp (arXiv 1710.09412); 0 turns it off. Each picture is mixed with
            its neighbour in the shuffled epoch, and labels are float32 (pictures, classes).
        cutmix: The same for CutMix (arXiv 1905.04899). With both, each pair uses one of them, drawn at random.
        central_crop: Share of each side, about the middle, that is used in evaluation, in (0, 1].
        cache: "memory" keeps the files' undecoded bytes in memory after the first reading; "none" does not.
        parallel_calls: Number of decoding threads; None lets tf.data choose.

    Examples:
        >>> DataOptions("inception", area=(0.2, 1.0), mixup=0.2).mixes
        True
    """

    augmentation: str = "shift"
    shift: float = 0.1
    area: tuple[float, float] = (0.05, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    slow_colour: bool = False
    rand_augment: int = 0
    rand_magnitude: float = 9.0
    mixup: float = 0.0
    cutmix: float = 0.0
    central_crop: float = 1.0
    cache: str = "none"
    parallel_calls: int | None = None

    def __post_init__(self) -> None:
        for name in ("area", "aspect"):
            if isinstance(value := getattr(self, name), list):  # TOML and JSON have no tuples
                object.__setattr__(self, name, tuple(value))
        one_of("augmentation", self.augmentation, AUGMENTATIONS)
        one_of("cache", self.cache, CACHES)
        number_between("shift", self.shift, 0, 0.5, "a number from 0 to below 0.5, a share of the side")
        _ordered("area", self.area, 1.0)
        _ordered("aspect", self.aspect, float("inf"))
        boolean("slow_colour", self.slow_colour)
        if not is_integer(self.rand_augment) or self.rand_augment < 0:
            raise refuse("rand_augment", self.rand_augment, "an integer of at least 0")
        for field, most in (("rand_magnitude", 10), ("mixup", float("inf")), ("cutmix", float("inf"))):
            value = getattr(self, field)
            if not is_number(value) or not 0 <= value <= most:
                raise refuse(field, value, "a number of at least 0" + (f", at most {most}" if field[0] == "r" else ""))
        if not is_number(self.central_crop) or not 0 < self.central_crop <= 1:
            raise refuse("central_crop", self.central_crop, "a number in (0, 1]")
        if self.parallel_calls is not None:
            positive_integer("parallel_calls", self.parallel_calls)

    @property
    def mixes(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0


def _ordered(argument: str, value: tuple[float, float], most: float) -> None:
    pair = isinstance(value, tuple | list) and len(value) == 2 and all(map(is_number, value))
    if not pair or not 0 < value[0] <= value[1] <= most:
        raise refuse(argument, value, f"two numbers, 0 < low ≤ high{' ≤ 1' if most == 1 else ''}")


@dataclass(frozen=True)
class SplitRules:
    """How pictures are split into parts.

    Attributes:
        val_fraction, test_fraction: Shares of each class that are held out and tested, in [0, 1).
        seed: Seed of the random split.
        folds: Number of folds into which the pictures outside the test part are divided, instead of `val_fraction`; 0
            for no folds.
        fold: The fold that is held out, counted from 1.
    """

    val_fraction: float = HELD_OUT_SHARE
    test_fraction: float = 0.0
    seed: int = 0
    folds: int = 0
    fold: int = 0


def require_group(group: str) -> None:
    """Raise InputError for a pattern that is not a regular expression or has no group in parentheses."""
    if not group.startswith(PATTERN):
        return
    takes = f"{PATTERN} and a regular expression with a group in parentheses, such as '{PATTERN}(patient_\\d+)'"
    try:
        if not re.compile(group.removeprefix(PATTERN)).groups:
            raise refuse("group", group, takes)
    except re.error as error:
        raise refuse("group", group, f"{takes} ({error})") from None

"""How pictures are divided, read and varied: frozen records."""

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
    """What a pipeline does with its pictures; InputError names a field that is out of range.

    The fields from `augmentation` to `cutmix` act in training only, `central_crop` in evaluation only.

    augmentation: "none" resizes the whole picture; "shift" moves it, too, by up to `shift` of each
        side, its edge repeated; "inception" is the released code's: a box of `area` of the picture, of
        an `aspect` ratio, resized, mirrored at random, brightness ±32 of 255, saturation 0.5 to 1.5.
    slow_colour: with "inception", hue ±0.2 and contrast 0.5 to 1.5 too (the released code's slow mode).
    rand_augment: so many RandAugment operations a picture (arXiv 1909.13719), in place of the colours
        of "inception"; 0 for none. rand_magnitude: their strength, 0 to 10.
    mixup, cutmix: alpha of the Beta distribution that pictures are mixed with (arXiv 1710.09412,
        1905.04899); 0 for none; with both, each pair draws which. Labels are then float32
        (pictures, classes). A picture is mixed with its neighbour of the shuffled epoch.
    central_crop: share of each side, about the middle, that evaluation looks at.
    cache: "memory" keeps the files' content, as it is on the disk, after reading it once.
    parallel_calls: how many threads decode; None lets tf.data find out.
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
    """How pictures are divided.

    val_fraction, test_fraction: Shares of each class, in [0, 1).
    folds: Into how many folds the pictures beside the test part are divided, in place of `val_fraction`; 0 for none.
    fold: Which fold is held out, from 1.
    """

    val_fraction: float = HELD_OUT_SHARE
    test_fraction: float = 0.0
    seed: int = 0
    folds: int = 0
    fold: int = 0


def require_group(group: str) -> None:
    """Raises InputError for a pattern that is no regular expression, or has no group in parentheses."""
    if not group.startswith(PATTERN):
        return
    takes = f"{PATTERN} and a regular expression with a group in parentheses, such as '{PATTERN}(patient_\\d+)'"
    try:
        if not re.compile(group.removeprefix(PATTERN)).groups:
            raise refuse("group", group, takes)
    except re.error as error:
        raise refuse("group", group, f"{takes} ({error})") from None

"""What a training run was asked for: checked before work starts, kept in its folder."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .. import spec
from ..arguments import is_integer, number_between, one_of, positive_integer
from ..errors import InputError, refuse
from ..spec.walk import minimum_side

MAX_SIDE = 4096


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    data: folder with a folder of pictures a class; None for scikit-learn's handwritten digits.
    val: folder of the held-out pictures; None holds out a fifth of `data`, drawn by `seed`.
    size: side that pictures are resized to, in pixels.
    epochs, batch_size: at least 1. learning_rate: Adam's peak, above 0.
    shift: training pictures are moved by up to this share of their side, each epoch another way.
    seed: of the split, the weights, the order of the pictures and their shifts.
    """

    data: str | None = None
    val: str | None = None
    model: str = "inception_resnet_v1"
    variant: str = "paper"
    size: int = 75
    epochs: int = 4
    batch_size: int = 32
    learning_rate: float = 1e-3
    shift: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("model", self.model, list(spec.NETWORKS))
        smallest = minimum_side(spec.find(self.model, self.variant))
        if not is_integer(self.size) or not smallest <= self.size <= MAX_SIDE:
            raise refuse("size", self.size, f"an integer from {smallest}, the least for {self.model}, to {MAX_SIDE}")
        positive_integer("epochs", self.epochs)
        positive_integer("batch_size", self.batch_size)
        number_between("learning_rate", self.learning_rate, 1e-12, 1e3, "a number above 0, at most 1000")
        number_between("shift", self.shift, 0, 0.5, "a number from 0 to below 0.5, a share of the side")
        if not is_integer(self.seed) or not 0 <= self.seed < 2**32:
            raise refuse("seed", self.seed, "an integer from 0 to 4294967295")
        if self.val is not None and self.data is None:
            raise InputError("val: a validation folder needs a training folder: give data too")

    @property
    def dataset(self) -> str:
        return "digits" if self.data is None else Path(self.data).resolve().name

    def command(self, out: Path) -> str:
        """The command line that runs it again, every choice written out."""
        given = {**asdict(self), "out": str(out)}
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in given.items() if value is not None]
        return shlex.join(["inception-resnet-keras", "train", *flags])


def read_config(path: Path) -> TrainConfig:
    """The configuration that a run's config.json holds; InputError where it is missing or damaged."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))["config"]
        return TrainConfig(**{field.name: found[field.name] for field in fields(TrainConfig)})
    except FileNotFoundError:
        raise InputError(f"{path.parent}: holds no run: there is no config.json in it") from None
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: is damaged or of another program ({error!r})") from None

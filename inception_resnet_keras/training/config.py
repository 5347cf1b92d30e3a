"""What a training run was asked for: checked before work starts, kept in its folder."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from .. import networks
from ..common.arguments import boolean, count_or_share, is_integer, nearest, number_between, one_of, positive_integer
from ..common.console import PROGRAM
from ..common.errors import InputError, refuse
from ..data import DIGITS, DIGITS_SEED
from ..data.options import DataOptions
from ..networks.trace import minimum_side, trace

MAX_SIDE = 4096

INFINITY = float("inf")

AT_LEAST_0 = "a number of at least 0"

IN_0_1 = "a number in [0, 1)"
# (lowest, below which, how the range is told)
RANGES: dict[str, tuple[float, float, str]] = {
    "learning_rate": (1e-12, 1e3, "a number above 0, at most 1000"),
    "momentum": (0, 1, IN_0_1),
    "rho": (0, 1, IN_0_1),
    "epsilon": (1e-12, 1e3, "a number above 0"),
    "warmup": (0, 1, "a number in [0, 1), a share of the steps"),
    "decay_rate": (1e-6, 1 + 1e-9, "a number above 0, at most 1"),
    "decay_epochs": (1e-6, INFINITY, "a number above 0, in epochs"),
    "l2": (0, INFINITY, AT_LEAST_0),
    "weight_decay": (0, 1, IN_0_1),
    "label_smoothing": (0, 1, IN_0_1),
    "aux_weight": (0, INFINITY, f"{AT_LEAST_0}; 0 builds no auxiliary head"),
    "dropout": (0, 1, f"{IN_0_1}, the share dropped"),
    "clip_norm": (0, INFINITY, f"{AT_LEAST_0}; 0 clips nothing"),
    "average": (0, 1, f"{IN_0_1}; 0 averages nothing"),
    "layer_rate": (1e-6, 1 + 1e-9, "a number above 0, at most 1"),
    "checkpoint_minutes": (0, INFINITY, f"{AT_LEAST_0}; 0 writes one at every step"),
}

CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": ("adam", "adamw", "sgd", "rmsprop"),
    "schedule": ("cosine", "exponential", "constant"),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
    "strategy": ("auto", "one", "mirrored", "multiworker"),
}

SWITCHES = ("freeze_batch_norm", "deterministic", "jit", "remat", "tensorboard")


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    data: what `data.sources.open_source` opens; None for scikit-learn's handwritten digits.
    val: the held-out pictures, likewise; None holds out a fifth of `data`, drawn by `seed`.
    size: side that pictures are resized to, in pixels.
    epochs, batch_size: at least 1; batch_size is an optimizer step's, over all workers.
    augmentation: of training pictures: "none", "shift" or "inception" (the released code's crops,
        mirroring and colours). shift, area, aspect, slow_colour, rand_augment, rand_magnitude, mixup,
        cutmix, cache, parallel_calls: see `data.options.DataOptions`.
    central_crop: share of each side that evaluation looks at, and `predict` after it.
    max_corrupt: how many pictures may be unreadable before the run stops: a number, or a share below 1.
    seed: of the split, the weights, the order of the pictures, how they vary, and dropout.

    optimizer: "adam", "adamw", "sgd" (Nesterov) or "rmsprop" (TensorFlow 1's, as the paper has it).
    learning_rate: its peak. momentum: of sgd and rmsprop. rho, epsilon: of rmsprop.
    schedule: "cosine" to 0, "exponential" (times decay_rate every decay_epochs, in stairs) or
        "constant"; each after a linear rise over `warmup`, a share of the steps. Where `head_epochs`
        make two phases, each has its own rise and schedule, over its own steps.
    l2: Keras's coefficient on every kernel, added to the loss. weight_decay: adamw's, of kernels only.
    label_smoothing, dropout: shares. aux_weight: of the auxiliary head's loss; 0 builds none.
    batch_norm_momentum: None for one that suits the run's number of steps.
    clip_norm: the gradient's greatest length, all variables together; 0 for none.
    average: share kept at a step by the running average of the weights, batch-norm statistics
        included, which is what is evaluated and saved; 0 for none.

    weights: a checkpoint or registered name to start from, its classifier left out.
    head_epochs: so many of the epochs train the classifier alone. unfreeze_from: the stage (such as
        "b01") from which on the rest is trained after that; None for all of it. layer_rate: each
        stage below the classifier learns this much slower than the one above it.
    freeze_batch_norm: whether batch-norm layers keep their statistics and offsets.

    checkpoint_minutes: how often, besides at each epoch's end. keep: the newest so many are kept.
    deterministic: the same bits in every run, slower: TensorFlow then decodes training pictures one after
        another, too.
    precision, jit, remat: of the computation. accumulate: micro-batches that a batch is computed in.
    strategy: "auto", "one" device, "mirrored" over this machine's, or "multiworker".
    tensorboard: whether to write its event files too.
    """

    data: str | None = None
    val: str | None = None
    model: str = "inception_resnet_v1"
    variant: str = "paper"
    size: int = 75
    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 1e-3
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
    max_corrupt: int | float = 0.05
    seed: int = 0
    optimizer: str = "adam"
    momentum: float = 0.9
    rho: float = 0.9
    epsilon: float = 1.0
    schedule: str = "cosine"
    warmup: float = 0.1
    decay_rate: float = 0.94
    decay_epochs: float = 2.0
    l2: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    dropout: float = 0.2
    aux_weight: float = 0.0
    batch_norm_momentum: float | None = None
    clip_norm: float = 0.0
    average: float = 0.0
    weights: str | None = None
    head_epochs: int = 0
    unfreeze_from: str | None = None
    layer_rate: float = 1.0
    freeze_batch_norm: bool = False
    checkpoint_minutes: float = 10.0
    keep: int = 2
    deterministic: bool = False
    precision: str = "float32"
    jit: bool = False
    accumulate: int = 1
    remat: bool = False
    strategy: str = "auto"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        one_of("model", self.model, list(networks.NETWORKS))
        network = networks.find(self.model, self.variant)
        for name, (low, high, takes) in RANGES.items():
            number_between(name, getattr(self, name), low, high, takes)
        for name, choices in CHOICES.items():
            one_of(name, getattr(self, name), choices)
        for name in SWITCHES:
            boolean(name, getattr(self, name))
        for name in ("epochs", "batch_size", "keep", "accumulate"):
            positive_integer(name, getattr(self, name))
        if self.aux_weight and not network.aux:
            raise refuse("aux_weight", self.aux_weight, f"0: the {self.variant} variant has no auxiliary head")
        smallest = minimum_side(network, aux_head=self.aux_weight > 0)
        if not is_integer(self.size) or not smallest <= self.size <= MAX_SIDE:
            raise refuse("size", self.size, f"an integer from {smallest}, the least for {self.model}, to {MAX_SIDE}")
        if not is_integer(self.seed) or not 0 <= self.seed < 2**32:
            raise refuse("seed", self.seed, "an integer from 0 to 4294967295")
        if self.batch_norm_momentum is not None:
            number_between("batch_norm_momentum", self.batch_norm_momentum, 0, 1, f"{IN_0_1}, or nothing")
        if self.batch_size % self.accumulate:
            raise refuse("accumulate", self.accumulate, f"an integer that divides the batch of {self.batch_size}")
        for name in ("data", "val", "weights", "unfreeze_from"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise refuse(name, value, "a text that is not empty, or nothing")
        self._check_pictures()
        self._check_fine_tuning(network)

    def _check_pictures(self) -> None:
        for name in ("area", "aspect"):
            if isinstance(getattr(self, name), list):  # as TOML and JSON have it
                object.__setattr__(self, name, tuple(getattr(self, name)))
        self.data_options()
        count_or_share("max_corrupt", self.max_corrupt, "pictures")
        if self.val is not None and self.data is None:
            raise InputError("val: held-out pictures need a training set: give data too")

    def _check_fine_tuning(self, network: Any) -> None:
        if not is_integer(self.head_epochs) or not 0 <= self.head_epochs <= self.epochs:
            raise refuse("head_epochs", self.head_epochs, f"an integer from 0 to the {self.epochs} epochs in all")
        stages = list(dict.fromkeys(node.place for node in trace(network, (None, None), classes=None)))[1:]
        if self.unfreeze_from is not None and self.unfreeze_from not in stages:
            raise refuse("unfreeze_from", self.unfreeze_from, f"a stage of {self.model}: {', '.join(stages)}")
        asked = [name for name in ("head_epochs", "unfreeze_from", "freeze_batch_norm") if getattr(self, name)]
        if asked and self.weights is None:
            raise InputError(f"{asked[0]}: freezing layers needs trained ones: give weights too")
        if self.weight_decay and self.optimizer != "adamw":
            raise refuse("weight_decay", self.weight_decay, f"0 with {self.optimizer}: it is adamw's; give l2 instead")

    def data_options(self) -> DataOptions:
        """How the pipeline reads and varies pictures; InputError names a setting that is out of range."""
        return DataOptions(**{field.name: getattr(self, field.name) for field in fields(DataOptions)})

    @property
    def dataset(self) -> str:
        """What the run's folder is named after."""
        if self.data is None:
            return DIGITS
        return Path(self.data).resolve().name.removesuffix(".csv").replace(":", "-")

    @property
    def split_seed(self) -> int:
        """Draws the fifth that is held out where no `val` is given."""
        return DIGITS_SEED if self.data is None else self.seed

    def anywhere(self) -> TrainConfig:
        """The same with absolute paths: a run can be gone on with from any folder.

        A registered name of weights stays one, though a folder here may be called the same.
        """
        from ..data.sources import absolute_source
        from ..weights.load import is_name

        found: dict[str, Any] = {
            name: absolute_source(place) for name in ("data", "val") if (place := getattr(self, name))
        }
        if self.weights is not None and Path(self.weights).exists() and not is_name(self.weights):
            found["weights"] = os.path.abspath(self.weights)
        return replace(self, **found)

    def command(self) -> str:
        """The command line that runs it again, into another folder, every choice written out."""
        flags, settings = [], []
        for key, value in asdict(self).items():
            usual = getattr(_DEFAULTS, key)
            if value is None or (value == usual and (key in SWITCHES or key not in FLAGS)):
                continue
            if key not in FLAGS:
                settings.append(f"--set={key}={_toml(value)}")
            else:
                flag = f"--{key.replace('_', '-')}"
                flags.append(flag if key in SWITCHES else f"{flag}={value}")
        return shlex.join([PROGRAM, "train", *flags, *settings])


# The settings that have a flag of their own; every one has `--set key=value`.
FLAGS = (
    *("data", "val", "model", "variant", "size", "epochs", "batch_size", "learning_rate", "shift", "seed", "weights"),
    *("strategy", "precision", "jit", "accumulate", "remat", "tensorboard"),
)
# What a run can be gone on with otherwise: how it is computed and kept, not what it has learnt.
CHANGEABLE = (
    *("strategy", "jit", "accumulate", "remat", "checkpoint_minutes", "keep", "cache", "parallel_calls"),
    "tensorboard",
)
# What came after the first runs that can be gone on with, which did as these settings' defaults say.
ADDED = (
    *("augmentation", "area", "aspect", "slow_colour", "rand_augment", "rand_magnitude", "mixup", "cutmix"),
    *("central_crop", "cache", "parallel_calls", "max_corrupt"),
)

_DEFAULTS = TrainConfig()


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value) if isinstance(value, tuple) else value)


def read_config(path: Path, *, newer: bool = False) -> TrainConfig:
    """The configuration that a run's config.json holds, as `stored_config`.

    newer: whether settings that this version does not know are passed over.
    """
    return stored_config(path, newer=newer)[0]


def stored_config(path: Path, *, newer: bool = False) -> tuple[TrainConfig, list[str]]:
    """The configuration that a run's config.json holds, and which of its settings an older version did not write.

    Raises InputError where the file is missing or damaged, lacks a setting whose default is not what an older version
    did, or holds one that is none.
    """
    names = [field.name for field in fields(TrainConfig)]
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))["config"]
        if not isinstance(found, dict):
            raise TypeError("its config is no table")
        unknown = [name for name in found if name not in names]
        missing = [name for name in names if name not in found]
        if unknown and not newer:
            raise InputError(
                f"{path}: holds {unknown[0]!r}, which is no setting of this version{nearest(unknown[0], names)}"
            )
        if lost := [name for name in missing if name not in ADDED]:
            raise KeyError(*lost)
        return TrainConfig(**{name: found[name] for name in names if name in found}), missing
    except FileNotFoundError:
        raise InputError(f"{path.parent}: holds no run: there is no config.json in it") from None
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: is damaged or of another program ({error!r})") from None

"""The settings of a training run: checked when they are made, read from recipes and stored in the run's folder.

Every setting has one key, the same on the command line (`--set key=value`), in a recipe's TOML file, in a run's
config.json and in `finetune(..., key=value)`.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .. import networks
from ..common.arguments import (
    boolean,
    count_or_share,
    is_integer,
    number_between,
    one_of,
    positive_integer,
    value_range_of,
)
from ..common.console import PROGRAM
from ..common.errors import InputError, refuse
from ..common.files import real_path
from ..data import DIGITS, DIGITS_SEED
from ..data.options import COPY_DISTANCE, HELD_OUT_SHARE, DataOptions, SplitRules, require_group
from ..data.spelling import canonical
from ..networks.checks import apply_depths, apply_scale
from ..networks.rows import Network
from ..networks.trace import minimum_side, stages, trace

MAX_SIDE = 4096
INFINITY = float("inf")
AT_LEAST_0 = "a number of at least 0"
IN_0_1 = "a number in [0, 1)"
RATE = "a number above 0, at most 1000"
TRUNK_RATE_FACTOR = 0.1  # default learning rate of the second phase, as a factor of the first phase's
# Setting: (lowest value, upper bound, which is excluded, the range in words).
RANGES: dict[str, tuple[float, float, str]] = {
    "learning_rate": (1e-12, 1e3, RATE),
    "val_fraction": (1e-6, 1, "a number above 0 and below 1"),
    "test_fraction": (0, 1, f"{IN_0_1}; 0 draws no test part"),
    "momentum": (0, 1, IN_0_1),
    "rho": (0, 1, IN_0_1),
    "epsilon": (1e-12, 1e3, "a number above 0"),
    "warmup": (0, 1, f"{IN_0_1}, a share of the steps"),
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
    "worker_minutes": (0.01, 1e4, "a number of at least 0.01"),
}

CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": ("adam", "adamw", "sgd", "rmsprop"),
    "schedule": ("cosine", "exponential", "constant"),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16", "auto"),
    "copies": ("together", "allow", "skip"),
    "strategy": ("auto", "one", "mirrored", "multiworker"),
    "sampler": ("none", "balanced"),
    "monitor": ("auto", "accuracy", "balanced_accuracy", "mean_average_precision", "loss"),
}
CLASS_WEIGHTS = ("none", "balanced")  # or a table
CLASS_WEIGHT_TABLE = 'a table of class names and numbers above 0, such as {cat = 1.0, "black dog" = 4.0}'

SWITCHES = ("freeze_batch_norm", "deterministic", "jit", "remat", "tensorboard")
# The settings that belong to the input pipeline. Users write them beside the others; TrainConfig nests them.
DATA_OPTIONS = tuple(each.name for each in fields(DataOptions))


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a training run. `TrainConfig.from_settings` takes all of them as flat keys.

    Args:
        data: The training pictures, in the forms of `data.sources.open_source`. `None` means scikit-learn's
            handwritten digits.
        val: The held-out pictures, in the same forms. `None` uses those declared by `data`, in a folder `val` beside
            `train` or in the column `split` of a CSV file; if there are none, a share of `data` is drawn by `seed`.
        val_fraction: Share of each class that is held out, above 0 and below 1, if neither `val` nor `data` declares
            held-out pictures.
        test_fraction: Share of each class, in [0, 1), that is set aside for one test after the last epoch; 0 for none.
            Test pictures declared by `data` are used as they are.
        group: The property that keeps pictures together on one side of the split, such as the patient: the name of a
            column of the CSV file; "parent" for the folder that contains the picture; or "re:" and a regular
            expression whose first group is searched in the path below `data`, such as "re:(patient_\\d+)". `None`
            uses the column `group` of a CSV file, if it has one.
        copies: "together" keeps identical and near-identical pictures on one side of a drawn split, and leaves out
            training pictures that are copies of declared held-out or test pictures. "allow" only reports copies. "skip"
            does not search for them: no picture is then decoded before the first step (unless the run starts from
            another run's weights), and copies of this run's pictures are not recognised later.
        copy_distance: Largest number of differing bits, of 64, between the perceptual hashes of near-identical
            pictures, 0 to 16.
        model: Name of the network: "inception_v4", "inception_resnet_v1" or "inception_resnet_v2".
        variant: Variant of the network, such as "paper" or "slim".
        depths: Numbers of blocks A, B and C; empty for the variant's own.
        scale: Residual scales of the blocks A, B and C; empty for the variant's own.
        size: Side in pixels to which pictures are resized, at most 4096; or (height, width).
        epochs: Number of epochs, at least 1.
        batch_size: Pictures per optimizer step, summed over all workers.
        learning_rate: Peak of the learning-rate schedule; with `head_epochs`, of the first phase.
        data_options: Settings for reading and augmenting pictures, a `DataOptions`.
        value_range: The values that become 0 and 255 in pictures of more than 8 bits; values outside are clipped.
            Empty computes them from the pictures; the run's config.json stores the result.
        max_corrupt: Number of unreadable pictures that are allowed, or their share as a float below 1; the run stops
            if there are more.
        seed: Seed of the split, the weights, the order of the pictures, the augmentation and dropout, from 0 to 2^32-1.
        split_seed: Seed of the split alone. `None` uses `seed`.
        folds: Number of folds of a cross-validation, at least 2. One run is trained per fold, and every picture outside
            the test part is held out by exactly one of them. Folds are stratified by class and keep groups and copies
            together. 0 trains one run.
        fold: Train this fold only, counted from 1; 0 trains all folds.
        seeds: Number of runs with the seeds `seed`, `seed` + 1 and so on, and the same held-out pictures; 0 trains one
            run.

        class_weight: Factors of the cross entropy by class: "none" (1 for all), "balanced" (pictures / (classes *
            pictures of the class), as in scikit-learn) or a dict of class names and numbers above 0, in which missing
            classes have 1. The loss of a batch is the sum of the weighted cross entropies divided by the number of
            pictures. If the data gives pictures weights, these are multiplied with the weights of their classes.
        sampler: "none" uses every training picture once per epoch. "balanced" gives each class the same share of an
            epoch of the same length: pictures of small classes are used several times, and only some of large classes.
        monitor: The figure on the held-out pictures by which best.keras is chosen and `patience` counts: "accuracy",
            "balanced_accuracy" (the mean of the classes' recalls), "mean_average_precision" (only for several labels
            per picture), or "loss". "auto" means mean_average_precision for several labels; otherwise
            balanced_accuracy if the largest class has more than 1.5 times the training pictures of the smallest, or
            accuracy. The run's config.json stores the choice. Between equal accuracies, the lower held-out loss wins.
        patience: Number of epochs without improvement after which training stops early; 0 never stops early. With
            `head_epochs`, only the epochs after them count.

        optimizer: "adam", "adamw", "sgd" (Nesterov) or "rmsprop" (that of TensorFlow 1, as used by the paper).
        momentum: Momentum of "sgd" and "rmsprop", in [0, 1).
        rho: Decay of the squared gradients of "rmsprop", in [0, 1).
        epsilon: Constant of "rmsprop" that is added inside the square root, above 0.
        schedule: "cosine" (falls to 0), "exponential" (a staircase, multiplied by `decay_rate` every `decay_epochs`) or
            "constant". With `head_epochs`, each of the two phases has its own warm-up and schedule.
        warmup: Share of the steps, in [0, 1), in which the learning rate rises linearly to its peak.
        decay_rate: Factor of "exponential", above 0 and at most 1.
        decay_epochs: Number of epochs between two decays of "exponential".
        l2: Coefficient of Keras's L2 penalty on every kernel, which is added to the loss.
        weight_decay: Decoupled weight decay of "adamw", in [0, 1), applied to kernels only.
        label_smoothing: Share of each label, in [0, 1), that is spread over all classes.
        dropout: Share of the features dropped before the classifier, in [0, 1).
        aux_weight: Weight of the auxiliary head's loss; 0 builds no auxiliary head.
        batch_norm_momentum: Momentum of the batch-norm moving averages, in [0, 1). `None` chooses one by the run's
            number of steps.
        clip_norm: Largest global norm of the gradients; 0 does not clip.
        average: Decay, in [0, 1), of an exponential moving average of all weights and batch-norm statistics, which is
            then evaluated and saved instead of the weights. 0 keeps no average.

        weights: A checkpoint, a run's folder or a registered name to start from. Its classifier is kept if it belongs
            to a run's model with the same classes in the same order, otherwise it is replaced by a new one.
        head_epochs: Number of epochs at the start that train the classifier alone.
        trunk_learning_rate: Peak of the learning rate after `head_epochs`, also for the classifier. `None` means a
            tenth of `learning_rate`.
        unfreeze: Share of the network's stages, from the top, that is trained after `head_epochs`, above 0 and at most
            1; 0.5 trains the upper half. `None` trains all stages.
        unfreeze_from: The lowest stage, such as "b01", that is trained after `head_epochs`; an alternative to
            `unfreeze`.
        layer_rate: Learning rate of each stage as a factor of the stage above it, above 0 and at most 1.
        freeze_batch_norm: Keep the statistics and offsets of the pretrained batch-norm layers.

        worker_minutes: Longest time to wait for the other workers, in minutes.
        checkpoint_minutes: Minutes between checkpoints. A checkpoint is also written at the end of each epoch.
        keep: Number of checkpoints to keep, the newest ones.
        deterministic: Compute bit by bit the same in every run on one CPU with the same number of threads. Slower,
            because pictures are decoded one after another.
        precision: "float32", "mixed_bfloat16", "mixed_float16", or "auto", which means mixed_bfloat16 if a short probe
            measures that it makes a step faster by a fifth. The run's config.json stores the choice.
        jit: Compile the training step with XLA.
        accumulate: Number of micro-batches into which each batch is divided; must divide `batch_size`.
        remat: Recompute the activations inside each stage in the backward pass: less memory, more time.
        strategy: "auto", "one" device, "mirrored" over this machine's devices, or "multiworker".
        tensorboard: Also write TensorBoard event files.

    Raises:
        InputError: A setting is out of range or contradicts another; the message names it.

    Examples:
        >>> config = TrainConfig(data="pictures", size=299, data_options=DataOptions("inception"), epochs=20)
        >>> config.command()
        'inception-resnet-keras train --data=pictures --size=299 --epochs=20 --set=augmentation=inception'
    """

    data: str | None = None
    val: str | None = None
    val_fraction: float = HELD_OUT_SHARE
    test_fraction: float = 0.0
    group: str | None = None
    copies: str = "together"
    copy_distance: int = COPY_DISTANCE
    model: str = "inception_resnet_v1"
    variant: str = "paper"
    depths: tuple[int, ...] = ()
    scale: tuple[float, ...] = ()
    size: int | tuple[int, int] = 75
    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 1e-3
    data_options: DataOptions = field(default_factory=DataOptions)
    max_corrupt: int | float = 0.05
    value_range: tuple[float, ...] = ()
    seed: int = 0
    class_weight: str | dict[str, float] = "none"
    sampler: str = "none"
    monitor: str = "auto"
    patience: int = 0
    split_seed: int | None = None
    folds: int = 0
    fold: int = 0
    seeds: int = 0
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
    trunk_learning_rate: float | None = None
    unfreeze: float | None = None
    unfreeze_from: str | None = None
    layer_rate: float = 1.0
    freeze_batch_norm: bool = False
    worker_minutes: float = 10.0
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
        for name in ("depths", "scale", "size", "value_range"):
            if isinstance(value := getattr(self, name), list):  # TOML and JSON have no tuples
                object.__setattr__(self, name, tuple(value))
        if isinstance(self.size, tuple) and len(self.size) == 2 and self.size[0] == self.size[1]:
            object.__setattr__(self, "size", self.size[0])
        if self.value_range:
            object.__setattr__(self, "value_range", value_range_of("value_range", self.value_range))
        network = self.network
        self._check_single_settings()
        self._check_class_weight()
        self._check_combinations(network)
        self._check_fine_tuning(network)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> TrainConfig:
        """Make a configuration from flat keys; the inverse of `settings`."""
        own = {key: value for key, value in settings.items() if key not in DATA_OPTIONS}
        data_options = DataOptions(**{key: value for key, value in settings.items() if key in DATA_OPTIONS})
        return cls(**own, data_options=data_options)

    def settings(self) -> dict[str, Any]:
        """Every setting by its flat key, in the order of the fields."""
        flat: dict[str, Any] = {}
        for name in (each.name for each in fields(self)):
            if name == "data_options":
                flat |= {key: getattr(self.data_options, key) for key in DATA_OPTIONS}
            else:
                flat[name] = getattr(self, name)
        return flat

    def with_settings(self, settings: Mapping[str, Any]) -> TrainConfig:
        """A copy with some settings changed, given as flat keys."""
        return TrainConfig.from_settings({**self.settings(), **settings})

    def with_absolute_paths(self) -> TrainConfig:
        """A copy with absolute paths, so that the run can be resumed from any folder.

        A registered name of weights stays a name, even if a folder here has the same one.
        """
        from ..data.sources import absolute_source
        from ..weights.load import is_name

        found: dict[str, Any] = {
            name: absolute_source(place) for name in ("data", "val") if (place := getattr(self, name))
        }
        if self.weights is not None and Path(self.weights).exists() and not is_name(self.weights):
            found["weights"] = os.path.abspath(self.weights)
        return replace(self, **found)

    @property
    def dataset(self) -> str:
        """Name of the training data, for the name of the run's folder."""
        if self.data is None:
            return DIGITS
        return real_path(self.data).name.removesuffix(".csv").replace(":", "-")

    @property
    def split_rules(self) -> SplitRules:
        """The rules for drawing a split if neither `val` nor `data` declares one. The digits have a fixed seed."""
        seed = self.split_seed if self.split_seed is not None else DIGITS_SEED if self.data is None else self.seed
        return SplitRules(self.val_fraction, self.test_fraction, seed, self.folds, self.fold)

    def command(self) -> str:
        """The command line that repeats this run in another folder, with all settings that differ from the defaults."""
        flags, pairs = [], []
        for key, value in self.settings().items():
            follows = self.weights is not None and key in FOLLOWING_WEIGHTS
            if value in (None, ()) or (value == DEFAULTS[key] and not follows):
                continue
            if key not in FLAGS:
                pairs.append(f"--set={key}={_toml(value)}")
            else:
                flag = f"--{key.replace('_', '-')}"
                text = "x".join(map(str, value)) if key == "size" and isinstance(value, tuple) else _toml(value)
                flags.append(flag if key in SWITCHES else f"{flag}={text}")
        return shlex.join([PROGRAM, "train", *flags, *pairs])

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of the pictures as the network reads them."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    @property
    def size_text(self) -> str:
        """The size in messages, such as "224×299"."""
        return "×".join(map(str, self.image_size))

    @property
    def network(self) -> Network:
        """The table of the network. Raises InputError if the network, the depths or the scales are not valid."""
        one_of("model", self.model, list(networks.NETWORKS))
        table = apply_depths(networks.find(self.model, self.variant), self.depths or None)
        if self.scale and not networks.is_residual(table):
            raise refuse("scale", self.scale, f"nothing: {self.model} has no residual sums")
        return apply_scale(table, self.scale or True)

    @property
    def first_unfrozen(self) -> str | None:
        """The lowest stage that is trained after `head_epochs`; None if all are trained."""
        if self.unfreeze is None:
            return self.unfreeze_from
        trunk = trunk_stages(self.network)
        return trunk[-max(1, int(self.unfreeze * len(trunk) + 0.5))]  # rounded to the nearest number, halves up

    def phase_rate(self, *, head_only: bool) -> float:
        """The peak learning rate of a phase."""
        if head_only or not self.head_epochs:
            return self.learning_rate
        return self.trunk_learning_rate or TRUNK_RATE_FACTOR * self.learning_rate

    def _check_single_settings(self) -> None:
        for name, (low, high, takes) in RANGES.items():
            number_between(name, getattr(self, name), low, high, takes)
        for name, choices in CHOICES.items():
            one_of(name, getattr(self, name), choices)
        for name in SWITCHES:
            boolean(name, getattr(self, name))
        for name in ("epochs", "batch_size", "keep", "accumulate"):
            positive_integer(name, getattr(self, name))
        for name in ("seed", "split_seed"):
            value = getattr(self, name)
            if (value is not None or name == "seed") and not (is_integer(value) and 0 <= value < 2**32):
                raise refuse(name, value, "an integer from 0 to 4294967295")
        if not is_integer(self.patience) or self.patience < 0:
            raise refuse("patience", self.patience, "an integer of at least 0, in epochs; 0 never stops early")
        if self.batch_norm_momentum is not None:
            number_between("batch_norm_momentum", self.batch_norm_momentum, 0, 1, f"{IN_0_1}, or nothing")
        for name in ("data", "val", "group", "weights", "unfreeze_from"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise refuse(name, value, "a text that is not empty, or nothing")
        if not is_integer(self.copy_distance) or not 0 <= self.copy_distance <= 16:
            raise refuse("copy_distance", self.copy_distance, "an integer from 0 to 16, of 64 bits")
        if not isinstance(self.data_options, DataOptions):
            raise refuse("data_options", self.data_options, "a DataOptions")
        count_or_share("max_corrupt", self.max_corrupt, "pictures")

    def _check_class_weight(self) -> None:
        weights = self.class_weight
        if not isinstance(weights, dict):
            if not isinstance(weights, str) or weights not in CLASS_WEIGHTS:
                raise refuse("class_weight", weights, f"'none', 'balanced' or {CLASS_WEIGHT_TABLE}")
        else:
            if not weights or not all(isinstance(name, str) for name in weights):
                raise refuse("class_weight", weights, CLASS_WEIGHT_TABLE)
            for name, weight in weights.items():
                number_between(f"class_weight: {name}", weight, 1e-6, 1e6, "a number above 0, at most 1000000")
            object.__setattr__(
                self, "class_weight", {canonical(name): float(weight) for name, weight in weights.items()}
            )
        if self.class_weight == self.sampler == "balanced":
            raise refuse(
                "sampler", "balanced", "none with class_weight balanced: both together would favour small classes twice"
            )

    def _check_combinations(self, network: Network) -> None:
        if self.aux_weight and not network.aux:
            raise refuse("aux_weight", self.aux_weight, f"0: the {self.variant} variant has no auxiliary head")
        smallest = minimum_side(network, aux_head=self.aux_weight > 0)
        sides = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        if len(sides) != 2 or not all(is_integer(side) and smallest <= side <= MAX_SIDE for side in sides):
            takes = f"an integer from {smallest}, the least for {self.model}, to {MAX_SIDE}, or two: (height, width)"
            raise refuse("size", self.size, takes)
        if self.batch_size % self.accumulate:
            raise refuse("accumulate", self.accumulate, f"an integer that divides the batch of {self.batch_size}")
        if self.weight_decay and self.optimizer != "adamw":
            raise refuse("weight_decay", self.weight_decay, f"0 with {self.optimizer}; give l2 instead, or adamw")
        if self.deterministic and self.precision == "auto":
            raise refuse(
                "precision", "auto", "another value with deterministic, because the probe's result differs between runs"
            )
        if self.val is not None and self.data is None:
            raise InputError("val: held-out pictures need a training set: give data too")
        if self.val_fraction + self.test_fraction >= 1:
            taken = f"val_fraction is {self.val_fraction:g}"
            raise refuse("test_fraction", self.test_fraction, f"less than {1 - self.val_fraction:g}, because {taken}")
        if self.group is not None:
            require_group(self.group)
        self._check_repetition()

    def _check_repetition(self) -> None:
        if not is_integer(self.folds) or self.folds < 0 or self.folds == 1:
            raise refuse("folds", self.folds, "an integer of at least 2, or 0 for one run")
        if not is_integer(self.fold) or not 0 <= self.fold <= self.folds:
            raise refuse("fold", self.fold, f"0 for all folds, or one of the {self.folds} folds, from 1")
        if not is_integer(self.seeds) or self.seeds < 0 or self.seeds == 1:
            raise refuse("seeds", self.seeds, "an integer of at least 2, or 0 for one run")
        if self.seed + self.seeds > 2**32:
            raise refuse(
                "seed", self.seed, f"at most {2**32 - self.seeds}, because {self.seeds} seeds count up from it"
            )
        if self.folds and self.seeds:
            raise refuse("seeds", self.seeds, "0 with folds: repeat the folds with another --seed")
        if self.folds and self.val is not None:
            raise refuse("folds", self.folds, "0 with val: folds are drawn from the pictures of data")
        if (self.folds or self.seeds) and self.strategy == "multiworker":
            raise refuse("strategy", self.strategy, "auto, one or mirrored with folds and seeds")

    def _check_fine_tuning(self, network: Network) -> None:
        if not is_integer(self.head_epochs) or not 0 <= self.head_epochs <= self.epochs:
            raise refuse("head_epochs", self.head_epochs, f"an integer from 0 to the {self.epochs} epochs in all")
        if self.trunk_learning_rate is not None:
            number_between("trunk_learning_rate", self.trunk_learning_rate, *RANGES["learning_rate"])
            if not self.head_epochs:
                takes = "nothing without head_epochs; the rate of a run with one phase is learning_rate"
                raise refuse("trunk_learning_rate", self.trunk_learning_rate, takes)
        if self.unfreeze_from is not None and self.unfreeze_from not in (trunk := trunk_stages(network)):
            raise refuse("unfreeze_from", self.unfreeze_from, f"a stage of {self.model}: {', '.join(trunk)}")
        if self.unfreeze is not None:
            number_between("unfreeze", self.unfreeze, 1e-6, 1 + 1e-9, "a share above 0, at most 1, of the stages")
            if self.unfreeze_from is not None:
                takes = f"nothing beside unfreeze_from={self.unfreeze_from}, which is an alternative; leave one out"
                raise refuse("unfreeze", self.unfreeze, takes)
        freezing = ("head_epochs", "unfreeze", "unfreeze_from", "freeze_batch_norm")
        given = [name for name in freezing if getattr(self, name)]
        if given and self.weights is None:
            raise InputError(f"{given[0]}: only pretrained layers can be frozen; give weights too")


def trunk_stages(network: Network) -> list[str]:
    """The names of the stages of a network's trunk, from the stem upwards."""
    return [stage.name for stage in stages(trace(network, (None, None), classes=None))][1:]


DEFAULTS = TrainConfig().settings()
KEYS = list(DEFAULTS)
# Settings with a flag of their own; every setting has `--set key=value`.
FLAGS = (
    *("data", "val", "val_fraction", "test_fraction", "group", "model", "variant", "size", "epochs", "batch_size"),
    *("learning_rate", "shift", "seed", "folds", "seeds", "weights", "class_weight", "sampler", "monitor", "patience"),
    *("head_epochs", "trunk_learning_rate", "unfreeze"),
    *("strategy", "precision", "jit", "accumulate", "remat", "tensorboard"),
)
# Settings that are derived from `weights` if they are not given.
FOLLOWING_WEIGHTS = ("model", "variant", "size")
# Settings that may change on `--resume`: they affect how training runs, not what is learned.
CHANGEABLE = (
    *("strategy", "jit", "accumulate", "remat", "worker_minutes", "checkpoint_minutes", "keep", "cache"),
    *("parallel_calls", "tensorboard"),
)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key, ensure_ascii=False)} = {each}" for key, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    return str(list(value) if isinstance(value, tuple) else value)

"""Classes with unequal numbers of pictures: how unequal they are, and the weights in the loss that make up for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..common.arguments import nearest
from ..common.console import cell, counted, say
from ..common.errors import InputError, refuse
from ..data.labelled import Source
from .best_epoch import NAMES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from .config import TrainConfig

UNEVEN = 1.5  # times the pictures of the smallest class
CLASSES_SHOWN = 12  # of more classes, the largest and the smallest half of so many


def unevenness(source: Source) -> float:
    """How many times the pictures of the smallest class the largest one has; infinite if a class has none."""
    counts = source.class_counts
    return float(counts.max() / counts.min()) if counts.min() else float("inf")


def with_chosen_monitor(config: TrainConfig, training: Source) -> TrainConfig:
    """The configuration with a monitor in place of "auto"."""
    if config.monitor != "auto":
        return config
    if training.multi_label:
        return replace(config, monitor="mean_average_precision")
    return replace(config, monitor="balanced_accuracy" if unevenness(training) > UNEVEN else "accuracy")


# ----------------------------------------------------------------------------------------------------------------------
# Weights in the loss
# ----------------------------------------------------------------------------------------------------------------------
def require_balance(config: TrainConfig, training: Source) -> None:
    """Raises InputError if the pictures cannot be weighted or drawn as the settings say."""
    if isinstance(config.class_weight, dict):
        names = list(training.class_names)
        if unknown := [name for name in config.class_weight if name not in names]:
            takes = f"names of the {len(names)} classes: {', '.join(names[:10])}{', …' if len(names) > 10 else ''}"
            raise refuse("class_weight", unknown[0], takes + nearest(unknown[0], names))
    if config.monitor == "mean_average_precision" and not training.multi_label:
        raise refuse("monitor", config.monitor, "another one: it is of pictures that may have several labels")
    if training.multi_label:
        if config.monitor == "balanced_accuracy":
            raise refuse("monitor", config.monitor, "mean_average_precision, accuracy or loss for several labels")
        for name in ("class_weight", "sampler"):
            if getattr(config, name) != "none":
                raise refuse(name, getattr(config, name), "none where a picture may have several labels")
    if training.weights is not None and not training.weights.any():  # of the split, though not of all the data
        raise InputError(
            f"weight: of all {len(training):,} training pictures it is 0: nothing would be learned. Give some of them "
            "a weight above 0, or another split"
        )


def class_weights(config: TrainConfig, training: Source) -> np.ndarray | None:
    """float64 (classes,): the factors of the classes' cross entropies; `None` if all count alike.

    "balanced" gives each class that has pictures n / (classes * count): all classes then weigh the same, and the mean
    weight of the n pictures is 1.
    """
    if config.class_weight == "none":
        return None
    if isinstance(config.class_weight, dict):
        return np.array([config.class_weight.get(name, 1.0) for name in training.class_names])
    counts = training.class_counts
    return np.where(counts, len(training) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)


def weighted(config: TrainConfig, training: Source) -> Source:
    """The pictures with their weights in the loss: the data's own times those of their classes."""
    factors = class_weights(config, training)
    if factors is None:
        return training
    own = 1.0 if training.weights is None else training.weights
    return replace(training, weights=(own * factors[training.labels]).astype(np.float32))


# ----------------------------------------------------------------------------------------------------------------------
# What the user reads before training starts
# ----------------------------------------------------------------------------------------------------------------------
def class_count_table(parts: Mapping[str, Source]) -> Table:
    """The pictures of each class in each part, such as "training"; many classes are shortened.

    parts: Sources of the same classes, the training pictures first.
    """
    from rich.table import Table

    sources = list(parts.values())
    names, counts = sources[0].class_names, np.stack([source.class_counts for source in sources], axis=1)
    order = np.argsort(-counts[:, 0], kind="stable")
    title = "pictures of each class"
    if shortened := len(order) > CLASSES_SHOWN:
        title += f": the {CLASSES_SHOWN // 2} largest and the {CLASSES_SHOWN // 2} smallest of {len(order):,} classes"
    table = Table(title=title, title_justify="left")
    table.add_column("class", overflow="fold")
    for part in parts:
        table.add_column(part, justify="right")
    half = CLASSES_SHOWN // 2
    for place, number in enumerate(order.tolist()):
        if not shortened or place < half or place >= len(order) - half:
            table.add_row(cell(names[number]), *(f"{count:,}" for count in counts[number].tolist()))
        elif place == half:
            table.add_row("…", *["…"] * len(sources))
    table.add_section()
    table.add_row("all pictures", *(f"{len(source):,}" for source in sources))
    return table


def introduce_classes(
    console: Console, config: TrainConfig, training: Source, held_out: Source, test: Source | None = None
) -> None:
    """Prints how many pictures each class has, how uneven that is and what is done about it."""
    parts = {"training": training, "held out": held_out, **({"test": test} if test else {})}
    console.print(class_count_table(parts))
    counts, names = training.class_counts, training.class_names
    most, fewest = int(counts.argmax()), int(counts.argmin())
    times = unevenness(training)
    ratio = f"{names[most]!r} has {times:.3g} times the training pictures of {names[fewest]!r}"
    if not counts[fewest]:
        ratio = f"{names[fewest]!r} has no training pictures, {names[most]!r} has {counts[most]:,}"
    if training.multi_label:
        say(console, f"{ratio}; every label gets a threshold of its own")
    elif times == 1:
        say(console, f"classes are even: {counted(int(counts[most]), 'training picture')} each")
    elif times <= UNEVEN:
        say(console, f"classes are even: {ratio}")
    elif config.class_weight != "none" or config.sampler != "none":
        say(console, f"classes are uneven: {ratio}")
    else:
        hint = "hint: --class-weight balanced or --sampler balanced makes every class count alike"
        say(console, f"classes are uneven: {ratio}, and every picture counts alike. {hint}", style="yellow")
    present = np.flatnonzero(counts)
    rarest = int(present[counts[present].argmin()])
    if (factors := class_weights(config, training)) is not None:
        low, high = int(present[factors[present].argmin()]), int(present[factors[present].argmax()])
        say(
            console,
            f"the loss is weighted by class: from {factors[low]:.4g} ({names[low]!r}) to {factors[high]:.4g} "
            f"({names[high]!r})",
        )
    if config.sampler == "balanced":
        share = len(training) / len(present)
        say(
            console,
            f"every class is drawn {share:,.0f} times an epoch: a picture of {names[most]!r} "
            f"{share / counts[most]:.3g} times, one of {names[rarest]!r} {share / counts[rarest]:.3g} times",
        )
    if training.weights is not None:
        low, high = training.weights.min(), training.weights.max()
        say(console, f"the loss is weighted by picture: the data's weights are from {low:.4g} to {high:.4g}")
    say(console, f"best.keras goes by held-out {NAMES[config.monitor]}")

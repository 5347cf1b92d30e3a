"""Classes with unequal numbers of pictures: a description for the user, and weights in the loss to compensate."""

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

UNEVEN = 1.5  # ratio of the largest to the smallest class above which classes count as uneven
CLASSES_SHOWN = 12  # if there are more classes, only the 6 largest and the 6 smallest are shown


def unevenness(source: Source) -> float:
    """Ratio of the numbers of pictures of the largest and the smallest class; infinite if a class has none."""
    counts = source.class_counts
    return float(counts.max() / counts.min()) if counts.min() else float("inf")


def with_chosen_monitor(config: TrainConfig, training: Source) -> TrainConfig:
    """The configuration with "auto" replaced by the monitor that suits the training pictures."""
    if config.monitor != "auto":
        return config
    if training.multi_label:
        return replace(config, monitor="mean_average_precision")
    return replace(config, monitor="balanced_accuracy" if unevenness(training) > UNEVEN else "accuracy")


# ----------------------------------------------------------------------------------------------------------------------
# Weights in the loss
# ----------------------------------------------------------------------------------------------------------------------
def require_balance(config: TrainConfig, training: Source) -> None:
    """Raise InputError if the pictures cannot be weighted or sampled as the settings demand."""
    if isinstance(config.class_weight, dict):
        names = list(training.class_names)
        if unknown := [name for name in config.class_weight if name not in names]:
            takes = f"names of the {len(names)} classes: {', '.join(names[:10])}{', …' if len(names) > 10 else ''}"
            raise refuse("class_weight", unknown[0], takes + nearest(unknown[0], names))
    if config.monitor == "mean_average_precision" and not training.multi_label:
        raise refuse("monitor", config.monitor, "accuracy, balanced_accuracy, loss or auto for one class per picture")
    if training.multi_label:
        if config.monitor == "balanced_accuracy":
            raise refuse("monitor", config.monitor, "mean_average_precision, accuracy or loss for several labels")
        for name in ("class_weight", "sampler"):
            if getattr(config, name) != "none":
                raise refuse(name, getattr(config, name), "none if pictures may have several labels")
    # Not all weights of the data are 0, but those of the training part may be, by chance of the split.
    if training.weights is not None and not training.weights.any():
        raise InputError(
            f"weight: all {len(training):,} training pictures have the weight 0, so that nothing would be learned. "
            "Give some of them a weight above 0, or change the split"
        )
    if training.weights is not None:
        _require_weighted_classes(training, training.weights)


def _require_weighted_classes(training: Source, weights: np.ndarray) -> None:
    """Raise InputError for a class or label whose training pictures all have the weight 0."""
    if training.multi_label:
        totals = weights.astype(np.float64) @ training.labels
    else:
        totals = np.bincount(training.labels, weights, minlength=len(training.class_names))
    if lacking := np.flatnonzero((training.class_counts > 0) & (totals == 0)).tolist():
        shown = ", ".join([repr(training.class_names[label]) for label in lacking[:10]] + ["…"] * (len(lacking) > 10))
        raise InputError(
            f"weight: all training pictures of {counted(len(lacking), 'class')} have the weight 0, so that nothing "
            f"would be learned about {'it' if len(lacking) == 1 else 'them'}: {shown}. Give some of them a weight "
            "above 0, remove them, or change the split"
        )


def class_weights(config: TrainConfig, training: Source) -> np.ndarray | None:
    """float64 (classes,): the factor of each class's cross entropy; `None` if all factors are 1.

    "balanced" gives each class with pictures the factor n / (classes * count): all classes then have the same total
    weight, and the mean weight of the n pictures is 1.
    """
    if config.class_weight == "none":
        return None
    if isinstance(config.class_weight, dict):
        return np.array([config.class_weight.get(name, 1.0) for name in training.class_names])
    counts = training.class_counts
    return np.where(counts, len(training) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)


def weighted(config: TrainConfig, training: Source) -> Source:
    """The pictures with their weights in the loss: the data's own weights times those of the classes."""
    factors = class_weights(config, training)
    if factors is None:
        return training
    own = 1.0 if training.weights is None else training.weights
    return replace(training, weights=(own * factors[training.labels]).astype(np.float32))


# ----------------------------------------------------------------------------------------------------------------------
# The description of the classes that is printed before training
# ----------------------------------------------------------------------------------------------------------------------
def class_count_table(parts: Mapping[str, Source]) -> Table:
    """A table of the numbers of pictures by class and part; of many classes only the largest and smallest are shown.

    Args:
        parts: Sources with the same classes by the name of their part, the training pictures first.
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
    """Print the number of pictures of each class, how uneven these are, and how weights and sampling compensate."""
    # The table, and one sentence about how uneven the classes are.
    parts = {"training": training, "held out": held_out, **({"test": test} if test else {})}
    console.print(class_count_table(parts))
    counts, names = training.class_counts, training.class_names
    most, fewest = int(counts.argmax()), int(counts.argmin())
    times = unevenness(training)
    ratio = f"{names[most]!r} has {times:.3g} times the training pictures of {names[fewest]!r}"
    if not counts[fewest]:
        ratio = f"{names[fewest]!r} has no training pictures, {names[most]!r} has {counts[most]:,}"
    if training.multi_label:
        say(console, f"{ratio}; every label gets its own threshold")
    elif times == 1:
        say(console, f"classes are even: {counted(int(counts[most]), 'training picture')} each")
    elif times <= UNEVEN:
        say(console, f"classes are even: {ratio}")
    elif config.class_weight != "none" or config.sampler != "none":
        say(console, f"classes are uneven: {ratio}")
    else:
        hint = "hint: --class-weight balanced or --sampler balanced gives every class the same weight"
        say(console, f"classes are uneven: {ratio}, and every picture has the same weight. {hint}", style="yellow")
    # The effect of the settings: weights by class, sampling, weights by picture, and the monitor.
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
            f"every class is sampled {share:,.0f} times per epoch: each picture of {names[most]!r} "
            f"{share / counts[most]:.3g} times, each of {names[rarest]!r} {share / counts[rarest]:.3g} times",
        )
    if training.weights is not None:
        low, high = training.weights.min(), training.weights.max()
        say(console, f"the loss is weighted by picture: the data's weights are from {low:.4g} to {high:.4g}")
    say(console, f"best.keras is chosen by held-out {NAMES[config.monitor]}")

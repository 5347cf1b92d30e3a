"""The steps before training, in order: configuration, checks, pictures, session, messages.

Most of them are shared by `train` and `find_learning_rate`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from ..common.arguments import path_of, text_of
from ..common.console import counted, say
from ..common.devices import missing_gpu
from ..common.errors import InputError, refuse
from ..common.files import real_path
from ..data.datasets import Dataset, is_dataset
from ..data.parts import Parts, split_warnings
from ..data.sources import require_source, source_part
from ..models.precision import AUTO, choose_precision
from ..weights import registry
from ..weights.load import is_name, require
from ..weights.runs import model_of_run
from .cluster import require_agreement, worker
from .config import TrainConfig
from .in_memory import is_model, written
from .optimizers import describe_phases
from .pictures import RunPictures, open_pictures
from .run import RUNS, RunFolder, RunWriter, require_tensorboard
from .settings import configured
from .trouble import estimate_activations

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from .session import Session

BATCH_NORM_MOMENTUM_RANGE = (0.8, 0.9997)
PROBE_CLASSES = 10  # number of classes of the steps that are timed to choose a precision
SETTLING_MEMORIES = 3  # batch-norm statistics settle within this many times 1 / (1 - momentum) steps


@contextmanager
def with_configuration(
    data: str | PathLike[str] | Dataset | None,
    settings: Mapping[str, Any],
    *,
    model: str | keras.Model | None,
    class_names: Sequence[str] | None,
    out: str | PathLike[str] | None,
    recipe: str | PathLike[str] | None,
    console: Console,
) -> Iterator[tuple[TrainConfig, Path | None, Mapping[str, Path]]]:
    """The configuration from the arguments of `train`, `out` as a path, and the files of data and models in memory.

    The files, by setting, are removed at the end of the block, unless a run has moved them into its folder.
    """
    chosen = {**settings} | ({} if data is None else {"data": data}) | ({} if model is None else {"model": model})
    flags = {name: fspath(value) if isinstance(value, PathLike) else value for name, value in chosen.items()}
    recipe = None if recipe is None else text_of("recipe", recipe)
    folder = None if out is None else path_of("out", out)
    if class_names is not None and not is_dataset(data):
        raise refuse("class_names", class_names, "None unless data is a tf.data.Dataset; other data has its own names")
    if not any(is_dataset(value) or is_model(value) for value in flags.values()):
        yield configured(recipe, (), flags), folder, {}
        return
    with written(flags, folder or RUNS / "run", class_names, console) as (chosen, places):
        yield configured(recipe, (), chosen), folder, places


# ----------------------------------------------------------------------------------------------------------------------
# Checks: report every error that can be detected before pictures are read
# ----------------------------------------------------------------------------------------------------------------------
def require_ready(config: TrainConfig, worker: tuple[int, int], *, resumed: bool = False) -> None:
    """Raise InputError if a setting, a path or a missing library would make the run fail later.

    Args:
        worker: Number of this worker, and number of workers.
        resumed: Whether a checkpoint replaces `weights`.
    """
    from ..data.pipeline import checked_shard  # which needs TensorFlow

    checked_shard(worker, config.batch_size, pairs=config.data_options.mixes)
    for name in ("data", "val"):
        if (place := getattr(config, name)) is not None:
            require_source(place, name)
    if config.precision == AUTO and worker[1] > 1:
        raise InputError(
            "precision: auto works in a single process only; with several workers, give float32 or mixed_bfloat16"
        )
    if config.tensorboard:
        require_tensorboard()
    if config.weights is not None and not resumed:
        _require_weights(config, config.weights)


def require_runs_outside(config: TrainConfig) -> None:
    """Raise InputError if runs/ is inside a folder of pictures, where it would be taken for a class."""
    for name in ("data", "val"):
        place = getattr(config, name)
        if place and real_path(RUNS).is_relative_to(real_path(source_part(place)[0])):
            raise InputError(f"{name}: {place} contains {RUNS}/, so the run would be among the pictures; give --out")


def _require_weights(config: TrainConfig, weights: str) -> None:
    if not is_name(weights):
        require(weights)
        model_of_run(Path(weights))  # refuses another run's model
        return
    files = [registry.WEIGHTS[file] for file in registry.files_of(weights)]
    if not any((file.network, file.variant) == (config.model, config.variant) for file in files):
        fitting = dict.fromkeys(f"--model {file.network} --variant {file.variant}" for file in files)
        raise refuse(
            "weights", weights, f"weights of {config.model} ({config.variant}); these are for {' or '.join(fitting)}"
        )


# ----------------------------------------------------------------------------------------------------------------------
# Pictures
# ----------------------------------------------------------------------------------------------------------------------
def agreed_pictures(
    config: TrainConfig, run: RunFolder, strategy: tf.distribute.Strategy, console: Console
) -> RunPictures:
    """Open the pictures of each part, and check that all workers have the same pictures and settings.

    With other classes, for example, the workers' networks would differ, and TensorFlow would fail obscurely.
    """
    if worker(strategy)[1] == 1:
        return open_pictures(config, console, run)
    opened: RunPictures | None = None
    error: Exception | None = None
    try:
        opened = open_pictures(config, console, run)
    except (InputError, OSError) as refusal:
        error = refusal
    pictures = " ".join(source.fingerprint for source in (opened.parts if opened else ()) if source)
    require_agreement(strategy, {"pictures": pictures, "settings": json.dumps(config.settings())}, run.path, error)
    assert opened  # otherwise an error was raised, on every worker
    return opened


def require_labels(parts: Parts) -> None:
    """Raise InputError if only one part has several labels per picture, or if a label does not occur."""
    training, held_out, _ = parts
    if training.multi_label != held_out.multi_label:
        several, one = ("data", "val") if training.multi_label else ("val", "data")
        raise InputError(
            f"val: pictures of {several} may have several labels, but those of {one} have one class; give both in the "
            "same form"
        )
    if not training.multi_label:
        return
    if lacking := [training.class_names[label] for label in np.flatnonzero(~training.labels.any(axis=0)).tolist()]:
        shown = ", ".join([repr(name) for name in lacking[:10]] + ["…"] * (len(lacking) > 10))
        labels = f"the label {shown}" if len(lacking) == 1 else f"the labels {shown}"
        raise InputError(f"data: no training picture has {labels}, so it cannot be learned; add pictures or remove it")
    if not held_out.labels.any():
        raise InputError("val: no held-out picture has a label, so nothing can be measured; hold out more pictures")


# ----------------------------------------------------------------------------------------------------------------------
# Session
# ----------------------------------------------------------------------------------------------------------------------
def steps_per_epoch(pictures: int, config: TrainConfig, replicas: int) -> int:
    """Number of batches per epoch. A last batch with fewer pictures than replicas is dropped.

    With several replicas, every short batch is dropped if pictures are mixed in pairs or batches are divided into
    micro-batches: replicas with different numbers of micro-batches would wait for each other forever.
    """
    whole, rest = divmod(pictures, config.batch_size)
    equal_parts = replicas > 1 and (config.data_options.mixes or config.accumulate > 1)
    return whole + (rest >= replicas and not equal_parts)


def batch_norm_momentum_for(steps: int) -> float:
    """A momentum from 0.8 to 0.9997 whose memory, 1 / (1 - momentum) steps, is a twentieth of the run.

    With the paper's 0.9997, a run of a few hundred steps would be evaluated with statistics that have hardly moved
    from their initial values.
    """
    low, high = BATCH_NORM_MOMENTUM_RANGE
    return min(high, max(low, 1 - 20 / steps))


def batch_norm_hint(momentum: float, steps: int) -> str:
    """A hint if the momentum is too high for a run of this number of steps, otherwise ""."""
    memory, better = 1 / (1 - momentum), batch_norm_momentum_for(steps)
    if steps >= SETTLING_MEMORIES * memory or momentum <= better:
        return ""
    return (
        f"hint: batch norm momentum {momentum:g} needs about {SETTLING_MEMORIES * memory:,.0f} steps to settle, but "
        f"this run has {steps:,}: give {better:.4g}, or the held-out figures will be poor (settle_batch_norm(model, "
        "images) repairs a model trained with too high a momentum)"
    )


def new_session(config: TrainConfig, parts: Parts, strategy: tf.distribute.Strategy) -> Session:
    """Build the model and its optimizer for the pictures."""
    from .session import Session

    replicas, training = strategy.num_replicas_in_sync, parts.training
    steps = steps_per_epoch(len(training), config, replicas)
    if not steps:
        raise InputError(
            f"data: {len(training)} training pictures are too few for {replicas} replicas in batches of "
            f"{config.batch_size}; add pictures, or give a smaller --batch-size or fewer devices"
        )
    momentum = config.batch_norm_momentum
    if momentum is None:
        momentum = batch_norm_momentum_for(config.epochs * steps)
    digests = tuple(part.digest for part in parts if part)
    names, several = list(training.class_names), training.multi_label
    return Session(config, names, steps, momentum, strategy, pictures=digests, multi_label=several)


def with_chosen_precision(config: TrainConfig, strategy: tf.distribute.Strategy, console: Console) -> TrainConfig:
    """The configuration with "auto" replaced by the precision chosen by timing a few steps on random pictures."""
    if config.precision != AUTO:
        return config
    from .session import Session

    classes = [str(number) for number in range(PROBE_CLASSES)]
    pictures = np.random.default_rng(0).uniform(0, 255, (config.batch_size, *config.image_size, 3))
    images, labels = pictures.astype(np.float32), np.arange(config.batch_size) % PROBE_CLASSES

    def make(precision: str) -> Callable[[], object]:
        session = Session(replace(config, precision=precision), classes, 100, 0.9, strategy)
        return lambda: session.stepper.step(images, labels, 0).numpy()

    say(console, "precision: timing a step in float32 and in bfloat16")
    chosen, reason = choose_precision(make)
    say(console, f"precision {reason}")
    return replace(config, precision=chosen)


# ----------------------------------------------------------------------------------------------------------------------
# Messages before the first step
# ----------------------------------------------------------------------------------------------------------------------
def introduce(writer: RunWriter, parts: Parts) -> None:
    """Print a summary of the run, hints and warnings before training starts."""
    from .epochs import unreadable_pictures

    training, held_out, test = parts
    session, console, config = writer.session, writer.console, writer.session.config
    steps = config.epochs * session.steps
    # The task, and the settings that a user may not expect.
    say(
        console,
        f"{config.model} ({config.variant}), {session.model.count_params():,} parameters, on "
        f"{counted(len(training), 'picture')} of {counted(len(training.class_names), 'class')} at {config.size_text}; "
        f"{len(held_out):,} held out"
        f"{f', {len(test):,} for the test at the end' if test else ''} → {writer.run.path}",
    )
    if config.folds and training.multi_label:
        spread = "folds are stratified by combinations of labels, and for rare combinations by the rarest label"
        say(console, spread)
    if config.weights is not None:
        say(console, describe_phases(config))
    if config.freeze_batch_norm:
        say(console, "batch norm is frozen: its statistics stay those of the weights")
    elif hint := batch_norm_hint(session.momentum, steps):
        say(console, hint, style="yellow")
    else:
        say(console, f"batch norm momentum {session.momentum:.4g}, which suits {counted(steps, 'step')}")
    if gpu := missing_gpu():
        say(console, gpu, style="yellow")
    if config.remat:
        activations = estimate_activations(config, session.strategy.num_replicas_in_sync)
        say(
            console,
            f"rematerialised: about {activations.rematerialised / 1e9:.2f} GB of activations kept per replica instead "
            f"of {activations.kept / 1e9:.2f} GB",
        )
    # The data: how ambiguous input was interpreted, what was left out, and problems of the split.
    for note in dict.fromkeys((*training.notes, *held_out.notes)):
        say(console, note)
    for name, reason in unreadable_pictures(training, held_out):
        say(console, f"left out: {name}: {reason}", style="yellow")
    for warning in split_warnings(parts):
        say(console, warning, style="yellow")

"""One training run, from a configuration to a folder with a model in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from ..common.arguments import path_of, text_of
from ..common.console import command, printable, say
from ..common.devices import missing_gpu
from ..common.errors import InputError
from ..data import DIGITS
from ..data.labelled import Source
from ..data.sources import open_source
from ..data.splits import held_out_split
from ..evaluation.report import Report, classification_report
from .config import CHANGEABLE, TrainConfig, stored_config
from .interruption import InterruptedRun, stop_asked
from .memory import estimated, peak_on_gpu
from .outcome import write_report
from .progress import TrainingProgress, reading
from .recipes import configured
from .run import RunFolder, new_run, require_space

if TYPE_CHECKING:
    import tensorflow as tf

    from .keeper import Keeper
    from .session import Session

BATCH_NORM_MOMENTUM_RANGE = (0.8, 0.9997)

SLOW_MEMORIES = 3  # a run shorter than so many of batch norm's memories is evaluated with stale statistics


@dataclass(frozen=True)
class Trained:
    """A run that has ended: its folder, a row of figures an epoch, and the report on the held-out pictures.

    chief: whether this process wrote the folder; of several workers one did.
    """

    folder: RunFolder
    history: list[dict[str, float]]
    report: Report
    chief: bool = True


def batch_norm_momentum_for(steps: int) -> float:
    """A momentum whose memory, 1 / (1 - momentum) steps, is a twentieth of a run of so many steps.

    At the paper's 0.9997 a run of a few hundred steps would be evaluated with statistics that have
    hardly moved from their start. From 0.8 to 0.9997.
    """
    low, high = BATCH_NORM_MOMENTUM_RANGE
    return min(high, max(low, 1 - 20 / steps))


def batch_norm_hint(momentum: float, steps: int) -> str:
    """What to say where a momentum is too slow for a run of so many steps; empty where it is not."""
    memory, suits = 1 / (1 - momentum), batch_norm_momentum_for(steps)
    if steps >= SLOW_MEMORIES * memory or momentum <= suits:
        return ""
    return (
        f"hint: batch norm momentum {momentum:g} needs about {SLOW_MEMORIES * memory:,.0f} steps to settle and "
        f"this run has {steps:,}: give {suits:.4g}, or the held-out figures will be poor"
    )


def train(
    data: str | PathLike[str] | None = None,
    *,
    out: str | PathLike[str] | None = None,
    recipe: str | PathLike[str] | None = None,
    console: Console | None = None,
    **settings: Any,
) -> Trained:
    """Train a network on images and write a run's folder.

    Args:
        data: The training images: a folder with one folder of images per class, a .csv of path,label, a
            folder that `pack` wrote, or "tfds:NAME[:SPLIT]". None is the recipe's, or scikit-learn's
            handwritten digits.
        out: The run's folder, new or empty. None is the next free number below runs/.
        recipe: The name of a recipe, such as "modern", or a TOML file. None is the defaults of
            `training.config.TrainConfig`.
        console: Where progress is printed. None is the terminal.
        settings: Fields of `training.config.TrainConfig`, such as `model`, `size`, `epochs`, `batch_size` or
            `val` (held-out images; without it a fifth of `data` is held out). They override the recipe.

    Returns:
        The run: its folder with `model.keras` in it, its history, and the report on the held-out images.

    Raises:
        ValueError: A setting, the data, the folder or the disk cannot be used, which is known before
            training starts; or the loss is no longer finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM. What was trained so far is in the folder, and
            `inception-resnet-keras train --resume RUN` continues it.

    Examples:
        ```python
        run = train("photos", recipe="modern", epochs=20)
        print(run.report.accuracy, run.folder.model)
        ```
    """
    chosen = settings if data is None else {"data": data, **settings}
    flags = {name: fspath(value) if isinstance(value, PathLike) else value for name, value in chosen.items()}
    config = configured(None if recipe is None else text_of("recipe", recipe), (), flags)
    return train_config(config, None if out is None else path_of("out", out), console=console)


def finetune(
    data: str | PathLike[str],
    *,
    weights: str | PathLike[str] | None = None,
    out: str | PathLike[str] | None = None,
    recipe: str | PathLike[str] = "finetune",
    console: Console | None = None,
    **settings: Any,
) -> Trained:
    """Train a pretrained network on your own images: first a new classifier, then the upper stages too.

    Args:
        data: The training images, as for `train`.
        weights: A checkpoint that `load_weights` reads, or a registered name. None is the recipe's.
        out: The run's folder, new or empty. None is the next free number below runs/.
        recipe: The name or TOML file of a recipe.
        console: Where progress is printed. None is the terminal.
        settings: Fields of `training.config.TrainConfig`, which override the recipe, such as `epochs`,
            `head_epochs` (epochs that train the classifier alone), `unfreeze_from` (the first stage that
            is trained after them), `layer_rate` (how much slower each stage below learns) and
            `freeze_batch_norm` (keeps every statistic of the trunk bit by bit).

    Returns:
        The run, as from `train`.

    Raises:
        ValueError: As for `train`, and where the weights do not fit the network.
        KeyboardInterrupt: As for `train`.

    Examples:
        ```python
        run = finetune("photos", weights="imagenet", epochs=12, head_epochs=4, unfreeze_from="b11")
        ```
    """
    chosen = settings if weights is None else {"weights": weights, **settings}
    return train(data, out=out, recipe=recipe, console=console, **chosen)


def train_config(config: TrainConfig, out: Path | None = None, *, console: Console | None = None) -> Trained:
    """Trains a network on pictures and leaves a run's folder, as `train` does.

    Args:
        config: What to train on what; checked when it was made.
        out: The run's folder, new or empty; None for the next free number below runs/.
        console: Where progress is told.

    Returns:
        The run, with what its model says of the held-out pictures.

    Raises:
        InputError: The data, the folder or the disk cannot be used, told before training starts; or
            the loss is no longer finite, told with what broke.
        KeyboardInterrupt: Ctrl-C or SIGTERM; what has been trained so far is in the folder.
    """
    from .distribution import make_strategy, worker
    from .ready import require_elsewhere, require_ready

    strategy = make_strategy(config)
    number, workers = worker(strategy)
    console = (console or Console()) if number == 0 else Console(quiet=True)
    if workers > 1 and out is None:
        raise InputError("out: several workers need one folder that all of them see: give --out")
    config = config.anywhere()
    require_ready(config, (number, workers))
    if out is None:
        require_elsewhere(config)
    # The chief makes the folder; the other workers write nothing in it.
    with nullcontext(RunFolder(out)) if number and out else new_run(out, config) as run:
        return _resumable(config, run, open_pictures(config, console), strategy, console)


def resume(path: Path, settings: Mapping[str, Any] | None = None, *, console: Console | None = None) -> Trained:
    """Goes on with a run that was interrupted, from its newest whole checkpoint, at the very step.

    Args:
        path: The run's folder.
        settings: Of `config.CHANGEABLE`, which say how the rest is computed and kept; the folder's
            config.json has them from then on.
        console: Where progress is told.

    Raises:
        InputError: The folder holds no run, nothing is left to train, or a setting is another; else
            as `train`.
    """
    from .distribution import make_strategy, worker
    from .ready import require_ready

    run = RunFolder(path)
    settings = settings or {}
    if fixed := [name for name in settings if name not in CHANGEABLE]:
        raise InputError(
            f"resume: goes on with what the run was started with; leave out {', '.join(fixed)}. What may be changed is "
            f"{', '.join(CHANGEABLE)}"
        )
    stored, filled = stored_config(run.config)
    config = replace(stored, **settings)
    if run.report.exists() and len(run.read_history()) >= config.epochs:
        raise InputError(f"{path}: all {config.epochs} epochs are trained; nothing is left to go on with")
    strategy = make_strategy(config)
    number, workers = worker(strategy)
    console = (console or Console()) if number == 0 else Console(quiet=True)
    if filled:
        told = ", ".join(f"{name} = {json.dumps(getattr(stored, name))}" for name in filled)
        say(console, f"{run.config} is of an older version, and lacks what that one always did: {told}", style="yellow")
    require_ready(config, (number, workers), begun=run.has_checkpoint())
    return _resumable(config, run, open_pictures(config, console), strategy, console)


def open_pictures(config: TrainConfig, console: Console) -> tuple[Source, Source]:
    """The training and the held-out pictures of a configuration: their headers are read, nothing is decoded."""
    with reading(console) as bars:

        def opened(place: str, **options: Any) -> Source:
            bar = bars.add_task(f"reading {escape(printable(place))}", total=None)
            return open_source(
                place,
                max_corrupt=config.max_corrupt,
                progress=lambda done, total: bars.update(bar, completed=done, total=total),
                **options,
            )

        pictures = opened(config.data or DIGITS)
        if config.val is None:
            return held_out_split(pictures, config.split_seed)
        return pictures, opened(config.val, class_names=pictures.class_names)


def steps_an_epoch(pictures: int, config: TrainConfig, replicas: int) -> int:
    """Batches that are trained on: a last one that is too small to give every replica a picture is not.

    With several replicas no short one is where pictures are mixed in pairs, nor where a batch is
    computed in micro-batches: replicas with unequal numbers of these would wait for each other for ever.
    """
    whole, rest = divmod(pictures, config.batch_size)
    even = replicas > 1 and (config.data_options().mixes or config.accumulate > 1)
    return whole + (rest >= replicas and not even)


def _resumable(config: TrainConfig, run: RunFolder, *rest: Any) -> Trained:
    """Trains; wherever Ctrl-C comes, how to go on is told if anything is there to go on from."""
    try:
        return _train(config, run, *rest)
    except KeyboardInterrupt:
        if run.has_checkpoint():
            say(rest[-1], f"go on with: {command('train', '--resume', run.path)}")
        raise


def _train(
    config: TrainConfig,
    run: RunFolder,
    pictures: tuple[Source, Source],
    strategy: tf.distribute.Strategy,
    console: Console,
) -> Trained:
    from .keeper import Keeper
    from .runner import Runner, unreadable
    from .session import Session

    training, held_out = pictures
    steps = steps_an_epoch(len(training), config, strategy.num_replicas_in_sync)
    if not steps:
        raise InputError(f"{len(training)} pictures cannot be shared by {strategy.num_replicas_in_sync} replicas")
    momentum = config.batch_norm_momentum
    if momentum is None:
        momentum = batch_norm_momentum_for(config.epochs * steps)
    digests = (training.digest, held_out.digest)
    session = Session(config, list(training.class_names), steps, momentum, strategy, pictures=digests)
    keeper = Keeper(run, session, console)
    if not keeper.recover():
        _begin(config, run, session, keeper, console)
    elif keeper.chief and (config, []) != stored_config(run.config):
        run.change_config(config)
    _introduce(run, session, pictures, console)
    keeper.split(training, held_out)
    images = min(len(training), steps * config.batch_size)
    done = session.position.epoch * images + int(session.position.sums[2])
    with (
        stop_asked(console) as asked,
        TrainingProgress(console, epochs=config.epochs, images=images, steps=steps, done=done) as progress,
    ):
        runner = Runner(session, keeper, training, held_out, progress=progress, stop_asked=asked)
        try:
            seen, probabilities = runner.run()
        except InterruptedRun:
            _interrupted(keeper, run, session, console)
            raise KeyboardInterrupt from None
    history = session.position.history
    report = classification_report(
        seen.labels, probabilities, seen.class_names, seen.names, unreadable(training, held_out)
    )
    if keeper.chief:
        peak = peak_on_gpu()
        if peak is not None:
            say(console, f"the first GPU held {peak / 1e9:.2f} GB at the most")
        write_report(run, config, seen, report, history, peak_gpu_bytes=peak)
        keeper.checkpoints.clear()  # the run is finished: its models and its report are there
    return Trained(run, history, report, keeper.chief)


def _begin(config: TrainConfig, run: RunFolder, session: Session, keeper: Keeper, console: Console) -> None:
    """What a fresh run does first; a resumed one has it behind it."""
    if config.weights is not None:
        say(console, str(session.load_pretrained(config.weights)))
    if keeper.chief:
        arrays, _ = session.state()
        state = sum(array.nbytes for array in arrays.values())
        # The kept checkpoints and the one being written; the model and the best one, likewise.
        require_space(run.path, (config.keep + 1) * state + 3 * 4 * session.model.count_params())
        steps, replicas = config.epochs * session.steps, session.strategy.num_replicas_in_sync
        chosen = {"batch_norm_momentum": session.momentum, "steps": steps, "replicas": replicas}
        run.write_config(config, {**chosen, "activation_bytes": asdict(estimated(config, replicas))})


def _introduce(run: RunFolder, session: Session, pictures: tuple[Source, Source], console: Console) -> None:
    from .runner import unreadable

    (training, held_out), config = pictures, session.config
    steps = config.epochs * session.steps
    say(
        console,
        f"{config.model} ({config.variant}), {session.model.count_params():,} parameters, on {len(training):,} "
        f"pictures of {len(training.class_names)} classes at {config.size}×{config.size}; {len(held_out):,} held out "
        f"→ {run.path}",
    )
    hint = "" if config.freeze_batch_norm else batch_norm_hint(session.momentum, steps)
    told = f"batch norm momentum {session.momentum:.4g}, which suits {steps:,} steps"
    if config.freeze_batch_norm:
        told = "batch norm is frozen: its statistics stay those of the weights"
    say(console, hint or told, style="yellow" if hint else None)
    if gpu := missing_gpu():
        say(console, gpu, style="yellow")
    if config.remat:
        maps = estimated(config, session.strategy.num_replicas_in_sync)
        say(
            console,
            f"rematerialised: about {maps.rematerialised / 1e9:.2f} GB of maps kept a replica, in place of "
            f"{maps.kept / 1e9:.2f} GB",
        )
    for name, reason in unreadable(training, held_out):
        say(console, f"left out: {printable(name)}: {reason}", style="yellow")


def _interrupted(keeper: Keeper, run: RunFolder, session: Session, console: Console) -> None:
    keeper.checkpoint()
    ended, epochs = len(session.position.history), session.config.epochs
    say(
        console,
        f"interrupted after {ended} of {epochs} epochs and {session.position.batch} of {session.steps} steps; all that "
        f"was trained is in {run.path}",
    )

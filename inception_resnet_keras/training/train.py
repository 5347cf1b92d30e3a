"""A training run from a folder of pictures to a folder with a model: `train`, `resume` and `finetune`.

The acts of a run follow one another below: checks before work, pictures, session, epochs, report.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..common.console import command, counted, say, say_lines
from ..common.devices import missing_gpu
from ..common.errors import InputError
from ..common.files import only_writer
from ..common.packages import require_tensorflow
from ..data.datasets import Dataset
from ..data.parts import Parts, split_warnings
from ..evaluation.multi_label import best_thresholds
from ..weights.runs import require_same_run
from .balance import introduce_classes, require_balance, with_chosen_monitor
from .best_epoch import NAMES, best_epoch, is_finished, stops_early
from .cluster import make_strategy, worker
from .config import CHANGEABLE, TrainConfig
from .folds import (
    Study,
    find_study,
    is_study,
    new_study,
    study_configs,
    train_study,
    write_study,
)
from .optimizers import describe_phases
from .pictures import describe_copies, keep_pictures
from .preparation import (
    agreed_pictures,
    batch_norm_hint,
    new_session,
    require_labels,
    require_ready,
    require_runs_outside,
    with_chosen_precision,
    with_configuration,
)
from .progress import InterruptedRun, TrainingProgress, stop_requests
from .run import RunFolder, RunWriter, new_run, require_space
from .run_report import make_report, write_predictions, write_report
from .settings import read_stored_config
from .training_result import RepeatedResult, TrainingResult
from .trouble import estimate_activations

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from .epochs import Evaluated
    from .session import Session

ABORTED = "Collective ops is aborted"  # in TensorFlow's message if another worker has ended


def train(
    data: str | PathLike[str] | Dataset | None = None,
    *,
    model: str | keras.Model | None = None,
    class_names: Sequence[str] | None = None,
    out: str | PathLike[str] | None = None,
    recipe: str | PathLike[str] | None = None,
    console: Console | None = None,
    **settings: Any,
) -> TrainingResult:
    """Train a network on images and write a run's folder.

    Args:
        data: The training images: a folder with one folder of images per class, a .csv of path,label, a
            folder that `pack` wrote, or "tfds:NAME[:SPLIT]"; or a `tf.data.Dataset` of images and labels,
            as `data.datasets.pack_dataset` takes it, which is written into the run's folder first (as PNG). Labels
            that are vectors of 0 and 1 are several per image where any has other than one 1.
            None is the recipe's, or scikit-learn's handwritten digits.
        model: The network's name, such as "inception_v4"; or a model of this package, whose table, size and
            weights, without its classifier, the run starts from. None is the recipe's.
        class_names: The names of a dataset's classes, in the order of its labels. None takes its own
            `class_names`, else their numbers.
        out: The run's folder, new or empty. None is the next free number below runs/.
        recipe: The name of a recipe, such as "modern", or a TOML file. None is the defaults of
            `training.config.TrainConfig`.
        console: Where progress is printed. None is the terminal.
        settings: Fields of `training.config.TrainConfig`, such as `depths`, `size`, `epochs`, `batch_size` or
            `val` (held-out images, in the same forms as `data`; without it a fifth of `data` is held out). They
            override the recipe.

    Returns:
        The run: its folder with `model.keras` in it, its history, and the report on the held-out images. With `folds`
        or `seeds` a `RepeatedResult`: the folder with one run's folder per fold or seed, the report on the held-out
        images of all of them, and `figures` with the mean and standard deviation over the runs.

    Raises:
        ValueError: A setting, the data, the folder or the disk cannot be used, which is known before
            training starts; or the loss is no longer finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM. What was trained so far is in the folder, and
            `inception-resnet-keras train --resume RUN` continues it.

    Examples:
        ```python
        run = train("photos", recipe="modern", epochs=20)
        print(run.report.accuracy, run.folder.model)
        run = train("photos", folds=5)
        print(run.report.accuracy, run.figures.mean["accuracy"], run.figures.sd["accuracy"])
        ```
    """
    require_tensorflow("train")
    console = console or Console()
    given: dict[str, Any] = {
        "model": model,
        "class_names": class_names,
        "out": out,
        "recipe": recipe,
        "console": console,
    }
    with with_configuration(data, settings, **given) as (config, folder, places):
        return train_config(config, folder, console=console, written=places)


def finetune(
    data: str | PathLike[str] | Dataset,
    *,
    model: str | keras.Model | None = None,
    weights: str | PathLike[str] | None = None,
    out: str | PathLike[str] | None = None,
    recipe: str | PathLike[str] = "finetune",
    console: Console | None = None,
    **settings: Any,
) -> TrainingResult:
    """Train a pretrained network on your own images: first a new classifier, then the upper stages too.

    Args:
        data: The training images, as for `train`: a path, a name or a `tf.data.Dataset`.
        model: The network's name; or a pretrained model of this package, loaded or in memory, whose table (with
            its depths and scales), size and weights are taken. It stays as it is. None is the recipe's.
        weights: A run's folder, a checkpoint that `load_weights` reads, or a registered name. The network and its
            depths follow from it, and of a run or a whole model the size. A run of the same classes keeps its
            classifier. None is the recipe's, or the model's own.
        out: The run's folder, new or empty. None is the next free number below runs/.
        recipe: The name or TOML file of a recipe.
        console: Where progress is printed. None is the terminal.
        settings: `class_names`, as for `train`, and fields of `training.config.TrainConfig`, which override the
            recipe, such as `epochs`, `head_epochs` (epochs that train the classifier alone), `learning_rate` (of
            these), `trunk_learning_rate` (of the epochs after them; None is a tenth), `unfreeze` (the share of the
            stages that is trained after them, from the top), `layer_rate` (how much slower each stage below learns)
            and `freeze_batch_norm` (keeps every statistic of the trunk bit by bit).

    Returns:
        The run, as from `train`.

    Raises:
        ValueError: As for `train`, and where the weights do not fit the network.
        KeyboardInterrupt: As for `train`.

    Examples:
        ```python
        run = finetune("photos", weights="imagenet", epochs=12, head_epochs=4, unfreeze=0.5)
        more = finetune("new photos", weights=run.folder.path, epochs=6)
        photos = keras.utils.image_dataset_from_directory("photos")
        run = finetune(photos, model=create_inception_v4(variant="slim", weights="imagenet"), unfreeze_from="b05")
        ```
    """
    require_tensorflow("finetune")
    chosen = settings if weights is None else {"weights": weights, **settings}
    return train(data, model=model, out=out, recipe=recipe, console=console, **chosen)


def train_config(
    config: TrainConfig,
    out: str | PathLike[str] | None = None,
    *,
    console: Console | None = None,
    written: Mapping[str, Path] | None = None,
) -> TrainingResult:
    """Trains a network on pictures and writes a run's folder, as `train` does.

    Args:
        config: The settings, which were checked when they were made.
        out: The run's folder, new or empty. `None` takes the next free number below runs/.
        console: Where progress is shown. `None` uses the terminal.
        written: By setting, files and folders that the settings name and that move into the run's folder.

    Returns:
        The finished run, with the model's report on the held-out pictures.

    Raises:
        InputError: The data, the folder or the disk cannot be used, raised before training starts; or the loss is
            no longer finite, with a diagnosis.
        KeyboardInterrupt: After Ctrl-C or SIGTERM; the folder holds a checkpoint of what was trained.
    """
    require_tensorflow("train")
    out = None if out is None else Path(out)
    if is_study(config):
        return _train_several(config, out, console or Console(), written or {})
    strategy = make_strategy(config)
    number, workers = worker(strategy)
    console = _chief_console(console, number)
    if workers > 1 and out is None:
        raise InputError("out: several workers need one folder that all of them see: give --out")
    if workers > 1 and written:
        raise InputError(f"{next(iter(written))}: several workers need it as files: each would write its own")
    config = config.with_absolute_paths()
    require_ready(config, (number, workers))
    if out is None:
        require_runs_outside(config)
    # The chief creates the folder; the other workers write nothing in it.
    with nullcontext(RunFolder(out)) if number and out else new_run(out, config) as run:
        return _run(_with_moved(config, written or {}, run), run, strategy, console)


def _with_moved(config: TrainConfig, written: Mapping[str, Path], run: RunFolder) -> TrainConfig:
    """The settings, with the files and folders that they name moved into the run's folder."""
    if not written:
        return config
    for setting, place in written.items():
        shutil.move(place, run.given[setting])
    return config.with_settings({setting: str(run.given[setting]) for setting in written}).with_absolute_paths()


def _train_several(
    config: TrainConfig, out: Path | None, console: Console, written: Mapping[str, Path]
) -> RepeatedResult:
    """Trains a run per fold or seed."""
    if "TF_CONFIG" in os.environ and config.strategy == "auto":
        raise InputError("folds and seeds: several workers train one run; unset TF_CONFIG, or give --strategy one")
    config = config.with_absolute_paths()
    require_ready(config, (0, 1))
    if out is None:
        require_runs_outside(config)
    with new_study(out, config) as made:
        config = _with_moved(config, written, RunFolder(made.folder))
        study = replace(made, configs=study_configs(config))
        write_study(study, config)
        return _finish_study(study, console, {})


def _finish_study(study: Study, console: Console, settings: Mapping[str, Any]) -> RepeatedResult:
    """Trains the runs that are not finished. settings: Those that are changed."""
    runs, figures, report = train_study(
        study,
        console,
        start=lambda config, path: train_config(config.with_settings(settings), path, console=console),
        resume=lambda path: resume(path, settings, console=console),
    )
    return RepeatedResult(RunFolder(study.folder), [], report, runs=runs, figures=figures)


def resume(
    path: str | PathLike[str], settings: Mapping[str, Any] | None = None, *, console: Console | None = None
) -> TrainingResult:
    """Resumes an interrupted run at the step of its newest whole checkpoint.

    Args:
        path: The run's folder, or that of several folds or seeds, whose unfinished runs are then trained.
        settings: Settings to change, of those in `config.CHANGEABLE`; config.json keeps them.
        console: Where progress is shown. `None` uses the terminal.

    Returns:
        The finished run.

    Raises:
        InputError: The folder holds no run, all epochs are trained, or a setting may not change; and as `train`.
        KeyboardInterrupt: As `train`.
    """
    require_tensorflow("train")
    run = RunFolder(Path(path))
    settings = settings or {}
    if fixed := [name for name in settings if name not in CHANGEABLE]:
        raise InputError(
            f"resume: goes on with what the run was started with; leave out {', '.join(fixed)}. What may be changed is "
            f"{', '.join(CHANGEABLE)}"
        )
    if study := find_study(run.path):
        if run.report.exists():
            raise InputError(f"{run.path}: all {study.kind} are trained; nothing is left to go on with")
        with only_writer(run.path):
            return _finish_study(study, console or Console(), settings)
    stored, missing = read_stored_config(run.config)
    config = stored.with_settings(settings)
    _require_unfinished(run, config)
    strategy = make_strategy(config)
    number, workers = worker(strategy)
    console = _chief_console(console, number)
    if missing:
        filled = ", ".join(f"{name} = {json.dumps(stored.settings()[name])}" for name in missing)
        say(
            console,
            f"{run.config} is of an older version, and lacks what that one always did: {filled}",
            style="yellow",
        )
    require_ready(config, (number, workers), resumed=run.has_checkpoint())
    with nullcontext() if number else only_writer(run.path):
        _require_unfinished(run, config)  # another process may have finished it meanwhile
        return _run(config, run, strategy, console)


def _require_unfinished(run: RunFolder, config: TrainConfig) -> None:
    """Raises InputError if nothing is left to train, or another run's model or the run's own would be overwritten."""
    for model in (run.model, run.best):
        require_same_run(model)
    if run.has_checkpoint():
        return  # it holds the history too, and is removed only after the report is written
    history = run.read_history()
    epochs = len(history)
    if run.report.exists() and is_finished(config, history):
        which = f"all {config.epochs} epochs are trained"
        if epochs < config.epochs:
            which = f"training stopped early, after epoch {epochs} of {config.epochs} (patience {config.patience})"
        raise InputError(f"{run.path}: {which}; nothing is left to go on with")
    if os.path.lexists(run.model):
        raise InputError(
            f"{run.path}: holds a model and no checkpoint to go on from, and its history.csv has {epochs} of "
            f"{config.epochs} epochs: to train it again would overwrite the model. Start a new run, with --weights "
            f"{run.model} to go on from it"
        )


def _run(config: TrainConfig, run: RunFolder, strategy: tf.distribute.Strategy, console: Console) -> TrainingResult:
    """Trains. On Ctrl-C, prints the resume command if a checkpoint exists."""
    import tensorflow as tf

    from ..evaluation.html_report import try_write_report

    try:
        # Pictures
        pictures = agreed_pictures(config, run, strategy, console)
        training, held_out, test = parts = pictures.parts
        require_labels(parts)
        require_balance(config, training)
        config = replace(with_chosen_monitor(config, training), value_range=training.value_range or ())
        introduce_classes(console, config, training, held_out, test)
        config = with_chosen_precision(config, strategy, console)
        # Session: a new one, or the one of the newest checkpoint
        session = new_session(config, parts, strategy)
        writer = RunWriter(run, session, console)
        if not writer.resume():
            _start(writer)
        elif writer.chief and (config, []) != read_stored_config(run.config):
            run.change_config(config)
        if writer.chief:
            writer.write(lambda: keep_pictures(run, pictures, console))
        _introduce(writer, parts)
        describe_copies(pictures, console)
        # Epochs, and the only look at the test pictures
        evaluated, tested = _train_epochs(writer, parts)
        # Report
        several = training.multi_label
        thresholds = best_thresholds(evaluated[0].labels, evaluated[1]) if several else []
        report = make_report(training, held_out, *evaluated, thresholds=thresholds)
        test_report = make_report(test, test, *tested, thresholds=thresholds) if test and tested else None
        if writer.chief:
            writer.write(lambda: write_predictions(run, evaluated, tested, thresholds))
            write_report(writer, evaluated[0], report, test_report)
            writer.checkpoints.clear()  # the run is finished: its models and its report are written
            if reason := try_write_report(run.path):
                say(console, f"report.html was not written: {reason}", style="yellow")
        history = session.position.history
        best, early = best_epoch(config, history), stops_early(config, history)
        return TrainingResult(run, history, report, best, early, writer.chief, test_report)
    except KeyboardInterrupt:
        if run.has_checkpoint() and not run.study:  # of several runs, all of them are resumed
            say(console, f"go on with: {command('train', '--resume', run.path)}")
        raise
    except tf.errors.OpError as error:
        if worker(strategy)[1] == 1 or ABORTED not in str(error):
            raise
        again = command("train", "--resume", run.path) if run.has_checkpoint() else "the same command"
        raise InputError(
            "another worker has ended, and this one cannot go on without it: what that one said tells why, unless it "
            f"stood still for 10 seconds, which counts as ended. Start all of them again with: {again}"
        ) from error


def _chief_console(console: Console | None, number: int) -> Console:
    """The console of worker `number`; only the chief prints."""
    return (console or Console()) if number == 0 else Console(quiet=True)


# ----------------------------------------------------------------------------------------------------------------------
# Session: the start of a new one, and what is printed before the first step
# ----------------------------------------------------------------------------------------------------------------------


def _start(writer: RunWriter) -> None:
    """Loads the pretrained weights, checks the disk and writes config.json; a resumed run has done so."""
    run, session, config = writer.run, writer.session, writer.session.config
    if config.weights is not None:
        say_lines(writer.console, session.load_pretrained(config.weights))
    if writer.chief:
        # Room for the checkpoints that are kept and the one being written, and likewise for the two models.
        checkpoint = session.state_bytes()
        model = 4 * session.model.count_params()
        require_space(run.path, (config.keep + 1) * checkpoint + 3 * model)
        steps, replicas = config.epochs * session.steps, session.strategy.num_replicas_in_sync
        derived = {"batch_norm_momentum": session.momentum, "steps": steps, "replicas": replicas}
        activations = asdict(estimate_activations(config, replicas))
        run.write_config(config, {**derived, "activation_bytes": activations}, writer.identity)


def _introduce(writer: RunWriter, parts: Parts) -> None:
    """Prints what is trained on what, and what the user should know before it starts."""
    from .epochs import unreadable_pictures

    training, held_out, test = parts
    session, console, config = writer.session, writer.console, writer.session.config
    steps = config.epochs * session.steps
    say(
        console,
        f"{config.model} ({config.variant}), {session.model.count_params():,} parameters, on "
        f"{counted(len(training), 'picture')} of {counted(len(training.class_names), 'class')} at {config.size_text}; "
        f"{len(held_out):,} held out"
        f"{f', {len(test):,} for one test at the end' if test else ''} → {writer.run.path}",
    )
    if config.folds and training.multi_label:
        spread = "the folds have about the same share of every combination of labels, of rare ones of the rarest label"
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
            f"rematerialised: about {activations.rematerialised / 1e9:.2f} GB of maps kept a replica, in place of "
            f"{activations.kept / 1e9:.2f} GB",
        )
    for note in dict.fromkeys((*training.notes, *held_out.notes)):
        say(console, note)
    for name, reason in unreadable_pictures(training, held_out):
        say(console, f"left out: {name}: {reason}", style="yellow")
    for warning in split_warnings(parts):
        say(console, warning, style="yellow")


# ----------------------------------------------------------------------------------------------------------------------
# Epochs: the loop itself is `epochs.Trainer`
# ----------------------------------------------------------------------------------------------------------------------
def _train_epochs(writer: RunWriter, parts: Parts) -> tuple[Evaluated, Evaluated | None]:
    """Trains the remaining epochs; the held-out and the test pictures that could be read, and their probabilities."""
    from .epochs import Trainer

    training = parts.training
    session, console = writer.session, writer.console
    epochs, steps, position = session.config.epochs, session.steps, session.position
    images = min(len(training), steps * session.config.batch_size)
    done = position.epoch * images + int(position.sums[2])
    with (
        stop_requests(console) as stop_requested,
        TrainingProgress(console, epochs=epochs, images=images, steps=steps, done=done) as progress,
    ):
        trainer = Trainer(writer, parts, progress=progress, stop_requested=stop_requested)
        try:
            evaluated = trainer.train()
            if stops_early(session.config, position.history):
                say(console, _early_stop(session), style="yellow")
            return evaluated, trainer.test()
        except InterruptedRun:
            writer.save_checkpoint()
            position = session.position
            say(
                console,
                f"interrupted after {len(position.history)} of {counted(epochs, 'epoch')} and {position.batch} of "
                f"{counted(steps, 'step')}; all that was trained is in {writer.run.path}",
            )
            raise KeyboardInterrupt from None


def _early_stop(session: Session) -> str:
    """Why a run ended before its last epoch, and what of its learning-rate schedule was left."""
    config, history = session.config, session.position.history
    text = (
        f"stopped early after epoch {len(history)} of {config.epochs}: the last {config.patience} were not better by "
        f"held-out {NAMES[config.monitor]} than epoch {best_epoch(config, history).epoch} (patience {config.patience})"
    )
    if config.schedule == "constant":
        return text
    return (
        f"{text}. The {config.schedule} schedule had not finished: the learning rate was still "
        f"{float(session.optimizer.learning_rate):.3g}; a run of --epochs {len(history)} would finish it"
    )

"""A training run from a folder of pictures to a folder with a model: `train`, `finetune` and `resume`.

`_run` has the steps of a run in order. Their details are in `preparation`, `epochs` and `run_report`.
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
from ..common.errors import InputError
from ..common.files import only_writer
from ..common.packages import require_tensorflow
from ..data.datasets import Dataset
from ..data.parts import Parts
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
from .pictures import describe_copies, keep_pictures, trained_before_warnings
from .preparation import (
    agreed_pictures,
    introduce,
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

ABORTED = "Collective ops is aborted"  # a part of TensorFlow's message if another worker has ended


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
        data: The training images: a folder with one folder of images per class, a .csv with the columns path,label, a
            folder written by `pack`, "tfds:NAME[:SPLIT]", or "digits". Or a `tf.data.Dataset` of (image, label), which
            is first written into the run's folder as PNG: images of (height, width, 1 or 3) with values of 0-255, and
            labels as integers, one-hot vectors, or vectors of 0 and 1 with several labels per image. None uses the
            recipe's data, or else scikit-learn's handwritten digits.
        model: The network's name, such as "inception_v4"; or a model of this package, whose depths, scales, image size
            and weights (without the classifier) the run starts from. None uses the recipe's network, or else
            "inception_resnet_v1".
        class_names: The class names of a `tf.data.Dataset`, in the order of its labels. None uses the dataset's own
            `class_names`, or else the labels' numbers.
        out: The run's folder, new or empty. None uses the next free number below runs/.
        recipe: The name of a recipe ("digits", "paper", "modern", "finetune" or "smoke"), or a TOML file of settings.
            None uses the defaults of `training.config.TrainConfig`.
        console: The console for progress. None is the terminal.
        settings: Fields of `training.config.TrainConfig`, which documents their ranges and defaults. They override
            the recipe. Examples: `variant`, `depths`, `size` (pixels, default 75), `epochs` (default 5), `batch_size`
            (default 32), and `val` (held-out images, in the forms of `data`; by default a fifth of `data`).

    Returns:
        The finished run: `folder` (with the model at `folder.model`), `history` (one row of metrics per epoch),
        `report` (on the held-out images), `test` (the report on the test images, or None) and `best` (the best epoch).
        With `folds` or `seeds`, a `RepeatedResult`: `folder` contains one run's folder per fold or seed, `report` is on
        the held-out images of all runs, and `figures` has their mean and standard deviation over the runs.

    Raises:
        ValueError: A setting, the data, the folder or the disk cannot be used, which is raised before training starts;
            or the loss becomes NaN or infinite.
        KeyboardInterrupt: After Ctrl-C or SIGTERM. The folder has a checkpoint of everything trained so far, and
            `inception-resnet-keras train --resume RUN` resumes the run.

    Examples:
        A folder `photos` with one folder of images per class, and a thin network that trains quickly on a CPU:

        ```python
        run = train("photos", depths=(1, 1, 1), size=75, epochs=2)
        print(f"held-out accuracy {run.report.accuracy:.1%}; the model is {run.folder.model}")
        ```

        The same with 3-fold cross-validation:

        ```python
        runs = train("photos", depths=(1, 1, 1), size=75, epochs=1, folds=3)
        print(f"accuracy {runs.figures.mean['accuracy']:.1%} ± {runs.figures.sd['accuracy']:.1%}")
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
    """Train a pretrained network on your own images: first a new classifier, then also the upper stages.

    With the recipe "finetune" and no other arguments, Inception-ResNet-v2 with ImageNet weights is trained for 12
    epochs at 299 pixels: 4 epochs train the classifier alone, 8 the upper half of the stages too.

    Args:
        data: The training images, as for `train`: a path, a name or a `tf.data.Dataset`.
        model: The network's name; or a pretrained model of this package in memory, whose depths, scales, image size and
            weights the run starts from. It is not changed. None uses the network of the weights, or the recipe's.
        weights: A run's folder, a checkpoint that `load_weights` reads, or a registered name such as "imagenet". It
            determines the network and, if it contains them, the depths, the scales and the size. The classifier of a
            run with the same classes is kept. None uses the recipe's weights, or those of `model`.
        out: The run's folder, new or empty. None uses the next free number below runs/.
        recipe: The name or TOML file of a recipe.
        console: The console for progress. None is the terminal.
        settings: `class_names`, as for `train`, and fields of `training.config.TrainConfig`, which override the
            recipe. Examples: `epochs`; `head_epochs`, the number of epochs that train the classifier alone;
            `learning_rate`, the peak rate of these; `trunk_learning_rate`, the peak rate of the epochs after them
            (default: a tenth); `unfreeze`, the share of the stages, from the top, that these train, in (0, 1];
            `layer_rate`, the factor between the rates of a stage and the stage above it; and `freeze_batch_norm`,
            which keeps the batch-norm statistics of the pretrained stages unchanged.

    Returns:
        The finished run, as from `train`.

    Raises:
        ValueError: As in `train`; or the weights do not fit the network.
        KeyboardInterrupt: As in `train`.

    Examples:
        Train a network, then fine-tune it on other images:

        ```python
        run = train("photos", depths=(1, 1, 1), size=75, epochs=2)
        tuned = finetune("new photos", weights=run.folder.path, epochs=2, head_epochs=1, unfreeze=0.5)
        print(f"held-out accuracy {tuned.report.accuracy:.1%}; the model is {tuned.folder.model}")
        ```

        The images as a dataset in memory, and a pretrained model in memory:

        ```python
        dataset = keras.utils.image_dataset_from_directory("new photos", image_size=(75, 75))
        model = keras.saving.load_model(tuned.folder.model)
        again = finetune(dataset, model=model, epochs=2, head_epochs=1, unfreeze_from="b01")
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
    """Train a network with a configuration and write a run's folder, as `train` does.

    Args:
        config: The settings.
        out: The run's folder, new or empty. `None` uses the next free number below runs/.
        console: The console for progress. `None` is the terminal.
        written: By setting, files and folders that the settings name and that are moved into the run's folder.

    Returns:
        The finished run.

    Raises:
        InputError: The data, the folder or the disk cannot be used, which is raised before training starts; or the loss
            becomes NaN or infinite, with a diagnosis.
        KeyboardInterrupt: After Ctrl-C or SIGTERM. The folder has a checkpoint of everything trained so far.
    """
    require_tensorflow("train")
    out = None if out is None else Path(out)
    if is_study(config):
        return _train_several(config, out, console or Console(), written or {})
    strategy = make_strategy(config)
    number, workers = worker(strategy)
    console = _chief_console(console, number)
    if workers > 1 and out is None:
        raise InputError("out: several workers need one folder that all of them share: give --out")
    if workers > 1 and written:
        raise InputError(
            f"{next(iter(written))}: several workers cannot be given data or models in memory, because each would "
            "write its own copy; give files"
        )
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
    """Train one run per fold or seed."""
    if "TF_CONFIG" in os.environ and config.strategy == "auto":
        raise InputError(
            "folds and seeds: several workers can only train a single run; unset TF_CONFIG, or give --strategy one"
        )
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
    """Train the unfinished runs with changed settings."""
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
    """Resume an interrupted run from its newest undamaged checkpoint.

    Args:
        path: The run's folder; or the folder of several folds or seeds, whose unfinished runs are then trained.
        settings: Settings to change, which must be in `config.CHANGEABLE`; config.json records the new values.
        console: The console for progress. `None` is the terminal.

    Returns:
        The finished run.

    Raises:
        InputError: The folder has no run, all epochs are trained, or a setting may not change; and as in `train`.
        KeyboardInterrupt: As in `train`.
    """
    require_tensorflow("train")
    run = RunFolder(Path(path))
    settings = settings or {}
    if fixed := [name for name in settings if name not in CHANGEABLE]:
        raise InputError(
            f"resume: uses the settings of the run; leave out {', '.join(fixed)}. Settings that may change are "
            f"{', '.join(CHANGEABLE)}"
        )
    if study := find_study(run.path):
        if run.report.exists():
            raise InputError(f"{run.path}: all {study.kind} are trained; there is nothing to resume")
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
            f"{run.config} was written by an older version without some settings; they are set as it behaved: {filled}",
            style="yellow",
        )
    require_ready(config, (number, workers), resumed=run.has_checkpoint())
    with nullcontext() if number else only_writer(run.path):
        _require_unfinished(run, config)  # again, because another process may have finished it
        return _run(config, run, strategy, console)


def _require_unfinished(run: RunFolder, config: TrainConfig) -> None:
    """Raise InputError if nothing is left to train, or if a finished or foreign model would be overwritten."""
    for model in (run.model, run.best):
        require_same_run(model)
    if run.has_checkpoint():
        return  # checkpoints are removed only after the report is written, so the run is not finished
    history = run.read_history()
    epochs = len(history)
    if run.report.exists() and is_finished(config, history):
        which = f"all {config.epochs} epochs are trained"
        if epochs < config.epochs:
            which = f"training stopped early, after epoch {epochs} of {config.epochs} (patience {config.patience})"
        raise InputError(f"{run.path}: {which}; there is nothing to resume")
    if os.path.lexists(run.model):
        raise InputError(
            f"{run.path}: has a model but no checkpoint to resume from, and its history.csv has {epochs} of "
            f"{config.epochs} epochs; training again would overwrite the model. Start a new run; --weights {run.model} "
            "starts it from this model"
        )


def _run(config: TrainConfig, run: RunFolder, strategy: tf.distribute.Strategy, console: Console) -> TrainingResult:
    """Train. On Ctrl-C, print the resume command if a checkpoint exists."""
    import tensorflow as tf

    from ..evaluation.html_report import try_write_report

    try:
        # Pictures: open and split them, and choose the settings that depend on them
        pictures = agreed_pictures(config, run, strategy, console)
        training, held_out, test = parts = pictures.parts
        require_labels(parts)
        require_balance(config, training)
        config = replace(with_chosen_monitor(config, training), value_range=training.value_range or ())
        introduce_classes(console, config, training, held_out, test)
        config = with_chosen_precision(config, strategy, console)
        # Session: a new one, or the state of the newest checkpoint
        session = new_session(config, parts, strategy)
        writer = RunWriter(run, session, console)
        if not writer.resume():
            _start(writer)
        elif writer.chief and (config, []) != read_stored_config(run.config):
            run.change_config(config)
        if writer.chief:
            writer.write(lambda: keep_pictures(run, pictures, console))
        introduce(writer, parts)
        describe_copies(pictures, console)
        if not pictures.kept:
            for warning in trained_before_warnings(config, parts):
                say(console, warning, style="yellow")
        # Epochs, and then the only use of the test pictures
        evaluated, tested = _train_epochs(writer, parts)
        # Report: tables and charts; then the checkpoints are not needed any more
        several = training.multi_label
        thresholds = best_thresholds(evaluated[0].labels, evaluated[1]) if several else []
        report = make_report(training, held_out, *evaluated, thresholds=thresholds)
        test_report = make_report(test, test, *tested, thresholds=thresholds) if test and tested else None
        if writer.chief:
            writer.write(lambda: write_predictions(run, evaluated, tested, thresholds))
            write_report(writer, evaluated[0], report, test_report)
            writer.checkpoints.clear()
            if reason := try_write_report(run.path):
                say(console, f"report.html was not written: {reason}", style="yellow")
        history = session.position.history
        best, early = best_epoch(config, history), stops_early(config, history)
        return TrainingResult(run, history, report, best, early, writer.chief, test_report)
    except KeyboardInterrupt:
        if run.has_checkpoint() and not run.study:  # several folds or seeds are resumed as a whole
            say(console, f"to continue: {command('train', '--resume', run.path)}")
        raise
    except tf.errors.OpError as error:
        if worker(strategy)[1] == 1 or ABORTED not in str(error):
            raise
        again = command("train", "--resume", run.path) if run.has_checkpoint() else "the same command"
        raise InputError(
            "another worker has ended, and this one cannot continue without it. The reason is in the other worker's "
            "output, unless it did not respond for 10 seconds, which counts as ended. Restart all workers with: "
            f"{again}"
        ) from error


def _chief_console(console: Console | None, number: int) -> Console:
    """The console of worker `number`; only the chief prints."""
    return (console or Console()) if number == 0 else Console(quiet=True)


# ----------------------------------------------------------------------------------------------------------------------
# Session: the start of a new session
# ----------------------------------------------------------------------------------------------------------------------
def _start(writer: RunWriter) -> None:
    """Load the pretrained weights, check the disk and write config.json, which a resumed run has already done."""
    run, session, config = writer.run, writer.session, writer.session.config
    if config.weights is not None:
        say_lines(writer.console, session.load_pretrained(config.weights))
    if writer.chief:
        # Space for the kept checkpoints and the one being written, and for two models and the one being written.
        checkpoint = session.state_bytes()
        model = 4 * session.model.count_params()
        require_space(run.path, (config.keep + 1) * checkpoint + 3 * model)
        steps, replicas = config.epochs * session.steps, session.strategy.num_replicas_in_sync
        derived = {"batch_norm_momentum": session.momentum, "steps": steps, "replicas": replicas}
        activations = asdict(estimate_activations(config, replicas))
        run.write_config(config, {**derived, "activation_bytes": activations}, writer.identity)


# ----------------------------------------------------------------------------------------------------------------------
# Epochs: the loop itself is `epochs.Trainer`
# ----------------------------------------------------------------------------------------------------------------------
def _train_epochs(writer: RunWriter, parts: Parts) -> tuple[Evaluated, Evaluated | None]:
    """Train the remaining epochs. Returns the readable held-out and test pictures with their probabilities."""
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
                f"{counted(steps, 'step')}; everything trained so far is saved in {writer.run.path}",
            )
            raise KeyboardInterrupt from None


def _early_stop(session: Session) -> str:
    """A sentence about the reason why a run stopped early, and about its unfinished learning-rate schedule."""
    config, history = session.config, session.position.history
    text = (
        f"stopped early after epoch {len(history)} of {config.epochs}: the last {config.patience} epochs were not "
        f"better by held-out {NAMES[config.monitor]} than epoch {best_epoch(config, history).epoch} (patience "
        f"{config.patience})"
    )
    if config.schedule == "constant":
        return text
    return (
        f"{text}. The {config.schedule} schedule was not finished: the learning rate was still "
        f"{float(session.optimizer.learning_rate):.3g}; a run with --epochs {len(history)} would finish it"
    )

"""One training run, from a configuration to a folder with a model in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from .. import spec
from ..data.pictures import Pictures, digits, folder, held_out_split
from ..errors import InputError
from ..evaluation.report import Report
from ..saving import Card, load_model
from .config import TrainConfig, read_config
from .interruption import InterruptedRun, stop_asked
from .outcome import write_report
from .progress import TrainingProgress, reading
from .run import RunFolder, new_run, require_space

if TYPE_CHECKING:
    import keras

BATCH_NORM_MOMENTUM_RANGE = (0.8, 0.9997)
WARM_UP_SHARE = 0.1


@dataclass(frozen=True)
class Trained:
    """A run that has ended: its folder, a row of figures an epoch, and the report on the held-out pictures."""

    folder: RunFolder
    history: list[dict[str, float]]
    report: Report


def batch_norm_momentum_for(steps: int) -> float:
    """A momentum whose memory, 1 / (1 - momentum) steps, is a twentieth of a run of so many steps.

    At the paper's 0.9997 a run of a few hundred steps would be evaluated with statistics that have
    hardly moved from their start. From 0.8 to 0.9997.
    """
    low, high = BATCH_NORM_MOMENTUM_RANGE
    return min(high, max(low, 1 - 20 / steps))


def train(config: TrainConfig, out: Path | None = None, *, console: Console | None = None) -> Trained:
    """Trains a network on pictures and leaves a run's folder.

    Args:
        config: What to train on what; checked when it was made.
        out: The run's folder, new or empty; None for the next free number below runs/.
        console: Where progress is told.

    Returns:
        The run, with what its model says of the held-out pictures.

    Raises:
        InputError: The data, the folder or the disk cannot be used; told before training starts.
        KeyboardInterrupt: Ctrl-C; what has been trained so far is in the folder.
    """
    console = console or Console()
    pictures = load_pictures(config, console)
    run = new_run(out, config)
    try:
        return _train(config, run, pictures, [], console)
    finally:
        _remove_if_untrained(run)


def resume(path: Path, *, console: Console | None = None) -> Trained:
    """Goes on with a run that was interrupted, from what its folder holds, at the epoch it was in.

    Raises InputError where the folder holds no run or nothing is left to train; else as `train`.
    """
    console = console or Console()
    run = RunFolder(path)
    config = read_config(run.config)
    history = run.read_history()
    if len(history) >= config.epochs and run.report.exists():
        raise InputError(f"{path}: all {config.epochs} epochs are trained; nothing is left to go on with")
    return _train(config, run, load_pictures(config, console), history, console)


def load_pictures(config: TrainConfig, console: Console) -> tuple[Pictures, Pictures]:
    """The training and the held-out pictures of a configuration."""
    size = (config.size, config.size)
    if config.data is None:
        return digits(size)
    with reading(console) as bars:

        def read(path: str, **options: Any) -> Pictures:
            bar = bars.add_task(f"reading {path}", total=None)
            return folder(
                Path(path), size, progress=lambda done, total: bars.update(bar, completed=done, total=total), **options
            )

        pictures = read(config.data)
        if config.val is None:
            return held_out_split(pictures, config.seed)
        return pictures, read(config.val, class_names=pictures.class_names)


def _train(
    config: TrainConfig,
    run: RunFolder,
    pictures: tuple[Pictures, Pictures],
    history: list[dict[str, float]],
    console: Console,
) -> Trained:
    import keras

    from .batches import Batches
    from .keeper import Keeper, save

    keras.utils.set_random_seed(config.seed)
    training, held_out = pictures
    first_epoch = len(history)
    batches = Batches(training, config.batch_size, seed=config.seed, shift=config.shift, epoch=first_epoch)
    steps = config.epochs * len(batches)
    momentum = batch_norm_momentum_for(steps)
    size = (config.size, config.size)
    card = Card(config.model, config.variant, list(training.class_names), size)
    if run.model.exists():
        model = _reloaded(run, card)
    else:
        model = _new_model(config, len(card.classes), momentum, steps)
        # Weights and Adam's two moments, beside those of the save before.
        require_space(run.path, 2 * 3 * 4 * model.count_params())
        run.write_config(config, {"batch_norm_momentum": momentum, "steps": steps, "optimizer": "adam"})
    console.print(
        f"{config.model} ({config.variant}), {model.count_params():,} parameters, on {len(training):,} pictures of "
        f"{len(card.classes)} classes at {config.size}×{config.size}; {len(held_out):,} held out → {run.path}\n"
        f"batch norm momentum {momentum:.4g}, which suits {steps:,} steps",
        soft_wrap=True,
        highlight=False,
    )
    unreadable = [*training.unreadable, *held_out.unreadable]
    for path, reason in unreadable:
        console.print(f"left out: {path}: {reason}", style="yellow", soft_wrap=True, highlight=False, markup=False)

    images = len(training)
    with (
        stop_asked(console) as asked,
        TrainingProgress(console, epochs=config.epochs, images=images, first_epoch=first_epoch) as progress,
    ):
        keeper = Keeper(
            run,
            card,
            history,
            progress=progress,
            stop_asked=asked,
            batch_size=config.batch_size,
            images=images,
        )
        held_out_batches = Batches(held_out, config.batch_size)
        try:
            model.fit(
                batches,
                initial_epoch=first_epoch,
                epochs=config.epochs,
                validation_data=held_out_batches,
                verbose=0,
                shuffle=False,
                callbacks=[keeper],
            )
            probabilities = model.predict(held_out_batches, verbose=0, callbacks=[keeper])
        except InterruptedRun:
            save(model, run, card)
            console.print(
                f"interrupted after {len(history)} of {config.epochs} epochs; all that was trained is in {run.model}\n"
                f"go on with: inception-resnet-keras train --resume {run.path}",
                soft_wrap=True,
                highlight=False,
            )
            raise KeyboardInterrupt from None
    # Finished: a model over the same layers, without the optimizer's moments, is a third of the size.
    save(keras.Model(model.input, model.output, name=model.name), run, card)
    return Trained(run, history, write_report(run, held_out, probabilities, history, unreadable))


def _new_model(config: TrainConfig, classes: int, momentum: float, steps: int) -> keras.Model:
    import keras

    from ..models import build

    model = build(
        spec.find(config.model, config.variant),
        classes,
        input_shape=_input_shape(config.size),
        batch_norm_momentum=momentum,
        include_preprocessing=True,
    )
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        config.learning_rate / warm_up,
        max(1, steps - warm_up),
        warmup_target=config.learning_rate,
        warmup_steps=warm_up,
    )
    model.compile(
        keras.optimizers.Adam(schedule),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # on a CPU XLA compiles longer than a short run trains
    )
    return model


def _input_shape(side: int) -> tuple[int, int, int]:
    import keras

    return (3, side, side) if keras.config.image_data_format() == "channels_first" else (side, side, 3)


def _reloaded(run: RunFolder, card: Card) -> keras.Model:
    model, saved = load_model(run.model, compile=True)
    if saved != card:
        raise InputError(f"{run.model}: is a model of {saved}, the run is of {card}: the pictures have changed")
    return model


def _remove_if_untrained(run: RunFolder) -> None:
    """A folder in which nothing was trained is not left behind."""
    if not run.model.exists():
        run.config.unlink(missing_ok=True)
        if not any(run.path.iterdir()):
            run.path.rmdir()

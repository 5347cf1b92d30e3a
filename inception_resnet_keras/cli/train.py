"""Train a network on labelled pictures (by default on scikit-learn's handwritten digits), and write a run's folder with
the model, its history, the split of the pictures, a report and charts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import networks
from ..common.console import command, counted, say
from ..common.errors import InputError
from ..data import DIGITS, SOURCE_HELP
from ..training.config import CHANGEABLE, CHOICES, DEFAULTS, FLAGS, KEYS
from ..training.settings import configured, read_settings, recipe_names
from .options import size

HELP = "train a network on labelled pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    absent = argparse.SUPPRESS  # so that options that are not given leave no attribute
    add = parser.add_argument
    # Data and its split
    add(
        "--data",
        metavar="SOURCE",
        default=absent,
        help=f"training pictures: {SOURCE_HELP} (default: {DIGITS})",
    )
    add(
        "--val",
        metavar="SOURCE",
        default=absent,
        help="held-out pictures, in the same forms (default: those that the data declares, or a share of it)",
    )
    add(
        "--val-fraction",
        type=float,
        metavar="F",
        default=absent,
        help=f"share of each class that is held out without --val (default: {DEFAULTS['val_fraction']:g})",
    )
    add(
        "--test-fraction",
        type=float,
        metavar="F",
        default=absent,
        help="share of each class for one test after the last epoch (default: 0, or the test part of the data)",
    )
    add(
        "--group",
        metavar="COLUMN",
        default=absent,
        help="keeps groups of pictures on one side of the split: a column of the .csv, 'parent' (the picture's "
        "folder), or 're:(PATTERN)' in the path (default: the column group, if there is one)",
    )
    # Network and training
    add("--model", choices=list(networks.NETWORKS), default=absent, help=f"network (default: {DEFAULTS['model']})")
    add("--variant", default=absent, help=f"variant of the network (default: {DEFAULTS['variant']})")
    add(
        "--size",
        type=size,
        metavar="SIDE_OR_HEIGHTxWIDTH",
        default=absent,
        help=f"size of the pictures in pixels, such as 299 or 224x299 (default: {DEFAULTS['size']})",
    )
    add("--epochs", type=int, default=absent, help=f"number of epochs (default: {DEFAULTS['epochs']})")
    add("--batch-size", type=int, default=absent, help=f"pictures per step (default: {DEFAULTS['batch_size']})")
    add(
        "--learning-rate",
        type=float,
        default=absent,
        help=f"peak of the learning rate (default: {DEFAULTS['learning_rate']:g})",
    )
    add(
        "--shift",
        type=float,
        default=absent,
        help=f"largest random shift, as a share of the side, for augmentation=shift (default: {DEFAULTS['shift']:g})",
    )
    add(
        "--seed",
        type=int,
        default=absent,
        help=f"seed of split, weights, order and augmentation (default: {DEFAULTS['seed']})",
    )
    add("--folds", type=int, metavar="K", default=absent, help="cross-validation: one run per fold, in one folder")
    add("--seeds", type=int, metavar="N", default=absent, help="one run for each of N seeds, in one folder")
    # Uneven classes, and the best epoch
    add(
        "--class-weight",
        metavar="none|balanced|TABLE",
        default=absent,
        help="weights of the classes in the loss; a table: '{cat = 1.0, \"black dog\" = 4.0}' (default: none)",
    )
    add(
        "--sampler",
        choices=CHOICES["sampler"],
        default=absent,
        help="balanced: sample all classes equally often (default: none)",
    )
    add(
        "--monitor",
        choices=CHOICES["monitor"],
        default=absent,
        help="held-out figure for best.keras and --patience (default: auto, which is accuracy, or balanced_accuracy if "
        "classes are uneven)",
    )
    add(
        "--patience",
        type=int,
        metavar="EPOCHS",
        default=absent,
        help=f"stop after this number of epochs without improvement; 0: never (default: {DEFAULTS['patience']})",
    )
    # Fine-tuning
    add(
        "--weights",
        metavar="RUN_OR_FILE_OR_NAME",
        default=absent,
        help="pretrained weights to start from, which determine the network too; the classifier of a run with the same "
        "classes is kept",
    )
    add(
        "--head-epochs",
        type=int,
        metavar="N",
        default=absent,
        help="number of epochs at the start that train the classifier alone",
    )
    add(
        "--trunk-learning-rate",
        type=float,
        metavar="RATE",
        default=absent,
        help="peak of the learning rate after --head-epochs (default: a tenth of --learning-rate)",
    )
    add(
        "--unfreeze",
        type=float,
        metavar="SHARE",
        default=absent,
        help="share of the stages, from the top, that is trained after --head-epochs, such as 0.5 (default: all)",
    )
    # Devices and speed
    add("--strategy", choices=CHOICES["strategy"], default=absent, help="devices and workers (default: auto)")
    add(
        "--precision",
        choices=CHOICES["precision"],
        default=absent,
        help="precision; auto: bfloat16 if a short probe measures that it is a fifth faster (default: float32)",
    )
    add("--jit", action="store_true", default=absent, help="compile the training step with XLA")
    add(
        "--accumulate",
        type=int,
        metavar="N",
        default=absent,
        help="number of micro-batches into which each batch is divided (default: 1)",
    )
    add(
        "--remat",
        action="store_true",
        default=absent,
        help="recompute activations in the backward pass: less memory, more time",
    )
    add("--tensorboard", action="store_true", default=absent, help="also write TensorBoard event files")
    # All other settings, and the folder
    add("--recipe", metavar="NAME_OR_FILE", help=f"settings to start from: {', '.join(recipe_names())}, or a TOML file")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting, which overrides the recipe; may be repeated",
    )
    add(
        "--find-lr",
        action="store_true",
        help="do not train; test rising learning rates with these settings, plot the loss, and suggest a rate",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--out", type=Path, metavar="FOLDER", help="the run's folder (default: next free number below runs/)"
    )
    where.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="resume an interrupted run (or folds, or seeds); only settings that do not affect what is learned may be "
        f"changed: {', '.join(CHANGEABLE)}",
    )


def run(args: argparse.Namespace) -> None:
    given = {key: vars(args)[key] for key in KEYS if key in vars(args)}
    if "class_weight" in given:  # the value may be a table, in the same notation as in --set
        given |= read_settings([f"class_weight={given['class_weight']}"])
    settings = {**read_settings(args.set), **given}
    # Check the settings before TensorFlow is imported, which takes seconds.
    if args.resume:
        if args.find_lr:
            raise InputError("--find-lr tests the settings of a new run; leave out --resume, and give the settings")
        if args.recipe or not settings.keys() <= set(CHANGEABLE):
            fixed = [*(["recipe"] if args.recipe else []), *(name for name in settings if name not in CHANGEABLE)]
            raise InputError(
                f"--resume uses the settings of the run; leave out {', '.join(map(_as_given, fixed))}. "
                f"Settings that may change are {', '.join(CHANGEABLE)}"
            )
    else:
        config = configured(args.recipe, args.set, given)

    from rich.console import Console

    from ..evaluation.tables import class_table
    from ..training.folds import FIGURES, runs_table
    from ..training.train import resume, train_config
    from ..training.training_result import RepeatedResult

    console = Console()
    if args.find_lr:
        from ..training.rate_finder import sweep_config

        test = sweep_config(config, args.out, console=console)
        say(console, str(test), style="bold")
        say(console, f"the plot is {test.plot}")
        return
    # Train, or resume; then print the result. Of several workers, only the chief prints.
    trained = (
        resume(args.resume, settings, console=console)
        if args.resume
        else train_config(config, args.out, console=console)
    )
    if not trained.chief:
        return
    console.print(class_table(trained.report))
    if isinstance(trained, RepeatedResult):
        console.print(runs_table(trained.figures))
        key = trained.figures.first
        mean, sd = trained.figures.mean[key], trained.figures.sd[key]
        say(console, f"held-out {trained.report.headline}, over all runs together", style="bold")
        say(console, f"by run: {FIGURES[key]} {mean:.2%}, standard deviation {sd:.2%}", style="bold")
        say(console, f"everything is in {trained.folder.path}")
        return
    say(console, f"held-out {trained.report.headline}", style="bold")
    if trained.test:
        pictures = counted(trained.test.pictures, "picture")
        say(console, f"test on {pictures}, used once: {trained.test.headline}", style="bold")
    folder = trained.folder.path
    if trained.best and trained.best.epoch < len(trained.history):
        say(
            console,
            f"these figures are for model.keras, after epoch {len(trained.history)}; best.keras is the model after "
            f"{trained.best}",
        )
    say(console, f"everything is in {folder}; to use it: {command('predict', folder)} IMAGE")


def _as_given(name: str) -> str:
    return f"--{name.replace('_', '-')}" if name in (*FLAGS, "recipe") else f"--set {name}"

"""Evaluate models on labelled pictures: top-1 and top-5 accuracy and calibration, of each model and of their average.
With --pairs, verify faces by pairs of pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import InputError
from ..data import SOURCE_HELP
from ..models.precision import PRECISION_HELP, PRECISIONS
from ..models.saved_model import TRUST_HELP
from ..networks.rows import PREPROCESSINGS
from .options import (
    CLASSES_HELP,
    CROPS_HELP,
    EMA_HELP,
    GROUP_HELP,
    MAX_CORRUPT_HELP,
    MODEL_HELP,
    PREPROCESSING_HELP,
    add_one_crop,
    add_positive,
    add_value_range,
)
from .pack import number_or_share

if TYPE_CHECKING:
    from rich.console import Console

HELP = "evaluate models on labelled pictures, or verify faces by pairs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "models",
        nargs="+",
        metavar="MODEL",
        help=f"{MODEL_HELP}; with several models, the average of their probabilities is evaluated too",
    )
    add(
        "--data",
        metavar="SOURCE",
        help=f"labelled pictures: {SOURCE_HELP} (default for a single run: its held-out pictures); with --pairs: a "
        "folder with one folder per person",
    )
    add("--group", metavar="COLUMN", help=GROUP_HELP)
    add_positive(parser)
    add("--out", type=Path, metavar="FOLDER", help="folder to write (default: next free number below evaluations/)")
    add("--crops", type=int, default=1, metavar="N", help=f"{CROPS_HELP} (default: %(default)s)")
    add_one_crop(parser)
    add("--classes", type=Path, metavar="FILE", help=CLASSES_HELP)
    add("--ema", action="store_true", help=EMA_HELP)
    add("--preprocessing", choices=tuple(PREPROCESSINGS), help=PREPROCESSING_HELP)
    add_value_range(parser)
    add("--precision", choices=PRECISIONS, help=PRECISION_HELP)
    add("--batch-size", type=int, default=32, metavar="N", help="crops per batch (default: %(default)s)")
    add(
        "--max-corrupt",
        type=number_or_share,
        default=100,
        metavar="N",
        help=f"{MAX_CORRUPT_HELP} (default: %(default)s)",
    )
    add("--pairs", type=Path, metavar="FILE", help="verify faces by the model's embedding; a file like LFW's pairs.txt")
    add("--trust", action="store_true", help=TRUST_HELP)
    add("--mirror", action="store_true", help="with --pairs: also use the mirrored picture of each face")
    add("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> None:
    from rich.console import Console

    console = Console(stderr=args.json)
    if args.pairs:
        _verify(args, console)
    elif args.mirror:
        raise InputError("--mirror needs --pairs; for classes, --crops 12 and 144 include mirrored crops")
    else:
        _evaluate(args, console)


def _evaluate(args: argparse.Namespace, console: Console) -> None:
    from ..common.bars import progress_of
    from ..common.console import print_json, say
    from ..evaluation.evaluate import evaluate

    with progress_of(console) as progress:
        found = evaluate(
            args.models,
            args.data,
            group=args.group,
            positive=args.positive,
            crops=args.crops,
            classes=args.classes,
            value_range=args.value_range,
            progress=progress,
            **_shared(args),
        )
    if args.json:
        print_json(found.as_json(), indent=2)
        if found.note:
            say(console, found.note, style="yellow")
    else:
        found.show(console)
    for name, reason in found.report.unreadable:
        say(console, f"left out: {name}: {reason}", style="yellow")
    say(console, f"everything is in {found.folder}")


def _verify(args: argparse.Namespace, console: Console) -> None:
    from ..common.bars import progress_of
    from ..common.console import counted, print_json, say
    from ..evaluation.faces import verify_faces
    from ..evaluation.tables import show_verified

    # Refuse options that faces have no use for, instead of ignoring them.
    if len(args.models) > 1:
        raise InputError(f"--pairs: {len(args.models)} models are given; faces are verified by one, so give one")
    if not args.data:
        raise InputError("--pairs: --data is missing; give the folder that has one folder of pictures per person")
    if args.crops != 1 or args.classes or args.group or args.positive or args.value_range:
        raise InputError(
            "--pairs: --crops, --classes, --group, --positive and --value-range are for classifiers only; leave them "
            "out (--mirror adds mirrored faces)"
        )
    with progress_of(console) as progress:
        found = verify_faces(
            args.models[0],
            args.pairs,
            Path(args.data),
            mirror=args.mirror,
            progress=progress,
            **_shared(args),
        )
    if args.json:
        print_json(found.as_json(), indent=2)
    else:
        show_verified(console, found)
    for name, reason in found.unreadable:
        say(console, f"left out: {name}: {reason}", style="yellow")
    if found.left_out:
        say(
            console,
            f"{counted(found.left_out, 'pair', 'was', 'were')} left out, because these pictures are missing",
            style="yellow",
        )
    say(console, f"everything is in {found.folder}")


def _shared(args: argparse.Namespace) -> dict[str, Any]:
    """The options that are common to classifiers and faces."""
    names = (
        *("out", "crop_fraction", "crop_mode", "interpolation", "ema", "preprocessing", "precision", "batch_size"),
        *("trust", "max_corrupt"),
    )
    return {name: getattr(args, name) for name in names}

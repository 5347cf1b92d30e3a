"""Top-1, top-5 and calibration of models on labelled pictures, alone and averaged; or of faces, pairs verified."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import InputError
from ..data import SOURCE_HELP
from ..models.precision import PRECISION_HELP, PRECISIONS
from ..models.saved_model import TRUST_HELP
from ..networks.rows import PREPROCESSINGS
from .options import add_one_crop, add_positive
from .pack import number_or_share

if TYPE_CHECKING:
    from rich.console import Console

HELP = "top-1, top-5 and calibration of models on labelled pictures; faces verified by pairs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a run's folder, a .keras file of one, or [NETWORK[:VARIANT]=]WEIGHTS: a checkpoint or a registered name, "
        "such as inception_v4=imagenet; of several, the average of their probabilities is evaluated too",
    )
    add(
        "--data",
        metavar="SOURCE",
        help=f"{SOURCE_HELP} (default, of a single run: the pictures that it held out); with --pairs, a folder with "
        "one folder per person",
    )
    add("--group", metavar="COLUMN", help="what pictures of one group have in common, as in train --group")
    add_positive(parser)
    add("--out", type=Path, metavar="FOLDER", help="what to write (default: next free below evaluations/)")
    add("--crops", type=int, default=1, metavar="N", help="a picture: 1, 12 or 144, averaged (default: %(default)s)")
    add_one_crop(parser)
    add("--classes", type=Path, metavar="FILE", help="class names, one a line, for models that carry none")
    add("--ema", action="store_true", help="take the running averages that a checkpoint may have beside its weights")
    add(
        "--preprocessing",
        choices=tuple(PREPROCESSINGS),
        help="how the model takes pixels, where that cannot be measured (none: 0-255 as they are)",
    )
    add("--precision", choices=PRECISIONS, help=PRECISION_HELP)
    add("--batch-size", type=int, default=32, metavar="N", help="crops at once (default: %(default)s)")
    add(
        "--max-corrupt",
        type=number_or_share,
        default=100,
        metavar="N",
        help="unreadable pictures that may be left out: a number, or a share below 1 (default: %(default)s)",
    )
    add("--pairs", type=Path, metavar="FILE", help="LFW's pairs.txt: verify faces by the model's embedding")
    add("--trust", action="store_true", help=TRUST_HELP)
    add("--mirror", action="store_true", help="with --pairs: look at each face mirrored too")
    add("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> None:
    from rich.console import Console

    console = Console(stderr=args.json)
    if args.pairs:
        _verify(args, console)
    elif args.mirror:
        raise InputError("--mirror is of --pairs; for classes, --crops 12 and 144 look at mirrored crops too")
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

    if len(args.models) > 1:
        raise InputError(f"--pairs: {len(args.models)} models are given, and faces are verified by one")
    if not args.data:
        raise InputError("--pairs: --data is missing: the folder with a folder of pictures a person")
    if args.crops != 1 or args.classes or args.group or args.positive:
        raise InputError(
            "--pairs: --crops, --classes, --group and --positive are of classifiers; --mirror looks at faces mirrored "
            "too"
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
            f"{counted(found.left_out, 'pair', 'was', 'were')} left out, for want of these pictures",
            style="yellow",
        )
    say(console, f"everything is in {found.folder}")


def _shared(args: argparse.Namespace) -> dict[str, Any]:
    """The options that classifiers and faces have in common."""
    names = (
        *("out", "crop_fraction", "crop_mode", "interpolation", "ema", "preprocessing", "precision", "batch_size"),
        *("trust", "max_corrupt"),
    )
    return {name: getattr(args, name) for name in names}

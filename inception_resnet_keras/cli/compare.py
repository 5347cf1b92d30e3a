"""Whether models differ, judged on the same labelled pictures: differences with intervals and tests, and in words."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..data import SOURCE_HELP
from ..models.precision import PRECISION_HELP, PRECISIONS
from ..models.saved_model import TRUST_HELP
from ..networks.rows import PREPROCESSINGS
from .options import add_one_crop, add_positive
from .pack import number_or_share

HELP = "whether models differ: paired differences with intervals and tests, and in words"

# Options of the evaluation, which need --data; None stands for the default of `evaluate`.
EVALUATED = (
    *("group", "crops", "crop_fraction", "crop_mode", "interpolation", "classes", "ema", "preprocessing", "precision"),
    *("batch_size", "trust", "max_corrupt"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "models",
        nargs="+",
        metavar="MODEL",
        help="with --data, models as `evaluate` takes them, the reference first; without, folders that `evaluate` "
        "wrote, or that `train` wrote with --folds or --seeds",
    )
    add("--data", metavar="SOURCE", help=SOURCE_HELP)
    add("--out", type=Path, metavar="FOLDER", help="what to write (default: next free below comparisons/)")
    add(
        "--metric",
        choices=("accuracy", "balanced_accuracy", "auc", "brier"),
        default="accuracy",
        help="the figure that the conclusion is about; choose it before you look (default: %(default)s)",
    )
    add("--all-pairs", action="store_true", help="compare each model with each other one, not with the first only")
    add("--allow-trained", action="store_true", help="compare also on pictures that one of the models was trained on")
    add("--group", metavar="COLUMN", help="what pictures of one group have in common, as in train --group")
    add_positive(parser)
    add("--crops", type=int, metavar="N", help="a picture: 1, 12 or 144, averaged (default: 1)")
    add_one_crop(parser)
    add("--classes", type=Path, metavar="FILE", help="class names, one a line, for models that carry none")
    add("--ema", action="store_true", default=None, help="take the running averages that a checkpoint may have")
    add(
        "--preprocessing",
        choices=tuple(PREPROCESSINGS),
        help="how the models take pixels, where that cannot be measured (none: 0-255 as they are)",
    )
    add("--precision", choices=PRECISIONS, help=PRECISION_HELP)
    add("--batch-size", type=int, metavar="N", help="crops at once (default: 32)")
    add("--trust", action="store_true", default=None, help=TRUST_HELP)
    add(
        "--max-corrupt",
        type=number_or_share,
        metavar="N",
        help="unreadable pictures that may be left out: a number, or a share below 1 (default: 100)",
    )
    add("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> None:
    from rich.console import Console

    from ..common.bars import progress_of
    from ..common.console import print_json, say
    from ..evaluation.compare import compare

    console = Console(stderr=args.json)
    options: dict[str, Any] = {name: value for name in EVALUATED if (value := getattr(args, name)) is not None}
    with progress_of(console) as progress:
        if args.data:
            options["progress"] = progress
        found = compare(
            args.models,
            args.data,
            out=args.out,
            metric=args.metric,
            all_pairs=args.all_pairs,
            allow_trained=args.allow_trained,
            positive=args.positive,
            **options,
        )
    if args.json:
        print_json(found.as_json(), indent=2)
    else:
        found.show(console)
    say(console, f"everything is in {found.folder}")

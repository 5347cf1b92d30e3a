"""Compare models on the same labelled pictures: differences with confidence intervals and tests, and a conclusion in
words.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

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
    PREPROCESSING_HELP,
    add_one_crop,
    add_positive,
)
from .pack import number_or_share

HELP = "compare models by paired differences with confidence intervals and tests"

# Options of the evaluation, which need --data; None means the default of `evaluate`.
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
        help="with --data: models as for `evaluate`, the reference first; without: folders written by `evaluate`, or "
        "by `train` with --folds or --seeds",
    )
    add("--data", metavar="SOURCE", help=f"labelled pictures: {SOURCE_HELP}")
    add("--out", type=Path, metavar="FOLDER", help="folder to write (default: next free number below comparisons/)")
    add(
        "--metric",
        choices=("accuracy", "balanced_accuracy", "sensitivity", "specificity", "auc", "brier"),
        default="accuracy",
        help="figure for the conclusion; choose it before you see the results (default: %(default)s)",
    )
    add("--all-pairs", action="store_true", help="compare every pair of models, not only each with the first")
    add("--allow-trained", action="store_true", help="allow pictures on which one of the models was trained")
    add("--group", metavar="COLUMN", help=GROUP_HELP)
    add_positive(parser)
    add("--crops", type=int, metavar="N", help=f"{CROPS_HELP} (default: 1)")
    add_one_crop(parser)
    add("--classes", type=Path, metavar="FILE", help=CLASSES_HELP)
    add("--ema", action="store_true", default=None, help=EMA_HELP)
    add("--preprocessing", choices=tuple(PREPROCESSINGS), help=PREPROCESSING_HELP)
    add("--precision", choices=PRECISIONS, help=PRECISION_HELP)
    add("--batch-size", type=int, metavar="N", help="crops per batch (default: 32)")
    add("--trust", action="store_true", default=None, help=TRUST_HELP)
    add(
        "--max-corrupt",
        type=number_or_share,
        metavar="N",
        help=f"{MAX_CORRUPT_HELP} (default: 100)",
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

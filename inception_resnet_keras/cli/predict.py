"""Predict the classes of pictures with a model of any kind, or with the average of several.

Prints the most probable classes of each picture, or writes the probabilities of all classes to a CSV file.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import InputError
from ..models.precision import PRECISION_HELP, PRECISIONS
from ..models.saved_model import TRUST_HELP
from ..networks.rows import PREPROCESSINGS
from .options import ANY_MODEL_HELP, CLASSES_HELP, CROPS_HELP, PREPROCESSING_HELP, add_value_range

if TYPE_CHECKING:
    from rich.console import Console

    from ..models.predict import Predictions

HELP = "predict the classes of pictures with a model, or the average of several"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=ANY_MODEL_HELP,
    )
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="pictures, or folders of pictures")
    parser.add_argument(
        "--with",
        dest="others",
        nargs="+",
        action="extend",
        default=[],
        metavar="MODEL",
        help="more models with the same classes; predictions are averaged (give this option after the pictures)",
    )
    parser.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="write the probabilities of all classes, one row per picture, instead of printing a table",
    )
    parser.add_argument("--per-model", action="store_true", help="with --csv and --with: add columns for each model")
    parser.add_argument("--crops", type=int, default=1, metavar="N", help=f"{CROPS_HELP} (default: %(default)s)")
    parser.add_argument(
        "--top",
        type=int,
        metavar="N",
        help="number of classes per picture (default: 5; for several labels per picture, all that reach their "
        "thresholds)",
    )
    parser.add_argument("--classes", type=Path, metavar="FILE", help=CLASSES_HELP)
    parser.add_argument("--preprocessing", choices=tuple(PREPROCESSINGS), help=PREPROCESSING_HELP)
    parser.add_argument("--precision", choices=PRECISIONS, help=PRECISION_HELP)
    add_value_range(parser)
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="crops per batch (default: %(default)s)"
    )
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from ..common.bars import progress_of
    from ..common.console import print_json, printable, say
    from ..common.devices import missing_gpu
    from ..common.files import require_new_file
    from ..models.predict import predict

    if args.per_model and not (args.csv and args.others):
        raise InputError("--per-model: adds columns to the file of --csv for each model of --with; give both")
    if args.csv:
        require_new_file(args.csv)  # fail before hours of work, not after
    errors = Console(stderr=True)
    with progress_of(errors) as progress:
        predictions = predict(
            [args.model, *args.others],
            args.images,
            top=args.top,
            crops=args.crops,
            value_range=args.value_range,
            batch_size=args.batch_size,
            classes=args.classes,
            preprocessing=args.preprocessing,
            precision=args.precision,
            trust=args.trust,
            note=lambda text: print(f"note: {printable(text)}", file=sys.stderr),
            progress=progress,
        )
    if sys.modules.get("tensorflow") and (gpu := missing_gpu()):
        print(gpu, file=sys.stderr)
    # Results go to stdout, so that they can be piped; notes and pictures that were left out go to stderr.
    if args.csv:
        predictions.to_csv(args.csv, per_model=args.per_model)
    if args.json:
        print_json([asdict(prediction) for prediction in predictions], indent=2)
    elif args.csv:
        say(Console(), f"{args.csv}: {predictions.summary()}")
    else:
        _show(Console(), predictions)
    for line in predictions.left_out():
        say(errors, line, style="yellow")
    return 0 if len(predictions.paths) else 1


def _show(console: Console, predictions: Predictions) -> None:
    from rich.table import Table

    from ..common.console import cell

    table = Table()
    for column in ("picture", "class"):
        table.add_column(column, overflow="fold")
    table.add_column("probability", justify="right")
    for prediction in predictions:
        rows = [(name, f"{probability:.1%}") for name, probability in prediction.top]
        nothing = "no label" if prediction.error is None else f"left out: {prediction.error}"
        for rank, (name, probability) in enumerate(rows or [(nothing, "")]):
            table.add_row(cell(prediction.path if rank == 0 else ""), cell(name), probability)
        table.add_section()
    console.print(table)

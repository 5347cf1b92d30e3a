"""Prints the likeliest classes of pictures, by a model of any kind."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from ..models.precision import PRECISION_HELP, PRECISIONS
from ..models.saved_model import TRUST_HELP
from ..networks.rows import PREPROCESSINGS

HELP = "the likeliest classes of pictures, by a model of any kind"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a run's folder; a .keras or .h5 model; an exported .onnx, .xml, .tflite or SavedModel's folder; or "
        "[NETWORK[:VARIANT]=]WEIGHTS: a checkpoint or a registered name, such as inception_v4=imagenet",
    )
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="pictures, or folders of them")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes per picture (default: %(default)s)")
    parser.add_argument("--classes", type=Path, metavar="FILE", help="class names, one a line, for a model without any")
    parser.add_argument(
        "--preprocessing",
        choices=tuple(PREPROCESSINGS),
        help="how the model takes pixels, where that cannot be measured (none: 0-255 as they are)",
    )
    parser.add_argument("--precision", choices=PRECISIONS, help=PRECISION_HELP)
    parser.add_argument("--trust", action="store_true", help=TRUST_HELP)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    from ..common.console import cell, print_json, printable
    from ..common.devices import missing_gpu
    from ..models.predict import predict

    predictions = predict(
        args.model,
        args.images,
        top=args.top,
        classes=args.classes,
        preprocessing=args.preprocessing,
        precision=args.precision,
        trust=args.trust,
        note=lambda text: print(f"note: {printable(text)}", file=sys.stderr),
    )
    if sys.modules.get("tensorflow") and (gpu := missing_gpu()):
        print(gpu, file=sys.stderr)
    if args.json:
        print_json([asdict(prediction) for prediction in predictions], indent=2)
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table()
        for column in ("picture", "class"):
            table.add_column(column, overflow="fold")
        table.add_column("probability", justify="right")
        for prediction in predictions:
            rows = [(name, f"{probability:.1%}") for name, probability in prediction.top]
            for rank, (name, probability) in enumerate(rows or [(f"left out: {prediction.error}", "")]):
                table.add_row(cell(prediction.path if rank == 0 else ""), cell(name), probability)
            table.add_section()
        Console().print(table)
    return 0 if any(prediction.top for prediction in predictions) else 1

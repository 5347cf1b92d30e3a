"""Convert another project's checkpoint to a file of this package, and check that the outputs are the same."""

from __future__ import annotations

import argparse

from .options import EMA_HELP

HELP = "convert another project's checkpoint to a .keras or .safetensors file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", help="a run's folder, or a checkpoint in any format that load_weights reads"
    )
    parser.add_argument("out", metavar="OUT", help="file to write, which must not exist")
    parser.add_argument("--to", choices=("keras", "safetensors"), help="format (default: by the ending of OUT)")
    parser.add_argument("--ema", action="store_true", help=EMA_HELP)


def run(args: argparse.Namespace) -> None:
    from ..deploy.convert import convert_checkpoint

    report, check = convert_checkpoint(args.source, args.out, to=args.to, ema=args.ema)
    print(report)
    print(check)

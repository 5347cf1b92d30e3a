"""Converts another project's checkpoint to a file of this one, and checks the numbers."""

from __future__ import annotations

import argparse

HELP = "another project's checkpoint to a .keras or .safetensors file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", help="a run's folder, or a checkpoint of any format that weights= takes"
    )
    parser.add_argument("out", metavar="OUT", help="the file to write, which must not exist")
    parser.add_argument("--to", choices=("keras", "safetensors"), help="the format; without it, OUT's ending says")
    parser.add_argument("--ema", action="store_true", help="take the running averages beside the weights")


def run(args: argparse.Namespace) -> None:
    from ..deploy.convert import convert_checkpoint

    report, check = convert_checkpoint(args.source, args.out, to=args.to, ema=args.ema)
    print(report)
    print(check)

"""Says what a checkpoint is, and which factory call loads it."""

from __future__ import annotations

import argparse

HELP = "what a checkpoint is, and which factory call loads it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a checkpoint of any format that weights= takes")


def run(args: argparse.Namespace) -> None:
    from ..weights.inspect import inspect_checkpoint

    print(inspect_checkpoint(args.file))

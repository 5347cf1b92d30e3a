"""Identify a checkpoint: its network, variant, classes and size, and the factory call that loads it."""

from __future__ import annotations

import argparse

HELP = "identify a checkpoint, and print the factory call that loads it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="a run's folder, or a checkpoint in any format that load_weights reads"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, including the call's arguments")


def run(args: argparse.Namespace) -> None:
    from ..common.console import print_json
    from ..weights.inspect import inspect_checkpoint

    found = inspect_checkpoint(args.file)
    if args.json:
        print_json(found.as_json())
    else:
        print(found)

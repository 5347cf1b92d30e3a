"""Says what a checkpoint is, and which factory call loads it."""

from __future__ import annotations

import argparse

HELP = "what a checkpoint is, and which factory call loads it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="a run's folder, or a checkpoint of any format that weights= takes"
    )
    parser.add_argument("--json", action="store_true", help="for programs: one object, with the call's arguments")


def run(args: argparse.Namespace) -> None:
    from ..common.console import print_json
    from ..weights.inspect import inspect_checkpoint

    found = inspect_checkpoint(args.file)
    if args.json:
        print_json(found.as_json())
    else:
        print(found)

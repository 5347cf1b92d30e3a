"""Says what a checkpoint is, and which factory call loads it."""

from __future__ import annotations

import argparse
import json

HELP = "what a checkpoint is, and which factory call loads it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a checkpoint of any format that weights= takes")
    parser.add_argument("--json", action="store_true", help="for programs: one object, with the call's arguments")


def run(args: argparse.Namespace) -> None:
    from ..weights.inspect import inspect_checkpoint

    found = inspect_checkpoint(args.file)
    print(json.dumps(found.as_json(), ensure_ascii=False) if args.json else found)

"""The command line, with one module per verb. Each has HELP, `add_arguments(parser)` and `run(args)`.

The modules import Keras and TensorFlow only in `run`, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from .. import __version__
from ..common.chatter import hush_engine
from ..common.console import PROGRAM, printable
from ..common.errors import InputError
from ..common.packages import check_engine, named_extras

VERBS = (
    *("train", "predict", "evaluate", "compare", "report", "explain", "export", "serve", "bench"),
    *("summary", "plot", "convert", "inspect", "pack"),
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(printable(message))  # the message repeats the user's input


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit status: 0, 1 for bad input, 2 for a wrong command line, 130 for Ctrl-C."""
    hush_engine()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × shows ? instead
    # Pillow warns about files that are then read, or refused with a reason. Its warnings may contain names with control
    # characters, which must not reach a terminal.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    args = _parsed(sys.argv[1:] if argv is None else argv)
    try:
        check_engine()
        with named_extras():
            return args.run(args) or 0
    except InputError as error:
        print(f"{PROGRAM} {args.verb}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error
        print(f"{PROGRAM} {args.verb}: {printable(what)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{PROGRAM} {args.verb}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        from ..common.devices import is_out_of_memory

        if not is_out_of_memory(error):
            raise  # a bug, which keeps its traceback
        why = printable(str(error)[:200]) or type(error).__name__
        advice = "give smaller batches or pictures, end other programs, or give the machine or container more"
        print(f"{PROGRAM} {args.verb}: the memory does not suffice ({why}): {advice}", file=sys.stderr)
        return 1


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(PROGRAM, description="Inception-v4 and Inception-ResNet-v1/v2 in Keras.")
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb in VERBS:
        module = import_module(f".{verb}", __name__)
        subparser = verbs.add_parser(verb, help=module.HELP, description=module.__doc__)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run, verb=verb)
    for argument in argv:
        if argument.startswith("--") and argument.endswith("=--"):  # argparse would parse it as an empty list
            parser.error(f"argument {argument[:-3]}: expected one argument")
    return parser.parse_args(argv)

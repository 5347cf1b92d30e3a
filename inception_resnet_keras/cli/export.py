"""Writes a run's model for another runtime, and keeps it only if it says there what it says in Keras."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..common.console import command, say
from ..common.errors import InputError
from ..data import SOURCE_HELP
from ..deploy.formats import FORMATS, IMAGENET, chosen, default_name
from ..models.model_file import PRECISIONS

HELP = "a model for TensorFlow Serving, ONNX Runtime, OpenVINO or LiteRT, compared with Keras's"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", type=Path, metavar="RUN_OR_MODEL", help="a run's folder, or a .keras file")
    add("--format", required=True, choices=tuple(FORMATS), help="what to write")
    add("--precision", choices=PRECISIONS, default="float32", help="(default: %(default)s)")
    add("--out", type=Path, metavar="PATH", help="the file or folder to write, a new one (default: beside the model)")
    add("--calibrate", type=Path, metavar="FOLDER", help="for int8: pictures such as the model will see, up to 300")
    add("--validate", metavar="SOURCE", help=f"labelled pictures to compare accuracies on: {SOURCE_HELP}")
    add("--check", type=Path, metavar="FOLDER", help="pictures to compare on (default: of --validate or --calibrate)")
    add("--labels", metavar="FILE", help="class names, a line each in the outputs' order; or `imagenet`")
    add("--preprocessing", choices=("inception", "facenet", "none"), help="of a model that takes no raw pixels")
    add("--no-optimize", action="store_true", help="export the graph as it is, nothing folded")
    bound = "past it nothing is kept (default: by precision)"
    add("--max-difference", type=float, metavar="SHARE", help=f"of the largest output; {bound}")
    add("--min-agreement", type=float, metavar="SHARE", help=f"of pictures with the same top-1; {bound}")
    add("--max-accuracy-drop", type=float, metavar="SHARE", help=f"on --validate; {bound}")


def run(args: argparse.Namespace) -> None:
    from ..models.runtimes import find_model

    target, precision = chosen(args.format, args.precision)
    find_model(args.model)  # a model that is missing is told before the place that follows from it
    folder = args.model if args.model.is_dir() else args.model.parent
    out = args.out or folder / default_name(target, precision)
    names = None if args.labels is None else _labels(args.labels)

    from rich.console import Console

    from ..deploy.export import export_model
    from ..deploy.placing import temporary_files

    console = Console()
    with _ended_at_once(), temporary_files():
        check = export_model(
            args.model,
            out,
            args.format,
            precision=precision,
            calibrate=args.calibrate,
            check=args.check,
            validate=args.validate,
            class_names=names,
            preprocessing=args.preprocessing,
            optimize=not args.no_optimize,
            max_difference=args.max_difference,
            min_agreement=args.min_agreement,
            max_accuracy_drop=args.max_accuracy_drop,
            progress=lambda text: say(console, text, style="dim"),
        )
    say(console, str(check))
    if not check.embedding:
        say(console, f"to use it: {command('predict', out)} IMAGE")


@contextmanager
def _ended_at_once() -> Iterator[None]:
    """Within it, Ctrl-C and SIGTERM end the process where it is, also in a converter's C++, which would go on for
    minutes, drop Python's KeyboardInterrupt or crash of it; what is half made then, a guardian removes."""
    first = os.getpid() == 1  # of a container: a signal without a handler does not reach it, and all end with it
    handler = signal.default_int_handler if first else signal.SIG_DFL
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _labels(text: str) -> list[str] | str:
    if text == IMAGENET and not Path(text).exists():
        return IMAGENET
    try:
        return Path(text).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(
            f"--labels: there is no file {text!r}; it takes a file of a name a line, or imagenet"
        ) from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"--labels: {text!r} is no text in UTF-8: {error}") from None

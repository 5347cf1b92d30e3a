"""Export a model for another runtime, and keep the result only if its outputs there agree with those in Keras."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.console import command, say, say_lines
from ..common.errors import InputError
from ..common.packages import require_tensorflow
from ..data import SOURCE_HELP
from ..deploy.formats import FORMATS, OPSETS, chosen, default_name
from ..deploy.layouts import LAYOUTS, check_layout
from ..deploy.quantization import setting
from ..models.model_file import INPUT_TYPES, PRECISIONS
from ..networks.rows import PREPROCESSINGS
from .options import PREPROCESSING_HELP, size

if TYPE_CHECKING:
    from rich.console import Console

HELP = "export a model for TensorFlow Serving, ONNX Runtime, OpenVINO or LiteRT, and check it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", type=Path, metavar="RUN_OR_MODEL", help="a run's folder, or a .keras file")
    add("--format", required=True, choices=tuple(FORMATS), help="format to write")
    add("--precision", choices=PRECISIONS, default="float32", help="precision (default: %(default)s)")
    add("--out", type=Path, metavar="PATH", help="new file or folder to write (default: beside the model)")
    add(
        "--calibrate",
        type=Path,
        metavar="FOLDER",
        help="for int8: pictures like those in later use; at most 300 are used",
    )
    add(
        "--min-calibration",
        type=int,
        default=10,
        metavar="N",
        help="smallest accepted number of calibration pictures; below 100, a warning is printed (default: %(default)s)",
    )
    add(
        "--quantization",
        action="append",
        type=setting,
        metavar="KEY=VALUE",
        help="for int8: a setting of the quantiser (of nncf.quantize for openvino, of onnxruntime's quantize_static "
        "for onnx), with VALUE as JSON; may be repeated",
    )
    add("--validate", metavar="SOURCE", help=f"labelled pictures on which to compare accuracies: {SOURCE_HELP}")
    add(
        "--check",
        type=Path,
        metavar="FOLDER",
        help="pictures on which to compare outputs, all of which are used (default: those of --validate, or those of "
        "--calibrate that are not used for calibration)",
    )
    add(
        "--rank",
        action="store_true",
        help="for int8: also export temporarily for the other engines, and compare their speeds on this machine",
    )
    add("--labels", metavar="FILE", help="class names, one per line in the order of the outputs; or `imagenet`")
    add("--preprocessing", choices=tuple(PREPROCESSINGS), help=PREPROCESSING_HELP)
    add(
        "--size",
        type=size,
        metavar="SIDE",
        help="size of the input, 299 or HEIGHTxWIDTH, for a model that takes pictures of any size",
    )
    add(
        "--input-type",
        choices=INPUT_TYPES,
        default="float32",
        help="type of the input pixels (default: %(default)s)",
    )
    add(
        "--integer-only",
        action="store_true",
        help="for LiteRT in int8: only integer inputs, operations and outputs, for NPUs",
    )
    add(
        "--opset",
        type=int,
        metavar="N",
        help=f"ONNX opset, {OPSETS[0]} to {OPSETS[-1]} (default: {OPSETS[-1]})",
    )
    add(
        "--layout",
        choices=LAYOUTS,
        help="write a folder in the layout of this server (Triton, OpenVINO Model Server, TensorFlow Serving)",
    )
    add("--name", help="with --layout: name of the model on the server (default: name of its folder or file)")
    add("--no-optimize", action="store_true", help="export the graph unchanged, without folding batch norm")
    add("--card", action="store_true", help="also write README.md, a model card for the Hugging Face Hub")
    bound = "if the bound is exceeded, no file is kept (default: by precision)"
    add(
        "--max-difference",
        type=float,
        metavar="SHARE",
        help=f"largest difference, as a share of the largest output; {bound}",
    )
    add("--min-agreement", type=float, metavar="SHARE", help=f"smallest share of pictures with the same top-1; {bound}")
    add("--max-accuracy-drop", type=float, metavar="SHARE", help=f"largest loss of accuracy on --validate; {bound}")


def run(args: argparse.Namespace) -> None:
    require_tensorflow("export")
    from ..models.open import find_keras_file

    # Check everything that needs neither the model nor TensorFlow, before both are loaded.
    target, precision = chosen(args.format, args.precision)
    if args.layout:
        check_layout(args.layout, args.format)
    elif args.name is not None:
        raise InputError("--name: is the name of the model on a server; give --layout too")
    others = _require_rank(args) if args.rank else []
    find_keras_file(args.model)  # report a missing model before an error about the place derived from it
    folder = args.model if args.model.is_dir() else args.model.parent
    out = args.out or folder / (args.layout or default_name(target, precision))

    from rich.console import Console

    from ..common.bars import steps
    from ..deploy.export import export_model
    from ..deploy.layouts import export_layout, how_to_serve

    console = Console()
    export = partial(export_layout, layout=args.layout, name=args.name) if args.layout else export_model
    with _default_signals(), steps(console) as progress:
        check = export(
            args.model,
            out,
            args.format,
            precision=precision,
            calibrate=args.calibrate,
            min_calibration=args.min_calibration,
            quantization=dict(args.quantization) if args.quantization else None,
            check=args.check,
            validate=args.validate,
            class_names=args.labels,
            preprocessing=args.preprocessing,
            size=args.size,
            input_type=args.input_type,
            integer_only=args.integer_only,
            opset=args.opset,
            optimize=not args.no_optimize,
            max_difference=args.max_difference,
            min_agreement=args.min_agreement,
            max_accuracy_drop=args.max_accuracy_drop,
            model_card=args.card,
            progress=progress,
        )
    # The result, and the command to use it.
    say_lines(console, check)
    if args.layout:
        say(console, f"to serve it: {how_to_serve(out, args.layout)}")
    elif not check.embedding:
        say(console, f"to use it: {command('predict', out)} IMAGE")
    if args.rank:
        _rank([f"{args.model}@graph", str(out), *others], console)


RANK_ROUNDS = 3  # rounds of the benchmark


def _require_rank(args: argparse.Namespace) -> list[str]:
    """The other engines in int8, as contenders. Raises InputError if they cannot be ranked."""
    from ..common.packages import required

    if args.precision != "int8" or args.layout:
        raise InputError("--rank: compares engines in int8; give it with --precision int8 and without --layout")
    for module in ("psutil", "cpuinfo"):
        required(module, "--rank")
    others = []
    for name, target in FORMATS.items():
        if name != args.format and "int8" in target.precisions:
            with suppress(InputError):  # raised if its libraries are not installed
                chosen(name, "int8")
                others.append(f"{args.model}@{name},int8")
    return others


def _rank(contenders: list[str], console: Console) -> None:
    """Measure the model's speed on all engines, and print them in order.

    No engine is left out for its outputs on the benchmark's pictures: the export was checked on the user's pictures,
    and speed does not depend on them.
    """
    from ..bench.engines import parse, sides
    from ..bench.report import show, with_figures
    from ..bench.run import Benchmark, Plan, own_size

    parsed = tuple(map(parse, contenders))
    pixels = own_size(parsed[1:2]) or Plan.size
    plan = Plan(contenders=parsed, size=pixels, inference=(1, 8), rounds=RANK_ROUNDS, seconds=1.0, drop_wrong=False)
    result = Benchmark(plan, lambda text: say(console, text, style="dim"), lambda result: None).run()
    found = with_figures(result)
    show(found, console)
    for batch in plan.inference:
        timed = [row["contender"] for row in found["rows"] if row["batch"] == batch]
        if timed:
            of = "" if len(timed) == len(parsed) else f", of the {len(timed)} of {len(parsed)} that could be timed"
            say(console, f"fastest here at batch {batch}, {sides(pixels)} pixels{of}: {timed[0]}")


@contextmanager
def _default_signals() -> Iterator[None]:
    """Within the block, let Ctrl-C and SIGTERM end the process immediately.

    Otherwise a converter in C++ would continue for minutes, swallow Python's KeyboardInterrupt, or crash. The next
    export removes the hidden folder that may be left.
    """
    # Process 1 of a container receives only signals for which it has a handler.
    handler = signal.default_int_handler if os.getpid() == 1 else signal.SIG_DFL
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)

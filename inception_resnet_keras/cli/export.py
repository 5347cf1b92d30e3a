"""Writes a run's model for another runtime, and keeps it only if it says there what it says in Keras."""

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
from .options import size

if TYPE_CHECKING:
    from rich.console import Console

HELP = "a model for TensorFlow Serving, ONNX Runtime, OpenVINO or LiteRT, compared with Keras's"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", type=Path, metavar="RUN_OR_MODEL", help="a run's folder, or a .keras file")
    add("--format", required=True, choices=tuple(FORMATS), help="what to write")
    add("--precision", choices=PRECISIONS, default="float32", help="(default: %(default)s)")
    add("--out", type=Path, metavar="PATH", help="the file or folder to write, a new one (default: beside the model)")
    add(
        "--calibrate",
        type=Path,
        metavar="FOLDER",
        help="for int8: pictures such as the model will see; up to 300 are used",
    )
    add(
        "--min-calibration",
        type=int,
        default=10,
        metavar="N",
        help="the fewest of them that are not refused; fewer than 100 are warned of (default: %(default)s)",
    )
    add(
        "--quantization",
        action="append",
        type=setting,
        metavar="KEY=VALUE",
        help="a setting of int8's quantiser in its own words, VALUE as JSON: of nncf.quantize for openvino, of "
        "onnxruntime's quantize_static for onnx; repeat it for more",
    )
    add("--validate", metavar="SOURCE", help=f"labelled pictures to compare accuracies on: {SOURCE_HELP}")
    add(
        "--check",
        type=Path,
        metavar="FOLDER",
        help="pictures to compare on, all of them (default: those of --validate, or the others of --calibrate)",
    )
    add(
        "--rank",
        action="store_true",
        help="of int8: export it for the other engines too, for a moment, and time all of them here, on this size",
    )
    add("--labels", metavar="FILE", help="class names, a line each in the outputs' order; or `imagenet`")
    add(
        "--preprocessing",
        choices=tuple(PREPROCESSINGS),
        help="how the model takes pixels, where that cannot be measured (none: 0-255 as they are)",
    )
    add("--size", type=size, metavar="SIDE", help="for a model of pictures of any size: 299, or HEIGHTxWIDTH")
    add(
        "--input-type",
        choices=INPUT_TYPES,
        default="float32",
        help="of the pixels that it takes (default: %(default)s)",
    )
    add("--integer-only", action="store_true", help="of LiteRT in int8: integers in, inside and out, as NPUs need it")
    add("--opset", type=int, metavar="N", help=f"of ONNX, {OPSETS[0]} to {OPSETS[-1]} (default: {OPSETS[-1]})")
    add("--layout", choices=LAYOUTS, help="write a folder that this server serves: Triton, OpenVINO's, TensorFlow's")
    add("--name", help="with --layout: the model's, to the server (default: that of its folder or file)")
    add("--no-optimize", action="store_true", help="export the graph as it is, nothing folded")
    add("--card", action="store_true", help="write README.md beside it: a model card for Hugging Face's hub")
    bound = "past it nothing is kept (default: by precision)"
    add("--max-difference", type=float, metavar="SHARE", help=f"of the largest output; {bound}")
    add("--min-agreement", type=float, metavar="SHARE", help=f"of pictures with the same top-1; {bound}")
    add("--max-accuracy-drop", type=float, metavar="SHARE", help=f"on --validate; {bound}")


def run(args: argparse.Namespace) -> None:
    require_tensorflow("export")
    from ..models.open import find_keras_file

    target, precision = chosen(args.format, args.precision)
    if args.layout:
        check_layout(args.layout, args.format)
    elif args.name is not None:
        raise InputError("--name: is what a server calls the model; give --layout too")
    others = _require_rank(args) if args.rank else []
    find_keras_file(args.model)  # a missing model is reported before the place that follows from it
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
    say_lines(console, check)
    if args.layout:
        say(console, f"to serve it: {how_to_serve(out, args.layout)}")
    elif not check.embedding:
        say(console, f"to use it: {command('predict', out)} IMAGE")
    if args.rank:
        _rank([f"{args.model}@graph", str(out), *others], console)


RANK_ROUNDS = 3  # turns of each engine


def _require_rank(args: argparse.Namespace) -> list[str]:
    """The other engines in int8, as contenders. Raises InputError where they cannot be ranked."""
    from ..common.packages import required

    if args.precision != "int8" or args.layout:
        raise InputError("--rank: times engines in int8: give it with --precision int8 and without --layout")
    for module in ("psutil", "cpuinfo"):
        required(module, "--rank")
    others = []
    for name, target in FORMATS.items():
        if name != args.format and "int8" in target.precisions:
            with suppress(InputError):  # its libraries are not installed
                chosen(name, "int8")
                others.append(f"{args.model}@{name},int8")
    return others


def _rank(contenders: list[str], console: Console) -> None:
    """Time the engines of the model, and print them by their speed.

    Speed does not depend on the pictures, and the export was judged on the user's: none is left out for what it
    computes on the benchmark's own.
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
    """Let Ctrl-C and SIGTERM end the process at once.

    A converter in C++ would go on for minutes, swallow Python's KeyboardInterrupt or crash because of it. The hidden
    folder that is left then is removed by the next export.
    """
    # Process 1, of a container, gets no signal that it has no handler for.
    handler = signal.default_int_handler if os.getpid() == 1 else signal.SIG_DFL
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)

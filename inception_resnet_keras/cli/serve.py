"""Serves a model over HTTP: pictures in, classes and probabilities out, those of concurrent requests in batches.

Takes a picture's file, TensorFlow Serving's REST form, and the Open Inference Protocol v2 of KServe and Triton.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..models.precision import PRECISION_HELP, PRECISIONS
from ..models.saved_model import TRUST_HELP
from ..networks.rows import PREPROCESSINGS

HELP = "a model over HTTP, in batches: TensorFlow Serving's form, the Open Inference Protocol, or a picture's file"
MIB = 1024**2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="a run's folder; a .keras or .h5 model; an exported .onnx, .xml, .tflite or SavedModel's folder; or "
        "[NETWORK[:VARIANT]=]WEIGHTS: a checkpoint or a registered name, such as inception_v4=imagenet",
    )
    add("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0: reached by all (default: %(default)s)")
    add("--port", type=int, default=8080, help="0: a free one (default: %(default)s)")
    add("--name", help="the model's, in addresses (default: that of its folder or file)")
    add("--max-batch", type=int, default=8, metavar="N", help="pictures at once (default: %(default)s)")
    add(
        "--max-wait",
        type=float,
        default=5.0,
        metavar="MS",
        help="milliseconds that a picture waits for others (default: %(default)g)",
    )
    add(
        "--max-queue",
        type=int,
        default=128,
        metavar="N",
        help="pictures in progress; more are answered with status 503 (default: %(default)s)",
    )
    add("--max-upload", type=float, default=16.0, metavar="MIB", help="largest request (default: %(default)g)")
    add("--max-pixels", type=int, default=64 * MIB, metavar="N", help="largest picture (default: %(default)s)")
    add(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="within which a request must have arrived (default: %(default)g)",
    )
    add("--embedding", action="store_true", help="give embeddings in place of classes")
    add("--classes", type=Path, metavar="FILE", help="class names, one a line, for a model without any")
    add(
        "--preprocessing",
        choices=tuple(PREPROCESSINGS),
        help="how the model takes pixels, where that cannot be measured (none: 0-255 as they are)",
    )
    add("--precision", choices=PRECISIONS, help=PRECISION_HELP)
    add("--trust", action="store_true", help=TRUST_HELP)


def run(args: argparse.Namespace) -> None:
    from rich.console import Console

    from ..common.console import printable, say
    from ..deploy.serve import serve

    def note(text: str) -> None:
        print(f"note: {printable(text)}", file=sys.stderr)

    say(Console(stderr=True), f"opening {args.model}", style="dim")
    serve(
        args.model,
        host=args.host,
        port=args.port,
        name=args.name,
        max_batch=args.max_batch,
        max_wait=args.max_wait / 1000,
        max_queue=args.max_queue,
        max_upload=round(args.max_upload * MIB),
        max_pixels=args.max_pixels,
        timeout=args.timeout,
        embedding=args.embedding,
        classes=args.classes,
        preprocessing=args.preprocessing,
        precision=args.precision,
        trust=args.trust,
        say=lambda line: print(line, flush=True),
        note=note,
    )

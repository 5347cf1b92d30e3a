"""Serve a model over HTTP: pictures in, classes and probabilities out. Concurrent requests are computed in batches.

Accepts picture files, the REST API of TensorFlow Serving, and the Open Inference Protocol v2 of KServe and Triton.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..models.precision import PRECISION_HELP, PRECISIONS
from ..models.saved_model import TRUST_HELP
from ..networks.rows import PREPROCESSINGS
from .options import ANY_MODEL_HELP, CLASSES_HELP, PREPROCESSING_HELP

HELP = "serve a model over HTTP (picture files, TensorFlow Serving's REST API, Open Inference Protocol)"
MIB = 1024**2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help=ANY_MODEL_HELP,
    )
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all interfaces (default: %(default)s)")
    add("--port", type=int, default=8080, help="port; 0 for any free port (default: %(default)s)")
    add("--name", help="name of the model in URLs (default: name of its folder or file)")
    add("--max-batch", type=int, default=8, metavar="N", help="largest batch of pictures (default: %(default)s)")
    add(
        "--max-wait",
        type=float,
        default=5.0,
        metavar="MS",
        help="longest time that a picture waits for others, in milliseconds (default: %(default)g)",
    )
    add(
        "--max-queue",
        type=int,
        default=128,
        metavar="N",
        help="largest number of pictures in progress; further requests get status 503 (default: %(default)s)",
    )
    add("--max-upload", type=float, default=16.0, metavar="MIB", help="largest request in MiB (default: %(default)g)")
    add(
        "--max-pixels", type=int, default=64 * MIB, metavar="N", help="largest picture in pixels (default: %(default)s)"
    )
    add(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="longest time for receiving a request, in seconds (default: %(default)g)",
    )
    add("--embedding", action="store_true", help="return embeddings instead of classes")
    add("--classes", type=Path, metavar="FILE", help=CLASSES_HELP)
    add("--preprocessing", choices=tuple(PREPROCESSINGS), help=PREPROCESSING_HELP)
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

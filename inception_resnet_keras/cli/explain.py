"""Explain a model's predictions by Grad-CAM and integrated gradients, drawn over the pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..networks.rows import PREPROCESSINGS
from .options import MODEL_HELP, PREPROCESSING_HELP, add_value_range

HELP = "explain predictions by Grad-CAM and integrated gradients, drawn over the pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help=MODEL_HELP)
    add("images", type=Path, nargs="+", metavar="IMAGE", help="pictures, or folders of pictures")
    add(
        "--class",
        dest="class_name",
        metavar="CLASS",
        help="class to explain, by name or number (default: the most probable)",
    )
    add(
        "--endpoint",
        metavar="NAME",
        help="feature map for Grad-CAM, such as b10 (default: the last one of at least 5×5)",
    )
    add(
        "--steps",
        type=int,
        metavar="N",
        help="steps of integrated gradients; more are more accurate and slower (default: 32)",
    )
    add(
        "--against",
        type=Path,
        metavar="IMAGE",
        help="explain the similarity to this picture instead, such as another face",
    )
    add("--preprocessing", choices=tuple(PREPROCESSINGS), help=PREPROCESSING_HELP)
    add_value_range(parser)
    add(
        "--out",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="folder for the drawings (default: the current folder)",
    )


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from ..common.console import say
    from ..evaluation.explain import explain_files

    console = Console()
    drawn = explain_files(
        args.model,
        args.images,
        out=args.out,
        class_name=args.class_name,
        against=args.against,
        endpoint=args.endpoint,
        steps=args.steps,
        preprocessing=args.preprocessing,
        value_range=args.value_range,
        note=lambda text: say(console, text, style="yellow"),
    )
    for one in drawn:
        if one.error:
            say(console, f"left out: {one.path}: {one.error}", style="yellow")
            continue
        say(console, f"{one.path}: {one.what} → {one.out}")
        if one.hint:
            say(console, f"  hint: {one.hint}", style="yellow")
    return 0 if any(one.out for one in drawn) else 1

"""Draws why a model says what it says of pictures: Grad-CAM and integrated gradients over each."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..networks.rows import PREPROCESSINGS

HELP = "why a model says what it says of pictures, drawn over them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="a run's folder, a .keras file, inception_v4=imagenet, or a checkpoint's path")
    add("images", type=Path, nargs="+", metavar="IMAGE", help="pictures, or folders of them")
    add("--class", dest="class_name", metavar="CLASS", help="to explain, by name or number (default: the likeliest)")
    add("--endpoint", metavar="NAME", help="the map of Grad-CAM, such as b10 (default: the last of at least 5×5)")
    add("--steps", type=int, metavar="N", help="of integrated gradients: more are finer and slower (default: 32)")
    add(
        "--against",
        type=Path,
        metavar="IMAGE",
        help="explain the likeness to this picture, such as a face's",
    )
    add(
        "--preprocessing",
        choices=tuple(PREPROCESSINGS),
        help="how the model takes pixels, where that cannot be measured (none: 0-255 as they are)",
    )
    add("--out", type=Path, default=Path(), metavar="FOLDER", help="for the drawings (default: this folder)")


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

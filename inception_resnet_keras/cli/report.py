"""Write report.html into the folder of a run, of folds or seeds, of an evaluation or of a comparison: one page with
data, training, results with intervals, curves, mistakes, environment and command, which works offline.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write an HTML report about a run, folds or seeds, an evaluation or a comparison"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder written by train, evaluate or compare")
    parser.add_argument(
        "--explanations",
        type=int,
        default=0,
        metavar="N",
        help="for a run: number of pictures to explain by Grad-CAM and integrated gradients (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    from rich.console import Console

    from ..common.console import say
    from ..evaluation.html_report import write_report

    say(Console(), f"the report is {write_report(args.folder, explanations=args.explanations)}")

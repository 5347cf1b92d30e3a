"""Draw a network: an overview, its modules or every layer, as a picture, a text or an interactive page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .. import networks
from ..common.console import printable
from ..common.errors import InputError
from ..networks.edits import OUTPUT_STRIDES
from .options import sides, size

HELP = "draw a network as SVG, PNG, PDF, DOT, Mermaid, or an interactive page"
LEVELS = ("overview", "modules", "layers")
SUFFIXES = {"svg": ".svg", "png": ".png", "pdf": ".pdf", "dot": ".dot", "mermaid": ".mmd", "html": ".html"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "network",
        metavar="NETWORK",
        help=f"one of {', '.join(networks.NETWORKS)}; a run's folder or a .keras file; or `all` for the overview and "
        "the modules of every variant as SVG and PNG, and the interactive page, in the folder --out",
    )
    parser.add_argument("--level", choices=LEVELS, default="overview", help="level of detail (default: %(default)s)")
    parser.add_argument("--module", help="with --level modules: the only module to draw: stem, a, reduction_a, …")
    parser.add_argument("--variant", default="paper", help="variant of the network (default: %(default)s)")
    parser.add_argument("--depths", type=int, nargs="+", metavar="N", help="numbers of blocks A, B and C")
    parser.add_argument(
        "--size", type=size, help="size of the image, a side or HEIGHTxWIDTH (default: the variant's own)"
    )
    parser.add_argument("--classes", type=int, help="number of classes (default: the variant's own)")
    parser.add_argument(
        "--aux-head", action="store_true", help="also draw the auxiliary classifier, which the paper's figures omit"
    )
    add_density(parser)
    parser.add_argument("--upwards", action="store_true", help="draw from bottom to top, as in the paper")
    parser.add_argument("--format", choices=SUFFIXES, help="format (default: by the ending of --out, or svg)")
    parser.add_argument(
        "--out", type=Path, help="file to write; an existing file is replaced (default: in the current folder)"
    )


def add_density(parser: argparse.ArgumentParser) -> None:
    """Add the options for denser feature maps."""
    parser.add_argument(
        "--padding",
        choices=("valid", "same"),
        default="valid",
        help="padding of the convolutions; with same, the cells of all maps are aligned (default: %(default)s)",
    )
    parser.add_argument(
        "--output-stride",
        type=int,
        choices=OUTPUT_STRIDES,
        help="stride of the last map; below 32, later convolutions are dilated instead (default: 32)",
    )


def run(args: argparse.Namespace) -> None:
    if args.network == "all":
        _draw_all(args)
        return
    from ..diagrams.api import plot_architecture

    model = Path(args.network).suffix == ".keras" or Path(args.network).is_dir()
    stem = Path(args.network).stem if model else f"{args.network}_{args.variant}"
    out = args.out or Path(f"{stem}_{args.module or args.level}{SUFFIXES[args.format or 'svg']}")
    plot_architecture(
        _loaded(Path(args.network)) if model else args.network,
        out,
        level=args.level,
        module=args.module,
        variant=args.variant,
        depths=args.depths,
        input_shape=None if args.size is None else (*sides(args.size), 3),
        num_classes=args.classes,
        aux_head=args.aux_head,
        padding=args.padding,
        output_stride=args.output_stride,
        upwards=args.upwards,
        format=args.format,
    )
    print(printable(out))
    if args.format == "png" or out.suffix.lower() == ".png":
        from ..diagrams.svg import png_size

        width, height = png_size(out)
        print(f"{width:,} × {height:,} pixels, {out.stat().st_size / 1e6:.1f} MB", file=sys.stderr)


def _draw_all(args: argparse.Namespace) -> None:
    from ..diagrams.api import draw_all

    if args.out is None:
        raise InputError("--out: is missing; `plot all` needs the folder to write, such as --out architecture_plots")
    for path in draw_all(args.out):
        print(printable(path))


def _loaded(path: Path) -> Any:
    if not path.exists():
        raise InputError(f"NETWORK: there is no file {str(path)!r}")
    from ..models.model_file import load_keras_model
    from ..models.open import find_keras_file

    file = find_keras_file(path)
    if file is None:
        raise InputError(f"NETWORK: {path} is an exported model; give a run's folder or a .keras file")
    return load_keras_model(file)

"""Print a network's stages with output shapes, parameters and multiply-adds, without building the network."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .. import networks
from ..common.arguments import positive_integer
from ..common.errors import InputError, refuse
from ..networks import names
from ..networks.checks import LONGEST_SIDE
from ..networks.edits import with_output_stride, with_padding
from ..networks.rows import Network
from ..networks.trace import Stage, merged, stages, trace
from .options import sides, size
from .plot import add_density

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 72  # least width of the table: in narrower terminals, wrapped lines are more legible than truncated words
HELP = "print a network's stages: output shapes, parameters, multiply-adds"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", choices=list(networks.NETWORKS), metavar="NETWORK", help="one of %(choices)s")
    parser.add_argument("--variant", default="paper", help="variant of the network (default: %(default)s)")
    parser.add_argument(
        "--size", type=size, help="size of the image, a side or HEIGHTxWIDTH (default: the variant's own)"
    )
    parser.add_argument("--classes", type=int, help="number of classes (default: the variant's own)")
    add_density(parser)
    parser.add_argument("--blocks", action="store_true", help="print one line per block, also for equal blocks")


def run(args: argparse.Namespace) -> None:
    from rich.console import Console

    network = with_padding(networks.find(args.network, args.variant), args.padding)
    network = with_output_stride(network, args.output_stride)
    if args.classes is not None:
        positive_integer("--classes", args.classes)
    height, width = sides(network.size if args.size is None else args.size)
    if max(height, width) > LONGEST_SIDE:
        raise refuse("--size", args.size, f"sides of at most {LONGEST_SIDE}")
    try:
        found = stages(trace(network, (height, width), **networks.head(network, args.classes)))
    except ValueError as error:
        raise InputError(f"--size: got {args.size}, which is too small: {error}") from None
    console = Console(width=max(Console().width, WIDTH))
    console.print(_table(network, found if args.blocks else merged(found), found))


def _table(network: Network, shown: list[Stage], every: list[Stage]) -> Table:
    from rich.table import Table

    trainable, statistics = (sum(getattr(stage, key) for stage in every) for key in ("trainable", "statistics"))
    table = Table(
        title=f"{network.name} ({', '.join([network.variant, *networks.edited(network)])})",
        caption=f"{trainable:,} trainable parameters, {statistics:,} statistics; "
        f"{every[-1].depth} convolutions and dense layers on the longest path",
        show_footer=True,
    )
    table.add_column("stage", footer="total")
    table.add_column("figure")
    for column, footer in (
        ("output", ""),
        ("parameters", f"{trainable + statistics:,}"),
        ("multiply-adds", f"{sum(stage.macs or 0 for stage in every) / 1e9:.2f} G"),
    ):
        table.add_column(column, footer=footer, justify="right")
    for stage in shown:
        if stage.name == names.DROPOUT:
            continue
        table.add_row(
            f"{stage.name} ×{stage.times}" if stage.times > 1 else stage.name,
            networks.figure(network, stage.name),
            "×".join(map(str, stage.shape)),
            f"{stage.trainable + stage.statistics:,}" if stage.trainable else "",
            f"{(stage.macs or 0) / 1e6:,.1f} M" if stage.macs else "",
        )
    return table

"""Pack labelled pictures into TFRecord shards with an index. Pictures are checked once, and opened fast afterwards."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..common.errors import InputError
from ..data import SOURCE_HELP
from .options import MAX_CORRUPT_HELP

HELP = "pack labelled pictures into TFRecord shards"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=f"labelled pictures: {SOURCE_HELP}")
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT", help="folder to write, which must not exist")
    parser.add_argument("--verify", action="store_true", help="write nothing; check the hashes of a packed SOURCE")
    parser.add_argument("--seed", type=int, default=0, help="seed of the pictures' order (default: %(default)s)")
    parser.add_argument(
        "--shard-mb", type=int, default=128, metavar="N", help="size of a shard in MiB (default: %(default)s)"
    )
    parser.add_argument(
        "--max-corrupt",
        type=number_or_share,
        default=0.01,
        metavar="N",
        help=f"{MAX_CORRUPT_HELP} (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    if args.verify == (args.out is not None):
        raise InputError("OUT: name the folder to write, or give --verify to check SOURCE, a packed folder")
    if args.verify:
        from ..common.console import counted
        from ..data.packed import verify_packed

        print(counted(verify_packed(Path(args.source)), "shard", "is", "are") + " unchanged since packing")
    else:
        _pack(args)


def _pack(args: argparse.Namespace) -> None:
    from rich.console import Console

    from ..common.bars import reading
    from ..common.console import counted, say
    from ..common.packages import required
    from ..data.packed import pack
    from ..data.sources import open_source

    required("tensorflow", "pack")  # before the headers of all pictures are read
    console = Console()
    with reading(console) as bars:
        scan = bars.add_task("reading headers", total=None)
        source = open_source(
            args.source,
            max_corrupt=args.max_corrupt,
            progress=lambda done, total: bars.update(scan, completed=done, total=total),
        )
        bar = bars.add_task("packing", total=len(source))
        packed = pack(
            source,
            args.out,
            seed=args.seed,
            shard_bytes=args.shard_mb * 1024**2,
            progress=lambda done, _: bars.update(bar, completed=done),
        )
    for note in source.notes:
        say(console, note)
    for name, reason in (*source.corrupt.listed(), *source.beside):
        say(console, f"left out: {name}: {reason}", style="yellow")
    say(
        console,
        f"{counted(packed.pictures, 'picture')} of {counted(len(source.class_names), 'class')}, "
        f"{packed.bytes / 1e6:,.1f} MB in {counted(packed.shards, 'shard')} → {packed.path}",
    )


def number_or_share(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)

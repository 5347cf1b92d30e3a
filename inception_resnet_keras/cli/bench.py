"""Measures networks, engines and precisions beside each other: latency, throughput, memory, start-up, and
whether what is timed computes the network at all. Each contender runs in a process of its own, in turns,
and is told as so many times as fast as the baseline in the same rounds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..bench.engines import GRAMMAR, PRESETS, parse, parse_all
from ..common.errors import refuse

HELP = "speed and memory of networks, engines and precisions, in turns"
CHARTS = (".png", ".svg", ".pdf")
A_WORKER = 2.5e9  # bytes: what one may hold, where all are kept alive

_presets = "\n".join(
    f"  {name:4} {preset.about}; batches {', '.join(map(str, preset.batches))}"
    + (f", of training {', '.join(map(str, preset.training))}" if preset.training else "")
    for name, preset in PRESETS.items()
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"{GRAMMAR}\n\nPresets\n{_presets}"
    add = parser.add_argument
    add("contenders", nargs="*", metavar="CONTENDER", help="see below (default: the device's preset)")
    add("--preset", choices=list(PRESETS), help="a set of contenders and batches, before those that are named")
    add(
        "--baseline",
        metavar="CONTENDER",
        help="that all are set against (default: keras-applications@graph, or the first)",
    )
    add("--batch", type=_sizes, metavar="N,…", help="pictures of a call (default: the preset's, or 1,8)")
    add("--train", action="store_true", help="training steps too, of the preset's batches, or of 32 pictures")
    add("--train-batch", type=_sizes, metavar="N,…", help="training steps too, of so many pictures")
    add("--no-inference", action="store_true", help="training steps alone")
    add("--size", type=int, default=299, help="side of the pictures in pixels (default: %(default)s)")
    add("--rounds", type=int, default=5, help="turns of each contender (default: %(default)s)")
    add("--seconds", type=float, default=2.0, help="of a turn, at least three calls (default: %(default)s)")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="(default: a GPU where there is one)")
    add("--threads", type=int, metavar="N", help="that each computes with (default: each one's own choice)")
    add("--steps-per-call", type=int, default=1, metavar="N", help="training steps of a call (default: %(default)s)")
    add(
        "--workers",
        choices=("auto", "together", "apart"),
        default="auto",
        help="together: all stay alive; apart: each ends with its turns, as a GPU's or a full machine's memory needs",
    )
    add("--json", type=Path, metavar="FILE", help="write every raw figure too, after each round")
    add("--chart", type=Path, metavar="FILE", help=f"draw the ratios too: {', '.join(CHARTS)}")


def run(args: argparse.Namespace) -> int:
    import signal
    import sys

    from rich.console import Console

    from ..bench.report import plot, report, show
    from ..bench.run import Benchmark
    from ..common.console import command, say
    from ..common.files import write_json

    for option, suffixes in (("json", (".json",)), ("chart", CHARTS)):
        file: Path | None = getattr(args, option)
        if file is not None and (file.suffix not in suffixes or not file.parent.is_dir()):
            raise refuse(
                f"--{option}", str(file), f"a file ending in {' or '.join(suffixes)} in a folder that is there"
            )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that exports of gigabytes are not left behind
    progress = Console(stderr=True)
    plan = plan_of(args, lambda text: say(progress, text, style="yellow"))
    typed = command("bench", *sys.argv[2:])

    def keep(benchmark: Benchmark) -> None:
        if args.json is not None:
            write_json(args.json, report(benchmark, typed))

    benchmark = Benchmark(plan, tell=lambda text: say(progress, text)).run(keep)
    result = report(benchmark, typed)
    show(result, Console())
    if args.chart is not None:
        plot(result, args.chart)
    return 0 if any(entry.turns and not entry.failure for entry in benchmark.entries) else 1


def plan_of(args: argparse.Namespace, warn: Any) -> Any:
    """The Plan that options ask for; warn: is given a line where it is not as they may have it in mind."""
    from ..bench.run import Plan, available_memory, baseline_of, gpus

    device = args.device
    if device == "auto":
        device = "gpu" if gpus() else "cpu"
    preset = PRESETS[args.preset or device] if args.preset or not args.contenders else None
    texts = [*(preset.contenders if preset else ()), *args.contenders]
    baseline = parse(args.baseline) if args.baseline else None
    contenders = parse_all(texts)
    if baseline is not None and baseline not in contenders:
        contenders.insert(0, baseline)
    batches = args.batch or (preset.batches if preset else (1, 8))
    training = args.train_batch or (preset.training if preset else ()) or ((32,) if args.train else ())
    apart = args.workers == "apart" or (args.workers == "auto" and device == "gpu")
    free = available_memory()
    if args.workers == "auto" and not apart and len(contenders) * A_WORKER > free:
        apart = True
        warn(
            f"{free / 1e9:.0f} GB of memory are free, too few for {len(contenders)} contenders at once: each ends with "
            "its turns of a round (--workers together keeps them)"
        )
    return Plan(
        contenders=tuple(contenders),
        baseline=baseline_of(contenders, baseline),
        batches=() if args.no_inference else batches,
        training=training,
        size=args.size,
        rounds=args.rounds,
        seconds=args.seconds,
        device=device,
        threads=args.threads,
        steps=args.steps_per_call,
        apart=apart,
    )


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}; it takes numbers with commas between, such as 1,8") from None

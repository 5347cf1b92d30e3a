"""Benchmark of networks, engines and precisions: latency, throughput, memory, compile time and share of the machine's
peak, after a check that each contender computes the right result. Each contender runs in separate processes, in
alternating rounds, and is compared with the baseline within each round.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from ..bench.engines import (
    APART,
    APPLICATIONS,
    FIT,
    IN_TENSORFLOW,
    IN_TORCH,
    OPTIMIZED,
    PLAIN,
    PRECISIONS,
    TIMM,
    TIMM_NETWORKS,
    parse,
)
from ..common.errors import refuse
from ..deploy.formats import FORMATS
from .options import sides, size

HELP = "compare the speed and memory of networks, engines and precisions"
CHARTS = (".png", ".svg", ".pdf")
GRAMMAR = f"""\
A contender is WHAT[+FORM][@ENGINE[,PRECISION]]

  WHAT       a network of this package, NETWORK[:VARIANT], such as inception_resnet_v2:slim
             {APPLICATIONS}   (Keras's own InceptionResNetV2)
             {TIMM}{TIMM_NETWORKS[0]}, {TIMM}{TIMM_NETWORKS[1]}   (if torch and timm are installed)
             a run's folder, or any Keras model in a .keras or .h5 file
             an exported model: a .onnx, .xml or .tflite file, or a SavedModel's folder; it keeps its precision
  FORM       for graph and xla: {OPTIMIZED}, with optimize_for_inference, which exports always use;
             {APART}, the same without joining sibling 1×1 convolutions;
             for training a network: {FIT}, with Keras's `fit` instead of the step of `train`,
             {PLAIN}, with that step but Keras's batch norm instead of the fused kernel
  ENGINE     for Keras models: {", ".join(IN_TENSORFLOW)}, or exported first: {", ".join(FORMATS)}
             for timm: {", ".join(IN_TORCH)}
  PRECISION  {(chr(10) + 13 * " ").join(f"for {engine}: {', '.join(kinds)}" for engine, kinds in PRECISIONS.items())}

The first engine and precision are the defaults. float32 is exact; tf32 is faster on NVIDIA GPUs.
Examples: inception_resnet_v2:slim+{OPTIMIZED}@xla,mixed_bfloat16   inception_v4:slim@openvino,int8   run/model.xml"""


class Preset(NamedTuple):
    """A set of contenders, the baseline first, with batch sizes. about: A description for `--help`."""

    about: str
    contenders: list[str]
    inference: tuple[int, ...]
    training: tuple[int, ...] = ()
    size: int = 299


_SLIM, _V4 = "inception_resnet_v2:slim", "inception_v4:slim"
_ON_CPU = f"""\
{APPLICATIONS}@graph {_SLIM}@graph {_SLIM}+{OPTIMIZED}@graph {_SLIM}@xla {_SLIM}+{OPTIMIZED}@xla
{_SLIM}@openvino {_SLIM}@openvino,bfloat16 {_SLIM}@openvino,int8 {_SLIM}@onnx {_SLIM}@onnx,int8
{_SLIM}@litert {_SLIM}@litert,int8 {TIMM}inception_resnet_v2@eager {TIMM}inception_resnet_v2@compile"""
_HOW_ON_GPU = product((_SLIM, _V4), PRECISIONS["graph"][1:], IN_TENSORFLOW, ("", f"+{OPTIMIZED}"))
_ON_GPU = [
    *(f"{APPLICATIONS}@{engine},{how}" for how, engine in product(("mixed_bfloat16", "tf32"), IN_TENSORFLOW)),
    *(f"{network}{form}@{engine},{precision}" for network, precision, engine, form in _HOW_ON_GPU),
    *(f"{TIMM}{network}@{engine},bfloat16" for network, engine in product(TIMM_NETWORKS, IN_TORCH)),
]
_V1 = "inception_resnet_v1:paper"
_IN_TRAINING = f"{_V1}+{FIT}@graph {_V1}+{FIT}@xla {_V1}+{PLAIN}@graph {_V1}@graph {_V1}@graph,mixed_bfloat16"
PRESETS = {
    "cpu": Preset("ResNet-v2 slim: TensorFlow, exports, and the peers", _ON_CPU.split(), (1, 8)),
    "gpu": Preset("ResNet-v2 slim and v4, and the peers", _ON_GPU, (1, 32, 128, 256), (64, 128, 256)),
    "train": Preset("training steps of ResNet-v1, by `fit` and as in `train`", _IN_TRAINING.split(), (), (16,), 224),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"{GRAMMAR}\n\nPresets"
    for name, preset in PRESETS.items():
        about = f"{preset.about}; batches {preset.inference}, training batches {preset.training}, {preset.size} pixels"
        parser.epilog += f"\n  {name:5}  {about}"
    add = parser.add_argument
    add("contenders", nargs="*", metavar="CONTENDER", help="see below (default: the device's preset)")
    add("--preset", choices=list(PRESETS), help="a set of contenders and batches, in addition to the named contenders")
    add(
        "--baseline",
        metavar="CONTENDER",
        help="contender with which all others are compared (default: keras-applications, or the first)",
    )
    add("--batch", type=_sizes, metavar="N,…", help="images per call (default: the preset's, or 1,8)")
    add(
        "--train",
        action="store_true",
        help="also measure training steps, with the preset's batches or 32 images; without contenders: --preset train",
    )
    add("--train-batch", type=_sizes, metavar="N,…", help="also measure training steps of N images")
    add("--no-inference", action="store_true", help="measure training steps only")
    add(
        "--size",
        type=size,
        metavar="PIXELS",
        help="side of the images, or HEIGHTxWIDTH (default: the size of the files, the preset's, or 299)",
    )
    add("--rounds", type=int, default=5, help="number of rounds (default: %(default)s)")
    add(
        "--seconds",
        type=float,
        default=2.0,
        help="duration of each measurement, of at least three calls (default: %(default)s)",
    )
    add(
        "--device",
        choices=("auto", "cpu", "gpu"),
        default="auto",
        help="device to use (default: the preset's, or a GPU if there is one)",
    )
    add("--threads", type=int, metavar="N", help="threads of each contender (default: its own choice)")
    add("--json", type=Path, metavar="FILE", help="also write all raw figures, after each measurement")
    add("--chart", type=Path, metavar="FILE", help=f"also draw the ratios, as {', '.join(CHARTS)}")


def run(args: argparse.Namespace) -> int:
    import signal
    import sys

    from rich.console import Console

    from ..bench.report import plot, show, with_figures
    from ..bench.run import Benchmark
    from ..common.console import command, say
    from ..common.files import write_json

    for option, suffixes in (("json", (".json",)), ("chart", CHARTS)):
        file: Path | None = getattr(args, option)
        if file is not None and (file.suffix not in suffixes or not file.parent.is_dir()):
            raise refuse(f"--{option}", str(file), f"a file ending in {' or '.join(suffixes)} in an existing folder")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that temporary exports are removed
    progress, typed = Console(stderr=True), command("bench", *sys.argv[2:])

    def report(result: dict[str, Any]) -> dict[str, Any]:
        return {"command": typed, **with_figures(result)}

    def keep(result: dict[str, Any]) -> None:
        if args.json is not None:
            write_json(args.json, report(result))

    done = report(Benchmark(plan_of(args), lambda text: say(progress, text), keep).run())
    show(done, Console())
    if args.chart is not None:
        plot(done, args.chart)
    return 0 if done["rows"] else 1


def plan_of(args: argparse.Namespace) -> Any:
    """The benchmark's plan from the options."""
    from ..bench.run import Plan, own_size
    from ..common.machine import nvidia_gpus

    device = args.device
    if device == "auto":
        device = args.preset if args.preset in ("cpu", "gpu") else "gpu" if nvidia_gpus() else "cpu"
    chosen = args.preset or (None if args.contenders else "train" if args.train else device)
    preset = PRESETS[chosen] if chosen else None
    contenders = [*map(parse, [*(preset.contenders if preset else []), *args.contenders])]
    contenders.sort(key=lambda contender: contender.kind != "applications")
    if args.baseline is not None:
        contenders.insert(0, parse(args.baseline))
    inference = () if args.no_inference else args.batch or (preset.inference if preset else (1, 8))
    training = args.train_batch or (preset.training if preset else ()) or ((32,) if args.train else ())
    options = {name: getattr(args, name) for name in ("rounds", "seconds", "threads")}
    given = args.size if args.size is not None else own_size(contenders) or (preset.size if preset else Plan.size)
    options["size"] = sides(given)
    options |= {"device": device, "inference": inference, "training": training}
    return Plan(contenders=tuple(dict.fromkeys(contenders)), **options)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted(set(map(int, text.split(",")))))
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}; it takes numbers with commas, such as 1,8") from None

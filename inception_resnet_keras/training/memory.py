"""Memory of a training step: the maps it keeps for its backward pass, as estimated and as measured.

    python -m inception_resnet_keras.training.memory --model inception_resnet_v2 --size 299 --batch-size 8

measures a step with and without rematerialised blocks, each in a process of its own: the most memory held
during a step, the first GPU's where there is one, else the process's, and the step's time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from .. import networks
from ..networks.trace import Node, trace
from .config import TrainConfig

STEPS = 4

GPU = "GPU:0"


@dataclass(frozen=True)
class Activations:
    """Bytes of maps that a replica holds at the most: every one kept, or those between stages and one stage's."""

    kept: int
    rematerialised: int


def estimated(config: TrainConfig, replicas: int = 1) -> Activations:
    """From the network's table: what gradients read again, of a replica's micro-batch.

    A convolution's output is kept for its batch norm and its ReLU's for what follows; so are pooled and
    concatenated maps, and a block's output. Rematerialised, the stages' outputs are kept, and the inner
    maps of one stage at a time. What single operations need while they run is not counted.
    """
    network = networks.find(config.model, config.variant)
    nodes = trace(network, (config.size, config.size), aux_head=config.aux_weight > 0)
    read_by: dict[str, list[str]] = {}
    for node in nodes:
        for name in node.inputs:
            read_by.setdefault(name, []).append(node.op)
    inner: dict[str, int] = {}
    outputs: dict[str, int] = {}
    for node in nodes:
        numbers = int(np.prod([side or 1 for side in node.shape]))
        inner[node.place] = inner.get(node.place, 0) + _kept_maps(node, read_by.get(node.name, [])) * numbers
        outputs[node.place] = numbers
    micro_batch = -(-config.batch_size // (replicas * config.accumulate))
    each = micro_batch * (4 if config.precision == "float32" else 2)
    return Activations(each * sum(inner.values()), each * (sum(outputs.values()) + max(inner.values())))


def _kept_maps(node: Node, readers: list[str]) -> int:
    if node.op == "conv":
        linear = node.row is not None and getattr(node.row, "linear", False)
        return 0 if linear else 2  # a linear one is only added to something
    return 0 if node.op == "sum" and readers == ["relu"] else 1


@dataclass(frozen=True)
class Meter:
    """A memory that can be read.

    memory: whose it is. read: bytes held now, and at the most so far. reset: "so far" begins anew.
    """

    memory: str
    read: Callable[[], tuple[int, int]]
    reset: Callable[[], object]

    def beyond(self, work: Callable[[], object]) -> int:
        """Bytes held at the most during `work`, beyond those held before it."""
        self.reset()
        before, _ = self.read()
        work()
        return self.read()[1] - before


def meter() -> Meter:
    """Of the first GPU's memory where there is one, as TensorFlow holds it, else of the process's."""
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        return Meter("the first GPU", _on_gpu, lambda: tf.config.experimental.reset_memory_stats(GPU))
    return Meter("the process", _in_process, _reset_process)


def peak_on_gpu() -> int | None:
    """The most bytes that TensorFlow held on the first GPU so far; None where there is none."""
    import tensorflow as tf

    return _on_gpu()[1] if tf.config.list_logical_devices("GPU") else None


@dataclass(frozen=True)
class Measured:
    """peak: bytes held at the most in a step, beyond what was held before the first one. memory: whose.

    seconds, processor: of a step by the clock and by all processors together, the least of a few.
    """

    peak: int
    memory: str
    seconds: float
    processor: float


def measured(settings: dict[str, Any]) -> Measured:
    """A step of this configuration, in a new process."""
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(settings, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def _measure(settings: dict[str, Any], sender: Any) -> None:
    from .distribution import make_strategy
    from .session import Session

    config = TrainConfig(**settings)
    session = Session(config, ["a", "b"], STEPS, 0.9, make_strategy(config))
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (config.batch_size, config.size, config.size, 3)).astype(np.float32)
    labels = random.integers(0, 2, config.batch_size)
    times = []

    def steps() -> None:
        for step in range(STEPS):
            begun, used = time.perf_counter(), time.process_time()
            figures, gradients = session.stepper.compute(images, labels)
            session.stepper.apply(gradients, step)
            times.append((time.perf_counter() - begun, time.process_time() - used))
            assert np.isfinite(figures.loss)

    there = meter()
    peak = there.beyond(steps)
    seconds, processor = np.min(times, axis=0)
    sender.send(Measured(peak, there.memory, float(seconds), float(processor)))


def _on_gpu() -> tuple[int, int]:
    import tensorflow as tf

    info = tf.config.experimental.get_memory_info(GPU)
    return int(info["current"]), int(info["peak"])


def _in_process() -> tuple[int, int]:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # no Linux, and no reading of what is held now
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return peak, peak
    found = dict(line.split(":", 1) for line in lines)
    now, peak = (1024 * int(found[field].split()[0]) for field in ("VmRSS", "VmHWM"))
    return now, peak


def _reset_process() -> None:
    with suppress(OSError):  # no Linux, or it is not allowed: then the peak is of the building too
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="inception_resnet_v2", help="(default: %(default)s)")
    parser.add_argument("--variant", default="paper", help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=299, help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--optimizer", default="sgd", help="(default: %(default)s)")
    settings = vars(parser.parse_args())
    estimate = estimated(TrainConfig(**settings))
    for remat, bytes_ in ((False, estimate.kept), (True, estimate.rematerialised)):
        found = measured({**settings, "remat": remat})
        print(
            f"{'rematerialised' if remat else 'every map kept':14}  maps estimated {bytes_ / 1e9:.2f} GB, "
            f"{found.memory} held {found.peak / 1e9:.2f} GB more in a step, {found.seconds:.2f} s "
            f"({found.processor:.2f} s of processors)"
        )


if __name__ == "__main__":
    main()

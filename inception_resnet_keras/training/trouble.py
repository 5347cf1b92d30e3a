"""Diagnosis of failed training steps: values that are not finite, and running out of memory.

    python -m inception_resnet_keras.training.trouble --model inception_resnet_v2 --size 299 --batch-size 8

measures a step with and without rematerialised stages, each in a separate process: the peak memory of the first GPU, or
without a GPU of the process, and the duration of the step.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from ..common.console import say
from ..common.devices import is_out_of_memory, largest_that_fits
from ..common.errors import InputError
from ..common.worker import run_in_worker
from ..networks.trace import Node, trace
from .config import TrainConfig

if TYPE_CHECKING:
    import keras

    from .session import Session
    from .step import StepMetrics


# ----------------------------------------------------------------------------------------------------------------------
# Values that are not finite
# ----------------------------------------------------------------------------------------------------------------------
NAMES_SHOWN = 3


def diagnose(model: keras.Model, images: np.ndarray, metrics: StepMetrics, gradients: Any) -> str:
    """One line with the losses, and the first layer, weights and gradients that are not finite."""
    parts = {"classifier": metrics.classifier, "auxiliary head": metrics.auxiliary, "penalty": metrics.penalty}
    findings = ["losses: " + ", ".join(f"{name} {value:g}" for name, value in parts.items())]
    pixels = np.asarray(images)
    if not np.isfinite(pixels).all():
        findings.append("the pictures themselves contain values that are not finite")
    weights = [weight.path for weight in model.weights if not np.isfinite(weight.numpy()).all()]
    if weights:
        findings.append(f"weights that are not finite: {_first_names(weights)}")
    if (layer := first_broken_layer(model, pixels)) is not None:
        findings.append(f"the first layer whose output is not finite: {layer}")
    broken = [
        variable.path
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
        # With several replicas, a gradient has one part per replica.
        if not all(np.isfinite(part.numpy()).all() for part in getattr(gradient, "values", [gradient]))
    ]
    if broken:
        findings.append(f"{len(broken)} of {len(gradients)} gradients are not finite, from {broken[-1]} down")
    return "; ".join(findings)


def first_broken_layer(model: keras.Model, images: np.ndarray) -> str | None:
    """The first layer, in the order of the graph, whose output for this batch is not finite."""
    import keras

    layers = [layer for layer in model.layers if not isinstance(layer.output, list)]
    with keras.StatelessScope():  # so that batch-norm statistics do not change
        outputs = keras.Model(model.inputs[0], [layer.output for layer in layers])(images, training=True)
    finite = (bool(keras.ops.all(keras.ops.isfinite(output))) for output in outputs)
    return next((layer.name for layer, fine in zip(layers, finite, strict=True) if not fine), None)


def _first_names(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


# ----------------------------------------------------------------------------------------------------------------------
# Running out of memory
# ----------------------------------------------------------------------------------------------------------------------
@contextmanager
def explain_out_of_memory(session: Session, images: Any, labels: Any, console: Console) -> Iterator[None]:
    """Replace an out-of-memory error within the block, a training step, by an InputError with advice."""
    try:
        yield
    except Exception as error:  # XLA and the allocators do not raise TensorFlow's own exceptions
        if not is_out_of_memory(error):
            raise
        advice = batch_size_advice(session, images, labels, console)
    else:
        return
    raise InputError(advice)  # outside the handler, so that the frames of the failed step release their tensors


def batch_size_advice(session: Session, images: Any, labels: Any, console: Console) -> str:
    """A message about the batch that does not fit and settings that need less memory.

    On one replica, the largest batch that fits is searched for: smaller batches are tried in this process, beside the
    weights and the optimizer, without taking a step. On several replicas this is not possible, because they would wait
    for one another.
    """
    config = session.config
    problem = f"batch_size: a step of {config.batch_size} pictures of {config.size_text} does not fit in memory"
    less = "--remat, --precision mixed_bfloat16 or a smaller --size need less memory"
    if session.strategy.num_replicas_in_sync > 1:
        return f"{problem}; give a smaller --batch-size, or compute it in micro-batches: --accumulate N; {less}"
    micro_batch = -(-config.batch_size // config.accumulate)
    say(console, f"{problem}; trying smaller batches…", style="yellow")

    def fits(batch: int) -> bool:
        try:
            session.stepper.compute(images[:batch], labels[:batch])
        except Exception as error:
            if is_out_of_memory(error):
                return False
            raise
        return True

    most = largest_that_fits(micro_batch, fits)
    if not most:
        return f"{problem}, nor does a step of a single picture; {less}"
    parts = next(number for number in range(2, config.batch_size + 1) if _divides(number, config.batch_size, most))
    return (
        f"{problem}; the largest tried batch that fits is {most}. Give --batch-size {most}, or keep "
        f"{config.batch_size} and compute it in micro-batches: --accumulate {parts}; {less}"
    )


def _divides(parts: int, batch: int, most: int) -> bool:
    return batch % parts == 0 and batch // parts <= most


# ----------------------------------------------------------------------------------------------------------------------
# Estimating the memory of a step
# ----------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ActivationBytes:
    """Largest number of bytes of activations on a replica.

    Attributes:
        kept: With all activations kept.
        rematerialised: With the stages' outputs, and the activations inside one stage.
    """

    kept: int
    rematerialised: int


def estimate_activations(config: TrainConfig, replicas: int = 1) -> ActivationBytes:
    """Estimate, from the network's table, the activations of a replica's micro-batch that the backward pass needs.

    Counted are the outputs of convolutions (for their batch norm) and of ReLUs (for the next layer), pooled and
    concatenated maps, and the outputs of blocks. Temporary memory of single operations is not counted.
    """
    nodes = trace(config.network, config.image_size, aux_head=config.aux_weight > 0)
    readers: dict[str, list[str]] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node.op)
    inner: dict[str, int] = {}
    outputs: dict[str, int] = {}
    for node in nodes:
        numbers = int(np.prod([side or 1 for side in node.shape]))
        inner[node.place] = inner.get(node.place, 0) + _kept_maps(node, readers.get(node.name, [])) * numbers
        outputs[node.place] = numbers
    micro_batch = -(-config.batch_size // (replicas * config.accumulate))
    each = micro_batch * (4 if config.precision == "float32" else 2)
    return ActivationBytes(each * sum(inner.values()), each * (sum(outputs.values()) + max(inner.values())))


def _kept_maps(node: Node, readers: list[str]) -> int:
    if node.op == "conv":
        linear = node.row is not None and getattr(node.row, "linear", False)
        return 0 if linear else 2  # the output of a linear convolution is only an addend, which no gradient needs
    return 0 if node.op == "sum" and readers == ["relu"] else 1


# ----------------------------------------------------------------------------------------------------------------------
# Measuring the memory of a step
# ----------------------------------------------------------------------------------------------------------------------
STEPS = 4
GPU = "GPU:0"


@dataclass(frozen=True)
class MemoryMeter:
    """Measures the use of a memory.

    Attributes:
        memory: Name of the memory.
        read: Returns the bytes in use now, and their peak since the last reset.
        reset: Resets the peak.
    """

    memory: str
    read: Callable[[], tuple[int, int]]
    reset: Callable[[], object]

    def peak_beyond_start(self, work: Callable[[], object]) -> int:
        """The peak of bytes in use during `work`, minus the bytes in use before it."""
        self.reset()
        before, _ = self.read()
        work()
        return self.read()[1] - before


def memory_meter() -> MemoryMeter:
    """A meter of the first GPU's memory as counted by TensorFlow; without a GPU, of the process's memory."""
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        return MemoryMeter("the first GPU", _gpu_bytes, lambda: tf.config.experimental.reset_memory_stats(GPU))
    return process_meter()


def process_meter() -> MemoryMeter:
    return MemoryMeter("the process", _process_bytes, _reset_process_peak)


def gpu_peak_bytes() -> int | None:
    """TensorFlow's peak memory on the first GPU, in bytes; `None` without a GPU."""
    import tensorflow as tf

    return _gpu_bytes()[1] if tf.config.list_logical_devices("GPU") else None


@dataclass(frozen=True)
class StepMeasurement:
    """The measurement of a step.

    Attributes:
        peak: Peak of bytes in use during the steps, minus the bytes before the first step.
        memory: Name of the memory.
        seconds, processor_seconds: Duration of a step, and processor time over all cores; the minimum of a few steps.
    """

    peak: int
    memory: str
    seconds: float
    processor_seconds: float


def measure_step(settings: dict[str, Any]) -> StepMeasurement:
    """Measure a step of the configuration with these settings, in a new process."""
    [found] = run_in_worker(_measure_step, settings, gpus=True)
    return found


def _measure_step(settings: dict[str, Any]) -> Iterator[StepMeasurement]:
    from .cluster import make_strategy
    from .session import Session

    config = TrainConfig.from_settings(settings)
    session = Session(config, ["a", "b"], STEPS, 0.9, make_strategy(config))
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (config.batch_size, *config.image_size, 3)).astype(np.float32)
    labels = random.integers(0, 2, config.batch_size)
    times = []

    def steps() -> None:
        for step in range(STEPS):
            start, processor_start = time.perf_counter(), time.process_time()
            metrics = session.stepper.step(images, labels, step).numpy()
            times.append((time.perf_counter() - start, time.process_time() - processor_start))
            assert np.isfinite(metrics).all()

    meter = memory_meter()
    peak = meter.peak_beyond_start(steps)
    seconds, processor_seconds = np.min(times, axis=0)
    yield StepMeasurement(peak, meter.memory, float(seconds), float(processor_seconds))


def _gpu_bytes() -> tuple[int, int]:
    import tensorflow as tf

    info = tf.config.experimental.get_memory_info(GPU)
    return int(info["current"]), int(info["peak"])


def _process_bytes() -> tuple[int, int]:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux: only the peak can be read
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return peak, peak
    status = dict(line.split(":", 1) for line in lines)
    now, peak = (1024 * int(status[field].split()[0]) for field in ("VmRSS", "VmHWM"))
    return now, peak


def _reset_process_peak() -> None:
    with suppress(OSError):  # not Linux, or not permitted: the peak then includes building the network
        Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="inception_resnet_v2", help="the network (default: %(default)s)")
    parser.add_argument("--variant", default="paper", help="its variant (default: %(default)s)")
    parser.add_argument("--size", type=int, default=299, help="side of the pictures (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="pictures per step (default: %(default)s)")
    parser.add_argument("--optimizer", default="sgd", help="the optimizer (default: %(default)s)")
    settings = vars(parser.parse_args())
    estimate = estimate_activations(TrainConfig.from_settings(settings))
    for remat, estimated in ((False, estimate.kept), (True, estimate.rematerialised)):
        measured = measure_step({**settings, "remat": remat})
        print(
            f"{'rematerialised' if remat else 'every map kept':14}  maps estimated {estimated / 1e9:.2f} GB, "
            f"{measured.memory} held {measured.peak / 1e9:.2f} GB more in a step, {measured.seconds:.2f} s "
            f"({measured.processor_seconds:.2f} s of processors)"
        )


if __name__ == "__main__":
    main()

"""Speed of the networks through Keras on JAX, beside timm's on PyTorch if it is installed, on a GPU or the CPU.

    KERAS_BACKEND=jax python -m tests.jax_speed --json jax_speed.jsonl
    KERAS_BACKEND=jax python -m tests.jax_speed --networks inception_v4 --size 139 --batch 1,2 --train-batch 2

It needs neither TensorFlow nor the other dependencies of `bench`, so that it also runs where only JAX is installed. Its
figures are those of JAX; they say nothing about TensorFlow. Before a contender is timed, its outputs are compared with
those of the same weights in float32 on the CPU. The contenders take turns in rounds, and each figure is printed, and
written as a line of JSON, as soon as it is known. It is not part of the test suite.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the peer needs memory too

import jax
import keras
import numpy as np

from inception_resnet_keras import networks, optimize_for_inference
from inception_resnet_keras.bench.engines import (
    RATE,
    Plan,
    TorchEngine,
    compare_outputs,
    parse,
    synthetic,
    torch_outputs,
)
from inception_resnet_keras.bench.run import time_steps
from inception_resnet_keras.networks.batch_norm import imitate_training
from inception_resnet_keras.networks.build import build

PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "mixed_bfloat16": "default"}  # of matrix products
CHECKED = 8
SIZE = (299, 299)
Step = Callable[[], Any]


@cache
def pictures() -> np.ndarray:
    """Blurred noise, pixels of 0-255: all images of plain noise look alike to a network."""
    coarse = np.random.default_rng(1).uniform(0, 255, (CHECKED, 6, 6, 3)).astype(np.float32)
    return np.clip(keras.ops.convert_to_numpy(keras.ops.image.resize(coarse, SIZE, "bicubic")), 0, 255)


def build_network(network: str, policy: str) -> keras.Model:
    name, _, variant = network.partition(":")
    table = networks.find(name, variant or next(iter(networks.NETWORKS[name])))
    return build(table, input_shape=(*SIZE, 3), include_preprocessing=True, dtype=policy)


@cache
def trained(network: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Weights that behave like trained ones, and their outputs for `pictures` in float32 on the CPU."""
    keras.utils.set_random_seed(0)
    with jax.default_device(jax.devices("cpu")[0]):
        model = imitate_training(build_network(network, "float32"), pictures())
        return model.get_weights(), np.asarray(model(pictures(), training=False))


class Contender:
    """A network in one precision.

    Attributes:
        name: Its name in the figures.
        precision: One of `PRECISIONS`.
    """

    def __init__(self, name: str, precision: str) -> None:
        self.name, self.precision = name, precision

    def check(self) -> dict[str, Any]:
        """What `compare_outputs` says of its outputs and those of the same weights in float32 on the CPU."""
        raise NotImplementedError

    def step(self, task: str, batch: int) -> tuple[Step, Callable[[Any], Any]]:
        """A function that starts a step of "inference" or "training", and one that waits for its result."""
        raise NotImplementedError


class OnJax(Contender):
    def __init__(self, network: str, precision: str, *, folded: bool) -> None:
        super().__init__(f"{network}{'+optimized' * folded}@jax,{precision}", precision)
        weights, self.reference = trained(network)
        self.model = build_network(network, "float32" if precision == "tf32" else precision)
        self.model.set_weights(weights)
        if folded:
            self.model = optimize_for_inference(self.model)

    @property
    def state(self) -> tuple[list[Any], list[Any]]:
        """Copies of the weights on the device, trainable ones and others: a training step gives its own ones away."""
        return tuple(
            [jax.device_put(np.asarray(variable.value)) for variable in variables]
            for variables in (self.model.trainable_variables, self.model.non_trainable_variables)
        )  # type: ignore[return-value]

    def forward(self) -> Callable[[Any], Any]:
        state = self.state

        @jax.jit
        def outputs(state: Any, images: Any) -> Any:
            return self.model.stateless_call(*state, images, training=False)[0]

        return partial(outputs, state)

    def check(self) -> dict[str, Any]:
        with jax.default_matmul_precision(PRECISIONS[self.precision]):
            outputs = np.asarray(self.forward()(jax.device_put(pictures())), np.float32)
        return compare_outputs(outputs, self.reference, self.precision)

    def step(self, task: str, batch: int) -> tuple[Step, Callable[[Any], Any]]:
        images, labels = map(jax.device_put, synthetic(batch, self.model.input_shape[1:3]))
        run = partial(self.forward(), images) if task == "inference" else self.training(images, labels)

        def in_precision() -> Any:
            with jax.default_matmul_precision(PRECISIONS[self.precision]):
                return run()

        return in_precision, jax.block_until_ready

    def training(self, images: Any, labels: Any) -> Step:
        optimizer = keras.optimizers.Adam(RATE)
        optimizer.build(self.model.trainable_variables)
        state: Any = (*self.state, [jax.device_put(np.asarray(variable.value)) for variable in optimizer.variables])

        def loss_of(trainable: Any, others: Any) -> tuple[Any, Any]:
            found, others = self.model.stateless_call(trainable, others, images, training=True)
            return keras.losses.sparse_categorical_crossentropy(labels, found).mean(), others

        @partial(jax.jit, donate_argnums=0)
        def update(state: Any) -> tuple[Any, Any]:
            trainable, others, slots = state
            (loss, others), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable, others)
            trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
            return (trainable, others, slots), loss

        def step() -> Any:
            nonlocal state
            state, loss = update(state)
            return loss

        return step


class OnTorch(Contender):
    """timm's network, as `bench` runs it."""

    def __init__(self, network: str, precision: str, folder: Path, *, compiled: bool) -> None:
        how = "compile" if compiled else "eager"
        contender = parse(f"timm:{network}@{how},{precision.removeprefix('mixed_')}")
        super().__init__(str(contender), precision)
        import torch

        self.torch = torch
        weights = folder / f"{network}.pt"
        self.reference = torch_outputs(contender, weights, pictures())["outputs"]
        device = "gpu" if torch.cuda.is_available() else "cpu"
        self.engine = TorchEngine(contender, str(weights), Plan(contenders=(contender,), size=SIZE, device=device))

    def check(self) -> dict[str, Any]:
        found: Any = self.engine.fetch(self.engine.forward(self.engine.load(pictures())))
        return compare_outputs(found, self.reference, self.precision)

    def step(self, task: str, batch: int) -> tuple[Step, Callable[[Any], Any]]:
        # These settings are the process's, and another contender may have changed them.
        backends = self.torch.backends
        backends.cuda.matmul.allow_tf32 = backends.cudnn.allow_tf32 = self.precision != "float32"
        return getattr(self.engine, task)(batch), self.engine.fetch


def contenders(given: argparse.Namespace, folder: Path) -> Iterator[Contender]:
    for network in given.networks:
        for precision in given.precisions:
            for folded in (False, True):
                yield OnJax(network, precision, folded=folded)
    if find_spec("timm") and find_spec("torch"):
        for network in ("inception_resnet_v2", "inception_v4"):
            if any(each.partition(":")[0] == network for each in given.networks):
                for precision in given.precisions:
                    for compiled in (False, True):
                        yield OnTorch(network, precision, folder, compiled=compiled)


def main() -> None:
    global SIZE  # noqa: PLW0603 - set once, before anything is built
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",") if part]

    parser.add_argument(
        "--networks", type=lambda text: text.split(","), default="inception_resnet_v2:slim,inception_v4"
    )
    parser.add_argument("--precisions", type=lambda text: text.split(","), default="tf32,mixed_bfloat16")
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--batch", type=numbers, default="1,32,128,256")
    parser.add_argument("--train-batch", type=numbers, default="64,128,256")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--json", type=Path, default=Path("jax_speed.jsonl"), help="a new file for the figures")
    given = parser.parse_args()
    if given.json.exists():
        parser.error(f"{given.json} exists; give another file")
    SIZE = (given.size, given.size)
    device = jax.devices()[0]

    def keep(**figures: Any) -> None:
        with given.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")
        print(*(f"{name} {value}" for name, value in figures.items()), flush=True)

    versions = {module.__name__: module.__version__ for module in (jax, keras, np)}
    keep(device=str(device.device_kind), machine=platform.platform(), date=time.strftime("%Y-%m-%d"), **versions)
    sound: list[Contender] = []
    folder = TemporaryDirectory()
    for contender in contenders(given, Path(folder.name)):
        checked = contender.check()
        keep(contender=contender.name, **checked)
        if checked["passed"]:
            sound.append(contender)
    for task, batches in (("inference", given.batch), ("training", given.train_batch)):
        queued = 1 if (device.platform, task) == ("cpu", "inference") else 4  # as in `bench`
        for batch in batches:
            for number in range(given.rounds):
                for contender in sound:
                    if task == "training" and "+optimized" in contender.name:
                        continue
                    turn = {"round": number, "contender": contender.name, "task": task, "batch": batch}
                    try:
                        step, wait = contender.step(task, batch)
                        begun = time.perf_counter()
                        wait(step())
                        first = time.perf_counter() - begun
                        wait(step())
                        seconds = statistics.median(time_steps(step, wait, given.seconds, queued))
                    except Exception as error:  # out of memory, above all: the others go on
                        keep(**turn, failed=f"{type(error).__name__}: {str(error)[:200]}")
                        continue
                    memory = (
                        (device.memory_stats() or {}).get("peak_bytes_in_use") if "@jax" in contender.name else None
                    )
                    rate = round(batch / seconds, 2)
                    keep(**turn, images_per_second=rate, first_call_seconds=round(first, 2), peak_memory=memory)
                    del step


if __name__ == "__main__":
    main()

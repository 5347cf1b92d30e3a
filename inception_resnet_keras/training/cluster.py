"""Devices and workers: training on one device, on several, or on several machines."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..common.console import printable
from ..common.devices import use_gpus
from ..common.errors import InputError, refuse
from .config import TrainConfig

if TYPE_CHECKING:
    import tensorflow as tf


def strategy_kind(config: TrainConfig, environment: Mapping[str, str] = os.environ, gpus: int = 0) -> str:
    """The strategy: "one", "mirrored" or "multiworker". "auto" depends on the environment variables and the GPUs.

    Raises InputError if "multiworker" is configured and neither TF_CONFIG nor Slurm names the workers.
    """
    clustered = "TF_CONFIG" in environment or _slurm_tasks(environment) > 1
    if config.strategy == "multiworker" and not clustered:
        raise InputError(
            "strategy: multiworker needs the environment variable TF_CONFIG (which Kubeflow sets), or srun with more "
            "than one task; start all workers in one of these ways, or give --strategy auto"
        )
    if config.strategy != "auto":
        return config.strategy
    if clustered:
        return "multiworker"
    return "mirrored" if gpus > 1 else "one"


def _slurm_tasks(environment: Mapping[str, str]) -> int:
    """The number of tasks started by `srun`.

    SLURM_NTASKS is not used, because it is also set in sbatch's own script and salloc's shell.
    """
    text = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if not text.isdecimal() or len(text) > 9:
        raise refuse("SLURM_STEP_NUM_TASKS", text, "the number of tasks, as srun sets it")
    return int(text)


def make_strategy(config: TrainConfig) -> tf.distribute.Strategy:
    """Make the run's distribution strategy. Must be called before TensorFlow computes anything.

    Raises InputError if TF_CONFIG is damaged, or the configuration does not fit the number of replicas.
    """
    import tensorflow as tf

    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
        # This optimisation would merge the sums of two made by `forward.training_graph` into sums of many terms, whose
        # order varies.
        tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    gpus = len(use_gpus())
    kind = strategy_kind(config, gpus=gpus)
    if kind == "multiworker":
        resolver = _resolver()
        wait_for_workers(*_addresses(resolver), config.worker_minutes)
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    elif kind == "mirrored":
        strategy = tf.distribute.MirroredStrategy(_devices(tf))
    else:
        strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if config.batch_size % (replicas * config.accumulate):
        raise InputError(
            f"batch_size: got {config.batch_size}; it takes a multiple of {replicas * config.accumulate}, for "
            f"{replicas} replicas with {config.accumulate} micro-batches each"
        )
    if config.jit and replicas > 1:
        raise InputError("jit: XLA cannot compile batch norm synchronized over several replicas; leave out jit")
    return strategy


def worker(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """(number of this worker, number of workers). Worker 0 is the chief, which alone writes files."""
    if not strategy.cluster_resolver:
        return 0, 1
    addresses, number = _addresses(strategy.cluster_resolver)
    return (number, len(addresses)) if len(addresses) > 1 else (0, 1)


def _addresses(resolver: tf.distribute.cluster_resolver.ClusterResolver) -> tuple[list[str], int]:
    """host:port of every worker, the chief's first, and the number of this worker."""
    spec = resolver.cluster_spec().as_dict()
    chiefs, workers = list(spec.get("chief", ())), list(spec.get("worker", ()))
    return [*chiefs, *workers], int(resolver.task_id) + (len(chiefs) if resolver.task_type == "worker" else 0)


# ----------------------------------------------------------------------------------------------------------------------
# Waiting for the other workers
# ----------------------------------------------------------------------------------------------------------------------
MESSAGE_AFTER = 10.0  # seconds of waiting before a message is printed
_AGAIN = 0.2  # seconds between two attempts to reach the chief
_GO = b"go\n"


def wait_for_workers(addresses: Sequence[str], number: int, minutes: float) -> None:
    """Wait until every worker has started. After 10 seconds, print the names of the missing workers.

    TensorFlow itself would wait for an hour without a message. The chief listens at its own address. Every other worker
    connects, sends its number and waits for the answer, which the chief sends when all have connected.

    Args:
        addresses: host:port of every worker, the chief's first.
        number: Number of this worker.
        minutes: Longest time to wait.

    Raises:
        InputError: A worker did not start in time.
    """
    if len(addresses) < 2:
        return
    waiting = _Waiting(minutes)
    if number:
        _report_to_chief(addresses[0], number, waiting)
    else:
        _gather_workers(addresses, waiting)


class _Waiting:
    """The waiting time so far, with its limit of `minutes`."""

    def __init__(self, minutes: float) -> None:
        self.minutes, self.start, self.printed = minutes, time.monotonic(), False

    def check(self, missing: Sequence[str], what: str) -> None:
        """Print the missing workers, once; raise InputError when the time is over."""
        waited, names = time.monotonic() - self.start, ", ".join(missing)
        if waited >= 60 * self.minutes:
            raise InputError(
                f"{what} {names} did not start within {self.minutes:g} minutes (--set worker_minutes): start the same "
                "command on every worker, with the same addresses in TF_CONFIG, which must be reachable from all"
            )
        if waited >= MESSAGE_AFTER and not self.printed:
            self.printed = True
            print(
                printable(f"waiting for {what} {names}, at most {self.minutes:g} minutes"), file=sys.stderr, flush=True
            )


def _gather_workers(addresses: Sequence[str], waiting: _Waiting) -> None:
    """The chief's part: accept the workers' connections, and answer all of them when all have sent their number."""
    connected: dict[int, socket.socket] = {}
    with ExitStack() as connections:
        server = connections.enter_context(_listen(_port(addresses[0])))
        server.settimeout(_AGAIN)
        while missing := [address for number, address in enumerate(addresses) if number and number not in connected]:
            waiting.check(missing, "the worker" if len(missing) == 1 else "the workers")
            with suppress(OSError, ValueError):  # nobody connected, or something that is not a worker
                connection = connections.enter_context(server.accept()[0])
                connection.settimeout(1)
                number = int(connection.recv(16))
                if 0 < number < len(addresses):
                    connected[number] = connection
        for connection in connected.values():
            with suppress(OSError):
                connection.sendall(_GO)
        # The side that closes first keeps its port for a minute. Wait for the workers to close, because TensorFlow's
        # chief needs this port.
        for connection in connected.values():
            with suppress(OSError):
                connection.recv(1)


def _report_to_chief(address: str, number: int, waiting: _Waiting) -> None:
    """A worker's part: connect and send its number, again and again, until the chief answers."""
    host, port = address.rpartition(":")[0].strip("[]"), _port(address)
    while True:
        waiting.check([address], "the chief")
        with suppress(OSError), socket.create_connection((host, port), timeout=1) as connection:
            connection.sendall(f"{number}\n".encode())
            while True:  # the chief accepted, and waits for other workers
                waiting.check([address], "the chief, which waits for other workers:")
                try:
                    answer = connection.recv(len(_GO))
                except TimeoutError:
                    continue
                if answer == _GO:
                    return
                break
        time.sleep(_AGAIN)


def sum_over_workers(strategy: tf.distribute.Strategy, numbers: np.ndarray) -> np.ndarray:
    """The sum of all workers' `numbers`, float32 (n,)."""
    import tensorflow as tf

    workers = worker(strategy)[1]
    if workers == 1:
        return numbers
    # The sum is over replicas, so that each replica of a worker contributes an equal share of its numbers.
    share = numbers / np.float32(strategy.num_replicas_in_sync // workers)
    shares = strategy.experimental_distribute_values_from_function(lambda _: tf.convert_to_tensor(share))
    total: np.ndarray = strategy.reduce(tf.distribute.ReduceOp.SUM, shares, axis=None).numpy()
    return total


def require_agreement(
    strategy: tf.distribute.Strategy, values: Mapping[str, str], folder: Path, error: Exception | None = None
) -> None:
    """Raise InputError, on every worker, if the workers disagree on one of the values.

    Args:
        values: This worker's values by name.
        folder: The run's folder.
        error: An error of this worker. It must be raised here and not earlier, because the other workers would wait.
    """
    texts = {name: f"{value} {error or ''}" for name, value in values.items()}
    differing = disagreements(texts, partial(sum_over_workers, strategy), worker(strategy)[1])
    if error:
        raise error
    if differing:
        raise InputError(
            f"the workers do not agree on the {' and the '.join(differing)}: give all of them the same command and the "
            f"same data, and put {folder} on storage that all of them share"
        )


def disagreements(
    values: Mapping[str, str], sum_over_workers: Callable[[np.ndarray], np.ndarray], workers: int
) -> list[str]:
    """Names of the values on which the workers disagree; every worker gets the same answer.

    The bits of every value's SHA-256 are summed over the workers. If all agree, each sum is 0 or the number of workers.

    Args:
        values: This worker's values by name.
        sum_over_workers: Sums an array over all workers.
    """
    digests = b"".join(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in values.values())
    bits = np.unpackbits(np.frombuffer(digests, np.uint8)).astype(np.float32)
    sums = sum_over_workers(bits).reshape(len(values), -1)
    equal = np.minimum(np.abs(sums), np.abs(sums - workers)) < 0.5
    return [name for name, same in zip(values, equal.all(axis=1), strict=True) if not same]


def _devices(tf: object) -> list[str] | None:
    """The devices of a mirrored strategy: `None` for all GPUs; without a GPU, the logical CPUs."""
    if tf.config.list_logical_devices("GPU"):  # type: ignore[attr-defined]
        return None
    return [device.name for device in tf.config.list_logical_devices("CPU")]  # type: ignore[attr-defined]


def _resolver() -> tf.distribute.cluster_resolver.ClusterResolver:
    import tensorflow as tf

    resolvers = tf.distribute.cluster_resolver
    if "TF_CONFIG" not in os.environ:
        return _slurm_resolver()
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        task = config["task"]
        index = int(task["index"])
        if index < 0:  # Python would count from the end of the list
            raise ValueError(f"task.index is {index}")
        address = config["cluster"][task["type"]][index]
        port = _port(address)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError, AttributeError) as error:
        raise InputError(
            f"TF_CONFIG: is damaged ({error!r}); it takes "
            '{"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}'
        ) from None
    if task["type"] not in ("chief", "worker"):
        raise InputError(f"TF_CONFIG: the task type of {address} is {task['type']!r}; it takes 'chief' or 'worker'")
    _require_free(port, address)
    return resolvers.TFConfigClusterResolver()


def _port(address: str) -> int:
    """The port of a "host:port"; raises ValueError if there is none."""
    port = int(address.rpartition(":")[2]) if ":" in address else 0
    if not 0 < port < 2**16:
        raise ValueError(f"{address!r} has no port from 1 to {2**16 - 1}")
    return port


def _require_free(port: int, address: str) -> None:
    """Raise InputError if another process listens on this worker's port; TensorFlow would abort the process."""
    try:
        _listen(port).close()
    except OSError as error:
        raise InputError(
            f"TF_CONFIG: this worker cannot listen on port {port} of {address} ({error.strerror}): end the process "
            "that uses it, or change this worker's port in the TF_CONFIG of every worker"
        ) from None


def _listen(port: int) -> socket.socket:
    """A server on every interface, with SO_REUSEADDR, so that a restarted worker can use its port at once."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    return socket.create_server(("", port), family=family, dualstack_ipv6=family == socket.AF_INET6)


def _slurm_resolver() -> tf.distribute.cluster_resolver.ClusterResolver:
    """TensorFlow's resolver for Slurm, with a check of the result.

    TensorFlow sorts node names as text and Slurm does not, so that it may give a worker the address of another node.
    """
    import tensorflow as tf

    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver()
        address = resolver.cluster_spec().task_address("worker", int(os.environ["SLURM_PROCID"]))
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise InputError(
            f"Slurm: the workers' addresses cannot be read from its environment ({error}); start one task per node "
            "with srun, on nodes with NVIDIA GPUs, or set TF_CONFIG"
        ) from None
    node, host = os.environ.get("SLURMD_NODENAME"), address.partition(":")[0]
    if node and host != node:
        raise InputError(
            f"Slurm: task {os.environ['SLURM_PROCID']} runs on {node}, but TensorFlow expects it on {host}, because it "
            "sorts the nodes by name: choose nodes whose names sort like their numbers, or set TF_CONFIG"
        )
    return resolver

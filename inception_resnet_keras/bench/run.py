"""Run a benchmark: write the files of the contenders, then give each contender a turn per round.

Each turn runs in a new process, one at a time, so that no contender uses memory that another one holds. The order
shifts by one from round to round, so that a machine that slows down affects all contenders alike.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..common.devices import largest_that_fits
from ..common.errors import InputError
from ..common.machine import benchmarked_machine
from ..common.worker import WorkerError, run_in_worker
from ..models.runtimes import run_in_batches
from . import engines
from .engines import Contender, Engine, Files, Plan

TASKS = ("inference", "training")


def own_size(contenders: Iterable[Contender]) -> tuple[int, int] | None:
    """The (height, width) of the files among the contenders; None if there are no files, or they take any size."""
    files = [contender for contender in contenders if contender.kind in ("file", "exported")]
    if not files:
        return None
    try:
        [size] = run_in_worker(engines.own_size, files)
    except WorkerError as error:
        raise InputError(f"size: {error}; give --size") from None
    return size


# Inside a worker's process.
LEAST_CALLS, MOST_CALLS = 3, 1000


def measure(files: Files, contender: Contender, task: str, plan: Plan) -> Iterator[tuple[str, Any]]:
    """A contender's turn at a task: ("check", …) if there is a reference, and ("turn", …) for each batch size."""
    import psutil

    # The number of calls before a wait, as in real use: a GPU computes one call while the next one is queued, and
    # training does not wait for a step before starting the next.
    queued = 1 if (plan.device, task) == ("cpu", "inference") else 4
    engine = engines.ENGINES.get(contender.engine, Engine)(contender, files.model, plan)
    for batch in getattr(plan, task):
        gc.collect()  # free the step of the previous batch size
        step, meter = getattr(engine, task)(batch), engine.meter()
        meter.reset()
        begun = time.perf_counter()
        engine.fetch(step())
        figures = {"batch": batch, "first_call_seconds": time.perf_counter() - begun}
        if batch == getattr(plan, task)[0]:
            figures["startup_seconds"] = time.time() - psutil.Process().create_time()
            if files.reference is not None:
                yield "check", check_outputs(engine, files.reference, batch)
        engine.fetch(step())  # some libraries rearrange weights in the second call
        seconds = time_steps(step, engine.fetch, plan.seconds, queued)
        yield "turn", {**figures, "seconds": seconds, "peak_memory": meter.read()[1]}
        del step


def check_outputs(engine: Engine, reference: str, batch: int) -> dict[str, Any]:
    """Compare outputs with the float32 reference, in batches of the size that is compiled already."""
    with np.load(reference) as arrays:
        found = run_in_batches(lambda some: engine.fetch(engine.forward(engine.load(some))), arrays["images"], batch)
        return engines.compare_outputs(found, arrays["outputs"], engine.precision)


def time_steps(step: Callable[[], Any], fetch: Callable[[Any], Any], seconds: float, queued: int) -> list[float]:
    """Repeat a step for a number of seconds, and return the time per step between waits.

    After each `queued` steps, `fetch` waits for the handle that the last one returned.
    """
    found: list[float] = []
    started = begun = time.perf_counter()
    while len(found) < LEAST_CALLS or (begun - started < seconds and len(found) < MOST_CALLS):
        for _ in range(queued):
            handle = step()
        fetch(handle)
        ended = time.perf_counter()
        found.append((ended - begun) / queued)
        begun = ended
    return found


# For the peak of each device: the dtype, the side of the matrices, and the number of products before each wait.
PEAKS = {"cpu": ("float32", 2048, 1), "gpu": ("bfloat16", 8192, 20)}


def measure_peak(device: str) -> Iterator[float]:
    """Yield the highest number of multiply-adds per second that TensorFlow reaches in a large matrix product."""
    import tensorflow as tf

    from ..common.devices import use_gpus

    use_gpus()
    kind, side, queued = PEAKS[device]
    matrix, place = tf.cast(tf.random.stateless_normal((side, side), (0, 0)), kind), tf.constant(0)
    # Fetch one number of the product, because copying all of them would be timed as well.
    multiply = partial(tf.function(lambda a, at: tf.linalg.matmul(a, a)[at, at], autograph=False), matrix, place)
    multiply().numpy()
    seconds = time_steps(multiply, lambda number: number.numpy(), 0.5, queued)
    yield side**3 / min(seconds)  # the minimum, because other programs can only slow it down


# The rounds.
class Benchmark:
    """Run a plan. A contender that fails is reported in the result, and does not stop the others.

    Args:
        plan: The plan.
        tell: Called with a line when something begins or fails.
        keep: Called with the result after each turn, so that an interrupted run keeps its measurements.

    Attributes:
        result: A dict for JSON: the `plan`; the `machine`, and its `peak` in multiply-adds per second, the highest of
            all rounds; `contenders`, the facts and failures of each; and `turns`, the figures of each round, contender,
            task and batch size.
    """

    def __init__(self, plan: Plan, tell: Callable[[str], None], keep: Callable[[dict[str, Any]], None]) -> None:
        self.plan, self.tell, self.keep = plan, tell, keep
        names = list(map(str, plan.contenders))
        self.facts: dict[str, dict[str, Any]] = {name: {"failures": {}} for name in names}
        self.result: dict[str, Any] = {"plan": asdict(plan) | {"contenders": names}, "machine": benchmarked_machine()}
        self.result |= {"peak": None, "rounds_done": 0, "contenders": self.facts, "turns": []}
        self.files: dict[Contender, Files] = {}

    def run(self) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="inception-resnet-bench-") as folder:
            self.folder = Path(folder)
            self._make_files()
            for number in range(self.plan.rounds):
                self.tell(f"round {number + 1} of {self.plan.rounds}")
                self._measure_peak()
                for task in TASKS:
                    shift = number % len(self.plan.contenders)
                    for contender in self.plan.contenders[shift:] + self.plan.contenders[:shift]:
                        self._turn(contender, task, number)
                        self.keep(self.result)
                self.result["rounds_done"] = number + 1
            self.keep(self.result)
        return self.result

    def _make_files(self) -> None:
        """Write weights, references and exports, each contender's in its own process, so that none stays in memory."""
        models = [contender.what for contender in self.plan.contenders if contender.kind == "file"]
        for contender in self.plan.contenders:
            if not any(getattr(self.plan, task) for task in contender.tasks):
                self._fail(contender, ["preparation"], f"only its {contender.tasks[0]} is timed: give it a batch")
                continue
            self.tell(f"preparing {contender}")
            try:
                given = contender, self.folder, self.plan.size, models
                [self.files[contender]] = run_in_worker(engines.make_files, *given)
                self.facts[str(contender)]["macs"] = self.files[contender].macs
            except WorkerError as error:
                self._fail(contender, ["preparation"], str(error))

    def _measure_peak(self) -> None:
        try:
            [peak] = run_in_worker(measure_peak, self.plan.device, gpus=self.plan.on_gpu)
            self.result["peak"] = max(peak, self.result["peak"] or 0.0)
        except WorkerError as error:
            self.tell(f"the machine's peak could not be measured: {error}")

    def _turn(self, contender: Contender, task: str, number: int) -> None:
        """Run a contender's turn in a round, at the batch sizes that have not failed."""
        name, facts = str(contender), self.facts[str(contender)]
        left = [batch for batch in getattr(self.plan, task) if f"{task} {batch}" not in facts["failures"]]
        if contender not in self.files or not left or task not in contender.tasks:
            return
        self.tell(f"{name}: {task}")
        files = self.files[contender]
        if task != "inference" or number > 0:
            files = files._replace(reference=None)
        try:
            for key, value in self._measure(files, contender, task, **{task: tuple(left)}):
                if key == "turn":
                    self.result["turns"].append({"contender": name, "task": task, "round": number, **value})
                    left.remove(value["batch"])
                else:
                    facts[key] = value
                if key == "check" and not value["passed"] and self.plan.drop_wrong:
                    off = "its outputs differ from the network's in float32 by {difference:.2g}, more than {bound:g}"
                    keys = [f"{each} {size}" for each in contender.tasks for size in getattr(self.plan, each)]
                    return self._fail(contender, keys, f"left out: {off.format(**value)}")
        except WorkerError as error:  # the larger batch sizes are not tried either
            reason = str(error)
            if error.out_of_memory and left:
                reason += self._largest_that_fits(contender, task, left[0])
            self._fail(contender, [f"{task} {batch}" for batch in left], reason)

    def _measure(self, files: Files, contender: Contender, task: str, **changes: Any) -> Iterator[tuple[str, Any]]:
        plan = replace(self.plan, **changes)
        return run_in_worker(measure, files, contender, task, plan, gpus=plan.on_gpu)

    def _largest_that_fits(self, contender: Contender, task: str, batch: int) -> str:
        """Search for the largest batch size that fits, below one that does not, each in its own process."""
        self.tell(f"{contender}: {task} at batch {batch} does not fit in memory; searching for the largest that does")
        files = Files(self.files[contender].model)

        def fits(smaller: int) -> bool:
            with suppress(WorkerError):
                list(self._measure(files, contender, task, **{task: (smaller,), "seconds": 0.0}))
                return True
            return False

        largest = largest_that_fits(batch, fits)
        return f"; the largest batch tried that fits is {largest}" if largest else "; not even a batch of 1 fits"

    def _fail(self, contender: Contender, keys: list[str], reason: str) -> None:
        self.facts[str(contender)]["failures"] |= dict.fromkeys(keys, reason)
        self.tell(f"{contender}: {', '.join(keys)}: {reason}")

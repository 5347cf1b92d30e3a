"""A benchmark from its plan to raw figures: write the contenders' files, then give each contender a turn per round.

Each turn runs in a new process and one runs at a time, so that no contender works in memory that another one holds.
The order shifts by one from round to round, so that a machine that slows down slows all contenders.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from subprocess import DEVNULL, SubprocessError, check_output
from typing import Any

from .. import networks
from ..common.arguments import number_between, one_of, positive_integer
from ..common.chatter import hush_engine
from ..common.devices import is_out_of_memory, largest_that_fits, usable_cores
from ..common.errors import InputError, refuse
from ..common.machine import processor_name
from ..common.packages import required
from ..deploy.formats import FORMATS
from ..networks.trace import minimum_side
from . import engines
from .engines import FIT, Contender, Engine, Files, Setting

TIMED = {"inference": "inferring", "training": "trainable"}  # the contender's property that says whether
TASKS = tuple(TIMED)
MOST_PIXELS = 4096  # per side


@dataclass(frozen=True, kw_only=True)
class Plan(Setting):
    """A benchmark, checked when it is made.

    contenders: The first one is the baseline, which all are compared with.
    inference, training: Batch sizes of either task, ascending; empty leaves it out.
    rounds: Turns of each contender. seconds: Duration of one measurement.
    drop_wrong: Whether a contender is not timed whose outputs differ from the network's by more than rounding explains.
    """

    contenders: tuple[Contender, ...]
    inference: tuple[int, ...] = (1, 8)
    training: tuple[int, ...] = ()
    rounds: int = 5
    seconds: float = 2.0
    drop_wrong: bool = True

    def __post_init__(self) -> None:
        one_of("device", self.device, ("cpu", "gpu"))
        counts = {name: [getattr(self, name)] for name in ("rounds", "steps", "threads")}
        counts |= {"size": list(self.size), "batch": list(self.inference), "train-batch": list(self.training)}
        for name, values in counts.items():
            for value in values:
                if (name, value) != ("threads", None):
                    positive_integer(name, value)
        number_between("seconds", self.seconds, 0, 3600, "a number from 0 to below 3600")
        if not self.inference and not self.training:
            raise InputError("batch: there is nothing to measure: give a batch size of inference, or of training")
        for contender in self.contenders:
            least = minimum_side(networks.find(*contender.table)) if contender.table[0] else 1
            if not all(least <= side <= MOST_PIXELS for side in self.size):
                takes = f"a side or HEIGHTxWIDTH from {least} to {MOST_PIXELS} for {contender}"
                raise refuse("size", engines.sides(self.size), takes)
            if self.on_gpu and contender.engine in FORMATS:
                raise InputError(f"contender {contender}: {contender.engine} runs on the CPU: give --device cpu")
            if self.steps > 1 and (contender.kind in ("applications", "timm") or contender.form == FIT):
                raise InputError(f"contender {contender}: only steps as in `train` are several per call")
            if not self.on_gpu and contender.precision == "tf32":
                raise InputError(f"contender {contender}: tf32 is a type of NVIDIA GPUs: give --device gpu")


def own_size(contenders: Iterable[Contender]) -> tuple[int, int] | None:
    """The (height, width) of the files among contenders; None if there are none, or they are of any size.

    Raises InputError where two differ.
    """
    files = [contender for contender in contenders if contender.kind in ("file", "exported")]
    if not files:
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            sizes = list(run_apart(Path(folder), False, engines.own_sizes, files))
        except WorkerError as error:
            raise InputError(f"size: that of the files could not be read ({error}); give --size") from None
    found = {size: contender.what for contender, size in zip(files, sizes, strict=True) if size is not None}
    if len(found) > 1:
        takes = " and ".join(f"{what} of {engines.sides(size)}" for size, what in found.items())
        raise InputError(f"size: {takes}; contenders are compared on images of one size: run bench for each")
    return next(iter(found), None)


PACKAGES = (
    *("inception-resnet-keras", "keras", "tensorflow", "tensorflow-cpu", "numpy", "openvino", "nncf", "onnx"),
    *("onnxruntime", "ai-edge-litert", "torch", "timm", "nvidia-cudnn-cu12", "nvidia-cublas-cu12"),
)
KERNEL_FLAGS = ("avx", "amx", "asimd", "sve", "i8mm")  # decide which kernels a library picks


def describe() -> dict[str, Any]:
    """The machine, the versions and the date."""
    cpuinfo, psutil = required("cpuinfo", "bench"), required("psutil", "bench")
    installed = {each.name.replace("_", "-"): each.version for each in distributions()}
    processor = cpuinfo.get_cpu_info()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": f"{platform.platform()}, Python {platform.python_version()}",
        "cpu": processor_name(),
        "flags": [flag for flag in processor.get("flags", ()) if flag.startswith(KERNEL_FLAGS)],
        "cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "load_average": psutil.getloadavg()[0],
        "gpus": gpus(),
        "versions": {name: installed[name] for name in PACKAGES if name in installed},
    }


def gpus() -> list[str]:
    """Name, memory, driver and power limit of each NVIDIA GPU, as `nvidia-smi` lists them."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version,power.limit", "--format=csv,noheader"]
    try:
        return check_output(query, text=True, stderr=DEVNULL, timeout=30).splitlines()
    except (OSError, SubprocessError):
        return []


# Inside a worker's process.
LEAST_CALLS, MOST_CALLS = 3, 1000
# Calls that are waited for together, as in real use: a GPU works on one while the next is queued, and no training step
# is waited for before the next one is started.
QUEUED = {("cpu", "inference"): 1, ("cpu", "training"): 4, ("gpu", "inference"): 4, ("gpu", "training"): 4}


def measure(files: Files, contender: Contender, task: str, plan: Plan) -> Iterator[tuple[str, Any]]:
    """One contender's turn at one task.

    Yields its "macs" if they are not counted yet, its "check" if there is a reference, and a "turn" per batch size.
    """
    import psutil

    step_count = plan.steps if task == "training" else 1
    engine = engines.ENGINES.get(contender.engine, Engine)(contender, files.model, plan)
    for batch in getattr(plan, task):
        gc.collect()  # the step of the batch before
        step, meter = getattr(engine, task)(batch), engine.meter()
        meter.reset()
        begun = time.perf_counter()
        engine.fetch(step())
        figures = {"batch": batch, "first_call_seconds": time.perf_counter() - begun}
        if batch == getattr(plan, task)[0]:
            figures["startup_seconds"] = time.time() - psutil.Process().create_time()
            if files.macs is None:
                yield "macs", engine.multiply_adds()
            if files.reference is not None:
                yield "check", check_outputs(engine, files.reference, batch)
        engine.fetch(step())  # some libraries arrange weights in the second call
        seconds = time_steps(step, engine.fetch, plan.seconds, QUEUED[plan.device, task])
        yield "turn", {**figures, "seconds": [each / step_count for each in seconds], "peak_memory": meter.read()[1]}
        del step


def check_outputs(engine: Engine, reference: str, batch: int) -> dict[str, Any]:
    """Compare outputs with the network's own in float32, in batches of the size that is compiled already."""
    import numpy as np

    arrays = np.load(reference)
    images, parts = arrays["images"], -(-len(arrays["images"]) // batch)
    filled = np.resize(images, (parts * batch, *images.shape[1:]))
    outputs: list[Any] = [engine.fetch(engine.forward(engine.load(part))) for part in np.split(filled, parts)]
    found = np.concatenate(outputs)[: len(images)]
    return engines.compare_outputs(found, arrays["outputs"], engine.precision)


def time_steps(step: Callable[[], Any], fetch: Callable[[Any], Any], seconds: float, queued: int) -> list[float]:
    """Seconds of a step, again and again for so long: each the mean of those that are waited for together."""
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


# The type of the machine's peak, the side of its matrices, and how many products are waited for together.
PEAKS = {"cpu": ("float32", 2048, 1), "gpu": ("bfloat16", 8192, 20)}


def measure_peak(device: str) -> Iterator[float]:
    """The most multiply-adds/s that TensorFlow reaches in a large matrix product."""
    import tensorflow as tf

    from ..common.devices import use_gpus

    use_gpus()
    kind, side, queued = PEAKS[device]
    matrix, place = tf.cast(tf.random.stateless_normal((side, side), (0, 0)), kind), tf.constant(0)
    # One number of the product is fetched: to copy all of them would be timed too.
    multiply = partial(tf.function(lambda a, at: tf.linalg.matmul(a, a)[at, at], autograph=False), matrix, place)
    multiply().numpy()
    seconds = time_steps(multiply, lambda number: number.numpy(), 0.5, queued)
    yield side**3 / min(seconds)  # other programs only ever slow it


# A worker's process, seen from outside.
PATIENCE = 1800.0  # seconds for one answer: a compiler takes minutes


class WorkerError(Exception):
    """Why a worker gave no answer."""

    def __init__(self, reason: str, out_of_memory: bool = False) -> None:
        super().__init__(reason)
        self.out_of_memory = out_of_memory


def run_apart(folder: Path, on_gpu: bool, function: Callable[..., Iterable[Any]], *arguments: Any) -> Iterator[Any]:
    """The items of `function(*arguments)`, computed in a new process. Raises WorkerError if it fails or dies.

    What libraries print goes to a log in `folder`. GPUs are hidden unless `on_gpu`.
    """
    context, log = multiprocessing.get_context("spawn"), folder / "log"
    log.write_text("")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, str(log), on_gpu, function, arguments))
    process.start()
    theirs.close()
    try:
        while ours.poll(PATIENCE):
            item, error, out_of_memory = ours.recv()
            if error:
                raise WorkerError(error, out_of_memory)
            yield item
        raise WorkerError(f"gave no answer in {PATIENCE:g} seconds")
    except EOFError:
        process.join(10)
        if process.exitcode:
            if process.exitcode == -9:  # SIGKILL: only the system sends it here, when it has no memory left
                raise WorkerError("was killed, most likely by the system for want of memory", True) from None
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            why = "".join(last) or "it printed nothing"
            raise WorkerError(f"its process ended with status {process.exitcode}: {why}") from None
    finally:
        ours.close()
        process.kill()
        process.join()


def _work(pipe: Any, log: str, on_gpu: bool, function: Callable[..., Iterable[Any]], arguments: Any) -> None:
    hush_engine()  # the last line of the log is shown where the process dies
    os.environ |= {"KERAS_BACKEND": "tensorflow"} | ({} if on_gpu else {"CUDA_VISIBLE_DEVICES": "-1"})
    with open(log, "wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    try:
        for item in function(*arguments):
            pipe.send((item, None, False))
    except Exception as error:  # reported beside the others' figures: a failure stops no other contender
        line = next(iter(str(error).strip().splitlines()), "")
        reason = line if isinstance(error, InputError) else f"{type(error).__name__}: {line}"
        out_of_memory = is_out_of_memory(error)
        pipe.send((None, "does not fit in memory" if out_of_memory else reason, out_of_memory))
    pipe.close()


# The rounds.
class Benchmark:
    """Runs a plan. A contender that fails is reported in the result and stops no other.

    Args:
        plan: What to measure.
        tell: Called with a line when something begins or fails.
        keep: Called with the result after each turn, so that a run that is stopped leaves what was measured.

    `result` fits into JSON: the `plan`; the `machine`, and its `peak` in multiply-adds/s, the most of all rounds;
    `contenders`, the facts and failures of each; `turns`, the figures of each round, contender, task and batch size.
    """

    def __init__(self, plan: Plan, tell: Callable[[str], None], keep: Callable[[dict[str, Any]], None]) -> None:
        self.plan, self.tell, self.keep = plan, tell, keep
        names = list(map(str, plan.contenders))
        self.facts: dict[str, dict[str, Any]] = {name: {"failures": {}} for name in names}
        self.result: dict[str, Any] = {"plan": asdict(plan) | {"contenders": names}, "machine": describe()}
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
        """Weights, references and exports: of each network in a process of its own, so that none stays in memory."""
        whats = list(dict.fromkeys(contender.what for contender in self.plan.contenders))
        folders = {what: self.folder / str(number) for number, what in enumerate(whats)}
        kinds = {contender.what: contender.kind for contender in self.plan.contenders}
        files = {what: engines.keras_file(what) for what in whats if kinds[what] == "file"}
        others = {str(file): folders[what] for what, file in files.items() if file is not None}
        for what in whats:
            left = [contender for contender in self.plan.contenders if contender.what == what]
            # Keras's networks are built anew to be trained.
            if not self.plan.inference and kinds[what] != "timm":
                self.files |= dict.fromkeys(left, Files())
                continue
            while left:
                self.tell(f"preparing {', '.join(map(str, left))}")
                given = left.copy(), folders[what], self.plan.size, others
                try:
                    for found in run_apart(self.folder, False, engines.make_files, *given):
                        self.files[left[0]] = found
                        self.facts[str(left.pop(0))]["macs"] = found.macs
                except WorkerError as error:  # the contenders after it are prepared in another process
                    if left:
                        self._fail(left.pop(0), ["preparation"], str(error))

    def _measure_peak(self) -> None:
        try:
            [peak] = run_apart(self.folder, self.plan.on_gpu, measure_peak, self.plan.device)
            self.result["peak"] = max(peak, self.result["peak"] or 0.0)
        except WorkerError as error:
            self.tell(f"the machine's peak could not be measured: {error}")

    def _turn(self, contender: Contender, task: str, number: int) -> None:
        name, facts = str(contender), self.facts[str(contender)]
        left = [batch for batch in getattr(self.plan, task) if f"{task} {batch}" not in facts["failures"]]
        wrong = self.plan.drop_wrong and "check" in facts and not facts["check"]["passed"]
        if contender not in self.files or wrong or not left or not getattr(contender, TIMED[task]):
            return
        self.tell(f"{name}: {task}")
        files = self.files[contender]._replace(macs=facts.get("macs"))
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
                    raise WorkerError(off.format(**value))
        except WorkerError as error:  # larger batches than the one that failed are not tried either
            reason = str(error)
            if error.out_of_memory and left:
                reason += self._largest_that_fits(contender, task, left[0])
            self._fail(contender, [f"{task} {batch}" for batch in left], reason)

    def _measure(self, files: Files, contender: Contender, task: str, **changes: Any) -> Iterator[tuple[str, Any]]:
        plan = replace(self.plan, **changes)
        return run_apart(self.folder, plan.on_gpu, measure, files, contender, task, plan)

    def _largest_that_fits(self, contender: Contender, task: str, batch: int) -> str:
        """Tries smaller batches than one that does not fit, each in a process that holds nothing else."""
        self.tell(f"{contender}: {task} at batch {batch} does not fit in memory; looking for the largest that does")

        files = Files(self.files[contender].model, None, 0)

        def fits(smaller: int) -> bool:
            try:
                list(self._measure(files, contender, task, **{task: (smaller,), "seconds": 0.0}))
            except WorkerError as error:
                if not error.out_of_memory:
                    raise
                return False
            return True

        try:
            largest = largest_that_fits(batch, fits)
        except WorkerError as error:
            return f"; a smaller batch failed: {error}"
        return f"; the largest batch tried that fits is {largest}" if largest else "; not even a batch of 1 fits"

    def _fail(self, contender: Contender, keys: list[str], reason: str) -> None:
        self.facts[str(contender)]["failures"] |= dict.fromkeys(keys, reason)
        self.tell(f"{contender}: {', '.join(keys)}: {reason}")

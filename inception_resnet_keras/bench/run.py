"""A benchmark from its plan to raw figures: prepare the contenders, then give each its turns in every round.

Each contender runs in a process of its own and only one works at a time. The order shifts by one from round to round,
so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import platform
import re
import statistics
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from subprocess import DEVNULL, SubprocessError, check_output
from typing import Any

from ..common.arguments import number_between, one_of, positive_integer
from ..common.devices import is_out_of_memory, largest_that_fits
from ..common.errors import InputError, refuse
from ..networks.trace import minimum_side
from . import engines
from .engines import AS_SAVED, EXPORTED, WEIGHTS_ALONE, Contender, Setting, Step

MOST_PIXELS = 4096


@dataclass(frozen=True, kw_only=True)
class Plan(Setting):
    """A benchmark, checked when it is made.

    contenders: at least one; baseline: the one that all are compared with. batches: pictures of a call of inference.
    training: pictures of a training step, empty for none. rounds: turns of each contender; seconds: of a turn.
    apart: whether a worker ends after its turns of a round, so that it holds no memory during the others'.
    """

    contenders: tuple[Contender, ...]
    baseline: Contender
    batches: tuple[int, ...] = (1, 8)
    training: tuple[int, ...] = ()
    rounds: int = 5
    seconds: float = 2.0
    apart: bool = False

    def __post_init__(self) -> None:
        if self.baseline not in self.contenders:
            raise refuse("baseline", str(self.baseline), " or ".join(map(str, self.contenders)))
        counts = {name: [getattr(self, name)] for name in ("rounds", "size", "steps", "threads")}
        for name, values in {**counts, "batches": self.batches, "training": self.training}.items():
            for value in values:
                if (name, value) != ("threads", None):
                    positive_integer(name, value)
        number_between("seconds", self.seconds, 0, 3600, "a number from 0 to below 3600")
        one_of("device", self.device, ("cpu", "gpu"))
        if not self.batches and not self.training:
            raise InputError("batches: there is nothing to measure: give a batch size of inference, or of training")
        if self.size > MOST_PIXELS:
            raise refuse("size", self.size, f"an integer of at most {MOST_PIXELS}")
        for contender in self.contenders:
            least = minimum_side(contender.network) if contender.network else 1
            if self.size < least:
                raise refuse("size", self.size, f"an integer of at least {least}, the least for {contender}")
            if self.device == "gpu" and contender.engine in EXPORTED:
                raise InputError(f"contender {contender}: {contender.engine} runs on the CPU here: give --device cpu")

    def tasks(self) -> dict[str, tuple[int, ...]]:
        """The batches of "inference" and "training", ascending; a task without batches is left out."""
        both = {"inference": self.batches, "training": self.training}
        return {task: tuple(sorted(set(batches))) for task, batches in both.items() if batches}

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"contenders": list(map(str, self.contenders)), "baseline": str(self.baseline)}


def baseline_of(contenders: Sequence[Contender], asked: Contender | None) -> Contender:
    """The one asked for; else `keras.applications`, in graph mode if possible; else the first."""
    peers = sorted((each for each in contenders if each.kind == "applications"), key=lambda each: each.engine)
    return asked or [*peers, *contenders][0]  # "graph" sorts before "xla"


# The machine: psutil and py-cpuinfo know most of it.

# The flags that decide which kernels a library picks, and those of processors that multiply in a type themselves.
FLAGS = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "asimd", "asimddp", "asimdhp", "bf16", "i8mm", "sve"),
)

MULTIPLIES = {"float16": {"avx512_fp16", "amx_fp16", "asimdhp"}, "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"}}

PACKAGES = (
    *("inception-resnet-keras", "keras", "tensorflow", "tensorflow-cpu", "numpy", "openvino", "nncf", "onnx"),
    *("onnxruntime", "ai-edge-litert", "torch", "timm"),
    *("nvidia-cuda-runtime-cu12", "nvidia-cudnn-cu12", "nvidia-cublas-cu12"),
)

GPU_FIELDS = "name,driver_version,memory.total,power.limit,clocks.max.sm,utilization.gpu,memory.used"


@cache
def _library(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError:
        package = {"cpuinfo": "py-cpuinfo"}.get(module, module)
        raise InputError(f"bench: {package} is not installed: pip install 'inception-resnet-keras[bench]'") from None


_processor = cache(lambda: _library("cpuinfo").get_cpu_info())  # it takes a second


def describe() -> dict[str, Any]:
    """The processor, memory, GPUs, versions and date, for a report."""
    psutil, flags = _library("psutil"), _processor().get("flags", ())
    versions = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    quota, turbo = None, None  # cores that a container may use; whether the clock may rise: None if unknown
    with suppress(OSError, ValueError):  # there is no limit, or it is "max"
        allowed, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        quota = int(allowed) / int(period)
    for file, on in (("cpufreq/boost", "1"), ("intel_pstate/no_turbo", "0")):
        with suppress(OSError):
            turbo = Path("/sys/devices/system/cpu", file).read_text().strip() == on
    cpu = {
        "model": _processor().get("brand_raw") or platform.machine(),
        "logical": psutil.cpu_count(),
        "physical": psutil.cpu_count(logical=False),
        "usable": len(getattr(psutil.Process(), "cpu_affinity", list)()) or psutil.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "hypervisor": "hypervisor" in flags,
    }
    system = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
        "gpus": gpus(),
    }
    memory = {"memory_bytes": psutil.virtual_memory().total, "load_average": psutil.getloadavg()[0]}
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": date, **system, "cpu": {**cpu, "quota": quota, "turbo": turbo}, **memory}


def gpus() -> list[dict[str, str]]:
    """The NVIDIA GPUs, as `nvidia-smi` lists them."""
    query = ["nvidia-smi", f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader"]
    try:
        return parse_gpus(check_output(query, text=True, stderr=DEVNULL, timeout=30))
    except (OSError, SubprocessError):
        return []


def parse_gpus(text: str) -> list[dict[str, str]]:
    fields = GPU_FIELDS.split(",")
    rows = (line.split(", ") for line in text.splitlines())
    return [dict(zip(fields, row, strict=True)) for row in rows if len(row) == len(fields)]


def available_memory(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that programs may still take: of the machine's memory and of a container's limit, which psutil ignores.

    groups: where Linux keeps the limits of a container, in the files of either of its versions.
    """
    left = [_library("psutil").virtual_memory().available]
    for limit, used, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        with suppress(OSError, ValueError):  # there is no limit, or it is "max"
            most, now = (int((groups / file).read_text()) for file in (limit, used))
            text = (groups / limit).with_name("memory.stat").read_text()
            files = re.search(rf"^{cached} (\d+)$", text, re.MULTILINE)
            left.append(max(0, most - now + int(files[1] if files else 0)))  # cached files give way
    return min(left)


class Meter:
    """Processor time at one moment, in seconds: of the machine by kind, of this process, and of its threads."""

    def __init__(self) -> None:
        psutil = _library("psutil")
        process, machine = psutil.Process(), psutil.cpu_times()
        self.wall, self.own = time.perf_counter(), sum(process.cpu_times()[:2])
        self.busy = sum(getattr(machine, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq"))
        self.stolen = getattr(machine, "steal", 0.0)
        self.total = self.busy + self.stolen + machine.idle + getattr(machine, "iowait", 0.0)
        self.threads = {thread.id: thread.user_time + thread.system_time for thread in process.threads()}

    def since(self, before: Meter) -> dict[str, Any]:
        """others, stolen: shares of the machine's processor time that other programs and the host took.

        cores: that this process kept busy. threads: those that did at least a twentieth of the busiest one's work.
        """
        spent = [now - before.threads.get(key, 0.0) for key, now in self.threads.items()]
        most, wall = max(spent, default=0.0), self.wall - before.wall
        total, own = self.total - before.total, self.own - before.own
        return {
            "others": max(0.0, self.busy - before.busy - own) / total if total > 0 else None,
            "stolen": (self.stolen - before.stolen) / total if total > 0 else None,
            "cores": own / wall if wall > 0 else None,
            "threads": sum(each >= most / 20 for each in spent) if most > 0 else None,
        }


def peak_rss() -> int:
    """The most memory that this process has held, in bytes."""
    with suppress(OSError):  # Linux's own figure: `ru_maxrss` starts from the parent's
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    if sys.platform == "win32":
        return _library("psutil").Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# Inside a worker's process: a contender that is timed, and the machine's peak.
LEAST_CALLS, MOST_CALLS = 3, 1000


@dataclass(frozen=True)
class Turn:
    """One contender's turn in one round, at one batch size: the seconds of each call, from start to answer.

    images_per_second: of the median call on a CPU, of calls queued back to back on a GPU.
    """

    seconds: list[float]
    images_per_second: float
    facts: dict[str, Any]


class Timing:
    """One contender at one task, "inference" or "training"; the step of each batch size is kept."""

    def __init__(self, contender: Contender, model: str, setting: Setting, task: str, batch: int) -> None:
        self.contender, self.setting, self.task, self.batch = contender, setting, task, batch
        self.engine, self.steps = engines.open_engine(contender, model, setting), dict[int, Step]()
        if task == "inference":  # starting up ends with the first answer
            self.engine.predict(engines.synthetic(batch, setting.size))

    def check(self, reference: str) -> dict[str, Any]:
        """Compare outputs with the network's own in float32, in batches of the size that is compiled already."""
        import numpy as np

        arrays = np.load(reference)
        images, outputs = arrays["images"], arrays["outputs"]
        padded = np.concatenate([images, np.repeat(images[-1:], -len(images) % self.batch, axis=0)])
        own = np.concatenate([self.engine.predict(part) for part in np.split(padded, len(padded) // self.batch)])
        return engines.compare_outputs(own[: len(images)], outputs, self.contender.computed_in)

    def turn(self, batch: int, seconds: float) -> Turn:
        """Call for so many seconds, at least three times; the first call of a batch size is reported apart."""
        engine, first = self.engine, None
        engine.device_memory()  # from here on
        if batch not in self.steps:
            self.steps[batch] = getattr(engine, self.task)(batch)
            first = self._call(self.steps[batch])
        step = self.steps[batch]
        self._call(step)  # another contender's turn has emptied the caches
        before, calls = Meter(), list[float]()
        while len(calls) < LEAST_CALLS or (time.perf_counter() - before.wall < seconds and len(calls) < MOST_CALLS):
            calls.append(self._call(step))
        facts = Meter().since(before) | {"first_call_seconds": first, "peak_rss": peak_rss()}
        one = statistics.median(calls) if self.setting.device == "cpu" else self._queued(step, seconds)
        images = batch * (self.setting.steps if self.task == "training" else 1)
        return Turn(calls, images / one, facts | {"peak_device_memory": engine.device_memory()})

    def fits(self, batch: int) -> None:
        """Run one call; it raises if there is no memory for it."""
        self._call(getattr(self.engine, self.task)(batch))

    def _call(self, step: Step) -> float:
        started = time.perf_counter()
        self.engine.wait(step())
        return time.perf_counter() - started

    def _queued(self, step: Step, seconds: float) -> float:
        """Seconds of a call when calls follow one another and only the last of three is waited for."""
        started, calls = time.perf_counter(), 0
        while calls < LEAST_CALLS or (time.perf_counter() - started < seconds and calls < MOST_CALLS):
            for _ in range(LEAST_CALLS):
                handle = step()
            self.engine.wait(handle)
            calls += LEAST_CALLS
        return (time.perf_counter() - started) / calls


PEAK_SECONDS = 0.5  # of each product's turn
SIDES = {"cpu": 2048, "gpu": 8192}
CHAINED = 4  # products of one OpenVINO call: the input and output then weigh little


def measure_peaks(types: list[str], device: str, threads: int | None = None) -> dict[str, dict[str, Any]]:
    """The most multiply-adds/s of a large matrix product: by type, `macs_per_second` and the library that reached it.

    The faster of TensorFlow and, on a CPU, OpenVINO. In float16 on a CPU OpenVINO alone, as TensorFlow's product is
    not made for it. A type that neither multiplies has no figure.
    """
    libraries = {"TensorFlow": (1, _tensorflow_product), "OpenVINO": (CHAINED, _openvino_product)}
    peaks: dict[str, dict[str, Any]] = {}
    for kind, (library, (products, make)) in itertools.product(types, libraries.items()):
        with suppress(ImportError, NotImplementedError):
            product = make(kind, device, threads)
            product()
            calls = max(3, int(PEAK_SECONDS / timeit.timeit(product, number=1)))
            seconds = min(timeit.repeat(product, number=1, repeat=calls))  # other programs only ever slow it
            peak = {"macs_per_second": products * SIDES[device] ** 3 / seconds, "by": library}
            peaks[kind] = max(peaks.get(kind, peak), peak, key=lambda each: each["macs_per_second"])
    return peaks


def _tensorflow_product(kind: str, device: str, threads: int | None) -> Callable[[], Any]:
    import tensorflow as tf

    from ..common.devices import use_gpus
    from ..models.runtimes import use_threads

    if device == "gpu":
        use_gpus()
    if kind == "int8" or (kind in ("tf32", "float16") and device == "cpu"):
        raise NotImplementedError
    if threads is not None:
        use_threads(threads)
    tf.config.experimental.enable_tensor_float_32_execution(kind == "tf32")
    with tf.device("/GPU:0" if device == "gpu" else "/CPU:0"):
        values = tf.random.stateless_normal((SIDES[device], SIDES[device]), (0, 0))
        matrix = tf.identity(tf.cast(values, "float32" if kind == "tf32" else kind))
        one = tf.constant(0)

        multiply = tf.function(lambda: tf.linalg.matmul(matrix, matrix)[one, one], autograph=False)
    return lambda: multiply().numpy()


def _openvino_product(kind: str, device: str, threads: int | None) -> Callable[[], Any]:
    """A chain of fully connected layers; in int8 each takes and gives int8, as in quantised networks."""
    import numpy as np
    import openvino as ov
    from openvino import opset13 as ops

    hints = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}
    if kind not in hints or device != "cpu":
        raise NotImplementedError
    side = SIDES["cpu"]
    matrix = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    values = parameter = ops.parameter([side, side], np.float32)
    scale = np.float32(1 / (32 * side**0.5))  # so that a product is as large as its factors
    weights = ops.constant(32 * scale * matrix)
    if kind == "int8":
        small = ops.constant(np.clip(matrix * 32, -127, 127).astype(np.int8))
        weights = ops.multiply(ops.convert(small, np.float32), ops.constant(scale))
    for _ in range(CHAINED):
        if kind == "int8":
            low, high = np.float32(-4), np.float32(4)
            values = ops.fake_quantize(values, low, high, low, high, 256)
        values = ops.matmul(values, weights, False, True)
    largest = ops.reduce_max(values, ops.constant([0, 1]))  # one number: to write the whole product would be timed too
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hints[kind]}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    request = ov.Core().compile_model(ov.Model([largest], [parameter]), "CPU", settings).create_infer_request()
    return lambda: request.infer([matrix], share_inputs=True)


# A worker's process, from both sides.
PATIENCE = 1800.0  # seconds for one answer: a compiler takes minutes


def serve(pipe: Any, log: str, gpu: bool) -> None:
    """Answer calls until the pipe closes. What libraries print goes to the log; on the CPU the GPU is hidden."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ |= {"KERAS_BACKEND": "tensorflow"} | ({} if gpu else {"CUDA_VISIBLE_DEVICES": "-1"})
    with open(log, "wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    jobs: dict[str, Callable[..., Any]] = {"prepare": engines.prepare, "peaks": measure_peaks}
    with suppress(EOFError):
        while True:
            verb, arguments = pipe.recv()
            try:
                if verb == "open":
                    timing = Timing(*arguments)
                    answer = timing.engine.facts()
                else:
                    answer = (jobs.get(verb) or getattr(timing, verb))(*arguments)
                pipe.send((answer, None, False))
            except Exception as error:  # reported beside the others' figures: a failure stops nobody else
                line = next(iter(str(error).strip().splitlines()), "")
                shown = line if isinstance(error, (ValueError, RuntimeError)) else f"{type(error).__name__}: {line}"
                pipe.send((None, shown, is_out_of_memory(error)))


class WorkerError(Exception):
    """Why a worker gave no answer."""

    def __init__(self, reason: str, out_of_memory: bool = False) -> None:
        super().__init__(reason)
        self.out_of_memory = out_of_memory


class Worker:
    """A process that runs `target`, for a contender or one job. Its log lies in `folder`."""

    def __init__(self, folder: Path, *, gpu: bool = False, target: Callable[..., None] = serve) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.log = folder / f"{time.monotonic_ns()}.log"
        self.log.touch()
        self.process = context.Process(target=target, args=(theirs, str(self.log), gpu))
        self.process.start()
        theirs.close()

    def ask(self, verb: str, *arguments: Any) -> Any:
        """The answer. Raises WorkerError if the worker fails, dies, or gives none in time."""
        try:
            self.pipe.send((verb, arguments))
            if not self.pipe.poll(PATIENCE):
                self._kill()
                raise WorkerError(f"gave no answer in {PATIENCE:g} seconds")
            answer, error, out_of_memory = self.pipe.recv()
        except (EOFError, ConnectionError):
            raise self._death() from None
        if error is not None:
            raise WorkerError(error, out_of_memory)
        return answer

    def close(self) -> None:
        """End the process: it stops when its pipe closes, and is killed if it does not."""
        self.pipe.close()
        self.process.join(10)
        self._kill()

    def _kill(self) -> None:
        if self.process.is_alive():  # with what it has started, such as a compiler
            for child in _library("psutil").Process(self.process.pid).children(recursive=True):
                with suppress(_library("psutil").NoSuchProcess):
                    child.kill()
            self.process.kill()
        self.process.join()

    def _death(self) -> WorkerError:
        self.process.join(10)
        if self.process.exitcode == -9:  # SIGKILL: nobody but the system's guard of memory sends it here
            return WorkerError("was killed, most likely by the system, for want of memory", out_of_memory=True)
        last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
        status = f"its process ended with status {self.process.exitcode}"
        return WorkerError(f"{status}: {''.join(last) or 'it said nothing'}")


# The rounds.
PAUSE = 0.2  # seconds before a turn, in which the threads of the one before stop spinning


@dataclass
class Entry:
    """A contender's way through a benchmark.

    failure: why it has no figures. left_out: by task, why it has none of that. model, reference: files that `prepare`
    wrote. startup: seconds, one for each start of a worker. turns: by (task, batch), one a round or None. limits: by
    (task, batch) that does not fit in memory, the largest batch that does.
    """

    contender: Contender
    failure: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    model: str = ""
    reference: str | None = None
    startup: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    check: dict[str, Any] | None = None
    turns: dict[tuple[str, int], list[Turn | None]] = field(default_factory=dict)
    limits: dict[tuple[str, int], int] = field(default_factory=dict)

    @property
    def computed_in(self) -> str:
        """The type of its multiplications; for a file that was exported before, from its card."""
        own = self.contender.computed_in
        return self.facts.get("precision", own) if own == AS_SAVED else own

    def multiplied_in(self, device: str, machine: dict[str, Any]) -> str:
        """The type whose peak its multiply-adds are compared with."""
        if device == "gpu":
            return self.computed_in
        if self.computed_in == "float16" and self.contender.engine in WEIGHTS_ALONE:
            return "float32"
        native = MULTIPLIES.get(self.computed_in)
        return self.computed_in if native is None or native & set(machine["cpu"]["flags"]) else "float32"


class Benchmark:
    """A plan and its figures so far. A contender that fails is reported in its entry and stops nobody else.

    tell: is called with a line when something begins or fails. target: what a worker runs.
    entries: in the plan's order. peaks: by type, the highest of all rounds. rounds: how many are done.
    """

    def __init__(
        self, plan: Plan, *, tell: Callable[[str], None] = lambda text: None, target: Callable[..., None] = serve
    ) -> None:
        self.plan, self.tell, self.target, self.machine, self.rounds = plan, tell, target, describe(), 0
        self.entries = [Entry(contender) for contender in plan.contenders]
        self.peaks: dict[str, dict[str, Any]] = {}
        self.workers: dict[tuple[str, str], Worker] = {}

    def run(self, keep: Callable[[Benchmark], None] = lambda benchmark: None) -> Benchmark:
        """Prepare and measure; `keep` is called after each round, so that a run that is stopped leaves it."""
        with tempfile.TemporaryDirectory(prefix="inception-resnet-bench-") as folder, ExitStack() as self.stack:
            self.folder = Path(folder)
            self.prepare()
            for number in range(self.plan.rounds):
                self.tell(f"round {number + 1} of {self.plan.rounds}")
                self.round(number)
                self.rounds = number + 1
                keep(self)
        return self

    def prepare(self) -> None:
        """Write weights, references and exports, each in a process of its own, so that none stays in memory."""
        done: dict[Contender, tuple[str, str] | str] = {}
        subjects = list(dict.fromkeys(contender.what for contender in self.plan.contenders))
        for entry in self.entries:
            contender = entry.contender
            if contender.precision == AS_SAVED:
                entry.model = contender.what
                continue
            key = contender if contender.needs_export else replace(contender, engine="graph", precision="float32")
            if key not in done:
                self.tell(f"preparing {contender}")
                own = self.folder / str(subjects.index(contender.what))
                try:
                    with closing(Worker(self.folder, target=self.target)) as worker:
                        done[key] = worker.ask("prepare", contender, own, self.plan.size)
                except WorkerError as error:
                    done[key] = str(error)
            if isinstance(answer := done[key], str):
                self._fail(entry, answer)
            else:
                entry.model, entry.reference = answer

    def round(self, number: int) -> None:
        for task, batches in self.plan.tasks().items():
            entries = [entry for entry in self.entries if not entry.failure and task not in entry.left_out]
            shift = number % max(1, len(entries))
            for entry in entries[shift:] + entries[:shift]:
                self._turns(entry, task, batches, number)
        self._peaks()

    def _turns(self, entry: Entry, task: str, batches: Sequence[int], number: int) -> None:
        if task == "training" and (reason := entry.contender.why_not_trained):
            entry.left_out[task] = reason
            return
        try:
            for batch in batches:
                turns = entry.turns.setdefault((task, batch), [None] * self.plan.rounds)
                if (task, batch) in entry.limits:
                    break  # a larger one does not fit either
                try:
                    worker = self._worker(entry, task, batch)
                    time.sleep(PAUSE)
                    turns[number] = worker.ask("turn", batch, self.plan.seconds)
                except WorkerError as error:
                    if not error.out_of_memory:
                        raise
                    self._find_limit(entry, task, batch)
        except WorkerError as error:
            self._close(str(entry.contender), task)
            if task == "training":
                entry.left_out[task] = str(error)
            else:
                self._fail(entry, str(error))
        if self.plan.apart:
            self._close(str(entry.contender), task)

    def _worker(self, entry: Entry, task: str, batch: int) -> Worker:
        """The running worker, or a new one; `batch` is the first that it computes."""
        name = str(entry.contender)
        if (name, task) in self.workers:
            return self.workers[name, task]
        self.tell(f"starting {name}" + (" to train" if task == "training" else ""))
        started = time.perf_counter()
        worker = self._start(name, task)
        entry.facts |= worker.ask("open", entry.contender, entry.model, self.plan, task, batch)
        if task != "inference":
            return worker
        entry.startup.append(time.perf_counter() - started)
        # Outputs before speed: a contender that computes something else has no figures.
        if entry.check is None and entry.reference is not None:
            entry.check = worker.ask("check", entry.reference)
            if not entry.check["passed"]:
                off = f"{entry.check['difference']:.2g}, more than {entry.check['bound']:g}"
                raise WorkerError(f"its outputs differ from the network's in float32 by {off}: it is not timed")
        return worker

    def _find_limit(self, entry: Entry, task: str, batch: int) -> None:
        """Search the largest batch that fits, each tried in a process that holds nothing else."""
        name = str(entry.contender)
        self.tell(f"{name}: {task} at batch {batch} does not fit in memory; looking for the largest that does")
        self._close(name, task)

        def fits(smaller: int) -> bool:
            try:
                self._worker(entry, task, smaller).ask("fits", smaller)
            except WorkerError as error:
                if not error.out_of_memory:
                    raise
                return False
            finally:
                self._close(name, task)
            return True

        largest = largest_that_fits(batch, fits)
        entry.limits |= {(task, each): largest for each in self.plan.tasks()[task] if each >= batch}

    def _peaks(self) -> None:
        plan, peaks = self.plan, self.peaks
        entries = [entry for entry in self.entries if not entry.failure]
        types = {entry.multiplied_in(plan.device, self.machine) for entry in entries} - {AS_SAVED}
        if plan.device == "gpu":
            types.add("bfloat16")
        try:
            worker = self.workers.get(("", "peaks")) or self._start("", "peaks")
            for kind, peak in worker.ask("peaks", sorted(types), plan.device, plan.threads).items():
                peaks[kind] = max(peaks.get(kind, peak), peak, key=lambda each: each["macs_per_second"])
        except WorkerError as error:
            self.tell(f"the machine's peak could not be measured: {error}")
            self._close("", "peaks")
        if plan.apart:
            self._close("", "peaks")

    def _start(self, name: str, task: str) -> Worker:
        worker = self.workers[name, task] = Worker(self.folder, gpu=self.plan.device == "gpu", target=self.target)
        self.stack.callback(worker.close)
        return worker

    def _close(self, name: str, task: str) -> None:
        if (worker := self.workers.pop((name, task), None)) is not None:
            worker.close()

    def _fail(self, entry: Entry, reason: str) -> None:
        entry.failure = reason
        self.tell(f"{entry.contender}: {reason}")

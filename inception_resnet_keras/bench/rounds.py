"""A benchmark from its plan to its figures: makes what is needed, then gives each contender its turns.

One worker works at a time; in each round every contender has its turns, in an order that moves on by
one from round to round, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..common.devices import largest_that_fits
from ..common.errors import InputError
from ..models.model_file import read_card
from . import machine
from .contenders import AS_SAVED, TIMM, WEIGHTS_ALONE, Contender
from .engines import Setting
from .figures import Turn
from .plan import Plan
from .processes import COMMAND, Process, WorkerError

PAUSE = 0.2  # seconds before a turn, in which the threads of the one before stop spinning

Told = Callable[[str], None]


@dataclass
class Entry:
    """A contender's way through a benchmark.

    failure: why it has no figures. turns: by (task, batch), one a round or None. limits: by (task,
    batch) that did not fit in memory, the largest that did. startup: seconds, one a worker started.
    """

    contender: Contender
    failure: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    startup: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    check: dict[str, Any] | None = None
    turns: dict[tuple[str, int], list[Turn | None]] = field(default_factory=dict)
    limits: dict[tuple[str, int], int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def computed_in(self) -> str:
        """The type of its multiplications; of a file that was exported before, what its card says."""
        own = self.contender.computed_in
        return self.facts.get("precision", own) if own == AS_SAVED else own

    def multiplied_in(self, device: str, described: Mapping[str, Any]) -> str:
        """The type whose peak its multiply-adds are a share of; described: the machine."""
        if device == "gpu":
            return self.computed_in
        if self.computed_in == "float16" and self.contender.engine in WEIGHTS_ALONE:
            return "float32"
        return machine.multiplied_in(self.computed_in, described["cpu"]["flags"])


@dataclass
class Outcome:
    """entries: in the plan's order. peaks: by type, what the largest matrix product showed over all rounds.
    rounds: how many are done.
    """

    entries: list[Entry]
    peaks: dict[str, dict[str, Any]]
    machine: dict[str, Any]
    rounds: int = 0


def measure(
    plan: Plan,
    *,
    tell: Told = lambda text: None,
    keep: Callable[[Outcome], None] = lambda outcome: None,
    command: Sequence[str] = COMMAND,
) -> Outcome:
    """Runs a plan. A contender that fails is told of in its entry and stops nobody.

    tell: is given a line where something begins or fails. keep: is given what there is after each round, so that
    a run that is stopped leaves it. command: starts a worker.
    """
    return _Measurement(plan, tell, keep, command).run()


class _Measurement:
    def __init__(self, plan: Plan, tell: Told, keep: Callable[[Outcome], None], command: Sequence[str]) -> None:
        self.plan, self.tell, self.keep, self.command = plan, tell, keep, command
        self.gpu = plan.device == "gpu"
        self.entries = [Entry(contender) for contender in plan.contenders]
        self.peaks: dict[str, dict[str, Any]] = {}
        self.outcome = Outcome(self.entries, self.peaks, machine.describe())
        self.workers: dict[tuple[int, str], Process] = {}

    def run(self) -> Outcome:
        with TemporaryDirectory(prefix="inception-resnet-bench-") as folder, ExitStack() as open_workers:
            self._make(Path(folder))
            self.open_workers = open_workers
            for number in range(self.plan.rounds):
                self.tell(f"round {number + 1} of {self.plan.rounds}")
                self._round(number)
                self.outcome.rounds = number + 1
                self.keep(self.outcome)
        return self.outcome

    def _make(self, folder: Path) -> None:
        """Weights, one set a network, and exports: each in a process of its own, so that none is left in memory."""
        made: dict[str, dict[str, str] | WorkerError] = {}
        every = [entry.contender.what for entry in self.entries]
        for entry in self.entries:
            contender = entry.contender
            if contender.precision == AS_SAVED:
                entry.files = {"model": contender.what}
                continue
            try:
                if contender.kind == "saved":
                    read_card(Path(_file(contender)))  # what is damaged starts no process
                what = _file(contender) if contender.kind == "saved" else contender.what
                own = folder / str(every.index(contender.what))
                pictures = self._made(made, "pictures", "pictures", folder=str(folder))["pictures"]
                job = {"what": what, "size": self.plan.size, "folder": str(own), "pictures": pictures}
                files = self._made(made, what, "network", **job)
                if contender.form:
                    job |= {"model": files["model"], "form": contender.form}
                    files = files | self._made(made, f"{what}, {contender.form}", "form", **job)
                if contender.artefact:
                    job |= {"model": files["model"], "contender": asdict(contender)}
                    files = files | self._made(made, str(contender), "export", **job)
                entry.files = files
            except (WorkerError, InputError) as error:
                self._failed(entry, error)

    def _made(self, made: dict[str, Any], key: str, job: str, **message: Any) -> dict[str, str]:
        """What a job wrote, done once a key; its failure is the failure of all who need it."""
        if key not in made:
            self.tell(f"making {key}" if job != "network" else f"making weights of {key}")
            try:
                with Process(command=self.command) as process:
                    made[key] = process.ask("make", make=job, **message)
            except WorkerError as error:
                made[key] = error
        if isinstance(made[key], WorkerError):
            raise made[key]
        return made[key]

    def _round(self, number: int) -> None:
        for task, batches in self.plan.tasks():
            standing = [entry for entry in self.entries if entry.failure is None and task not in entry.left_out]
            shift = number % max(1, len(standing))
            for entry in standing[shift:] + standing[:shift]:
                self._turns(entry, task, batches, number)
        self._peak()

    def _turns(self, entry: Entry, task: str, batches: Sequence[int], number: int) -> None:
        for batch in batches:
            entry.turns.setdefault((task, batch), [None] * self.plan.rounds)
        if task == "training" and (reason := entry.contender.trainable):
            entry.left_out[task] = reason
            return
        key = (self.entries.index(entry), task)
        try:
            for batch in batches:
                if (task, batch) in entry.limits:
                    continue
                try:
                    worker = self._worker(entry, task, key, batch)
                    time.sleep(PAUSE)
                    found = worker.ask("turn", batch=batch, seconds=self.plan.seconds)
                except WorkerError as error:
                    if not error.out_of_memory:
                        raise
                    self._out_of_memory(entry, task, batch, key)
                    break  # a larger one does not fit either
                entry.turns[task, batch][number] = Turn(**found)
        except WorkerError as error:
            self._close(key)
            if task == "training":
                entry.left_out[task] = str(error)
            else:
                self._failed(entry, error)
        if self.plan.apart:
            self._close(key)

    def _worker(self, entry: Entry, task: str, key: tuple[int, str], batch: int) -> Process:
        """Its worker, started where there is none; `batch` is the first that it computes."""
        if key in self.workers:
            return self.workers[key]
        self.tell(f"starting {entry.contender}" + (" to train" if task == "training" else ""))
        started = time.perf_counter()
        worker = self.workers[key] = self.open_workers.enter_context(Process(gpu=self.gpu, command=self.command))
        setting = Setting(self.plan.size, batch, self.plan.device, self.plan.threads, self.plan.steps)
        worker.ask("open", contender=asdict(entry.contender), setting=asdict(setting), files=entry.files, task=task)
        if task == "inference":
            entry.startup.append(time.perf_counter() - started)
        entry.facts |= worker.ask("facts")
        if task == "inference" and entry.check is None:
            self._check(entry, worker)
        return worker

    def _check(self, entry: Entry, worker: Process) -> None:
        """Numbers before speed: one that computes something else has no figures."""
        if "check" not in entry.files:
            return
        entry.check = worker.ask("check", check=entry.files["check"])
        if not entry.check["passed"]:
            raise WorkerError(
                f"its outputs differ from the network's in float32 by {entry.check['difference']:.2g}, more than "
                f"{entry.check['bound']:g}: it is not timed"
            )

    def _out_of_memory(self, entry: Entry, task: str, batch: int, key: tuple[int, str]) -> None:
        """Looks for the largest batch that fits, each tried in a process that holds nothing else."""
        self.tell(
            f"{entry.contender}: {task} at batch {batch} does not fit in memory; looking for the largest that does"
        )
        self._close(key)

        def fits(smaller: int) -> bool:
            try:
                self._worker(entry, task, key, smaller).ask("fits", batch=smaller)
            except WorkerError as error:
                if not error.out_of_memory:
                    raise
                return False
            finally:
                self._close(key)
            return True

        found = largest_that_fits(batch, fits)
        for each in dict(self.plan.tasks())[task]:
            if each >= batch:
                entry.limits[task, each] = found

    def _peak(self) -> None:
        standing = [entry for entry in self.entries if entry.failure is None]
        types = {entry.multiplied_in(self.plan.device, self.outcome.machine) for entry in standing} - {AS_SAVED}
        if self.gpu:
            types.add("bfloat16")
        message = {"types": sorted(types), "device": self.plan.device, "threads": self.plan.threads}
        key = (-1, "peak")
        try:
            if key not in self.workers:
                process = Process(gpu=self.gpu, command=self.command)
                self.workers[key] = self.open_workers.enter_context(process)
            found = self.workers[key].ask("peak", **message)
        except WorkerError as error:
            self.tell(f"the machine's peak could not be measured: {error}")
            self._close(key)
            return
        if self.plan.apart:
            self._close(key)
        for kind, peak in found.items():
            if peak["macs_per_second"] > self.peaks.get(kind, peak)["macs_per_second"] or kind not in self.peaks:
                self.peaks[kind] = peak

    def _close(self, key: tuple[int, str]) -> None:
        worker = self.workers.pop(key, None)
        if worker is not None:
            worker.close()

    def _failed(self, entry: Entry, error: WorkerError | InputError) -> None:
        entry.failure = _advice(error, entry.contender)
        self.tell(f"{entry.contender}: {entry.failure}")


def _file(contender: Contender) -> str:
    path = Path(contender.what)
    return str(path / "model.keras" if path.is_dir() else path)


def _advice(error: WorkerError | InputError, contender: Contender) -> str:
    """The failure as a user can put it right."""
    if isinstance(error, InputError) or error.missing is None:
        return str(error)
    extra = "export" if contender.artefact else None
    missing = {"sklearn": "scikit-learn"}.get(error.missing, error.missing)
    how = "pip install torch timm" if contender.what.startswith(TIMM) else f"pip install {missing}"
    if extra:
        how = f"pip install 'inception-resnet-keras[{extra}]'"
    return f"{missing} is not installed: {how}"

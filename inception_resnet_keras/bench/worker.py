"""A process of a benchmark: it reads a JSON message a line, does what it says, and answers with a line.

    python -m inception_resnet_keras.bench.worker

Standard output is for answers alone: what a library prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Any

from ..common.devices import is_out_of_memory
from .contenders import Contender
from .engines import Engine, Setting, Step, open_engine, pictures
from .machine import Meter, peak_rss

LEAST_CALLS, MOST_CALLS = 3, 1000


class Worker:
    """One contender at one task, "inference" or "training"; steps of batches stay once they are made."""

    def __init__(self, message: dict[str, Any]) -> None:
        self.contender, self.setting = Contender(**message["contender"]), Setting(**message["setting"])
        self.task: str = message["task"]
        self.engine: Engine = open_engine(self.contender, message["files"], self.setting)
        self.steps: dict[int, Step] = {}
        if self.task == "inference":  # the first answer, with which starting up ends
            self.engine.predict(pictures(self.setting.batch, self.setting.size))

    def facts(self, message: dict[str, Any]) -> dict[str, Any]:
        return self.engine.facts()

    def check(self, message: dict[str, Any]) -> dict[str, Any]:
        """Outputs beside the network's own in float32, in batches of the size that is compiled already."""
        import numpy as np

        from .checks import check

        with np.load(message["check"]) as kept:
            images, outputs = kept["images"], kept["outputs"]
        size = self.setting.batch
        whole = np.concatenate([images, np.repeat(images[-1:], -len(images) % size, axis=0)])
        found = [self.engine.predict(whole[start : start + size]) for start in range(0, len(whole), size)]
        return check(np.concatenate(found)[: len(images)], outputs, self.contender.computed_in).as_json()

    def turn(self, message: dict[str, Any]) -> dict[str, Any]:
        """Calls for so many seconds, at least three; the first one of a batch size is told apart."""
        batch, seconds, engine = message["batch"], message["seconds"], self.engine
        engine.reset_memory()
        first = None
        if batch not in self.steps:
            step = getattr(engine, self.task)(batch)
            first = _timed(engine, step)
            self.steps[batch] = step
        step = self.steps[batch]
        _timed(engine, step)  # another contender's turn has emptied the caches
        images = batch * (self.setting.steps if self.task == "training" else 1)
        before, started = Meter.read(), time.perf_counter()
        calls: list[float] = []
        while (spent := time.perf_counter() - started) < seconds or len(calls) < LEAST_CALLS:
            calls.append(_timed(engine, step))
            if len(calls) == MOST_CALLS:
                break
        used = Meter.read().since(before, time.perf_counter() - started)
        return {
            "seconds": calls,
            "images_per_second": images
            / (statistics.median(calls) if self.setting.device == "cpu" else self._queued(step, spent)),
            "facts": {
                **used,
                "first_call_seconds": first,
                "peak_rss": peak_rss(),
                "peak_device_memory": engine.device_memory(),
            },
        }

    def fits(self, message: dict[str, Any]) -> dict[str, Any]:
        """Runs one call; that there was memory for it is what its answer says."""
        _timed(self.engine, getattr(self.engine, self.task)(message["batch"]))
        return {}

    def _queued(self, step: Step, seconds: float) -> float:
        """Seconds a call where calls follow one another and only the last is waited for."""
        started, calls = time.perf_counter(), 0
        while calls < LEAST_CALLS or (time.perf_counter() - started < seconds and calls < MOST_CALLS):
            handle = None
            for _ in range(LEAST_CALLS):
                handle = step()
            self.engine.wait(handle)
            calls += LEAST_CALLS
        return (time.perf_counter() - started) / calls


def _timed(engine: Engine, step: Step) -> float:
    started = time.perf_counter()
    engine.wait(step())
    return time.perf_counter() - started


def _answer(message: dict[str, Any], worker: Worker | None) -> tuple[dict[str, Any], Worker | None]:
    verb = message["do"]
    if verb == "open":
        return {}, Worker(message)
    if verb == "make":
        from .making import make

        return make(message), worker
    if verb == "peak":
        from .peak import measure

        if message["device"] == "gpu":
            from ..common.devices import use_gpus

            use_gpus()
        return measure(message["types"], message["device"], message["threads"]), worker
    assert worker is not None
    return getattr(worker, verb)(message), worker


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    worker: Worker | None = None
    for line in sys.stdin:
        try:
            answer, worker = _answer(json.loads(line), worker)
            said: dict[str, Any] = {"answer": answer}
        except Exception as error:  # told beside the others' figures: one that fails stops nobody
            import traceback

            traceback.print_exc()
            lines = str(error).strip().splitlines() or [""]
            shown = lines[0] if isinstance(error, (ValueError, RuntimeError)) else f"{type(error).__name__}: {lines[0]}"
            said = {"error": shown, "out_of_memory": is_out_of_memory(error), "missing": _missing(error)}
        print(json.dumps(said), file=answers, flush=True)


def _missing(error: Exception) -> str | None:
    """The library that is not installed, where that is what failed."""
    return error.name if isinstance(error, ModuleNotFoundError) else None


if __name__ == "__main__":
    main()

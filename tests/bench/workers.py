"""Workers that are not what they seem, each run in a process of its own; light, so that the process starts quickly."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from inception_resnet_keras.bench import run


def dies(pipe: Any, log: str, gpu: bool) -> None:
    with open(log, "w") as file:
        print("no such instruction", file=file, flush=True)
    os._exit(3)


def is_killed(pipe: Any, log: str, gpu: bool) -> None:
    pipe.recv()
    os.kill(os.getpid(), 9)


def never_answers(pipe: Any, log: str, gpu: bool) -> None:
    time.sleep(60)


def _answers(pipe: Any, answer: Callable[[str, tuple[Any, ...]], tuple[Any, str | None, bool]]) -> None:
    with suppress(EOFError):
        while True:
            pipe.send(answer(*pipe.recv()))


def has_memory_for_four(pipe: Any, log: str, gpu: bool) -> None:
    """Answers at once, with the time of a turn made up."""

    def answer(verb: str, arguments: tuple[Any, ...]) -> tuple[Any, str | None, bool]:
        batch = {"open": lambda: arguments[-1], "turn": lambda: arguments[0], "fits": lambda: arguments[0]}.get(
            verb, int
        )()
        if batch > 4:
            return None, "bad_alloc", True
        return run.Turn([0.5], 2.0 * batch, {}) if verb == "turn" else {}, None, False

    _answers(pipe, answer)


def has_no_room(pipe: Any, log: str, gpu: bool) -> None:
    """Cannot prepare anything, and runs what exists already."""

    def answer(verb: str, arguments: tuple[Any, ...]) -> tuple[Any, str | None, bool]:
        if verb == "prepare":
            return None, "no space left on device", False
        return run.Turn([0.5], 2.0, {}) if verb == "turn" else {}, None, False

    _answers(pipe, answer)


def has_a_small_peak(pipe: Any, log: str, gpu: bool) -> None:
    run.SIDES, run.PEAK_SECONDS = {"cpu": 256}, 0.0
    run.serve(pipe, log, gpu)


def has_little_memory(pipe: Any, log: str, gpu: bool) -> None:
    assert sys.platform == "linux"
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (1_800_000 * 1024,) * 2)
    run.serve(pipe, log, gpu)


def reports_its_threads(pipe: Any, log: str, gpu: bool) -> None:
    """The threads that TensorFlow is set to after a peak was measured."""
    run.SIDES, run.PEAK_SECONDS = {"cpu": 256}, 0.0
    _, arguments = pipe.recv()
    peaks = run.measure_peaks(*arguments)
    from tensorflow.config import threading

    threads = (threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())
    pipe.send(((len(peaks), *threads), None, False))

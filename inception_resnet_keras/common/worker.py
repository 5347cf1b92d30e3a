"""Run a function in a process of its own, so that its memory and its settings of libraries end with it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from .chatter import hush_engine
from .devices import is_out_of_memory
from .errors import InputError

PATIENCE = 1800.0  # maximum time for one answer, in seconds: a compiler takes minutes


class WorkerError(Exception):
    """Raised with the reason if a worker fails or gives no answer."""

    def __init__(self, reason: str, out_of_memory: bool = False) -> None:
        super().__init__(reason)
        self.out_of_memory = out_of_memory


def run_in_worker(function: Callable[..., Iterable[Any]], *arguments: Any, gpus: bool = False) -> Iterator[Any]:
    """Yield the items of `function(*arguments)`, computed in a new process.

    The output of libraries is not shown; if the process dies, its last line is part of the error.

    Args:
        function: A function at the top of a module, which the process imports.
        arguments: Its arguments, which are pickled.
        gpus: Whether the process sees the GPUs.

    Raises:
        WorkerError: The function fails, its process ends, or an item takes longer than `PATIENCE`.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        process = context.Process(target=_work, args=(theirs, str(log), gpus, function, arguments))
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
                raise _death(process.exitcode, log) from None
        finally:
            ours.close()
            process.kill()
            process.join()


def _death(status: int, log: Path) -> WorkerError:
    if status == -9:  # SIGKILL, which the system sends when memory is exhausted
        return WorkerError("was killed, most likely by the system because memory ran out", True)
    printed = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    why = printed[-1] if printed else "it printed nothing"
    return WorkerError(f"its process ended with status {status}: {why}")


def _work(pipe: Any, log: str, gpus: bool, function: Callable[..., Iterable[Any]], arguments: Any) -> None:
    hush_engine()  # if the process dies, the last line of the log is shown: it should be the reason
    os.environ |= {"KERAS_BACKEND": "tensorflow"} | ({} if gpus else {"CUDA_VISIBLE_DEVICES": "-1"})
    with open(log, "wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    try:
        for item in function(*arguments):
            pipe.send((item, None, False))
    except Exception as error:  # the caller decides what a failure stops
        line = next(iter(str(error).strip().splitlines()), "")
        reason = line if isinstance(error, InputError) else f"{type(error).__name__}: {line}"
        out_of_memory = is_out_of_memory(error)
        pipe.send((None, "does not fit in memory" if out_of_memory else reason, out_of_memory))
    pipe.close()

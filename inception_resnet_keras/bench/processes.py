"""A worker seen from the benchmark: started, asked a message at a time, ended; its failure is an answer too."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any

COMMAND = (sys.executable, "-m", "inception_resnet_keras.bench.worker")

PATIENCE = 1800.0  # seconds for one answer: a compiler takes minutes


class WorkerError(Exception):
    """Why a worker did not answer. missing: the library that is not installed, where that is why."""

    def __init__(self, reason: str, *, out_of_memory: bool = False, missing: str | None = None) -> None:
        super().__init__(reason)
        self.out_of_memory, self.missing = out_of_memory, missing


class Process:
    """A worker's process. Ends with the `with` block, whatever happens in it."""

    def __init__(self, *, gpu: bool = False, command: Sequence[str] = COMMAND, patience: float = PATIENCE) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._patience, self._late = patience, False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            encoding="utf-8",
            env=_environment(os.environ, gpu=gpu),
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, verb: str, **message: Any) -> dict[str, Any]:
        """The worker's answer; WorkerError where it fails, dies, or gives none in time."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        watch = threading.Timer(self._patience, self._give_up)
        watch.start()
        try:
            process.stdin.write(json.dumps({"do": verb, **message}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watch.cancel()
        if not line:
            raise self._death()
        said = json.loads(line)
        if "error" in said:
            raise WorkerError(said["error"], out_of_memory=said["out_of_memory"], missing=said["missing"])
        return said["answer"]

    def close(self) -> None:
        process = self._process
        for stream in (process.stdin, process.stdout):
            if stream is not None and not stream.closed:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()  # a worker ends when there is nothing more to read
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._log.close()

    def _give_up(self) -> None:
        self._late = True
        self._process.kill()

    def _death(self) -> WorkerError:
        status = self._process.wait()
        if self._late:
            return WorkerError(f"gave no answer in {self._patience:.0f} seconds")
        if status == -9:  # SIGKILL, which nobody but the system's guard of memory sends here
            return WorkerError("was killed, most likely by the system, for want of memory", out_of_memory=True)
        self._log.seek(0)
        last = self._log.read().decode(errors="replace").strip().splitlines()[-1:]
        return WorkerError(f"its process ended with status {status}: {''.join(last) or 'it said nothing'}")


def _environment(given: Mapping[str, str], *, gpu: bool) -> dict[str, str]:
    """A worker's: on the CPU the GPU is hidden, so that nobody is helped by it."""
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **given, "PYTHONUNBUFFERED": "1", "KERAS_BACKEND": "tensorflow"}
    return environment if gpu else {**environment, "CUDA_VISIBLE_DEVICES": "-1"}

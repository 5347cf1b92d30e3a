"""FIFOs among files, and calls that must never wait for somebody to write to one."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

PATIENCE = 60  # seconds, on a machine that others load


def make_fifo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return path


def without_waiting(fifo: Path, call: Callable[[], Result]) -> Result:
    """What the call returns or raises; TimeoutError if it opens the FIFO and waits."""
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(call)
        try:
            return result.result(PATIENCE)
        except TimeoutError:
            os.close(os.open(fifo, os.O_RDWR))  # lets it go on, so that the test ends
            raise

"""Ctrl-C and SIGTERM, taken between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


class InterruptedRun(Exception):  # noqa: N818 - not an error: what the user asked for
    """Ctrl-C was pressed, or a scheduler sent SIGTERM, and the step then running has ended."""


@contextmanager
def stop_asked(console: Console) -> Iterator[Callable[[], bool]]:
    """Whether to stop was asked; asked a second time, it interrupts at once."""
    asked = threading.Event()

    def ask(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        console.print("stopping after this step; Ctrl-C once more stops at once, with what the last checkpoint holds")

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

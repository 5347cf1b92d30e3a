"""How far a piece of work is: a bar in a terminal, a line that changes in a notebook, else a line now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .console import counted, say

PLAIN_LINE_EVERY = 30.0  # seconds between two lines without a terminal
CHANGES_EVERY = 0.25  # seconds between two changes of a notebook's line


@contextmanager
def reading(console: Console) -> Iterator[Progress]:
    """A progress bar for reading pictures; without a terminal it shows nothing."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield progress


@contextmanager
def progress_of(
    console: Console | None = None, given: Callable[[str, int, int], None] | None = None
) -> Iterator[Callable[[str, int, int], None]]:
    """Yields what to call with the current step, the number of images done and the number of all images.

    console: Where it is shown; None for the terminal or the notebook. given: What is yielded instead, if anything.
    """
    console = console or Console()
    if given is not None:
        yield given
        return
    if console.is_jupyter:
        yield _NotebookLine()
        return
    said = time.monotonic()

    def show(what: str, done: int, total: int) -> None:
        nonlocal said
        bars.update(bar, description=what, completed=done, total=total)
        if not console.is_terminal and time.monotonic() - said > PLAIN_LINE_EVERY:
            said = time.monotonic()
            say(console, _line(what, done, total))

    with reading(console) as bars:
        bar = bars.add_task("", total=None)
        yield show


class _NotebookLine:
    """A line below the cell, which changes in place. It needs no widgets, and stays as it ends in a saved notebook."""

    def __init__(self) -> None:
        self._shown: Any = None
        self._what, self._last = "", 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if what == self._what and done < total and now - self._last < CHANGES_EVERY:
            return
        self._what, self._last = what, now
        data = {"text/plain": _line(what, done, total)}
        if self._shown is None:
            from IPython.display import display

            self._shown = display(data, raw=True, display_id=True)
        else:
            self._shown.update(data, raw=True)


STILL_AFTER = 10.0  # seconds of one step, after which it is said that it still runs; then each time twice as many
STILL_AT_MOST = 60.0
WATCHER = "steps"  # the name of the thread that looks


@contextmanager
def steps(console: Console) -> Iterator[Callable[[str], None]]:
    """Yields what to call with each step of long work, which is shown, and shown again with its time while it goes on.

    The work may be a library's, which says nothing itself. Lines from another thread therefore say that it goes on.
    """
    ended = threading.Event()
    current: tuple[str, float] | None = None  # the step, and when it began

    def begin(text: str) -> None:
        nonlocal current
        say(console, text, style="dim")
        current = (text, time.monotonic())

    def watch() -> None:
        seen, due = current, 0.0
        while not ended.wait(CHANGES_EVERY):
            step, now = current, time.monotonic()
            if step is None:
                continue
            text, start = step
            if step is not seen:
                seen, due = step, start + STILL_AFTER
            if now >= due:
                say(console, f"{text}: {now - start:.0f} s so far", style="dim")
                due = now + min(now - start, STILL_AT_MOST)

    thread = threading.Thread(target=watch, name=WATCHER, daemon=True)
    thread.start()
    try:
        yield begin
    finally:
        ended.set()
        thread.join()


def _line(what: str, done: int, total: int) -> str:
    return f"{what}: {done:,} of {counted(total, 'picture')}"

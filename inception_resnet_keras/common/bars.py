"""Progress of long work: a bar in a terminal, a changing line in a notebook, otherwise a line every 30 seconds."""

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
    """A progress bar for reading images. Without a terminal it shows nothing."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield progress


@contextmanager
def progress_of(
    console: Console | None = None, given: Callable[[str, int, int], None] | None = None
) -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of work on images.

    Yields a function to call with the name of the current step, the number of finished images and the total.

    Args:
        console: Where to show it; None for the terminal or the notebook.
        given: The caller's own function, which is yielded instead if it is not None.
    """
    console = console or Console()
    if given is not None:
        yield given
        return
    if console.is_jupyter:
        yield _NotebookLine()
        return
    shown_at = time.monotonic()

    def show(what: str, done: int, total: int) -> None:
        nonlocal shown_at
        bars.update(bar, description=what, completed=done, total=total)
        if not console.is_terminal and time.monotonic() - shown_at > PLAIN_LINE_EVERY:
            shown_at = time.monotonic()
            say(console, _line(what, done, total))

    with reading(console) as bars:
        bar = bars.add_task("", total=None)
        yield show


class _NotebookLine:
    """A line below the cell that changes in place. It needs no widgets, and a saved notebook keeps its last state."""

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


STILL_AFTER = 10.0  # seconds until a step is reported as still running; the interval then doubles
STILL_AT_MOST = 60.0  # seconds: the longest interval
WATCHER = "steps"  # name of the thread that reports


@contextmanager
def steps(console: Console) -> Iterator[Callable[[str], None]]:
    """Yield a function to call at the beginning of each step of long work.

    The step's text is shown at once, and again with the elapsed time while the step runs. Another thread shows it,
    because a library that does the work reports nothing.
    """
    # `begin` sets the current step; the thread `watch` shows it again while it lasts.
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

"""Several files and folders that come to be together, or not at all, however the process ends."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..common.files import flush
from . import guardian

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def placing(*targets: Path) -> Iterator[Path]:
    """Yields an empty folder beside `targets`, in which files and folders of their names are to be written.

    When the block ends well, they are flushed to the disk and renamed to the targets, in this order;
    when anything fails, or the process ends before, none of them is left. Raises FileExistsError for a
    target that is there by then. Where guardian and process are killed at once, the folder
    `.NAME.*.partial` stays; who next places the same, before the machine starts anew, removes it.
    """
    last = targets[-1]
    _remove_stale(last)
    beside = last.with_name(f".{last.name}.{_boot()}-{secrets.token_hex(8)}.partial").absolute()
    moved: list[str] = []
    with _guarded(beside) as tell:
        lock = None
        try:
            lock = _made(beside)  # here, so that no interrupt falls between it and its removal
            yield beside
            for path in (*beside.rglob("*"), beside):
                if os.name == "posix" or path.is_file():
                    flush(path)
            for target in targets:
                if target.exists():
                    raise FileExistsError(f"{target} has come to be while it was written; it is not overwritten")
                moved.append(target.name)
                tell(target.name)
                os.rename(beside / target.name, target)
        except BaseException:
            guardian.undo(beside, moved)
            raise
        finally:
            guardian.remove(beside)
            if lock is not None:
                os.close(lock)
    if os.name == "posix":
        flush(last.parent)


@contextmanager
def temporary_files() -> Iterator[None]:
    """Within it, `tempfile` makes what it makes in a folder that is removed, however the process ends."""
    before = tempfile.gettempdir()
    folder = Path(before, f"inception-resnet-keras-{secrets.token_hex(8)}")
    with _guarded(folder):
        try:
            folder.mkdir(mode=0o700)
            tempfile.tempdir = str(folder)
            yield
        finally:
            tempfile.tempdir = before
            guardian.remove(folder)


@contextmanager
def _guarded(folder: Path) -> Iterator[Callable[[str], None]]:
    """Within it, a process waits to undo what is in `folder`, once this one is gone; yields what tells it of a move."""
    process = None
    with suppress(OSError):  # no process to be had: then this one alone removes what it made
        process = _start(folder)

    def tell(name: str) -> None:
        if process is not None:
            with suppress(OSError):
                os.write(process.stdin.fileno(), os.fsencode(name) + guardian.END)

    try:
        yield tell
    finally:
        tell("")
        if process is not None:
            process.communicate()


def _start(folder: Path) -> Any:
    command = [sys.executable, "-I", "-S", guardian.__file__, str(folder)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if sys.platform == "win32":
        return subprocess.Popen(command, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP, **pipes)
    ends = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}  # that reach a whole group of processes: it outlives them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # which a process inherits
    try:
        return subprocess.Popen(command, start_new_session=True, **pipes)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _boot() -> str:
    """Which kernel this is, since its start; empty where that is not told."""
    with suppress(OSError):
        return _BOOT_ID.read_text()[:8]
    return ""


def _made(folder: Path) -> int | None:
    """Makes a folder that is locked while this process lives; returns what holds the lock, None where there is none."""
    if sys.platform == "win32":
        folder.mkdir()
        return None
    made = folder.with_suffix(".making")  # another name until it is locked: no other can take it for stale
    made.mkdir()
    try:
        lock = _locked(made)
        os.rename(made, folder)
    except BaseException:
        with suppress(OSError):
            made.rmdir()
        raise
    return lock


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None where another process holds it, or there is no such lock."""
    if sys.platform == "win32":
        return None
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_stale(last: Path) -> None:
    """Removes the folders of processes of this machine that were killed since it started.

    A kernel lets a dead process's lock go; locks of another machine that shares the folder may not be seen
    here, so that what it makes stays.
    """
    if not (boot := _boot()) or sys.platform == "win32":
        return
    name = re.compile(rf"\.{re.escape(last.name)}\.{boot}-[0-9a-f]{{16}}\.partial")
    for folder in [path for path in last.parent.iterdir() if name.fullmatch(path.name)]:
        with suppress(OSError):
            if folder.lstat().st_uid == os.getuid() and (lock := _locked(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)

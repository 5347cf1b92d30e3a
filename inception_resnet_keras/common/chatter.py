"""Filters TensorFlow's start-up notes out of the standard error stream, and passes everything else on.

While TensorFlow's libraries are loaded, they report that oneDNN is on. They write this to file descriptor 2 before they
read TF_CPP_MIN_LOG_LEVEL, so neither that variable nor Python can prevent it. Therefore, while the package `tensorflow`
is imported, the descriptor leads to another process, which passes on all lines except these notes. A process is used
because it outlives this one: if the library aborts or crashes, its last lines still arrive. The process runs this file.
"""

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, BinaryIO, cast

ENGINE = "tensorflow"
# The prefix of Abseil's notes (I for information) before its log is set up, and the line before the first of them.
NOTE = b"I0000 "
LITERT_NOTE = b"INFO: Created TensorFlow Lite "
HEADING = b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR"
PATIENCE = 5.0  # seconds to wait for the last lines


_hushed = False


def hush_engine() -> None:
    """Filter TensorFlow's notes when it is first imported, by any module. Does nothing if it is already loaded.

    If the environment variable TF_CPP_MIN_LOG_LEVEL is 0, the notes are kept. If it is not set, it is set to 2: errors
    only.
    """
    global _hushed  # noqa: PLW0603 - a state of the process, like its streams
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    _hushed = level != "0"
    if level != "0" and ENGINE not in sys.modules and not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds TensorFlow through the other finders, and gives it a loader that filters its notes."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != ENGINE:
            return None
        for finder in sys.meta_path:
            if not isinstance(finder, _Finder) and (spec := finder.find_spec(name, path, target)):
                if spec.loader is not None:
                    spec.loader = cast(Any, _Loader(spec.loader))
                return spec
        return None


class _Loader:
    """Wraps another loader and filters the notes while it executes its module, once."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader  # the module keeps no reference to this wrapper
        sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, _Finder)]
        with notes_left_out():
            self._loader.exec_module(module)


@contextmanager
def notes_left_out() -> Iterator[None]:
    """Within the block, filter Abseil's early notes out of what this process writes to file descriptor 2."""
    from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired

    try:
        ours = os.dup(2)
    except OSError:  # the stream is closed, so there is nothing to filter
        yield
        return
    # In its own process group, Ctrl-C does not end it: our own message about Ctrl-C must still pass through.
    group: dict[str, Any] = {"creationflags": 0x200} if sys.platform == "win32" else {"process_group": 0}
    try:
        reader = Popen([sys.executable, "-I", "-S", __file__], stdin=PIPE, stdout=DEVNULL, **group)
    except OSError:  # no further process can be started: run without the filter
        os.close(ours)
        yield
        return
    assert reader.stdin is not None
    # From here on, descriptor 2 is the pipe to the reader.
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()
    try:
        yield
    finally:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(ours, 2)  # closes the last write end of the pipe in this process
        os.close(ours)
        with suppress(TimeoutExpired):  # a child process started meanwhile still writes to the pipe
            reader.wait(PATIENCE)


@contextmanager
def hushed() -> Iterator[None]:
    """`notes_left_out`, if `hush_engine` was called in this process; for libraries that write their note later."""
    with notes_left_out() if _hushed else nullcontext():
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block, drop warnings and log lines below errors, and send printed text to stderr."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def without_retracing_warnings() -> Iterator[None]:
    """Within the block, drop TensorFlow's warning that a function is traced again and again.

    TensorFlow counts calls by the name of the function: each of several models is traced once, and it warns of the
    fifth.
    """
    log = logging.getLogger(ENGINE)

    def keep(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    log.addFilter(keep)
    try:
        yield
    finally:
        log.removeFilter(keep)


def pass_on(lines: Iterable[bytes], stream: BinaryIO) -> None:
    """Write all lines except start-up notes, each without delay."""
    for line in lines:
        if not line.startswith((NOTE, HEADING, LITERT_NOTE)):
            stream.write(line)
            stream.flush()


if __name__ == "__main__":
    pass_on(iter(sys.stdin.buffer.readline, b""), sys.stderr.buffer)

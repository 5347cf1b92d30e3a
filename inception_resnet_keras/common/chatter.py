"""TensorFlow's start-up chatter, kept from the standard error stream; everything else that TensorFlow writes passes.

TensorFlow's libraries report as they are loaded that oneDNN is on. They do so before they have read
TF_CPP_MIN_LOG_LEVEL, straight to file descriptor 2, where neither that setting nor Python can stop it. While the
package `tensorflow` is imported, that descriptor therefore leads to another process, which passes on what is no note.
A process, because it outlives ours: the last words of an engine that aborts or crashes arrive too. It is this file,
run by itself.
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
# How Abseil marks notes (I for information) before its log is set up, and the line it writes before the first of them.
NOTE = b"I0000 "
LITERT_NOTE = b"INFO: Created TensorFlow Lite "
HEADING = b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR"
PATIENCE = 5.0  # seconds for the last lines to pass


_hushed = False


def hush_engine() -> None:
    """Let TensorFlow be quiet when it is first imported, by whatever module; where it is loaded already, do nothing.

    Its notes stay where the environment variable TF_CPP_MIN_LOG_LEVEL is 0, which asks for them; where it is not set,
    it becomes 2: errors only.
    """
    global _hushed  # noqa: PLW0603 - of the process, as its streams are
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    _hushed = level != "0"
    if level != "0" and ENGINE not in sys.modules and not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds TensorFlow as the other finders do, with a loader that is quiet."""

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
    """Another loader, whose module is executed quietly, once."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader  # nothing of us stays on the module
        sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, _Finder)]
        with notes_left_out():
            self._loader.exec_module(module)


@contextmanager
def notes_left_out() -> Iterator[None]:
    """Everything written to file descriptor 2 meanwhile, by this process, but for Abseil's early notes."""
    from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired

    try:
        ours = os.dup(2)
    except OSError:  # the stream is closed: nobody reads it
        yield
        return
    # A process group of its own: Ctrl-C is for us, and what we say of it still has to pass.
    group: dict[str, Any] = {"creationflags": 0x200} if sys.platform == "win32" else {"process_group": 0}
    try:
        reader = Popen([sys.executable, "-I", "-S", __file__], stdin=PIPE, stdout=DEVNULL, **group)
    except OSError:  # no process more can be had: rather chatter than no engine
        os.close(ours)
        yield
        return
    assert reader.stdin is not None
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()
    try:
        yield
    finally:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(ours, 2)  # the last end of the pipe on our side
        os.close(ours)
        with suppress(TimeoutExpired):  # a process that was started meanwhile has the pipe: it goes on writing to it
            reader.wait(PATIENCE)


@contextmanager
def hushed() -> Iterator[None]:
    """The same, if `hush_engine` was called in this process; for an engine that writes a note later than TensorFlow."""
    with notes_left_out() if _hushed else nullcontext():
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block, warnings and log lines below an error are dropped, and what is printed goes to stderr."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def pass_on(lines: Iterable[bytes], stream: BinaryIO) -> None:
    """Write the lines that are no notes of an engine's start, each at once."""
    for line in lines:
        if not line.startswith((NOTE, HEADING, LITERT_NOTE)):
            stream.write(line)
            stream.flush()


if __name__ == "__main__":
    pass_on(iter(sys.stdin.buffer.readline, b""), sys.stderr.buffer)

"""Real processes of the command line that begin at once: forked from a server that has imported the engines already."""

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from inception_resnet_keras import networks
from inception_resnet_keras.cli import main

from .blank import use_blank_charts
from .tiny import KNOWN

PATIENCE = 300  # seconds, on a machine that others load


def start(
    arguments: list[str],
    said: Path,
    prepare: Callable[[], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """A process of that command line, where the small networks are known: a `multiprocessing` one.

    What it says on either stream is added to the file `said`; `prepare`, a module's function, is called in it first,
    and `environment` is added to its own.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    process = server.Process(target=_command, args=(arguments, str(said), prepare, dict(environment or {})))
    process.start()
    return process


def wait_for(process: Any, said: Path, text: str) -> None:
    """Until the process has said it."""
    until = time.monotonic() + PATIENCE
    while not (said.exists() and text in said.read_text()):
        assert time.monotonic() < until, f"{text!r} was not said: {said.read_text() if said.exists() else ''}"
        assert process.is_alive(), f"ended with {process.exitcode} before it said {text!r}: {said.read_text()}"
        time.sleep(0.01)


def finish(process: Any, said: Path, status: int = 0) -> str:
    """What it has said when it has ended, and that with `status`."""
    process.join(PATIENCE)
    assert process.exitcode == status, said.read_text()
    return said.read_text()


def _command(arguments: list[str], said: str, prepare: Callable[[], None] | None, environment: dict[str, str]) -> None:
    networks.NETWORKS.update(KNOWN)
    use_blank_charts()
    os.environ |= environment
    with Path(said).open("a", buffering=1) as file:
        sys.stdout = sys.stderr = file
        if prepare:
            prepare()
        status = main(arguments)
    sys.exit(status)


def free_addresses(count: int) -> list[str]:
    """host:port of this machine, where nobody listens now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses

"""DOT → SVG, PNG, PDF: by the pip package pygraphviz, else by a system's `dot`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from ..errors import InputError
from . import fonts

MISSING = (
    "format: a picture needs Graphviz, which is not here: pip install 'inception-resnet-keras[plot]', "
    "or install Graphviz so that `dot` is on PATH; the formats dot, mermaid and html need neither"
)
TIMEOUT = 300  # seconds that a system's dot may take


def draw(dot: str, format: str) -> bytes:
    """A DOT text as the bytes of a picture; InputError where there is nothing to draw it with."""
    with fonts.only_ours() as environment:
        try:
            import pygraphviz
        except ImportError:
            return _draw_with_system(dot, format, environment)
        with _without_font_warnings():
            return pygraphviz.AGraph(string=dot).draw(format=format, prog="nop2")


def can_draw() -> bool:
    return find_spec("pygraphviz") is not None or shutil.which("dot") is not None


def _draw_with_system(dot: str, format: str, environment: dict[str, str]) -> bytes:
    program = shutil.which("dot")
    if program is None:
        raise InputError(MISSING)
    done = subprocess.run(
        [program, "-Knop2", f"-T{format}"],
        input=dot.encode(),
        capture_output=True,
        env=environment,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        raise InputError(f"format: {program} failed on {format}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


@contextmanager
def _without_font_warnings() -> Iterator[None]:
    """Drops what the wheel's Fontconfig says of a newer system's files: it writes past Python's stderr."""
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            said.seek(0)
            for line in said.read().decode(errors="replace").splitlines():
                if not line.startswith("Fontconfig warning"):
                    print(line, file=sys.stderr)

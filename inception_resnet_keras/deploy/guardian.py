"""Removes what an export left half made, however its process ended: terminated, crashed or killed.

Run by its path as a process of its own, which waits at its standard input until the other is gone: a
signal's handler would have to run inside converters in C++, which take minutes, swallow its exception
or die of it. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable

END = b"\0"  # of a name; alone: all is well


def undo(folder: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Removes a folder, and what was moved out of it to beside it; what still lies in it was not moved."""
    if not os.path.isdir(folder):
        return
    for name in names:
        if not os.path.lexists(os.path.join(folder, name)):
            remove(os.path.join(os.path.dirname(folder), name))
    remove(folder)


def remove(path: str | os.PathLike[str]) -> None:
    """A file or a folder, as far as it is there and can be removed."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)


def watch(folder: str) -> None:
    """Reads the names of what is moved out of `folder` to beside it, until the end; then removes all, or leaves it."""
    *names, _ = sys.stdin.buffer.read().split(END)
    if b"" not in names:
        undo(folder, map(os.fsdecode, names))


if __name__ == "__main__":
    watch(sys.argv[1])

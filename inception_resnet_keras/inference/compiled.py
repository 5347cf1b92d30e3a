"""Where OpenVINO keeps what it compiled: to compile int8 takes longer than all else that `predict` does."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

KEPT = 32  # models, of about 3 MB each: no weights are in it
_PRIVATE = 0o700


def cache_for(xml: Path) -> Path | None:
    """A folder of the user's own for one model as it is now; None where none can be had, which hurts nothing.

    It lies in $XDG_CACHE_HOME, else ~/.cache. OpenVINO tells by itself what another version or processor wrote, or
    what is damaged, and compiles anew.
    """
    try:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        root = Path(base, "inception-resnet-keras", "openvino")
        root.mkdir(_PRIVATE, parents=True, exist_ok=True)
        if not (_is_own(root.parent) and _is_own(root)):
            return None
        weights = xml.with_suffix(".bin").stat()
        key = sha256(xml.read_bytes())
        key.update(f"{weights.st_size} {weights.st_mtime_ns} {xml.absolute()}".encode("utf-8", "surrogateescape"))
        folder = root / key.hexdigest()[:32]
        if not folder.is_dir():
            _make_room(root)
            folder.mkdir(_PRIVATE, exist_ok=True)
        return folder if _is_own(folder) and os.access(folder, os.W_OK) else None
    except (OSError, RuntimeError):  # no home, no room, no right
        return None


def _is_own(folder: Path) -> bool:
    """Whether no other user can put anything there: what is compiled is run."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return False
    return os.name != "posix" or (found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _make_room(root: Path) -> None:
    """Removes the folders that are oldest, so that with a new one there are no more than `KEPT`."""
    folders = sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for folder in folders[: len(folders) + 1 - KEPT]:
        with suppress(OSError):
            shutil.rmtree(folder)

"""Where an example writes: a folder of its own, never over what is there."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def new_folder(out: Path | None, name: str) -> Path:
    """`out`, made where it is not there, or a temporary folder; ends the program where `out` holds anything."""
    if out is None:
        return Path(tempfile.mkdtemp(prefix=f"{name}-"))
    if out.exists() and not out.is_dir():
        sys.exit(f"--out: {out} is a file; give a new folder")
    if out.exists() and any(out.iterdir()):
        sys.exit(f"--out: {out} is not empty, and nothing is written over; give a new folder")
    out.mkdir(parents=True, exist_ok=True)
    return out

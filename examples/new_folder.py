"""The folder that an example writes into: a new one, so that nothing is overwritten."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path


def new_folder(out: Path | None, name: str) -> Path:
    """`out`, created if it does not exist, or a temporary folder; ends the program if `out` is not empty."""
    if out is None:
        return Path(tempfile.mkdtemp(prefix=f"{name}-"))
    if out.exists() and not out.is_dir():
        sys.exit(f"--out: {out} is a file; give a new folder")
    if out.exists() and any(out.iterdir()):
        sys.exit(f"--out: {out} is not empty, and nothing is written over; give a new folder")
    out.mkdir(parents=True, exist_ok=True)
    return out

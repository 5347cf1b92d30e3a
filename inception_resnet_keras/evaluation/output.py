"""The folder that an evaluation is written to: a new one, always."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from ..errors import InputError
from ..files import write_text

EVALUATIONS = Path("evaluations")


@contextmanager
def new_folder(out: Path | None, name: str, data: Path) -> Iterator[Path]:
    """A fresh folder, `out` or the next free number of `name` below evaluations/; an empty one is not left behind.

    Raises InputError where `out` holds anything, lies among the pictures, or cannot be made.
    """
    if out is None:
        out = next(path for number in count(1) if not (path := EVALUATIONS / f"{name}-{number}").exists())
    elif data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise InputError(f"{out}: lies in the folder of pictures, where it would be taken for a class")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already and is no empty folder; give a new one, nothing is overwritten")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be made ({error.strerror}); give another folder with --out") from None
    try:
        yield out
    finally:
        if not any(out.iterdir()):
            out.rmdir()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())

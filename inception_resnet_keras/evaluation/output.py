"""The folder that an evaluation is written to: a new one, always."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..files import fresh_folder, write_text

EVALUATIONS = Path("evaluations")


@contextmanager
def new_folder(out: Path | None, name: str, data: str | Path) -> Iterator[Path]:
    """A fresh folder, `out` or the next free number of `name` below evaluations/; an empty one is not left behind.

    Raises InputError where it holds anything, lies among the pictures, or cannot be made.
    """
    folder = fresh_folder(out, EVALUATIONS, name, [data])
    try:
        yield folder.path
    finally:
        folder.remove_if_empty()


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())

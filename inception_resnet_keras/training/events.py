"""TensorBoard's event files, without gaps or doubles: what a run's history says, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf


def require_tensorboard() -> None:
    """Raises InputError where the package that reads the files is missing."""
    if find_spec("tensorboard") is None:
        raise InputError("tensorboard: the package is missing: pip install 'inception-resnet-keras[tensorboard]'")


class Events:
    """Writes rows of a history. A resumed run writes them anew: its old files go at the first rows, not before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: tf.summary.SummaryWriter | None = None

    def write(self, rows: Sequence[Mapping[str, float]]) -> None:
        import tensorflow as tf

        if self._writer is None:
            for old in self.folder.glob("events.out.tfevents.*"):
                old.unlink()
            self._writer = tf.summary.create_file_writer(str(self.folder))
        with self._writer.as_default():
            for row in rows:
                for name, value in row.items():
                    if name != "epoch":
                        tf.summary.scalar(name, value, step=int(row["epoch"]))
        self._writer.flush()

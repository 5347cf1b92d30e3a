"""The folder of a training run: what lies in it, and how it is written."""

from __future__ import annotations

import csv
import json
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..common.console import command
from ..common.errors import InputError
from ..common.files import new_folder, remove_partial, write_csv, write_json
from ..data.splits import SPLIT_FILE
from .config import TrainConfig

RUNS = Path("runs")


@dataclass(frozen=True)
class RunFolder:
    """Paths within a run's folder."""

    path: Path

    @property
    def model(self) -> Path:
        return self.path / "model.keras"

    @property
    def best(self) -> Path:
        return self.path / "best.keras"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def history(self) -> Path:
        return self.path / "history.csv"

    @property
    def report(self) -> Path:
        return self.path / "report.json"

    @property
    def split(self) -> Path:
        return self.path / SPLIT_FILE

    def write_config(self, config: TrainConfig, chosen: Mapping[str, Any]) -> None:
        """`config` as it was given, what followed from it, and what it ran on."""
        write_json(
            self.config,
            {
                "command": config.command(),
                "config": asdict(config),
                "chosen": dict(chosen),
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": {"platform": platform.platform(), "python": platform.python_version()},
                "versions": _versions(),
            },
        )

    def change_config(self, config: TrainConfig) -> None:
        """Another `config` in place of the one that is there; what else was told of the run's start stays."""
        there = json.loads(self.config.read_text(encoding="utf-8"))
        write_json(self.config, {**there, "command": config.command(), "config": asdict(config)})

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        header = list(rows[0])
        write_csv(self.history, header, ([row[name] for name in header] for row in rows))

    def sweep(self) -> None:
        """Remove what a killed process left half written; a run has one writer at a time, whichever its host."""
        for folder in (self.path, self.checkpoints):
            remove_partial(folder)

    def has_checkpoint(self) -> bool:
        return any(self.checkpoints.glob("*.ckpt"))

    def remove_if_untrained(self) -> None:
        """Remove the configuration if nothing was trained, so that the folder is empty."""
        if self.model.exists() or self.has_checkpoint():
            return
        self.config.unlink(missing_ok=True)
        self.split.unlink(missing_ok=True)
        if self.checkpoints.is_dir() and not any(self.checkpoints.iterdir()):
            self.checkpoints.rmdir()

    def read_history(self) -> list[dict[str, float]]:
        """The epochs that ended, oldest first; InputError where the file is damaged."""
        if not self.history.exists():
            return []
        try:
            with self.history.open(encoding="utf-8", newline="") as file:
                return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]
        except (ValueError, TypeError) as error:
            raise InputError(f"{self.history}: is damaged ({error}); it must hold a row of numbers an epoch") from None


@contextmanager
def new_run(out: Path | None, config: TrainConfig) -> Iterator[RunFolder]:
    """Make the folder of a run: `out`, or the next free number below runs/; removed if nothing was trained in it.

    Raises InputError where `out` is there already and holds anything, or the folder lies among the pictures.
    """
    if out is not None and (out / "config.json").exists():
        raise InputError(
            f"{out}: already holds a run; give another folder, or go on: {command('train', '--resume', out)}"
        )
    pictures = [folder for folder in (config.data, config.val) if folder]
    with new_folder(out, RUNS, f"{config.dataset}-{config.model}", pictures) as folder:
        run = RunFolder(folder)
        try:
            yield run
        finally:
            run.remove_if_untrained()


def require_space(folder: Path, size: int) -> None:
    """Raises InputError where the disk has not `size` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise InputError(
            f"{folder}: {free / 1e6:,.0f} MB are free on its disk, {size / 1e6:,.0f} MB are needed to save this "
            "model safely; free some, or give another folder with --out"
        )


def _number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)


def _versions() -> dict[str, str]:
    packages = ("inception-resnet-keras", "keras", "tensorflow", "tensorflow-cpu", "numpy", "pillow", "scikit-learn")
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

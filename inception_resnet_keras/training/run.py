"""A training run's folder: its files, and the writer that saves a session into it."""

from __future__ import annotations

import csv
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from ..common.console import command, say
from ..common.errors import InputError
from ..common.files import LOCK, new_folder, only_writer, remove_partial, replacing, write_csv, write_json
from ..common.machine import environment
from ..common.packages import required
from ..data.copies import COPIES_FILE
from ..data.splits import SPLIT_FILE, read_split
from ..evaluation.predictions import PREDICTIONS
from ..models.model_file import Card, read_run_config, save_model
from ..weights.runs import RUN_CONFIG
from .checkpoints import Checkpoints, FoundCheckpoint, step_of
from .cluster import require_agreement, worker
from .config import TrainConfig

if TYPE_CHECKING:
    import tensorflow as tf

    from .session import Session

RUNS = Path("runs")
HELD_OUT = "val_"  # prefix of the names of figures on held-out pictures
STUDIES = ("folds", "seeds")  # a folder with folds.json or seeds.json contains the runs of several folds or seeds


# ----------------------------------------------------------------------------------------------------------------------
# The folder
# ----------------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class RunFolder:
    """The paths in a run's folder, and its small text files.

    Attributes:
        path: The folder.
    """

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
        return self.path / RUN_CONFIG

    @property
    def history(self) -> Path:
        return self.path / "history.csv"

    @property
    def report(self) -> Path:
        return self.path / "report.json"

    @property
    def predictions(self) -> Path:
        return self.path / PREDICTIONS

    @property
    def split(self) -> Path:
        return self.path / SPLIT_FILE

    @property
    def study(self) -> Path | None:
        """The folder of several folds or seeds, if the run is one of them; then that folder is resumed, not the run."""
        parent = self.path.absolute().parent
        return parent if any((parent / f"{kind}.json").exists() for kind in STUDIES) else None

    @property
    def copies(self) -> Path:
        return self.path / COPIES_FILE

    @property
    def given(self) -> dict[str, Path]:
        """The files and folders for data and models that were given in memory, by setting, for resuming the run."""
        names = {"data": "pictures", "val": "held_out_pictures", "weights": "pretrained.keras"}
        return {setting: self.path / name for setting, name in names.items()}

    def identity(self) -> str:
        """The identity that the run's files have in common; a new one if there is no config.json.

        "" for a run of an earlier version, whose files have no identity. Raises InputError if config.json is damaged.
        """
        if not os.path.lexists(self.config):
            return secrets.token_hex(8)
        identity: str = read_run_config(self.config).get("run", "")
        return identity

    def write_config(self, config: TrainConfig, derived: Mapping[str, Any], identity: str = "") -> None:
        """Write config.json: settings, values derived from them, identity, machine and versions."""
        write_json(
            self.config,
            {
                "run": identity,
                "command": config.command(),
                "config": config.settings(),
                "chosen": dict(derived),
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                **environment(),
            },
        )

    def change_config(self, config: TrainConfig) -> None:
        """Replace the settings in config.json, and keep its record of the run's start."""
        stored = read_run_config(self.config)
        write_json(self.config, {**stored, "command": config.command(), "config": config.settings()})

    def has_value_range(self) -> bool:
        """Whether config.json records the value range of the pictures, or that they need none."""
        return os.path.lexists(self.config) and "value_range" in read_run_config(self.config)["config"]

    def recorded_split(self) -> str:
        """The digest of split.csv in config.json; "" for none. Raises InputError if config.json is damaged."""
        digest: str = read_run_config(self.config).get("split", "") if os.path.lexists(self.config) else ""
        return digest

    def record_split(self) -> None:
        """Record the digest of split.csv in config.json, so that a truncated or foreign split.csv is recognised."""
        stored, digest = read_run_config(self.config), read_split(self.split).digest
        if stored.get("split") != digest:
            write_json(self.config, {**stored, "split": digest})

    def write_history(self, rows: Sequence[Mapping[str, float]]) -> None:
        header = list(dict.fromkeys(name for row in rows for name in row))  # rows of earlier versions may have fewer
        write_csv(self.history, header, ([row.get(name, math.nan) for name in header] for row in rows))

    def read_history(self) -> list[dict[str, float]]:
        """The history of the finished epochs, oldest first; raises InputError if the file is damaged."""
        if not self.history.exists():
            return []
        try:
            with self.history.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            for row in rows:
                if None in row or None in row.values():
                    raise ValueError("a row has more or fewer values than there are columns")
            return [{key: _number(value) for key, value in row.items()} for row in rows]
        except (ValueError, csv.Error) as error:
            raise InputError(
                f"{self.history}: is damaged ({str(error)[:200]}); it must have one row of numbers per epoch. Restore "
                "it: the run can be resumed only with it or with a checkpoint. The run's models may still be usable"
            ) from None

    def has_checkpoint(self) -> bool:
        return bool(Checkpoints(self.checkpoints).paths())

    def remove_partial_files(self) -> None:
        """Remove the partial files of a killed process. The caller must be the run's only writer."""
        for folder in (self.path, self.checkpoints):
            remove_partial(folder)

    def remove_if_untrained(self) -> None:
        """Remove settings and split if nothing was trained, so that the folder is empty."""
        if self.model.exists() or self.has_checkpoint():
            return
        for file in (self.config, self.split, self.copies, self.copies.with_suffix(".png"), self.path / LOCK):
            file.unlink(missing_ok=True)
        for kept in self.given.values():
            shutil.rmtree(kept) if kept.is_dir() else kept.unlink(missing_ok=True)
        if self.checkpoints.is_dir() and not any(self.checkpoints.iterdir()):
            self.checkpoints.rmdir()


@contextmanager
def new_run(out: Path | None, config: TrainConfig) -> Iterator[RunFolder]:
    """Create and lock the folder of a run: `out`, or the next free number below runs/.

    It is removed if nothing was trained in it. Raises InputError if `out` is not empty, if another process writes to
    it, or if it would be inside a folder of pictures.
    """
    if out is not None and (out / LOCK).exists():
        with only_writer(out):  # raises an error that names the other writer, if there is one
            _require_no_run(out)
            (out / LOCK).unlink()
    if out is not None:
        _require_no_run(out)
    pictures = [folder for folder in (config.data, config.val) if folder]
    with new_folder(out, RUNS, f"{config.dataset}-{config.model}", pictures) as folder, only_writer(folder):
        _require_no_run(folder)  # again, because another process may have been faster
        run = RunFolder(folder)
        try:
            yield run
        finally:
            run.remove_if_untrained()


def _require_no_run(folder: Path) -> None:
    if (folder / RUN_CONFIG).exists():
        raise InputError(
            f"{folder}: already contains a run; give another folder, or resume it: "
            f"{command('train', '--resume', folder)}"
        )


def require_space(folder: Path, size: int) -> None:
    """Raise InputError unless the disk has `size` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise InputError(
            f"{folder}: its disk has {free / 1e6:,.0f} MB free, but saving this model safely needs {size / 1e6:,.0f} "
            "MB; free some space, or give another folder with --out"
        )


def _number(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)


# ----------------------------------------------------------------------------------------------------------------------
# The writer
# ----------------------------------------------------------------------------------------------------------------------
class RunWriter:
    """Saves a session to a run's folder, and restores it from there. Only the chief worker writes.

    Args:
        run: The run's folder.
        session: The session to save.
        console: The console for messages.
    """

    def __init__(self, run: RunFolder, session: Session, console: Console) -> None:
        self.run, self.session, self.console = run, session, console
        self.chief = worker(session.strategy)[0] == 0
        self.checkpoints = Checkpoints(run.checkpoints, session.config.keep)
        config = session.config
        size, central_crop = config.image_size, config.data_options.central_crop
        self.identity = run.identity()
        value_range = (config.value_range[0], config.value_range[1]) if config.value_range else None
        self._card = Card(
            config.model, config.variant, session.classes, size, central_crop, self.identity, value_range=value_range
        )
        self._events = EventWriter(run.path / "tensorboard") if config.tensorboard and self.chief else None
        self._last_checkpoint = time.monotonic()

    def resume(self) -> bool:
        """Restore the newest undamaged checkpoint; returns False if there is no checkpoint.

        Raises InputError, on every worker, if every checkpoint is damaged or the workers disagree on the checkpoint.
        """
        if self.chief:
            self.run.remove_partial_files()
        error: Exception | None = None
        found = FoundCheckpoint(None, None, [])
        try:
            found = self.checkpoints.newest()
            self._restore(found)
        except (InputError, OSError) as refusal:
            error = refusal  # raised together with the other workers, which would wait for this one otherwise
        step = self.session.position.step
        checkpoint = {"checkpoint": f"{step} of {self.identity}" if step else "none"}
        require_agreement(self.session.strategy, checkpoint, self.run.path, error)
        if self.chief:
            for path, _ in found.damaged:
                path.unlink(missing_ok=True)  # counted as one of `keep`, it would displace an undamaged one
        return found.checkpoint is not None

    def _restore(self, found: FoundCheckpoint) -> None:
        for path, reason in found.damaged:
            say(self.console, f"{path}: {reason}; it is skipped", style="yellow")
        if found.path is None or found.checkpoint is None:
            if found.damaged:
                raise InputError(
                    f"{self.run.checkpoints}: every checkpoint is damaged; the last epoch's model may be usable: start "
                    f"a new run with --weights {self.run.model}"
                )
            return
        path, meta = found.path, found.checkpoint.meta
        if meta.get("run", "") != self.identity:
            raise InputError(
                f"{path}: belongs to another run than {self.run.config}: restore the file that was replaced, or remove "
                "the checkpoint to resume from an older one"
            )
        self.session.set_state(path, found.checkpoint.arrays, meta)
        if step_of(path.name) != self.session.position.step:  # otherwise later checkpoints might seem to be older
            raise InputError(
                f"{path}: contains step {self.session.position.step}, so it was renamed; restore its name, or remove it"
            )
        say(self.console, f"resuming from {path.name}")
        # The run may have been killed after writing its checkpoint and before writing its history.
        history = self.session.position.history
        if self.chief and history:
            self.write(lambda: self.run.write_history(history))
        if self._events:
            self._events.write(history)

    def checkpoint_is_due(self) -> bool:
        return time.monotonic() - self._last_checkpoint >= 60 * self.session.config.checkpoint_minutes

    def save_checkpoint(self) -> None:
        self.require_finite()
        if self.chief:
            arrays, meta = self.session.state()
            step, meta = self.session.position.step, {"run": self.identity, **meta}
            self.write(lambda: self.checkpoints.save(step, arrays, meta))
        self._last_checkpoint = time.monotonic()

    def save_model(self, *, epoch: int, best: bool, thresholds: Sequence[float] = ()) -> None:
        """Save the classifier with its current weights as model.keras and, if `best`, as best.keras.

        Args:
            epoch: Number of epochs after which the model is saved.
            thresholds: With several labels per picture, the labels' thresholds for the model's card.
        """
        if not self.chief:
            return
        card = replace(self._card, epoch=epoch, thresholds=tuple(thresholds))
        self.write(lambda: save_model(self.session.inference_model(), self.run.model, card))
        if best:
            self.write(self._copy_best)

    def save_epoch(self) -> None:
        """Save a checkpoint, and then the epoch's row of the history."""
        self.save_checkpoint()
        if not self.chief:
            return
        self.write(lambda: self.run.write_history(self.session.position.history))
        if self._events:
            self._events.write(self.session.position.history[-1:])

    def require_finite(self) -> None:
        """Raise InputError if a weight is not finite, so that it is not saved."""
        broken = [weight.path for weight in self.session.model.weights if not np.isfinite(weight.numpy()).all()]
        if broken:
            position = self.session.position
            raise InputError(
                f"after epoch {position.epoch + 1}, step {position.batch}, {len(broken)} weights are not finite; the "
                f"first is {broken[0]}. {self.divergence_advice()}"
            )

    def divergence_advice(self) -> str:
        """Advice for the user after a run has diverged."""
        paths = self.checkpoints.paths()
        whole = f"The last good checkpoint is {paths[0]}" if paths else "No checkpoint was written before"
        again = f"Start a run with a lower learning rate than {self.session.config.learning_rate:g}"
        if self.run.model.exists():
            again += f"; --weights {self.run.model} starts from the last epoch's model"
        return f"{whole}. {again}"

    def _copy_best(self) -> None:
        with replacing(self.run.best) as partial:
            shutil.copyfile(self.run.model, partial)

    def write(self, write: Callable[[], object]) -> None:
        """Call `write`, which writes to the run's folder; an OSError is raised as an InputError with advice."""
        try:
            write()
        except OSError as error:
            paths = self.checkpoints.paths()
            kept = f"the previous checkpoint is undamaged: {paths[0]}" if paths else "no checkpoint was saved before"
            raise InputError(
                f"{self.run.path}: the run could not be saved ({error.strerror or error}); {kept}. "
                f"Fix that, then resume: {command('train', '--resume', self.run.study or self.run.path)}"
            ) from error


class EventWriter:
    """Writes the rows of a history as TensorBoard event files, in the folders `train` and `validation`.

    Figures that exist for training and held-out pictures have the same tag in both, so that TensorBoard draws them in
    one chart. A resumed run writes all rows again. The old files are removed when the first rows are written, not
    before.
    """

    def __init__(self, folder: Path) -> None:
        self.folders = {"": folder / "train", HELD_OUT: folder / "validation"}
        self._folder = folder
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def write(self, rows: Sequence[Mapping[str, float]]) -> None:
        import tensorflow as tf

        if not self._writers:
            for folder in (self._folder, *self.folders.values()):  # older versions wrote into the folder itself
                for old in folder.glob("events.out.tfevents.*"):
                    old.unlink()
            self._writers = {
                prefix: tf.summary.create_file_writer(os.fsencode(place)) for prefix, place in self.folders.items()
            }
        for row in rows:
            for name, value in row.items():
                prefix = HELD_OUT if name.startswith(HELD_OUT) else ""
                if name != "epoch":
                    with self._writers[prefix].as_default():
                        tf.summary.scalar(name.removeprefix(prefix), value, step=int(row["epoch"]))
        for writer in self._writers.values():
            writer.flush()


def require_tensorboard() -> None:
    """Raise InputError if the package tensorboard is not installed."""
    if find_spec("tensorboard") is None:
        required("tensorboard", "--tensorboard")

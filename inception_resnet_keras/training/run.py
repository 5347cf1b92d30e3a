"""A training run's folder: its files, its checkpoints, and the writer that saves a session into it."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import time
import zipfile
import zlib
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
# Checkpoints
#
# A checkpoint is a NumPy archive followed by `sha256 ` and the hash of the archive. The archive contains plain arrays
# and one JSON text, so that reading it does not unpickle anything.
# ----------------------------------------------------------------------------------------------------------------------
_META = "meta"
_MARK = b"sha256 "
_FOOTER = len(_MARK) + 64
_UNREADABLE = (ValueError, KeyError, TypeError, OSError, EOFError, AttributeError, NotImplementedError, RecursionError)


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint. arrays: All arrays by key. meta: Everything else, which fits into JSON."""

    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


class DamagedCheckpointError(Exception):
    """Raised for a checkpoint file that is not as it was written, with the difference as its message."""


@dataclass(frozen=True)
class FoundCheckpoint:
    """The newest undamaged checkpoint, or None, and (path, problem) of the newer ones, which are damaged."""

    path: Path | None
    checkpoint: Checkpoint | None
    damaged: list[tuple[Path, str]]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in a folder: `step-00000042.ckpt` is the state after 42 optimizer steps.

    keep: Number of checkpoints to keep, the newest ones.

    Checkpoints are ordered by the step in the name, not by the time of the file, because clocks may jump back.
    """

    folder: Path
    keep: int = 2

    def paths(self) -> list[Path]:
        """All checkpoint files, newest first. Raises OSError if the folder cannot be listed."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        steps = {name: _step_of(name) for name in names}
        numbered = {name: step for name, step in steps.items() if step is not None}
        return [self.folder / name for name in sorted(numbered, key=numbered.__getitem__, reverse=True)]

    def save(self, step: int, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Path:
        """Write a checkpoint, then remove the oldest ones beyond `keep`. Raises OSError if it cannot be written."""
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"step-{step:08d}.ckpt"
        with replacing(path) as partial:
            write_checkpoint(partial, arrays, meta)
        for old in self.paths()[self.keep :]:
            old.unlink(missing_ok=True)
        return path

    def newest(self) -> FoundCheckpoint:
        """Read the newest undamaged checkpoint."""
        damaged: list[tuple[Path, str]] = []
        for path in self.paths():
            try:
                return FoundCheckpoint(path, read_checkpoint(path), damaged)
            except DamagedCheckpointError as error:
                damaged.append((path, str(error)))
        return FoundCheckpoint(None, None, damaged)

    def clear(self) -> None:
        """Remove all checkpoints, and the folder if it is then empty."""
        for path in self.paths():
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def _step_of(name: str) -> int | None:
    """The step in the name of a checkpoint file; None for any other file, such as a user's copy of one."""
    found = re.fullmatch(r"step-(\d{8,18})\.ckpt", name, flags=re.ASCII)
    return int(found[1]) if found else None


def write_checkpoint(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    text = np.frombuffer(json.dumps(dict(meta)).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez(file, **{_META: text}, **arrays)  # type: ignore[arg-type]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with path.open("ab") as file:
        file.write(_MARK + digest.encode())


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; raises DamagedCheckpointError if any bit of it has changed."""
    verify_checkpoint(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        meta = json.loads(arrays.pop(_META).tobytes())
        if not isinstance(meta, dict):
            raise TypeError(f"its {_META} is not an object")
    # The hash is right, so the file was written by another version or another program.
    except (*_UNREADABLE, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedCheckpointError(f"cannot be read ({str(error) or repr(error):.200})") from None
    return Checkpoint(arrays, meta)


def verify_checkpoint(path: Path) -> None:
    """Raise DamagedCheckpointError unless the file ends with the hash of its archive.

    Raises InputError if the file cannot be read in two attempts. It may be undamaged then, so that resuming from an
    older checkpoint would lose training unnecessarily.
    """
    try:
        digest, footer = _digest_and_footer(path)
    except OSError:
        try:
            digest, footer = _digest_and_footer(path)
        except OSError as error:
            if error.errno == errno.EIO:  # a part of the file is lost on the disk
                raise DamagedCheckpointError(error.strerror or str(error)) from None
            raise InputError(
                f"{path}: cannot be read ({error.strerror or error}); fix that and resume again, or remove the file to "
                "resume from an older one"
            ) from None
    if not footer.startswith(_MARK):
        raise DamagedCheckpointError("its end is missing")
    if footer[len(_MARK) :] != digest.encode():
        raise DamagedCheckpointError("its content does not match its hash")


def _digest_and_footer(path: Path) -> tuple[str, bytes]:
    """The SHA-256 of a checkpoint's archive, and its footer."""
    hasher = hashlib.sha256()
    left = path.stat().st_size - _FOOTER
    with path.open("rb") as file:
        while left > 0:
            chunk = file.read(min(left, 1 << 22))
            hasher.update(chunk)
            left -= len(chunk)
            if not chunk:
                break
        return hasher.hexdigest(), file.read()


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
        if _step_of(path.name) != self.session.position.step:  # otherwise later checkpoints might seem to be older
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

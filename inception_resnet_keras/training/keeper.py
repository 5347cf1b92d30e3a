"""What keeps a run on the disk: checkpoints, models and history, written by the chief alone."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console

from ..common.console import command, say
from ..common.errors import InputError
from ..common.files import replacing
from ..data.labelled import Source
from ..data.splits import is_split_of, write_split
from ..models.model_file import Card, save_model
from .checkpoints import Checkpoints
from .distribution import differing, worker
from .events import Events
from .progress import reading
from .run import RunFolder
from .session import Session


class Keeper:
    """Saves a session, and finds what was saved of it.

    chief: whether this worker writes; the others keep nothing.
    """

    def __init__(self, run: RunFolder, session: Session, console: Console) -> None:
        self.run, self.session, self.console = run, session, console
        self.chief = worker(session.strategy)[0] == 0
        self.checkpoints = Checkpoints(run.checkpoints, session.config.keep)
        self._card = Card(
            session.config.model,
            session.config.variant,
            session.classes,
            (session.config.size, session.config.size),
            session.config.central_crop,
        )
        self._events = Events(run.path / "tensorboard") if session.config.tensorboard and self.chief else None
        self._saved = time.monotonic()

    def recover(self) -> bool:
        """Goes on from the newest whole checkpoint; False where there is none, so nothing to go on from.

        Raises InputError where checkpoints are there and every one is damaged; and, on every worker, where
        they would not all go on from the same one, with the same pictures and settings.
        """
        if self.chief:
            self.run.sweep()
        trouble: InputError | None = None
        went_on = False
        damaged: list[tuple[Path, str]] = []
        try:
            damaged = self.checkpoints.damaged()
            went_on = self._gone_on(damaged)
        except InputError as error:
            trouble = error  # of this worker: the others must hear of it before it ends
        self._require_agreement(trouble)
        if self.chief and went_on:
            for path, _ in damaged:
                path.unlink(missing_ok=True)  # it would take the place of a whole one among those kept
        return went_on

    def _require_agreement(self, trouble: InputError | None) -> None:
        session = self.session
        told = {
            "checkpoint": f"{session.position.step} {trouble}",
            "pictures": json.dumps([session.steps, session.classes, session.pictures]),
            "settings": json.dumps(asdict(session.config)),
        }
        others = differing(told, session.stepper.together, worker(session.strategy)[1])
        if trouble:
            raise trouble
        if others:
            raise InputError(
                f"the workers do not agree on the {' and the '.join(others)}: give all of them the same command, the "
                f"same data, and {self.run.path} on storage that all of them see"
            )

    def _gone_on(self, damaged: list[tuple[Path, str]]) -> bool:
        for path, reason in damaged:
            say(self.console, f"{path}: {reason}; it is passed over", style="yellow")
        found = self.checkpoints.newest()
        if found is None:
            if self.checkpoints.there():
                raise InputError(
                    f"{self.run.checkpoints}: every checkpoint is damaged; the last epoch's model may be whole: start "
                    f"anew with --weights {self.run.model}"
                )
            return False
        path, checkpoint = found
        self.session.set_state(path, checkpoint)
        position = self.session.position
        say(self.console, f"going on from {path.name}")
        if self.chief and position.history:
            self._write(lambda: self.run.write_history(position.history))
        if self._events:
            self._events.write(position.history)
        return True

    def split(self, training: Source, held_out: Source) -> None:
        """Keeps which pictures are trained on and which are held out, unless the run has that already."""
        if not self.chief or is_split_of(self.run.split, training, held_out):
            return
        with reading(self.console) as bars:
            bar = bars.add_task("hashing pictures", total=len(training) + len(held_out))

            def hashed(done: int, _: int) -> None:
                bars.update(bar, completed=done)

            self._write(lambda: write_split(self.run.split, training, held_out, progress=hashed))

    def checkpoint_if_due(self) -> None:
        if time.monotonic() - self._saved >= 60 * self.session.config.checkpoint_minutes:
            self.checkpoint()

    def require_finite(self) -> None:
        """Raises InputError where a weight overflowed in the last step: nothing of it is saved."""
        broken = [weight.path for weight in self.session.model.weights if not np.isfinite(weight.numpy()).all()]
        if broken:
            position = self.session.position
            raise InputError(
                f"after epoch {position.epoch + 1}, step {position.batch} weights are not finite, the first of "
                f"{len(broken)} is {broken[0]}. {self.advice()}"
            )

    def checkpoint(self) -> None:
        self.require_finite()
        if self.chief:
            arrays, meta = self.session.state()
            self._write(lambda: self.checkpoints.save(self.session.position.step, arrays, meta))
        self._saved = time.monotonic()

    def model(self, *, best: bool) -> None:
        """Saves the classifier as it is now, and over the best one where it is."""
        if not self.chief:
            return
        self._write(lambda: save_model(self.session.deployable(), self.run.model, self._card))
        if best:
            self._write(self._copy_best)

    def epoch(self) -> None:
        """Keeps the state after an epoch, and only then its row of the history."""
        self.checkpoint()
        if not self.chief:
            return
        self._write(lambda: self.run.write_history(self.session.position.history))
        if self._events:
            self._events.write(self.session.position.history[-1:])

    def advice(self) -> str:
        """What is whole, and what to do where a run has diverged."""
        there = self.checkpoints.there()
        whole = f"the last good checkpoint is {there[0]}" if there else "no checkpoint was written before"
        again = f"Start a run with a lower learning rate than {self.session.config.learning_rate:g}"
        if self.run.model.exists():
            again += f"; --weights {self.run.model} goes on from the last epoch's model"
        return f"{whole[0].upper()}{whole[1:]}. {again}"

    def _copy_best(self) -> None:
        with replacing(self.run.best) as beside:
            shutil.copyfile(self.run.model, beside)

    def _write(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            there = self.checkpoints.there()
            kept = f"the checkpoint before is whole: {there[0]}" if there else "none was saved before"
            raise InputError(
                f"{self.run.path}: the run could not be saved ({error.strerror or error}); {kept}. "
                f"Free some space, then go on: {command('train', '--resume', self.run.path)}"
            ) from error

"""Pictures of training runs: which of them an evaluation takes, and whether a run was trained on those it takes.

A run's split.csv answers both. Of a run with a test part the test pictures are evaluated, else those that it held out.
Runs of versions that wrote no split.csv are read from config.json: the fifth that they held out is drawn again, and
whether they were trained on other pictures cannot be known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..common.arguments import is_integer
from ..common.console import counted
from ..common.errors import InputError
from ..data import DIGITS, DIGITS_SEED
from ..data.labelled import TEST, VAL, Source
from ..data.options import COPY_DISTANCE, HELD_OUT_SHARE, SplitRules
from ..data.parts import draw_split
from ..data.sources import Progress, same_source, source_kind, source_part
from ..data.splits import (
    HELD_OUT,
    NEAR_TRAINED,
    SPLIT_FILE,
    TRAINED_ON,
    Split,
    compare,
    part_indices,
    read_split,
)
from ..models.model_file import damaged_run_config, has_card, read_run_config
from ..weights.runs import MODEL_FILE, RUN_CONFIG, require_same_run


@dataclass(frozen=True)
class TrainedRun:
    """A run, as its config.json describes it.

    name: as the user gave it: the folder, or a file in it. data: what it was trained on; None for the digits.
    val: its held-out pictures; None where they were declared by `data` or drawn from it. rules: how, with its seed;
    None where that cannot be repeated without its split.csv. split_digest: of its split.csv as it was written; "" where
    that is not known. copy_distance: how far the perceptual hashes of near-identical pictures may differ.
    """

    name: str
    folder: Path
    data: str | None
    val: str | None
    rules: SplitRules | None
    split_digest: str = ""
    copy_distance: int = COPY_DISTANCE

    @cached_property
    def split(self) -> Split | None:
        """Its split.csv, None where it has none; InputError where it is damaged or of another run."""
        file = self.folder / SPLIT_FILE
        if not os.path.lexists(file):
            return None
        split = read_split(file)
        if self.split_digest not in ("", split.digest):
            raise InputError(
                f"{file}: has other rows than the run wrote: it was cut or changed, or is of another run; restore it, "
                "or delete it to go on without"
            )
        return split

    def is_trained_on(self, data: str) -> bool:
        """Whether `data` stands for the source that it was trained on; a copy of it does not."""
        if self.data is None:
            return data == DIGITS and not Path(data).exists()
        return same_source(self.data, data)

    @property
    def part(self) -> str:
        """The part that is evaluated."""
        return TEST if self.split is not None and TEST in self.split.parts else VAL

    def held_out_in(self, source: Source) -> np.ndarray:
        """int64 (n,): which pictures of the source that it was trained on are of the part that is evaluated.

        Raises InputError where its split.csv is missing and the split cannot be drawn again.
        """
        if self.split is not None:
            return part_indices(source, self.split, self.part)
        if self.rules is None:
            raise InputError(
                f"{self.folder / SPLIT_FILE}: is missing, and which pictures the run held out cannot be known without "
                "it, because they were not drawn as a fifth of each class: restore it"
            )
        return np.flatnonzero(draw_split(replace(source, parts=None), self.rules) == VAL)

    def changes(self, data: str, held_out: int) -> str:
        """What is to be said where `data` no longer has the pictures that it had in training; else ""."""
        if self.split is not None:
            missing = self.split.parts.count(self.part) - held_out
            lost = f"no longer there: {counted(missing, 'other picture')} that {self.name} held out"
            return lost if missing > 0 else ""
        if _reported_as_many(self.folder, held_out):
            return ""
        return (
            f"{data} has other pictures now than when {self.name} was trained: which fifth was held out cannot be told "
            "any more, and the figures are of pictures it was trained on too"
        )

    def unhashed(self) -> str:
        """What is to be said where the run ended before all its pictures were hashed; else ""."""
        missing = self.split.hashes.count("") if self.split is not None else 0
        if self.split is not None and missing == len(self.split):
            return f"{self.name} kept no hashes of its pictures (copies=skip): copies of them are not recognised"
        if not missing or (self.folder / "report.json").exists():  # of a finished run they cannot be decoded
            return ""
        return (
            f"{self.name} was interrupted before {missing:,} of its pictures were hashed: copies of those are not "
            "recognised until `train --resume` has hashed them"
        )


@dataclass(frozen=True)
class EvaluationData:
    """What is evaluated, before it is opened.

    data: the source, as reports call it. place: what `open_source` opens. note: how the pictures relate to the runs.
    trained: whether the note says that runs were trained on these pictures.
    own: runs whose held-out pictures these are; with `held_out_only`, they are selected from what is opened.
    others: runs that were not trained on `data` by name, but may be on the same pictures. by_name: whether the user
    named `data`, of which the test part is then evaluated, where it declares one.
    """

    data: str
    place: str
    note: str = ""
    own: Sequence[TrainedRun] = ()
    others: Sequence[TrainedRun] = ()
    held_out_only: bool = False
    by_name: bool = False
    trained: bool = False

    def select(
        self, source: Source, progress: Progress = lambda done, total: None, *, allow_trained: bool = True
    ) -> tuple[Source, str]:
        """Selects the pictures to evaluate from the opened source, and says which and how they relate to the runs.

        Every picture is looked for in every run's split.csv, by path and by content. Without `allow_trained`,
        pictures that a run was trained on raise an InputError.
        """
        own, others, notes = self.own, self.others, [*source.notes, self.note]
        trained = [self.note] if self.trained else []
        if self.by_name and TEST in (source.parts or ()):
            source, note = source.test_part(self.data)
            own, others, notes = (), [*own, *others], [*source.notes, note]
        elif self.by_name and not self.held_out_only:
            notes.append(source.test_part(self.data)[1])
        elif self.held_out_only:
            chosen = [run.held_out_in(source) for run in own]
            if all(np.array_equal(each, chosen[0]) for each in chosen):
                if not len(chosen[0]):
                    raise InputError(f"{self.data}: has none of the pictures any more that {own[0].name} held out")
                source = _of_part(source.take(chosen[0]), own[0].part)
                notes += [run.changes(self.data, len(source)) for run in own]
            else:
                own, notes = (), [_trained_on_these(own)]
                trained += notes
        source = _of_part(source, source_part(self.place)[1])
        runs = [*own, *others]
        splits = [split for run in runs if (split := run.split) is not None]
        distance = min((run.copy_distance for run in runs), default=COPY_DISTANCE)
        answers = iter(compare(source, splits, progress, distance))
        uses = [next(answers) if run.split is not None else None for run in runs]
        relations = [_relation(run, use, own=run in own) for run, use in zip(runs, uses, strict=True)]
        trained += [
            said
            for said, use in zip(relations, uses, strict=True)
            if use is not None and np.isin(use, (TRAINED_ON, NEAR_TRAINED)).any()
        ]
        if trained and not allow_trained:
            raise InputError(
                f"{self.data}: {'; '.join(trained)}. Give pictures that no model was trained on, or allow them with "
                "allow_trained (--allow-trained)"
            )
        notes += relations
        notes += [run.unhashed() for run in runs]
        return source, "; ".join(filter(None, notes))

    def chose_thresholds(self, source: Source) -> bool:
        """Whether the evaluated pictures are those that a run held out, by which it chose thresholds of labels."""
        place, part = source_part(self.place)
        if part == VAL:
            named = [(str(run.folder / SPLIT_FILE), run.data or DIGITS) for run in (*self.own, *self.others)]
            return any(same_source(str(place), name) for names in named for name in names)
        tested = self.by_name and TEST in (source.parts or ())
        return not tested and any(run.part == VAL for run in self.own)


def choose(models: Sequence[str], data: str | None) -> EvaluationData:
    """Chooses what models are evaluated on.

    Args:
        models: As they were given: runs, files of runs, and any others.
        data: A source. Where runs were trained on it, the pictures that they held out are evaluated. None takes
            what the only model, a run, held out.

    Raises:
        InputError: `data` is None and the models are anything but one run, or a split.csv is damaged.
    """
    runs = [run for model in models if (run := find_run(model))]
    if data is None:
        if len(models) != 1 or not runs:
            raise InputError(
                "data: none is given; give labelled pictures as --data: only a single run of `train` is evaluated "
                "without, on the pictures that it held out"
            )
        return _held_out_by(runs[0])
    here = [run for run in runs if run.is_trained_on(data)]
    others = [run for run in runs if run not in here]
    if not here:
        return EvaluationData(data, data, others=others, by_name=True)
    if any(run.val and run.part == VAL for run in here):
        return EvaluationData(data, data, _trained_on_these(here), others=others, by_name=True, trained=True)
    return EvaluationData(data, data, _fifth_note(data, here), here, others, held_out_only=True, by_name=True)


def find_run(model: str) -> TrainedRun | None:
    """The run that a model's path is the folder or a file of; None of anything else.

    Raises InputError where the run's config.json is damaged, or the model is of another run: on what it was trained
    would not be known, and the figures would be of pictures that it was trained on.
    """
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    config = folder / RUN_CONFIG
    file = path if path.suffix == ".keras" else folder / MODEL_FILE  # an export in the folder is of its model
    if not path.exists() or not (folder / MODEL_FILE).is_file() or not os.path.lexists(config) or not has_card(file):
        return None
    require_same_run(file)
    stored = read_run_config(config)
    settings, digest = stored["config"], stored.get("split", "")
    try:
        distance = settings.get("copy_distance", COPY_DISTANCE)
        run = TrainedRun(model, folder, settings["data"], settings["val"], _rules(settings), digest, distance)
        if not all(place is None or isinstance(place, str) for place in (run.data, run.val)):
            raise TypeError("its pictures are no text")
        if not is_integer(settings["seed"]) or not is_integer(distance) or not isinstance(digest, str):
            raise TypeError("its seed or copy_distance is no integer, or its split no text")
    except (KeyError, TypeError) as error:
        raise damaged_run_config(config, error) from None
    return run


def _rules(settings: Mapping[str, Any]) -> SplitRules | None:
    """How a run drew its held-out pictures, if all that counts was the seed."""
    drawn_otherwise = any(settings.get(name) for name in ("test_fraction", "group", "folds"))
    if drawn_otherwise or settings.get("val_fraction", HELD_OUT_SHARE) != HELD_OUT_SHARE:
        return None
    return SplitRules(seed=DIGITS_SEED if settings["data"] is None else settings["seed"])


def _of_part(source: Source, part: str | None) -> Source:
    """The pictures, which are all of one part, with that part; None where it is not known."""
    return source if part is None or source.parts is not None else replace(source, parts=[part] * len(source))


def _held_out_by(run: TrainedRun) -> EvaluationData:
    data = (run.val if run.part == VAL else None) or run.data or DIGITS
    # Files are named by the split itself; pictures without a path are selected from where they came from.
    from_split = run.split is not None and source_kind(data).has_files
    place = f"{run.folder / SPLIT_FILE}:{run.part}" if from_split else data
    if run.val and run.part == VAL:
        return EvaluationData(data, place, f"these are the held-out pictures that {run.name} was given", [run])
    return EvaluationData(data, place, _fifth_note(data, [run]), [run], held_out_only=not from_split)


def _fifth_note(data: str, runs: Sequence[TrainedRun]) -> str:
    names = " and ".join(run.name for run in runs)
    if any(run.part == TEST for run in runs):
        return f"these are the test pictures of {data}, which {names} was neither trained on nor chosen by"
    return f"these are the pictures of {data} that {names} held out"


def _trained_on_these(runs: Sequence[TrainedRun]) -> str:
    names = " and ".join(run.name for run in runs)
    beside = sorted({run.val for run in runs if run.val})
    held_out = f"{', '.join(beside)} was held out" if beside else "each run held out another fifth of them"
    return f"{names} was trained on these very pictures: the figures say nothing of new ones; {held_out}"


def _relation(run: TrainedRun, use: np.ndarray | None, *, own: bool) -> str:
    """What a run's split says of the evaluated pictures; own: whether they are those that it held out."""
    if use is None:
        certain = " for certain" if own else ""
        earlier = "" if run.split_digest else ", as an earlier version left it"
        return f"{run.name} has no {SPLIT_FILE}{earlier}: which pictures it was trained on cannot be known{certain}"

    def of_these(count: int, what: str) -> str:
        return f"{count:,} of the {counted(len(use), 'picture')} {'is' if count == 1 else 'are'} {what}"

    trained_on, held_out = (int((use == each).sum()) for each in (TRAINED_ON, HELD_OUT))
    near = int((use == NEAR_TRAINED).sum())
    nearly = of_these(near, f"near-identical to some that {run.name} was trained on") if near else ""
    if own:
        same = of_these(trained_on, f"the same as some that {run.name} was trained on") if trained_on else ""
        return "; ".join(filter(None, (same, nearly)))
    if trained_on:
        told = of_these(trained_on, f"among those that {run.name} was trained on: the figures say little of new ones")
        among = f"{told}; without --data, those that it held out are evaluated"
        return "; ".join(filter(None, (among, nearly)))
    if near:
        return f"{nearly}: the figures are better than on new ones"
    if held_out:
        return of_these(held_out, f"among those that {run.name} held out, and none was it trained on")
    return f"none of the {counted(len(use), 'picture')} is among those that {run.name} was trained on or held out"


def _reported_as_many(run: Path, pictures: int) -> bool:
    """Whether a run's report is of so many held-out pictures, but for those that could not be read."""
    try:
        report = json.loads((run / "report.json").read_text(encoding="utf-8"))
        evaluated = sum(score["support"] for score in report["classes"])
        return bool(evaluated <= pictures <= evaluated + len(report["unreadable"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True  # stopped before its report was written, or it is damaged

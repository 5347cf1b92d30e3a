"""The images of training runs: which of them to evaluate, and whether a run was trained on the evaluated images.

A run's split.csv answers both questions. The test part of a run is evaluated if it has one, otherwise its held-out
images. For runs of versions that wrote no split.csv, config.json is read: the fifth that they held out is drawn again,
and it is not known whether they were trained on other images.
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
    """A run, as described by its config.json.

    Attributes:
        name: The run as the user gave it: its folder, or a file in it.
        folder: The run's folder.
        data: The images that it was trained on; None for the digits.
        val: Its held-out images; None if they were declared by `data` or drawn from it.
        rules: How they were drawn, with the seed; None if that cannot be repeated without split.csv.
        split_digest: The digest of its split.csv when it was written; "" if it is not known.
        copy_distance: The maximum distance of the perceptual hashes of near-identical images, in bits.
        weights: The weights from which it started, as given; None for random ones.
    """

    name: str
    folder: Path
    data: str | None
    val: str | None
    rules: SplitRules | None
    split_digest: str = ""
    copy_distance: int = COPY_DISTANCE
    weights: str | None = None

    @cached_property
    def split(self) -> Split | None:
        """The run's split.csv; None if it has none; InputError if it is damaged or belongs to another run."""
        file = self.folder / SPLIT_FILE
        if not os.path.lexists(file):
            return None
        split = read_split(file)
        if self.split_digest not in ("", split.digest):
            raise InputError(
                f"{file}: has other rows than the run wrote: it was changed, or belongs to another run; restore it, or "
                "delete it to continue without"
            )
        return split

    def is_trained_on(self, data: str) -> bool:
        """Whether `data` names the source that the run was trained on; a copy of it does not."""
        if self.data is None:
            return data == DIGITS and not Path(data).exists()
        return same_source(self.data, data)

    @property
    def part(self) -> str:
        """The part to evaluate: "test" if the run has one, otherwise "val"."""
        return TEST if self.split is not None and TEST in self.split.parts else VAL

    def held_out_in(self, source: Source) -> np.ndarray:
        """The indices of the images to evaluate in the source that the run was trained on, int64 (n,).

        Raises:
            InputError: split.csv is missing, and the split cannot be drawn again.
        """
        if self.split is not None:
            return part_indices(source, self.split, self.part)
        if self.rules is None:
            raise InputError(
                f"{self.folder / SPLIT_FILE}: is missing; without it, the held-out pictures of the run are not known, "
                "because they were not drawn as a fifth of each class: restore it"
            )
        return np.flatnonzero(draw_split(replace(source, parts=None), self.rules) == VAL)

    def changes(self, data: str, held_out: int) -> str:
        """A note if `data` no longer has the images that it had in training; otherwise ""."""
        if self.split is not None:
            missing = self.split.parts.count(self.part) - held_out
            verb = "exists" if missing == 1 else "exist"
            lost = f"{counted(missing, 'other picture')} that {self.name} held out no longer {verb}"
            return lost if missing > 0 else ""
        if _reported_as_many(self.folder, held_out):
            return ""
        return (
            f"{data} has changed since {self.name} was trained: the fifth that it held out is not known any more, and "
            "the evaluated pictures include some that it was trained on"
        )

    def unhashed(self) -> str:
        """A note if the run ended before all its images were hashed; otherwise ""."""
        missing = self.split.hashes.count("") if self.split is not None else 0
        if self.split is not None and missing == len(self.split):
            return f"{self.name} stored no hashes of its pictures (copies=skip): copies of them are not recognised"
        if not missing or (self.folder / "report.json").exists():  # in a finished run, they are unreadable images
            return ""
        return (
            f"{self.name} was interrupted before {missing:,} of its pictures were hashed: copies of those are not "
            "recognised until `train --resume` has hashed them"
        )


@dataclass(frozen=True)
class EvaluationData:
    """The images to evaluate, before they are opened.

    Attributes:
        data: The name of the source in reports.
        place: The source for `open_source`.
        note: How the images relate to the runs.
        own: The runs that held these images out.
        others: The runs that were not trained on `data` by name, but perhaps on the same images.
        held_out_only: Whether to select the held-out images of `own` from the opened source.
        by_name: Whether the user named `data`; its test part is then evaluated if it declares one.
        trained: Whether the note says that runs were trained on these images.
        ancestors: The runs from whose weights `own` and `others` started.
    """

    data: str
    place: str
    note: str = ""
    own: Sequence[TrainedRun] = ()
    others: Sequence[TrainedRun] = ()
    held_out_only: bool = False
    by_name: bool = False
    trained: bool = False
    ancestors: Sequence[TrainedRun] = ()

    def select(
        self, source: Source, progress: Progress = lambda done, total: None, *, allow_trained: bool = True
    ) -> tuple[Source, str]:
        """Select the images to evaluate from the opened source.

        Every image is searched for in the split.csv of every run, by path and by content.

        Returns:
            The selected images, and a note on how they relate to the runs.

        Raises:
            InputError: A run was trained on some of the images, and `allow_trained` is False.
        """
        # Select the test part, the held-out images, or all images.
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
                    raise InputError(f"{self.data}: no longer has any of the pictures that {own[0].name} held out")
                source = _of_part(source.take(chosen[0]), own[0].part)
                notes += [run.changes(self.data, len(source)) for run in own]
            else:
                own, notes = (), [_trained_on_these(own)]
                trained += notes
        source = _of_part(source, source_part(self.place)[1])
        # Compare them with the images of every run.
        runs = [*own, *others]
        splits = [split for run in runs if (split := run.split) is not None]
        distance = min((run.copy_distance for run in runs), default=COPY_DISTANCE)
        answers = iter(compare(source, splits, progress, distance))
        uses = [next(answers) if run.split is not None else None for run in runs]
        relations = [_relation(run, use, own=run in own) for run, use in zip(runs, uses, strict=True)]
        trained += [
            relation
            for relation, use in zip(relations, uses, strict=True)
            if use is not None and np.isin(use, (TRAINED_ON, NEAR_TRAINED)).any()
        ]
        if trained and not allow_trained:
            raise InputError(
                f"{self.data}: {'; '.join(trained)}. Give pictures that no model was trained on, or allow them with "
                "allow_trained (--allow-trained)"
            )
        notes += relations
        earlier = trained_before(source, self.ancestors)
        if earlier and not allow_trained:
            raise InputError(
                f"{self.data}: {'; '.join(earlier)}. Give pictures that no model was trained on, or allow them with "
                "allow_trained (--allow-trained)"
            )
        notes += earlier
        notes += [run.unhashed() for run in runs]
        return source, "; ".join(filter(None, notes))

    def chose_thresholds(self, source: Source) -> bool:
        """Whether a run chose the thresholds of its labels on the evaluated images, because it held these out."""
        place, part = source_part(self.place)
        if part == VAL:
            named = [(str(run.folder / SPLIT_FILE), run.data or DIGITS) for run in (*self.own, *self.others)]
            return any(same_source(str(place), name) for names in named for name in names)
        tested = self.by_name and TEST in (source.parts or ())
        return not tested and any(run.part == VAL for run in self.own)


def choose(models: Sequence[str], data: str | None) -> EvaluationData:
    """Choose the images that models are evaluated on.

    Args:
        models: The models, as given: runs, files of runs, and others.
        data: A source. If runs were trained on it, their held-out images are evaluated. None takes the held-out images
            of the only model, which must be a run.

    Raises:
        InputError: `data` is None and the models are not a single run, or a split.csv is damaged.
    """
    runs = [run for model in models if (run := find_run(model))]
    given = {run.folder for run in runs}
    earlier = {each.folder: each for run in runs for each in ancestors(run.weights) if each.folder not in given}
    return replace(_choose(models, runs, data), ancestors=list(earlier.values()))


def _choose(models: Sequence[str], runs: Sequence[TrainedRun], data: str | None) -> EvaluationData:
    if data is None:
        if len(models) != 1 or not runs:
            raise InputError(
                "data: none is given; give labelled pictures as --data: only a single run of `train` can be evaluated "
                "without, on its held-out pictures"
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
    """The run whose folder, or a file in it, is the path of a model; None for other models.

    Raises:
        InputError: The run's config.json is damaged, or the model belongs to another run: its training images would not
            be known, and the evaluation might use them.
    """
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    config = folder / RUN_CONFIG
    file = path if path.suffix == ".keras" else folder / MODEL_FILE  # an export in the folder belongs to its model
    if not path.exists() or not (folder / MODEL_FILE).is_file() or not os.path.lexists(config) or not has_card(file):
        return None
    require_same_run(file)
    stored = read_run_config(config)
    settings, digest = stored["config"], stored.get("split", "")
    try:
        distance = settings.get("copy_distance", COPY_DISTANCE)
        weights = settings.get("weights")
        run = TrainedRun(model, folder, settings["data"], settings["val"], _rules(settings), digest, distance, weights)
        if not all(place is None or isinstance(place, str) for place in (run.data, run.val, run.weights)):
            raise TypeError("its data, val or weights is not text")
        if not is_integer(settings["seed"]) or not is_integer(distance) or not isinstance(digest, str):
            raise TypeError("its seed or copy_distance is not an integer, or its split is not text")
    except (KeyError, TypeError) as error:
        raise damaged_run_config(config, error) from None
    return run


def ancestors(weights: str | None) -> list[TrainedRun]:
    """The run whose weights a run started from, the run that this one started from, and so on, while they exist."""
    found: dict[Path, TrainedRun] = {}
    while weights and (run := find_run(weights)) and run.folder not in found:
        found[run.folder] = run
        weights = run.weights
    return list(found.values())


def trained_before(source: Source, runs: Sequence[TrainedRun], what: str = "pictures") -> list[str]:
    """A sentence for each run that was trained on some of the images, or on near-identical ones.

    Args:
        source: The images, which another run held out or is evaluated on.
        runs: The runs that it started from.
        what: What the images are.
    """
    known = [run for run in runs if run.split is not None]
    splits = [run.split for run in known if run.split is not None]
    distance = min((run.copy_distance for run in known), default=COPY_DISTANCE)
    found = []
    for run, use in zip(known, compare(source, splits, distance=distance), strict=True):
        if count := int(np.isin(use, (TRAINED_ON, NEAR_TRAINED)).sum()):
            are = "is a training picture" if count == 1 else "are training pictures"
            found.append(
                f"{count:,} of the {len(use):,} {what} {are} of {run.name}, whose weights were the start: the figures "
                "are too optimistic for new ones"
            )
    return found


def _rules(settings: Mapping[str, Any]) -> SplitRules | None:
    """How a run drew its held-out images; None if that depends on more than the seed."""
    drawn_otherwise = any(settings.get(name) for name in ("test_fraction", "group", "folds"))
    if drawn_otherwise or settings.get("val_fraction", HELD_OUT_SHARE) != HELD_OUT_SHARE:
        return None
    return SplitRules(seed=DIGITS_SEED if settings["data"] is None else settings["seed"])


def _of_part(source: Source, part: str | None) -> Source:
    """The images with the part that all of them belong to. part: None if it is not known."""
    return source if part is None or source.parts is not None else replace(source, parts=[part] * len(source))


def _held_out_by(run: TrainedRun) -> EvaluationData:
    data = (run.val if run.part == VAL else None) or run.data or DIGITS
    # The split lists files by path; images without a path are selected from their source.
    from_split = run.split is not None and source_kind(data).has_files
    place = f"{run.folder / SPLIT_FILE}:{run.part}" if from_split else data
    if run.val and run.part == VAL:
        return EvaluationData(data, place, f"these are the pictures that {run.name} was given to hold out", [run])
    return EvaluationData(data, place, _fifth_note(data, [run]), [run], held_out_only=not from_split)


def _fifth_note(data: str, runs: Sequence[TrainedRun]) -> str:
    names = " and ".join(run.name for run in runs)
    if any(run.part == TEST for run in runs):
        were = "were" if len(runs) > 1 else "was"
        return f"these are the test pictures of {data}: {names} {were} neither trained on them nor chosen by them"
    return f"these are the pictures of {data} that {names} held out"


def _trained_on_these(runs: Sequence[TrainedRun]) -> str:
    names = " and ".join(run.name for run in runs)
    beside = sorted({run.val for run in runs if run.val})
    held_out = f"{', '.join(beside)} was held out" if beside else "each run held out another fifth of them"
    were = "were" if len(runs) > 1 else "was"
    return f"{names} {were} trained on these pictures: the figures do not apply to new ones; {held_out}"


def _relation(run: TrainedRun, use: np.ndarray | None, *, own: bool) -> str:
    """A note on how the evaluated images relate to a run's split.

    Args:
        run: The run.
        use: The use of each image in the run; None if the run has no split.csv.
        own: Whether these are the images that the run held out.
    """
    if use is None:
        certain = " for certain" if own else ""
        earlier = "" if run.split_digest else " (an earlier version wrote it)"
        return f"{run.name} has no {SPLIT_FILE}{earlier}: its training pictures are not known{certain}"

    def of_these(count: int, what: str) -> str:
        return f"{count:,} of the {counted(len(use), 'picture')} {'is' if count == 1 else 'are'} {what}"

    trained_on, held_out = (int((use == each).sum()) for each in (TRAINED_ON, HELD_OUT))
    near = int((use == NEAR_TRAINED).sum())
    nearly = of_these(near, f"near-identical to training pictures of {run.name}") if near else ""
    if own:
        same = of_these(trained_on, f"identical to training pictures of {run.name}") if trained_on else ""
        return "; ".join(filter(None, (same, nearly)))
    if trained_on:
        overlap = of_these(trained_on, f"training pictures of {run.name}: the figures are too optimistic for new ones")
        among = f"{overlap}; leave --data out to evaluate its held-out pictures"
        return "; ".join(filter(None, (among, nearly)))
    if near:
        return f"{nearly}: the figures are too optimistic for new ones"
    if held_out:
        return of_these(held_out, f"held-out pictures of {run.name}, and none is a training picture of it")
    return f"none of the {counted(len(use), 'picture')} is a training picture or a held-out picture of {run.name}"


def _reported_as_many(run: Path, pictures: int) -> bool:
    """Whether a run's report covers this number of held-out images, apart from those that could not be read."""
    try:
        report = json.loads((run / "report.json").read_text(encoding="utf-8"))
        evaluated = sum(score["support"] for score in report["classes"])
        return bool(evaluated <= pictures <= evaluated + len(report["unreadable"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True  # the run stopped before its report was written, or the report is damaged

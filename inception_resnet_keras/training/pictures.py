"""The pictures of a run: opening, searching for copies, splitting, and recording the split in the run's folder."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from ..common.bars import progress_of, reading
from ..common.console import printable, say
from ..common.errors import InputError
from ..common.files import write_csv
from ..data import DIGITS
from ..data.copies import (
    COPY_COLUMNS,
    CopyReport,
    Fingerprints,
    clusters,
    find_copies,
    fingerprint_pictures,
    joined,
    left_out_names,
    no_fingerprints,
)
from ..data.labelled import PARTS, VAL, Source
from ..data.parts import Parts, divide, draw_parts, with_groups
from ..data.sources import open_source
from ..data.splits import kept_parts, read_split, write_split
from ..data.value_range import with_common_range, with_kept_range, with_value_range
from .config import TrainConfig
from .run import RunFolder

TOGETHER, SKIP = "together", "skip"  # values of the setting `copies`


@dataclass(frozen=True)
class RunPictures:
    """The pictures of a run.

    Attributes:
        parts: The pictures of each part.
        prints: Their fingerprints, part after part; None if split.csv already has them.
        copies: The copies among them; None if no search was made now.
        kept: Whether the parts come from the run's split.csv.
    """

    parts: Parts
    prints: Fingerprints | None = None
    copies: CopyReport | None = None
    kept: bool = False


def open_pictures(config: TrainConfig, console: Console, run: RunFolder | None = None) -> RunPictures:
    """Open the pictures, search for copies among them, and split them.

    A resumed run takes its parts from its split.csv if that lists the same pictures; then nothing is decoded.

    Args:
        run: The run's folder.

    Raises InputError if the pictures cannot be used or split.
    """
    pictures, given = _open_sources(config, console, known=run is not None and run.has_value_range())
    pictures = with_groups(pictures, config.group, config.data or DIGITS)
    if given is not None and config.val is not None:
        given = _with_own_groups(given, config.group, config.val)
    if run is not None and (kept := _kept_pictures(run, pictures, given, config, console)) is not None:
        return kept
    if config.copies == SKIP:
        parts = divide(pictures, draw_parts(pictures, given, config.split_rules), given)
        return RunPictures(parts, no_fingerprints(sum(len(part) for part in parts if part)))
    # Find copies among the pictures and the separately given held-out pictures.
    sources = [pictures, *([] if given is None else [given])]
    begun = time.monotonic()
    prints = _fingerprints(sources, console)
    with progress_of(console) as show:
        pairs = find_copies(prints, config.copy_distance, lambda done, total: show("looking for copies", done, total))
    seconds = time.monotonic() - begun
    # Draw the split with copies on one side, and put the fingerprints in the order of the parts.
    copies = clusters(len(prints), pairs) if config.copies == TOGETHER and len(pairs) else None
    drawn = draw_parts(pictures, given, config.split_rules, copies)
    of_part = [np.flatnonzero(drawn == part) for part in PARTS]
    if given is not None:
        of_part[PARTS.index(VAL)] = np.arange(len(pictures), len(prints))
    report = CopyReport(sources, pairs, [*drawn.tolist(), *[VAL] * (len(prints) - len(pictures))], seconds)
    return RunPictures(divide(pictures, drawn, given), prints.take(np.concatenate(of_part)), report)


def _with_own_groups(given: Source, group: str | None, val: str) -> Source:
    """Held-out pictures that are given separately, with their groups, if these are known."""
    try:
        return with_groups(given, group, val)
    except InputError as error:
        unknown = (
            f"val: its groups are not known, so that groups of training pictures among them are not found: {error}"
        )
        return replace(given, notes=[*given.notes, unknown])


def _kept_pictures(
    run: RunFolder, pictures: Source, given: Source | None, config: TrainConfig, console: Console
) -> RunPictures | None:
    """The parts from the run's split.csv; None if it is missing or damaged, or lists other pictures."""
    try:
        split = read_split(run.split)
    except InputError:
        return None
    if run.recorded_split() not in ("", split.digest):
        return None
    kept = kept_parts(split, pictures, given, left_out_names(run.copies))
    if kept is None:
        return None
    # Earlier versions did not write perceptual hashes, and a run that was interrupted early may lack the SHA-256 too.
    hashed = any(split.phashes) or all(split.hashes) or config.copies == SKIP
    return RunPictures(kept, None if hashed else _fingerprints([part for part in kept if part], console), kept=True)


def _open_sources(config: TrainConfig, console: Console, *, known: bool) -> tuple[Source, Source | None]:
    """The pictures, and the held-out pictures if they are given separately. Their headers are read.

    Args:
        known: Whether the settings already have the value range, so that no picture needs to be decoded for it.
    """
    with reading(console) as bars:

        def open_with_bar(place: str, **options: Any) -> Source:
            bar = bars.add_task(f"reading {escape(printable(place))}", total=None)
            return open_source(
                place,
                max_corrupt=config.max_corrupt,
                progress=lambda done, total: bars.update(bar, completed=done, total=total),
                **options,
            )

        pictures = open_with_bar(config.data or DIGITS)
        if known:
            pictures = with_kept_range(pictures, config.value_range)
        else:
            pictures = with_value_range(pictures, config.value_range)
        if config.val is None:
            return pictures, None
        given = open_with_bar(config.val, class_names=pictures.class_names)
        if known:
            return pictures, replace(given, value_range=pictures.value_range)
        return with_common_range(pictures, given)


_kept_fingerprints: ContextVar[dict[str, Fingerprints] | None] = ContextVar("fingerprints", default=None)


@contextmanager
def keeping_fingerprints() -> Iterator[None]:
    """Within the block, the fingerprints of pictures are kept, so that several runs on them decode them only once."""
    token = _kept_fingerprints.set({})
    try:
        yield
    finally:
        _kept_fingerprints.reset(token)


def _fingerprints(sources: Sequence[Source], console: Console) -> Fingerprints:
    kept = _kept_fingerprints.get()
    if kept is None:
        return _decoded(sources, console)
    key = " ".join(source.fingerprint for source in sources)
    if key not in kept:
        kept[key] = _decoded(sources, console)
    return kept[key]


def _decoded(sources: Sequence[Source], console: Console) -> Fingerprints:
    with progress_of(console) as show:
        return joined(
            [fingerprint_pictures(source, lambda done, total: show("decoding", done, total)) for source in sources]
        )


def trained_before_warnings(config: TrainConfig, parts: Parts) -> list[str]:
    """Warnings if the run starts from weights that were trained on its held-out or test pictures."""
    from ..evaluation.run_data import ancestors, trained_before

    try:
        runs = ancestors(config.weights)
        found = [
            warning
            for part, what in ((parts.held_out, "held-out pictures"), (parts.test, "test pictures"))
            if part is not None and runs
            for warning in trained_before(part, runs, what)
        ]
    except InputError as error:
        return [f"weights: it is not known whether they were trained on held-out or test pictures: {error}"]
    if found:
        found.append("to keep the split of that run, give its data, seed and fractions, or --data RUN/split.csv")
    return found


def describe_copies(pictures: RunPictures, console: Console) -> None:
    """Print the result of the search for copies, with warnings."""
    if pictures.copies is None:
        return
    found, warnings = pictures.copies.sentences()
    say(console, found)
    for warning in warnings:
        say(console, warning, style="yellow")


def keep_pictures(run: RunFolder, pictures: RunPictures, console: Console) -> None:
    """Write split.csv, copies.csv and copies.png, before the first step."""
    if pictures.prints is None:
        return
    if not pictures.kept and run.split.exists():
        say(
            console,
            f"{run.split}: is damaged or lists other pictures; it is written again for the pictures of this run",
            style="yellow",
        )
    if pictures.copies is not None and len(pictures.copies.pairs):
        from ..evaluation.plots import plot_copies

        rows = pictures.copies.rows()
        write_csv(run.copies, COPY_COLUMNS, rows)
        plot_copies(rows, pictures.copies.decode, run.copies.with_suffix(".png"))
    write_split(run.split, pictures.parts, pictures.prints)  # last, because with it a resumed run skips the search
    run.record_split()

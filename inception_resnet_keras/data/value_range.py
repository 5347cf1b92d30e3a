"""Scaling pictures of more than 8 bits to 0-255, with one range of values for all pictures of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..common.console import counted
from ..common.devices import usable_cores
from ..common.errors import InputError, refuse
from .images import PILLOW, SIXTEEN_BITS, Depth, UnreadableImageError, header, read_depth
from .labelled import Source

ValueRange = tuple[float, float]


def with_value_range(source: Source, given: Sequence[float] | None = None) -> Source:
    """Return the source with the value range of its pictures of more than 8 bits, and with a note about it.

    For unsigned integers of at most 16 bits the range is 0 to the smallest 2^n - 1 that is not exceeded, such as 4095
    for 16-bit files of a 12-bit camera. For other values, such as DICOM files without a window, it is their lowest to
    their highest value. Only pictures that may have more than 8 bits or several pages are opened.

    Args:
        source: The pictures.
        given: The lowest and the highest value, used instead of the range computed from the pictures.

    Raises:
        InputError: The pictures were scaled by a range other than `given` when they were packed.
    """
    if source.value_range is not None and given and tuple(given) != source.value_range:
        raise refuse("value_range", tuple(given), f"{source.value_range}, by which the packed pictures were scaled")
    wanted = (float(given[0]), float(given[1])) if given else None
    depths = _depths(source)
    deep = [found for found in depths if found.values]
    if deep and wanted is None:
        wanted = _range_of(deep)
    how = "as given" if given else "from the pictures; to change it: --set value_range=[low,high]"
    notes = [*source.notes, *_notes(depths, wanted, how)]
    return replace(source, value_range=wanted or source.value_range, notes=notes)


def with_common_range(training: Source, held_out: Source) -> tuple[Source, Source]:
    """Return held-out pictures that are given separately with the range of the training pictures, and with a note.

    If no training picture has more than 8 bits, the range of the held-out pictures is used for both.

    Raises:
        InputError: The held-out pictures were scaled by another range when they were packed.
    """
    kept = training.value_range
    if kept is not None and held_out.value_range not in (None, kept):
        raise InputError(
            f"val: its pictures were scaled by the range {_text(held_out.value_range)} when they were packed, and "
            f"those of data by {_text(kept)}: pack both with the same value_range, or give the files themselves"
        )
    if kept is None:
        held_out = with_value_range(held_out)
        return replace(training, value_range=held_out.value_range), held_out
    return training, replace(
        held_out, value_range=kept, notes=[*held_out.notes, *_notes(_depths(held_out), kept, "as in data")]
    )


def with_kept_range(source: Source, kept: Sequence[float]) -> Source:
    """Return the source with the range stored by its run, without opening the pictures.

    Args:
        kept: The lowest and the highest value; empty if no picture had more than 8 bits.
    """
    return replace(source, value_range=(float(kept[0]), float(kept[1])) if kept else source.value_range)


def with_models_range(source: Source, models: ValueRange | None, data: str) -> Source:
    """Return the source with the value range of the models that will read it.

    Args:
        data: The name of the source, for the error message.

    Raises:
        InputError: The pictures were scaled by another range when they were packed.
    """
    if source.value_range not in (None, models):
        reads = f"reads {_text(models)}" if models else "was trained without such pictures"
        raise InputError(
            f"{data}: its pictures of more than 8 bits were scaled by the range {_text(source.value_range)} when they "
            f"were packed, and the model {reads}: give the files themselves"
        )
    return replace(source, value_range=models)


def range_notes(source: Source, *, given: bool = False) -> list[str]:
    """Notes on how models read the pictures of more than 8 bits, and those of several pages.

    Args:
        source: The pictures, with the range by which they are read.
        given: Whether the user gave the range; otherwise it is that of the models.
    """
    return _notes(_depths(source), source.value_range, _reason(source.value_range, given=given))


def file_range_notes(files: Sequence[str], value_range: ValueRange | None, *, given: bool) -> list[str]:
    """`range_notes` for files, which may be unreadable."""

    def depth(file: str) -> Depth | None:
        try:
            return read_depth(Path(file)) if header(file)[2] == PILLOW else None
        except (UnreadableImageError, OSError):
            return None

    with ThreadPoolExecutor(usable_cores()) as threads:
        depths = [found for found in threads.map(depth, files) if found]
    return _notes(depths, value_range, _reason(value_range, given=given))


def _reason(value_range: ValueRange | None, *, given: bool) -> str:
    if given:
        return "as given"
    if value_range is not None:
        return "as in the training of the model"
    return "all 16 bits, because the model has no range; predict, evaluate and explain take another by --value-range"


def _depths(source: Source) -> list[Depth]:
    """The depths of the pictures that may have more than 8 bits or several pages."""

    def depth(index: int) -> Depth | None:
        try:
            return read_depth(Path(source.names[index]), source.contents.read(index))
        except (UnreadableImageError, OSError):
            return None  # reported later, when the picture is decoded

    with ThreadPoolExecutor(usable_cores()) as threads:
        return [found for found in threads.map(depth, np.flatnonzero(source.kinds == PILLOW).tolist()) if found]


def _notes(depths: Sequence[Depth], value_range: ValueRange | None, how: str) -> list[str]:
    """A note on the files of several pages, and one on the range of values and what lies outside.

    Args:
        value_range: The range that is used; None for 0 to 65535, with which other than unsigned values of 16 bits
            cannot be read.
        how: Where the range comes from.
    """
    notes = []
    if pages := sum(found.pages for found in depths):
        notes.append(f"{counted(pages, 'file', 'has', 'have')} several pages or frames, of which the first is read")
    deep = [found for found in depths if found.values and (found.whole or value_range)]
    if not deep:
        return notes
    least, most = _limits(deep)
    low, high = value_range or SIXTEEN_BITS
    outside = sum(found.values[0] < low or found.values[1] > high for found in deep if found.values)
    clipped = f"; values outside are clipped, in {counted(outside, 'picture')}" if outside else ""
    notes.append(
        f"{counted(len(deep), 'picture', 'has', 'have')} more than 8 bits, with values from {least:,g} to {most:,g}: "
        f"{low:,g} becomes 0 and {high:,g} becomes 255 ({how}){clipped}"
    )
    return notes


def _text(value_range: ValueRange | None) -> str:
    return f"{value_range[0]:,g} to {value_range[1]:,g}" if value_range else "none"


def _limits(deep: Sequence[Depth]) -> ValueRange:
    values = [found.values for found in deep if found.values]
    return min(low for low, _ in values), max(high for _, high in values)


def _range_of(deep: Sequence[Depth]) -> ValueRange:
    low, high = _limits(deep)
    if all(found.whole for found in deep):
        return 0.0, float(2 ** max(8, int(high).bit_length()) - 1)
    return (low, high) if high > low else (low, low + 1)

"""Pictures of more than 8 bits: the range of values that becomes 0 to 255, one for all pictures of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..common.console import counted
from ..common.devices import usable_cores
from ..common.errors import InputError, refuse
from .images import PILLOW, Depth, UnreadableImageError, read_depth
from .labelled import Source

ValueRange = tuple[float, float]


def with_value_range(source: Source, given: Sequence[float] | None = None) -> Source:
    """The source with the value range of its pictures of more than 8 bits, and a note about it.

    The range of unsigned integers of 16 bits is 0 to the smallest 2^n - 1 that holds all of them: 4095 where a 12-bit
    camera wrote 16-bit files. The range of other values, such as DICOM's without a window, is their lowest to their
    highest. Only pictures that may have more than 8 bits or several pages are opened.

    Args:
        source: The pictures.
        given: The lowest and the highest value, to be used instead of what the pictures have.

    Raises:
        InputError: The pictures were packed, and so scaled, by another range than the given one.
    """
    if source.value_range is not None and given and tuple(given) != source.value_range:
        raise refuse("value_range", tuple(given), f"{source.value_range}, by which the packed pictures were scaled")
    wanted = (float(given[0]), float(given[1])) if given else None
    indices = np.flatnonzero(source.kinds == PILLOW).tolist()

    def depth(index: int) -> Depth | None:
        try:
            return read_depth(Path(source.names[index]), source.contents.read(index))
        except (UnreadableImageError, OSError):
            return None  # reported when it is decoded

    with ThreadPoolExecutor(usable_cores()) as threads:
        depths = [found for found in threads.map(depth, indices) if found]
    notes = list(source.notes)
    if pages := sum(found.pages for found in depths):
        notes.append(f"of {counted(pages, 'file')} with several pages or frames the first one is read")
    if deep := [found for found in depths if found.values]:
        low, high = wanted or _range_of(deep)
        least, most = _limits(deep)
        how = "as given" if given else "as found; --set value_range=[low,high] takes another"
        notes.append(
            f"{counted(len(deep), 'picture', 'has', 'have')} more than 8 bits, with values from {least:,g} to "
            f"{most:,g}: {low:,g} becomes 0 and {high:,g} becomes 255 ({how})"
        )
        wanted = low, high
    return replace(source, value_range=wanted or source.value_range, notes=notes)


def with_kept_range(source: Source, kept: Sequence[float]) -> Source:
    """The source with the range that its run kept, without a look at its pictures.

    kept: The lowest and the highest value; empty where no picture had more than 8 bits.
    """
    return replace(source, value_range=(float(kept[0]), float(kept[1])) if kept else source.value_range)


def with_models_range(source: Source, models: ValueRange | None, data: str) -> Source:
    """The source with the value range of the models that look at it.

    data: The name of the source, for the error.

    Raises:
        InputError: The pictures were packed, and so scaled, by another range.
    """
    if source.value_range not in (None, models):
        reads = f"reads {models[0]:,g} to {models[1]:,g}" if models else "was trained without such pictures"
        raise InputError(
            f"{data}: its pictures of more than 8 bits were scaled by the range {source.value_range[0]:,g} to "
            f"{source.value_range[1]:,g} when they were packed, and the model {reads}: give the files themselves"
        )
    return replace(source, value_range=models)


def _limits(deep: Sequence[Depth]) -> ValueRange:
    values = [found.values for found in deep if found.values]
    return min(low for low, _ in values), max(high for _, high in values)


def _range_of(deep: Sequence[Depth]) -> ValueRange:
    low, high = _limits(deep)
    if all(found.whole for found in deep):
        return 0.0, float(2 ** max(8, int(high).bit_length()) - 1)
    return (low, high) if high > low else (low, low + 1)

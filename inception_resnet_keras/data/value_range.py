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
from .images import PILLOW, Depth, UnreadableImageError, read_depth
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
    indices = np.flatnonzero(source.kinds == PILLOW).tolist()

    def depth(index: int) -> Depth | None:
        try:
            return read_depth(Path(source.names[index]), source.contents.read(index))
        except (UnreadableImageError, OSError):
            return None  # reported later, when the picture is decoded

    with ThreadPoolExecutor(usable_cores()) as threads:
        depths = [found for found in threads.map(depth, indices) if found]
    notes = list(source.notes)
    if pages := sum(found.pages for found in depths):
        notes.append(f"{counted(pages, 'file', 'has', 'have')} several pages or frames, of which the first is read")
    if deep := [found for found in depths if found.values]:
        low, high = wanted or _range_of(deep)
        least, most = _limits(deep)
        how = "as given" if given else "from the pictures; to change it: --set value_range=[low,high]"
        notes.append(
            f"{counted(len(deep), 'picture', 'has', 'have')} more than 8 bits, with values from {least:,g} to "
            f"{most:,g}: {low:,g} becomes 0 and {high:,g} becomes 255 ({how})"
        )
        wanted = low, high
    return replace(source, value_range=wanted or source.value_range, notes=notes)


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

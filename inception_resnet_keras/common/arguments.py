"""Checks of what the factories are given: anything out of range is refused before a layer is built."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Hashable, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from .. import networks
from ..networks import edits
from ..networks.rows import Network
from ..networks.trace import minimum_side
from .errors import refuse


def is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    try:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond what a float holds
        return False


def positive_integer(argument: str, value: Any) -> int:
    if not is_integer(value) or value < 1:
        raise refuse(argument, value, "an integer of at least 1")
    return int(value)


def number_between(argument: str, value: Any, low: float, high: float, takes: str) -> float:
    """A number in [low, high); `takes` is how the range is told."""
    if not is_number(value) or not low <= value < high:
        raise refuse(argument, value, takes)
    return float(value)


def count_or_share(argument: str, value: Any, what: str) -> float:
    """An integer of at least 0, or a float in [0, 1); `what` names the things that are counted."""
    if not (is_integer(value) and value >= 0) and not (is_number(value) and 0 <= value < 1):
        raise refuse(argument, value, f"a number of {what}, at least 0, or a share of them below 1")
    return value


def boolean(argument: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise refuse(argument, value, "True or False")
    return value


def auxiliary(network: Network, value: Any) -> bool:
    """`aux_head`, of a network that may have none."""
    if boolean("aux_head", value) and not network.aux:
        raise refuse("aux_head", value, f"False: the {network.variant} variant has no auxiliary head")
    return value


def text_of(argument: str, value: Any, takes: str = "a text or a path") -> str:
    """A name or path, given as a text or as what stands for a path."""
    if not isinstance(value, str | PathLike) or not isinstance(text := fspath(value), str) or not text:
        raise refuse(argument, value, takes)
    return text


def path_of(argument: str, value: Any) -> Path:
    return Path(text_of(argument, value, "a path"))


def one_of(argument: str, value: Any, choices: Sequence[Any]) -> Any:
    if not isinstance(value, Hashable) or value not in choices:  # an array's == is no truth value
        raise refuse(argument, value, " or ".join(map(repr, choices)))
    return value


def scaled(network: Network, scale: Any) -> Network:
    """The network with its residual scales as `scale` says: True, False, a number, or one a block."""
    blocks = networks.block_names(network)
    takes = (
        "True (the variant's own scales), False (none), a number in (0, 1], "
        f"or {len(blocks)} such numbers for blocks {', '.join(blocks).upper()}"
    )
    if scale is True:
        return network
    if scale is False:
        scale = 1.0
    scales = [scale] * len(blocks) if is_number(scale) else scale
    if isinstance(scales, str) or not isinstance(scales, Sequence) or len(scales) != len(blocks):
        raise refuse("scale", scale, takes)
    if not all(is_number(number) and 0 < number <= 1 for number in scales):
        raise refuse("scale", scale, takes)
    return edits.with_scales(network, [float(number) for number in scales])


def deepened(network: Network, depths: Any) -> Network:
    """The network with so many of each block; None leaves the variant's own."""
    if depths is None:
        return network
    blocks = networks.block_names(network)
    fits = isinstance(depths, Sequence) and not isinstance(depths, str) and len(depths) == len(blocks)
    if not fits or not all(is_integer(number) and number >= 1 for number in depths):
        takes = f"None or {len(blocks)} integers of at least 1 for blocks {', '.join(blocks).upper()}"
        raise refuse("depths", depths, takes)
    return edits.with_depths(network, [int(number) for number in depths])


def nearest(word: str, among: Sequence[str]) -> str:
    """ "; did you mean …?" of the word that is likest; empty where none is like it."""
    near = difflib.get_close_matches(word, among, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def image_shape(
    network: Network, shape: Any, data_format: str, *, aux_head: bool, argument: str = "input_shape"
) -> tuple[int | None, ...]:
    """The checked (height, width, channels), in `data_format`'s order."""
    side = minimum_side(network, aux_head=aux_head)
    order = "(channels, height, width)" if data_format == "channels_first" else "(height, width, channels)"
    sides = f"height and width at least {side}" + (" with aux_head=True" if aux_head else " or None")
    takes = f"{order}, {sides}, channels at least 1"
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) != 3:
        raise refuse(argument, shape, takes)
    channels, *maps = shape if data_format == "channels_first" else (shape[2], *shape[:2])
    if not is_integer(channels) or channels < 1:
        raise refuse(argument, shape, takes)
    for number in maps:
        unknown = number is None and not aux_head
        if not unknown and (not is_integer(number) or number < side):
            raise refuse(argument, shape, takes)
    return tuple(shape)

"""Checks of the factories' arguments against a network's table. They need no Keras, so that diagrams use them too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..common.arguments import boolean, is_integer, is_number
from ..common.errors import refuse
from . import block_names, output_stride
from .edits import with_depths, with_scales
from .rows import Network
from .trace import minimum_side

MOST_BLOCKS = 1000  # of each kind: fifty times the largest released network, and about what memory holds
LONGEST_SIDE = 2**16  # of an image, in pixels; also the largest number of channels


def apply_depths(network: Network, depths: Any) -> Network:
    """Return the network with `depths` blocks A, B and C; None keeps the variant's own.

    Raises InputError if `depths` is not one integer from 1 to 1000 per kind of block.
    """
    if depths is None:
        return network
    blocks = block_names(network)
    fits = isinstance(depths, Sequence) and not isinstance(depths, str) and len(depths) == len(blocks)
    if not fits or not all(is_integer(number) and 1 <= number <= MOST_BLOCKS for number in depths):
        letters = ", ".join(blocks).upper()
        takes = f"None or {len(blocks)} integers of at least 1, at most {MOST_BLOCKS}, for blocks {letters}"
        raise refuse("depths", depths, takes)
    return with_depths(network, [int(number) for number in depths])


def apply_scale(network: Network, scale: Any) -> Network:
    """Return the network with other residual scales.

    Args:
        network: A residual network's table.
        scale: True keeps the variant's own scales, False removes them, a number in (0, 1] is used for
            every block, and a sequence has one such number per block.

    Raises:
        InputError: `scale` is none of these.
    """
    if scale is True:
        return network
    blocks = block_names(network)
    scales = [1.0] * len(blocks) if scale is False else [scale] * len(blocks) if is_number(scale) else scale
    fits = isinstance(scales, Sequence) and not isinstance(scales, str) and len(scales) == len(blocks)
    if not fits or not all(is_number(number) and 0 < number <= 1 for number in scales):
        takes = (
            "True (the variant's own scales), False (none), a number in (0, 1], "
            f"or {len(blocks)} such numbers for blocks {', '.join(blocks).upper()}"
        )
        raise refuse("scale", scale, takes)
    return with_scales(network, [float(number) for number in scales])


def check_include_top(network: Network, include_top: bool) -> None:
    """Raise InputError if `include_top` is not a bool, or is True for a network that ends before its last block."""
    if boolean("include_top", include_top) and not network.top:
        last = block_names(network)[-1].upper()
        stride = f"output_stride={output_stride(network)}"
        raise refuse("include_top", include_top, f"False with {stride}: the network then ends after its blocks {last}")


def check_aux_head(network: Network, aux_head: bool) -> None:
    """Raise InputError if `aux_head` is not a bool, or is True for a network without an auxiliary head."""
    if boolean("aux_head", aux_head) and not network.aux:
        if not network.top:
            stride = f"output_stride={output_stride(network)}"
            raise refuse("aux_head", aux_head, f"False with {stride}: the auxiliary head reads a map of stride 16")
        raise refuse("aux_head", aux_head, f"False: the {network.variant} variant has no auxiliary head")


def check_image_shape(
    network: Network,
    shape: Any,
    data_format: str,
    *,
    aux_head: bool,
    argument: str = "input_shape",
) -> tuple[int | None, ...]:
    """Return an image's shape, in the order of `data_format`, as a tuple.

    Args:
        network: The network that reads the image. It determines the smallest image that is accepted.
        shape: (height, width, channels) or (channels, height, width). Height and width may be None if there is no
            auxiliary head. With one they must be known, because its last kernel is as large as the map it reads.
        data_format: "channels_last" or "channels_first".
        aux_head: Whether the auxiliary head is built.
        argument: The argument's name in the message.

    Raises:
        InputError: `shape` is not such a sequence, or the image is too small or too large.
    """
    side = minimum_side(network, aux_head=aux_head)
    order = "(channels, height, width)" if data_format == "channels_first" else "(height, width, channels)"
    sides = f"height and width at least {side}" + (" with aux_head=True" if aux_head else " or None")
    takes = f"{order}, {sides}, channels at least 1, each at most {LONGEST_SIDE}"
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) != 3:
        raise refuse(argument, shape, takes)
    channels, *maps = shape if data_format == "channels_first" else (shape[2], *shape[:2])
    if not is_integer(channels) or not 1 <= channels <= LONGEST_SIDE:
        raise refuse(argument, shape, takes)
    for number in maps:
        unknown = number is None and not aux_head
        if not unknown and (not is_integer(number) or not side <= number <= LONGEST_SIDE):
            raise refuse(argument, shape, takes)
    return tuple(shape)

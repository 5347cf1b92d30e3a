"""A step that does not fit in memory, told with the largest batch that does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from ..common.console import say
from ..common.devices import is_out_of_memory, largest_that_fits
from ..common.errors import InputError
from .session import Session


@contextmanager
def in_memory(session: Session, images: Any, labels: Any, console: Console) -> Iterator[None]:
    """Around a step: InputError in place of running out of memory, with what to set instead."""
    try:
        yield
    except Exception as error:  # TensorFlow's own class is one of many that XLA and the allocators raise
        if not is_out_of_memory(error):
            raise
        reason = advice(session, images, labels, console)
    else:
        return
    raise InputError(reason)  # the failed step's own frames, which hold its tensors, are gone by now


def advice(session: Session, images: Any, labels: Any, console: Console) -> str:
    """Says what does not fit; on one replica tries smaller batches, here and now, and names the largest that fits.

    They are tried in this process, whose weights and optimizer are in memory as they will be, without
    taking a step. Of several replicas none can be tried alone: they wait for one another.
    """
    config = session.config
    said = f"batch_size: a step of {config.batch_size} pictures of {config.size}×{config.size} does not fit in memory"
    less = "--remat, --precision mixed_bfloat16 or a smaller --size need less"
    if session.strategy.num_replicas_in_sync > 1:
        return f"{said}; give a smaller --batch-size, or compute it in micro-batches: --accumulate N; {less}"
    at_once = -(-config.batch_size // config.accumulate)
    say(console, f"{said}; trying smaller ones…", style="yellow")

    def fits(batch: int) -> bool:
        try:
            session.stepper.compute(images[:batch], labels[:batch])
        except Exception as error:
            if is_out_of_memory(error):
                return False
            raise
        return True

    most = largest_that_fits(at_once, fits)
    if not most:
        return f"{said}, and not even one of a single picture does; {less}"
    parts = next(number for number in range(2, config.batch_size + 1) if _divides(number, config.batch_size, most))
    return (
        f"{said}; the largest of those tried that does is {most}. Give --batch-size {most}, or keep "
        f"{config.batch_size} and compute it in micro-batches: --accumulate {parts}; {less}"
    )


def _divides(parts: int, batch: int, most: int) -> bool:
    return batch % parts == 0 and batch // parts <= most

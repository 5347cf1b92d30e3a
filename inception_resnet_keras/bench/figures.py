"""From raw seconds to what is told: medians, p95, ratios pair by pair, and the spread of all three."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Turn:
    """One contender's turn in one round, at one batch size.

    seconds: of each call, from its start to having the answer. images_per_second: over the
    turn; on a GPU of calls queued back to back, elsewhere of the median call.
    """

    seconds: list[float]
    images_per_second: float
    facts: dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """A median and the lowest and highest of what it is the median of."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(float(np.median(values)), float(min(values)), float(max(values)))

    @property
    def width(self) -> float:
        """From lowest to highest, as a share of the median."""
        return (self.high - self.low) / self.median


def percentile(seconds: Sequence[float], share: float) -> float:
    """Linear between the two nearest, as numpy has it; `share` in [0, 100]."""
    return float(np.percentile(seconds, share))


def ratios(own: Sequence[Turn | None], baseline: Sequence[Turn | None]) -> list[float]:
    """How many times as fast as the baseline in the same round, for each round that both have."""
    return [
        mine.images_per_second / theirs.images_per_second
        for mine, theirs in zip(own, baseline, strict=True)
        if mine is not None and theirs is not None
    ]


def row(batch: int, own: Sequence[Turn | None], baseline: Sequence[Turn | None], macs: int | None) -> dict[str, Any]:
    """What a report holds of one contender at one batch size; there is a turn in at least one round.

    macs: multiply-adds of one image (of a training step three times as many: forward, and both gradients).
    """
    turns = [turn for turn in own if turn is not None]
    every = [second for turn in turns for second in turn.seconds]
    speed = Spread.of([turn.images_per_second for turn in turns])
    pairs = ratios(own, baseline)
    return {
        "batch": batch,
        "calls": len(every),
        "median_seconds": percentile(every, 50),
        "p95_seconds": percentile(every, 95),
        "images_per_second": vars(speed),
        "macs_per_second": None if macs is None else macs * speed.median,
        "ratio": {**vars(Spread.of(pairs)), "rounds": pairs} if pairs else None,
        "rounds": [None if turn is None else vars(turn) for turn in own],
        **_least_and_most(turns),
    }


def _least_and_most(turns: Sequence[Turn]) -> dict[str, Any]:
    """Of the facts of all turns: memory at its highest, the first call of the first, the threads of the busiest."""

    def of(key: str) -> list[float]:
        return [turn.facts[key] for turn in turns if turn.facts.get(key) is not None]

    return {
        "first_call_seconds": next(iter(of("first_call_seconds")), None),
        "peak_rss": max(of("peak_rss"), default=None),
        "peak_device_memory": max(of("peak_device_memory"), default=None),
        "threads": max(of("threads"), default=None),
        "cores": max(of("cores"), default=None),
    }

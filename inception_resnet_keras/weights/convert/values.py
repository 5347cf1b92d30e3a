"""The values of a plan: each read, looked at, and given in Keras's layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..readers.checkpoint import Checkpoint
from ..report import LoadReport

ALL_ONES = "gamma, all ones"

FOLDED = "gamma folded into it"


@dataclass
class Source:
    """Where one weight of the model comes from. background: its first class is dropped."""

    name: str
    kernel_first: bool = False
    gamma: str | None = None
    background: bool = False


@dataclass
class Plan:
    """Checked values for a model's weights, as they were read, and the report of what they are."""

    report: LoadReport
    sources: dict[str, Source]
    raw: dict[str, np.ndarray] = field(default_factory=dict)

    def values(self) -> Iterator[tuple[str, np.ndarray]]:
        """Each of the model's weights with its value, in Keras's layout; what was read is let go."""
        for key, source in self.sources.items():
            yield key, self._value(source)

    def _value(self, source: Source) -> np.ndarray:
        array = self.raw.pop(source.name)
        if source.kernel_first and array.ndim > 1:
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.transpose()
        if source.background:
            array = array[..., 1:]
        array = np.ascontiguousarray(array, dtype=np.float32)
        return array * self.raw[source.gamma].astype(np.float32) if source.gamma else array


def read(plan: Plan, checkpoint: Checkpoint) -> list[str]:
    """Reads every value that a plan needs; what is wrong with them, if anything.

    A gamma of ones is left out; another is to be folded, and the product is looked at too.
    """
    gammas = {source.gamma for source in plan.sources.values() if source.gamma}
    used = gammas | {source.name for source in plan.sources.values()}
    problems = []
    for name in checkpoint.tensors:
        if name in used:
            kind = checkpoint.tensors[name].dtype
            if "float" not in kind:
                problems.append(f"{name}: holds {kind}, and weights are floating-point numbers")
                continue
            plan.raw[name] = checkpoint.read(name)
            problems += _problems(name, plan.raw[name])
    if problems:
        return problems
    ones = [name for name in checkpoint.tensors if name in gammas and np.all(plan.raw[name] == 1)]
    if ones:
        plan.report.dropped[ALL_ONES] = ones
    for key, source in plan.sources.items():
        if source.gamma in ones:
            source.gamma = None
        elif source.gamma:
            plan.report.changed.setdefault(FOLDED, []).append(key)
            if not _is_finite_folded(plan.raw[source.name], plan.raw[source.gamma], source):
                problems.append(f"{source.name}: times {source.gamma} it is beyond float32's range")
    plan.report.loaded = len(plan.sources)
    return problems


def _problems(name: str, array: np.ndarray) -> list[str]:
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.astype(np.float32, copy=False))
    if not finite.all():
        bad = array.size - np.count_nonzero(finite)
        return [f"{name}: {bad} of {array.size} values are NaN, infinite or beyond float32's range"]
    if name.endswith(("moving_variance", "running_var")) and (array < 0).any():
        return [f"{name}: a variance is below zero"]
    return []


def _is_finite_folded(array: np.ndarray, gamma: np.ndarray, source: Source) -> bool:
    """Whether a channel's largest number times the channel's gamma is one, as all others then are."""
    channels = np.moveaxis(array, 0 if source.kernel_first else -1, -1).reshape(-1, len(gamma))
    largest = np.maximum(channels.max(axis=0), -channels.min(axis=0)).astype(np.float32)
    with np.errstate(over="ignore"):
        return bool(np.isfinite(largest * gamma.astype(np.float32)).all())

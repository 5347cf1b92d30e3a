"""Whether a contender computes what it is timed for: its outputs against the network's own in float32 on the CPU."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

# The largest difference that rounding accounts for over the depth of these networks; measured on a CPU with ResNet-v2
# slim: 2e-6 in float32 and 2e-2 in bfloat16 at 299 pixels, 0.27 in int8 at 139. A network that says nothing has 1.
BOUNDS = {"float32": 1e-3, "tf32": 2e-2, "float16": 2e-2, "bfloat16": 1e-1, "int8": 5e-1}


@dataclass(frozen=True)
class Check:
    """difference: as the function of that name has it. agreement: share of the pictures with the same top-1."""

    difference: float
    bound: float
    agreement: float
    pictures: int

    @property
    def passed(self) -> bool:
        return self.difference <= self.bound  # never of a NaN

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


# The least probability that is told apart: LiteRT's softmax is int8 too, in steps of 1/256.
FLOORS = {"int8": 1 / 256}


def check(found: np.ndarray, reference: np.ndarray, computed_in: str) -> Check:
    """found, reference: (pictures, classes) probabilities or embeddings; computed_in: of BOUNDS."""
    if found.shape != reference.shape:
        raise ValueError(f"its outputs have the shape {found.shape}, the network's {reference.shape}")
    agreement = float(np.mean(found.argmax(axis=1) == reference.argmax(axis=1)))
    distance = difference(found, reference, FLOORS.get(computed_in, 1e-12))
    return Check(distance, BOUNDS[computed_in], agreement, len(found))


def difference(found: np.ndarray, reference: np.ndarray, floor: float = 1e-12) -> float:
    """‖found - reference‖ / ‖reference‖, of the logits where the rows are probabilities.

    A softmax hides differences where it is sure and a network without training is sure of nothing,
    so probabilities, of at least `floor`, are taken back to logits, up to each row's constant.
    """
    if (reference >= 0).all() and np.allclose(reference.sum(axis=1), 1, atol=1e-3):
        found, reference = _logits(found, floor), _logits(reference, floor)
    distance = np.linalg.norm(found.astype(np.float64) - reference) / np.linalg.norm(reference)
    return float(distance) if np.isfinite(found).all() else float("inf")


def _logits(probabilities: np.ndarray, floor: float) -> np.ndarray:
    logs = np.log(np.maximum(probabilities.astype(np.float64), floor))
    return logs - logs.mean(axis=1, keepdims=True)

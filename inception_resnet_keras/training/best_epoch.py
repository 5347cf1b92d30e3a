"""Which epoch is the best one, and when a run stops early. Both follow from the history alone, so that a resumed run
needs no other state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .config import TrainConfig

NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "mean_average_precision": "mean average precision",
    "loss": "loss",
}
History = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class BestEpoch:
    """The epoch that best.keras is of.

    epoch: Its number, counted from 1. monitor: The figure that it is best by. value: That figure of the held-out
    pictures, a share in [0, 1] or a loss.
    """

    epoch: int
    monitor: str
    value: float

    def __str__(self) -> str:
        value = f"{self.value:.4f}" if self.monitor == "loss" else f"{self.value:.2%}"
        return f"epoch {self.epoch}, with the best held-out {NAMES[self.monitor]}, {value}"


def best_epoch(config: TrainConfig, history: History) -> BestEpoch:
    """The best of the epochs so far, of which there must be one; of equal ones the first.

    Of equal accuracies the one of the lower held-out loss is better.
    """
    column = f"val_{config.monitor}"

    def score(row: Mapping[str, float]) -> tuple[float, float]:
        return (-row["val_loss"], 0.0) if config.monitor == "loss" else (row[column], -row["val_loss"])

    number = max(range(len(history)), key=lambda index: score(history[index]))  # the first of equal ones
    return BestEpoch(number + 1, config.monitor, history[number][column])


def stops_early(config: TrainConfig, history: History) -> bool:
    """Whether a run ends after the epochs so far because the last `patience` of them were no better than one before.

    The epochs of the classifier alone do not count, unless there are no others: the first ones after them may be worse.
    """
    if not config.patience or len(history) >= config.epochs:
        return False
    counted_from = config.head_epochs if config.head_epochs < config.epochs else 0
    if len(history) - counted_from < config.patience:
        return False
    return len(history) - max(counted_from, best_epoch(config, history).epoch) >= config.patience


def is_finished(config: TrainConfig, history: History) -> bool:
    """Whether no epoch is left to train."""
    return len(history) >= config.epochs or stops_early(config, history)

"""The choice of the best epoch, and early stopping. Both depend on the history only, so that a resumed run needs no
other state.
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
    """The epoch whose model is best.keras.

    Attributes:
        epoch: Its number, counted from 1.
        monitor: The figure by which it is the best.
        value: This figure on the held-out pictures: a share in [0, 1], or a loss.
    """

    epoch: int
    monitor: str
    value: float

    def __str__(self) -> str:
        value = f"{self.value:.4f}" if self.monitor == "loss" else f"{self.value:.2%}"
        return f"epoch {self.epoch}, with the best held-out {NAMES[self.monitor]}, {value}"


def best_epoch(config: TrainConfig, history: History) -> BestEpoch:
    """The best of the epochs so far, of which there must be at least one.

    Between epochs of equal accuracy, the lower held-out loss decides; between equal epochs, the first is the best.
    """
    column = f"val_{config.monitor}"

    def score(row: Mapping[str, float]) -> tuple[float, float]:
        return (-row["val_loss"], 0.0) if config.monitor == "loss" else (row[column], -row["val_loss"])

    number = max(range(len(history)), key=lambda index: score(history[index]))  # `max` returns the first of equals
    return BestEpoch(number + 1, config.monitor, history[number][column])


def stops_early(config: TrainConfig, history: History) -> bool:
    """Whether a run stops after the epochs so far because the last `patience` of them were not better than before.

    Epochs that train the classifier alone do not count, because the first epochs after them may be worse; unless the
    run has no other epochs.
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

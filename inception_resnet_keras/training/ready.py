"""What can be known to be wrong with a run before any picture is read."""

from __future__ import annotations

from pathlib import Path

from ..common.errors import InputError, refuse
from ..data.pipeline import checked_shard
from ..data.sources import require_source
from ..weights import registry
from ..weights.load import is_name, require
from .config import TrainConfig
from .events import require_tensorboard
from .run import RUNS


def require_ready(config: TrainConfig, worker: tuple[int, int], *, begun: bool = False) -> None:
    """Raises InputError where a setting, a path or a missing library would end the run later.

    worker: its number, and how many there are. begun: a checkpoint is there, so that nothing needs `weights`.
    """
    checked_shard(worker, config.batch_size, pairs=config.data_options().mixes)
    for name in ("data", "val"):
        if (place := getattr(config, name)) is not None:
            require_source(place, name)
    if config.tensorboard:
        require_tensorboard()
    if config.weights is not None and not begun:
        _require_weights(config, config.weights)


def require_elsewhere(config: TrainConfig) -> None:
    """Raises InputError where the numbered run below runs/ would lie in a folder of pictures, as a class."""
    for name in ("data", "val"):
        place = getattr(config, name)
        if place and RUNS.resolve().is_relative_to(Path(place).resolve()):
            raise InputError(f"{name}: {place} holds this folder's {RUNS}/, where the run would lie: give --out")


def _require_weights(config: TrainConfig, weights: str) -> None:
    if not is_name(weights):
        require(weights)
        return
    files = [registry.WEIGHTS[file] for file in registry.files_of(weights)]
    if not any((file.network, file.variant) == (config.model, config.variant) for file in files):
        fitting = dict.fromkeys(f"--model {file.network} --variant {file.variant}" for file in files)
        raise refuse(
            "weights", weights, f"those of {config.model} ({config.variant}); these fit {' or '.join(fitting)}"
        )

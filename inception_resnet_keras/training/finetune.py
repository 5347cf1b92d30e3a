"""Fine-tuning: a pretrained trunk, a new classifier, two phases."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .recipes import configured

if TYPE_CHECKING:
    from rich.console import Console

    from .loop import Trained


def finetune(
    data: str | PathLike[str],
    *,
    weights: str | PathLike[str] | None = None,
    out: str | PathLike[str] | None = None,
    recipe: str = "finetune",
    console: Console | None = None,
    **settings: Any,
) -> Trained:
    """Trains a pretrained network on pictures of your own: the classifier first, then the upper stages too.

    Args:
        data: What `data.sources.open_source` opens, such as a folder with one folder per class.
        weights: A checkpoint that `load_weights` reads, or a registered name; None for the recipe's.
        out: The run's folder, new or empty; None for the next free number below runs/.
        recipe: "finetune", or the name or file of another.
        console: Where progress is told; None for the terminal.
        settings: Over the recipe's: the fields of `training.config.TrainConfig`, such as `epochs`,
            `head_epochs` (of the classifier alone), `unfreeze_from` (the stage from which on the trunk
            learns after that), `layer_rate` (how much slower each stage below learns),
            `freeze_batch_norm` (keeps every trunk statistic bit by bit).

    Returns:
        The run: its folder with `model.keras` in it, its history, its report on the held-out pictures.

    Raises:
        ValueError: A setting, the data or the weights cannot be used, told before training starts.
        KeyboardInterrupt: Ctrl-C; `inception-resnet-keras train --resume` goes on.
    """
    from .loop import train

    given = {"data": fspath(data), **({} if weights is None else {"weights": fspath(weights)}), **settings}
    config = configured(recipe, (), given)
    return train(config, Path(out) if out is not None else None, console=console)

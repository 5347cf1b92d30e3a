"""The learning-rate range test: a sweep of rising learning rates with a run's own pictures and settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from ..common import notebook
from ..common.bars import reading
from ..common.console import say, say_lines
from ..common.errors import InputError
from ..common.files import new_folder, write_csv
from ..common.packages import require_tensorflow
from ..data.datasets import Dataset
from ..data.labelled import Source
from .balance import require_balance
from .cluster import make_strategy, worker
from .config import TrainConfig
from .optimizers import describe_phases
from .pictures import open_pictures
from .preparation import new_session, require_ready, with_chosen_precision, with_configuration
from .run import RUNS

if TYPE_CHECKING:
    import keras

    from .session import Session

STEPS = 100  # steps of the sweep; each has 1.2 times the rate of the previous one
LOWEST, HIGHEST = 1e-7, 10.0
MEMORY = 0.9  # momentum of the running mean of the loss
DIVERGED = 4.0  # the loss has diverged if its running mean exceeds this multiple of the lowest running mean
LEAST_FALL = 0.02  # share of the first loss by which the mean must fall to be more than noise
BELOW_LOWEST = 0.1  # the suggestion, as a share of the rate with the lowest mean loss, so that the loss still falls


@dataclass(frozen=True)
class LearningRateTest:
    """The result of a learning-rate range test.

    Attributes:
        suggestion: A value for `learning_rate`: a tenth of the rate with the lowest mean loss. None if the loss did not
            fall at any rate.
        rates: The rate of each step.
        losses: The loss of each step's batch, before the step.
        means: The running mean of the losses.
        diverged: Whether the sweep stopped early because the loss diverged.
        folder: The folder with lr.png and lr.csv.
    """

    suggestion: float | None
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    means: tuple[float, ...]
    diverged: bool
    folder: Path

    @property
    def plot(self) -> Path:
        return self.folder / "lr.png"

    def __str__(self) -> str:
        swept = f"{len(self.rates)} steps from {self.rates[0]:.1e} to {self.rates[-1]:.1e}"
        ended = "then the loss diverged" if self.diverged else "without divergence"
        if self.suggestion is None:
            return f"the loss did not fall at any rate ({swept}, {ended}): check the settings and the pictures"
        lowest = self.rates[int(np.argmin(self.means))]
        return (
            f"suggested learning rate: {self.suggestion:.1e}, a tenth of {lowest:.1e}, which had the lowest mean loss "
            f"({swept}, {ended})"
        )

    def _repr_html_(self) -> str:
        return notebook.page(notebook.heading(str(self)), notebook.picture(self.plot, "loss by learning rate", 560))


def find_learning_rate(
    data: str | PathLike[str] | Dataset | None = None,
    *,
    model: str | keras.Model | None = None,
    class_names: Sequence[str] | None = None,
    out: str | PathLike[str] | None = None,
    recipe: str | PathLike[str] | None = None,
    console: Console | None = None,
    **settings: Any,
) -> LearningRateTest:
    """Run a learning-rate range test with the settings of a training run, and suggest a `learning_rate`.

    The learning rate rises from 1e-7 to 10 over 100 steps. The training images are read, augmented and batched as in
    the run. The test stops early if the running mean of the loss exceeds four times its lowest value. With
    `head_epochs`, only the classifier is trained, as in the run's first phase. The trained weights are discarded.

    Args:
        data: The training images, as for `train`.
        model: The network's name or a pretrained model, as for `train`.
        class_names: Class names of a `tf.data.Dataset`, as for `train`.
        out: The folder for lr.png and lr.csv, new or empty. None is the next free number below runs/.
        recipe: The name or TOML file of a recipe, as for `train`.
        console: The console for progress. None is the terminal.
        settings: Further settings, as for `train`. `learning_rate`, `schedule` and `warmup` have no effect.

    Returns:
        The result: `suggestion`, a tenth of the rate with the lowest mean loss, or None if the loss did not fall;
        `rates`, `losses` and `means`, one number per step; `diverged`; and `folder`, which holds the plot.

    Raises:
        ValueError: As in `train`; or there are several workers, or the loss of the first batch is not finite.

    Examples:
        ```python
        settings = {"model": "inception_resnet_v1", "depths": (1, 1, 1), "size": 75}
        test = find_learning_rate("photos", **settings)
        print(test.suggestion, test.plot)
        run = train("photos", learning_rate=test.suggestion or 1e-3, epochs=2, **settings)
        ```
    """
    require_tensorflow("find_learning_rate")
    console = console or Console()
    given: dict[str, Any] = {
        "model": model,
        "class_names": class_names,
        "out": out,
        "recipe": recipe,
        "console": console,
    }
    with with_configuration(data, settings, **given) as (config, folder, _):
        return sweep_config(config, folder, console=console)


def sweep_config(config: TrainConfig, out: Path | None = None, *, console: Console | None = None) -> LearningRateTest:
    """Run the test with a configuration; see `find_learning_rate`."""
    from ..evaluation.plots import plot_learning_rates

    require_tensorflow("find_learning_rate")
    console = console or Console()
    strategy = make_strategy(config)
    if worker(strategy)[1] > 1:
        raise InputError("strategy: the learning-rate test needs a single process; start it without other workers")
    config = config.with_absolute_paths()
    require_ready(config, worker(strategy))
    pictures = [place for place in (config.data, config.val) if place]
    with new_folder(out, RUNS, f"{config.dataset}-{config.model}-lr", pictures) as folder:
        parts = open_pictures(config, console).parts
        require_balance(config, parts.training)
        config = with_chosen_precision(config, strategy, console)
        session = new_session(config, parts, strategy)
        if config.weights is not None:
            say_lines(console, session.load_pretrained(config.weights))
            say(console, f"the rates are tested for the first phase ({describe_phases(config).partition(',')[0]})")
        with reading(console) as bars:
            bar = bars.add_task("testing learning rates", total=STEPS)
            rates, losses, diverged = _sweep(session, parts.training, lambda: bars.advance(bar))
        means = _running_means(losses)
        result = LearningRateTest(_suggestion(rates, means), rates, losses, means, diverged, folder)
        write_csv(folder / "lr.csv", ["learning_rate", "loss", "mean_loss"], zip(rates, losses, means, strict=True))
        plot_learning_rates(rates, losses, means, result.suggestion, result.plot)
    return result


def _sweep(
    session: Session, training: Source, advance: Callable[[], object]
) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """Run the steps until the loss diverges or the highest rate is reached: rates, losses, and whether it diverged."""
    import keras

    from .epochs import training_batches

    ratio = (HIGHEST / LOWEST) ** (1 / (STEPS - 1))
    session.start_phase(session.phase, keras.optimizers.schedules.ExponentialDecay(LOWEST, 1, ratio))
    rates: list[float] = []
    losses: list[float] = []
    diverged = False
    with training.corrupt.raising_input_errors():
        batches = iter(training_batches(session, training, math.ceil(STEPS / session.steps)))
        while len(rates) < STEPS and not diverged:
            images, labels = next(batches)
            loss = float(session.stepper.step(images, labels, len(rates)).numpy()[0])
            if not math.isfinite(loss):
                diverged = True
                break
            rates.append(LOWEST * ratio ** len(rates))
            losses.append(loss)
            advance()
            means = _running_means(losses)
            diverged = means[-1] > DIVERGED * min(means)
    if not losses:
        raise InputError("the loss of the first batch is not finite: check the pictures, the weights and the precision")
    return tuple(rates), tuple(losses), diverged


def _running_means(losses: Sequence[float]) -> tuple[float, ...]:
    """The running mean of the losses, corrected for its start at 0."""
    means, mean = [], 0.0
    for count, loss in enumerate(losses, 1):
        mean = MEMORY * mean + (1 - MEMORY) * loss
        means.append(mean / (1 - MEMORY**count))
    return tuple(means)


def _suggestion(rates: Sequence[float], means: Sequence[float]) -> float | None:
    lowest = int(np.argmin(means))
    if means[lowest] > (1 - LEAST_FALL) * means[0]:
        return None
    return float(f"{BELOW_LOWEST * rates[lowest]:.1e}")

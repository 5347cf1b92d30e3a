"""The paper's finding, small: do residual connections speed up training, and does scaling them matter?

    uv run --extra cpu python examples/residual_impact.py

Trains Inception-v4, Inception-ResNet-v2, and the latter without scaled residuals, each with a quarter of the filters,
from several seeds on the same handwritten digits in the same order for the same number of epochs, with the paper's
RMSProp at one learning rate, 0.005. At the paper's 0.045, which was meant for twenty machines, Inception-v4 does not
begin to learn from single batches of 32: `--learning-rate 0.045` shows it, and guides/measurements.md has both
results. Writes curves.png, learning curves with their spread over the seeds like the paper's Figures 20 to 26, and
figures.json. It prints what the figures show and what they cannot show. On a GPU, with images of your own:

    uv run --extra gpu python examples/residual_impact.py --width 1 --size 299 --epochs 60 --seeds 5 --data FOLDER
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from new_folder import new_folder

from inception_resnet_keras import networks as networks_module
from inception_resnet_keras.common.files import replacing, write_json
from inception_resnet_keras.data.labelled import Source
from inception_resnet_keras.data.parts import held_out_split
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.networks import edits
from inception_resnet_keras.networks.build import build
from inception_resnet_keras.networks.rows import Network
from inception_resnet_keras.networks.trace import stages, trace
from inception_resnet_keras.training.optimizers import TensorFlow1RMSprop
from inception_resnet_keras.training.preparation import batch_norm_momentum_for

PLAIN, RESIDUAL, UNSCALED = "Inception-v4", "Inception-ResNet-v2", "Inception-ResNet-v2, not scaled"

COLOURS = {PLAIN: "#8a8a8a", RESIDUAL: "#0b62a4", UNSCALED: "#c2410c"}

PAIRS = ((PLAIN, RESIDUAL), (UNSCALED, RESIDUAL))

BATCH = 32

PAPERS_RATE, RATE = 0.045, 0.005

STILL_GUESSING = 0.8  # share of the loss of a guess; above it, nothing has been learned

UNSTABLE_ABOVE = 1000  # filters; above, the paper saw unscaled residual networks die


@dataclass(frozen=True)
class Curves:
    """One row per seed, one column per epoch. loss: of training. error: held-out top-1 error, in [0, 1]."""

    loss: list[list[float]]
    error: list[list[float]]

    @property
    def errors(self) -> np.ndarray:
        return np.array(self.error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="one folder of images per class (default: handwritten digits)")
    parser.add_argument("--width", type=float, default=0.25, help="share of the paper's filters (default: %(default)s)")
    parser.add_argument("--size", type=int, default=75, help="side of the images in pixels (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=6, help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="training runs of each network (default: %(default)s)")
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=RATE,
        help=f"to begin with (default: %(default)s; the paper's: {PAPERS_RATE})",
    )
    parser.add_argument("--limit", type=int, help="largest number of training images (default: all)")
    parser.add_argument("--out", type=Path, help="a new folder for the results (default: a temporary one)")
    args = parser.parse_args()
    if not 0 < args.learning_rate < math.inf:
        parser.error(f"--learning-rate: got {args.learning_rate:g}; it takes a number above 0")
    out = new_folder(args.out, "residual-impact")

    size = (args.size, args.size)
    training, held_out = held_out_split(open_source(args.data or "digits"), seed=0)
    if args.limit:
        training = training.take(np.random.default_rng(0).permutation(len(training))[: args.limit])
    found = {}
    for name, network in networks(args.width).items():
        found[name] = trained(
            network, training, held_out, size=size, epochs=args.epochs, seeds=args.seeds, rate=args.learning_rate
        )
        print(f"{name}: held-out error after {args.epochs} epochs {spread(found[name].errors[:, -1])}", flush=True)
    write_json(out / "figures.json", {"asked": vars(args) | {"data": str(args.data), "out": str(out)}} | {
        name: asdict(curves) for name, curves in found.items()
    })  # fmt: skip
    plot(found, f"{len(training):,} pictures, {args.seeds} seeds, {args.width:g} × the width", out / "curves.png")
    print(finding(found, len(training.class_names)), cannot_show(args.width, training, args.learning_rate), sep="\n")
    print(f"everything is in {out}")


def networks(width: float) -> dict[str, Network]:
    """The paper's tables with fewer filters; without scaling, every residual is added as it is."""
    residual = edits.with_width(networks_module.find("inception_resnet_v2"), width)
    return {
        PLAIN: edits.with_width(networks_module.find("inception_v4"), width),
        RESIDUAL: residual,
        UNSCALED: edits.with_scales(residual, [1.0] * len(networks_module.block_names(residual))),
    }


def trained(
    network: Network,
    training: Source,
    held_out: Source,
    *,
    size: tuple[int, int],
    epochs: int,
    seeds: int,
    rate: float,
) -> Curves:
    """Trains a network from several seeds: it is compiled once and reset to the initial weights of each seed."""
    images, held_images = (source.read_all(size).astype(np.float32) for source in (training, held_out))
    steps = -(-len(training) // BATCH)
    options = {
        "input_shape": images.shape[1:],
        "include_preprocessing": True,
        "batch_norm_momentum": batch_norm_momentum_for(epochs * steps),
    }
    model = build(network, len(training.class_names), **options)
    optimizer = papers_optimizer(rate, steps)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    optimizer.build(model.trainable_variables)
    start = [variable.numpy() for variable in optimizer.variables]
    curves = Curves([], [])
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        model.set_weights(build(network, len(training.class_names), **options).get_weights())
        for variable, value in zip(optimizer.variables, start, strict=True):
            variable.assign(value)
        history = model.fit(
            images,
            training.labels,
            batch_size=BATCH,
            epochs=epochs,
            validation_data=(held_images, held_out.labels),
            verbose=0,
        ).history
        curves.loss.append(history["loss"])
        curves.error.append([1 - accuracy for accuracy in history["val_accuracy"]])
    return curves


def papers_optimizer(rate: float, steps: int) -> keras.optimizers.Optimizer:
    """RMSProp of the paper's Section 4: its rate is multiplied by 0.94 every two epochs of `steps` steps."""
    decay = keras.optimizers.schedules.ExponentialDecay(rate, 2 * steps, 0.94, staircase=True)
    return TensorFlow1RMSprop(decay, rho=0.9, momentum=0.9, epsilon=1.0)


def plot(found: dict[str, Curves], title: str, path: Path) -> None:
    """Held-out error above, training loss below; a line is the mean of the seeds, a band their range."""
    figure = Figure(figsize=(10, 6.6), layout="constrained")
    figure.suptitle(title)
    grid = figure.subplots(2, len(PAIRS), sharex=True, sharey="row")
    for column, pair in enumerate(PAIRS):
        for name in pair:
            curve(grid[0, column], found[name].errors, name)
            curve(grid[1, column], np.array(found[name].loss), name)
        grid[0, column].legend(frameon=False)
        grid[1, column].set_xlabel("epoch")
    grid[0, 0].set_ylabel("held-out top-1 error")
    grid[1, 0].set_ylabel("training loss")
    grid[0, 0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    grid[1, 0].set_yscale("log")
    with replacing(path) as beside:
        figure.savefig(beside, dpi=110)


def curve(axis: Axes, rows: np.ndarray, name: str) -> None:
    epochs = np.arange(1, rows.shape[1] + 1)
    axis.plot(epochs, rows.mean(axis=0), color=COLOURS[name], label=name, linewidth=2)
    axis.fill_between(epochs, rows.min(axis=0), rows.max(axis=0), color=COLOURS[name], alpha=0.2, linewidth=0)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def finding(found: dict[str, Curves], classes: int) -> str:
    """The conclusion from the figures, whichever way they come out."""
    said = [compared(name, found[name].errors, other, found[other].errors) for other, name in PAIRS]
    guessing = math.log(classes)
    for name, curves in found.items():
        loss = float(np.mean([row[-1] for row in curves.loss]))
        if loss > STILL_GUESSING * guessing:
            said.append(
                f"{name} has not begun to learn: its training loss ends at {loss:.2f}, and guessing has "
                f"{guessing:.2f}. Whether it only needs longer, or another learning rate, this does not tell."
            )
    return "\n".join(said)


def compared(name: str, errors: np.ndarray, other: str, others: np.ndarray) -> str:
    """Compares two networks' held-out errors, (seeds, epochs) each, by the ranges of the seeds, not only the means."""
    better = (errors.max(axis=0) < others.min(axis=0)).sum()
    worse = (errors.min(axis=0) > others.max(axis=0)).sum()
    epochs = errors.shape[1]
    target = others.mean(axis=0)[-1]
    reached = np.flatnonzero(errors.mean(axis=0) <= target)
    pace = (
        f"it reaches the mean error that {other} ends with, {target:.1%}, in epoch {reached[0] + 1} of {epochs}"
        if len(reached)
        else f"it does not reach the mean error that {other} ends with, {target:.1%}, in {epochs} epochs"
    )
    return (
        f"{name} against {other}: every seed of it is better than every seed of the other in {better} of {epochs} "
        f"epochs, worse in {worse}, and their ranges overlap in {epochs - better - worse}; {pace}. "
        f"At the end: {spread(errors[:, -1])} against {spread(others[:, -1])}."
    )


def spread(values: np.ndarray) -> str:
    return f"{values.mean():.1%} ({values.min():.1%} to {values.max():.1%})"


def cannot_show(width: float, training: Source, rate: float) -> str:
    """The questions that a run of this size leaves open."""
    narrow = networks(width)
    widest = max(node.shape[-1] for node in trace(narrow[UNSCALED], classes=None))
    macs = {name: sum(stage.macs or 0 for stage in stages(trace(narrow[name]))) for name in (PLAIN, RESIDUAL)}
    whose = "the paper's" if rate == PAPERS_RATE else f"{rate:g} where the paper has {PAPERS_RATE:g}"
    where = "wider" if widest > UNSTABLE_ABOVE else "narrower"
    return (
        f"What it cannot show: the paper trains on 1.28 million pictures of 1,000 classes, not {len(training):,} of "
        f"{len(training.class_names)}, and to convergence. It saw unscaled residuals die above {UNSTABLE_ABOVE:,} "
        f"filters after tens of thousands of steps; the widest map here has {widest:,} and is {where}. One learning "
        f"rate, {whose}, is tried for all. A picture costs {PLAIN} {macs[PLAIN] / macs[RESIDUAL]:.2f} times the "
        f"multiply-adds of {RESIDUAL}, so an epoch is not the same time for both."
    )


if __name__ == "__main__":
    main()

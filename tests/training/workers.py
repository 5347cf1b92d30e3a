"""One worker of a test: the command line, and what it ends with in a file of its own.

`python -m tests.training.workers FILE train …` writes FILE.N.npz, N the worker's number.
"""

import sys

import numpy as np

from inception_resnet_keras import networks
from inception_resnet_keras.cli import main
from inception_resnet_keras.data.labelled import Source
from inception_resnet_keras.training.epochs import Trainer
from inception_resnet_keras.training.session import Position
from inception_resnet_keras.training.step import StepMetrics

from ..tiny import FEW


def run(file: str, arguments: list[str]) -> int:
    losses: list[float] = []
    add_step, train = Position.add_step, Trainer.train

    def noted(self: Position, metrics: StepMetrics) -> None:
        losses.append(metrics.loss)
        add_step(self, metrics)

    def kept(self: Trainer) -> tuple[Source, np.ndarray]:
        found = train(self)
        weights = {weight.path.replace("/", "."): weight.numpy() for weight in self.session.model.weights}
        together = self.session.stepper.sum_over_workers(np.full(3, self.shard[0] + 1, np.float32))
        np.savez(f"{file}.{self.shard[0]}.npz", losses=np.array(losses), together=together, **weights)
        return found

    Position.add_step, Trainer.train = noted, kept  # type: ignore[method-assign]
    networks.NETWORKS[FEW.name] = {FEW.variant: FEW}
    return main(arguments)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))

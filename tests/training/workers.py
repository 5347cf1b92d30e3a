"""What a worker of a test ends with, in a file of its own."""

import numpy as np

from inception_resnet_keras.data.labelled import Source
from inception_resnet_keras.training.epochs import Trainer
from inception_resnet_keras.training.session import Position
from inception_resnet_keras.training.step import StepMetrics


def note(file: str) -> None:
    """Have this process's training write its losses and weights to FILE.N.npz, N the worker's number."""
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

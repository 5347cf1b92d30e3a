"""Small models as files, to be evaluated."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from inception_resnet_keras.models.model_file import Card, save_model
from inception_resnet_keras.networks.rows import Network

from .. import tiny


def write_model(
    path: Path, classes: Sequence[str] = "012", side: int = tiny.SIDE, seed: int = 1, network: Network = tiny.FEW
) -> Path:
    """A small network with random weights, that takes pixels and gives the classes' probabilities."""
    built = tiny.build(network, num_classes=len(classes), input_shape=(side, side, 3), include_preprocessing=True)
    model = tiny.randomised(built, seed)
    logits = model.get_layer("logits")
    noise = np.random.default_rng(seed).uniform(0, 255, (16, side, side, 3)).astype(np.float32)
    features = keras.ops.convert_to_numpy(keras.Model(model.input, logits.input)(noise))
    logits.kernel.assign(
        keras.ops.convert_to_numpy(logits.kernel) / np.abs(features).mean()
    )  # else the likeliest class has all
    save_model(model, path, Card(network.name, "paper", list(classes), (side, side)))
    return path

"""A training process that a test kills: started from a server that has the engines imported already."""

import sys
from pathlib import Path

import tensorflow as tf  # noqa: F401 - imported in the server, so that each process starts at once

from inception_resnet_keras import spec
from inception_resnet_keras.cli import main
from inception_resnet_keras.training import keeper, runner, session  # noqa: F401
from tests.tiny import TINY


def train(arguments: list[str], said: str) -> None:
    """The command line, its output in the file `said`."""
    spec.NETWORKS[TINY.name] = {TINY.variant: TINY}
    with Path(said).open("a", buffering=1) as file:
        sys.stdout = sys.stderr = file
        status = main(arguments)
    sys.exit(status)

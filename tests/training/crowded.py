"""A step that asks for a gigabyte a picture, where eight are to be had: `python -m tests.training.crowded BATCH`."""

import resource
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from inception_resnet_keras import networks
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.training.cluster import make_strategy
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.session import Session
from inception_resnet_keras.training.step import Stepper
from inception_resnet_keras.training.trouble import explain_out_of_memory

from ..tiny import FEW, SIDE

GIGABYTE = 10**9


class Hungry(keras.layers.Layer):
    """Gives back what it gets, and holds a gigabyte a picture meanwhile, which is never touched."""

    def call(self, images: tf.Tensor) -> tf.Tensor:
        held = tf.raw_ops.Empty(shape=[tf.shape(images)[0], GIGABYTE], dtype=tf.int8)
        with tf.control_dependencies([held]):
            return tf.identity(images)


if __name__ == "__main__":
    batch = int(sys.argv[1])
    networks.NETWORKS[FEW.name] = {FEW.variant: FEW}
    config = TrainConfig(model=FEW.name, size=SIDE, batch_size=batch)
    session = Session(config, ["a", "b", "c"], 10, 0.9, make_strategy(config))
    hungry = keras.Model(session.model.input, session.model(Hungry()(session.model.input)))
    session.stepper = Stepper(hungry, session.optimizer, config, session.strategy)
    images, labels = np.ones((batch, SIDE, SIDE, 3), np.float32), np.arange(batch) % 3
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 8 * GIGABYTE
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        with explain_out_of_memory(session, images, labels, Console()):
            session.stepper.compute(images, labels)
    except InputError as error:
        print(error)
    else:
        print("it fits")

"""Keras on TensorFlow: our networks and `keras.applications`, in graph mode or compiled by XLA."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..common.devices import use_gpus
from ..models.model_file import Card, load_model
from ..models.runtimes import use_threads
from .contenders import Contender
from .engines import CLASSES, Engine, Setting, Step, fitting, pictures

GPU = "GPU:0"

RATE = 1e-3  # small: what is timed must stay finite


class KerasEngine(Engine):
    def __init__(self, contender: Contender, files: dict[str, str], setting: Setting) -> None:
        if setting.threads is not None:
            use_threads(setting.threads)
        gpus = use_gpus() if setting.device == "gpu" else []
        if setting.device == "gpu" and not gpus:
            raise RuntimeError("TensorFlow sees no GPU")
        if contender.precision == "tf32" and not gpus:
            raise RuntimeError("TF32 is of NVIDIA's GPUs")
        tf.config.experimental.enable_tensor_float_32_execution(contender.precision == "tf32")
        self.contender, self.files, self.setting = contender, files, setting
        self.device = GPU if gpus else "CPU:0"
        self.policy = contender.precision if contender.precision.startswith("mixed_") else "float32"
        self.xla = contender.engine == "xla"
        self.card: Card | None = None

    def inference(self, batch: int) -> Step:
        images = self._on_device(self._as_taken(pictures(batch, self.setting.size)))
        run = self._run
        return lambda: run(images)

    def training(self, batch: int) -> Step:
        return self._theirs(batch) if self.contender.kind == "applications" else self._ours(batch)

    def predict(self, images: np.ndarray) -> np.ndarray:
        return self._run(self._on_device(self._as_taken(images))).numpy()

    def wait(self, handle: Any) -> None:
        if isinstance(handle, tf.Tensor):  # train_on_batch has waited already
            handle.numpy()

    def reset_memory(self) -> None:
        if self.device == GPU:
            tf.config.experimental.reset_memory_stats(GPU)

    def device_memory(self) -> int | None:
        return tf.config.experimental.get_memory_info(GPU)["peak"] if self.device == GPU else None

    def facts(self) -> dict[str, Any]:
        if self.device == GPU:
            details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
            build_info = tf.sysconfig.get_build_info()
            found: dict[str, Any] = {
                "device": details.get("device_name", "GPU"),
                "compute_capability": details.get("compute_capability"),
                "cuda_version": build_info.get("cuda_version"),
                "cudnn_version": build_info.get("cudnn_version"),
            }
        else:
            found = {"device": "CPU"}
        if self.card is not None:
            found |= {"network": [self.card.network, self.card.variant], "classes": len(self.card.classes)}
        return found

    @cached_property
    def model(self) -> keras.Model:
        if self.contender.kind == "applications":
            keras.config.set_dtype_policy(self.policy)
            shape = (self.setting.size, self.setting.size, 3)
            theirs = keras.applications.InceptionResNetV2
            return theirs(weights=self.files["weights"], input_shape=shape, classes=CLASSES)
        model, card = load_model(Path(self.files["model"]))
        self.card = fitting(card, self.setting.size)
        if self.policy == "float32":
            return model
        from ..deploy.prepare import in_policy

        return in_policy(model, self.policy)

    @cached_property
    def _run(self) -> Any:
        model = self.model  # opened before a graph is traced, in which nothing would be read

        def outputs(images: tf.Tensor) -> tf.Tensor:
            return tf.cast(model(images, training=False), tf.float32)

        return tf.function(outputs, autograph=False, jit_compile=self.xla)

    def _as_taken(self, images: np.ndarray) -> np.ndarray:
        """Ours scale pixels inside the network; a peer is given what it takes."""
        return images / 127.5 - 1 if self.contender.kind == "applications" else images

    def _on_device(self, values: np.ndarray) -> tf.Tensor:
        with tf.device(f"/{self.device}"):
            return tf.identity(tf.constant(values))

    def _ours(self, batch: int) -> Step:
        """The production step of `inception-resnet-keras train`, on one batch over and over."""
        from ..training.cluster import make_strategy
        from ..training.config import TrainConfig
        from ..training.session import Session

        network = self.contender.network
        assert network is not None
        config = TrainConfig(
            model=network.name,
            variant=network.variant,
            size=self.setting.size,
            batch_size=batch,
            optimizer="sgd",
            schedule="constant",
            warmup=0.0,
            learning_rate=RATE,
            precision=self.policy,
            jit=self.xla,
            strategy="one",
        )
        session = Session(config, [str(number) for number in range(CLASSES)], 1000, 0.99, make_strategy(config))
        images = self._on_device(pictures(batch, self.setting.size))
        labels = self._on_device(np.arange(batch, dtype=np.int64) % CLASSES)
        stepper, steps = session.stepper, self.setting.steps
        if steps > 1:
            return lambda: stepper.repeat(images, labels, steps)
        return lambda: stepper.apply(stepper.compute(images, labels)[1], 0)  # which waits for its figures between

    def _theirs(self, batch: int) -> Step:
        """Keras's own step, by `train_on_batch`."""
        if self.setting.steps > 1:
            raise NotImplementedError("train_on_batch takes one step a call")
        if self.model.optimizer is None:
            self.model.compile(
                keras.optimizers.SGD(RATE, momentum=0.9, nesterov=True),
                "sparse_categorical_crossentropy",
                metrics=["accuracy"],
                jit_compile=self.xla,
            )
        images = self._on_device(self._as_taken(pictures(batch, self.setting.size)))
        labels = self._on_device(np.arange(batch, dtype=np.int64) % CLASSES)
        return lambda: self.model.train_on_batch(images, labels)

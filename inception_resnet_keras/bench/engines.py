"""How a contender runs, inside its own process: one class an engine, all with the same few verbs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..models.model_file import Card
from .contenders import IN_TENSORFLOW, IN_TORCH, Contender

Step = Callable[[], Any]

CLASSES = 1000


@dataclass(frozen=True)
class Setting:
    """What all contenders of a run have in common.

    size: side of the pictures. batch: the first to be measured, by which outputs are checked too.
    device: "cpu" or "gpu". threads: that each may compute with, None for its own choice.
    steps: training steps a call, where an engine can take several.
    """

    size: int
    batch: int
    device: str = "cpu"
    threads: int | None = None
    steps: int = 1


class Engine(ABC):
    """A network ready to run.

    A step computes one batch that lies on the device already and returns a handle; `wait` returns
    when the handle's numbers are there.
    """

    @abstractmethod
    def inference(self, batch: int) -> Step:
        """A step of so many pictures."""

    def training(self, batch: int) -> Step:
        """A step (or `Setting.steps` of them) of the optimizer, with its loss as handle."""
        raise NotImplementedError("this engine does not train")

    @abstractmethod
    def predict(self, images: np.ndarray) -> np.ndarray:
        """float32 outputs of (n, size, size, 3) pixels of 0-255."""

    def wait(self, handle: Any) -> None:
        return None

    def reset_memory(self) -> None:
        return None

    def device_memory(self) -> int | None:
        """The most bytes held on the GPU since `reset_memory`; None where there is none."""
        return None

    def facts(self) -> dict[str, Any]:
        """What it runs on."""
        return {"device": "CPU"}


class RuntimeEngine(Engine):
    """An exported model, by its own library: neither TensorFlow nor Keras is imported."""

    def __init__(self, path: Path, setting: Setting) -> None:
        from ..models.runtimes import open_runtime

        self.runtime = open_runtime(path, threads=setting.threads)
        fitting(self.runtime.card, setting.size)

    def inference(self, batch: int) -> Step:
        images = pictures(batch, self.runtime.card.size[0])
        return lambda: self.runtime.run(images)

    def predict(self, images: np.ndarray) -> np.ndarray:
        return self.runtime.run(images)

    def facts(self) -> dict[str, Any]:
        card = self.runtime.card
        found = {"device": "CPU", "network": [card.network, card.variant], "classes": len(card.classes)}
        return {**found, "precision": getattr(card, "precision", "float32")}


def pictures(batch: int, size: int) -> np.ndarray:
    """Synthetic pixels of 0-255: no engine here is faster on some than on others."""
    return np.random.default_rng(0).random((batch, size, size, 3), np.float32) * np.float32(255)


def fitting(card: Card, size: int) -> Card:
    """The card; ValueError where its model takes pictures of another size."""
    if card.size != (size, size):
        raise ValueError(f"it takes pictures of {card.size[0]}×{card.size[1]}: give --size {card.size[0]}")
    return card


def open_engine(contender: Contender, files: dict[str, str], setting: Setting) -> Engine:
    """files: what was made for it: "model" (a .keras file or an export), "weights" of a peer."""
    if contender.engine in IN_TENSORFLOW:
        from .keras_engine import KerasEngine

        return KerasEngine(contender, files, setting)
    if contender.engine in IN_TORCH:
        from .torch_engine import TorchEngine

        return TorchEngine(contender, files, setting)
    return RuntimeEngine(Path(files["model"]), setting)

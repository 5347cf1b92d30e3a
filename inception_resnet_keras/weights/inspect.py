"""What a checkpoint is, and which factory call loads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from .. import networks
from ..common.errors import InputError
from ..networks import names
from ..networks.rows import Network
from .convert import ours
from .convert.engine import in_keras_layout
from .convert.identify import Identity, factory_call, identify
from .convert.slim import EMA
from .readers import open_checkpoint
from .registry import WEIGHTS
from .settings import scales, settings


@dataclass(frozen=True)
class Finding:
    """A checkpoint, looked at by names and shapes only.

    score: The share of the network's trunk that is there. classes: None without a classifier.
    depths: Where they are not the variant's own. parameters: Numbers in the whole file.
    settings: What the file says of itself beside its weights, as the factory's arguments.
    embedding: How wide the file's is; None without one. averages: Whether it has running averages (ema).
    """

    path: str
    format: str
    source: str
    network: Network
    score: float
    classes: int | None
    aux_head: bool
    depths: tuple[int, ...] | None
    tensors: int
    parameters: int
    settings: dict[str, Any] = field(default_factory=dict)
    embedding: int | None = None
    averages: bool = False

    @property
    def include_top(self) -> bool:
        """Whether a head of the file fits one that the factory builds."""
        if self.embedding is not None and self.embedding != self.network.embedding:
            return False
        return self.classes is not None or self.embedding is not None

    @property
    def options(self) -> dict[str, Any]:
        """The factory's arguments that differ from its defaults."""
        options: dict[str, Any] = {"variant": self.network.variant}
        if self.depths:
            options["depths"] = self.depths
        if self.classes is not None and self.include_top:
            options["num_classes"] = self.classes
        if not self.include_top:
            options["include_top"] = False
        if self.aux_head:
            options["aux_head"] = True
        side = input_side(self.network)
        options |= {"input_shape": (side, side, 3)} | self.settings
        usual = {"input_shape": (299, 299, 3), "include_preprocessing": False, "pooling": None}
        usual |= {"classifier_activation": "softmax", "scale": self._scales}
        return {key: value for key, value in options.items() if key not in usual or usual[key] != value}

    @property
    def _scales(self) -> tuple[float, ...] | None:
        return scales(self.network) if networks.is_residual(self.network) else None

    @property
    def call(self) -> str:
        return factory_call(self.network.name, {**self.options, "weights": self.path})

    def __str__(self) -> str:
        classes = "no classifier" if self.classes is None else f"{self.classes} classes"
        head = "an auxiliary head" if self.aux_head else "no auxiliary head"
        pixels = f"preprocess_input(x, {self.network.preprocessing.name!r})"
        if self.settings.get("include_preprocessing"):
            pixels = "takes pixels of 0-255 as they are: the model scales them itself"
        also = []
        if self.embedding is not None and self.embedding != self.network.embedding:
            also.append(f"  its embedding is {self.embedding} wide, which no factory builds: its trunk is loaded alone")
        if self.averages:
            also.append("  has running averages beside its weights: load_weights(model, path, ema=True) takes them")
        if networks.is_residual(self.network) and self.source == ours.TABLE.source and "scale" not in self.settings:
            also.append("  the residual scales are not in the file: the variant's own are assumed")
        loaded = f"loaded by {self.call}" if self.score == 1 else "incomplete: no call loads it"
        return "\n".join(
            [
                f"{self.path}: {self.format}, {self.tensors} tensors, {self.parameters:,} numbers",
                f"  {self.source}'s {self.network.name} ({self.network.variant}), {self.score:.0%} of it there",
                f"  {classes}, {head}",
                f"  {pixels}",
                *also,
                f"  {loaded}",
            ]
        )


def inspect_checkpoint(path: str | PathLike[str]) -> Finding:
    """Recognise a checkpoint of this project or another by the names and shapes of its tensors.

    Args:
        path: A file or TensorFlow checkpoint of any format that `load_weights` reads.

    Returns:
        The network, variant, classes and settings of the file; its `call` is the factory call that loads it.

    Raises:
        ValueError: The file is missing, damaged, or of no known format or network.

    Examples:
        ```python
        print(inspect_checkpoint("inception_v4.ckpt").call)
        ```
    """
    with open_checkpoint(path) as checkpoint:
        shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
        found = identify(shapes)
        if found is None:
            first = ", ".join(list(shapes)[:5]) or "none"
            if any("/layers/" in name for name in shapes):
                first += "; a network inside another model is saved alone: model.get_layer(...).save(path)"
            raise InputError(f"{path}: is of no network that is known here; its tensors begin: {first}")
        classes, embedding = _classes(found, shapes), _width(found, shapes, names.EMBEDDING)
        own_settings = settings(checkpoint, found.network, include_top=(classes or embedding) is not None)
        return Finding(
            path=str(path),
            format=checkpoint.format,
            source=found.table.source,
            network=found.network,
            score=found.score,
            classes=classes,
            aux_head=_has(found, f"{names.AUX}_{names.LOGITS}/kernel"),
            depths=found.options.get("depths"),
            tensors=len(shapes),
            parameters=sum(tensor.size for tensor in checkpoint.tensors.values()),
            settings=own_settings,
            embedding=embedding,
            averages=any(name.endswith(EMA) for name in shapes),
        )


def input_side(network: Network) -> int:
    """Pixels a side that the variant's published weights were trained with; 299 where there are none."""
    sides = [w.size for w in WEIGHTS.values() if (w.network, w.variant) == (network.name, network.variant)]
    return sides[0] if sides else 299


def _has(found: Identity, key: str) -> bool:
    origin = found.origins.get(key)
    return origin is not None and origin.name in found.names


def _classes(found: Identity, shapes: dict[str, tuple[int, ...]]) -> int | None:
    return _width(found, shapes, names.LOGITS)


def _width(found: Identity, shapes: dict[str, tuple[int, ...]], head: str) -> int | None:
    """Of a head's dense layer; None where the file has none."""
    keys = [key for key, origin in found.origins.items() if origin.slot.place == head and origin.role == "kernel"]
    key = keys[0] if keys else ""
    if not _has(found, key):
        return None
    return in_keras_layout(shapes[found.names[found.origins[key].name]], found.table.channels_first)[-1]

"""What a checkpoint is, and which factory call loads it."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Any

from .. import spec
from ..errors import InputError
from ..spec import names
from ..spec.rows import Network
from .convert.engine import in_keras_layout
from .convert.identify import Identity, identify
from .readers import open_checkpoint
from .registry import WEIGHTS


@dataclass(frozen=True)
class Finding:
    """A checkpoint, looked at by names and shapes only.

    score: The share of the network's trunk that is there. classes: None without a classifier.
    depths: Where they are not the variant's own. parameters: Numbers in the whole file.
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

    @property
    def include_top(self) -> bool:
        return self.classes is not None or self.network.embedding is not None

    @property
    def options(self) -> dict[str, Any]:
        """The factory's arguments that differ from its defaults."""
        options: dict[str, Any] = {"variant": self.network.variant}
        if self.depths:
            options["depths"] = self.depths
        if self.classes is not None:
            options["num_classes"] = self.classes
        if not self.include_top:
            options["include_top"] = False
        if self.aux_head:
            options["aux_head"] = True
        side = input_side(self.network)
        return options if side == 299 else options | {"input_shape": (side, side, 3)}

    @property
    def call(self) -> str:
        options = {**self.options, "weights": self.path}
        return f"create_{self.network.name}({', '.join(f'{key}={value!r}' for key, value in options.items())})"

    def __str__(self) -> str:
        classes = "no classifier" if self.classes is None else f"{self.classes} classes"
        head = "an auxiliary head" if self.aux_head else "no auxiliary head"
        return "\n".join(
            [
                f"{self.path}: {self.format}, {self.tensors} tensors, {self.parameters:,} numbers",
                f"  {self.source}'s {self.network.name} ({self.network.variant}), {self.score:.0%} of it there",
                f"  {classes}, {head}",
                f"  preprocess_input(x, {self.network.preprocessing.name!r})",
                f"  loaded by {self.call}",
            ]
        )


def inspect(path: str | PathLike[str]) -> Finding:
    """What a checkpoint is; InputError where it is of no format or network that is known here."""
    with open_checkpoint(path) as checkpoint:
        shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
        found = identify(shapes)
        if found is None:
            first = ", ".join(list(shapes)[:5]) or "none"
            raise InputError(f"{path}: is of no network that is known here; its tensors begin: {first}")
        own = spec.find(found.network.name, found.network.variant)
        return Finding(
            path=str(path),
            format=checkpoint.format,
            source=found.table.source,
            network=found.network,
            score=found.score,
            classes=_classes(found, shapes),
            aux_head=_has(found, f"{names.AUX}_{names.LOGITS}/kernel"),
            depths=None if found.network == own else spec.depths(found.network),
            tensors=len(shapes),
            parameters=sum(tensor.size for tensor in checkpoint.tensors.values()),
        )


def input_side(network: Network) -> int:
    """Pixels a side that the variant's published weights were trained with; 299 where there are none."""
    sides = [w.size for w in WEIGHTS.values() if (w.network, w.variant) == (network.name, network.variant)]
    return sides[0] if sides else 299


def _has(found: Identity, key: str) -> bool:
    origin = found.origins.get(key)
    return origin is not None and origin.name in found.names


def _classes(found: Identity, shapes: dict[str, tuple[int, ...]]) -> int | None:
    key = f"{names.LOGITS}/kernel"
    if not _has(found, key):
        return None
    return in_keras_layout(shapes[found.names[found.origins[key].name]], found.table.channels_first)[-1]

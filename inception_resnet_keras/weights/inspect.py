"""What a checkpoint is, and which factory call loads it."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Any

from .. import networks
from ..common.console import printable
from ..common.errors import InputError
from ..networks.recognise import NetworkDescription
from ..networks.rows import Network
from .identify import identify_checkpoint
from .readers import open_checkpoint
from .readers.checkpoint import no_checksums
from .sources import OURS


@dataclass(frozen=True)
class Finding:
    """A checkpoint, looked at by names and shapes only.

    source: The project whose names it has. description: The network in it.
    parameters: Numbers in the whole file. averages: Whether it has running averages (ema).
    prefix: What stands before the network's names in the file; "" for nothing.
    checksums: Whether the format has checksums over the values, so that a damaged number is noticed.
    """

    path: str
    format: str
    source: str
    description: NetworkDescription
    tensors: int
    parameters: int
    averages: bool = False
    prefix: str = ""
    checksums: bool = True

    @property
    def network(self) -> Network:
        return self.description.network

    @property
    def score(self) -> float:
        return self.description.score

    @property
    def classes(self) -> int | None:
        return self.description.classes

    @property
    def settings(self) -> dict[str, Any]:
        """What the file says of itself beside its weights, as the factory's arguments."""
        return self.description.settings()

    @property
    def options(self) -> dict[str, Any]:
        """The factory's arguments that differ from its defaults."""
        return self.description.factory_options()

    @property
    def loads(self) -> bool:
        """Whether a factory builds the network of the file: it is whole, and its graph is the table's."""
        return self.score == 1 and not self.description.departures

    @property
    def call(self) -> str | None:
        """The factory call that loads the file, as text; None where there is none."""
        return self.description.factory_call(weights=self.path) if self.loads else None

    def as_json(self) -> dict[str, Any]:
        """What is known of the file. `arguments` are the factory's, `call` is the same as text; null for no call."""
        found = self.description
        return {
            "path": self.path,
            "format": self.format,
            "source": self.source,
            "network": found.name,
            "variant": found.variant,
            "score": self.score,
            "depths": list(found.depths),
            "scales": None if found.scales is None else list(found.scales),
            "channels": found.channels,
            "input_shape": None if found.input_shape is None else list(found.input_shape),
            "padding": found.padding if found.configured else None,
            "output_stride": found.output_stride,
            "include_preprocessing": found.include_preprocessing,
            "preprocessing": found.preprocessing.name,
            "classes": found.classes,
            "aux_classes": found.aux_classes,
            "embedding": found.embedding,
            "tensors": self.tensors,
            "parameters": self.parameters,
            "averages": self.averages,
            "prefix": self.prefix,
            "checksums": self.checksums,
            "departures": list(found.departures),
            "factory": f"create_{found.name}" if self.loads else None,
            "arguments": self.options | {"weights": self.path} if self.loads else None,
            "call": self.call,
        }

    def __str__(self) -> str:
        found = self.description
        classes = "no classifier" if found.classes is None else f"{found.classes} classes"
        head = "an auxiliary head" if found.aux_head else "no auxiliary head"
        pixels = f"preprocess_input(x, {found.preprocessing.name!r})"
        if found.include_preprocessing:
            pixels = "takes pixels of 0-255 as they are: the model scales them itself"
        also = []
        if self.prefix:
            also.append(f"  its names begin with {self.prefix!r}, which is stripped")
        if found.embedding is not None and found.embedding != found.network.embedding:
            also.append(
                f"  its embedding is {found.embedding} wide, which no factory builds: its trunk is loaded alone"
            )
        if self.averages:
            also.append("  has running averages beside its weights: load_weights(model, path, ema=True) takes them")
        if unknown := self._unknown():
            also.append(f"  not in the file: {', '.join(unknown)}; those of the variant are assumed")
        if not self.checksums:
            also.append(f"  {no_checksums(self.path)}")
        loaded = f"loaded by {self.call}" if self.loads else "incomplete: no call loads it"
        if found.departures:
            shown = "; ".join(found.departures[:3])
            loaded = f"no call builds its graph, which is not the table's ({shown}): it is used as the file that it is"
        lines = [
            f"{self.path}: {self.format}, {self.tensors} tensors, {self.parameters:,} numbers",
            f"  {self.source}'s {found.name} ({found.variant}), {found.score:.0%} of it there",
            f"  {', '.join([classes, head, *networks.edited(found.network)])}",
            f"  {pixels}",
            *also,
            f"  {loaded}",
        ]
        return "\n".join(map(printable, lines))

    def _unknown(self) -> list[str]:
        """What our own weights do not show of the network that they were trained in."""
        found = self.description
        if self.source != OURS.source:
            return []
        unknown = ["residual scales"] if networks.is_residual(found.network) and found.scales is None else []
        if not found.configured:
            unknown.append("padding")
            if found.output_stride is None:  # 8 shows by the layers that it leaves out
                unknown.append("output stride")
        return unknown


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
        found = identify_checkpoint(checkpoint)
        if found is None:
            first = ", ".join(list(checkpoint.tensors)[:5]) or "none"
            raise InputError(f"{path}: is of no network that is known here; its tensors begin: {first}")
        return Finding(
            path=str(path),
            format=checkpoint.format,
            source=found.table.source,
            description=found.description,
            tensors=len(checkpoint.tensors),
            parameters=sum(tensor.size for tensor in checkpoint.tensors.values()),
            averages=found.averages,
            prefix=found.sets.prefix,
            checksums=checkpoint.checksums,
        )

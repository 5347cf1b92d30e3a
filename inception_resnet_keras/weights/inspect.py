"""Describes a checkpoint, and the factory call that loads it."""

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
    """What `inspect_checkpoint` returns: a checkpoint described by its tensors' names and shapes.

    `print` shows it in a few lines; `as_json` returns it as a dict.

    Attributes:
        path: The path as given.
        format: The file's format, in words.
        source: The project whose names the tensors have.
        description: The network in the file.
        tensors: Number of tensors in the file.
        parameters: Number of values in the file.
        averages: Whether the file has running averages of the weights (`ema`).
        prefix: Prefix of the network's names in the file; "" without one.
        checksums: Whether the format has checksums over the values, so that damaged values are detected.
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
        """The table of the network in the file."""
        return self.description.network

    @property
    def score(self) -> float:
        """Share of the network's weights that the file has with the right name and shape, 0 to 1."""
        return self.description.score

    @property
    def classes(self) -> int | None:
        """Width of the classifier; None without one."""
        return self.description.classes

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the file stores beside its weights, as the factory's arguments."""
        return self.description.settings()

    @property
    def options(self) -> dict[str, Any]:
        """The factory's arguments that differ from its defaults."""
        return self.description.factory_options()

    @property
    def loads(self) -> bool:
        """Whether a factory can build the file's network: it is complete, and its graph is the table's."""
        return self.score == 1 and not self.description.departures

    @property
    def call(self) -> str | None:
        """The factory call that loads the file, as text; None if there is none."""
        return self.description.factory_call(weights=self.path) if self.loads else None

    def as_json(self) -> dict[str, Any]:
        """All fields as JSON values. `arguments` are the factory's, `call` is the call as text; None without a call."""
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
        # What the network is, what it takes, further properties, and how to load it.
        found = self.description
        classes = "no classifier" if found.classes is None else f"{found.classes} classes"
        head = "an auxiliary head" if found.aux_head else "no auxiliary head"
        pixels = f"preprocess_input(x, {found.preprocessing.name!r})"
        if found.include_preprocessing:
            pixels = "takes pixels of 0-255: the model scales them itself"
        also = []
        if self.prefix:
            also.append(f"  its names begin with {self.prefix!r}, which is removed")
        if found.embedding is not None and found.embedding != found.network.embedding:
            also.append(
                f"  its embedding has {found.embedding} numbers, which no factory builds: only its trunk can be loaded"
            )
        if self.averages:
            also.append("  has running averages of its weights: load_weights(model, path, ema=True) loads them")
        if unknown := self._unknown():
            also.append(f"  not in the file: {', '.join(unknown)}; the variant's own are assumed")
        if not self.checksums:
            also.append(f"  {no_checksums(self.path)}")
        loaded = f"loaded by {self.call}" if self.loads else "incomplete: no call loads it"
        if found.departures:
            shown = "; ".join(found.departures[:3])
            loaded = f"no call builds its graph, which differs from the table's ({shown}): use the file as a model"
        lines = [
            f"{self.path}: {self.format}, {self.tensors} tensors, {self.parameters:,} numbers",
            f"  {self.source}'s {found.name} ({found.variant}), {found.score:.0%} complete",
            f"  {', '.join([classes, head, *networks.edited(found.network)])}",
            f"  {pixels}",
            *also,
            f"  {loaded}",
        ]
        return "\n".join(map(printable, lines))

    def _unknown(self) -> list[str]:
        """The settings of the network that this package's weights do not show."""
        found = self.description
        if self.source != OURS.source:
            return []
        unknown = ["residual scales"] if networks.is_residual(found.network) and found.scales is None else []
        if not found.configured:
            unknown.append("padding")
            if found.output_stride is None:  # 8 is visible: the last layers are missing
                unknown.append("output stride")
        return unknown


def inspect_checkpoint(path: str | PathLike[str]) -> Finding:
    """Recognise a checkpoint of this package or another project by the names and shapes of its tensors.

    Args:
        path: A file or TensorFlow checkpoint in any format that `load_weights` reads.

    Returns:
        A description with the network, variant, classes and settings of the file. Its `call` is the factory call that
        loads the file.

    Raises:
        ValueError: The file is missing or damaged, or its format or network is unknown.

    Examples:
        >>> import tempfile
        >>> from inception_resnet_keras import create_inception_resnet_v1, inspect_checkpoint
        >>> file = tempfile.mkdtemp() + "/faces.weights.h5"
        >>> create_inception_resnet_v1(variant="facenet", depths=(1, 1, 2)).save_weights(file)
        >>> found = inspect_checkpoint(file)
        >>> found.network.name, found.network.variant, found.description.depths, found.description.embedding
        ('inception_resnet_v1', 'facenet', (1, 1, 2), 512)
        >>> found.options
        {'variant': 'facenet', 'depths': (1, 1, 2), 'input_shape': (160, 160, 3)}
    """
    with open_checkpoint(path) as checkpoint:
        found = identify_checkpoint(checkpoint)
        if found is None:
            first = ", ".join(list(checkpoint.tensors)[:5]) or "none"
            raise InputError(f"{path}: holds no network that is known here; its first tensors are {first}")
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

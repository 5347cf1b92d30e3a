"""Whose checkpoint a set of tensors is: another project's names become ours, and spec.recognise says which network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from .. import networks
from ..common.errors import InputError
from ..networks.recognise import LEAST_SCORE, Layers, NetworkDescription, Shape, describe, recognise
from ..networks.rows import Network
from .readers.checkpoint import Checkpoint
from .slots import CLASSES, Slot, slots
from .sources import OTHERS, OURS, NameTable

SETTINGS_KEY = "factory"  # in a safetensors file's metadata: what the weights do not show
_COUNTED = re.compile(r"(.*?)(?:_([0-9]{1,9}))?")


@dataclass(frozen=True)
class Origin:
    """Where one of our weights comes from: the source's tensor, and the gamma that scales it."""

    key: str
    slot: Slot
    role: str
    name: str
    gamma: str | None

    def shape(self, table: NameTable) -> Shape:
        """As the source lays it out; CLASSES stands for the class count."""
        shape = self.slot.shapes[self.role]
        return (*shape[:-3:-1], *shape[:-2]) if table.channels_first and len(shape) > 1 else shape


@dataclass(frozen=True)
class Identity:
    """Whose names a file has, and which network it is.

    names: The source's canonical name → the name in the file.
    origins: Our weight's name → where it comes from; empty for a file under our own names.
    """

    table: NameTable
    description: NetworkDescription
    names: Mapping[str, str]
    origins: Mapping[str, Origin] = field(default_factory=dict)

    @property
    def network(self) -> Network:
        return self.description.network

    @property
    def score(self) -> float:
        return self.description.score


def identify(shapes: Mapping[str, Shape], layers: Layers | None = None) -> Identity | None:
    """The source and network whose names and shapes fit best; None where none fits by half."""
    best = _of_ours(shapes, layers)
    for table in OTHERS:
        for name, variant in table.layers:
            candidate = _of_source(table, networks.find(name, variant), shapes, layers)
            if best is None or candidate.score > best.score:
                best = candidate
    return best if best and best.score >= LEAST_SCORE else None


def identify_checkpoint(checkpoint: Checkpoint, *, ours_only: bool = False) -> Identity | None:
    """As `identify`, for an open file, with the settings that a file of this project carries beside its weights.

    ours_only: Whether names of other projects are left aside.
    """
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    found = _of_ours(shapes, checkpoint.layers) if ours_only else identify(shapes, checkpoint.layers)
    written = checkpoint.metadata.get(SETTINGS_KEY)
    if not written or found is None or found.table is not OURS:
        return found
    try:
        settings = json.loads(written)
        if not isinstance(settings, dict):
            raise InputError("holds no settings under 'factory'")
        return replace(found, description=found.description.with_settings(settings))
    except ValueError as error:
        raise InputError(f"{checkpoint.path}: its metadata {error}") from None


def in_keras_layout(shape: Shape, channels_first: bool) -> Shape:
    """A shape in the source's layout, in Keras's."""
    return (*shape[2:], *shape[1::-1]) if channels_first and len(shape) > 1 else shape


def _of_ours(shapes: Mapping[str, Shape], layers: Layers | None) -> Identity | None:
    description = recognise(shapes, layers)
    return Identity(OURS, description, {name: name for name in shapes}) if description else None


def _of_source(table: NameTable, network: Network, shapes: Mapping[str, Shape], layers: Layers | None) -> Identity:
    """A file as one source's names of one network; whatever the score."""
    origins = _origins(table.source, network)
    names = _canonical(table, {origin.name: origin.shape(table) for origin in origins.values()}, shapes)
    translated = {
        key: in_keras_layout(shapes[names[origin.name]], table.channels_first)
        for key, origin in origins.items()
        if origin.name in names
    }
    return Identity(table, describe(network, translated, layers), names, origins)


@lru_cache(maxsize=32)
def _origins(source: str, network: Network) -> Mapping[str, Origin]:
    """Our weights → the source's tensors, in the order of the walk."""
    (table,) = (table for table in OTHERS if table.source == source)
    layer_of = table.layers[network.name, network.variant]
    found = {}
    for slot in slots(network):
        layer = layer_of(slot)
        if layer is None:
            continue
        gamma = table.tensor(layer, slot, "gamma") if table.gamma and slot.normalised else None
        for role in slot.shapes:
            scaled = gamma if role in ("kernel", "moving_mean") else None
            found[slot.key(role)] = Origin(slot.key(role), slot, role, table.tensor(layer, slot, role), scaled)
    return found


def _fits(shape: Shape, wanted: Shape) -> bool:
    """Whether two shapes agree, CLASSES agreeing with any number."""
    return len(shape) == len(wanted) and all(b in (a, CLASSES) for a, b in zip(shape, wanted, strict=True))


def _canonical(table: NameTable, wanted: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> dict[str, str]:
    """The file's names with counters brought to start at 0: conv2d, conv2d_1, … or conv2d_7, conv2d_8, …

    A counter's start is where most shapes fit, so that a tensor lost at either end shifts nothing.
    """
    names = {name: name for name in shapes}
    for kind in table.counters:
        numbered = {name: number for name in shapes if (number := _number(kind, name)) is not None}
        if not numbered:
            continue
        last = max(_number(kind, name) or 0 for name in wanted)
        first = min(numbered.values())
        starts = (first, first - 1, max(numbered.values()) - last)
        best: dict[str, str] = {}
        most = -1
        for start in starts:
            renamed = {_renumbered(kind, name, number - start): name for name, number in numbered.items()}
            fits = sum(name in wanted and _fits(shapes[file], wanted[name]) for name, file in renamed.items())
            if fits > most:
                best, most = renamed, fits
        names = {name: file for name, file in names.items() if file not in numbered} | best
    return names


def _number(kind: str, name: str) -> int | None:
    layer = name.partition("/")[0]
    found = _COUNTED.fullmatch(layer)
    return int(found[2] or 0) if found and found[1] == kind else None


def _renumbered(kind: str, name: str, number: int) -> str:
    return f"{kind}_{number}/{name.partition('/')[2]}"

"""Whose checkpoint a set of tensors is, and of which network: by names and shapes together."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ... import networks
from ...networks import edits
from ...networks.rows import Network, Repeat
from . import TABLES, ours
from .slots import CLASSES, Slot, slots
from .table import NameTable

Shape = tuple[int, ...]

DEEPEST = 1000  # blocks of a kind; more is no network but a hostile name

_COUNTED = re.compile(r"(.*?)(?:_(\d+))?")

_BLOCK = re.compile(r"([a-z])(\d{2,})_")


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
    """The best guess. score: the share of the network's trunk that is there by name and shape.

    names: the source's canonical name → the name in the file.
    """

    table: NameTable
    network: Network
    names: Mapping[str, str]
    score: float

    @property
    def origins(self) -> Mapping[str, Origin]:
        return origins(self.table.source, self.network)

    @property
    def options(self) -> dict[str, Any]:
        """The factory's arguments that build the network: its variant, and depths that are not the variant's own."""
        own = networks.find(self.network.name, self.network.variant)
        depths = {} if self.network == own else {"depths": networks.depths(self.network)}
        return {"variant": self.network.variant, **depths}

    @property
    def call(self) -> str:
        """The factory call that builds the network."""
        return factory_call(self.network.name, self.options)


def factory_call(network: str, options: Mapping[str, Any]) -> str:
    return f"create_{network}({', '.join(f'{key}={value!r}' for key, value in options.items())})"


def identify(shapes: Mapping[str, Shape], tables: tuple[NameTable, ...] = TABLES) -> Identity | None:
    """The source and network whose names and shapes fit best; None where none fits by half."""
    best: Identity | None = None
    for table in tables:
        for name, variant in table.layers:
            network = networks.find(name, variant)
            if table is ours.TABLE:
                network = _deepened(network, shapes)
            candidate = _fit(table, network, shapes)
            if best is None or candidate.score > best.score:
                best = candidate
    return best if best and best.score >= 0.5 else None


@lru_cache(maxsize=32)
def origins(source: str, network: Network) -> Mapping[str, Origin]:
    """Our weights → the source's tensors, in the order of the walk."""
    (table,) = (table for table in TABLES if table.source == source)
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


def same(shape: Shape, wanted: Shape) -> bool:
    """Whether two shapes agree, CLASSES agreeing with any number."""
    return len(shape) == len(wanted) and all(b in (a, CLASSES) for a, b in zip(shape, wanted, strict=True))


def _fit(table: NameTable, network: Network, shapes: Mapping[str, Shape]) -> Identity:
    there = origins(table.source, network).values()
    names = _canonical(table, {origin.name: origin.shape(table) for origin in there}, shapes)
    trunk = [origin for origin in there if not origin.slot.head]
    fits = sum(origin.name in names and same(shapes[names[origin.name]], origin.shape(table)) for origin in trunk)
    return Identity(table, network, names, fits / len(trunk))


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
            fits = sum(name in wanted and same(shapes[file], wanted[name]) for name, file in renamed.items())
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


def _deepened(network: Network, shapes: Mapping[str, Shape]) -> Network:
    """The network with as many of each block as the names count."""
    counts: Counter[str] = Counter()
    for name in shapes:
        if found := _BLOCK.match(name):
            counts[found[1]] = max(counts[found[1]], int(found[2]))
    deepened = edits.with_depths(network, [counts[block] or 1 for block in networks.block_names(network)])
    fits = (
        all(row.times > 0 for row in deepened.stages if isinstance(row, Repeat))
        and max(counts.values(), default=0) < DEEPEST
    )
    return deepened if fits else network

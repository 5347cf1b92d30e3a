"""This project's own files: every network, under the names of its layers."""

from __future__ import annotations

from ... import networks
from .slots import Slot
from .table import KERAS_PASSED_OVER, NameTable


def _layer(slot: Slot) -> str:
    return slot.name


def _tensor(layer: str, slot: Slot, role: str) -> str:
    return slot.key(role)


TABLE = NameTable(
    source="inception-resnet-keras",
    layers={(name, variant): _layer for name, variants in networks.NETWORKS.items() for variant in variants},
    tensor=_tensor,
    passed_over=KERAS_PASSED_OVER,
)

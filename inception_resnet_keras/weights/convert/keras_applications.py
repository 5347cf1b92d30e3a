"""keras.applications: unnamed convolutions counted in the order of creation, which is the walk's."""

from __future__ import annotations

from ...networks import names
from .slots import Slot
from .table import KERAS_PASSED_OVER, NameTable

CONV, BATCH_NORM = "conv2d", "batch_normalization"

BLOCKS = {"a": "block35", "b": "block17", "c": "block8"}


def inception_resnet_v2(slot: Slot) -> str | None:
    if slot.head:
        return "predictions" if slot.place == names.LOGITS else None
    if slot.place == names.FINAL:
        return "conv_7b"
    return f"{BLOCKS[slot.block]}_{slot.number}_conv" if slot.project else f"{CONV}_{slot.order}"


def tensor(layer: str, slot: Slot, role: str) -> str:
    """A counted convolution's batch norm has the same number; a named one's has a suffix."""
    if role in ("kernel", "bias"):
        return f"{layer}/{role}"
    counted = layer.startswith(f"{CONV}_")
    return f"{layer.replace(CONV, BATCH_NORM) if counted else f'{layer}_bn'}/{role}"


TABLE = NameTable(
    source="keras.applications",
    layers={("inception_resnet_v2", "slim"): inception_resnet_v2},
    tensor=tensor,
    counters=(CONV, BATCH_NORM),
    passed_over=KERAS_PASSED_OVER,
)

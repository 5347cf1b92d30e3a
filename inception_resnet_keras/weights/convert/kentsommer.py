"""kentsommer/keras-inceptionV4: every layer counted in the order of creation, which is the walk's."""

from __future__ import annotations

from ...networks import names
from .keras_applications import BATCH_NORM, CONV, tensor
from .slots import Slot
from .table import KERAS_PASSED_OVER, NameTable

DENSE = "dense"


def inception_v4(slot: Slot) -> str | None:
    if slot.head:
        return f"{DENSE}_0" if slot.place == names.LOGITS else None
    return f"{CONV}_{slot.order}"


TABLE = NameTable(
    source="kentsommer/keras-inceptionV4",
    layers={("inception_v4", "slim"): inception_v4},
    tensor=tensor,
    background=True,
    counters=(CONV, BATCH_NORM, DENSE),
    passed_over=KERAS_PASSED_OVER,
)

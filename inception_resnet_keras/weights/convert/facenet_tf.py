"""davidsandberg/facenet: TF-Slim's scopes, an embedding called Bottleneck, a classifier beside the network."""

from __future__ import annotations

from ...networks import names
from . import slim
from .slots import Slot
from .table import NameTable


def inception_resnet_v1(slot: Slot) -> str:
    if slot.place == names.LOGITS:
        return "Logits"
    return "InceptionResnetV1/" + ("Bottleneck" if slot.place == names.EMBEDDING else slim.residual(slot))


TABLE = NameTable(
    source="davidsandberg/facenet",
    layers={("inception_resnet_v1", "facenet"): inception_resnet_v1},
    tensor=slim.TABLE.tensor,
    passed_over=slim.PASSED_OVER,
)

"""facenet-pytorch: timm's modules under other repeats, last_linear and last_bn, logits."""

from __future__ import annotations

from ...networks import names
from . import timm
from .slots import Slot
from .table import NameTable, templates

REPEATS = {"a": "repeat_1", "b": "repeat_2", "c": "repeat_3"}

EMBEDDING = {  # the dense layer and its batch norm are modules side by side
    "kernel": "{}_linear.weight",
    "beta": "{}_bn.bias",
    "gamma": "{}_bn.weight",
    "moving_mean": "{}_bn.running_mean",
    "moving_variance": "{}_bn.running_var",
}


def inception_resnet_v1(slot: Slot) -> str:
    heads = {names.LOGITS: "logits", names.EMBEDDING: "last"}
    return heads.get(slot.place) or timm.residual(slot, REPEATS)


TABLE = NameTable(
    source="facenet-pytorch",
    layers={("inception_resnet_v1", "facenet"): inception_resnet_v1},
    tensor=templates(timm.NORMALISED, timm.LINEAR, EMBEDDING),
    channels_first=True,
    gamma=True,
    passed_over=timm.PASSED_OVER,
)

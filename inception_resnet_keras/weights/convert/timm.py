"""timm: state dicts of modules such as mixed_6a.branch1.2 and features.19.branch1_1a."""

from __future__ import annotations

import re

from ...networks import names
from .slots import Slot
from .table import MIXED, RESNET_STEM, NameTable, templates

NORMALISED = {
    "kernel": "{}.conv.weight",
    "beta": "{}.bn.bias",
    "gamma": "{}.bn.weight",
    "moving_mean": "{}.bn.running_mean",
    "moving_variance": "{}.bn.running_var",
}

LINEAR = {"kernel": "{}.weight", "bias": "{}.bias"}

PASSED_OVER = {"batch counters": re.compile(r".*\.num_batches_tracked")}

REPEATS = {"a": "repeat", "b": "repeat_1", "c": "repeat_2"}


def branch(slot: Slot) -> str:
    """`branch0` of one row alone, else `branch1.2`, from 0, pools counted."""
    return f"branch{slot.branch - 1}" + ("" if slot.alone else f".{slot.position - 1}")


def inception_v4(slot: Slot) -> str | None:
    if slot.head:
        return "last_linear" if slot.place == names.LOGITS else None
    unit = f"features.{slot.unit}"
    if slot.conv:
        return unit
    if slot.pools:
        return f"{unit}.conv"
    if slot.inner:
        return f"{unit}.branch{slot.branch - 1}_{slot.position - 1}{'ab'[slot.inner - 1]}"
    if slot.branching:
        return f"{unit}.branch{slot.branch - 1}_{slot.position - 1}"
    return f"{unit}.{branch(slot)}"


def residual(slot: Slot, repeats: dict[str, str]) -> str:
    """Inception-ResNet's modules, v1 and v2."""
    if slot.place == names.FINAL:
        return "conv2d_7b"
    if slot.conv:
        return f"conv2d_{RESNET_STEM[slot.conv - 1]}"
    if slot.place in MIXED:
        return f"mixed_{MIXED[slot.place]}.{branch(slot)}"
    block = "block8" if slot.last else f"{repeats[slot.block]}.{slot.number - 1}"
    return f"{block}.conv2d" if slot.project else f"{block}.{branch(slot)}"


def inception_resnet_v2(slot: Slot) -> str | None:
    if slot.head:
        return "classif" if slot.place == names.LOGITS else None
    return residual(slot, REPEATS)


TABLE = NameTable(
    source="timm",
    layers={("inception_v4", "slim"): inception_v4, ("inception_resnet_v2", "slim"): inception_resnet_v2},
    tensor=templates(NORMALISED, LINEAR),
    channels_first=True,
    gamma=True,
    passed_over=PASSED_OVER,
)

"""TF-Slim: scopes such as InceptionV4/Mixed_5b/Branch_1/Conv2d_0b_3x3."""

from __future__ import annotations

import re

from ...networks import names
from .slots import Slot
from .table import MIXED, RESNET_STEM, NameTable, templates

NORMALISED = {
    "kernel": "{}/weights",
    "beta": "{}/BatchNorm/beta",
    "moving_mean": "{}/BatchNorm/moving_mean",
    "moving_variance": "{}/BatchNorm/moving_variance",
}

LINEAR = {"kernel": "{}/weights", "bias": "{}/biases"}

EMA = "/ExponentialMovingAverage"

PASSED_OVER = {
    "training state": re.compile(
        r"(?:.*/)?(?:global_step|learning_rate|centers|beta[12]_power)(?:_\d+)?(?:/.*)?"
        r"|.*/(?:RMSProp|Adam|Adagrad|Adadelta|Ftrl|Momentum)(?:_\d+)?"
        r"|.*/avg(?:/(?:biased|local_step))?"  # of losses
    ),
    "running averages, which were not asked for": re.compile(rf".*{EMA}"),
}

REPEATS = {"a": "Repeat/block35", "b": "Repeat_1/block17", "c": "Repeat_2/block8"}


def _conv(slot: Slot, label: str) -> str:
    height, width = slot.kernel
    return f"Conv2d_{label}{'_' if label else ''}{height}x{width}"


def _label(slot: Slot, alone: str) -> str:
    """0a, 0b, … by the row in the branch; 1a where the map shrinks."""
    if slot.row is not None and slot.row.padding == "valid":
        return "1a"
    step = slot.position + max(slot.inner - 1, 0)
    return alone if slot.alone else f"0{'abcdefgh'[step - 1]}"


def inception_v4(slot: Slot) -> str:
    return f"InceptionV4/{_inception_v4(slot)}"


def _inception_v4(slot: Slot) -> str:
    if slot.head:
        heads = {names.LOGITS: "Logits/Logits", "aux_conv_1": "AuxLogits/Conv2d_1b_1x1"}
        return (heads | {"aux_conv_2": "AuxLogits/Conv2d_2a", "aux_logits": "AuxLogits/Aux_logits"})[slot.name]
    if slot.conv:
        return _conv(slot, RESNET_STEM[slot.conv - 1])
    if slot.fork:
        mixed = f"Mixed_{2 + slot.fork}a"
        label = "0a" if slot.fork == 1 else _label(slot, "0a")  # Mixed_3a's alone shrinks under 0a
        return f"{mixed}/Branch_{slot.branch - 1}/{_conv(slot, label)}"
    blocks = {"a": "5", "b": "6", "c": "7"}
    mixed = MIXED.get(slot.place) or f"{blocks[slot.block]}{'abcdefgh'[slot.number]}"
    return f"Mixed_{mixed}/Branch_{slot.branch - 1}/{_conv(slot, _label(slot, '0a'))}"


def residual(slot: Slot) -> str:
    """Inception-ResNet's scopes, v1 and v2, below the network's own."""
    if slot.place == names.FINAL:
        return "Conv2d_7b_1x1"
    if slot.conv:
        return _conv(slot, RESNET_STEM[slot.conv - 1])
    if slot.place in MIXED:
        return f"Mixed_{MIXED[slot.place]}/Branch_{slot.branch - 1}/{_conv(slot, _label(slot, ''))}"
    block = "Block8" if slot.last else f"{REPEATS[slot.block]}_{slot.number}"
    return (
        f"{block}/Conv2d_1x1" if slot.project else f"{block}/Branch_{slot.branch - 1}/{_conv(slot, _label(slot, ''))}"
    )


def inception_resnet_v2(slot: Slot) -> str:
    heads = {
        names.LOGITS: "Logits/Logits",
        "aux_conv_1": "AuxLogits/Conv2d_1b_1x1",
        "aux_conv_2": "AuxLogits/Conv2d_2a_5x5",
        "aux_logits": "AuxLogits/Logits",
    }
    return f"InceptionResnetV2/{heads.get(slot.name) or residual(slot)}"


TABLE = NameTable(
    source="TF-Slim",
    layers={("inception_v4", "slim"): inception_v4, ("inception_resnet_v2", "slim"): inception_resnet_v2},
    tensor=templates(NORMALISED, LINEAR),
    background=True,
    passed_over=PASSED_OVER,
)

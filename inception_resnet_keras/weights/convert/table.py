"""What a source's name table says: how another project names the layers and tensors of ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ...networks import names
from .slots import Slot

# The released ResNets number their stem's convolutions so, and their reductions and first fork.
RESNET_STEM = ("1a", "2a", "2b", "3b", "4a", "4b")

MIXED = {"stem": "5b", "reduction_a": "6a", "reduction_b": "7a"}

KERAS_PASSED_OVER = {
    "training state": re.compile(r"(?:optimizer|optimizer_weights)/.*"),
    "random state of dropout": re.compile(r".*/seed_generator/vars/\d+"),
}

TensorName = Callable[[str, Slot, str], str]


@dataclass(frozen=True)
class NameTable:
    """The names that one source gives to the tensors of the networks it has.

    layers: By (network, variant): the source's name of a slot's layer, None where it has no such layer.
    tensor: The name of a layer's tensor, from the layer's name, the slot and the role: kernel, bias,
        beta, moving_mean, moving_variance, gamma.
    channels_first: Kernels are (out, in, height, width) and (out, in), as PyTorch has them.
    background: Class 0 of 1001 is "background".
    gamma: Whether batch norm has a gamma in the source.
    counters: Kinds of layer that are named by counters that start anywhere: conv2d, conv2d_1, …
    passed_over: Tensors that take no part in inference: what they are, by a pattern.
    """

    source: str
    layers: Mapping[tuple[str, str], Callable[[Slot], str | None]]
    tensor: TensorName
    channels_first: bool = False
    background: bool = False
    gamma: bool = False
    counters: tuple[str, ...] = ()
    passed_over: Mapping[str, re.Pattern[str]] = field(default_factory=dict)


def templates(
    normalised: Mapping[str, str], linear: Mapping[str, str], embedding: Mapping[str, str] | None = None
) -> TensorName:
    """Names by role, "{}" being the layer's: of layers with batch norm, without, and of the embedding."""

    def tensor(layer: str, slot: Slot, role: str) -> str:
        if embedding and slot.place == names.EMBEDDING:
            return embedding[role].format(layer)
        return (normalised if slot.normalised else linear)[role].format(layer)

    return tensor

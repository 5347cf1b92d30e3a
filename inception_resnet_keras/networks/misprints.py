"""Misprints in the paper's figures.

The correct values are not repeated here, because the tables have them. Only the variant `paper` is affected: no figure
shows the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Misprint:
    """One misprint.

    Attributes:
        figure: The paper's figure.
        block: The block that the figure shows; "" for the whole network.
        part: The operation in the block, by its name without the block's; "" for the whole block.
        at: The operation's setting that is misprinted; "" if none is.
        printed: What the figure prints.
        why: The reason why it must be a misprint.
    """

    figure: str
    block: str
    part: str
    at: Literal["filters", "stride", "kernel", ""]
    printed: str
    why: str


_STEM = Misprint(  # in the stem that the two networks share
    "Figure 3",
    "stem",
    "fork_3_branch_1_conv_1",
    "stride",
    "192 V",
    "the max pool that it is concatenated with has it",
)

MISPRINTS: dict[str, tuple[Misprint, ...]] = {
    "inception_v4": (
        _STEM,
        Misprint(
            "Figure 5",
            "b",
            "branch_3_conv_3",
            "kernel",
            "1×7 twice",
            "the two halves of a factorised 7×7 are 1×7 and 7×1",
        ),
    ),
    "inception_resnet_v1": (),  # Figure 15's sizes are this network's, as its caption says
    "inception_resnet_v2": (
        _STEM,
        Misprint(
            "Figure 17",
            "b",
            "project",
            "filters",
            "1154",
            "the sum is as wide as what it reads, which is Reduction-A's concat",
        ),
        Misprint(
            "Figure 18",
            "reduction_b",
            "",
            "",
            "Inception-ResNet-v1 in its caption",
            "the filters are those of Inception-ResNet-v2; v1's are in Figure 12",
        ),
        Misprint(
            "Figure 19",
            "c",
            "project",
            "filters",
            "2048",
            "the sum is as wide as what it reads, which is Reduction-B's concat",
        ),
    ),
}


def of(network: str, variant: str) -> tuple[Misprint, ...]:
    """The misprints that affect a variant: those of its network for `paper`, none for the others."""
    return MISPRINTS.get(network, ()) if variant == "paper" else ()

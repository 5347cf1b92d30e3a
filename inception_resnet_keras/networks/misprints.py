"""Where the paper's figures print something other than the network they belong to.

What is right is never written here: it follows from the tables. They concern the variant `paper` alone,
as the others were never printed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Misprint:
    """One of them.

    block: The block that the figure draws; "" for the whole network.
    part: The operation within the block, as the naming grammar has it after the block's name;
        "" for the block as a whole.
    printed: What the figure says there.
    why: What shows that it is a misprint.
    """

    figure: str
    block: str
    part: str
    printed: str
    why: str


MISPRINTS: dict[str, tuple[Misprint, ...]] = {
    "inception_v4": (
        Misprint(
            "Figure 5",
            "b",
            "branch_3_conv_3",
            "1×7 twice",
            "the two halves of a factorised 7×7 are 1×7 and 7×1",
        ),
    ),
    "inception_resnet_v1": (),
    "inception_resnet_v2": (
        Misprint(
            "Figure 17",
            "b",
            "project",
            "1154",
            "the sum is as wide as what it reads, which is Reduction-A's concat",
        ),
        Misprint(
            "Figure 18",
            "reduction_b",
            "",
            "Inception-ResNet-v1 in its caption",
            "the filters are those of Inception-ResNet-v2; v1's are in Figure 12",
        ),
        Misprint(
            "Figure 19",
            "c",
            "project",
            "2048",
            "the sum is as wide as what it reads, which is Reduction-B's concat",
        ),
        Misprint(
            "Figure 15",
            "",
            "",
            "sizes that are Inception-ResNet-v1's only",
            "the two networks share the figure, and their widths differ",
        ),
    ),
}


def of(network: str, variant: str) -> tuple[Misprint, ...]:
    """The misprints that concern a variant: only `paper` was printed."""
    return MISPRINTS.get(network, ()) if variant == "paper" else ()

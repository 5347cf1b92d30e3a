"""Rows that several of the networks share."""

from __future__ import annotations

from dataclasses import replace

from .rows import MAX_POOL, Conv, Fork

STEM_FIGURE_3 = (  # Inception-v4 and Inception-ResNet-v2: 299² → 35²×384
    Conv(32, 3, stride=2, padding="valid"),  # 149²×32
    Conv(32, 3, padding="valid"),  # 147²×32
    Conv(64, 3),  # 147²×64
    Fork([[MAX_POOL], [Conv(96, 3, stride=2, padding="valid")]]),  # 73²×160
    Fork(
        [
            [Conv(64, 1), Conv(96, 3, padding="valid")],
            [Conv(64, 1), Conv(64, (7, 1)), Conv(64, (1, 7)), Conv(96, 3, padding="valid")],
        ]
    ),  # 71²×192
    Fork([[Conv(192, 3, stride=2, padding="valid")], [MAX_POOL]]),  # 35²×384; the figure prints no stride
)

STEM_FIGURE_14 = (  # Inception-ResNet-v1: 299² → 35²×256
    Conv(32, 3, stride=2, padding="valid"),  # 149²×32
    Conv(32, 3, padding="valid"),  # 147²×32
    Conv(64, 3),  # 147²×64
    MAX_POOL,  # 73²×64
    Conv(80, 1),  # 73²×80
    Conv(192, 3, padding="valid"),  # 71²×192
    Conv(256, 3, stride=2, padding="valid"),  # 35²×256
)

PAPER_SCALE = 0.1  # of the residuals: this package's choice within the paper's 0.1 to 0.3 (Section 3.3)


def reduction_a(k: int, l: int, m: int, n: int) -> Fork:  # noqa: E741 - the paper's letters
    """Figure 7, with the filter counts of Table 1."""
    return Fork(
        [
            [MAX_POOL],
            [Conv(n, 3, stride=2, padding="valid", letter="n")],
            [
                Conv(k, 1, letter="k"),
                Conv(l, 3, letter="l"),
                Conv(m, 3, stride=2, padding="valid", letter="m"),
            ],
        ],
        name="reduction_a",
        figure="Figure 7",
    )


def pooled_last(reduction: Fork) -> Fork:
    """The reduction with its pool as the last branch, the order of the released networks."""
    pooled, *rest = reduction.branches
    return replace(reduction, branches=(*rest, pooled))

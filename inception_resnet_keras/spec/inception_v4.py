"""Inception-v4: the paper's Figure 9, and its blocks, Figures 3 to 8."""

from __future__ import annotations

from .rows import AUX_HEAD, AVG_POOL, MAX_POOL, Conv, Fork, Network, Repeat
from .shared import STEM_FIGURE_3, reduction_a

A = Fork(  # 35²×384
    [
        [AVG_POOL, Conv(96, 1)],
        [Conv(96, 1)],
        [Conv(64, 1), Conv(96, 3)],
        [Conv(64, 1), Conv(96, 3), Conv(96, 3)],
    ],
    name="a",
    figure="Figure 4",
)
B = Fork(  # 17²×1024; the figure prints 1×7 twice in its middle branch: the second is 7×1
    [
        [AVG_POOL, Conv(128, 1)],
        [Conv(384, 1)],
        [Conv(192, 1), Conv(224, (1, 7)), Conv(256, (7, 1))],
        [Conv(192, 1), Conv(192, (1, 7)), Conv(224, (7, 1)), Conv(224, (1, 7)), Conv(256, (7, 1))],
    ],
    name="b",
    figure="Figure 5",
)
REDUCTION_B = Fork(  # → 8²×1536
    [
        [MAX_POOL],
        [Conv(192, 1), Conv(192, 3, stride=2, padding="valid")],
        [Conv(256, 1), Conv(256, (1, 7)), Conv(320, (7, 1)), Conv(320, 3, stride=2, padding="valid")],
    ],
    name="reduction_b",
    figure="Figure 8",
)
C = Fork(  # 8²×1536
    [
        [AVG_POOL, Conv(256, 1)],
        [Conv(256, 1)],
        [Conv(384, 1), Fork([[Conv(256, (1, 3))], [Conv(256, (3, 1))]])],
        [
            Conv(384, 1),
            Conv(448, (1, 3)),
            Conv(512, (3, 1)),
            Fork([[Conv(256, (3, 1))], [Conv(256, (1, 3))]]),
        ],
    ],
    name="c",
    figure="Figure 6",
)

PAPER = Network(
    name="inception_v4",
    variant="paper",
    stem=STEM_FIGURE_3,
    stem_figure="Figure 3",
    figure="Figure 9",
    stages=[
        Repeat(A, 4),
        reduction_a(k=192, l=224, m=256, n=384),  # → 17²×1024
        Repeat(B, 7),
        REDUCTION_B,
        Repeat(C, 3),
    ],
    aux=AUX_HEAD,
)

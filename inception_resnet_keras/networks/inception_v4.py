"""Inception-v4: the paper's Figure 9, its blocks, Figures 3 to 8, and the network that was released.

TF-Slim's network (timm's and kentsommer's too) is the paper's with the 1×n and n×1 kernels swapped in the
long branches of the stem, of B and of C, and in the fork that ends C's. It also concatenates in another order: pooled
branches come last, except in the stem's first fork.
"""

from __future__ import annotations

from .rows import AUX_HEAD, AVG_POOL, MAX_POOL, Conv, Fork, Network, Repeat
from .shared import STEM_FIGURE_3, pooled_last, reduction_a

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

# Slim: Mixed_5b to 5e, 6b to 6h, 7b to 7d are the blocks; 3a, 4a, 5a the stem's forks; 6a, 7a the reductions.
SLIM_A = Fork(  # 35²×384
    [
        [Conv(96, 1)],
        [Conv(64, 1), Conv(96, 3)],
        [Conv(64, 1), Conv(96, 3), Conv(96, 3)],
        [AVG_POOL, Conv(96, 1)],
    ],
    name="a",
    figure="Figure 4",
)

SLIM_B = Fork(  # 17²×1024; the long branch begins with 7×1
    [
        [Conv(384, 1)],
        [Conv(192, 1), Conv(224, (1, 7)), Conv(256, (7, 1))],
        [Conv(192, 1), Conv(192, (7, 1)), Conv(224, (1, 7)), Conv(224, (7, 1)), Conv(256, (1, 7))],
        [AVG_POOL, Conv(128, 1)],
    ],
    name="b",
    figure="Figure 5",
)

SLIM_C = Fork(  # 8²×1536; the long branch has 3×1 before 1×3, and its last fork 1×3 before 3×1
    [
        [Conv(256, 1)],
        [Conv(384, 1), Fork([[Conv(256, (1, 3))], [Conv(256, (3, 1))]])],
        [
            Conv(384, 1),
            Conv(448, (3, 1)),
            Conv(512, (1, 3)),
            Fork([[Conv(256, (1, 3))], [Conv(256, (3, 1))]]),
        ],
        [AVG_POOL, Conv(256, 1)],
    ],
    name="c",
    figure="Figure 6",
)

SLIM = Network(
    name="inception_v4",
    variant="slim",
    stem=(
        Conv(32, 3, stride=2, padding="valid"),  # 149²×32
        Conv(32, 3, padding="valid"),  # 147²×32
        Conv(64, 3),  # 147²×64
        Fork([[MAX_POOL], [Conv(96, 3, stride=2, padding="valid")]]),  # 73²×160
        Fork(
            [
                [Conv(64, 1), Conv(96, 3, padding="valid")],
                [Conv(64, 1), Conv(64, (1, 7)), Conv(64, (7, 1)), Conv(96, 3, padding="valid")],  # 1×7 first
            ]
        ),  # 71²×192
        Fork([[Conv(192, 3, stride=2, padding="valid")], [MAX_POOL]]),  # 35²×384
    ),
    stem_figure="Figure 3",
    stages=[
        Repeat(SLIM_A, 4),
        pooled_last(reduction_a(k=192, l=224, m=256, n=384)),  # → 17²×1024
        Repeat(SLIM_B, 7),
        pooled_last(REDUCTION_B),  # → 8²×1536
        Repeat(SLIM_C, 3),
    ],
    aux=AUX_HEAD,
)

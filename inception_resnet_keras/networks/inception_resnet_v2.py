"""Inception-ResNet-v2: the paper's Figure 15, its blocks, Figures 3, 7 and 16 to 19, and the network
that was released, which is the same in TF-Slim, `keras.applications.InceptionResNetV2` and timm.
"""

from __future__ import annotations

from .rows import AUX_HEAD, AVG_POOL, MAX_POOL, Conv, Fork, Network, Repeat, Residual
from .shared import PAPER_SCALE, STEM_FIGURE_3, pooled_last, reduction_a

A = Residual(  # 35²×384
    [
        [Conv(32, 1)],
        [Conv(32, 1), Conv(32, 3)],
        [Conv(32, 1), Conv(48, 3), Conv(64, 3)],
    ],
    name="a",
    figure="Figure 16",
)

B = Residual(  # 17²×1152; the figure prints the projection as 1154
    [
        [Conv(192, 1)],
        [Conv(128, 1), Conv(160, (1, 7)), Conv(192, (7, 1))],
    ],
    name="b",
    figure="Figure 17",
)

REDUCTION_B = Fork(  # → 8²×2144 = 1152 + 384 + 288 + 320; the caption says v1 for v2
    [
        [MAX_POOL],
        [Conv(256, 1), Conv(384, 3, stride=2, padding="valid")],
        [Conv(256, 1), Conv(288, 3, stride=2, padding="valid")],
        [Conv(256, 1), Conv(288, 3), Conv(320, 3, stride=2, padding="valid")],
    ],
    name="reduction_b",
    figure="Figure 18",
)

C = Residual(  # 8²×2144; the figure prints the projection as 2048
    [
        [Conv(192, 1)],
        [Conv(192, 1), Conv(224, (1, 3)), Conv(256, (3, 1))],
    ],
    name="c",
    figure="Figure 19",
)

PAPER = Network(
    name="inception_resnet_v2",
    variant="paper",
    stem=STEM_FIGURE_3,
    stem_figure="Figure 3",
    figure="Figure 15",
    stages=[
        Repeat(A, 5, scale=PAPER_SCALE),
        reduction_a(k=256, l=256, m=384, n=384),  # → 17²×1152 = 384 + 384 + 384
        Repeat(B, 10, scale=PAPER_SCALE),
        REDUCTION_B,
        Repeat(C, 5, scale=PAPER_SCALE),
    ],
    aux=AUX_HEAD,
)

SLIM = Network(  # the paper's blocks A, B, C over narrower maps: 320, 1088 and 2080 wide
    name="inception_resnet_v2",
    variant="slim",
    stem=(
        Conv(32, 3, stride=2, padding="valid"),  # 149²×32
        Conv(32, 3, padding="valid"),  # 147²×32
        Conv(64, 3),  # 147²×64
        MAX_POOL,  # 73²×64
        Conv(80, 1),  # 73²×80
        Conv(192, 3, padding="valid"),  # 71²×192
        MAX_POOL,  # 35²×192
        Fork(  # Mixed_5b, 35²×320
            [
                [Conv(96, 1)],
                [Conv(48, 1), Conv(64, 5)],
                [Conv(64, 1), Conv(96, 3), Conv(96, 3)],
                [AVG_POOL, Conv(64, 1)],
            ]
        ),
    ),
    stages=[
        Repeat(A, 10, scale=0.17),
        pooled_last(reduction_a(k=256, l=256, m=384, n=384)),  # → 17²×1088 = 384 + 384 + 320
        Repeat(B, 20, scale=0.10),
        pooled_last(REDUCTION_B),  # → 8²×2080 = 384 + 288 + 320 + 1088
        Repeat(C, 9, scale=0.20),
        Repeat(C, 1, scale=None, activation=False),
    ],
    final=(Conv(1536, 1),),  # conv_7b
    aux=AUX_HEAD,
)

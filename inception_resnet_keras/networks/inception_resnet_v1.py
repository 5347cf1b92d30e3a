"""Inception-ResNet-v1: the paper's Figure 15, its blocks, Figures 7 and 10 to 14, and the face-embedding
network of davidsandberg/facenet and facenet-pytorch.
"""

from __future__ import annotations

from dataclasses import replace

from .rows import AUX_HEAD, MAX_POOL, PER_IMAGE, Conv, Fork, Network, Repeat, Residual
from .rows import FACENET as FACENET_PIXELS
from .shared import PAPER_SCALE, STEM_FIGURE_14, pooled_last, reduction_a

A = Residual(  # 35²×256
    [
        [Conv(32, 1)],
        [Conv(32, 1), Conv(32, 3)],
        [Conv(32, 1), Conv(32, 3), Conv(32, 3)],
    ],
    name="a",
    figure="Figure 10",
)

B = Residual(  # 17²×896
    [
        [Conv(128, 1)],
        [Conv(128, 1), Conv(128, (1, 7)), Conv(128, (7, 1))],
    ],
    name="b",
    figure="Figure 11",
)

REDUCTION_B = Fork(  # → 8²×1792
    [
        [MAX_POOL],
        [Conv(256, 1), Conv(384, 3, stride=2, padding="valid")],
        [Conv(256, 1), Conv(256, 3, stride=2, padding="valid")],
        [Conv(256, 1), Conv(256, 3), Conv(256, 3, stride=2, padding="valid")],
    ],
    name="reduction_b",
    figure="Figure 12",
)

C = Residual(  # 8²×1792
    [
        [Conv(192, 1)],
        [Conv(192, 1), Conv(192, (1, 3)), Conv(192, (3, 1))],
    ],
    name="c",
    figure="Figure 13",
)

PAPER = Network(
    name="inception_resnet_v1",
    variant="paper",
    stem=STEM_FIGURE_14,
    stem_figure="Figure 14",
    figure="Figure 15",
    stages=[
        Repeat(A, 5, scale=PAPER_SCALE),
        reduction_a(k=192, l=192, m=256, n=384),  # → 17²×896
        Repeat(B, 10, scale=PAPER_SCALE),
        REDUCTION_B,
        Repeat(C, 5, scale=PAPER_SCALE),
    ],
    aux=AUX_HEAD,
)

FACENET = Network(
    name="inception_resnet_v1",
    variant="facenet",
    stem=STEM_FIGURE_14,
    stem_figure="Figure 14",
    stages=[
        Repeat(A, 5, scale=0.17),
        pooled_last(reduction_a(k=192, l=192, m=256, n=384)),  # → 896
        Repeat(B, 10, scale=0.10),
        pooled_last(REDUCTION_B),  # → 1792
        Repeat(C, 5, scale=0.20),
        Repeat(C, 1, scale=None, activation=False),
    ],
    embedding=512,
    preprocessing=FACENET_PIXELS,
    size=160,
)

# davidsandberg/facenet's models of 2017, and their Keras ports: a narrower embedding, and another preprocessing.
FACENET_128 = replace(FACENET, variant="facenet_128", embedding=128, preprocessing=PER_IMAGE)

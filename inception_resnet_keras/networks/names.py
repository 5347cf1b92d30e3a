"""The one naming grammar: a layer's name says its place.

    place   stem · a03 · reduction_a · final · aux              where in the overview
    inside  place[_fork_2][_branch_3]…_KIND_1                   branch, then n-th of its kind
    block   place_concat · place_project · place_sum · place_relu
    heads   pooled · dropout · embedding_dense · embedding · logits · predictions

A convolution's batch norm and ReLU carry its name and a suffix: `a03_branch_2_conv_1_bn`. Of an optimised
model, one that stands for several carries the first one's: `a03_branch_1_conv_1_joined`, `…_split`.
"""

from __future__ import annotations

import re

STEM, FINAL, AUX = "stem", "final", "aux"

INPUT, PREPROCESS = "image", "preprocess"

POOLED, DROPOUT, LOGITS, PREDICTIONS, EMBEDDING = "pooled", "dropout", "logits", "predictions", "embedding"

HEADS = (POOLED, DROPOUT, LOGITS, PREDICTIONS, EMBEDDING)

_STAGE = re.compile(r"(stem|reduction_[a-z]|final|[a-z]\d{2,})_")

_HEAD = re.compile("|".join((AUX, *HEADS)))


def block(name: str, number: int) -> str:
    """`a03` for the third block A."""
    return f"{name}{number:02d}"


def joined(first: str) -> str:
    """Of the convolution that stands for several, the first of which has this name."""
    return f"{first}_joined"


def split(first: str) -> str:
    """Of what takes a joined convolution's output apart."""
    return f"{first}_split"


def block_of(stage: str) -> str:
    """`a` of the stage `a03`; empty for a stage that is no numbered block."""
    found = re.fullmatch(r"([a-z])\d{2,}", stage)
    return found[1] if found else ""


def inside(place: str, part: str, number: int | None = None) -> str:
    """`a03_branch_2`, or `a03_concat` where no number is given."""
    return f"{place}_{part}" if number is None else f"{place}_{part}_{number}"


def stage(layer_name: str) -> str | None:
    """The stage of the overview that a layer's name belongs to (`stem`, `a03`, …); None for others."""
    found = _STAGE.match(layer_name)
    return found[1] if found else None


def place(layer_name: str) -> str:
    """The layer's stage; of a head `aux`, `pooled`, `logits`, …; of anything else its own name."""
    head = _HEAD.match(layer_name)
    return stage(layer_name) or (head[0] if head else layer_name)


def in_branch(layer_name: str) -> bool:
    """Whether the layer stands inside a fork's branch, off the network's spine."""
    return "_branch_" in layer_name

"""What a picture says of an operation: two short lines, a kind, and numbers that a person can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..spec import names
from ..spec.rows import DROPOUT_RATE, Conv, Pool
from ..spec.walk import Node, Shape

if TYPE_CHECKING:
    from .graph import Part

KINDS = {  # an operation's colour, and what the legend says of it
    "weights": "convolution, dense",
    "pool": "pooling",
    "concat": "filter concat",
    "sum": "residual sum",
    "activation": "activation",
    "plain": "everything else",
}
_KIND_OF = {
    "conv": "weights",
    "dense": "weights",
    "pool": "pool",
    "global_pool": "pool",
    "concat": "concat",
    "sum": "sum",
    "relu": "activation",
    "softmax": "activation",
    "sigmoid": "activation",
}
_TITLES = {
    "concat": "filter concat",
    "sum": "sum",
    "relu": "ReLU",
    "global_pool": "global avg pool",
    "input": "image",
    "preprocess": "scale pixels",
    "unit_norm": "L2 norm",
}


def kind_of(node: Node) -> str:
    return _KIND_OF.get(node.op, "plain")


def describe(node: Node) -> tuple[str, str]:
    """A node's two lines: "3×3 conv" and "96 · stride 2 · V"."""
    row = node.row
    if isinstance(row, Conv) and isinstance(row.kernel, tuple):
        parts = [str(row.filters), *_window(row), *(["linear"] if row.linear else [])]
        return f"{row.kernel[0]}×{row.kernel[1]} conv", " · ".join(parts)
    if isinstance(row, Pool):
        return f"{row.size}×{row.size} {row.kind} pool", " · ".join(_window(row))
    return _TITLES.get(node.op, node.op.replace("_", " ")), _detail(node)


def _detail(node: Node) -> str:
    match node.op:
        case "sum":
            return "x + f(x)" if node.scale in (None, 1.0) else f"x + {node.scale:g} · f(x)"
        case "dropout":
            return f"keep {1 - DROPOUT_RATE:g}"
        case "dense" if node.trainable == node.macs:
            return f"{shape_text(node.shape)} · no bias"
        case "unit_norm":
            return "x / ‖x‖"
        case "relu" | "softmax":
            return ""
        case _:
            return shape_text(node.shape)


def _window(row: Conv | Pool) -> list[str]:
    """The marks of the paper's figures: stride where it is not 1, V for valid padding."""
    return [*([f"stride {row.stride}"] if row.stride > 1 else []), *(["V"] if row.padding == "valid" else [])]


def layer_names(node: Node) -> tuple[str, ...]:
    """The Keras layers that an operation is built of, in order."""
    if node.op == "conv" and isinstance(node.row, Conv) and not node.row.linear:
        return node.name, f"{node.name}_bn", f"{node.name}_relu"
    if node.op == "sum" and node.scale not in (None, 1.0):
        return names.inside(node.place, "scale"), node.name
    return (node.name,)


def shape_text(shape: Shape) -> str:
    """35×35×384; ? where a side is not known."""
    return "×".join("?" if side is None else str(side) for side in shape)


def short(count: int | None) -> str:
    """Three digits and a letter: 42.7 M."""
    if count is None:
        return "?"
    for size, letter in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if count >= size:
            value = count / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{letter}"
    return str(count)


def network_title(name: str) -> str:
    """Inception-ResNet-v2 of inception_resnet_v2."""
    return "-".join(
        {"resnet": "ResNet"}.get(word, word if word[1:].isdigit() else word.title()) for word in name.split("_")
    )


def inside(part: Part) -> str:
    """The paper's figure of a stage; else what it is made of: "global avg pool, dropout, dense 1000"."""
    if part.figure or not part.reads:
        return part.figure
    return ", ".join(f"{op.title} {op.shape[-1]}" if op.title == "dense" else op.title for op in part.ops)


def part_kind(part: Part) -> str:
    """The colour of a stage of the overview."""
    if part.key in ("stem", "final"):
        return "weights"
    if part.key.startswith("reduction"):
        return "pool"
    kinds = {op.kind for op in part.ops}
    if part.key in ("input", "head", "aux"):
        return "plain"
    return "sum" if "sum" in kinds else "concat"

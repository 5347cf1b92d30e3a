"""The naming grammar: a layer's name is its position in the network. Names are made and parsed only here.

    stage   stem · a03 · reduction_a · final                   where in the overview
    inside  stage[_fork_2][_branch_3]…_KIND_1                   branch, then n-th of its kind
    block   stage_concat · stage_project · stage_scale · stage_sum · stage_relu
    heads   pooled · dropout · embedding_dense · embedding · logits · predictions
            aux_conv_1 · aux_flatten · aux_logits · aux_predictions

A convolution's batch norm and ReLU have its name and a suffix: `a03_branch_2_conv_1_bn`. In a model optimised for
inference, a convolution that replaces several has the first one's name: `a03_branch_1_conv_1_joined`, `…_split`.

In a model built with `layer_prefix=`, all names begin with this prefix. `prefixes` finds it, and it is removed before a
name is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

STEM, FINAL, AUX = "stem", "final", "aux"
INPUT, PREPROCESS = "image", "preprocess"
POOLED, DROPOUT, LOGITS, PREDICTIONS, EMBEDDING = "pooled", "dropout", "logits", "predictions", "embedding"
FORK, BRANCH = "fork", "branch"
BATCH_NORM, RELU, PROJECT, SCALE, SUM = "bn", "relu", "project", "scale", "sum"
STRIDES = tuple(f"stride_{stride}" for stride in (2, 4, 8, 16, 32))  # endpoints: the last map of each stride
HEADS = (POOLED, DROPOUT, LOGITS, PREDICTIONS, EMBEDDING)

# The digits are limited, so that a hostile file's name cannot be slow to parse.
_STAGE = re.compile(r"(?P<stage>stem|reduction_[a-z]|final|(?P<block>[a-z])(?P<number>[0-9]{2,6}))_")
_HEAD = re.compile(rf"(?P<head>{'|'.join((AUX, *HEADS))})(?![a-z0-9])")
_BLOCK = re.compile(r"([a-z])[0-9]{2,6}")
_BRANCH = re.compile(r"((?:fork_[0-9]+_)?branch_)([0-9]+)(_.*)")
_WORD = re.compile(r"([a-z]+)(?:_([0-9]{1,6}))?")


def prefixes(layer_names: Iterable[str]) -> list[str]:
    """The prefixes of the networks among these layers, one per network; "" for names without a prefix.

    Each network's first convolution shows it: `left_stem_conv_1` belongs to a network built with
    `layer_prefix="left_"`.

    Examples:
        >>> prefixes(["left_stem_conv_1", "left_stem_conv_1_bn", "stem_conv_1", "logits"])
        ['left_', '']
    """
    first = inside(STEM, "conv", 1)
    return list(dict.fromkeys(name.removesuffix(first) for name in layer_names if name.endswith(first)))


def only_prefix(layer_names: Iterable[str]) -> str:
    """The prefix of the only network among these layers; "" if there is none, or several."""
    found = prefixes(layer_names)
    return found[0] if len(found) == 1 else ""


@dataclass(frozen=True)
class Place:
    """A layer's position and kind, parsed from its name; all fields are empty for a name outside this grammar.

    Attributes:
        stage: "stem", "a03", "reduction_a" or "final"; "" for a head's layer.
        head: "aux", "pooled", "dropout", "logits", "predictions" or "embedding"; "" for a stage's layer.
        block, number: "a" and 3 for the stage a03; "" and 0 for a stage that is not a numbered block.
        path: The forks and branches from the stage inwards: (("fork", 2), ("branch", 1)).
        kind, index: "conv" and 1 for the first convolution at this position; "concat" and 0 for kinds without numbers.
        suffix: "bn", "relu", "joined", … for a layer named after another; "" for a layer with its own name.

    Examples:
        >>> parse("a03_branch_2_conv_1_bn")
        Place(stage='a03', head='', block='a', number=3, path=(('branch', 2),), kind='conv', index=1, suffix='bn')
    """

    stage: str = ""
    head: str = ""
    block: str = ""
    number: int = 0
    path: tuple[tuple[str, int], ...] = ()
    kind: str = ""
    index: int = 0
    suffix: str = ""

    @property
    def fork(self) -> int:
        """The number of the outermost numbered fork, which only the stem has; 0 outside of one."""
        return self.path[0][1] if self.path and self.path[0][0] == FORK else 0

    @property
    def branches(self) -> tuple[int, ...]:
        """The branches' numbers, the outermost first."""
        return tuple(number for part, number in self.path if part == BRANCH)

    @property
    def outer_branch(self) -> tuple[tuple[str, int], ...]:
        """The path up to the outermost branch; empty outside of one."""
        parts = [part for part, _ in self.path]
        return self.path[: parts.index(BRANCH) + 1] if BRANCH in parts else ()


def parse(layer_name: str) -> Place:
    """Parse a layer's name, or a weight's path that begins with one."""
    name = layer_name.partition("/")[0]
    match = _STAGE.match(name) or _HEAD.match(name)
    if match is None:
        return Place()
    found = match.groupdict()
    words = [(word, int(number or 0)) for word, number in _WORD.findall(name[match.end() :])]
    path = tuple((word, number) for word, number in words if word in (FORK, BRANCH))
    (kind, index), *others = [word for word in words if word[0] not in (FORK, BRANCH)] or [("", 0)]
    return Place(
        stage=found.get("stage") or "",
        head=found.get("head") or "",
        block=found.get("block") or "",
        number=int(found.get("number") or 0),
        path=path,
        kind=kind,
        index=index,
        suffix="_".join(word for word, _ in others),
    )


def stage(layer_name: str) -> str | None:
    """The stage that a layer's name belongs to (`stem`, `a03`, …); None for other names."""
    match = _STAGE.match(layer_name)
    return match["stage"] if match else None


def place(layer_name: str) -> str:
    """The layer's stage, or its head (`aux`, `pooled`, `logits`, …); any other name is returned unchanged."""
    match = _HEAD.match(layer_name)
    return stage(layer_name) or (match["head"] if match else layer_name)


def block_of(stage: str) -> str:
    """`a` for the stage `a03`; "" for a stage that is not a numbered block."""
    match = _BLOCK.fullmatch(stage)
    return match[1] if match else ""


def block_or_stage(layer_name: str) -> str:
    """The row of a table's stages that a layer belongs to: `a` for any block a, otherwise the stage; "" for none."""
    found = stage(layer_name) or ""
    return block_of(found) or found


def in_branch(layer_name: str) -> bool:
    """Whether the layer is inside a branch, not on the network's main path."""
    return bool(parse(layer_name).branches)


def branches(name: str) -> tuple[int, ...]:
    """The numbers of the branches in a layer's name, with or without its stage."""
    return tuple(int(number or 0) for word, number in _WORD.findall(name) if word == BRANCH)


def split_at_branch(name: str) -> tuple[str, str, str] | None:
    """A layer's name without its stage, split at the number of its outermost branch; None outside a branch.

    Examples:
        >>> split_at_branch("fork_1_branch_2_conv_1")
        ('fork_1_branch_', '2', '_conv_1')
    """
    match = _BRANCH.fullmatch(name)
    return (match[1], match[2], match[3]) if match else None


def block(name: str, number: int) -> str:
    """`a03` for the third block A."""
    return f"{name}{number:02d}"


def inside(place: str, part: str, number: int | None = None) -> str:
    """`a03_branch_2`, or `a03_concat` without a number."""
    return f"{place}_{part}" if number is None else f"{place}_{part}_{number}"


def batch_norm(layer_name: str) -> str:
    """The name of a layer's batch norm."""
    return inside(layer_name, BATCH_NORM)


def relu(place: str) -> str:
    """The name of the ReLU after a convolution, or after a block's sum."""
    return inside(place, RELU)


def scale(place: str) -> str:
    """The name of the layer that scales a block's residual before the sum."""
    return inside(place, SCALE)


def joined(first: str) -> str:
    """The name of the convolution that replaces several, of which the first has this name."""
    return f"{first}_joined"


def split(first: str) -> str:
    """The name of the layer that splits a joined convolution's output."""
    return f"{first}_split"

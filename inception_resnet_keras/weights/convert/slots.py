"""A network's layers that have weights, with all that another project's name for one may depend on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ...networks import names
from ...networks import rows as rows_module
from ...networks.rows import Conv, Network
from ...networks.trace import Node, trace

CLASSES = 0  # stands for the class count in a slot's shapes

_PART = re.compile(r"_(fork|branch|conv|pool)_(\d+)")

_BRANCH = re.compile(r".*?_branch_\d+")

_BLOCK = re.compile(r"([a-z])(\d{2,})")

_TRACED_CLASSES = 999_999_937  # no layer of a network is as wide


@dataclass(frozen=True)
class Slot:
    """One layer with weights, seen by its place.

    place: "stem", "a03", "reduction_a", "final", "aux", "embedding" or "logits".
    block, number: "a" and 3 of a03; else the place and 1. last: of a `Repeat` that is never scaled,
    the released networks' "+ 1".
    unit: how many rows, blocks and reductions stand before it in the overview. order: how many
    convolutions with batch norm stand before it in the whole network.
    conv: n-th convolution at its place, for those that stand in no branch. fork: n-th fork of the stem.
    branch: number of the outermost branch, 0 outside of one. position: n-th row of that branch,
    pools counted. inner: branch of a fork inside the branch, 0 outside of one; branching: whether
    its branch ends in such a fork. alone: it is its branch's only row. pools: the branches beside
    it hold pools alone.
    shapes: by role, in Keras's layout; CLASSES stands for the class count.
    """

    name: str
    place: str
    block: str
    number: int
    last: bool
    unit: int
    order: int
    conv: int
    fork: int
    branch: int
    position: int
    inner: int
    branching: bool
    alone: bool
    pools: bool
    row: Conv | None
    shapes: dict[str, tuple[int, ...]]

    @property
    def project(self) -> bool:
        return self.name == names.inside(self.place, "project")

    @property
    def normalised(self) -> bool:
        return "beta" in self.shapes

    @property
    def kernel(self) -> tuple[int, int]:
        """(height, width); of convolutions only."""
        return self.shapes["kernel"][0], self.shapes["kernel"][1]

    @property
    def head(self) -> str:
        """`logits`, `embedding` or `aux` of the heads' layers, "" of the trunk's."""
        return self.place if self.place in (names.LOGITS, names.EMBEDDING, names.AUX) else ""

    def key(self, role: str) -> str:
        """The weight's name in this project: `a03_branch_2_conv_1/kernel`, `a03_branch_2_conv_1_bn/beta`."""
        return f"{self.name}/{role}" if role in ("kernel", "bias") else f"{self.name}_bn/{role}"


@lru_cache(maxsize=32)
def slots(network: Network) -> tuple[Slot, ...]:
    """All of a network's layers with weights, heads included, in the order of the walk."""
    nodes = {node.name: node for node in trace(network, classes=_TRACED_CLASSES, aux_head=bool(network.aux))}
    units: dict[str, int] = {}
    found: list[Slot] = []
    for node in nodes.values():
        unit = units.setdefault(_unit(node), len(units) - 1)  # the input is the first
        if node.op in ("conv", "dense"):
            order = sum(slot.normalised and slot.row is not None for slot in found)
            found.append(_slot(node, nodes, network, unit, order))
    return tuple(found)


def _unit(node: Node) -> str:
    part = _PART.match(node.name, len(names.STEM)) if node.place == names.STEM else None
    return part[0] if part else node.place


def _slot(node: Node, nodes: dict[str, Node], network: Network, unit: int, order: int) -> Slot:
    path = [(part, int(number)) for part, number in _PART.findall(node.name)]
    branches = [number for part, number in path if part == "branch"]
    place = node.place
    block = _BLOCK.fullmatch(place)
    outermost = _BRANCH.match(node.name)
    branch_name = outermost[0] if outermost else ""
    in_branch = [name for name in nodes if branches and name.startswith(f"{branch_name}_")]
    fork_name = branch_name.rpartition("_branch_")[0]
    beside = [nodes[name].op for name in nodes if branches and name.startswith(f"{fork_name}_branch_")]
    return Slot(
        name=node.name,
        place=place,
        block=block[1] if block else place,
        number=int(block[2]) if block else 1,
        last=block is not None and int(block[2]) > _scaled_times(network, block[1]),
        unit=unit,
        order=order,
        conv=path[0][1] if path and path[0][0] == "conv" else 0,
        fork=path[0][1] if path and path[0][0] == "fork" else 0,
        branch=branches[0] if branches else 0,
        position=_position(node, nodes, branch_name) if branches else 0,
        inner=branches[1] if len(branches) > 1 else 0,
        branching=any("_fork_" in name[len(branch_name) :] for name in in_branch),
        alone=len(in_branch) == 1,
        pools=beside.count("conv") == 1,
        row=node.row if isinstance(node.row, Conv) else None,
        shapes=_shapes(node, nodes),
    )


def _scaled_times(network: Network, block: str) -> int:
    rows = [stage for stage in network.stages if isinstance(stage, rows_module.Repeat) and stage.block.name == block]
    scaled = [row.times for row in rows if row.scale is not None]
    return sum(scaled or [row.times for row in rows])


def _position(node: Node, nodes: dict[str, Node], branch: str) -> int:
    """n-th row of its branch, all rows between the branch's start and it counted."""
    before = node.inputs[0]
    return 1 + (_position(nodes[before], nodes, branch) if before.startswith(f"{branch}_") else 0)


def _shapes(node: Node, nodes: dict[str, Node]) -> dict[str, tuple[int, ...]]:
    filters = CLASSES if node.shape[-1] == _TRACED_CLASSES else node.shape[-1]
    window = node.row.kernel if isinstance(node.row, Conv) and isinstance(node.row.kernel, tuple) else ()
    shapes: dict[str, tuple[int, ...]] = {"kernel": (*window, nodes[node.inputs[0]].shape[-1], filters)}
    if (isinstance(node.row, Conv) and not node.row.linear) or f"{node.name}_bn" in nodes:
        return shapes | dict.fromkeys(("beta", "moving_mean", "moving_variance"), (filters,))
    return shapes | {"bias": (filters,)}

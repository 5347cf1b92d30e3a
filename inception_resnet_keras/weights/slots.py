"""A network's layers that have weights, with all that another project's name for one may depend on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ..networks import names
from ..networks.names import Place
from ..networks.rows import Conv, Network, Repeat
from ..networks.trace import Node, trace, weight_shapes

CLASSES = 0  # stands for the class count in a slot's shapes
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
        return self.name == names.inside(self.place, names.PROJECT)

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
        return f"{self.name if role in ('kernel', 'bias') else names.batch_norm(self.name)}/{role}"


@lru_cache(maxsize=32)
def slots(network: Network) -> tuple[Slot, ...]:
    """All of a network's layers with weights, heads included, in the order of the walk."""
    classes = _TRACED_CLASSES if network.top else None
    nodes = trace(network, classes=classes, aux_head=bool(network.aux))
    walk = _Walk(network, nodes)
    units: dict[tuple[str, ...], int] = {}
    found: list[Slot] = []
    for node in nodes:
        unit = units.setdefault(walk.unit(node), len(units) - 1)  # the input is the first
        if node.op in ("conv", "dense"):
            order = sum(slot.normalised and slot.row is not None for slot in found)
            found.append(walk.slot(node, unit, order))
    return tuple(found)


class _Walk:
    """A traced network, with each operation's place as its name says."""

    def __init__(self, network: Network, nodes: list[Node]) -> None:
        self.network = network
        self.nodes = {node.name: node for node in nodes}
        self.places = {node.name: names.parse(node.name) for node in nodes}
        self.shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        for key, shape in weight_shapes(nodes).items():
            layer, _, role = key.partition("/")
            self.shapes.setdefault(layer, {})[role] = tuple(CLASSES if n == _TRACED_CLASSES else n for n in shape)

    def unit(self, node: Node) -> tuple[str, ...]:
        """What the overview counts: a row of the stem, or one other place."""
        place = self.places[node.name]
        if node.place != names.STEM:
            return (node.place,)
        part, number = place.path[0] if place.path else (place.kind, place.index)
        return node.place, part, str(number)

    def slot(self, node: Node, unit: int, order: int) -> Slot:
        place = self.places[node.name]
        branch = place.outer_branch
        in_branch = [name for name in self.nodes if branch and self._is_within(name, place, branch)]
        fork = [name for name in self.nodes if branch and self._is_within(name, place, branch[:-1])]
        beside = [self.nodes[name].op for name in fork if self.places[name].outer_branch]
        shapes = self.shapes[node.name] | self.shapes.get(names.batch_norm(node.name), {})
        return Slot(
            name=node.name,
            place=node.place,
            block=place.block or node.place,
            number=place.number or 1,
            last=place.number > _scaled_times(self.network, place.block),
            unit=unit,
            order=order,
            conv=0 if place.path or place.kind != "conv" else place.index,
            fork=place.fork,
            branch=place.branches[0] if branch else 0,
            position=self._position(node, place, branch) if branch else 0,
            inner=place.branches[1] if len(place.branches) > 1 else 0,
            branching=any(len(self.places[name].path) > len(branch) for name in in_branch),
            alone=len(in_branch) == 1,
            pools=beside.count("conv") == 1,
            row=node.row if isinstance(node.row, Conv) else None,
            shapes=shapes,
        )

    def _is_within(self, name: str, place: Place, path: tuple[tuple[str, int], ...]) -> bool:
        """Whether a layer stands at a path of a place's stage, or further inside."""
        other = self.places[name]
        return other.stage == place.stage and other.path[: len(path)] == path

    def _position(self, node: Node, place: Place, branch: tuple[tuple[str, int], ...]) -> int:
        """n-th row of its branch, all rows between the branch's start and it counted."""
        before = node.inputs[0]
        inside = self._is_within(before, place, branch)
        return 1 + (self._position(self.nodes[before], place, branch) if inside else 0)


def _scaled_times(network: Network, block: str) -> int:
    rows = [stage for stage in network.stages if isinstance(stage, Repeat) and stage.block.name == block]
    scaled = [row.times for row in rows if row.scale is not None]
    return sum(scaled or [row.times for row in rows])

"""A network's layers with weights, and all properties on which another project's name for a layer may depend."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ..networks import names
from ..networks.names import Place
from ..networks.rows import Conv, Network, Repeat
from ..networks.trace import Node, trace, weight_shapes

CLASSES = 0  # stands for the number of classes in a slot's shapes
_TRACED_CLASSES = 999_999_937  # a width that no other layer has


@dataclass(frozen=True)
class Slot:
    """One layer with weights, described by its position.

    Attributes:
        name: The layer's name in this package.
        place: "stem", "a03", "reduction_a", "final", "aux", "embedding" or "logits".
        block, number: "a" and 3 for a03; for other places the place and 1.
        last: Whether the layer is in the unscaled last block of the released networks (their "+ 1").
        unit: Number of stem rows, blocks and reductions before it.
        order: Number of convolutions with batch norm before it in the whole network.
        conv: Its number among the convolutions at its place, for those outside branches; otherwise 0.
        fork: Number of its fork in the stem; otherwise 0.
        branch: Number of its outermost branch; 0 outside a branch.
        position: Its number among the rows of that branch, pools included.
        inner: Number of its branch in a fork inside the branch; 0 outside one.
        branching: Whether its branch ends in such a fork.
        alone: Whether it is the only row of its branch.
        pools: Whether all other branches of its fork consist of pools.
        row: The table's row of a convolution; None for a dense layer.
        shapes: Shapes of the weights in Keras's layout, by role; CLASSES stands for the number of classes.
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
        """Whether it is a block's projection."""
        return self.name == names.inside(self.place, names.PROJECT)

    @property
    def normalised(self) -> bool:
        """Whether a batch norm follows it."""
        return "beta" in self.shapes

    @property
    def kernel(self) -> tuple[int, int]:
        """A convolution's kernel, (height, width)."""
        return self.shapes["kernel"][0], self.shapes["kernel"][1]

    @property
    def head(self) -> str:
        """`logits`, `embedding` or `aux` for a head's layer; "" for the trunk's."""
        return self.place if self.place in (names.LOGITS, names.EMBEDDING, names.AUX) else ""

    def key(self, role: str) -> str:
        """The weight's name in this package: `a03_branch_2_conv_1/kernel`, `a03_branch_2_conv_1_bn/beta`."""
        return f"{self.name if role in ('kernel', 'bias') else names.batch_norm(self.name)}/{role}"


@lru_cache(maxsize=32)
def slots(network: Network) -> tuple[Slot, ...]:
    """All layers of a network that have weights, heads included, in the order of the walk."""
    classes = _TRACED_CLASSES if network.top else None
    nodes = trace(network, classes=classes, aux_head=bool(network.aux))
    walk = _Walk(network, nodes)
    units: dict[tuple[str, ...], int] = {}
    found: list[Slot] = []
    for node in nodes:
        unit = units.setdefault(walk.unit(node), len(units) - 1)  # the first unit is the input, which is not counted
        if node.op in ("conv", "dense"):
            order = sum(slot.normalised and slot.row is not None for slot in found)
            found.append(walk.slot(node, unit, order))
    return tuple(found)


class _Walk:
    """A traced network, with the position of each operation parsed from its name."""

    def __init__(self, network: Network, nodes: list[Node]) -> None:
        self.network = network
        self.nodes = {node.name: node for node in nodes}
        self.places = {node.name: names.parse(node.name) for node in nodes}
        self.shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        for key, shape in weight_shapes(nodes).items():
            layer, _, role = key.partition("/")
            self.shapes.setdefault(layer, {})[role] = tuple(CLASSES if n == _TRACED_CLASSES else n for n in shape)

    def unit(self, node: Node) -> tuple[str, ...]:
        """The unit that an operation belongs to: a row of the stem, or another place."""
        place = self.places[node.name]
        if node.place != names.STEM:
            return (node.place,)
        part, number = place.path[0] if place.path else (place.kind, place.index)
        return node.place, part, str(number)

    def slot(self, node: Node, unit: int, order: int) -> Slot:
        # Its position in the branch, and what is beside it, follow from the names of all operations.
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
        """Whether a layer is at this path of the place's stage, or further inside."""
        other = self.places[name]
        return other.stage == place.stage and other.path[: len(path)] == path

    def _position(self, node: Node, place: Place, branch: tuple[tuple[str, int], ...]) -> int:
        """The row's number in its branch, counted from the branch's start."""
        before = node.inputs[0]
        inside = self._is_within(before, place, branch)
        return 1 + (self._position(self.nodes[before], place, branch) if inside else 0)


def _scaled_times(network: Network, block: str) -> int:
    """The number of a kind's blocks with scaled sums, or of all its blocks if none is scaled."""
    rows = [stage for stage in network.stages if isinstance(stage, Repeat) and stage.block.name == block]
    scaled = [row.times for row in rows if row.scale is not None]
    return sum(scaled or [row.times for row in rows])

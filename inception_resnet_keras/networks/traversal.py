"""The one walk over a network's rows. Subclasses implement the operations: `build.py` as Keras layers, `trace.py` as
counts of shapes, parameters and multiply-adds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from typing import Generic, TypeVar

from . import names
from .rows import Conv, Fork, Network, Pool, Repeat, Residual, Row

T = TypeVar("T")


class Walker(ABC, Generic[T]):
    """Walks rows in the order written and names each operation by its place."""

    @abstractmethod
    def conv(self, x: T, row: Conv, name: str) -> T: ...

    @abstractmethod
    def pool(self, x: T, row: Pool, name: str) -> T: ...

    @abstractmethod
    def concat(self, branches: list[T], name: str) -> T: ...

    @abstractmethod
    def residual_sum(self, x: T, branch: T, scale: float, place: str) -> T:
        """x + scale · branch."""

    @abstractmethod
    def relu(self, x: T, name: str) -> T: ...

    @abstractmethod
    def global_pool(self, x: T, kind: str, name: str) -> T: ...

    @abstractmethod
    def flatten(self, x: T, name: str) -> T: ...

    @abstractmethod
    def dropout(self, x: T, name: str) -> T: ...

    @abstractmethod
    def dense(self, x: T, units: int, name: str, *, bias: bool = True) -> T: ...

    @abstractmethod
    def batch_norm(self, x: T, name: str) -> T:
        """Batch norm of a vector, without gamma."""

    @abstractmethod
    def unit_norm(self, x: T, name: str) -> T:
        """x / ‖x‖₂."""

    @abstractmethod
    def width(self, x: T) -> int:
        """The number of x's channels."""

    def trunk(self, network: Network, x: T) -> tuple[T, T]:
        """The network before its heads: returns the last map, and the map that the auxiliary head reads."""
        x = self.rows(x, network.stem, names.STEM)
        done: Counter[str] = Counter()
        aux_input = x
        for stage in network.stages:
            if isinstance(stage, Fork):
                x = self.fork(x, stage, stage.name)
                continue
            block = stage.block
            for _ in range(stage.times):
                done[block.name] += 1
                x = self.block(x, stage, names.block(block.name, done[block.name]))
            if block.name == network.aux_after:
                aux_input = x
        return self.rows(x, network.final, names.FINAL), aux_input

    def classifier(self, x: T, network: Network, classes: int) -> T:
        """Global average pool → dropout → dense. With an embedding, dense over the embedding before normalisation."""
        return self.dense(self._features(x, network), classes, names.LOGITS)

    def embedding(self, x: T, network: Network) -> T:
        """Global average pool → dropout → dense without bias → batch norm → length 1."""
        return self.unit_norm(self._features(x, network), names.EMBEDDING)

    def _features(self, x: T, network: Network) -> T:
        x = self.global_pool(x, "avg", names.POOLED)
        x = self.dropout(x, names.DROPOUT)
        if network.embedding is None:
            return x
        name = names.inside(names.EMBEDDING, "dense")
        x = self.dense(x, network.embedding, name, bias=False)
        return self.batch_norm(x, names.batch_norm(name))

    def aux_classifier(self, x: T, network: Network, classes: int) -> T:
        x = self.rows(x, network.aux, names.AUX)
        x = self.flatten(x, names.inside(names.AUX, "flatten"))
        return self.dense(x, classes, names.inside(names.AUX, names.LOGITS))

    def rows(self, x: T, rows: Iterable[Row], place: str) -> T:
        done: Counter[str] = Counter()
        for row in rows:
            kind = type(row).__name__.lower()
            done[kind] += 1
            name = names.inside(place, kind, done[kind])
            match row:
                case Conv():
                    x = self.conv(x, row, name)
                case Pool():
                    x = self.pool(x, row, name)
                case Fork():
                    x = self.fork(x, row, name)
                case _:
                    raise TypeError(f"{place}: a {type(row).__name__} belongs in a network's stages, not in these rows")
        return x

    def fork(self, x: T, row: Fork | Residual, place: str) -> T:
        branches = [
            self.rows(x, branch, names.inside(place, "branch", number)) for number, branch in enumerate(row.branches, 1)
        ]
        return self.concat(branches, names.inside(place, "concat"))

    def block(self, x: T, row: Repeat, place: str) -> T:
        branch = self.fork(x, row.block, place)
        if isinstance(row.block, Fork):
            return branch
        # The projection takes its width from the block's input, so the misprinted 1154 and 2048 cannot be written.
        branch = self.conv(branch, Conv(self.width(x), 1, linear=True), names.inside(place, names.PROJECT))
        x = self.residual_sum(x, branch, 1.0 if row.scale is None else row.scale, place)
        return self.relu(x, names.relu(place)) if row.activation else x


def kernel_of(row: Conv, height: int | None, width: int | None) -> tuple[int, int]:
    """(height, width) of a row's kernel on a map of this size. Raises ValueError if it depends on an unknown side."""
    if row.kernel is None:
        if height is None or width is None:
            raise ValueError("a kernel as large as the map needs a map of known height and width")
        return height, width
    return row.kernel if isinstance(row.kernel, tuple) else (row.kernel, row.kernel)


def reach_of(size: int, dilation: int) -> int:
    """The number of cells that a dilated window spans, from its first to its last."""
    return (size - 1) * dilation + 1

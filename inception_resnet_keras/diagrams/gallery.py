"""The folder of pictures that the repository holds: every variant's overview and modules, and the explorer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .. import spec
from .api import Diagram, write
from .explorer import page
from .graph import INPUT, graph_of

EXPLORER = "explorer.html"


def draw_all(folder: Path) -> list[Path]:
    """Writes every picture as SVG and PNG, and the explorer; returns their paths. InputError without Graphviz."""
    written: list[Path] = []
    for name, diagram in pictures():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        written += [diagram.save(path.with_name(path.name + suffix)) for suffix in (".svg", ".png")]
    write(folder / EXPLORER, explorer().encode())
    return [*written, folder / EXPLORER]


def pictures() -> Iterator[tuple[str, Diagram]]:
    """Each picture with its path in the folder, less the suffix: `inception_v4/paper/reduction_a`."""
    for name, variants in spec.NETWORKS.items():
        for variant, network in variants.items():
            graph = graph_of(network, aux_head=bool(network.aux))
            parts = [part.key for part in graph.parts if part.key != INPUT]
            yield f"{name}/{variant}/overview", Diagram(graph_of(network), "overview", ())
            for key in parts:
                yield f"{name}/{variant}/{key}", Diagram(graph, "modules", [key])


def explorer() -> str:
    """One page of every network and variant."""
    return page([graph_of(network) for variants in spec.NETWORKS.values() for network in variants.values()])

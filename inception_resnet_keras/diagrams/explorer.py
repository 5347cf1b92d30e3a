"""The explorer: graphs become one page that opens from disk, fetches nothing, and contains its libraries."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from html import escape
from importlib.resources import files
from itertools import permutations
from string import Template
from typing import Any

from .. import networks
from ..weights.slots import slots
from ..weights.sources import OTHERS
from . import svg
from .differences import Difference, differences
from .graph import KINDS, Graph, Op, Part, full, inside, network_title, part_kind, shape_text

SCRIPTS = ("vendor/vendor.min.js", "scene.js", "view.js", "panel.js", "explorer.js", "address.js", "controls.js")


def page(graphs: Sequence[Graph]) -> str:
    """The explorer's HTML for some graphs; it opens with the first one."""
    script = "\n".join(_asset(name) for name in SCRIPTS)
    look = _theme() + _asset("explorer.css")
    # Nothing but what stands on the page may run, and nothing may be fetched.
    sources = f"script-src '{_hash(script)}'; style-src '{_hash(look)}'"
    policy = f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'"
    return Template(_asset("explorer.html")).substitute(
        title=escape(", ".join(dict.fromkeys(graph.title for graph in graphs))),
        csp=policy,
        style=look,
        script=script,
        data=_json(data_of(graphs)),
    )


def data_of(graphs: Sequence[Graph]) -> dict[str, Any]:
    """The data of the page: the graphs, and the differences of every pair."""
    pairs = permutations(enumerate(graphs), 2)
    return {
        "kinds": KINDS,
        "graphs": [_graph(graph, _variant(graphs, index)) for index, graph in enumerate(graphs)],
        "differences": {
            f"{left}-{right}": [_difference(each) for each in differences(one, other)]
            for (left, one), (right, other) in pairs
        },
    }


def _difference(found: Difference) -> list[Any]:
    """A difference as a short row, because a page contains thousands; the sides only as whether each has the fact."""
    sides = [int(side is not None) for side in (found.left, found.right)]
    return [found.part, found.op, found.twin, found.what, found.text, *sides]


def _elsewhere(graph: Graph) -> dict[str, Any]:
    """The names of a network's layers in the projects that published it: one list of names per project."""
    network = networks.NETWORKS.get(graph.name, {}).get(graph.variant.split(", ")[0])
    if network is None:
        return {"layers": [], "projects": []}
    drawn = {full(place, op.name) for part in graph.parts for place in part.places for op in part.ops}
    layers = [slot for slot in slots(network) if slot.name in drawn]
    projects: dict[str, list[list[str]]] = {}
    for table in OTHERS:
        if layer_of := table.layers.get((network.name, network.variant)):
            known = projects.setdefault(table.source, [[] for _ in layers])
            for own_names, name in zip(known, map(layer_of, layers), strict=True):
                if name and name not in own_names:
                    own_names.append(name)
    return {
        "layers": [slot.name for slot in layers],
        "projects": [[project, [" or ".join(each) for each in known]] for project, known in projects.items()],
    }


def _variant(graphs: Sequence[Graph], index: int) -> str:
    """The name of a variant, distinct from a model of the same variant earlier in the list."""
    graph = graphs[index]
    same = [(other.name, other.title, other.variant) for other in graphs[:index]]
    return graph.variant + (", as in the tables" if (graph.name, graph.title, graph.variant) in same else "")


def _graph(graph: Graph, variant: str) -> dict[str, Any]:
    own = "" if graph.title == network_title(graph.name) else f"{graph.title}, "
    return {
        "name": graph.name,
        "network": network_title(graph.name),
        "label": own + variant,
        "variant": variant,
        "title": graph.title,
        "figure": graph.figure,
        "notes": graph.notes,
        "elsewhere": _elsewhere(graph),
        "parameters": graph.parameters,
        "macs": graph.macs,
        "parts": [_part(part) for part in graph.parts],
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        "key": part.key,
        "title": part.title,
        "figure": part.figure,
        "inside": inside(part),
        "kind": part_kind(part),
        "note": part.note,
        "places": part.places,
        "times": part.times,
        "reads": part.reads,
        "shape": shape_text(part.shape),
        "parameters": part.parameters,
        "macs": part.macs,
        "ops": [_op(op) for op in part.ops],
    }


def _op(op: Op) -> dict[str, Any]:
    return asdict(op) | {"shape": shape_text(op.shape)}


def _theme() -> str:
    """The colours as CSS variables, by the system's preference or the reader's choice."""
    light, dark = (
        "".join(f"--{name}:{getattr(colour, theme)};" for name, colour in _colours().items())
        for theme in ("light", "dark")
    )
    kinds = "".join(
        f".kind-{kind}{{--kind-fill:var(--{kind}-fill);--kind-line:var(--{kind}-line)}}" for kind in svg.KINDS
    )
    return (
        f":root{{color-scheme:light dark;--mono:{svg.WEB_MONO};{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        f':root[data-theme="light"]{{color-scheme:light;{light}}}\n'
        f':root[data-theme="dark"]{{color-scheme:dark;{dark}}}\n{kinds}\n'
    )


def _colours() -> dict[str, svg.Colour]:
    named = ("PAPER", "CARD", "INK", "MUTED", "EDGE", "BORDER", "TRACK")
    colours = {name.lower(): getattr(svg, name) for name in named}
    for name, kind in svg.KINDS.items():
        colours |= {f"{name}-fill": kind.fill, f"{name}-line": kind.line}
    return colours


def _asset(name: str) -> str:
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _json(data: Any) -> str:
    """JSON that cannot close the HTML element around it."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def data_in(page: str) -> dict[str, Any]:
    """Read the data of a page."""
    start = page.index('id="data">') + len('id="data">')
    return json.loads(page[start : page.index("</script>", start)])

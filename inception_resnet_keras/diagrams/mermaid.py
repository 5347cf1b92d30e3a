"""The same three levels as Mermaid flowcharts, which GitHub and GitLab draw in a README or an issue.

GitHub draws at most 50,000 characters and 500 arrows: every level of every network of the tables fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..networks import names
from .graph import Graph, Op, Part, full, legend, part_kind, shape_text, short
from .notes import marks_in
from .svg import INK, KINDS

# Close together, so that a page's width is enough; footnotes are not broken after every few words.
SETTINGS = (
    "config:",
    "  flowchart:",
    "    nodeSpacing: 16",
    "    rankSpacing: 30",
    "    wrappingWidth: 640",
    "    subGraphTitleMargin:",
    "      top: 2",
    "      bottom: 14",
)


def overview(graph: Graph) -> str:
    lines = []
    for part in graph.parts:
        times = f" × {part.times}" if part.times > 1 else ""
        macs = None if part.macs is None else part.macs * part.times
        words = [part.title + part.note + times, part.figure, shape_text(part.shape)]
        if part.reads:
            words += [f"{short(part.parameters * part.times)} parameters", f"{short(macs)} multiply-adds"]
        lines.append(_node(part.key, words, part_kind(part)))
    lines += [_arrow(part.reads, part.key) for part in graph.parts if part.reads]
    shown = {mark for part in graph.parts for mark in part.note}
    return _chart(graph, lines, [note for note in graph.notes if note[0] in shown], _end(graph.parts).key)


def modules(graph: Graph, keys: Sequence[str]) -> str:
    lines = []
    parts = [graph.part(key) for key in keys]
    for part in parts:
        times = f" × {part.times}" if part.times > 1 else ""
        reads = f"{part.key}__reads"
        lines.append(f'subgraph {part.key}_module["{_escaped(part.title + times)}"]')
        lines.append(_node(reads, [graph.part(part.reads).title, shape_text(graph.input_of(part))], "plain"))
        lines += [_node(f"{part.key}__{op.name}", [op.title, op.detail], op.kind) for op in part.ops]
        lines += [
            _arrow(f"{part.key}__{name}" if name else reads, f"{part.key}__{op.name}", thick=_skips(op, name))
            for op in part.ops
            for name in op.inputs
        ]
        lines.append("end")
    drawn = {part.key: f"{part.key}__{part.ops[-1].name}" for part in parts}
    lines += [f"{drawn[part.reads]} -.-> {part.key}__reads" for part in parts if part.reads in drawn]
    marks = {mark for part in parts for mark in marks_in(part)}
    notes = [note for note in graph.notes if note[0] in marks]
    return _chart(graph, lines, [*_legend(op for part in parts for op in part.ops), *notes], drawn[_end(parts).key])


def layers(graph: Graph) -> str:
    """One node per operation, with the name of its first Keras layer within the block.

    To save arrows, a ReLU is part of the sum or convolution before it, and a projection part of its concat. Arrows
    between blocks join the blocks, not their nodes: Mermaid then lays out each block by itself, one below the other,
    and the chart is as wide as its widest block. A block that begins with several branches has a node for its input.
    """
    lines: list[str] = []
    arrows: list[str] = []
    ends = {"": ("", "")}
    for part in graph.parts:
        above, before = ends[part.reads]
        for place in part.places:
            block = f"{place or part.key}_block"
            known = {"": ""}
            nodes: dict[str, tuple[str, list[str], list[str]]] = {}  # each with its kind, what it does, and its names
            if sum("" in op.inputs for op in part.ops) > 1:
                known[""] = f"{place or part.key}__reads"
                nodes[known[""]] = "plain", [f"from {before}"], []
            for op in part.ops:
                merged = op.title == "ReLU" or op.name == names.PROJECT
                known[op.name] = node = known[op.inputs[0]] if merged else full(place, op.name)
                words, own = [op.title, op.detail], [] if op.title == "ReLU" else [_broken(op.name)]
                if merged:
                    nodes[node][1].append(" ".join(filter(None, words)))
                    nodes[node][2].extend(own)
                    continue
                nodes[node] = op.kind, words, own
                arrows += [_arrow(known[tail], node, thick=_skips(op, tail)) for tail in op.inputs if known[tail]]
            if above:
                arrows.append(_arrow(above, block))
            lines += [f'subgraph {block}["{_escaped(place or part.title)}"]', "direction TB"]
            lines += [
                _node(node, [*words, *", ".join(own).split("\n")], kind) for node, (kind, words, own) in nodes.items()
            ]
            lines.append("end")
            above, before = block, known[part.ops[-1].name]
        ends[part.key] = above, before
    notes = [*_legend(op for part in graph.parts for op in part.ops), *graph.notes]
    return _chart(graph, lines + arrows, notes, ends[_end(graph.parts).key][0])


def _broken(name: str) -> str:
    """A name within its block, on two lines if it is in a fork inside a branch, to keep columns narrow."""
    outer, branch, rest = name.rpartition(f"_{names.BRANCH}_")
    return f"{outer}\n{branch[1:]}{rest}" if names.FORK in outer else name


def _end(parts: Sequence[Part]) -> Part:
    """The last part in the order of the flow; an auxiliary head is beside it."""
    return [part for part in parts if part.key != names.AUX or len(parts) == 1][-1]


def _legend(ops: Iterable[Op]) -> list[tuple[str, str]]:
    """The legend as footnotes without a mark."""
    return [("", line) for line in legend(ops)]


def _chart(graph: Graph, lines: Iterable[str], notes: Iterable[tuple[str, str]], last: str) -> str:
    """last: The node below which the footnotes stand."""
    classes = [
        f"classDef {name} fill:{kind.fill.light},stroke:{kind.line.light},color:{INK.light}"
        for name, kind in KINDS.items()
    ]
    foot = "<br>".join(_escaped(f"{mark} {text}".strip()) for mark, text in notes)
    notes_node = [f'notes["{foot}"]', "style notes fill:none,stroke:none", f"{last} ~~~ notes"] if foot else []
    head = ["---", f"title: {_title(graph)}", *SETTINGS, "---", "flowchart TB"]
    return "\n".join([*head, *lines, *notes_node, *classes]) + "\n"


def _title(graph: Graph) -> str:
    """The title in YAML's double quotes."""
    escaped = f"{graph.title} ({graph.variant})".replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'


def _node(name: str, words: Sequence[str], kind: str) -> str:
    return f'{name}("{"<br>".join(_escaped(word) for word in words if word)}"):::{kind}'


def _arrow(tail: str, head: str, *, thick: bool = False) -> str:
    return f"{tail} {'==>' if thick else '-->'} {head}"


def _skips(op: Op, name: str) -> bool:
    return op.kind == "sum" and name == op.inputs[0]


def _escaped(text: str) -> str:
    for letter, entity in (("#", "#35;"), ("&", "#amp;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        text = text.replace(letter, entity)
    return text

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
    """One node an operation, under the name of its first Keras layer.

    A ReLU belongs to the sum before it, as to a convolution: arrows are dear.
    """
    lines, arrows = [], []
    ends = {"": ""}
    for part in graph.parts:
        before = ends[part.reads]
        for place in part.places:
            names = {"": before}
            nodes: dict[str, tuple[str, list[str]]] = {}  # each with its kind and what it does
            for op in part.ops:
                if op.title == "ReLU":
                    names[op.name] = names[op.inputs[0]]
                    nodes[names[op.name]][1].append(op.title)
                    continue
                names[op.name] = name = full(place, op.name)
                nodes[name] = op.kind, [f"{op.title} {op.detail}".strip()]
                arrows += [_arrow(names[tail], name, thick=_skips(op, tail)) for tail in op.inputs]
            lines.append(f'subgraph {place or part.key}_block["{_escaped(place or part.title)}"]')
            lines += [_node(name, [" · ".join(words), name], kind) for name, (kind, words) in nodes.items()]
            lines.append("end")
            before = names[part.ops[-1].name]
        ends[part.key] = before
    notes = [*_legend(op for part in graph.parts for op in part.ops), *graph.notes]
    return _chart(graph, lines + arrows, notes, before)


def _end(parts: Sequence[Part]) -> Part:
    """The last part in the order of the flow: an auxiliary head stands beside it."""
    return [part for part in parts if part.key != names.AUX or len(parts) == 1][-1]


def _legend(ops: Iterable[Op]) -> list[tuple[str, str]]:
    """As footnotes without a mark."""
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
    """In YAML's double quotes."""
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

"""Mermaid's text is whole, and small enough for GitHub to draw."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from inception_resnet_keras.diagrams.api import LEVELS, Diagram, Level
from inception_resnet_keras.diagrams.graph import INPUT, Graph, full

NODE = re.compile(r'^(\w+)\("(.*)"\):::(\w+)$')
ARROW = re.compile(r"^(\w+) (?:-->|==>) (\w+)$")


def drawn(graph: Graph, level: Level) -> str:
    return Diagram(graph, level, [part.key for part in graph.parts if part.key != INPUT]).mermaid()


@pytest.mark.parametrize("level", LEVELS)
def test_every_arrow_joins_two_nodes(graph: Graph, other: Graph, level: Level) -> None:
    for each in (graph, other):
        text = drawn(each, level)
        lines = text.splitlines()
        nodes = [match[1] for line in lines if (match := NODE.match(line))]
        arrows = [match.groups() for line in lines if (match := ARROW.match(line))]
        blocks = [line.split()[1].partition("[")[0] for line in lines if line.startswith("subgraph ")]
        assert len(nodes) == len(set(nodes))
        assert {end for arrow in arrows for end in arrow} <= {*nodes, *blocks}
        assert sum(line.startswith("subgraph ") for line in lines) == lines.count("end")
        assert len(text) < 50_000
        assert len(arrows) < 500


def test_modules_follow_each_other_in_the_order_of_the_flow(graph: Graph) -> None:
    """Subgraphs that nothing joins would stand side by side, and shrink to fit a page."""
    lines = drawn(graph, "modules").splitlines()
    joined = dict(line.split(" -.-> ")[::-1] for line in lines if " -.-> " in line)
    first, *rest = [part for part in graph.parts if part.key != INPUT]
    assert f"{first.key}__reads" not in joined
    assert joined == {f"{part.key}__reads": f"{part.reads}__{graph.part(part.reads).ops[-1].name}" for part in rest}
    assert f"head__{graph.part('head').ops[-1].name} ~~~ notes" in lines, "footnotes stand below, not beside"
    assert any("convolution + batch norm + ReLU" in line for line in lines if line.startswith("notes["))


def test_layers_stand_in_their_blocks_in_the_order_of_the_flow(graph: Graph) -> None:
    blocks: list[str] = []
    shown: dict[str, str] = {}
    for line in drawn(graph, "layers").splitlines():
        if line.startswith("subgraph "):
            blocks.append(line.split()[1].partition("_block")[0])
        elif match := NODE.match(line):
            shown[match[1]] = match[2]
    assert blocks == [place or part.key for part in graph.parts for place in part.places]
    for part in graph.parts:
        for place, op in ((place, op) for place in part.places for op in part.ops if op.title != "ReLU"):
            node = full(place, op.inputs[0] if op.name == "project" else op.name)
            whole = shown[node].replace("<br>branch", "_branch")
            assert op.title in whole
            assert op.name in whole or f"<br>{op.name}" in shown[node]


def test_no_arrow_of_the_layers_enters_a_block(graph: Graph) -> None:
    """So Mermaid lays each block out by itself: else they drift apart sideways, and the chart shrinks to fit a page."""
    home: dict[str, str] = {}
    inside, arrows, directions = "", [], 0
    for line in drawn(graph, "layers").splitlines():
        if line.startswith("subgraph "):
            inside = line.split()[1].partition("[")[0]
            home[inside] = ""
        elif line == "end":
            inside = ""
        elif match := NODE.match(line):
            home[match[1]] = inside
        elif match := ARROW.match(line):
            arrows.append(match.groups())
        directions += line == "direction TB"
    blocks = {name for name, outer in home.items() if not outer}
    assert directions == len(blocks)
    assert all(home[tail] == home[head] for tail, head in arrows)
    order = [place or part.key for part in graph.parts for place in part.places]
    assert {f"{place}_block" for place in order} == blocks
    joined = {(tail.removesuffix("_block"), head.removesuffix("_block")) for tail, head in arrows if tail in blocks}
    ends = {part.key: part.places[-1] or part.key for part in graph.parts}
    runs = {pair for part in graph.parts for pair in zip(part.places, part.places[1:], strict=False)}
    assert joined == runs | {(ends[part.reads], part.places[0] or part.key) for part in graph.parts if part.reads}


@pytest.mark.parametrize("level", LEVELS)
def test_a_models_name_cannot_end_its_quotes(graph: Graph, level: Level) -> None:
    text = drawn(replace(graph, title='a"] --> b["<script>\n'), level)
    assert "<script>" not in text.split("---", 2)[2]
    assert '"a\\"] --> b' in text.splitlines()[1]


def test_the_footnotes_are_drawn(graph: Graph) -> None:
    text = drawn(graph, "overview")
    assert all(mark in text for part in graph.parts for mark in part.note)
    assert all(note in drawn(graph, "modules").replace("#quot;", '"') for _, note in graph.notes)

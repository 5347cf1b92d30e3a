"""What differs is told once, on the side where it is."""

from __future__ import annotations

from dataclasses import replace

from inception_resnet_keras import spec
from inception_resnet_keras.diagrams.compare import differences
from inception_resnet_keras.diagrams.graph import Graph, graph_of


def test_a_network_is_as_itself(graph: Graph) -> None:
    assert differences(graph, graph) == []


def test_depths_differ(graph: Graph, other: Graph) -> None:
    found = differences(graph, other)
    runs = {each.part: (each.left, each.right) for each in found if each.what == "blocks"}
    assert set(runs) >= {"a", "b"}
    assert all(int(right or 0) == int(left or 0) + 1 for key, (left, right) in runs.items() if key != "c")
    assert [each.part for each in found if each.what == "there" and not each.op and each.left is None][-1] == "final"


def test_an_operation_that_differs_is_named_with_both_sides() -> None:
    paper = spec.find("inception_resnet_v2")
    unscaled = spec.with_scales(paper, [0.1, 1.0, 0.1])
    (found,) = differences(graph_of(paper), graph_of(unscaled))
    assert (found.part, found.op) == ("b", "sum")
    assert found.text == "sum: sum x + 0.1 · f(x) → sum x + f(x)"


def test_a_footnote_is_no_difference() -> None:
    paper = spec.find("inception_resnet_v2")
    assert differences(graph_of(paper), graph_of(replace(paper, variant="unprinted"))) == []

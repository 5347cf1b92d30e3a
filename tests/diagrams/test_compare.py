"""What differs is told once, on the side where it is."""

from __future__ import annotations

from dataclasses import replace

from inception_resnet_keras import networks
from inception_resnet_keras.diagrams.differences import differences
from inception_resnet_keras.diagrams.from_table import graph_of
from inception_resnet_keras.diagrams.graph import Graph
from inception_resnet_keras.networks import edits


def test_a_network_is_as_itself(graph: Graph) -> None:
    assert differences(graph, graph) == []


def test_depths_differ(graph: Graph, other: Graph) -> None:
    found = differences(graph, other)
    runs = {each.part: (each.left, each.right) for each in found if each.what == "blocks"}
    assert set(runs) >= {"a", "b"}
    assert all(int(right or 0) == int(left or 0) + 1 for key, (left, right) in runs.items() if key != "c")
    assert [each.part for each in found if each.what == "there" and each.left is None and each.part != "c11"][
        -1
    ] == "final"


def test_an_operation_that_differs_is_named_with_both_sides() -> None:
    paper = networks.find("inception_resnet_v2")
    unscaled = edits.with_scales(paper, [0.1, 1.0, 0.1])
    (found,) = differences(graph_of(paper), graph_of(unscaled))
    assert (found.part, found.op) == ("b", "sum")
    assert found.text == "sum: sum x + 0.1 · f(x) → sum x + f(x)"


def test_a_branch_is_compared_with_its_like_wherever_it_stands() -> None:
    """What the released Inception-v4 differs in from the paper's: three places, and the order of its branches."""
    paper, slim = (graph_of(networks.find("inception_v4", variant)) for variant in ("paper", "slim"))
    found = differences(paper, slim)
    assert {each.what for each in found} == {"operation", "inputs"}
    orders = {each.part: (each.left, each.right) for each in found if each.what == "inputs"}
    assert orders == dict.fromkeys("abc", ("1, 2, 3, 4", "2, 3, 4, 1")) | dict.fromkeys(
        ("reduction_a", "reduction_b"), ("1, 2, 3", "2, 3, 1")
    )
    long = [(each.op, each.twin) for each in found if (each.part, each.what) == ("b", "operation")]
    assert long == [(f"branch_4_conv_{number}", f"branch_3_conv_{number}") for number in (2, 3, 4, 5)]
    back = differences(slim, paper)
    assert sorted((each.part, each.op, each.twin) for each in found) == sorted(
        (each.part, each.twin, each.op) for each in back
    )


def test_images_of_another_size_are_told_once() -> None:
    """Every map after them is of another size too, which would hide what differs."""
    paper, facenet = (graph_of(networks.find("inception_resnet_v1", variant)) for variant in ("paper", "facenet"))
    found = differences(paper, facenet)
    outputs = [(each.part, each.left, each.right) for each in found if each.what == "output"]
    assert outputs == [("input", "299×299×3", "160×160×3"), ("head", "1000", "512")]
    assert {each.part for each in found} == {"input", "a", "reduction_a", "reduction_b", "c", "c06", "head"}


def test_a_footnote_is_no_difference() -> None:
    paper = networks.find("inception_resnet_v2")
    assert differences(graph_of(paper), graph_of(replace(paper, variant="unprinted"))) == []

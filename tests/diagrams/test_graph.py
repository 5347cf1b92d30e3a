"""The graph is the network: its counts, its layers, the paper's misprints."""

from __future__ import annotations

from typing import Any

import pytest

from inception_resnet_keras import create_inception_v4, networks
from inception_resnet_keras.diagrams.from_table import graph_of
from inception_resnet_keras.diagrams.graph import Graph, full, inside, legend
from inception_resnet_keras.networks import edits, misprints
from inception_resnet_keras.networks.build import build
from inception_resnet_keras.networks.rows import DROPOUT_RATE, Network
from inception_resnet_keras.networks.trace import trace


def layers_of(graph: Graph) -> list[str]:
    return [
        full(place, layer) for part in graph.parts for place in part.places for op in part.ops for layer in op.layers
    ]


def test_the_parts_add_up_to_the_network(network: Network) -> None:
    aux_head = bool(network.aux)
    nodes = trace(network, (network.size, network.size), aux_head=aux_head, **networks.head(network))
    graph = graph_of(network, aux_head=aux_head)
    assert graph.parameters == sum(node.parameters for node in nodes)
    assert graph.macs == sum(node.macs or 0 for node in nodes)
    blocks = networks.block_names(network)
    runs = [sum(part.times for part in graph.parts if part.places[0].rstrip("0123456789") == name) for name in blocks]
    assert tuple(runs) == networks.depths(network)


@pytest.mark.parametrize("classes", [7, None])
def test_every_layer_of_the_built_model_is_drawn_once(network: Network, classes: int | None) -> None:
    shallow = edits.with_depths(network, [2] * len(networks.block_names(network)))
    aux_head = bool(network.aux)
    given: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    model = build(shallow, **given, input_shape=(139, 139, 3), aux_head=aux_head, include_preprocessing=True)
    graph = graph_of(shallow, (139, 139), classes=classes, aux_head=aux_head, preprocess=True)
    assert sorted(layers_of(graph)) == sorted(layer.name for layer in model.layers)
    assert graph.parameters == model.count_params()
    shapes = {full(p, op.layers[-1]): op.shape for part in graph.parts for p in part.places for op in part.ops}
    assert all(tuple(model.get_layer(name).output.shape[1:]) == shape for name, shape in shapes.items())


def test_a_last_block_that_differs_is_a_part_of_its_own(other: Graph) -> None:
    keys = [part.key for part in other.parts]
    assert "final" in keys
    if not networks.is_residual(networks.find(other.name)):
        assert other.part("c").times == networks.depths(networks.find(other.name))[-1] + 2
        return
    first, last = other.part("c"), other.parts[keys.index("c") + 1]
    assert last.key.startswith("c")
    assert last.times == 1
    assert last.reads == "c"
    assert (last.title, last.figure) == (first.title, f"{first.figure}, without scale and ReLU")


def test_only_what_a_last_block_is_without_is_told() -> None:
    unscaled = edits.with_scales(networks.find("inception_resnet_v2", "slim"), [1.0, 1.0, 1.0])
    assert graph_of(unscaled).part("c10").figure == "Figure 19, without ReLU"


def test_what_no_figure_shows_says_so() -> None:
    graph = graph_of(networks.find("inception_resnet_v2", "slim"))
    assert graph.part("final").title == "Final 1×1 convolution"
    assert {part.key for part in graph.parts if "not in the paper" in part.figure} == {"stem", "final"}


def test_a_network_with_an_embedding_ends_in_it() -> None:
    facenet = networks.find("inception_resnet_v1", "facenet")
    graph = graph_of(facenet)
    assert graph.parts[0].shape == (160, 160, 3)
    told = inside(graph.part("head"))
    assert told == "global avg pool, dropout, dense 512, batch norm, L2 norm"
    details = {op.title: op.detail for op in graph.part("head").ops}
    assert details["dense"] == "512 · no bias"
    told = inside(graph_of(facenet, classes=9).part("head"))
    assert told == "global avg pool, dropout, dense 512, batch norm, dense 9, softmax"


def test_an_auxiliary_head_that_a_network_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="facenet variant has no auxiliary head"):
        graph_of(networks.find("inception_resnet_v1", "facenet"), aux_head=True)


def test_the_corrected_widths_have_footnotes_with_their_arithmetic() -> None:
    graph = graph_of(networks.find("inception_resnet_v2"))
    notes = dict(graph.notes)
    for key, arithmetic, printed in (
        ("b", "384 + 384 + 384 = 1152", "1154"),
        ("c", "1152 + 384 + 288 + 320 = 2144", "2048"),
    ):
        part = graph.part(key)
        project = next(op for op in part.ops if op.name == "project")
        assert project.note
        assert project.note == part.note
        assert sum(op.note == project.note for op in part.ops) == 1
        assert f"{project.shape[-1]}{project.note}" in project.detail
        assert arithmetic in notes[part.note]
        assert printed in notes[part.note]
    assert any("Figure 18" in note for note in notes.values())


@pytest.mark.parametrize("name", ["inception_v4", "inception_resnet_v2"])
def test_figure_3_has_a_footnote_at_the_stride_that_it_does_not_print(name: str) -> None:
    stem = graph_of(networks.find(name)).part("stem")
    (op,) = [op for op in stem.ops if op.note]
    assert (op.detail, stem.note) == ("192 · stride 2† · V", "†")
    pool = next(other for other in stem.ops if other.name == "fork_3_branch_2_pool_1")
    assert (op.inputs, op.shape) == (pool.inputs, (35, 35, 192)), "both end on one map"
    notes = dict(graph_of(networks.find(name)).notes)
    assert "Figure 3 prints 192 V without the stride of 2 that 71×71 → 35×35 needs" in notes["†"]
    small = dict(graph_of(networks.find(name), (139, 107)).notes)
    assert "31×23 → 15×11" in small["†"]
    assert "→" not in dict(graph_of(networks.find(name), (None, None)).notes)["†"]


def test_figure_15_prints_nothing_wrong() -> None:
    for name in networks.NETWORKS:
        assert not any("Figure 15" in text for _, text in graph_of(networks.find(name)).notes)


def test_a_scale_is_said_to_be_chosen() -> None:
    paper = networks.find("inception_resnet_v2")
    for scales, numbers in (([0.1] * 3, "0.1 is"), ([0.2, 0.3, 1.0], "0.2, 0.3 are")):
        graph = graph_of(edits.with_scales(paper, scales))
        assert f"0.1 to 0.3 (Section 3.3), and none for a block: {numbers}" in dict(graph.notes)["*"]
        marked = [part.key for part in graph.parts for op in part.ops if op.note == "*"]
        assert marked == [key for key, scale in zip("abc", scales, strict=True) if scale != 1.0]
    assert "*" not in dict(graph_of(edits.with_scales(paper, [1.0] * 3)).notes)
    assert "*" not in dict(graph_of(networks.find("inception_resnet_v2", "slim")).notes), "its scales were released"


def test_the_kernels_that_the_released_inception_v4_swaps_are_marked() -> None:
    """Four places; of a network whose kernels stand as the paper prints them, none."""
    graph = graph_of(networks.find("inception_v4", "slim"))
    marked = {part.key: [op.title.split()[0] for op in part.ops if op.note] for part in graph.parts if part.note}
    assert marked == {
        "stem": ["1×7", "7×1"],
        "b": ["7×1", "1×7", "7×1", "1×7"],
        "c": ["3×1", "1×3", "1×3", "3×1"],
    }
    assert [op.name for op in graph.part("c").ops if op.note][2:] == [
        f"branch_3_fork_1_branch_{number}_conv_1" for number in (1, 2)
    ]
    notes = dict(graph.notes)
    for key, printed in (("stem", "7×1, 1×7"), ("b", "1×7, 7×1, 1×7, 7×1"), ("c", "1×3, 3×1, 3×1, 1×3")):
        assert f"prints {printed}, in this order" in notes[graph.part(key).note]
    for name, variants in networks.NETWORKS.items():
        for variant in variants.keys() - {"paper"}:
            other = graph_of(networks.find(name, variant))
            assert (other.notes == ()) == ((name, variant) != ("inception_v4", "slim"))


@pytest.mark.parametrize("variant", ["paper", "slim"])
def test_an_auxiliary_head_is_said_to_stand_in_no_figure(variant: str) -> None:
    aux = graph_of(networks.find("inception_v4", variant), aux_head=True).part("aux")
    assert aux.figure == "not in the paper's figures"
    assert inside(aux) == ("5×5 avg pool, 1×1 conv, 5×5 conv, flatten, dense 1000, softmax, not in the paper's figures")


def test_figure_7_shows_the_papers_letters(network: Network) -> None:
    details = [op.detail for op in graph_of(network).part("reduction_a").ops if " = " in op.detail]
    letters = dict(detail.split(" · ")[0].split(" = ") for detail in details)
    assert sorted(letters) == ["k", "l", "m", "n"]
    assert tuple(int(letters[letter]) for letter in "klmn") == TABLE_1[network.name]
    assert "k, l, m, n: Table 1 of the paper" in legend(graph_of(network).part("reduction_a").ops)


TABLE_1 = {  # of the paper: k, l, m, n
    "inception_v4": (192, 224, 256, 384),
    "inception_resnet_v1": (192, 192, 256, 384),
    "inception_resnet_v2": (256, 256, 384, 384),
}


def test_the_legend_explains_the_words_that_are_there() -> None:
    conv, linear = (
        "conv: convolution + batch norm + ReLU",
        "linear: convolution with a bias, without batch norm and ReLU",
    )
    valid = "V: valid padding; same padding without it"
    graph = graph_of(networks.find("inception_resnet_v2"))
    assert legend(graph.part("stem").ops) == [conv, valid]
    assert legend(graph.part("b").ops) == [conv, linear]
    assert legend(graph.part("head").ops) == []
    assert legend([op for op in graph.part("b").ops if "linear" in op.detail]) == [linear]
    same = graph_of(edits.with_padding(networks.find("inception_resnet_v2"), "same"))
    assert legend(same.part("stem").ops) == [conv]


def test_figure_5_has_a_footnote_at_the_second_half() -> None:
    part = graph_of(networks.find("inception_v4")).part("b")
    assert [op.title for op in part.ops if op.note] == [f"7×1 conv{part.note}"]


def test_every_misprint_is_about_something_drawn() -> None:
    for name, told in misprints.MISPRINTS.items():
        graph = graph_of(networks.find(name))
        misprinted = [text for _, text in graph.notes if " prints " in text]
        assert len(misprinted) == len(told)
        assert "".join(part.note for part in graph.parts) == "†‡§¶"[: len(told)], "every mark is at a part"
        for misprint in told:
            if misprint.part:
                assert any(op.name == misprint.part for op in graph.part(misprint.block).ops)


def test_an_unknown_size_is_drawn_as_one(network: Network) -> None:
    graph = graph_of(network, (None, None))
    assert graph.macs is None
    assert graph.parts[0].shape == (None, None, 3)


def test_dropout_keeps_what_the_factories_keep() -> None:
    defaults = create_inception_v4.__kwdefaults__
    assert defaults is not None
    assert defaults["dropout_rate"] == pytest.approx(DROPOUT_RATE)

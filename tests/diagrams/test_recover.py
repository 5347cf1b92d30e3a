"""A model of ours is drawn as what it is, and no other model is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import pytest

from inception_resnet_keras import (
    create_inception_resnet_v1,
    create_inception_resnet_v2,
    create_inception_v4,
    networks,
    plot_architecture,
)
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.diagrams.explorer import data_in
from inception_resnet_keras.diagrams.from_table import graph_of
from inception_resnet_keras.networks import edits
from inception_resnet_keras.networks.rows import Repeat


def test_a_loaded_model_is_drawn_with_its_own_size_depths_and_scales(tmp_path: Path) -> None:
    model = create_inception_resnet_v2(
        5, (0.2, 0.1, 0.3), depths=(1, 2, 1), input_shape=(139, 155, 1), aux_head=True, include_preprocessing=True
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    graph = plot_architecture(loaded).graph
    table = edits.with_scales(edits.with_depths(networks.find("inception_resnet_v2"), (1, 2, 1)), (0.2, 0.1, 0.3))
    assert graph == graph_of(table, (139, 155), channels=1, classes=5, aux_head=True, preprocess=True)
    assert graph.parameters == model.count_params()


@pytest.mark.parametrize("scale", [True, False])
def test_a_sum_is_drawn_as_the_model_has_it(scale: bool) -> None:
    model = create_inception_resnet_v1(3, scale, depths=(1, 1, 1), input_shape=(None, None, 3))
    graph = plot_architecture(model).graph
    assert graph.parts[0].shape == (None, None, 3)
    total = next(op for op in graph.part("a").ops if op.kind == "sum")
    assert total.detail == ("x + 0.1 · f(x)" if scale else "x + f(x)")


def test_a_model_without_a_top_ends_where_it_does() -> None:
    options: dict[str, Any] = {"depths": (1, 1, 1), "include_top": False, "input_shape": (107, 107, 3)}
    assert plot_architecture(create_inception_v4(**options)).graph.parts[-1].key == "c"
    pooled = plot_architecture(create_inception_v4(pooling="max", **options)).graph.part("head")
    assert [op.title for op in pooled.ops] == ["global max pool"]


def test_what_the_tables_leave_open_is_read_from_the_model() -> None:
    model = create_inception_v4(
        2, depths=(1, 1, 1), input_shape=(75, 75, 3), dropout_rate=0.5, classifier_activation=None, name="<b>mine"
    )
    diagram = plot_architecture(model)
    assert [op.detail for op in diagram.graph.part("head").ops if op.title == "dropout"] == ["keep 0.5"]
    assert "softmax" not in [op.title for op in diagram.graph.part("head").ops]
    assert "<b>mine" not in diagram.svg()
    assert "&lt;b&gt;mine" in diagram.svg()


@pytest.mark.parametrize("classes", [None, 9])
@pytest.mark.parametrize("scale", [True, False])
def test_facenet_is_drawn_with_the_head_that_it_has(classes: int | None, scale: bool) -> None:
    given: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    model = create_inception_resnet_v1(
        scale=scale, variant="facenet", depths=(1, 1, 2), input_shape=(96, 96, 3), **given
    )
    graph = plot_architecture(model).graph
    table = edits.with_depths(networks.find("inception_resnet_v1", "facenet"), (1, 1, 2))
    assert graph == graph_of(table if scale else edits.with_scales(table, [1.0] * 3), (96, 96), classes=classes)
    assert graph.parameters == model.count_params()


@pytest.mark.parametrize(("last", "keys"), [("b01_relu", ["b"]), ("c02_relu", ["b", "reduction_b", "c"])])
def test_a_part_of_a_network_whose_last_block_differs(last: str, keys: list[str]) -> None:
    model = create_inception_resnet_v2(variant="slim", depths=(1, 1, 3), input_shape=(75, 75, 3))
    trunk = keras.Model(model.input, model.get_layer(last).output)
    graph = plot_architecture(trunk).graph
    assert graph.variant == "slim"
    assert [part.key for part in graph.parts][4:] == keys
    assert graph.parameters == trunk.count_params()


def test_channels_first_is_the_same_network() -> None:
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        model = create_inception_v4(4, depths=(1, 1, 1), input_shape=(3, 107, 123))
    finally:
        keras.config.set_image_data_format(before)
    assert plot_architecture(model).graph.parts[0].shape == (107, 123, 3)


def test_a_released_variant_is_told_from_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    from inception_resnet_keras.networks.build import build

    paper = networks.find("inception_v4")
    first, *rest = paper.stages
    assert isinstance(first, Repeat)
    swapped = replace(first.block, branches=first.block.branches[::-1])
    other = replace(paper, variant="other", stages=[replace(first, block=swapped), *rest])
    monkeypatch.setitem(networks.NETWORKS["inception_v4"], "other", other)
    model = build(edits.with_depths(other, (1, 1, 1)), 3, input_shape=(75, 75, 3))
    assert plot_architecture(model).graph.variant == "other"


def other_models() -> list[keras.Model]:
    ours = create_inception_v4(3, depths=(1, 1, 1), input_shape=(75, 75, 3))
    image = keras.Input((75, 75, 3))
    return [
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]),
        keras.Sequential([ours, keras.layers.Dense(2)]),
        keras.Model(ours.inputs, keras.layers.Dense(2, name="mine")(ours.output)),
        keras.Model(image, keras.layers.Conv2D(7, 3, name="stem_conv_1")(image)),
        keras.Model(image, keras.layers.ReLU(name="stem_relu")(image)),
        keras.Model(image, keras.layers.Rescaling([0.1, 0.2, 0.3], name="a01_scale")(image)),
        keras.Model(ours.inputs, keras.layers.ReLU(name="logits")(ours.get_layer("dropout").output)),
    ]


def test_other_models_are_refused_with_a_reason() -> None:
    reasons = ["no layer named as", r"get_layer", "additional layer 'mine'", "'stem_conv_1' with filters 7 for 32"]
    reasons += ["additional layer 'stem_relu'", "additional layer 'a01_scale'", "'logits' with class ReLU for Dense"]
    for model, reason in zip(other_models(), reasons, strict=True):
        with pytest.raises(InputError, match=reason):
            plot_architecture(model)


def test_a_models_page_has_the_tables_beside_it() -> None:
    model = create_inception_v4(3, depths=(1, 1, 1), input_shape=(75, 75, 3))
    graphs = data_in(plot_architecture(model).html())["graphs"]
    variants = list(networks.NETWORKS["inception_v4"])
    assert [graph["label"] for graph in graphs] == ["paper", "paper, as in the tables", *variants[1:]]
    assert graphs[0]["parts"][0]["shape"] == "75×75×3"

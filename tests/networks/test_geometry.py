"""Where the cells of a map lie, against the gradients of what is built."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from inception_resnet_keras import (
    endpoints,
    feature_extractor,
    feature_geometry,
    networks,
    optimize_for_inference,
)
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.networks import edits
from inception_resnet_keras.networks.build import build
from inception_resnet_keras.networks.geometry import FeatureGeometry

from .. import tiny

NARROW = {name: edits.with_width(edits.with_depths(networks.find(name), (1, 1, 1)), 0.1) for name in networks.NETWORKS}
DENSITIES: list[tuple[Any, int | None]] = [("valid", None), ("same", None), ("same", 16), ("valid", 8), ("same", 8)]
# Two networks or one of each density, and each network with both paddings or both strides.
EDITED = [
    (name, *density)
    for number, name in enumerate(networks.NETWORKS)
    for place, density in enumerate(DENSITIES)
    if (number + place) % 2 == 0
]


def seen(geometry: FeatureGeometry, cell: int, axis: int) -> tuple[int, int]:
    """The first and the last pixel that a cell sees along an axis."""
    centre, half = geometry.offset[axis] + cell * geometry.stride, (geometry.receptive_field[axis] - 1) / 2
    return round(centre - half), round(centre + half)


def increasing(model: keras.Model) -> keras.Model:
    """With weights that are all positive, so that no ReLU is ever closed and every pixel counts."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name == "kernel":
            weight.assign(rng.uniform(0.5, 1.5, weight.shape) / np.prod(weight.shape[:-1]))
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("table", "padding", "output_stride"), EDITED)
def test_a_cell_sees_the_pixels_that_its_gradient_reaches(table: str, padding: Any, output_stride: int | None) -> None:
    """On a slope, so that each maximum pool takes its last cell, or turned round its first."""
    tf = pytest.importorskip("tensorflow")
    network = edits.with_output_stride(edits.with_padding(NARROW[table], padding), output_stride)
    size = (650, 671)  # more than the last cells see
    model = increasing(build(network, include_top=False, input_shape=(*size, 3), dtype="float64"))
    geometry = feature_geometry(network, size)
    maps = feature_extractor(model, list(geometry))
    slope = 1 + 1e-3 * np.add.outer(np.arange(size[0]), np.arange(size[1]))[None, :, :, None] * np.ones(3)
    images = tf.constant(np.concatenate([slope, slope[:, ::-1, ::-1]]))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        cells = {}
        for name, values in maps(images).items():
            at = [side // 2 for side in values.shape[1:3]]
            cells[name] = at, tf.reduce_sum(values[:, at[0], at[1]])
    assert set(endpoints(model)) == set(geometry)
    for name, (at, value) in cells.items():
        gradient = np.abs(tape.gradient(value, images)).sum(axis=-1)
        for axis in range(2):
            reached = np.nonzero(gradient.sum(axis=(0, 2 - axis)))[0]
            first, last = seen(geometry[name], at[axis], axis)
            assert first >= 0, "the picture is too small to tell"
            assert last < size[axis], "the picture is too small to tell"
            assert (reached.min(), reached.max()) == (first, last), (name, axis)


def test_by_hand() -> None:
    """The stem of Figure 14: 3×3 s2, 3×3, 3×3, pool 3×3 s2, 1×1, 3×3, 3×3 s2."""
    table = networks.find("inception_resnet_v1")
    assert feature_geometry(table)["stem"] == FeatureGeometry(8, (13, 13), (31, 31))
    aligned = edits.with_padding(table, "same")
    assert feature_geometry(aligned, (257, 257))["stride_32"].offset == (0, 0)  # as align_corners of other libraries
    # Of an even side the first window starts at the first pixel: 1, and 2 and 4 more at strides 4 and 8.
    assert feature_geometry(aligned, (256, 257))["stem"] == FeatureGeometry(8, (7, 0), (31, 31))
    dense = edits.with_output_stride(table, 8)
    assert feature_geometry(dense)["b10"].stride == 8
    assert "stride_16" not in feature_geometry(dense)
    whole = feature_geometry(table)
    assert whole["stride_4"] == FeatureGeometry(4, (9, 9), (23, 23))
    assert feature_geometry(dense)["b10"].receptive_field == whole["b10"].receptive_field
    assert feature_geometry(dense)["b10"].offset == whole["b10"].offset


def test_a_model_knows_its_table_and_its_sides() -> None:
    table = edits.with_padding(edits.with_depths(networks.find("inception_resnet_v1"), (1, 1, 1)), "same")
    model = build(table, include_top=False, input_shape=(None, 96, 3))
    assert feature_geometry(model, (80, None)) == feature_geometry(model, (80, 96)) == feature_geometry(table, (80, 96))
    wrong: list[Any] = [(80,), 80, (80, 95), (0, 96), "80", (80.0, 96), (True, 96)]
    for size in wrong:
        with pytest.raises(InputError, match=r"^size: got .*; it takes None, or \(height, width\)"):
            feature_geometry(model, size)
    with pytest.raises(InputError, match=r'^size: got None; .*padding="same"'):
        feature_geometry(model)
    part = keras.Model(model.input, model.get_layer("reduction_a_concat").output)
    assert list(feature_geometry(part, (80, 96)))[:3] == ["stem", "a01", "reduction_a"]
    assert "b01" not in feature_geometry(part, (80, 96))


def of_whole_width(name: str, padding: Any, output_stride: int | None, *, top: bool = False) -> keras.Model:
    table = edits.with_depths(networks.find(name), (1, 1, 1))
    table = edits.with_output_stride(edits.with_padding(table, padding), output_stride)
    return build(table, 3 if top else None, include_top=top, input_shape=(139, 150, 3), include_preprocessing=True)


def check_folded(model: keras.Model) -> None:
    expected = feature_geometry(model)
    for join in (False, True):
        folded = optimize_for_inference(model, join_siblings=join)
        assert feature_geometry(folded) == expected
        assert set(expected) <= set(endpoints(folded))


def test_folding_moves_no_map() -> None:
    check_folded(of_whole_width("inception_resnet_v1", "same", 16))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "padding", "output_stride"), EDITED)
def test_folding_moves_no_map_of_any_network(name: str, padding: Any, output_stride: int | None) -> None:
    check_folded(of_whole_width(name, padding, output_stride, top=output_stride != 8))


def moved(model: keras.Model, layer: str, **settings: Any) -> keras.Model:
    """The model with a layer set otherwise."""

    def change(old: Any) -> Any:
        return type(old).from_config(old.get_config() | (settings if old.name == layer else {}))

    return keras.models.clone_model(model, clone_function=change)


def test_a_model_whose_windows_were_changed_is_refused_folded_or_not() -> None:
    """Another activation moves nothing."""
    model = of_whole_width("inception_resnet_v1", "valid", 16)
    assert feature_geometry(moved(model, "stem_conv_2_relu", activation="elu")) == feature_geometry(model)
    for layer, settings in (("stem_conv_2", {"padding": "same"}), ("c01_branch_2_conv_2", {"dilation_rate": 1})):
        changed = moved(model, layer, **settings)
        for each in (changed, optimize_for_inference(changed)):
            with pytest.raises(InputError, match=r"^model: got .*the table that it was built from"):
                feature_geometry(each)


@pytest.mark.parametrize("model", [tiny.build(), keras.Sequential([keras.layers.Dense(2)]), "inception_v4", None])
def test_others_are_refused(model: Any) -> None:
    with pytest.raises(InputError, match=r"^model: got .*the table that it was built from"):
        feature_geometry(model)


def test_an_own_table_is_taken() -> None:
    assert feature_geometry(tiny.TINY, (32, 32))["final"].stride == 32

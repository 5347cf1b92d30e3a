"""Aligned maps and output strides: what TF-Slim's code computes, and the strided network at more places."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import inception_resnet_keras as package
from inception_resnet_keras import feature_geometry, networks
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.networks import edits
from inception_resnet_keras.networks.build import build, dilated_pool
from inception_resnet_keras.networks.recognise import recognise_model
from inception_resnet_keras.networks.rows import Network, Pool
from inception_resnet_keras.networks.trace import minimum_side, trace, weight_shapes
from inception_resnet_keras.weights.inspect import inspect_checkpoint

from .. import tiny

TABLES = [network for variants in networks.NETWORKS.values() for network in variants.values()]
SMALL: dict[str, Any] = {"depths": (1, 1, 1), "include_top": False}
ENDS = {16: "c01", 8: "b01"}  # the last block by output stride, where there is one of each
TRUNK: dict[str, Any] = {"include_top": False, "input_shape": (96, 96, 3)}


def shapes(network: Network, size: tuple[int | None, int | None] = (299, 299)) -> dict[str, Any]:
    return {node.name: node.shape for node in trace(network, size, classes=None)}


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([None, 16, 8]))
def test_aligned_maps_are_the_input_over_the_stride(height: int, width: int, output_stride: int | None) -> None:
    for table in TABLES:
        network = edits.with_output_stride(edits.with_padding(table, "same"), output_stride)
        strides = {node.name: 1 for node in trace(network, (1, 1), classes=None)[:1]}
        for node in trace(network, (height, width), classes=None):
            if node.inputs:
                strides[node.name] = strides[node.inputs[0]] * (node.row.stride if node.row else 1)
            stride = strides[node.name]
            assert node.shape[:2] == (-(-height // stride), -(-width // stride)), node.name
        assert stride == (output_stride or 32)


def test_tables_by_hand() -> None:
    for table in TABLES:
        assert edits.with_padding(table, "valid") == table == edits.with_output_stride(table, None)
        assert (networks.padding(table), networks.output_stride(table)) == ("valid", None)
        aligned = edits.with_padding(table, "same")
        assert networks.padding(aligned) == "same"
        assert (aligned.aux, minimum_side(aligned)) == (table.aux, 1)
        for output_stride in edits.OUTPUT_STRIDES:
            dense = edits.with_output_stride(table, output_stride)
            assert (networks.output_stride(dense), dense.top) == (output_stride, output_stride == 16)
            assert edits.with_padding(dense, "same") == edits.with_output_stride(aligned, output_stride)
            whole, part = (weight_shapes(trace(each, classes=None)) for each in (table, dense))
            assert part == {key: shape for key, shape in whole.items() if key in part}
            assert (part == whole) == dense.top
            dilated = {node.name: node.row for node in trace(dense, classes=None) if node.row and node.row.dilation > 1}
            block = "c" if output_stride == 16 else "b"
            assert {name[0] for name in dilated} == {block}
            assert {row.dilation for row in dilated.values()} == {2}
            slower = f"reduction_{'b' if output_stride == 16 else 'a'}_"
            changed = {
                node.name
                for node, other in zip(trace(dense, classes=None), trace(table, classes=None), strict=False)
                if node.row and other.row and node.row.stride != other.row.stride
            }
            assert changed
            assert all(name.startswith(slower) for name in changed)
    dense = edits.with_output_stride(networks.find("inception_v4"), 16)
    assert [shapes(dense)[f"{name}_concat"] for name in ("b07", "reduction_b", "c03")] == [
        (17, 17, 1024),
        (15, 15, 1536),
        (15, 15, 1536),
    ]
    assert networks.block_names(edits.with_output_stride(dense, None)) == ["a", "b", "c"]
    assert networks.block_names(edits.with_output_stride(networks.find("inception_v4"), 8)) == ["a", "b"]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(2, 4), st.sampled_from([3, 5]), st.booleans())
def test_a_dilated_pool_is_the_mean_of_the_cells_that_exist(
    height: int, width: int, dilation: int, size: int, channels_first: bool
) -> None:
    cells = np.random.default_rng(height).normal(size=(2, height, width, 3)).astype(np.float32)
    offsets = [dilation * (step - size // 2) for step in range(size)]
    wanted = np.zeros_like(cells)
    for y in range(height):
        for x in range(width):
            rows, columns = ([n + o for o in offsets if 0 <= n + o < m] for n, m in ((y, height), (x, width)))
            wanted[:, y, x] = cells[:, rows][:, :, columns].mean(axis=(1, 2))
    given_cells = np.moveaxis(cells, -1, 1) if channels_first else cells
    row = Pool("avg", size=size, dilation=dilation)
    found = np.asarray(dilated_pool(keras.ops.convert_to_tensor(given_cells), row, 1 if channels_first else -1))
    np.testing.assert_allclose(np.moveaxis(found, 1, -1) if channels_first else found, wanted, atol=1e-6)


def test_what_no_layer_computes_is_refused() -> None:
    for row in (Pool("max", dilation=2), Pool("avg", padding="valid", dilation=2), Pool("avg", stride=2, dilation=2)):
        with pytest.raises(ValueError, match=r"^dilation: "):
            dilated_pool(np.zeros((1, 4, 4, 2)), row, -1)


@cache
def twins(table: Network, padding: Any) -> tuple[Network, Any, dict[int, Any]]:
    """A table, its model, and those of its dense edits with the same weights, all for pictures of any size."""
    network = edits.with_padding(edits.with_width(edits.with_depths(table, (1, 1, 1)), 0.1), padding)
    keras.utils.set_random_seed(0)
    strided, dense = build(network, include_top=False, input_shape=(None, None, 3)), {}
    for weight in strided.weights:
        if weight.name == "beta":  # above zero, so that something comes through every ReLU
            weight.assign(np.random.default_rng(0).uniform(0.1, 0.5, weight.shape))
    for output_stride, end in ENDS.items():
        edited = edits.with_output_stride(network, output_stride)
        model = build(edited, include_top=False, input_shape=(None, None, 3))
        for layer in model.layers:
            if layer.weights:
                layer.set_weights(strided.get_layer(layer.name).get_weights())
        dense[output_stride] = package.feature_extractor(model, end)
    return network, package.feature_extractor(strided, list(ENDS.values())), dense


@settings(max_examples=3)
@given(st.integers(75, 160), st.integers(75, 160))
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("table", TABLES[:-1], ids=lambda table: f"{table.name}-{table.variant}")
def test_a_dense_network_subsampled_is_the_strided_one(table: Network, padding: Any, height: int, width: int) -> None:
    """At the borders too: zeros stand outside of the picture at the same places in both. All channels of all cells."""
    network, strided, dense = twins(table, padding)
    images = np.random.default_rng(height).uniform(-1, 1, (1, height, width, 3)).astype(np.float32)
    maps = strided(images)
    for output_stride, end in ENDS.items():
        wanted, found = np.asarray(maps[end]), np.asarray(dense[output_stride](images)[end])
        edited = edits.with_output_stride(network, output_stride)
        coarse, fine = (feature_geometry(each, (height, width))[end] for each in (network, edited))
        assert (coarse.stride, fine.stride) == (2 * output_stride, output_stride)
        assert coarse.receptive_field == fine.receptive_field
        # Cells that lie at one point of the picture.
        shift = [(there - here) / fine.stride for here, there in zip(fine.offset, coarse.offset, strict=True)]
        assert set(shift) <= {0, 1}
        sampled = found[:, int(shift[0]) :: 2, int(shift[1]) :: 2][:, : wanted.shape[1], : wanted.shape[2]]
        assert wanted.std() > 0
        np.testing.assert_allclose(sampled, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_models_are_recognised_built_saved_and_as_files(tmp_path: Path) -> None:
    edited = (("same", None), ("valid", 16), ("same", 8))
    for name, (padding, output_stride) in zip(networks.NETWORKS, edited, strict=True):
        options = {"padding": padding, "output_stride": output_stride, "input_shape": (96, 80, 3), **SMALL}
        model = getattr(package, f"create_{name}")(**options)
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        images = np.random.default_rng(0).uniform(-1, 1, (1, 96, 80, 3)).astype(np.float32)
        wanted = np.asarray(model(images))
        np.testing.assert_array_equal(loaded(images), wanted)
        found, of_file = recognise_model(model), inspect_checkpoint(tmp_path / "model.keras").description
        assert found is not None
        assert of_file is not None
        for each in (found, of_file):
            assert (each.name, each.padding, each.output_stride) == (name, padding, output_stride)
            assert (each.score, each.departures) == (1, ())
        assert found.factory_options() == of_file.factory_options()
        again = getattr(package, f"create_{name}")(**found.factory_options(), weights=tmp_path / "model.keras")
        np.testing.assert_array_equal(again(images), wanted)


def test_a_file_of_another_padding_is_loaded_and_reported(tmp_path: Path) -> None:
    path, options = tmp_path / "model.keras", {"input_shape": (96, 80, 3), **SMALL}
    aligned = package.create_inception_resnet_v1(padding="same", **options)
    aligned.save(path)
    assert package.load_weights(aligned, path).notes == []
    dense = package.create_inception_resnet_v1(padding="same", output_stride=16, **options)
    assert package.load_weights(dense, path).notes == []  # the same function, at more places
    (note,) = package.load_weights(package.create_inception_resnet_v1(**options), path).notes
    assert note == "padding differs: the model has 'valid', the file's graph 'same'"


def test_a_file_of_weights_shows_where_the_network_ends(tmp_path: Path) -> None:
    model = package.create_inception_resnet_v1(output_stride=8, input_shape=(96, 96, 3), **SMALL)
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    found = inspect_checkpoint(path)
    assert found.loads
    assert found.options["output_stride"] == 8
    assert found.options["depths"] == (1, 1, 5)  # blocks C, of which there are none, are as many as the variant's
    whole = package.create_inception_resnet_v1(depths=(1, 1, 1), input_shape=(96, 96, 3))
    whole.save_weights(path)
    report = package.load_weights(model, path)
    assert [*report.dropped] == [
        "layers after the blocks that the model ends with",
        "classifier: the model has none",
    ]
    deeper = package.create_inception_resnet_v1(depths=(1, 2, 1), input_shape=(96, 96, 3))
    deeper.save_weights(path)
    with pytest.raises(InputError, match=r"b02_.*: left over in the file"):
        package.load_weights(model, path)


@pytest.mark.parametrize("output_stride", [16, 8])
def test_a_dense_network_is_folded(output_stride: Any) -> None:
    model = package.create_inception_v4(output_stride=output_stride, padding="same", input_shape=(64, 75, 3), **SMALL)
    for weight in model.weights:
        if weight.name == "moving_variance":
            weight.assign(np.random.default_rng(0).uniform(0.5, 1.5, weight.shape))
    fast = package.optimize_for_inference(model)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 75, 3)).astype(np.float32)
    wanted = np.asarray(model(images))
    np.testing.assert_allclose(fast(images), wanted, atol=1e-5 * np.abs(wanted).max())
    assert len([layer for layer in fast.layers if isinstance(layer, keras.layers.BatchNormalization)]) == 0
    assert {name: each.shape for name, each in package.endpoints(fast).items()} == {
        name: each.shape for name, each in package.endpoints(model).items()
    }


def test_endpoints_end_at_the_output_stride() -> None:
    for output_stride, sides in ((16, [24, 12, 6]), (8, [24, 12])):
        model = tiny.build(edits.with_output_stride(edits.with_padding(tiny.TINY, "same"), output_stride), **TRUNK)
        assert [each.shape[1] for each in package.feature_extractor(model).output.values()] == sides


def test_heads_that_a_network_that_ends_early_has_not() -> None:
    for name in networks.NETWORKS:
        factory = getattr(package, f"create_{name}")
        with pytest.raises(InputError, match=r"^include_top: got True; .* False with output_stride=8: .*blocks B"):
            factory(output_stride=8)
        with pytest.raises(InputError, match=r"^aux_head: got True; it takes False with output_stride=8"):
            factory(output_stride=8, include_top=False, aux_head=True, input_shape=(299, 299, 3))
    logits, aux = package.create_inception_v4(3, depths=(1, 1, 1), output_stride=16, aux_head=True).outputs
    assert (logits.shape, aux.shape) == ((None, 3), (None, 3))

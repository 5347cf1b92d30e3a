"""The recogniser returns what was built, from a model, from its files, and from shapes alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import keras
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from inception_resnet_keras import networks
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.networks import edits, factories, names
from inception_resnet_keras.networks.recognise import (
    NetworkDescription,
    describe,
    differences,
    image_size,
    model_layers,
    model_shapes,
    recognise,
    recognise_model,
)
from inception_resnet_keras.networks.recognise import channels_first as is_channels_first
from inception_resnet_keras.networks.rows import Network
from inception_resnet_keras.networks.trace import minimum_side, trace, weight_shapes
from inception_resnet_keras.weights.readers import Checkpoint, open_checkpoint

from .. import tiny

VARIANTS = [(name, variant) for name, variants in networks.NETWORKS.items() for variant in variants]


@pytest.fixture(scope="module", autouse=True)
def _narrow() -> Iterator[None]:
    """The tables with few filters: the same names, and models that are built in a moment."""
    with pytest.MonkeyPatch.context() as patch:
        for name, variants in networks.NETWORKS.items():
            narrow = {variant: edits.with_width(table, 0.06) for variant, table in variants.items()}
            patch.setitem(
                networks.NETWORKS,
                name,
                {
                    key: replace(table, embedding=table.embedding // 64) if table.embedding else table
                    for key, table in narrow.items()
                },
            )
        yield


def own_layers(file: Checkpoint) -> dict[str, dict[str, Any]]:
    """A file's layers without those of models inside the model, such as the one that standardises images."""
    return {path: layer for path, layer in file.layers.items() if "/" not in path}


@st.composite
def tables(draw: st.DrawFn) -> tuple[Network, tuple[float, ...] | None]:
    """A variant with some depths and scales, and the scales; None where it has no sums."""
    network = networks.find(*draw(st.sampled_from(VARIANTS)))
    network = edits.with_depths(network, draw(st.lists(st.integers(1, 2), min_size=3, max_size=3)))
    if not networks.is_residual(network):
        return network, None
    scales = draw(st.one_of(st.just([1.0] * 3), st.lists(st.floats(0.01, 1), min_size=3, max_size=3)))
    if networks.depths(network)[-1] == 1 and network.stages[-1].scale is None:  # type: ignore[union-attr]
        scales[-1] = networks.scales(network)[-1]  # of blocks C, there is the one that is never scaled
    return edits.with_scales(network, scales), tuple(scales)


@st.composite
def heads(draw: st.DrawFn, network: Network) -> dict[str, Any]:
    """A factory's arguments that choose the ends of the network."""
    top = network.variant == "facenet_128" or draw(st.booleans())  # its trunk is facenet's
    options: dict[str, Any] = {"include_top": top, "aux_head": bool(network.aux) and draw(st.booleans())}
    options["include_preprocessing"] = draw(st.booleans())
    options["classifier_activation"] = draw(st.sampled_from([None, "softmax", "sigmoid"]))
    if not top:
        options["pooling"] = draw(st.sampled_from([None, "avg", "max"]))
    if not network.embedding or draw(st.booleans()):
        options["num_classes"] = draw(st.integers(1, 5))
    return options


def check_weights(
    found: NetworkDescription | None, network: Network, channels: int, options: dict[str, Any]
) -> NetworkDescription:
    """What weights alone show."""
    assert found is not None
    classes, top = options.get("num_classes"), options["include_top"]
    assert (found.name, found.variant, found.depths) == (network.name, network.variant, networks.depths(network))
    assert found.score == 1
    assert found.channels == channels
    assert found.classes == (classes if top else None)
    assert found.embedding == (network.embedding if top else None)
    assert found.aux_head == options["aux_head"]
    assert found.aux_classes == ((classes or 1000) if options["aux_head"] else None)
    assert found.include_top == top
    assert found.preprocessing == network.preprocessing
    return found


def check_all(
    found: NetworkDescription | None,
    network: Network,
    scales: tuple[float, ...] | None,
    shape: tuple[int | None, ...],
    options: dict[str, Any],
) -> NetworkDescription:
    """What layers' configurations show, too."""
    first = keras.config.image_data_format() == "channels_first"
    found = check_weights(found, network, shape[0 if first else -1] or 0, options)
    top, classes = options["include_top"], options.get("num_classes")
    assert found.configured
    assert found.network == network
    assert found.scales == scales
    assert found.input_shape == shape
    assert found.data_format == keras.config.image_data_format()
    assert found.size == (shape[1:] if first else shape[:2])
    assert found.include_preprocessing == options["include_preprocessing"]
    assert found.pooling == ("avg" if top else options["pooling"])
    logits = (top and classes) or options["aux_head"]
    assert found.activation == (options["classifier_activation"] if logits else None)
    assert found.dropout_rate == (0.2 if top else None)
    return found


@settings(max_examples=8, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # to shrink would build for minutes
@given(st.data())
def test_what_was_built_is_recognised_from_the_model_and_from_its_files(data: st.DataObject) -> None:
    network, scales = data.draw(tables())
    options = data.draw(heads(network))
    channels = data.draw(st.integers(1, 4))
    side = minimum_side(network, aux_head=options["aux_head"])
    size = (side, side + data.draw(st.integers(0, 9)))
    data_format = data.draw(st.sampled_from(["channels_last", "channels_first"]))
    shape = (*size, channels) if data_format == "channels_last" else (channels, *size)
    keras.config.set_image_data_format(data_format)
    try:
        model = factories.build(network, input_shape=shape, **options)
        found = check_all(recognise_model(model), network, scales, shape, options)
        assert differences(found, model_layers(model)) == []
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder, "a.keras"))
            model.save_weights(Path(folder, "a.weights.h5"))
            with open_checkpoint(Path(folder, "a.keras")) as file:
                shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
                assert recognise(shapes, own_layers(file)) == found
            with open_checkpoint(Path(folder, "a.weights.h5")) as file:
                bare = recognise({name: tensor.shape for name, tensor in file.tensors.items()})
        bare = check_weights(bare, network, channels, options)
        assert not bare.configured
        assert (bare.scales, bare.input_shape, bare.data_format, bare.include_preprocessing) == (None,) * 4
        carried = bare.with_settings(found.settings())
        assert carried.factory_options() == found.factory_options()
        assert (carried.network, carried.settings()) == (network, found.settings())
        again = getattr(factories, f"create_{network.name}")(**found.factory_options())
        assert model_shapes(again) == model_shapes(model)
        assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
        assert recognise_model(again) == found
    finally:
        keras.config.set_image_data_format("channels_last")


@given(st.data())
def test_shapes_alone_show_the_table_channels_and_heads(data: st.DataObject) -> None:
    network, _ = data.draw(tables())
    network = edits.with_depths(network, data.draw(st.lists(st.integers(1, 12), min_size=3, max_size=3)))
    options = data.draw(heads(network))
    channels = data.draw(st.integers(1, 9))
    classes = options.get("num_classes")
    head: dict[str, Any] = networks.head(network, classes) if options["include_top"] else {"classes": None}
    shapes = weight_shapes(trace(network, channels=channels, **head))
    if options["aux_head"]:
        aux = weight_shapes(trace(network, channels=channels, classes=classes or 1000, aux_head=True))
        shapes |= {key: shape for key, shape in aux.items() if names.place(key) == names.AUX}
    found = check_weights(recognise(shapes), network, channels, options)
    lost = data.draw(st.sampled_from([key for key in shapes if names.stage(key)]))
    less = recognise({key: shape for key, shape in shapes.items() if key != lost})
    assert less is not None
    assert less.score < found.score
    assert (less.name, less.variant) == (found.name, found.variant)


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_a_table_at_its_own_depths_has_no_depths_in_its_call(name: str, variant: str) -> None:
    table = networks.find(name, variant)
    # facenet_128 is told from facenet by its embedding alone
    found = recognise(weight_shapes(trace(table, classes=None, embedding=bool(table.embedding))))
    assert found is not None
    assert found.network == table
    assert found.network_options() == {"variant": variant}
    call = f"create_{name}(variant='{variant}'" + (", include_top=False" if not table.embedding else "")
    assert found.factory_call().startswith(call)
    assert describe(table, {}).score == 0


@pytest.mark.parametrize("name", ["a1000_project", "b999999_conv_1", "c99999999999999999999_conv_1"])
def test_a_hostile_block_number_builds_nothing(name: str) -> None:
    table = networks.find("inception_resnet_v2")
    shapes = weight_shapes(trace(table, classes=None)) | {f"{name}/kernel": (1, 1, 4, 4)}
    found = recognise(shapes)
    assert found is not None
    assert found.depths == networks.depths(table)


def test_what_is_no_network_of_the_tables_is_not_recognised() -> None:
    dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    inner = tiny.build(edits.with_depths(networks.find("inception_v4"), (1, 1, 1)), input_shape=(75, 75, 3))
    for model in (dense, keras.Sequential([inner]), tiny.build()):
        assert recognise_model(model) is None
    assert recognise({}) is None


def test_a_layer_that_cannot_be_saved_is_passed_over() -> None:
    class Own(keras.layers.Layer):
        def __init__(self, given: Any) -> None:
            super().__init__()
            self.given = given

        def call(self, x: Any) -> Any:
            return x

    model = tiny.build(edits.with_depths(networks.find("inception_v4"), (1, 1, 1)), input_shape=(75, 75, 3))
    wrapped = keras.Model(model.inputs, Own(object())(model.output))
    found = recognise_model(wrapped)
    assert found is not None
    assert found.score == 1
    assert "additional" in differences(found, model_layers(wrapped))[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": [0.1, 0.1]},
        {"scale": [0.1, 0.1, "a"]},
        {"scale": 2},
        {"input_shape": [75, 75]},
        {"input_shape": [75, -1, 3]},
        {"include_preprocessing": 1},
        {"pooling": "sum"},
        {"classifier_activation": 3},
        {"weights": "imagenet"},
    ],
)
def test_settings_that_no_factory_takes_are_refused(wrong: dict[str, Any]) -> None:
    found = recognise(weight_shapes(trace(networks.find("inception_resnet_v1"))))
    assert found is not None
    with pytest.raises(InputError, match=f"settings that no factory takes: {next(iter(wrong))}="):
        found.with_settings(wrong)


@pytest.mark.parametrize(
    ("shape", "size"), [((3, 32, 32), (32, 32)), ((1, 32, 40), (32, 40)), ((4, None, None), (None, None))]
)
def test_the_layers_show_whether_channels_come_first(
    channels_first: None, shape: tuple[int | None, ...], size: tuple[int | None, int | None]
) -> None:
    """Of any size and of as many channels, nested or turned round, and whatever Keras is set to."""
    del channels_first
    first = tiny.build(input_shape=shape)
    nested = keras.Sequential([keras.Input(shape), keras.layers.Rescaling(1.0), first])
    turned = tiny.build(input_tensor=keras.layers.Permute((3, 1, 2))(keras.Input((*shape[1:], shape[0]))))
    keras.config.set_image_data_format("channels_last")
    last = tiny.build(input_shape=(*shape[1:], shape[0]))
    outer = keras.Input(shape)
    wrapped = keras.Model(outer, last(keras.layers.Permute((2, 3, 1))(outer)))
    models = {first: True, nested: True, turned: False, last: False, wrapped: True}
    for setting in ("channels_first", "channels_last"):
        keras.config.set_image_data_format(setting)
        assert [is_channels_first(model) for model in models] == list(models.values())
        assert {image_size(model) for model in models} == {size}
    keras.config.set_image_data_format("channels_last")
    assert not is_channels_first(keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)]))


@pytest.mark.parametrize("variant", ["facenet", "facenet_128"])
@pytest.mark.parametrize("preprocessing", [False, True])
def test_a_trunk_with_its_preprocessing_is_of_the_variant_that_has_it(
    variant: Literal["facenet", "facenet_128"], preprocessing: bool, tmp_path: Path
) -> None:
    """The trunks are the same: how images are scaled decides, where the model does it."""
    options: dict[str, Any] = {"include_top": False, "include_preprocessing": preprocessing, "pooling": "avg"}
    model = factories.create_inception_resnet_v1(variant=variant, depths=(1, 1, 1), input_shape=(75, 75, 3), **options)
    found = recognise_model(model)
    assert found
    assert found.variant == (variant if preprocessing else "facenet")
    assert found.include_preprocessing is preprocessing
    model.save(tmp_path / "a.keras")
    with open_checkpoint(tmp_path / "a.keras") as file:
        shapes = {name: tensor.shape for name, tensor in file.tensors.items()}
        assert recognise(shapes, own_layers(file)) == found

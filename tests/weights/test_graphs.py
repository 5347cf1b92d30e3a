"""What a file's own graph says is what is built, and what is written is compared with that graph."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from inception_resnet_keras import create_inception_resnet_v2
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.deploy.convert import convert_checkpoint
from inception_resnet_keras.networks.recognise import model_shapes
from inception_resnet_keras.weights.identify import identify
from inception_resnet_keras.weights.inspect import inspect_checkpoint
from inception_resnet_keras.weights.load import load_weights
from inception_resnet_keras.weights.readers import keras_config, open_checkpoint

pytestmark = pytest.mark.slow  # whole networks of keras.applications
SHAPE = (75, 75, 3)
PICTURES = np.random.default_rng(0).uniform(-1, 1, (2, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def theirs() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.applications.InceptionResNetV2(weights=None, classes=7, input_shape=SHAPE)


def changed(model: keras.Model, change: Callable[[Any], Any]) -> keras.Model:
    """The model with some of its layers built otherwise, with its weights."""
    clone = keras.models.clone_model(model, clone_function=lambda layer: change(layer) or _same(layer))
    clone.set_weights(model.get_weights())
    return clone


def _same(layer: Any) -> Any:
    return type(layer).from_config(layer.get_config())


def scaled(layer: Any) -> Any:
    """Other scales than any release has; the last block, which is not scaled, stays so."""
    if type(layer).__name__ == "CustomScaleLayer" and layer.scale != 1:
        return type(layer)(layer.scale / 2, name=layer.name)
    return None


def outputs(model: keras.Model) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(PICTURES, training=False))


def check_converted(source: Path, model: keras.Model, out: Path) -> None:
    """The converted file computes what the source's model computes."""
    _, check = convert_checkpoint(source, out)
    assert check.compared == "layers"
    assert check.layers > 200
    expected = outputs(model)
    assert np.abs(outputs(keras.saving.load_model(out)) - expected).max() < 1e-5 * np.abs(expected).max()


def test_scales_and_activation_come_from_the_files_graph(theirs: keras.Model, tmp_path: Path) -> None:
    model = changed(theirs, scaled)
    model.layers[-1].activation = keras.activations.sigmoid
    for name in ("a.keras", "a.h5"):
        model.save(tmp_path / name)
        call = str(inspect_checkpoint(tmp_path / name))
        assert "scale=(0.085, 0.05, 0.1)" in call
        assert "classifier_activation='sigmoid'" in call
    check_converted(tmp_path / "a.h5", model, tmp_path / "out.keras")


def test_a_nested_network_is_converted_by_its_own_graph(theirs: keras.Model, tmp_path: Path) -> None:
    """With resizing and rescaling in front, which are not the network's."""
    trunk = keras.Model(theirs.input, theirs.get_layer("avg_pool").output, name="trunk")
    image = keras.Input((200, 180, 3))
    pixels = keras.layers.Rescaling(1 / 127.5, -1)(keras.layers.Resizing(*SHAPE[:2])(image))
    outer = keras.Model(image, keras.layers.Dense(2, name="mine")(changed(trunk, scaled)(pixels)))
    outer.save(tmp_path / "a.keras")
    report, check = convert_checkpoint(tmp_path / "a.keras", tmp_path / "out.keras")
    assert report.dropped["outside 'trunk/', which holds the network"] == ["mine/kernel", "mine/bias"]
    assert check.compared == "layers"
    assert check.difference < 1e-5
    assert keras.saving.load_model(tmp_path / "out.keras").get_layer("a01_scale").scale == pytest.approx(0.085)


def test_a_residual_sum_as_code_gives_its_scale_and_is_not_run(theirs: keras.Model, tmp_path: Path) -> None:
    """As Keras 2 wrote it: the code is not looked at, and it is said that only values were compared."""

    def as_code(layer: Any) -> Any:
        if type(layer).__name__ != "CustomScaleLayer":
            return None
        arguments = {"scale": layer.scale if layer.scale == 1 else layer.scale / 2}
        return keras.layers.Lambda(lambda x, scale: x[0] + scale * x[1], arguments=arguments, name=layer.name)

    changed(theirs, as_code).save(tmp_path / "a.h5")
    assert "scale=(0.085, 0.05, 0.1)" in str(inspect_checkpoint(tmp_path / "a.h5"))
    _, check = convert_checkpoint(tmp_path / "a.h5", tmp_path / "out.keras")
    assert check.compared == "values"
    assert "the source's graph cannot be run here" in str(check)
    expected = outputs(changed(theirs, scaled))
    np.testing.assert_allclose(outputs(keras.saving.load_model(tmp_path / "out.keras")), expected, rtol=1e-4)


def padded(layer: Any) -> Any:
    """Every window padded: the network that `padding="same"` builds."""
    if isinstance(layer, keras.layers.Conv2D | keras.layers.MaxPooling2D) and layer.padding == "valid":
        return _with(layer, padding="same")
    return None


def dilated(layer: Any) -> Any:
    """Windows of 7 in place of 3, in the blocks, which keep their maps' sizes."""
    inside = isinstance(layer, keras.layers.Conv2D) and layer.padding == "same" and layer.kernel_size == (3, 3)
    return _with(layer, dilation_rate=3) if inside else None


def _with(layer: Any, **settings: Any) -> Any:
    return type(layer).from_config(layer.get_config() | settings)


def trunk_of(model: keras.Model, change: Callable[[Any], Any]) -> keras.Model:
    return changed(keras.Model(model.input, model.get_layer("avg_pool").output), change)


def test_a_graph_that_is_padded_throughout_is_converted_as_padding_same(theirs: keras.Model, tmp_path: Path) -> None:
    model = trunk_of(theirs, padded)
    model.save(tmp_path / "a.keras")
    call = str(inspect_checkpoint(tmp_path / "a.keras"))
    assert "padding='same'" in call
    check_converted(tmp_path / "a.keras", model, tmp_path / "out.keras")
    assert np.abs(outputs(trunk_of(theirs, _same)) - outputs(model)).max() > 1e-3, "padding makes no difference"


def test_a_graph_that_no_call_builds_is_said_and_not_converted(theirs: keras.Model, tmp_path: Path) -> None:
    """Other departures are named alike: `test_every_kind_of_departure_is_named`."""
    trunk_of(theirs, dilated).save(tmp_path / "a.keras")
    with pytest.raises(InputError, match="its graph differs from the network that its weights fit"):
        convert_checkpoint(tmp_path / "a.keras", tmp_path / "out.keras")
    assert not (tmp_path / "out.keras").exists()
    said = str(inspect_checkpoint(tmp_path / "a.keras"))
    assert "no call builds its graph" in said
    assert "with dilation_rate (3, 3) for (1, 1)" in said
    assert "loaded by" not in said
    model = create_inception_resnet_v2(variant="slim", include_top=False, pooling="avg", input_shape=SHAPE)
    (note,) = load_weights(model, tmp_path / "a.keras").notes
    assert note.startswith("the graph in the file differs from this network")


def nth(layers: Mapping[str, Any], kind: str, index: int) -> str:
    """The name of the n-th layer of a class, in the order in which keras.applications made them."""
    found = [
        name
        for name, layer in layers.items()
        if layer["class"] == kind and re.fullmatch(r"[a-z0-9]+(_[a-z]+)*(_[0-9]+)?", name)
    ]
    return sorted(found, key=lambda name: [int(number) for number in re.findall(r"_([0-9]+)$", name)])[index]


CHANGES: dict[tuple[str, int], tuple[dict[str, Any], str]] = {
    ("Conv2D", 4): ({"dilation_rate": [2, 2]}, "'stem_conv_5' with dilation_rate (2, 2) for (1, 1)"),
    ("Conv2D", 0): ({"strides": [1, 1]}, "'stem_conv_1' with strides (1, 1) for (2, 2)"),
    ("BatchNormalization", 3): ({"epsilon": 1e-5}, "'stem_conv_4' with an epsilon of 1e-05 for 0.001"),
    ("Activation", 2): ({"class": "LeakyReLU", "activation": None}, "'stem_conv_3' with activation LeakyReLU for relu"),
    ("CustomScaleLayer", 1): ({"scale": 0.3}, "'a02_sum' with scale 0.3 for 0.17"),
}


@pytest.mark.parametrize("place", CHANGES)
def test_every_kind_of_departure_is_named(theirs: keras.Model, place: tuple[str, int]) -> None:
    layers, shapes = keras_config.read_layers(json.loads(theirs.to_json())), model_shapes(theirs)
    found = identify(shapes, layers)
    assert found is not None
    assert found.description.departures == ()
    settings, said = CHANGES[place]
    layers[nth(layers, *place)].update(settings)
    found = identify(shapes, layers)
    assert found is not None
    assert found.description.departures == (said,)


def test_layers_of_any_depth_are_listed_by_their_paths(tmp_path: Path) -> None:
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.ReLU(name="b")], name="in"
    )
    image = keras.Input((4,), name="image")
    keras.Model(image, keras.layers.Add(name="sum")([inner(image), 0.5 * inner(image)])).save(tmp_path / "a.keras")
    with open_checkpoint(tmp_path / "a.keras") as file:
        layers = file.layers
    assert set(layers) >= {"image", "in", "in/a", "in/b", "sum"}
    assert layers["in/b"]["inputs"] == ["in/a"]
    assert layers["in"]["inputs"] == ["image", "image"]
    assert "in" in layers["sum"]["inputs"]
    assert [layer["numbers"] for layer in layers.values() if layer["class"] == "Multiply"] == [[0.5]]


@pytest.mark.parametrize("model", [None, [], {"config": 3}, {"config": {"layers": 3}}, {"config": {"layers": [None]}}])
def test_what_is_no_models_configuration_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="configuration"):
        keras_config.read_layers(model)


def test_models_nested_without_end_are_refused(tmp_path: Path) -> None:
    model: dict[str, Any] = {"class_name": "Sequential", "config": {"name": "a", "layers": []}}
    for _ in range(40):
        model = {"class_name": "Sequential", "config": {"name": "a", "layers": [model]}}
    with pytest.raises(ValueError, match="nested too deeply"):
        keras_config.read_layers(model)
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).save(tmp_path / "a.keras")
    with zipfile.ZipFile(tmp_path / "a.keras") as old, zipfile.ZipFile(tmp_path / "b.keras", "w") as new:
        for name in old.namelist():
            new.writestr(name, json.dumps(model) if name == "config.json" else old.read(name))
    with pytest.raises(InputError, match="nested too deeply"):
        open_checkpoint(tmp_path / "b.keras")

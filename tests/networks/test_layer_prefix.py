"""Two networks in one model: their layers' names have a prefix, and all that reads names takes it off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import inception_resnet_keras as package
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.networks import names
from inception_resnet_keras.networks.recognise import recognise_model
from inception_resnet_keras.weights.inspect import inspect_checkpoint

SMALL: dict[str, Any] = {"depths": (1, 1, 1), "input_shape": (75, 75, 3)}
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 75, 75, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def plain() -> Any:
    keras.utils.set_random_seed(0)
    return package.create_inception_resnet_v1(3, **SMALL)


@pytest.fixture(scope="module")
def prefixed() -> Any:
    keras.utils.set_random_seed(1)
    return package.create_inception_resnet_v1(3, name="left", layer_prefix=True, **SMALL)


def test_every_name_has_it(plain: Any, prefixed: Any) -> None:
    assert [layer.name for layer in prefixed.layers] == [f"left_{layer.name}" for layer in plain.layers]
    assert names.prefixes(layer.name for layer in prefixed.layers) == ["left_"]
    assert names.prefixes(layer.name for layer in plain.layers) == [""]


def test_two_networks_on_one_image() -> None:
    image = keras.Input((75, 75, 3))
    options: dict[str, Any] = {"include_top": False, "pooling": "avg", "input_tensor": image, "depths": (1, 1, 1)}
    left = package.create_inception_v4(layer_prefix="left_", **options)
    right = package.create_inception_resnet_v2(layer_prefix="right_", output_stride=16, **options)
    both = keras.Model(image, keras.layers.Concatenate()([left.output, right.output]))
    assert both(IMAGES).shape == (2, 1536 + 2144)
    ends = package.endpoints(both)
    assert {name: end.shape for name, end in ends.items()} == {
        f"{side}_{name}": end.shape
        for side, model in (("left", left), ("right", right))
        for name, end in package.endpoints(model).items()
    }
    assert package.feature_extractor(both, ["left_stem", "right_stride_16"])(IMAGES)["left_stem"].shape[-1] == 384
    with pytest.raises(InputError, match=r"several networks, .*'left_', 'right_'; load the weights of each"):
        package.load_weights(both, "imagenet")


def test_a_file_of_two_networks_is_refused_with_both_prefixes(tmp_path: Path) -> None:
    """Also if one has far fewer weights: it would be passed over in silence."""
    image = keras.Input((75, 75, 3))
    options: dict[str, Any] = {"include_top": False, "input_tensor": image, "depths": (1, 1, 1)}
    large = package.create_inception_v4(layer_prefix="large_", **options)
    small = package.create_inception_resnet_v1(layer_prefix="small_", output_stride=8, **options)
    for path in (tmp_path / "both.keras", tmp_path / "both.weights.h5"):
        both = keras.Model(image, [large.output, small.output])
        (both.save if path.suffix == ".keras" else both.save_weights)(path)
        for call in (inspect_checkpoint, lambda path: package.load_weights(large, path)):
            with pytest.raises(InputError, match=r"several networks, with names that begin with 'large_', 'small_'"):
                call(path)


def test_it_is_read_everywhere(plain: Any, prefixed: Any, tmp_path: Path) -> None:
    assert list(package.endpoints(prefixed)) == list(package.endpoints(plain))
    known, same = recognise_model(prefixed), recognise_model(plain)
    assert known is not None
    assert same is not None
    assert known.factory_call() == same.factory_call()
    drawn = package.plot_architecture(prefixed, level="layers")
    assert "left_…" in drawn.title
    assert "a01_branch_1_conv_1" in drawn.mermaid()
    assert package.feature_geometry(prefixed) == package.feature_geometry(plain)
    fast = package.optimize_for_inference(prefixed)
    assert list(package.endpoints(fast)) == list(package.endpoints(plain))
    assert package.feature_geometry(fast) == package.feature_geometry(plain)


@pytest.mark.parametrize("kind", ["keras", "h5", "weights.h5"])
def test_weights_go_both_ways(plain: Any, prefixed: Any, tmp_path: Path, kind: str) -> None:
    for source, target in ((prefixed, plain), (plain, prefixed)):
        path = tmp_path / f"{source.name}.{kind}"
        (source.save_weights if kind == "weights.h5" else source.save)(path)
        found = inspect_checkpoint(path)
        assert found.loads
        assert found.classes == 3
        for layer in target.layers:
            layer.set_weights([weight + 1 for weight in layer.get_weights()])
        package.load_weights(target, path)
        np.testing.assert_array_equal(target(IMAGES), source(IMAGES))


@pytest.mark.parametrize("given", ["a01_", "stem_", "x/", 3, None, ["a"]])
def test_what_is_no_prefix_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match=r"^layer_prefix: got .*; it takes True"):
        package.create_inception_v4(layer_prefix=given)


def test_classes_is_another_name() -> None:
    for options in ({"classes": 3}, {"classes": 3, "num_classes": 3}):
        assert package.create_inception_resnet_v2(**options, **SMALL).output_shape == (None, 3)  # type: ignore[arg-type]
    for wrong in (0, -1, 2.0, True, "10"):
        with pytest.raises(InputError, match=r"^classes: got .*; it takes an integer"):
            package.create_inception_v4(classes=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^classes: got 3; it takes None or 4"):
        package.create_inception_v4(4, classes=3)

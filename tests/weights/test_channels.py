"""Weights of three-channel images in networks of another number of channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import inception_resnet_keras as irk
from inception_resnet_keras.weights.load import load_weights

SMALL: dict[str, Any] = {"num_classes": 3, "depths": (1, 1, 1)}
GREY = np.random.default_rng(0).uniform(-1, 1, (2, 75, 75, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def rgb(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, Path]:
    keras.utils.set_random_seed(0)
    model = irk.create_inception_resnet_v2(input_shape=(75, 75, 3), **SMALL)
    path = tmp_path_factory.mktemp("rgb") / "rgb.keras"
    model.save(path)
    return model, path


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 6])
def test_a_grey_image_gives_what_its_rgb_copy_gives(rgb: tuple[keras.Model, Path], channels: int) -> None:
    model, path = rgb
    shape = (75, 75, channels)
    adapted = irk.create_inception_resnet_v2(input_shape=shape, weights=path, channels="adapt", **SMALL)
    expected = model.predict(np.repeat(GREY, 3, axis=-1), verbose=0)
    np.testing.assert_allclose(adapted.predict(np.repeat(GREY, channels, axis=-1), verbose=0), expected, atol=1e-6)
    fresh = irk.create_inception_resnet_v2(5, depths=(1, 1, 1), input_shape=shape)
    report = load_weights(fresh, path, new_head=True, channels="adapt")
    assert report.changed == {f"adapted from 3 channels of the image to {channels}": ["stem_conv_1/kernel"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm", "slim"])
def test_a_whole_released_networks_kernels_are_adapted(name: str, tmp_path: Path) -> None:
    """PyTorch's layout, with gammas to be folded, and TensorFlow's."""
    from .synthetic import arrays, write_safetensors, write_tensorflow

    values = arrays(f"{name}_inception_v4")
    path = tmp_path / "a.safetensors"
    path = write_safetensors(path, values) if name == "timm" else write_tensorflow(tmp_path / "a.ckpt", values, 2)
    options: dict[str, Any] = {"variant": "slim", "include_top": False, "pooling": "avg", "weights": path}
    grey = np.random.default_rng(0).uniform(-1, 1, (1, 139, 139, 1)).astype(np.float32)
    rgb = irk.create_inception_v4(input_shape=(139, 139, 3), **options).predict(np.repeat(grey, 3, -1), verbose=0)
    one = irk.create_inception_v4(input_shape=(139, 139, 1), channels="adapt", **options).predict(grey, verbose=0)
    np.testing.assert_allclose(one, rgb, atol=1e-5 * np.abs(rgb).max())


def test_without_being_asked_for_the_error_says_how_to_ask(rgb: tuple[keras.Model, Path]) -> None:
    with pytest.raises(ValueError, match=r'for images with 3 channels: channels="adapt" adapts its kernel to 1$'):
        irk.create_inception_resnet_v2(input_shape=(75, 75, 1), weights=rgb[1], **SMALL)
    with pytest.raises(ValueError, match="channels: got 'sum'"):
        irk.create_inception_resnet_v2(weights=rgb[1], channels="sum", **SMALL)  # type: ignore[arg-type]


def test_only_three_channels_are_adapted(tmp_path: Path) -> None:
    irk.create_inception_resnet_v2(input_shape=(75, 75, 4), **SMALL).save(tmp_path / "four.keras")
    with pytest.raises(ValueError, match=r"with 4 channels: input_shape=\(…, …, 4\) fits it; only kernels with 3"):
        irk.create_inception_resnet_v2(
            input_shape=(75, 75, 3), weights=tmp_path / "four.keras", channels="adapt", **SMALL
        )

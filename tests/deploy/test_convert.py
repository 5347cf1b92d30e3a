"""Our own files converted keep all that their weights do not show; what is written beside is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import inception_resnet_keras as irk
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.deploy.convert import convert_checkpoint
from inception_resnet_keras.models.model_file import Card, read_card, save_model
from inception_resnet_keras.weights import inspect as looking
from inception_resnet_keras.weights.inspect import inspect_checkpoint
from inception_resnet_keras.weights.load import load_weights

from ..weights.test_load import checkpoint_of, shapes_in

OPTIONS: dict[str, Any] = {"depths": (1, 1, 1), "input_shape": (96, 96, 3), "include_preprocessing": True}
CLASSES = ["cat", "dog", "owl"]
PIXELS = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of ours with settings that its weights do not show, and class names."""
    model = irk.create_inception_resnet_v1(3, 0.3, **OPTIONS)
    rng = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(weight + 0.01 * rng.standard_normal(weight.shape))
    path = tmp_path_factory.mktemp("own") / "own.keras"
    save_model(model, path, Card("inception_resnet_v1", "paper", CLASSES, (96, 96)))
    model.save_weights(path.with_name("own.weights.h5"))
    return path


def outputs(path: Path) -> Any:
    return keras.saving.load_model(path).predict(PIXELS, verbose=0)


def test_a_model_of_ours_stays_the_same_network(own: Path, tmp_path: Path) -> None:
    wanted = outputs(own)
    (run := tmp_path / "run").mkdir()
    for name in ("model.keras", "best.keras"):  # a run's folder stands for the first
        shutil.copyfile(own, run / name)
    convert_checkpoint(run, tmp_path / "out.keras")
    np.testing.assert_array_equal(outputs(tmp_path / "out.keras"), wanted)
    assert read_card(tmp_path / "out.keras").classes == CLASSES

    report, check = convert_checkpoint(own, tmp_path / "model.ckpt", to="safetensors")
    assert check.path.endswith("model.ckpt.safetensors")
    assert "a safetensors file holds no class names" in report.notes
    convert_checkpoint(tmp_path / "model.ckpt.safetensors", tmp_path / "back.keras")
    np.testing.assert_allclose(outputs(tmp_path / "back.keras"), wanted, rtol=1e-5)


def test_inspect_prints_the_call_that_builds_it(own: Path) -> None:
    found = str(inspect_checkpoint(own))
    assert "depths=(1, 1, 1), num_classes=3, input_shape=(96, 96, 3), scale=(0.3, 0.3, 0.3), include_pre" in found
    assert "takes pixels of 0-255" in found
    model = eval(f"irk.{inspect_checkpoint(own).call}", {"irk": irk})
    np.testing.assert_array_equal(model.predict(PIXELS, verbose=0), outputs(own))
    bare = str(inspect_checkpoint(own.with_name("own.weights.h5")))
    assert "not in the file: residual scales, padding, output stride; the variant's own are assumed" in bare
    assert "not in the file" not in found


def test_another_scale_of_ours_is_told(own: Path) -> None:
    model = irk.create_inception_resnet_v1(3, **OPTIONS)
    assert load_weights(model, own).notes == [
        "residual scales differ in block a01: the model has 0.1, the file's graph 0.3"
    ]
    with pytest.raises(InputError, match=r"depths=\(1, 1, 1\)"):
        load_weights(irk.create_inception_v4(depths=(1, 1, 1)), own)


def test_the_folder_to_write_to_is_looked_at_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder; create it first"):
        convert_checkpoint(tmp_path / "none.pt", tmp_path / "missing" / "out.keras")


def test_a_model_inside_another_is_written_whole(own: Path, tmp_path: Path) -> None:
    inner = keras.saving.load_model(own)
    keras.Sequential([keras.Input((96, 96, 3)), inner, keras.layers.Dense(2)]).save(tmp_path / "a.keras")
    assert "its names begin with 'inception_resnet_v1/'" in str(inspect_checkpoint(tmp_path / "a.keras"))
    _, check = convert_checkpoint(tmp_path / "a.keras", tmp_path / "b.keras")
    assert (check.compared, check.difference) == ("outputs", 0)
    np.testing.assert_array_equal(outputs(tmp_path / "b.keras"), outputs(tmp_path / "a.keras"))
    _, check = convert_checkpoint(tmp_path / "a.keras", tmp_path / "c.safetensors")  # the network alone
    assert check.compared == "layers"
    assert check.difference < 1e-5
    assert "compared: the source holds weights without a graph" in str(
        convert_checkpoint(tmp_path / "c.safetensors", tmp_path / "d.keras")[1]
    )


def test_a_trainers_folder_says_which_prefixes_it_has(tmp_path: Path) -> None:
    for name in ("model-1.ckpt-275.index", "model-1.ckpt-300.index", "model-1.meta"):
        (tmp_path / name).write_text("model_checkpoint_path")
    for path in (tmp_path, tmp_path / "model-1.meta"):
        with pytest.raises(InputError, match=r"has 2 checkpoints: give one of them, .*model-1\.ckpt-275'"):
            inspect_checkpoint(path)


WIDTHS = [(512, "variant='facenet', input"), (128, "variant='facenet_128', input"), (64, "include_top=False, input")]


@pytest.mark.parametrize(("width", "call"), WIDTHS)
def test_inspect_tells_the_width_of_an_embedding(width: int, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = {
        f"{key}{average}": tuple(width if side == 512 and "Bottleneck" in key else side for side in shape)
        for key, shape in shapes_in("facenet_tf_inception_resnet_v1").items()
        for average in ("", "/ExponentialMovingAverage")
    }
    monkeypatch.setattr(looking, "open_checkpoint", lambda _: checkpoint_of(shapes))
    found = str(inspect_checkpoint("f"))
    assert call in found
    assert "ema=True) loads them" in found
    assert ("64 numbers, which no factory builds" in found) is (width == 64)

"""Loading into Keras models: this project's own files, and a model that a refused file leaves untouched."""

from __future__ import annotations

import shutil
import time
import tracemalloc
from itertools import count
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import inception_resnet_keras as irk
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.weights.load import load_weights

from .. import tiny as networks
from . import synthetic
from .test_parity import save_legacy


@pytest.fixture
def tiny() -> Any:
    """The tiny network with other weights at every call: `tiny(num_classes=3, …)`."""
    seeds = count()

    def make(num_classes: int = 3, **options: Any) -> keras.Model:
        model = networks.build(num_classes=num_classes, **options)
        rng = np.random.default_rng(next(seeds))
        if "weights" not in options:
            model.set_weights([rng.random(weight.shape, dtype=np.float32) for weight in model.weights])
        return model

    return make


def weights_of(model: Any) -> list[np.ndarray]:
    return list(model.get_weights())


def equal(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True))


def arrays_of(model: Any) -> synthetic.Arrays:
    return {
        f"{layer.name}/{weight.name}": np.array(keras.ops.convert_to_numpy(weight))
        for layer in model.layers
        for weight in layer.weights
    }


@pytest.mark.parametrize("ending", [".keras", ".weights.h5", ".h5", ".safetensors"])
def test_our_own_files_load_by_content_whatever_their_name(tiny: Any, tmp_path: Path, ending: str) -> None:
    saved, path = tiny(), tmp_path / f"model{ending}"
    if ending == ".weights.h5":
        saved.save_weights(path)
    elif ending == ".safetensors":
        synthetic.write_safetensors(path, arrays_of(saved))
    else:
        saved.save(path)
    path = path.rename(tmp_path / "checkpoint")
    model = tiny()
    assert not equal(model, saved)
    report = load_weights(model, path)
    assert equal(model, saved)
    assert report.loaded == len(saved.weights)
    assert (report.dropped, report.changed, report.fresh) == ({}, {}, [])
    assert equal(tiny(weights=path), saved)


def test_a_compiled_models_optimizer_is_not_in_the_way(tiny: Any, tmp_path: Path) -> None:
    saved = tiny(network=networks.FEW)
    saved.compile("adam", "sparse_categorical_crossentropy")
    saved.fit(np.zeros((2, networks.SIDE, networks.SIDE, 3)), np.zeros(2), verbose=0)
    saved.save(tmp_path / "a.keras")
    model = tiny(network=networks.FEW)
    load_weights(model, tmp_path / "a.keras")
    assert equal(model, saved)


def test_a_new_head_leaves_the_models_own(tiny: Any, tmp_path: Path) -> None:
    saved, model = tiny(), tiny(5)
    saved.save(tmp_path / "a.keras")
    head = keras.ops.convert_to_numpy(model.get_layer("logits").kernel)
    with pytest.raises(ValueError, match=r"logits/kernel: has shape \(10, 3\), the model's .* has \(10, 5\)"):
        load_weights(model, tmp_path / "a.keras")
    report = load_weights(model, tmp_path / "a.keras", new_head=True)
    assert report.fresh == ["logits/kernel", "logits/bias"]
    assert report.dropped == {"classifier: a new one was asked for": ["logits/kernel", "logits/bias"]}
    np.testing.assert_array_equal(model.get_layer("logits").kernel, head)
    np.testing.assert_array_equal(model.get_layer("stem_conv_1").kernel, saved.get_layer("stem_conv_1").kernel)
    assert "left fresh: 2 (logits/kernel, logits/bias)" in str(report)


def damages() -> dict[str, Any]:
    def lost(values: synthetic.Arrays, key: str) -> None:
        del values[key]

    def renamed(values: synthetic.Arrays, key: str) -> None:
        values[f"{key}2"] = values.pop(key)

    def reshaped(values: synthetic.Arrays, key: str) -> None:
        values[key] = np.zeros((*values[key].shape, 1), np.float32)

    def corrupt(values: synthetic.Arrays, key: str) -> None:
        values[key].flat[-1] = np.nan

    def integers(values: synthetic.Arrays, key: str) -> None:
        values[key] = values[key].astype(np.int32)

    return {step.__name__: step for step in (lost, renamed, reshaped, corrupt, integers)}


@pytest.mark.parametrize("damage", damages())
def test_any_damaged_tensor_is_named_and_the_model_untouched(tiny: Any, tmp_path: Path, damage: str) -> None:
    saved, model = tiny(), tiny()
    before = weights_of(model)
    for key in arrays_of(saved):
        values = arrays_of(saved)
        damages()[damage](values, key)
        path = synthetic.write_safetensors(tmp_path / "a.safetensors", values)
        with pytest.raises(ValueError, match="nothing was changed") as refused:
            load_weights(model, path)
        assert key in str(refused.value)
        assert all(np.array_equal(a, b) for a, b in zip(before, weights_of(model), strict=True))


def test_a_file_cut_short_anywhere_leaves_the_model_untouched(tiny: Any, tmp_path: Path) -> None:
    saved, model = tiny(), tiny()
    saved.save(tmp_path / "a.keras")
    before, data = weights_of(model), (tmp_path / "a.keras").read_bytes()
    for part in range(20):
        (tmp_path / "cut.keras").write_bytes(data[: len(data) * part // 20])
        with pytest.raises(InputError, match=r"cut\.keras"):
            load_weights(model, tmp_path / "cut.keras")
    assert all(np.array_equal(a, b) for a, b in zip(before, weights_of(model), strict=True))


def test_what_is_neither_a_file_nor_a_name_is_told(tiny: Any) -> None:
    with pytest.raises(InputError, match=r"weights: got 'imagnet'; it takes 'imagenet' perhaps: None, "):
        load_weights(tiny(), "imagnet")
    with pytest.raises(InputError, match=r"got 'imagenet-ens-av'; it takes 'imagenet-ens-adv' perhaps"):
        load_weights(tiny(), "imagenet-ens-av")
    with pytest.raises(InputError, match=r"got 'timm/inception_v4'; it takes 'timm/inception_v4.tf_in1k' perhaps"):
        load_weights(tiny(), "timm/inception_v4")
    with pytest.raises(InputError, match="model: got 'x'; it takes a Keras model"):
        load_weights("x", "a.keras")
    with pytest.raises(InputError, match=r"weights: got '\.'; it takes"):
        load_weights(tiny(), "")
    with pytest.raises(InputError, match="which is no file"):
        load_weights(tiny(), "folder/none.h5")
    with pytest.raises(InputError, match="weights: got 3"):
        load_weights(tiny(), 3)  # type: ignore[arg-type]


@pytest.mark.slow
def test_loading_is_as_fast_as_keras_and_as_small_as_the_file(tmp_path: Path) -> None:
    """At most 1.5 times `keras.applications`' own `load_weights` of that file, in processor time; memory 1.2 files."""
    theirs = keras.applications.InceptionResNetV2(weights=None)
    path = tmp_path / "a.h5"
    save_legacy(theirs, tmp_path / "a")
    shutil.move(tmp_path / "a", path)
    ours = irk.create_inception_resnet_v2(variant="slim")
    seconds: dict[str, list[float]] = {"keras": [], "ours": []}
    for _ in range(3):
        for name, load in (("keras", lambda: theirs.load_weights(path)), ("ours", lambda: load_weights(ours, path))):
            start = time.process_time()
            load()
            seconds[name].append(time.process_time() - start)
    ratio = min(seconds["ours"]) / min(seconds["keras"])
    tracemalloc.start()
    load_weights(ours, path)
    peak = tracemalloc.get_traced_memory()[1] / path.stat().st_size
    tracemalloc.stop()
    print(
        f"ours {min(seconds['ours']):.2f} s, Keras {min(seconds['keras']):.2f} s, {ratio:.2f} times; {peak:.2f} files"
    )
    assert ratio <= 1.5
    assert peak <= 1.2
    np.testing.assert_array_equal(ours.get_layer("final_conv_1").kernel, theirs.get_layer("conv_7b").kernel)

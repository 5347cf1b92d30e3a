"""What is saved opens anywhere: another Keras, without this package, in safe mode."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from inception_resnet_keras import create_inception_resnet_v1, create_inception_v4
from inception_resnet_keras.networks.rows import PER_IMAGE

from .. import tiny

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
STANDARDIZED = replace(tiny.TINY, embedding=8, preprocessing=PER_IMAGE)

# The package is not importable there: -I leaves out the working folder, the finder refuses the rest.
ELSEWHERE = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "inception_resnet_keras":
            raise ImportError(name)

sys.meta_path.insert(0, Refused())
try:
    import inception_resnet_keras
except ImportError:
    pass
else:
    raise SystemExit("the package is importable")

import keras, numpy

images, *paths = sys.argv[1:]
for path in paths:
    out = keras.models.load_model(path, safe_mode=True)(numpy.load(images), training=False)
    out = out if isinstance(out, list) else [out]
    numpy.savez(path + ".npz", *out)
"""


def moved(model: keras.Model) -> keras.Model:
    rng = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(weight + rng.uniform(0, 0.1, weight.shape))
    return model


@pytest.mark.slow
def test_models_open_in_safe_mode_without_the_package(tmp_path: Path) -> None:
    built = {
        "tiny": tiny.build(aux_head=True, include_preprocessing=True, weight_decay=1e-5),
        "half": tiny.build(dtype="mixed_bfloat16"),
        "bare": tiny.build(include_top=False, pooling="max", input_shape=(None, None, 3)),
        "v4": create_inception_v4(5, depths=(1, 1, 1), input_shape=(None, None, 3), include_preprocessing=True),
        "v1": create_inception_resnet_v1(5, depths=(1, 1, 1), input_shape=(80, 75, 3)),
        "standardized": tiny.build(STANDARDIZED, include_preprocessing=True, num_classes=None),
        "standardized of any size": tiny.build(
            STANDARDIZED, include_preprocessing=True, num_classes=None, input_shape=(None, None, 3)
        ),
        "standardized half": tiny.build(STANDARDIZED, include_preprocessing=True, dtype="mixed_bfloat16"),
    }
    small = ("tiny", "half", "bare", "standardized", "standardized of any size", "standardized half")
    images = np.random.default_rng(0).uniform(0, 255, (1, 80, 75, 3)).astype(np.float32)
    for shape, names in [((32, 32), small), ((80, 75), ("v4", "v1"))]:
        np.save(tmp_path / "images.npy", images[:, : shape[0], : shape[1]])
        paths = [tmp_path / f"{name}.keras" for name in names]
        for name, path in zip(names, paths, strict=True):
            moved(built[name]).save(path)
        command: list[Any] = [sys.executable, "-I", "-c", ELSEWHERE, tmp_path / "images.npy", *paths]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for name, path in zip(names, paths, strict=True):
            ours = built[name](np.load(tmp_path / "images.npy"), training=False)
            theirs = np.load(f"{path}.npz")
            for here, there in zip(ours if isinstance(ours, list) else [ours], theirs.values(), strict=True):
                np.testing.assert_array_equal(here, there, name)
                assert np.isfinite(there).all()


def test_a_saved_model_names_keras_classes_alone(tmp_path: Path) -> None:
    tiny.build(aux_head=True, include_preprocessing=True, weight_decay=1e-5).save(tmp_path / "model.keras")
    config = json.loads(zipfile.ZipFile(tmp_path / "model.keras").read("config.json"))
    modules, registered = set(), set()

    def look(part: Any) -> None:
        if isinstance(part, dict):
            modules.add(part.get("module", "keras"))
            registered.add(part.get("registered_name"))
            part = list(part.values())
        if isinstance(part, list):
            for inner in part:
                look(inner)

    look(config)
    assert {module.split(".")[0] for module in modules if module} == {"keras"}
    assert registered <= {None, "Functional"}


def test_a_loaded_model_trains_on(tmp_path: Path) -> None:
    model = tiny.build(tiny.FEW, dropout_rate=0)
    model.compile(keras.optimizers.SGD(momentum=0.9), "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(IMAGES, np.array([0, 1]), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert int(loaded.optimizer.iterations) == 1
    losses = [each.fit(IMAGES, np.array([0, 1]), verbose=0).history["loss"] for each in (model, loaded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
@pytest.mark.parametrize("kind", [str, Path])
def test_weights_from_a_path(tmp_path: Path, ending: str, kind: Any) -> None:
    saved, path = moved(tiny.build()), tmp_path / f"saved{ending}"
    saved.save(path) if ending == ".keras" else saved.save_weights(path)
    there = path.read_bytes()
    model = tiny.build(weights=kind(path))
    for weight, other in zip(model.weights, saved.weights, strict=True):
        np.testing.assert_array_equal(weight, other, weight.path)
    assert path.read_bytes() == there


def test_weights_of_another_size_of_image_and_policy(tmp_path: Path) -> None:
    saved = moved(tiny.build(include_preprocessing=True))
    saved.save(tmp_path / "saved.keras")
    model = tiny.build(input_shape=(None, 48, 3), dtype="mixed_bfloat16", weights=tmp_path / "saved.keras")
    for weight, other in zip(model.weights, saved.weights, strict=True):
        np.testing.assert_array_equal(weight, other, weight.path)


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_weights_of_another_network_are_refused(tmp_path: Path, ending: str) -> None:
    other, path = tiny.build(num_classes=4), tmp_path / f"other{ending}"
    other.save(path) if ending == ".keras" else other.save_weights(path)
    with pytest.raises(ValueError, match="logits"):
        tiny.build(weights=path)


@pytest.mark.parametrize("name", ["missing.keras", "missing.weights.h5", "", "text.txt", "folder.keras"])
def test_weights_that_are_no_saved_model_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.txt").write_text("no weights")
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(ValueError, match=r"weights"):
        tiny.build(weights=tmp_path / name)

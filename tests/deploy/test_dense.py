"""Aligned, dilated and prefixed networks through export, convert, evaluate, predict and explain, against Keras."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from inception_resnet_keras import (
    convert_checkpoint,
    create_inception_resnet_v1,
    evaluate,
    export_model,
    inspect_checkpoint,
    load_weights,
    networks,
    predict,
    settle_batch_norm,
)
from inception_resnet_keras.cli import main
from inception_resnet_keras.models.open import open_model
from inception_resnet_keras.networks import edits

from ..pictures import write_digits

SIDE = 107
DENSE = {"padding": "same", "output_stride": 16}


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network with a quarter of its filters: its layers, names and maps are those of the whole one."""
    narrow = edits.with_width(networks.find("inception_resnet_v1"), 0.25)
    monkeypatch.setitem(networks.NETWORKS, narrow.name, {**networks.NETWORKS[narrow.name], "paper": narrow})


def network(**options: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    small: dict[str, Any] = {"num_classes": 3, "depths": (1, 1, 1), "input_shape": (SIDE, SIDE, 3)}
    return create_inception_resnet_v1(include_preprocessing=True, **small, **options)


def sized(pictures: Path, out: Path) -> Path:
    """The pictures as large as the model takes them."""
    for file in sorted(pictures.rglob("*.png")):
        (out / file.parent.name).mkdir(parents=True, exist_ok=True)
        Image.open(file).convert("RGB").resize((SIDE, SIDE)).save(out / file.parent.name / file.name)
    return out


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    files = sorted(folder.rglob("*.png"))
    images = np.stack([np.asarray(Image.open(file), np.float32) for file in files])
    return images, np.array([int(file.parent.name) for file in files])


@pytest.mark.slow
@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize("options", [DENSE, {"layer_prefix": "left_"}], ids=["dense", "prefixed"])
def test_every_verb_takes_it(options: dict[str, Any], tmp_path: Path) -> None:
    pictures = write_digits(tmp_path / "pictures", classes=3, per_class=3)
    pixels = np.random.default_rng(0).uniform(0, 255, (4, SIDE, SIDE, 3)).astype(np.float32)
    model = network(**options)
    settle_batch_norm(model, pixels)
    file = tmp_path / "model.keras"
    model.save(file)
    expected = model.predict(pixels, verbose=0)
    # Exported; the SavedModel is loaded without trust, by its operations.
    exports: dict[Any, str] = {"onnx": "model.onnx", "saved_model": "saved_model"}
    for kind, name in exports.items():
        export_model(file, tmp_path / name, kind, check=pictures, min_agreement=0.0)
        np.testing.assert_allclose(open_model(tmp_path / name).run(pixels), expected, atol=2e-5)
    # Converted, and loaded again.
    convert_checkpoint(file, tmp_path / "weights.safetensors")
    again = network(**options)
    load_weights(again, tmp_path / "weights.safetensors")
    np.testing.assert_allclose(again.predict(pixels, verbose=0), expected, atol=1e-6)
    # As it stands.
    np.testing.assert_allclose(open_model(file).run(pixels), expected, atol=1e-6)
    [picture, *_] = sorted(pictures.rglob("*.png"))
    assert sum(share for _, share in predict(file, picture)[0].top) == pytest.approx(1, abs=1e-5)
    assert main(["explain", str(file), str(picture), "--out", str(tmp_path / "explained")]) == 0
    # Evaluated, on pictures of the model's own size: nothing is resized.
    found = evaluate(file, sized(pictures, tmp_path / "sized"), classes=["0", "1", "2"], out=tmp_path / "evaluated")
    images, labels = read(tmp_path / "sized")
    wanted = model.predict(images, verbose=0)
    assert found.reported.figures.top1 == (wanted.argmax(axis=1) == labels).mean()
    nll = -np.log(wanted[np.arange(len(labels)), labels]).mean()
    assert found.reported.figures.calibration.nll == pytest.approx(nll, rel=1e-5)
    options_found = inspect_checkpoint(file).options
    assert {key: options_found.get(key) for key in DENSE} == ({**DENSE} if options is DENSE else dict.fromkeys(DENSE))

"""`convert` and `inspect`, through the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import inception_resnet_keras as irk
from inception_resnet_keras.cli import main

from ..weights import synthetic

NAME = "facenet_pytorch_inception_resnet_v1"


@pytest.mark.parametrize("verb", ["convert", "inspect"])
def test_help_needs_no_engine(verb: str) -> None:
    code = (
        "import sys; from inception_resnet_keras.cli import main\n"
        f"try: main([{verb!r}, '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'keras', 'tensorflow', 'h5py'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert verb in done.stdout


@pytest.mark.slow
def test_convert_and_inspect(tmp_path: Path, capsys: Any) -> None:
    source = synthetic.write_torch(tmp_path / "casia.pt", synthetic.arrays(NAME))
    assert main(["inspect", str(source)]) == 0
    said = capsys.readouterr().out
    call = "create_inception_resnet_v1(variant='facenet', num_classes=8631, input_shape=(160, 160, 3), weights="
    assert call in said
    assert "facenet-pytorch's inception_resnet_v1 (facenet), 100% complete" in said
    assert "preprocess_input(x, 'facenet')" in said

    for out in ("out.keras", "out.safetensors"):
        assert main(["convert", str(source), str(tmp_path / out)]) == 0
        said = capsys.readouterr().out
        assert "loaded: 492 weights" in said
        assert "equal values. Only values were compared: the source holds weights without a graph" in said
    golden = synthetic.outputs(NAME)["logits"]
    found = keras.saving.load_model(tmp_path / "out.keras").predict(synthetic.images(160), verbose=0)
    assert np.abs(found - golden).max() <= 2e-5 * np.abs(golden).max()
    model = irk.create_inception_resnet_v1(variant="facenet", input_shape=(160, 160, 3))
    irk.load_weights(model, tmp_path / "out.safetensors")
    embedding = model.predict(synthetic.images(160), verbose=0)
    assert np.abs(embedding - synthetic.outputs(NAME)["embedding"]).max() <= 2e-5

    before = (tmp_path / "out.keras").read_bytes()
    assert main(["convert", str(source), str(tmp_path / "out.keras")]) == 1
    assert "exists; it is not overwritten" in capsys.readouterr().err
    assert (tmp_path / "out.keras").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"casia.pt", "out.keras", "out.safetensors"}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["none.pt", "out.keras"], "which does not exist"),
        (["none.pt", "out.h5"], "a file ending in .keras or .safetensors"),
        (["none.pt", "out.keras", "--to", "safetensors"], "a file ending in .safetensors"),
    ],
)
def test_bad_input_is_told_in_a_line(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *arguments]) == 1
    assert complaint in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_known_network_is_told(tmp_path: Path, capsys: Any) -> None:
    path = synthetic.write_safetensors(tmp_path / "a.safetensors", {"a.weight": np.ones(3, np.float32)})
    assert main(["inspect", str(path)]) == 1
    assert "holds no network that is known here; its first tensors are a.weight" in capsys.readouterr().err

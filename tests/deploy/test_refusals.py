"""What cannot be exported is refused before work starts; what does not agree leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inception_resnet_keras import export_model
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.deploy import check as checks

from ..exporting import lively
from ..pictures import write_digits


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"format": "tensorrt"}, "format: got 'tensorrt'; it takes 'saved_model' or 'onnx'"),
        ({"precision": "int4"}, "precision: got 'int4'; it takes 'float32' or"),
        (
            {"precision": "bfloat16"},
            "float32 or float16 or int8 for onnx; bfloat16 is available for saved_model",
        ),
        ({"precision": "int8"}, "calibrate: got None; it takes a folder of pictures like the model's inputs"),
        ({"calibrate": "."}, "calibrate: got '.'; it takes None for float32"),
        ({"check": "/nowhere/at all"}, "check: /nowhere/at all is not a folder"),
        ({"validate": "empty"}, "validate: empty: holds no pictures; put the pictures of each class into a folder"),
        ({"out": "m.tflite"}, "out: got 'm.tflite'; it takes a file ending in .onnx"),
        ({"out": "nowhere/m.onnx"}, "out: nowhere is not a folder"),
        ({"out": "m.onnx", "format": "saved_model"}, "out: got 'm.onnx'; it takes a folder's name"),
        ({"model": "empty"}, r"model.keras: there is no such file; give a run's folder, a SavedModel's folder"),
        ({"model": 3}, "model: got 3; it takes a Keras model, a run's folder or a .keras file"),
        ({"min_agreement": 2}, r"min_agreement: got 2; it takes a number in \[0, 1\]"),
        ({"max_difference": float("nan")}, "max_difference: got nan"),
        ({"optimize": 1}, "optimize: got 1"),
        ({"size": (299, 0)}, r"size: got \(299, 0\); it takes a side in pixels or \(height, width\)"),
        ({"input_type": "int8"}, "input_type: got 'int8'; it takes 'float32' or 'uint8'"),
        ({"opset": 12}, "opset: got 12; it takes an integer of 13 to 18"),
        ({"opset": 18, "format": "openvino", "out": "m.xml"}, "opset: got 18; it takes None for openvino"),
        (
            {"integer_only": True},
            "integer_only: got True; it takes False for onnx in float32: only litert in int8 has it",
        ),
        ({"precision": "int8", "calibrate": "few", "min_calibration": 0}, "min_calibration: got 0"),
        ({"quantization": {}}, "quantization: got {}; it takes None for float32"),
        (
            {"precision": "int8", "calibrate": "few"},
            r"few has 3 pictures to calibrate on; int8 takes at least 10, .*\(--min-calibration 3\)",
        ),
    ],
)
def test_bad_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], says: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    write_digits(Path("few"), 1, 3)
    with pytest.raises(InputError, match=says):
        export_model(**{"model": "none.keras", "out": "m.onnx", "format": "onnx", **options})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "few"]


@pytest.mark.parametrize(
    ("model", "options", "says"),
    [
        ({"include_top": False}, {}, r"its output is \(None, 1, 1, 10\); a classifier or an embedding,"),
        ({}, {"class_names": ["a"]}, "class_names: got 1 names, and the model has 3 outputs"),
        ({}, {"preprocessing": "facenet"}, "but tiny .* scales pixels itself; leave it out"),
        ({}, {"preprocessing": "imagenet"}, "preprocessing: got 'imagenet'; it takes 'inception' or"),
        ({"include_preprocessing": False}, {}, r"set preprocessing= \(.* to 'inception' or 'facenet' or"),
        ({"input_shape": (None, None, 3)}, {}, r"takes images of any size; give one with size= \(--size\)"),
        ({}, {"class_names": "imagenet"}, "class_names: ImageNet has 1000 classes, and the model 3 outputs"),
        ({}, {"size": 33}, "size: got 33×33, but tiny .* takes images of 32×32; leave it out"),
    ],
)
def test_models_that_are_not_exported(
    tmp_path: Path, model: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        export_model(lively(**model), tmp_path / "m.onnx", "onnx", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", ["m.xml", "m.bin", "m.xml.check.json"])
def test_what_is_there_stays(run: Path, tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    with pytest.raises(InputError, match=f"{there} exists; it is not overwritten"):
        export_model(run, tmp_path / "m.xml", "openvino")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(there, "mine")]


def test_past_a_bound_nothing_is_left(
    run: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.onnx"
    command = ["export", str(run), "--format=onnx", f"--out={out}", f"--check={digits}", "--max-difference=0"]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "it is not kept: the largest difference is" in said
    assert "above 0" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [[], ["--precision=int8", "--calibrate=digits", "--layout=triton"]])
def test_engines_are_ranked_in_int8_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    assert main(["export", str(tmp_path / "none"), "--format=onnx", "--rank", *more]) == 1
    assert "--rank: compares engines in int8" in capsys.readouterr().err


def check_of(wanted: Any, found: Any, **bounds: float) -> list[str]:
    wanted, found = np.array(wanted, float), np.array(found, float)
    return checks.Check(
        "m",
        "onnx",
        "float32",
        len(wanted),
        "here",
        float(np.abs(wanted - found).max()),
        float(np.abs(wanted).max()),
        float(np.mean(wanted.argmax(1) == found.argmax(1))),
        False,
        checks.Bounds(**{"difference": 0.01, "agreement": 1.0, "accuracy_drop": 0.0, **bounds}),
        accuracy=(0.9, 0.8),
    ).failures


def test_each_bound_can_fail() -> None:
    same = [[0.2, 0.8], [0.6, 0.4]]
    assert check_of(same, same, accuracy_drop=0.2) == []
    assert "accuracy drops from 90.00% to 80.00%" in check_of(same, same)[0]
    assert "above 0.01" in check_of(same, [[0.3, 0.7], [0.6, 0.4]], accuracy_drop=0.2)[0]
    assert "top-1 agreement is 50.00%" in check_of(same, [[0.6, 0.4], [0.6, 0.4]], difference=9, accuracy_drop=0.2)[0]
    assert len(check_of(same, [[np.nan, 0.4], [0.6, 0.4]], agreement=0, accuracy_drop=0.2)) == 1


def test_an_interrupted_export_leaves_nothing(
    run: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **options: object) -> None:
        assert list(tmp_path.glob(".m.onnx.*.partial/m.onnx"))
        raise KeyboardInterrupt

    monkeypatch.setattr(checks, "compare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_model(run, tmp_path / "m.onnx", "onnx", check=digits)
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_missing_is_told_before_the_place_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(tmp_path / "typo" / "run"), "--format=onnx"]) == 1
    said = capsys.readouterr().err
    assert "typo/run: there is no such file" in said
    assert "out:" not in said


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGTERM, ("", 0.0)),  # as the folder comes to be
        (signal.SIGINT, ("", 1.0)),  # in the converter
        (signal.SIGKILL, ("/m.onnx", 0.2)),  # where it is read, checked or run
    ],
)
def test_what_a_killed_export_left_the_next_one_removes(
    run: Path, digits: Path, tmp_path: Path, number: signal.Signals, moment: tuple[str, float]
) -> None:
    (seen, seconds), out, temporary = moment, tmp_path / "out", tmp_path / "temporary"
    out.mkdir()
    temporary.mkdir()
    options = ["export", str(run), "--format=onnx", f"--check={digits}", f"--out={out / 'm.onnx'}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "inception_resnet_keras", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    deadline = time.monotonic() + 100
    while not list(out.glob(f".m.onnx.*.partial{seen}")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(number)
    assert process.wait(100) == -number
    assert {path.name for path in temporary.iterdir()} <= {".ses"}  # ONNX Runtime's, which it leaves at any end
    [left] = out.iterdir()
    assert left.match(".m.onnx.*.partial")
    assert main(options) == 0
    assert {path.name for path in out.iterdir()} == {"m.onnx", "m.onnx.check.json"}


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_what_is_not_installed_is_asked_for_where_it_is_needed(precision: str) -> None:
    """In a process that has no nncf."""
    code = (
        "import importlib.util, sys; from inception_resnet_keras.deploy import formats\n"
        "found = importlib.util.find_spec\n"
        "formats.find_spec = lambda name: None if name == 'nncf' else found(name)\n"
        "print(formats.chosen('openvino', sys.argv[1])[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, precision], capture_output=True, text=True, check=False)
    if precision == "float32":
        assert done.stdout.strip() == precision, done.stderr
    else:
        assert "openvino in int8 needs nncf, not installed here" in done.stderr


def test_keras_on_another_engine_is_told(run: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "inception_resnet_keras",
        "export",
        run,
        "--format=onnx",
        "--out",
        tmp_path / "m.onnx",
    ]
    engine = os.environ | {"KERAS_BACKEND": "openvino"}
    done = subprocess.run(list(map(str, command)), env=engine, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Keras runs on openvino here, and export needs TensorFlow: unset KERAS_BACKEND" in done.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_exported_already_is_named(exported: dict[str, Any], tmp_path: Path) -> None:
    path, _ = exported["onnx"]
    with pytest.raises(InputError, match="is exported already; give the run"):
        export_model(path, tmp_path / "m.onnx", "onnx")


def test_a_validation_folder_of_other_classes(run: Path, tmp_path: Path) -> None:
    write_digits(tmp_path / "dog", 1, 2)
    with pytest.raises(InputError, match="has classes that the training set lacks: 'dog'"):
        export_model(run, tmp_path / "m.onnx", "onnx", validate=tmp_path)

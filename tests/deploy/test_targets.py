"""Every target says what the Keras model says, carries its card, and is served by its own library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import keras
import numpy as np
import pytest
from PIL import Image

from inception_resnet_keras import export_model
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.folders import picture_files
from inception_resnet_keras.data.images import read_image
from inception_resnet_keras.data.packed import pack
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.deploy.check import BOUNDS, Check, required_setting
from inception_resnet_keras.deploy.formats import FORMATS, FormatName
from inception_resnet_keras.models.model_file import ExportCard, Precision
from inception_resnet_keras.models.runtimes import OpenVinoRuntime, open_runtime
from inception_resnet_keras.networks.rows import PER_IMAGE

from .. import tiny
from ..exporting import CARD, lively, write_pictures

Exported = dict[str, tuple[Path, Check]]
EVERY = pytest.mark.parametrize("format", list(FORMATS))


def pixels(digits: Path, count: int = 7) -> np.ndarray:
    return np.stack([read_image(path, CARD.size) for path in picture_files(digits)[:count]])


@EVERY
def test_an_export_computes_what_the_model_does(exported: Exported, run: Path, digits: Path, format: str) -> None:
    path, check = exported[format]
    ours, theirs = open_runtime(run), open_runtime(path)
    assert theirs.kind == format
    assert isinstance(theirs.card, ExportCard)
    told: dict[str, Any] = {key: getattr(theirs.card, key) for key in ("weights_sha256", "made_by")}
    assert theirs.card == ExportCard(**asdict(CARD), precision="float32", output="probabilities", **told)
    images = pixels(digits)
    wanted = ours.run(images)
    assert np.ptp(wanted, axis=0).max() > 0.02  # the pictures matter
    for batch in (images[:1], images, images[:3]):
        found = theirs.run(batch)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted[: len(batch)], atol=5e-5)
    assert check.agreement == 1
    assert check.pictures == 24
    assert check.difference < 5e-5


@EVERY
def test_the_figures_lie_beside_it_and_nothing_else(exported: Exported, format: str) -> None:
    path, check = exported[format]
    written = json.loads(path.with_name(f"{path.name}.check.json").read_text())
    assert written["agreement"] == check.agreement
    assert written["difference"] == check.difference
    assert check.plain_difference is not None
    assert written["plain_difference"] == check.plain_difference < 5e-5
    assert (written["plain_agreement"], written["setting"]) == (1, "")
    assert written["bounds"] == {"difference": 1e-4, "agreement": 0.99, "accuracy_drop": 0.001}
    files = {file.name for file in path.parent.iterdir()}
    beside = {"model.bin"}
    assert files == beside | {name for out, _ in exported.values() for name in (out.name, f"{out.name}.check.json")}


def test_openvino_computes_in_float32_without_a_setting(exported: Exported, run: Path, digits: Path) -> None:
    """On CPUs with bfloat16 too: each operation says that its own precision is kept."""
    import openvino

    path, check = exported["openvino"]
    layers = ET.parse(path).getroot().findall("layers/layer")
    kept = {layer.get("type") for layer in layers if layer.find("rt_info/attribute[@name='precise']") is not None}
    left = {layer.get("type") for layer in layers} - kept
    assert left == {"Parameter", "Const", "Result"}
    images = pixels(digits)
    found = openvino.Core().compile_model(path, "CPU")(images)[0]
    np.testing.assert_allclose(found, open_runtime(run).run(images), atol=5e-5)
    assert "with openvino.Core().compile_model without settings: largest difference" in str(check)


@pytest.mark.slow
def test_openvino_holds_pixels_standardised_per_image(digits: Path, tmp_path: Path) -> None:
    """Also of pictures with little contrast, whose pixels bfloat16 cannot tell apart from their mean."""
    model = tiny.build(replace(tiny.TINY, preprocessing=PER_IMAGE), include_preprocessing=True)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, path in enumerate(picture_files(digits)[:6]):
        Image.fromarray(200 + np.asarray(read_image(path, CARD.size), np.uint8) // 64).save(folder / f"{number}.png")
    check = export_model(model, tmp_path / "m.xml", "openvino", check=folder)
    assert check.plain_difference is not None
    assert check.plain_difference < 1e-5 * check.largest
    assert check.setting == ""


def test_what_a_file_cannot_hold_is_the_last_line() -> None:
    card = ExportCard(**asdict(CARD), precision="float32")
    assert required_setting(card, "openvino", 1e-7, 1.0) == required_setting(card, "onnx", 0.1, 1.0) == ""
    hints: dict[Precision, str] = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "f32"}
    for precision, hint in hints.items():
        setting = required_setting(replace(card, precision=precision), "openvino", 1e-2, 1.0)
        check = Check("m.xml", "openvino", precision, 1, "here", 0, 1, 1, False, BOUNDS[precision], setting=setting)
        last = str(check).split("\n")[-1]
        assert last.endswith(f'compile_model(PATH, "CPU", {{"INFERENCE_PRECISION_HINT": "{hint}"}})')


def test_onnx_is_valid_and_of_any_batch(exported: Exported) -> None:
    import onnx

    model = onnx.load(exported["onnx"][0])
    onnx.checker.check_model(model, full_check=True)
    (takes,), (gives,) = model.graph.input, model.graph.output
    assert (takes.name, gives.name) == ("image", "probabilities")
    assert [value.type.tensor_type.shape.dim[0].dim_param for value in (takes, gives)] == ["batch", "batch"]


def test_the_optimized_graph_is_what_is_exported(exported: Exported) -> None:
    """A residual's scale is a multiplication unless it was folded; pixels are scaled by one."""
    import onnx

    operations = [node.op_type for node in onnx.load(exported["onnx"][0]).graph.node]
    assert operations.count("Mul") <= 1
    assert "BatchNormalization" not in operations


def test_a_saved_model_reads_encoded_pictures(exported: Exported, run: Path, digits: Path) -> None:
    import tensorflow as tf

    files = picture_files(digits)[::5]
    loaded = tf.saved_model.load(exported["saved_model"][0])
    found = loaded.signatures["encoded"](image_bytes=tf.constant([file.read_bytes() for file in files]))
    wanted = open_runtime(run).run(np.stack([read_image(file, CARD.size) for file in files]))
    np.testing.assert_allclose(found["probabilities"], wanted, atol=0.03)  # a pixel's rounding moves them a little
    order = np.argsort(-found["probabilities"].numpy(), axis=1)
    assert [[name.decode() for name in row] for row in found["classes"].numpy()] == [
        [CARD.classes[index] for index in row] for row in order
    ]
    np.testing.assert_array_equal(found["scores"], np.take_along_axis(found["probabilities"].numpy(), order, 1))


HINT = """
import sys, openvino
from inception_resnet_keras.models.runtimes import open_runtime
print("FP16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
print(open_runtime(sys.argv[1])._request.get_compiled_model().get_property("INFERENCE_PRECISION_HINT").get_type_name())
"""


@pytest.mark.slow
def test_openvino_computes_float16_in_float32_where_the_cpu_has_none(run: Path, digits: Path, tmp_path: Path) -> None:
    """Left alone it takes bfloat16, where there is AVX-512; a CPU with float16 is told to do without."""
    export_model(run, tmp_path / "m.xml", "openvino", precision="float16", check=digits)
    for most in ("DEFAULT", "AVX512_CORE_VNNI"):
        command = [sys.executable, "-c", HINT, str(tmp_path / "m.xml")]
        env = {**os.environ, "ONEDNN_MAX_CPU_ISA": most}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert done.stdout.split() in (["True", "f16"], ["False", "f32"])


# Of the largest output, three times what was measured: 0.004 to 0.005, 0.047, 0.1. Of OpenVINO's int8, 0.45 was: nncf
# quantises a few random filters coarsely, a trained network's not so.
DIFFERENCES = {"float16": 0.015, "bfloat16": 0.14, "int8": 0.3}
OPENVINO_INT8 = 0.7


def test_accuracies_are_compared_on_any_source_of_labelled_pictures(run: Path, digits: Path, tmp_path: Path) -> None:
    source = open_source(digits)
    pack(source, tmp_path / "packed")
    rows = [f"{name},{source.class_names[label]}" for name, label in zip(source.names, source.labels, strict=True)]
    (tmp_path / "set.csv").write_text("\n".join(["path,label", *rows]))
    found = [
        export_model(run, tmp_path / f"{place.name}.onnx", "onnx", validate=place)
        for place in (digits, tmp_path / "packed", tmp_path / "set.csv")
    ]
    assert found[0].accuracy == found[1].accuracy == found[2].accuracy is not None
    assert [check.labelled for check in found] == [24] * 3


@pytest.fixture(scope="module")
def more_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of `digits`, and four times as many others."""
    return write_pictures(tmp_path_factory.mktemp("more"), per_class=40)


def openvino_computes(precision: str) -> bool:
    """Whether OpenVINO has instructions of this CPU for a precision; int8 runs on any."""
    import openvino

    names = {"float16": "FP16", "bfloat16": "BF16", "int8": "FP32"}
    return names[precision] in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.slow
@pytest.mark.parametrize("target", [(row.name, kind) for row in FORMATS.values() for kind in row.precisions[1:]])
def test_every_precision(
    run: Path, digits: Path, more_digits: Path, tmp_path: Path, target: tuple[FormatName, Precision]
) -> None:
    name, precision = target
    int8 = precision == "int8"
    given: dict[str, object] = {"calibrate": digits, "validate": more_digits} if int8 else {"check": digits}
    out = tmp_path / f"model{FORMATS[name].suffix}"
    given |= {"min_agreement": 0.6 if int8 else 0.9, "max_accuracy_drop": 0.25}  # of few pictures
    check = export_model(run, out, name, precision=precision, **given)  # type: ignore[arg-type]
    most = OPENVINO_INT8 if (name, precision) == ("openvino", "int8") else DIFFERENCES[precision]
    assert check.relative < most
    assert (check.accuracy is not None) == (precision == "int8")
    if int8:  # the 24 are among those of `more_digits`, in other files
        assert check.pictures == check.labelled == 3 * 40 - 24
        assert any("calibrated on only 24 pictures" in note for note in check.notes)
        assert any("24 pictures of" in note and "calibrated on their pixels" in note for note in check.notes)
    found = open_runtime(out)
    assert found.card.precision == precision  # type: ignore[attr-defined]
    images = pixels(digits)
    exact = open_runtime(run).run(images)
    probabilities = found.run(images)
    assert check.plain_difference is not None
    if isinstance(found, OpenVinoRuntime):  # the setting of the last line gives what was reported
        import openvino

        hint = check.setting.partition('"INFERENCE_PRECISION_HINT": "')[2].partition('"')[0]
        told = openvino.Core().compile_model(out, "CPU", {"INFERENCE_PRECISION_HINT": hint})
        np.testing.assert_allclose(told(np.float32(images))[0], probabilities, atol=1e-5)
    least = 3e-4  # it is no float32 under another name
    if isinstance(found, OpenVinoRuntime) and not openvino_computes(precision):
        least = 0.0
        assert any(f"this CPU does not support {precision}" in note for note in check.notes)
    assert least < np.abs(probabilities - exact).max() < most
    steps = 256 * probabilities
    assert np.allclose(steps, np.round(steps), atol=1e-3) == (int8 and name == "litert")  # others' softmax is finer


@pytest.mark.parametrize("options", [{"include_preprocessing": False}, {"classifier_activation": None}])
def test_a_model_without_a_card_is_made_whole(tmp_path: Path, digits: Path, options: dict[str, Any]) -> None:
    model = lively(tiny.FEW, **options)
    given = {"preprocessing": "inception"} if "include_preprocessing" in options else {}
    check = export_model(model, tmp_path / "m.onnx", "onnx", check=digits, **given)  # type: ignore[arg-type]
    found = open_runtime(tmp_path / "m.onnx")
    assert found.card.classes == ["0", "1", "2"]
    assert any("has no class names" in note for note in check.notes)
    images = pixels(digits)
    scaled = images / 127.5 - 1 if given else images
    wanted = keras.ops.softmax(tiny.run(model, scaled)) if not given else tiny.run(model, scaled)
    np.testing.assert_allclose(found.run(images), wanted, atol=1e-5)


def test_of_two_heads_the_classifiers_is_exported(tmp_path: Path, digits: Path) -> None:
    model = lively(aux_head=True)
    check = export_model(model, tmp_path / "m.onnx", "onnx", check=digits, class_names=CARD.classes)
    assert any("aux_predictions" in note and "first output" in note for note in check.notes)
    images = pixels(digits)
    wanted, _ = model(images.astype(np.float32), training=False)
    np.testing.assert_allclose(open_runtime(tmp_path / "m.onnx").run(images), wanted, atol=1e-5)
    assert open_runtime(tmp_path / "m.onnx").card.classes == CARD.classes


def test_two_classes_may_have_one_name(tmp_path: Path, digits: Path) -> None:
    """ImageNet's English names are such: a file of them is taken, and no accuracy is taken by it."""
    names = tmp_path / "names.txt"
    names.write_text("crane\ntench\ncrane\n")
    model = lively(tiny.FEW)
    export_model(model, tmp_path / "m.onnx", "onnx", check=digits, class_names=names)
    assert open_runtime(tmp_path / "m.onnx").card.classes == ["crane", "tench", "crane"]
    with pytest.raises(InputError, match=r"validate: several classes of the model have the same name \('crane'\)"):
        export_model(model, tmp_path / "n.onnx", "onnx", validate=digits, class_names=names)


def test_an_embedding_is_exported_without_classes(tmp_path: Path, digits: Path) -> None:
    model = lively(include_top=False, pooling="avg")
    check = export_model(model, tmp_path / "m.xml", "openvino", check=digits)
    assert check.embedding
    assert check.agreement > 0.9999
    found = open_runtime(tmp_path / "m.xml")
    assert not found.card.classes
    images = pixels(digits)
    np.testing.assert_allclose(found.run(images), tiny.run(model, images), rtol=1e-4, atol=1e-5)


def test_channels_first_is_turned_round(channels_first: None, tmp_path: Path, digits: Path) -> None:
    del channels_first
    model = lively(input_shape=(3, tiny.SIDE, tiny.SIDE))
    export_model(model, tmp_path / "m.onnx", "onnx", check=digits, class_names=CARD.classes)
    images = pixels(digits)
    wanted = tiny.run(model, np.moveaxis(images, -1, 1))
    np.testing.assert_allclose(open_runtime(tmp_path / "m.onnx").run(images), wanted, atol=1e-5)


def test_the_model_is_left_as_it_was(digits: Path, tmp_path: Path) -> None:
    model = lively(tiny.FEW, dtype="mixed_bfloat16")
    before, config = [np.array(weight) for weight in model.weights], model.get_config()
    export_model(model, tmp_path / "m.onnx", "onnx", check=digits, class_names=CARD.classes)
    assert model.get_config() == config
    assert all(np.array_equal(old, weight) for old, weight in zip(before, model.weights, strict=True))


def test_the_command_exports_a_whole_models_h5(tmp_path: Path, digits: Path) -> None:
    model = lively(tiny.FEW)
    model.save(tmp_path / "model.h5")
    out = tmp_path / "m.onnx"
    assert main(["export", str(tmp_path / "model.h5"), "--format=onnx", f"--check={digits}", f"--out={out}"]) == 0
    images = pixels(digits)
    np.testing.assert_allclose(open_runtime(out).run(images), tiny.run(model, images), atol=1e-5)


@pytest.mark.slow
def test_an_export_ranks_every_engine_in_int8(
    run: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those too whose outputs on the benchmark's own pictures are far from a tiny network's."""
    monkeypatch.setattr("inception_resnet_keras.cli.export.RANK_ROUNDS", 1)
    arguments = ["export", str(run), "--format", "onnx", "--precision", "int8", "--calibrate", str(digits), "--rank"]
    bounds = ["--min-calibration", "2", "--min-agreement", "0", "--max-difference", "1"]
    assert main([*arguments, *bounds, "--out", str(tmp_path / "m.onnx")]) == 0
    said = capsys.readouterr()
    fastest = [line for line in (said.out + said.err).splitlines() if line.startswith("fastest here at batch")]
    assert [line.split(":")[0] for line in fastest] == [
        f"fastest here at batch {batch}, {tiny.SIDE}×{tiny.SIDE} pixels" for batch in (1, 8)
    ]

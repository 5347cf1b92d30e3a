"""What an export takes, where that is asked for: bytes, one size of many, an opset, integers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inception_resnet_keras import create_inception_v4, export_model
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.folders import picture_files
from inception_resnet_keras.data.images import read_image
from inception_resnet_keras.deploy.formats import FORMATS
from inception_resnet_keras.deploy.prepare import prepare
from inception_resnet_keras.models.runtimes import open_runtime

from .. import tiny
from ..exporting import CARD, lively


def pixels(digits: Path) -> np.ndarray:
    """uint8, as a camera gives them."""
    return np.stack([read_image(path, CARD.size) for path in picture_files(digits)[:5]]).astype(np.uint8)


def test_onnx_of_bytes_of_a_size_that_is_given_in_an_opset_that_is_given(tmp_path: Path, digits: Path) -> None:
    import onnx
    import onnxruntime

    model = lively(input_shape=(None, None, 3))
    out = tmp_path / "m.onnx"
    export_model(model, out, "onnx", size=tiny.SIDE, input_type="uint8", opset=13, check=digits)
    (takes,) = onnxruntime.InferenceSession(str(out)).get_inputs()
    assert (takes.type, takes.shape) == ("tensor(uint8)", ["batch", tiny.SIDE, tiny.SIDE, 3])
    assert [each.version for each in onnx.load(out).opset_import if not each.domain] == [13]
    images = pixels(digits)
    (found,) = onnxruntime.InferenceSession(str(out)).run(None, {takes.name: images})
    wanted = tiny.run(model, images.astype(np.float32))
    np.testing.assert_allclose(found, wanted, atol=5e-5)
    np.testing.assert_allclose(open_runtime(out).run(images + 0.4), wanted, atol=5e-5)  # to the next whole number


def test_a_known_network_of_any_size_is_not_taken_for_its_usual_one() -> None:
    model = create_inception_v4(weights=None, num_classes=2, depths=(1, 1, 1), input_shape=(None, None, 3))
    settings: dict[str, Any] = {"class_names": None, "preprocessing": "inception", "optimize": False}
    with pytest.raises(InputError, match="takes images of any size; give one with size="):
        prepare(model, "float32", default_size=False, **settings)
    assert prepare(model, "float32", default_size=False, size=(107, 75), **settings).card.size == (107, 75)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "precision"),
    [
        ("saved_model", "float32"),
        ("openvino", "float32"),
        ("litert", "float32"),
        *((row, "int8") for row in ("onnx", "openvino", "litert")),
    ],
)
def test_every_format_takes_bytes(run: Path, digits: Path, tmp_path: Path, format: Any, precision: Any) -> None:
    out = tmp_path / f"model{FORMATS[format].suffix}"
    int8: dict[str, Any] = (
        {"precision": "int8", "calibrate": digits, "min_agreement": 0.5} if precision == "int8" else {}
    )
    check = export_model(run, out, format, input_type="uint8", check=digits, **int8)
    found = open_runtime(out)
    assert found.card.input_type == "uint8"  # type: ignore[attr-defined]
    images = pixels(digits)
    np.testing.assert_allclose(found.run(images), open_runtime(run).run(images), atol=0.7 if int8 else 5e-5)
    assert check.plain_difference == pytest.approx(check.difference, abs=1e-5 if not int8 else 0.1)
    if format == "openvino":
        import openvino

        assert openvino.Core().read_model(out).input(0).element_type == openvino.Type.u8
    elif format == "saved_model":
        import tensorflow as tf

        loaded = tf.saved_model.load(out)
        (spec,) = loaded.signatures["serving_default"].structured_input_signature[1].values()
        assert spec.dtype == tf.uint8
    elif format == "litert":
        from ai_edge_litert.interpreter import Interpreter

        assert Interpreter(model_path=str(out)).get_input_details()[0]["dtype"] is np.uint8


@pytest.mark.slow
def test_litert_of_integers_alone(run: Path, digits: Path, tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    out = tmp_path / "npu.tflite"
    options = ["--precision=int8", "--integer-only", f"--calibrate={digits}", "--min-agreement=0.5", f"--out={out}"]
    assert main(["export", str(run), "--format=litert", *options]) == 0
    interpreter = Interpreter(model_path=str(out))
    assert {row["dtype"].__name__ for row in interpreter.get_tensor_details()} <= {"uint8", "int8", "int32", "int64"}
    interpreter.allocate_tensors()
    (takes,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (takes["dtype"], takes["quantization"]) == (np.uint8, (1.0, 0))  # pixels as they are
    assert (gives["dtype"], gives["quantization"]) == (np.uint8, (1 / 256, 0))
    images, found = pixels(digits), open_runtime(out)
    for image, ours in zip(images, found.run(images), strict=True):
        interpreter.set_tensor(takes["index"], image[None])
        interpreter.invoke()
        np.testing.assert_allclose(interpreter.get_tensor(gives["index"])[0] / 256, ours, atol=1e-6)
    np.testing.assert_allclose(found.run(images), open_runtime(run).run(images), atol=0.3)

"""What exports say of themselves, read by the formats' own tools."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from inception_resnet_keras import export_model
from inception_resnet_keras.data.folders import picture_files
from inception_resnet_keras.data.images import read_image
from inception_resnet_keras.deploy.descriptions import described, model_api_info
from inception_resnet_keras.models.model_file import ExportCard
from inception_resnet_keras.models.runtimes import open_runtime

from ..exporting import CARD, lively

FACTS = {
    "network": "tiny paper",
    "precision": "float32",
    "input": "image",
    "input_type": "float32",
    "layout": "NHWC",
    "color_order": "RGB",
    "range": "0-255, scaled inside the model",
    "size": "32x32",
    "resize": "bilinear, antialiased",
    "central_crop": "1",
    "output": "probabilities",
}


@pytest.fixture(scope="module")
def weights_sha256(run: Path) -> str:
    weights = keras.saving.load_model(run / "model.keras").weights
    return sha256(b"".join(np.asarray(weight, "<f4").tobytes() for weight in weights)).hexdigest()


def pictures(digits: Path) -> np.ndarray:
    return np.stack([read_image(path, CARD.size) for path in picture_files(digits)[::5]]).astype(np.uint8)


def test_onnx_has_names_and_metadata(exported: Any, weights_sha256: str) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported["onnx"][0])
    assert [each.name for each in (*session.get_inputs(), *session.get_outputs())] == ["image", "probabilities"]
    found = session.get_modelmeta()
    assert FACTS.items() <= found.custom_metadata_map.items()
    assert found.custom_metadata_map["weights_sha256"] == weights_sha256
    assert found.custom_metadata_map["classes"].split("\n") == CARD.classes
    assert found.custom_metadata_map["Image.NominalPixelRange"] == "NominalRange_0_255"
    assert "RGB pixels of 0-255, 32×32" in found.description


def test_openvino_has_names_layout_and_facts(exported: Any, weights_sha256: str) -> None:
    import openvino

    model = openvino.Core().read_model(exported["openvino"][0])
    assert (model.input(0).names, model.output(0).names) == ({"image"}, {"probabilities"})
    assert openvino.layout_helpers.get_layout(model.input(0)) == openvino.Layout("NHWC")
    assert {key: model.get_rt_info(["description", key]).astype(str) for key in FACTS} == FACTS
    assert model.get_rt_info(["description", "weights_sha256"]).astype(str) == weights_sha256


def test_a_saved_model_has_signatures_of_pixels_bytes_and_examples(exported: Any, digits: Path) -> None:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    path, _ = exported["saved_model"]
    signatures = (
        saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0].signature_def
    )
    ends = {key: (set(each.inputs), set(each.outputs), each.method_name) for key, each in signatures.items()}
    assert ends["serving_default"] == ({"image"}, {"probabilities"}, "tensorflow/serving/predict")
    assert ends["encoded"] == ({"image_bytes"}, {"probabilities", "classes", "scores"}, "tensorflow/serving/predict")
    assert ends["classify"] == ({"inputs"}, {"classes", "scores"}, "tensorflow/serving/classify")
    contents = [file.read_bytes() for file in picture_files(digits)[::7]]
    loaded = tf.saved_model.load(path)
    examples = [
        tf.train.Example(
            features=tf.train.Features(
                feature={"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))}
            )
        ).SerializeToString()
        for content in contents
    ]
    found = loaded.signatures["classify"](inputs=tf.constant(examples))
    wanted = loaded.signatures["encoded"](image_bytes=tf.constant(contents))
    np.testing.assert_array_equal(found["classes"], wanted["classes"])
    np.testing.assert_array_equal(found["scores"], wanted["scores"])


def test_litert_has_names_and_metadata_of_the_schema(
    exported: Any, digits: Path, run: Path, weights_sha256: str
) -> None:
    """Read by the code that is generated of the schema, and by the interpreter's signature."""
    import zipfile

    from ai_edge_litert import schema_py_generated as model_schema
    from ai_edge_litert.interpreter import Interpreter
    from mediapipe.tasks.metadata import metadata_schema_py_generated as schema

    path, _ = exported["litert"]
    content = path.read_bytes()
    model = model_schema.ModelT.InitFromPackedBuf(content)
    (entry,) = [each for each in model.metadata if each.name == b"TFLITE_METADATA"]
    packed = bytes(model.buffers[entry.buffer].data)
    assert schema.ModelMetadata.ModelMetadataBufferHasIdentifier(packed, 0)
    metadata = schema.ModelMetadataT.InitFromPackedBuf(packed)
    assert metadata.description.decode().split("\n")[: len(FACTS)] == [
        f"{key}: {value}" for key, value in FACTS.items()
    ]
    assert f"weights_sha256: {weights_sha256}" in metadata.description.decode()
    (graph,) = metadata.subgraphMetadata
    (takes,), (gives,) = graph.inputTensorMetadata, graph.outputTensorMetadata
    assert (takes.name, gives.name) == (b"image", b"probabilities")
    assert takes.content.contentPropertiesType == schema.ContentProperties.ImageProperties
    image = takes.content.contentProperties
    assert image.colorSpace == schema.ColorSpaceType.RGB
    assert (image.defaultSize.height, image.defaultSize.width) == CARD.size
    (unit,) = takes.processUnits
    assert unit.optionsType == schema.ProcessUnitOptions.NormalizationOptions
    assert ([*unit.options.mean], [*unit.options.std], [*takes.stats.max]) == ([0.0], [1.0], [255.0])
    (labels,) = gives.associatedFiles
    assert labels.type == schema.AssociatedFileType.TENSOR_AXIS_LABELS
    with zipfile.ZipFile(path) as archive:
        assert archive.read(labels.name.decode()).decode().splitlines() == CARD.classes
    # Weights lie where their alignment wants them.
    root = model_schema.Model.GetRootAsModel(content, 0)
    starts = [
        buffer._tab.Vector(buffer._tab.Offset(4))
        for buffer in map(root.Buffers, range(root.BuffersLength()))
        if buffer.DataLength()
    ]
    assert {start % 16 for start in starts} == {0}
    runner = Interpreter(model_path=str(path)).get_signature_runner()
    images = pictures(digits)[:1].astype(np.float32)
    np.testing.assert_allclose(runner(image=images)["probabilities"], open_runtime(run).run(images), atol=5e-5)


@pytest.mark.slow
def test_mediapipe_classifies_by_the_file_alone(exported: Any, run: Path, digits: Path) -> None:
    import mediapipe
    from mediapipe.tasks.python import vision

    images = pictures(digits)
    wanted = open_runtime(run).run(images)
    with vision.ImageClassifier.create_from_model_path(str(exported["litert"][0])) as classifier:
        for image, row in zip(images, wanted, strict=True):
            found = classifier.classify(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))
            (head,) = found.classifications
            scores = {category.category_name: category.score for category in head.categories}
            assert scores == pytest.approx(dict(zip(CARD.classes, row.tolist(), strict=True)), abs=1e-2)
            assert head.categories[0].category_name == CARD.classes[row.argmax()]


@pytest.mark.slow
@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_openvinos_model_api_classifies_by_the_file_alone(exported: Any, run: Path, digits: Path, format: str) -> None:
    from model_api.adapters import OpenvinoAdapter, create_core
    from model_api.models import Model

    images, path = pictures(digits), str(exported[format][0])
    if format == "openvino":
        model = Model.create_model(path, device="CPU")
    else:  # the file cannot hold the precision in which OpenVINO is to compute it
        setting = {"INFERENCE_PRECISION_HINT": "f32"}
        model = Model.create_model(OpenvinoAdapter(create_core(), path, device="CPU", plugin_config=setting))
    names = ["_".join(name.split()) for name in CARD.classes]
    assert model.params.labels == names
    for image, row in zip(images, open_runtime(run).run(images), strict=True):
        labels = model(np.ascontiguousarray(image[..., ::-1])).top_labels  # as OpenCV reads pictures
        assert [label.name for label in labels] == [names[place] for place in np.argsort(-row)]
        np.testing.assert_allclose([label.confidence for label in labels], np.sort(row)[::-1], atol=5e-5)


def test_what_does_not_fit_model_api_has_no_model_type(tmp_path: Path, digits: Path) -> None:
    card = ExportCard("tiny", "paper", ["a b", "c\u3000d"], (8, 9), thresholds=(0.25, 0.5))
    info = model_api_info(card)
    assert info["labels"].split() == ["a_b", "c_d"]
    assert "model_type" not in info
    assert described(card)["thresholds"] == "0.25 0.5"
    model = lively(include_top=False, pooling="avg")
    export_model(model, tmp_path / "m.onnx", "onnx", check=digits)
    import onnxruntime

    (gives,) = onnxruntime.InferenceSession(tmp_path / "m.onnx").get_outputs()
    assert gives.name == "embedding"


def test_the_checksums_beside_it_are_those_of_the_files(exported: Any) -> None:
    for path, check in exported.values():
        written = json.loads(path.with_name(f"{path.name}.check.json").read_text())["sha256"]
        root = path if path.is_dir() else path.parent
        assert written == check.sha256
        assert written == {name: sha256((root / name).read_bytes()).hexdigest() for name in written}
    assert set(exported["openvino"][1].sha256) == {"model.xml", "model.bin"}
    assert "saved_model.pb" in exported["saved_model"][1].sha256

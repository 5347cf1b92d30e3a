"""The folders that other model servers want, read by those servers' own definitions where there is one."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format  # type: ignore[import-untyped]

from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.deploy.formats import FormatName
from inception_resnet_keras.deploy.layouts import BACKENDS, FILES, LAYOUTS, LayoutName, check_layout, export_layout
from inception_resnet_keras.models.runtimes import open_runtime

from ..exporting import CARD

IMAGES = np.random.default_rng(0).uniform(0, 255, (3, *CARD.size, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model_config() -> Any:
    """Triton's ModelConfig, from its client's package without the client, which needs gRPC."""
    package = importlib.util.find_spec("tritonclient")
    assert package is not None
    assert package.submodule_search_locations is not None
    file = Path(package.submodule_search_locations[0], "grpc", "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ModelConfig


@pytest.fixture(scope="module")
def written(run: Path, exported: Any, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`written(layout, format)` is the folder of a layout, made by the production code around an export that exists."""
    folder = tmp_path_factory.mktemp("layouts")
    made: dict[tuple[str, str], Path] = {}

    def write(layout: LayoutName, format: FormatName) -> Path:
        if (layout, format) not in made:
            place = folder / f"{layout}-{format}"
            check = export_layout(run, place, format, layout, name="digits", max_batch=16, check=digits)
            assert check.path == str(place)
            made[layout, format] = place
        return made[layout, format]

    return write


def test_tritons_repository_is_what_its_own_definition_reads(written: Any, model_config: Any, exported: Any) -> None:
    from openvino import Core

    folder = written("triton", "openvino")
    config = text_format.Parse((folder / "digits" / "config.pbtxt").read_text(), model_config())
    assert (config.name, config.backend, config.platform) == ("digits", "openvino", "")
    assert config.max_batch_size == 16
    assert config.dynamic_batching.max_queue_delay_microseconds == 5000
    (takes,), (gives,) = config.input, config.output
    graph = Core().read_model(folder / "digits" / "1" / "model.xml")
    assert takes.name in graph.input(0).names
    assert gives.name in graph.output(0).names
    assert (list(takes.dims), list(gives.dims)) == ([*CARD.size, 3], [len(CARD.classes)])
    types = model_config.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_name
    assert (takes.data_type, gives.data_type) == (types["TYPE_FP32"].number, types["TYPE_FP32"].number)
    labels = (folder / "digits" / gives.label_filename).read_text(encoding="utf-8").splitlines()
    assert labels == CARD.classes
    again = open_runtime(folder / "digits" / "1" / "model.xml").run(IMAGES)
    np.testing.assert_allclose(again, open_runtime(exported["openvino"][0]).run(IMAGES), atol=1e-6)
    assert sorted(path.name for path in folder.parent.iterdir() if path.name.startswith(folder.name)) == [
        folder.name,
        f"{folder.name}.check.json",
    ]


@pytest.mark.slow
def test_tritons_other_backends(written: Any, model_config: Any) -> None:
    import onnx
    import tensorflow as tf

    folder = written("triton", "onnx") / "digits"
    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config())
    assert (config.backend, config.platform) == ("onnxruntime", "onnxruntime_onnx")
    graph = onnx.load(folder / "1" / "model.onnx").graph
    assert (config.input[0].name, config.output[0].name) == (graph.input[0].name, graph.output[0].name)
    folder = written("triton", "saved_model") / "digits"
    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config())
    assert (config.backend, config.platform) == ("tensorflow", "tensorflow_savedmodel")
    loaded = tf.saved_model.load(folder / "1" / "model.savedmodel")
    signature = loaded.signatures["serving_default"]
    assert list(signature.structured_input_signature[1]) == [config.input[0].name]
    assert list(signature.structured_outputs) == [config.output[0].name]
    assert list(config.input[0].dims) == [*CARD.size, 3]


@pytest.mark.slow
def test_openvinos_server_and_tensorflows(written: Any, exported: Any) -> None:
    openvino = pytest.importorskip("openvino")
    folder = written("ovms", "openvino")
    ((entry,),) = (json.loads((folder / "config.json").read_text())["model_config_list"],)
    config = entry["config"]
    assert (config["name"], config["base_path"]) == ("digits", "/models/digits")
    assert config["plugin_config"] == {"INFERENCE_PRECISION_HINT": "f32"}
    assert sorted(path.name for path in (folder / "digits" / "1").iterdir()) == ["model.bin", "model.xml"]
    np.testing.assert_allclose(
        open_runtime(folder / "digits" / "1" / "model.xml").run(IMAGES),
        open_runtime(exported["openvino"][0]).run(IMAGES),
        atol=1e-6,
    )
    # It runs ONNX by OpenVINO too, which would compute in bfloat16 on CPUs that have it.
    folder = written("ovms", "onnx")
    ((entry,),) = (json.loads((folder / "config.json").read_text())["model_config_list"],)
    file, settings = folder / "digits" / "1" / "model.onnx", entry["config"]["plugin_config"]
    found = openvino.Core().compile_model(file, "CPU", settings)(IMAGES)[0]
    np.testing.assert_allclose(found, open_runtime(file).run(IMAGES), atol=1e-6)
    folder = written("tfserving", "saved_model")
    assert [path.name for path in folder.iterdir()] == ["digits"]
    assert (folder / "digits" / "1" / "saved_model.pb").is_file()
    again = open_runtime(folder / "digits" / "1").run(IMAGES)
    np.testing.assert_allclose(again, open_runtime(exported["saved_model"][0]).run(IMAGES), atol=1e-6)


def test_what_a_server_does_not_run_or_would_be_overwritten_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(FILES) == set(LAYOUTS)
    assert set(FILES["triton"]) == set(BACKENDS)
    for layout, chosen, message in (
        ("tfserving", "onnx", "layout: tfserving runs saved_model, but format is 'onnx'"),
        ("ovms", "litert", "layout: ovms runs openvino or onnx"),
        ("torchserve", "onnx", "layout: got 'torchserve'"),
    ):
        with pytest.raises(InputError, match=message):
            check_layout(layout, chosen)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model").write_text("mine")
    for out, options, message in (
        (tmp_path / "mine", {}, "already exists; nothing is overwritten"),
        (tmp_path / "none" / "x", {}, "is not a folder; create it first"),
        (tmp_path / "x", {"name": "a b"}, "name: got 'a b'"),
        (tmp_path / "x", {"max_batch": 0}, "max_batch: got 0"),
        (tmp_path / "x", {"model_card": True}, "model_card: a server's folder has no model card"),
    ):
        with pytest.raises(InputError, match=message):
            export_layout(run, out, "onnx", "triton", **options)
    assert (tmp_path / "mine" / "model").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert main(["export", str(run), "--format", "onnx", "--layout", "tfserving"]) == 1
    assert main(["export", str(run), "--format", "onnx", "--name", "x"]) == 1
    said = capsys.readouterr().err
    assert "layout: tfserving runs saved_model" in said
    assert "--name: is the name of the model on a server" in said


@pytest.mark.slow
def test_the_command_says_how_to_serve_it(run: Path, digits: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "served"
    command = ["export", str(run), "--format", "saved_model", "--layout", "tfserving", "--out", str(out)]
    assert main([*command, "--check", str(digits)]) == 0
    said = capsys.readouterr().out
    name = next(out.iterdir()).name
    assert f"{out}: saved_model, float32" in said
    assert f"-v {out}:/models:ro -e MODEL_NAME={name} tensorflow/serving" in said
    assert (out.with_name("served.check.json")).is_file()
    assert sys.modules.get("tritonclient.grpc") is None

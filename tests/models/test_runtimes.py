"""An exported model is run by its own library alone, and a damaged one is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.folders import picture_files
from inception_resnet_keras.models.predict import predict
from inception_resnet_keras.models.runtimes import CARD_KEY, open_runtime, read_archive_card
from inception_resnet_keras.weights.runs import MEMBER

from ..exporting import CARD

ROOT = Path(__file__).parents[2]
LIBRARIES = {"openvino": "openvino", "onnx": "onnxruntime", "litert": "ai_edge_litert"}
# Runs the command line where the named modules cannot be imported; then prints which heavy ones were.
RUNNER = """
import sys
from inception_resnet_keras.cli import main
for name in sys.argv[1].split(","): sys.modules[name] = None
status = main(sys.argv[2:])
heavy = {"tensorflow", "keras", "jax", "torch", "sklearn", "scipy", "matplotlib", "onnx", "nncf"}
print("LOADED", *sorted(name for name in heavy if sys.modules.get(name)), file=sys.stderr)
sys.exit(status)
"""


def blocked(modules: list[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUNNER, ",".join(modules), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=400)


@pytest.mark.parametrize("format", list(LIBRARIES))
def test_predict_runs_with_that_library_alone(exported: Any, run: Path, digits: Path, format: str) -> None:
    path, _ = exported[format]
    others = [module for name, module in LIBRARIES.items() if name != format]
    pictures = picture_files(digits)[:3]
    done = blocked(["tensorflow", "keras", "onnx", *others], "predict", path, *pictures, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "LOADED"
    found, wanted = json.loads(done.stdout), predict(run, pictures)
    for one, other in zip(found, wanted, strict=True):
        assert [name for name, _ in one["top"]] == [name for name, _ in other.top]
        np.testing.assert_allclose([p for _, p in one["top"]], [p for _, p in other.top], atol=1e-5)


def test_a_saved_model_is_run_without_keras(exported: Any, digits: Path) -> None:
    path, _ = exported["saved_model"]
    done = blocked(["keras", *LIBRARIES.values()], "predict", path, picture_files(digits)[0])
    assert done.returncode == 0, done.stderr
    loaded = done.stderr.splitlines()[-1].split()
    assert "tensorflow" in loaded
    assert "keras" not in loaded


@pytest.mark.parametrize("format", list(LIBRARIES))
def test_a_library_that_is_missing_is_named_with_its_extra(exported: Any, digits: Path, format: str) -> None:
    path, _ = exported[format]
    done = blocked([LIBRARIES[format]], "predict", path, picture_files(digits)[0])
    assert done.returncode == 1
    assert f"pip install 'inception-resnet-keras[{format}]'" in done.stderr
    assert "Traceback" not in done.stderr


def copied(exported: Any, format: str, folder: Path) -> Path:
    """An exported model where a test can spoil it."""
    path, _ = exported[format]
    if path.is_dir():
        return Path(shutil.copytree(path, folder / path.name))
    for file in (path, path.with_suffix(".bin")):
        if file.exists():
            shutil.copy(file, folder)
    return folder / path.name


# Opens a model with so many bytes of memory more than its library took.
WITH_LITTLE = """
import importlib, resource, sys
from inception_resnet_keras.cli import main
importlib.import_module(sys.argv[1])
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + int(sys.argv[2]),) * 2)
sys.exit(main(["predict", *sys.argv[3:]]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own figures")
@pytest.mark.parametrize(
    ("format", "library"), [("openvino", "openvino"), ("onnx", "onnxruntime"), ("litert", "ai_edge_litert.interpreter")]
)
def test_a_lack_of_memory_is_told_as_that(
    exported: Any, digits: Path, tmp_path: Path, format: str, library: str
) -> None:
    path = copied(exported, format, tmp_path)
    heavy = path.with_suffix(".bin") if format == "openvino" else path
    with heavy.open("ab") as file:
        if format == "onnx":
            file.write(b"\xc2\x3e\x80\x80\x80\x80\x04")  # Protobuf's: field 1000, of 2**30 bytes
        file.truncate(file.tell() + 2**30)  # of nothing: it takes no room on the disk
        if format == "litert":
            file.seek(0, os.SEEK_END)
            file.write(exported[format][0].read_bytes())  # its card stands at the end
    command = [sys.executable, "-c", WITH_LITTLE, library, str(2**28), str(path), str(picture_files(digits)[0])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stderr
    assert f"{path}: there is not enough memory to open it" in done.stderr
    assert "damaged" not in done.stderr


@pytest.mark.parametrize("format", list(LIBRARIES))
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_truncated_file_is_named(exported: Any, tmp_path: Path, format: str, share: float) -> None:
    path = copied(exported, format, tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=rf"{path.name}: (is damaged|has no class names)"):
        open_runtime(path)


@pytest.mark.parametrize("content", ["onnx", "text"])
def test_an_xml_of_another_format_is_refused(exported: Any, tmp_path: Path, capfd: Any, content: str) -> None:
    """OpenVINO itself would read the ONNX file, past the checks of such, and print what it makes of the text."""
    path = copied(exported, "openvino", tmp_path)
    path.write_bytes(exported["onnx"][0].read_bytes() if content == "onnx" else b"<\xff" + path.read_bytes())
    with pytest.raises(InputError, match=r"model\.xml: is damaged"):
        open_runtime(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("share", [0.0, 0.5, None])
def test_weights_of_an_ir_that_are_damaged_or_gone(exported: Any, tmp_path: Path, share: float | None) -> None:
    path = copied(exported, "openvino", tmp_path)
    weights = path.with_suffix(".bin")
    if share is None:
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[: int(share * weights.stat().st_size)])
    with pytest.raises(InputError, match=r"model\.xml: (is damaged|its weights are missing: put model\.bin)"):
        open_runtime(path)


@pytest.mark.parametrize(
    ("card", "says"),
    [
        (None, "has no class names: it was not exported by"),
        ("{}", "has no class names: its card lacks 'network'"),
        ("[" * 100_000, "is damaged: its card cannot be read"),
        ({"classes": ["a"]}, "its card describes 1 class and pictures of 32×32"),
        ({"size": [64, 64]}, "its card describes 3 classes and pictures of 64×64"),
        ({"size": [10**6, 1]}, "its card cannot be read"),
        ({"precision": "int3"}, "is damaged: its card cannot be read"),
    ],
)
@pytest.mark.parametrize("format", ["onnx", "openvino", "saved_model"])
def test_a_card_that_cannot_be_true(exported: Any, tmp_path: Path, format: str, card: Any, says: str) -> None:
    path = copied(exported, format, tmp_path)
    whole = {"network": "n", "variant": "v", "classes": CARD.classes, "size": CARD.size}
    text = (
        json.dumps({**whole, "precision": "float32", "output": "probabilities", **card})
        if isinstance(card, dict)
        else card
    )
    if format == "onnx":
        import onnx

        model = onnx.load(path)
        onnx.helper.set_model_props(model, {} if text is None else {CARD_KEY: text})
        onnx.save(model, path)
    elif format == "openvino":
        import openvino as ov

        old = ov.Core().read_model(path)
        del old.get_rt_info()[CARD_KEY]
        if text is not None:
            old.set_rt_info(text, [CARD_KEY])
        path = tmp_path / "other.xml"
        ov.save_model(old, path, compress_to_fp16=False)
    else:
        (path / "assets.extra" / MEMBER).unlink()
        if text is not None:
            (path / "assets.extra" / MEMBER).write_text(text)
    with pytest.raises(InputError, match=says):
        open_runtime(path)


@pytest.mark.parametrize(
    ("place", "value"), [(6, 1), (8, 99), (8, zipfile.ZIP_DEFLATED), (8, zipfile.ZIP_LZMA), (8, zipfile.ZIP_BZIP2)]
)
def test_a_crafted_archive_is_refused(tmp_path: Path, place: int, value: int) -> None:
    """Encrypted, or of a compression that it is not of; told in both of a member's headers."""
    path = tmp_path / "model.tflite"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, json.dumps({"network": "n"}))
    content = bytearray(path.read_bytes())
    content[place] = value
    content[content.index(b"PK\x01\x02") + place + 2] = value
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.tflite: (is damaged: its card cannot be read|has no class names)"):
        read_archive_card(path)


def test_an_onnx_file_cannot_read_files_elsewhere(exported: Any, tmp_path: Path) -> None:
    import onnx

    (tmp_path / "in").mkdir()
    path = copied(exported, "onnx", tmp_path / "in")
    (tmp_path / "secret").write_bytes(bytes(10**6))
    model = onnx.load(path)
    tensor = next(tensor for tensor in model.graph.initializer if len(tensor.raw_data) > 64)
    onnx.external_data_helper.set_external_data(tensor, "../secret", 0, len(tensor.raw_data))
    tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="escapes model directory"):
        open_runtime(path)


@pytest.mark.parametrize("name", ["nothing.onnx", "nothing", "text.txt", "model.bin"])
def test_what_is_no_model(exported: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "text.txt").write_text("text")
    copied(exported, "openvino", tmp_path)
    with pytest.raises(
        InputError, match=f"{name}: (there is no such file|is in no supported format|has only weights; open model)"
    ):
        open_runtime(tmp_path / name)


@pytest.mark.parametrize("images", [np.zeros((1, 32, 32, 4)), np.zeros((32, 32, 3)), np.zeros((0, 32, 32, 3)), [1]])
def test_pictures_of_another_shape(exported: Any, images: Any) -> None:
    with pytest.raises(InputError, match=r"images: got .* it takes an array of shape \(n, 32, 32, 3\)"):
        open_runtime(exported["onnx"][0]).run(images)


def test_threads_are_checked(exported: Any) -> None:
    with pytest.raises(InputError, match="threads: got 0"):
        open_runtime(exported["onnx"][0], threads=0)
    open_runtime(exported["openvino"][0], threads=1).run(np.zeros((1, 32, 32, 3), np.uint8))


@pytest.mark.parametrize("format", [*LIBRARIES, "saved_model"])
def test_threads_of_a_server_share_a_model(exported: Any, format: str) -> None:
    """Each call of another batch, so that one's tensors would be another's size."""
    model = open_runtime(exported[format][0])
    rng = np.random.default_rng(0)
    batches = [rng.uniform(0, 255, (count, *CARD.size, 3)).astype(np.float32) for count in (1, 2, 3, 4)]
    wanted = [model.run(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(model.run, batches * 25))
    for number, one in enumerate(found):
        np.testing.assert_allclose(one, wanted[number % 4], atol=1e-6)


def test_predict_of_a_card_too_large_to_be_one(exported: Any, tmp_path: Path, capsys: Any) -> None:
    path = copied(exported, "saved_model", tmp_path)
    (path / "assets.extra" / MEMBER).write_bytes(b" " * (16 * 1024**2 + 1))
    assert main(["predict", str(path), str(path)]) == 1
    assert "has no pictures" in capsys.readouterr().err
    with pytest.raises(InputError, match="its card has 16,777,217 bytes"):
        open_runtime(path)


def test_predict_starts_in_three_times_what_its_libraries_take(exported: Any, digits: Path) -> None:
    """Of processor time, in turns, the least of three: another process adds to both. TensorFlow alone takes more."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, capture_output=True); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(used.ru_utime + used.ru_stime)"
    )

    def seconds(*arguments: object) -> float:
        command = list(map(str, [sys.executable, "-c", code, sys.executable, *arguments]))
        return float(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)

    predicting = ("-m", "inception_resnet_keras", "predict", exported["openvino"][0], picture_files(digits)[0])
    turns = [(seconds(*predicting), seconds("-c", "import numpy, PIL.Image, openvino")) for _ in range(3)]
    predict, libraries = (min(column) for column in zip(*turns, strict=True))
    assert predict < 3 * libraries, (predict, libraries)


def test_a_saved_model_computes_with_the_threads_asked_for(exported: Any) -> None:
    code = (
        "import sys; from inception_resnet_keras.models.runtimes import open_runtime, use_threads\n"
        "import numpy as np, tensorflow as tf\n"
        "open_runtime(sys.argv[1], threads=1).run(np.zeros((1, 32, 32, 3), np.uint8))\n"
        "of = tf.config.threading\n"
        "print(of.get_intra_op_parallelism_threads(), of.get_inter_op_parallelism_threads(), use_threads(2))"
    )
    command = [sys.executable, "-c", code, str(exported["saved_model"][0])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=400)
    assert done.stdout.split() == ["1", "1", "False"], done.stderr


def test_models_of_several_runtimes_are_averaged(exported: Any, run: Path, digits: Path) -> None:
    """The mean of what each gives alone; the pictures are decoded once for all."""
    given = [run, *(exported[name][0] for name in ("saved_model", *LIBRARIES))]
    pictures = picture_files(digits)[:3]
    found = predict(given, pictures)
    alone = np.stack([predict(model, pictures).probabilities for model in given])
    np.testing.assert_allclose(found.model_probabilities, alone, atol=1e-6)
    np.testing.assert_allclose(found.probabilities, alone.mean(axis=0), atol=1e-6)

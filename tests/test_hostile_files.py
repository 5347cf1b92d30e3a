"""No file given to any verb runs code, touches another file or opens a connection: every format, every verb.

The system itself is asked (inotify), so that what a library's native code does is seen too.
"""

from __future__ import annotations

import base64
import ctypes
import json
import marshal
import os
import pickle
import socket
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from inception_resnet_keras.cli import main
from inception_resnet_keras.models.model_file import ExportCard, card_text
from inception_resnet_keras.models.runtimes import CARD_KEY

from .pictures import write_digits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
SHAPE = [None, 32, 32, 3]


class Watch:
    """Whether anything in a folder was opened, read, written or made since it was last asked."""

    EVENTS = 0x1 | 0x2 | 0x20 | 0x100  # IN_ACCESS, IN_MODIFY, IN_OPEN, IN_CREATE

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self.descriptor, os.fsencode(folder), self.EVENTS) >= 0

    def touched(self) -> bool:
        try:
            return bool(os.read(self.descriptor, 2**16))
        except BlockingIOError:
            return False


class Secret:
    """A folder of files that no model has any business with, and a server that nothing may call."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.words, self.raw, self.hdf5 = folder / "words.txt", folder / "raw.bin", folder / "other.h5"
        self.words.write_text("a\nb\nc\n")
        self.raw.write_bytes(bytes(32 * 32 * 3 * 3 * 4))
        with h5py.File(self.hdf5, "w") as file:
            file["x"] = np.zeros((3, 3), np.float32)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.setblocking(False)
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}/x"
        self.watch = Watch(folder)

    def touched(self) -> bool:
        try:
            self.server.accept()[0].close()
            return True
        except BlockingIOError:
            return self.watch.touched()


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secret]:
    made = Secret(tmp_path_factory.mktemp("hostile") / "secret")
    yield made
    made.server.close()


@pytest.fixture(scope="module")
def files(secret: Secret, run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Hostile files by what is wrong with them."""
    folder = tmp_path_factory.mktemp("files")
    found = {"model": run}
    for name, layer in hostile_layers(secret).items():
        graph = graph_with(layer)
        found[f"{name}.keras"] = edited(run, folder / f"{name}.keras", graph=graph)
        found[f"{name}.h5"] = whole_hdf5(folder / f"{name}.h5", graph)
    for name, change in HDF5_CHANGES.items():
        found[f"{name}.keras"] = edited(run, folder / f"{name}.keras", weights=partial(change, secret))
        found[f"{name}.weights.h5"] = weights_of(run, folder / f"{name}.weights.h5")
        change(secret, found[f"{name}.weights.h5"])
    for name, place in (("elsewhere", str(secret.raw)), ("up", f"../{secret.folder.parent.name}/secret/raw.bin")):
        found[f"{name}.onnx"] = onnx_file(folder / f"{name}.onnx", place)
    (secret.folder.parent / "beside.onnx").touch()
    found["below.onnx"] = onnx_file(secret.folder.parent / "below.onnx", "secret/raw.bin")
    found["pickle.pt"] = torch_file(folder / "pickle.pt", Opens(secret.words))
    found["pickle.npz"] = npz_file(folder / "pickle.npz", Opens(secret.words))
    found["state"] = folder / "state" / "checkpoint"
    found["state"].parent.mkdir()
    found["state"].write_text(f'model_checkpoint_path: "{secret.raw}"\n')
    found["picture.eps"] = folder / "picture.eps"
    found["picture.eps"].write_text(
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({secret.words}) (r) file closefile\nshowpage\n"
    )
    found["picture.svg"] = folder / "picture.svg"
    found["picture.svg"].write_text(
        f'<!DOCTYPE svg [<!ENTITY x SYSTEM "file://{secret.words}">]><svg><image href="{secret.url}"/>&x;</svg>'
    )
    return found


class Opens:
    """Unpickled, it reads a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (open, (self.path,))


def hostile_layers(secret: Secret) -> dict[str, dict[str, Any]]:
    code = base64.b64encode(marshal.dumps(compile(f"open({str(secret.words)!r}).read()", "x", "exec"))).decode()
    words = str(secret.words)

    def layer(kind: str, module: str = "keras.layers", **config: Any) -> dict[str, Any]:
        return {"module": module, "class_name": kind, "config": {"name": "l", **config}, "registered_name": None}

    def function(module: str, name: str) -> dict[str, Any]:
        return {"module": module, "class_name": "function", "config": name, "registered_name": name}

    lambda_code = {"class_name": "__lambda__", "config": {"code": code, "defaults": None, "closure": None}}
    return {
        "lambda": layer("Lambda", function=lambda_code),
        "vocabulary": layer("StringLookup", vocabulary=words),
        "integers": layer("IntegerLookup", vocabulary=words),
        "text": layer("TextVectorization", vocabulary=words, standardize=None, split=None),
        "saved_model": layer("TFSMLayer", filepath=str(secret.folder)),
        "torch": layer("TorchModuleWrapper", module=base64.b64encode(pickle.dumps(Opens(secret.words))).decode()),
        "open": layer("open", "builtins", file=words),
        "get_file": layer("get_file", "keras.utils", fname="x", origin=secret.url),
        "load_model": layer("load_model", "keras.src.saving.saving_lib", filepath=words),
        "exec": layer("Activation", activation=function("builtins", "exec")),
        "loader": layer("Activation", activation=function("keras.saving", "load_model")),
    }


def graph_with(layer: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a model of one picture with this layer in it."""

    def call(of: str) -> list[Any]:
        tensor = {"shape": SHAPE, "dtype": "float32", "keras_history": [of, 0, 0]}
        return [{"args": [{"class_name": "__keras_tensor__", "config": tensor}], "kwargs": {}}]

    def known(kind: str, name: str, **config: Any) -> dict[str, Any]:
        return {"module": "keras.layers", "class_name": kind, "config": {"name": name, **config}, "name": name}

    layers = [
        {**known("InputLayer", "i", batch_shape=SHAPE, dtype="float32"), "inbound_nodes": []},
        {**layer, "name": "l", "inbound_nodes": call("i")},
        {**known("GlobalAveragePooling2D", "g"), "inbound_nodes": call("l")},
    ]
    config = {"name": "m", "layers": layers, "input_layers": [["i", 0, 0]], "output_layers": [["g", 0, 0]]}
    return {"module": "keras.src.models.functional", "class_name": "Functional", "config": config}


def edited(run: Path, path: Path, *, graph: Any = None, weights: Callable[[Path], object] | None = None) -> Path:
    """A run's model.keras with another graph, or with changed weights."""
    with zipfile.ZipFile(run / "model.keras") as source, zipfile.ZipFile(path, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            if graph and name == "config.json":
                content = json.dumps(graph).encode()
            if weights and name == "model.weights.h5":
                loose = path.with_suffix(".loose")
                loose.write_bytes(content)
                weights(loose)
                content = loose.read_bytes()
                loose.unlink()
            archive.writestr(name, content)
    return path


def whole_hdf5(path: Path, graph: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs.update({"model_config": json.dumps(graph), "keras_version": "3.0", "backend": "tensorflow"})
        file.create_group("model_weights").attrs["layer_names"] = []
    return path


def weights_of(run: Path, path: Path) -> Path:
    with zipfile.ZipFile(run / "model.keras") as archive:
        path.write_bytes(archive.read("model.weights.h5"))
    return path


def first_array(file: h5py.File) -> tuple[str, tuple[int, ...]]:
    found: list[tuple[str, tuple[int, ...]]] = []
    file.visititems(lambda name, item: found.append((name, item.shape)) if isinstance(item, h5py.Dataset) else None)
    name, shape = found[0]
    del file[name]
    return name, shape


def external_link(secret: Secret, path: Path) -> None:
    with h5py.File(path, "a") as file:
        file[first_array(file)[0]] = h5py.ExternalLink(str(secret.hdf5), "/x")


def external_storage(secret: Secret, path: Path) -> None:
    with h5py.File(path, "a") as file:
        name, shape = first_array(file)
        file.create_dataset(name, shape, "f4", external=[(str(secret.raw), 0, h5py.h5f.UNLIMITED)])


def virtual(secret: Secret, path: Path) -> None:
    with h5py.File(path, "a") as file:
        name, shape = first_array(file)
        layout = h5py.VirtualLayout(shape, "f4")
        layout[tuple(0 for _ in shape)] = h5py.VirtualSource(str(secret.hdf5), "x", shape=(3, 3))[0, 0]
        file.create_virtual_dataset(name, layout)


HDF5_CHANGES = {"link": external_link, "storage": external_storage, "virtual": virtual}


def onnx_file(path: Path, place: str) -> Path:
    """A model that says that its weights are in another file."""
    from onnx import TensorProto, helper, numpy_helper

    weights = TensorProto(name="w", data_type=1, dims=[3072, 3], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value=place)
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["output"]),
    ]
    takes = helper.make_tensor_value_info("image", 1, ["batch", 32, 32, 3])
    gives = helper.make_tensor_value_info("output", 1, ["batch", 3])
    shape = numpy_helper.from_array(np.array([-1, 3072]), "shape")
    graph = helper.make_graph(nodes, "g", [takes], [gives], [weights, shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {CARD_KEY: card_text(ExportCard("tiny", "paper", ["a", "b", "c"], (32, 32)))})
    path.write_bytes(model.SerializeToString())
    return path


def torch_file(path: Path, value: Any) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"w": value}, protocol=2))
    return path


def npz_file(path: Path, value: Any) -> Path:
    np.savez(path, w=np.array([value], object))
    return path


def test_the_watch_sees_a_read_and_a_call(secret: Secret) -> None:
    assert not secret.touched()
    secret.words.read_text()
    assert secret.touched()
    assert not secret.touched()
    with socket.create_connection(secret.server.getsockname()):
        assert secret.touched()


SLOW = {  # verbs that take seconds for each file, and open it by the same door or reader as others
    "bench": ("lambda.keras",),
    "train": ("lambda.keras", "link.weights.h5", "pickle.pt"),
    "list": ("pickle.pt", "picture.svg"),
}


VERBS = (
    *("predict", "evaluate", "pairs", "explain", "export", "inspect", "convert", "bench"),
    *("train", "recipe", "resume", "plot", "pack", "list"),
)


@pytest.mark.parametrize("verb", VERBS)
def test_no_file_reaches_beyond_itself(
    verb: str, secret: Secret, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = next(write_digits(tmp_path / "pictures", 1, 1).rglob("*.png"))
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("2\t1\n" + "a\t1\t2\n" * 4)
    out = tmp_path / "out"
    secret.touched()
    for name, file in files.items():
        if name == "model" or name not in SLOW.get(verb, files):
            continue
        image = file if name.startswith("picture") else picture
        model = files["model"] if name.startswith("picture") else file
        arguments: dict[str, list[object]] = {
            "predict": [model, image],
            "evaluate": [model, "--data", "digits", "--out", out],
            "pairs": [model, "--pairs", pairs, "--data", tmp_path, "--out", out],
            "explain": [model, image, "--out", out],
            "export": [model, "--format", "onnx", "--out", tmp_path / "out.onnx", "--validate", image],
            "inspect": [file],
            "convert": [file, tmp_path / "out.keras"],
            "bench": [model, "--rounds", 1],
            "train": ["--weights", file, "--epochs", 1, "--out", out],
            "recipe": ["--recipe", file, "--out", out],
            "resume": ["--resume", file],
            "plot": [file, "--out", tmp_path / "out.svg"],
            "pack": [file, out],
            "list": [files["model"], picture, "--classes", file],
        }
        called = {"pairs": "evaluate", "recipe": "train", "resume": "train", "list": "predict"}.get(verb, verb)
        status = main([called, *map(str, arguments[verb])])
        output = capsys.readouterr()
        assert not secret.touched(), (name, output.err)
        assert status == 1, (name, output)
        assert "Traceback" not in output.err
        assert verb == "bench" or len(output.err.strip().splitlines()) <= 1, (name, output.err)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "times"), [("keras", 50), ("saved_model", 100), ("onnx", 300), ("openvino", 100), ("litert", 500)]
)
def test_a_mutated_model_is_refused_or_runs(format: str, times: int, run: Path, exported: Any, tmp_path: Path) -> None:
    """In a child that dies of a crash, a hang (20 s a file) or 2 GB more than it began with."""
    file = run / "model.keras" if format == "keras" else exported[format][0]
    file = file / "saved_model.pb" if format == "saved_model" else file
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "model", str(file), str(times), "7"],
        cwd=Path(__file__).parents[1], env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True, text=True, errors="replace", timeout=900, check=False,  # an engine may quote the file
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-1]) > times // 4


def test_texts_of_hdf5_without_an_end_are_refused(run: Path, tmp_path: Path) -> None:
    """Zeroed bytes in a global heap sent HDF5 into an endless loop, as weights, as a whole model and in a .keras."""

    def zeroed(content: bytes) -> bytes:
        heap = content.index(b"GCOL\x01\0\0\0")
        first = struct.unpack_from("<Q", content, heap + 24)[0]
        second = heap + 32 + first + -first % 8
        return content[:second] + bytes(64) + content[second + 64 :]

    weights = weights_of(run, tmp_path / "m.weights.h5")
    weights.write_bytes(zeroed(weights.read_bytes()))
    model = edited(run, tmp_path / "m.keras", weights=lambda path: path.write_bytes(zeroed(path.read_bytes())))
    for path in (weights, model):
        for verb in ("inspect", "predict"):
            script = "import resource, sys; resource.setrlimit(resource.RLIMIT_CPU, (40, 40)); "
            script += "from inception_resnet_keras.cli import main; sys.exit(main())"
            done = subprocess_run([sys.executable, "-c", script, verb, str(path), *[str(path)] * (verb == "predict")])
            assert done == (1, True), (path, verb)


def subprocess_run(command: list[str]) -> tuple[int, bool]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, "is damaged: its strings at byte" in done.stderr

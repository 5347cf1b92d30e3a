"""The model that was given is the model that is run: every build × every verb, against the model's own `predict`.

The network is a small one under the tables' names. Pictures are PNG files of the input's size, so that what a model
reads is known exactly.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

import inception_resnet_keras as irk
from inception_resnet_keras import networks
from inception_resnet_keras.bench import engines
from inception_resnet_keras.bench.run import Plan
from inception_resnet_keras.evaluation.explain import explain_files
from inception_resnet_keras.models.open import open_model
from inception_resnet_keras.models.runtimes import open_runtime

from . import tiny

NAMES = ["circle", "cross", "square"]
PIXELS = np.random.default_rng(0).integers(0, 256, (6, tiny.SIDE, tiny.SIDE, 3), dtype=np.uint8)
TOLERANCE = 1e-5


@pytest.fixture(scope="module", autouse=True)
def _small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, variants in tiny.KNOWN.items():
            patch.setitem(networks.NETWORKS, name, variants)
        yield


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, picture in enumerate(PIXELS):
        (folder / NAMES[number % 3]).mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / NAMES[number % 3] / f"{number}.png")
    return folder


def network(**options: Any) -> keras.Model:
    return tiny.randomised(tiny.build(tiny.FEW, **options))


def trunk(**options: Any) -> keras.Model:
    return network(include_top=False, pooling="avg", **options)


def image() -> Any:
    return keras.Input((tiny.SIDE, tiny.SIDE, 3))


def head() -> Any:
    return keras.layers.Dense(3, activation="softmax", name="mine")


def factory() -> keras.Model:
    return network(include_preprocessing=True)


def sigmoid() -> keras.Model:
    return network(include_preprocessing=True, classifier_activation="sigmoid")


def own_head() -> keras.Model:
    inner = trunk(include_preprocessing=True)
    return keras.Model(inner.input, head()(inner.output))


def nested() -> keras.Model:
    return keras.Sequential([image(), trunk(include_preprocessing=True), head()])


def nested_twice() -> keras.Model:
    inner = keras.Sequential([image(), trunk(include_preprocessing=True)], name="backbone")
    outer = image()
    return keras.Model(outer, head()(keras.layers.Dropout(0.5)(inner(outer))))


def augmented() -> keras.Model:
    layers = [keras.layers.RandomFlip(), keras.layers.RandomRotation(0.1)]
    return keras.Sequential([image(), *layers, trunk(include_preprocessing=True), head()])


def resized() -> keras.Model:
    return keras.Sequential([image(), keras.layers.Resizing(40, 40), *_of_side(40), head()])


def _of_side(side: int) -> list[Any]:
    return [trunk(include_preprocessing=True, input_shape=(side, side, 3))]


def rescaled() -> keras.Model:
    """[-1, 1] by the user's own layer."""
    return keras.Sequential([image(), keras.layers.Rescaling(1 / 127.5, -1), trunk(), head()])


def adapted() -> keras.Model:
    """The user's own convolution, with weights, between the pixels and the network."""
    adapter = keras.layers.Conv2D(3, 1, name="adapter")
    return keras.Sequential([image(), keras.layers.Rescaling(1 / 127.5, -1), adapter, trunk(), head()])


def fitted() -> keras.Model:
    model = own_head()
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(PIXELS.astype("float32"), np.arange(6) % 3, epochs=2, verbose=0)
    return model


def logits() -> keras.Model:
    inner = trunk(include_preprocessing=True)
    return keras.Model(inner.input, keras.layers.Dense(3, name="mine")(inner.output))


BUILDS: list[Callable[[], keras.Model]] = [
    *(factory, sigmoid, own_head, nested, nested_twice, augmented, resized, rescaled, adapted, fitted, logits),
]


@pytest.fixture(scope="module", params=BUILDS, ids=lambda build: build.__name__)
def built(request: pytest.FixtureRequest) -> keras.Model:
    return request.param()


@pytest.fixture(scope="module")
def expected(built: keras.Model) -> np.ndarray:
    """What Keras gives for the pixels; probabilities where the model gives logits."""
    found = built.predict(PIXELS.astype("float32"), verbose=0)
    if getattr(built.layers[-1], "activation", None) is keras.activations.linear:
        found = np.asarray(keras.ops.softmax(found))
    return found


FORMS = ["memory", ".keras", ".h5"]


def as_form(model: keras.Model, form: str, folder: Path) -> Any:
    """The model itself, or its file."""
    if form == "memory":
        return model
    model.save(folder / f"model{form}")
    return folder / f"model{form}"


@pytest.fixture(params=FORMS)
def given(built: keras.Model, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return as_form(built, request.param, tmp_path)


@pytest.fixture
def given_in_turn(built: keras.Model, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """One form for each build and verb, another one for the next build and the next verb."""
    build = [each.__name__ for each in BUILDS].index(request.node.callspec.id)
    verb = ["test_evaluate", "test_explain", "test_verify_faces", "test_export"].index(request.function.__name__)
    return as_form(built, FORMS[(build + verb) % 3], tmp_path)


def files_of(pictures: Path) -> list[Path]:
    """In the order of `PIXELS`."""
    return sorted(pictures.glob("*/*.png"), key=lambda path: int(path.stem))


def test_open_and_predict(given: Any, expected: np.ndarray, pictures: Path) -> None:
    np.testing.assert_allclose(open_model(given).run(PIXELS.astype(np.float32)), expected, atol=TOLERANCE)
    for prediction, row in zip(irk.predict(given, files_of(pictures), top=3, classes=NAMES), expected, strict=True):
        assert dict(prediction.top) == pytest.approx(dict(zip(NAMES, row, strict=True)), abs=TOLERANCE)


def test_evaluate(given_in_turn: Any, expected: np.ndarray, pictures: Path, tmp_path: Path) -> None:
    if not np.allclose(expected.sum(axis=1), 1, atol=1e-4):  # sigmoids: refused, not made to sum to 1
        with pytest.raises(ValueError, match="its outputs are not probabilities that sum to 1"):
            irk.evaluate(given_in_turn, pictures, classes=NAMES, out=tmp_path / "out")
        return
    found = irk.evaluate(given_in_turn, pictures, classes=NAMES, out=tmp_path / "out")
    right = expected.argmax(axis=1) == np.arange(6) % 3
    assert found.models[0].figures.top1 == pytest.approx(right.mean())
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = {Path(row["picture"]).stem: row for row in csv.DictReader(file)}
    for number, row in enumerate(expected):
        assert [float(rows[str(number)][name]) for name in NAMES] == pytest.approx(row, abs=TOLERANCE)


def test_explain(given_in_turn: Any, expected: np.ndarray, pictures: Path, tmp_path: Path) -> None:
    found = explain_files(given_in_turn, files_of(pictures)[:2], out=tmp_path / "out", steps=2)
    for each, row in zip(found, expected, strict=False):
        assert each.explanation is not None
        assert each.explanation.probability == pytest.approx(row.max(), abs=TOLERANCE)


def test_verify_faces(built: keras.Model, given_in_turn: Any, pictures: Path, tmp_path: Path) -> None:
    """The embedding is what the classifier reads, of unit length."""
    for number, file in enumerate(files_of(pictures)):
        person = tmp_path / "faces" / f"person{number // 2}"
        person.mkdir(parents=True, exist_ok=True)
        (person / f"{person.name}_{number % 2 + 1:04d}.png").write_bytes(file.read_bytes())
    same = [f"person{number}\t1\t2" for number in range(2)]
    other = ["person0\t1\tperson1\t1", "person1\t2\tperson2\t2"]
    (tmp_path / "pairs.txt").write_text("\n".join(["2\t1", same[0], other[0], same[1], other[1]]) + "\n")
    found = irk.verify_faces(given_in_turn, tmp_path / "pairs.txt", tmp_path / "faces", out=tmp_path / "out")
    reads = keras.Model(built.inputs, built.layers[-1].input if built.layers[-1].name == "mine" else _pooled(built))
    vectors = reads.predict(PIXELS.astype("float32"), verbose=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [(0, 1), (0, 2), (2, 3), (3, 5)]
    with (tmp_path / "out" / "pairs.csv").open(encoding="utf-8", newline="") as table:
        distances = [float(row["distance"]) for row in csv.DictReader(table)]
    assert found.verification is not None
    wanted = [float(((vectors[one] - vectors[two]) ** 2).sum()) for one, two in pairs]
    np.testing.assert_allclose(distances, wanted, atol=1e-4)


def _pooled(model: keras.Model) -> Any:
    return model.get_layer("logits").input


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_bench(built: keras.Model, suffix: str, expected: np.ndarray, tmp_path: Path) -> None:
    """What `bench` times, and what it compares outputs with."""
    built.save(tmp_path / f"model{suffix}")
    contender = engines.parse(str(tmp_path / f"model{suffix}"))
    size = (tiny.SIDE, tiny.SIDE)
    [files] = engines.make_files(contender, tmp_path, size, [])
    engine = engines.KerasEngine(contender, files.model, Plan(contenders=(contender,), size=size))

    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(engine.fetch(engine.forward(engine.load(images))))

    np.testing.assert_allclose(run(PIXELS.astype(np.float32)), expected, atol=TOLERANCE)
    with np.load(str(files.reference)) as arrays:
        np.testing.assert_allclose(run(arrays["images"]), arrays["outputs"], atol=TOLERANCE)


@pytest.mark.slow
def test_export(built: keras.Model, given_in_turn: Any, expected: np.ndarray, tmp_path: Path) -> None:
    irk.export_model(given_in_turn, tmp_path / "model.onnx", "onnx", class_names=NAMES)
    found = open_runtime(tmp_path / "model.onnx").run(PIXELS.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    assert json.loads((tmp_path / "model.onnx.check.json").read_text())

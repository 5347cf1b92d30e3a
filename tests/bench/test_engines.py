import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inception_resnet_keras import networks
from inception_resnet_keras.bench.engines import (
    APART,
    BOUNDS,
    IN_KERAS,
    IN_TENSORFLOW,
    IN_TORCH,
    OPTIMIZED,
    PRECISIONS,
    TIMM,
    Contender,
    Files,
    compare_outputs,
    make_files,
    open_keras,
    own_size,
    parse,
)
from inception_resnet_keras.cli.bench import PRESETS
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.models.model_file import save_model
from inception_resnet_keras.networks.batch_norm import imitate_training
from inception_resnet_keras.networks.build import build
from inception_resnet_keras.networks.recognise import leaves
from inception_resnet_keras.networks.trace import trace

from .. import tiny
from ..data.photographs import photograph
from ..exporting import CARD, lively

NETWORKS = [f"{name}:{variant}" for name, variants in networks.NETWORKS.items() for variant in variants]


@st.composite
def contenders(draw: st.DrawFn) -> Contender:
    kind = draw(st.sampled_from(["network", "applications", "timm"]))
    what = {"network": NETWORKS, "applications": ["keras-applications"], "timm": [f"{TIMM}inception_v4"]}[kind]
    engine = draw(st.sampled_from(IN_TORCH if kind == "timm" else IN_KERAS))
    form = draw(st.sampled_from(["", OPTIMIZED, APART])) if engine in IN_TENSORFLOW else ""
    return Contender(kind, draw(st.sampled_from(what)), engine, draw(st.sampled_from(PRECISIONS[engine])), form)


@given(contenders())
def test_a_contenders_line_is_read_back_as_the_contender(contender: Contender) -> None:
    assert parse(str(contender)) == contender


def test_a_files_line_is_read_back_as_the_contender(tmp_path: Path) -> None:
    folder = tmp_path / "a b" / "c@d"
    folder.mkdir(parents=True)
    for name in ("model.keras", "m.onnx", "m.xml", "m.tflite"):
        (folder / name).touch()
    tiny.build(tiny.FEW).save(folder / "model.h5")
    for line, kind, engine in (
        (f"{folder}", "file", "graph"),
        (f"{folder / 'model.keras'}@xla,mixed_bfloat16", "file", "xla"),
        (f"{folder / 'model.h5'}+apart", "file", "graph"),
        (f"{folder / 'model.h5'}@openvino,int8", "file", "openvino"),
        (f"{folder / 'm.onnx'}", "exported", "onnx"),
        (f"{folder / 'm.xml'}", "exported", "openvino"),
        (f"{folder / 'm.tflite'}", "exported", "litert"),
    ):
        contender = parse(line)
        assert (contender.kind, contender.engine) == (kind, engine)
        assert parse(str(contender)) == contender


def refused(text: str) -> str | None:
    """Why a line is refused; None where it is a contender."""
    try:
        parse(text)
    except InputError as error:
        return str(error)
    return None


@given(st.text(max_size=60))
@example("@")
@example(",")
@example("+optimized")
@example("inception_v4@graph,")
@example("inception_v4:@graph")
@example("\0@graph")
def test_any_text_is_a_contender_or_is_refused(text: str) -> None:
    reason = refused(text)
    if reason is None:
        assert parse(str(parse(text))) == parse(text)
    else:
        assert repr(text) in reason


@pytest.mark.parametrize(
    ("text", "says", "takes"),
    [
        ("inception_resnet_v2:slm@graph", "variant of inception_resnet_v2: got 'slm'", "'paper' or 'slim'"),
        ("inception_v4:facenet", "variant of inception_v4: got 'facenet'", "'paper' or 'slim'"),
        ("inception_v4@openvio,int8", "engine: got 'openvio'", "'openvino'"),
        ("inception_v4@openvino,int4", "precision: got 'int4'", "'int8'"),
        ("inception_v4@graph,bfloat16", "precision: got 'bfloat16'", "'mixed_bfloat16'"),
        (
            "keras_applications",
            "'keras_applications' is neither a file nor one of",
            "did you mean 'keras-applications'?",
        ),
        ("inception_v5", "'inception_v5' is neither a file nor one of", "did you mean 'inception_v4'?"),
        ("timm:inception_v3", "network of timm: got 'inception_v3'", "'inception_v4'"),
        ("inception_v4+optimised", "is neither a file nor one of", "did you mean 'inception_v4'?"),
        ("timm:inception_v4+optimized", "optimized applies only to graph and xla", "leave it out"),
        ("inception_v4+optimized@openvino", "optimized applies only to graph and xla", "leave it out"),
        ("run/model.h6", "run/model.h6", ".keras"),
    ],
)
def test_wrong_ones_are_refused_with_what_is_accepted(text: str, says: str, takes: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert says in str(caught.value)
    assert takes in str(caught.value)


def test_what_is_not_said_is_the_default() -> None:
    assert parse("inception_v4") == Contender("network", "inception_v4:paper", "graph", "float32")
    assert parse("inception_v4:slim+apart@xla") == Contender("network", "inception_v4:slim", "xla", "float32", APART)
    assert parse("timm:inception_v4") == Contender("timm", "timm:inception_v4", "eager", "float32")
    assert parse("keras-applications@litert") == Contender("applications", "keras-applications", "litert", "float32")


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_contenders_with_batches(name: str) -> None:
    preset = PRESETS[name]
    found = list(map(parse, preset.contenders))
    assert len(set(found)) == len(found)
    assert preset.inference == tuple(sorted(preset.inference))
    assert any(each.form for each in found)
    if name == "train":
        assert str(found[0]) == "inception_resnet_v1:paper+fit@graph"
        assert all("training" in each.tasks for each in found)
    else:
        assert found[0].kind == "applications"
        assert {each.kind for each in found} == {"applications", "network", "timm"}


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_difference_is_of_logits_and_nothing_hides_it() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(8, 100))
    same = softmax(logits)

    def difference(outputs: np.ndarray, reference: np.ndarray) -> float:
        return compare_outputs(outputs, reference, "float32")["difference"]

    assert difference(same, same) == 0
    assert difference(softmax(logits + 3), same) < 1e-12  # a constant is no difference
    off = softmax(logits + 0.1 * random.normal(size=logits.shape))
    assert 0.08 < difference(off, same) < 0.12
    assert 0.08 < difference(softmax(1.1 * logits), same) < 0.12
    assert difference(softmax(random.normal(size=logits.shape)), same) > 1  # another network
    assert difference(np.full_like(same, 0.01), same) == pytest.approx(1)  # one that says nothing
    embeddings = random.normal(size=(4, 16))
    assert difference(1.1 * embeddings, embeddings) == pytest.approx(0.1)


@pytest.mark.parametrize("precision", [*BOUNDS, "mixed_float16", "mixed_bfloat16"])
def test_outputs_of_another_network_or_of_nan_never_pass(precision: str) -> None:
    random = np.random.default_rng(1)
    same = softmax(random.normal(size=(8, 100)))
    assert compare_outputs(same, same, precision)["passed"]
    assert not compare_outputs(softmax(random.normal(size=(8, 100))), same, precision)["passed"]
    assert not compare_outputs(np.full_like(same, 0.01), same, precision)["passed"]
    assert not compare_outputs(np.full_like(same, np.nan), same, precision)["passed"]
    with pytest.raises(InputError, match="shape"):
        compare_outputs(same[:, :5], same, precision)


SIZE = (tiny.SIDE, tiny.SIDE)


def test_files_are_written_once_for_each_network(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    [first] = make_files(parse(f"{model}+apart"), tmp_path, SIZE, [])
    written = Path(str(first.reference)).stat().st_mtime_ns
    [exported] = make_files(parse(f"{model}@openvino"), tmp_path, SIZE, [])
    assert Path(str(first.reference)).stat().st_mtime_ns == written
    assert first.model == str(model)
    assert first.reference == exported.reference is not None
    with np.load(str(first.reference)) as arrays:
        assert arrays["images"].shape == (8, *SIZE, 3)
        assert arrays["outputs"].shape == (8, tiny.CLASSES)
        loaded = keras.models.load_model(model)
        np.testing.assert_allclose(arrays["outputs"], loaded.predict(arrays["images"], verbose=0), atol=1e-6)
    assert exported.model.endswith(".xml")
    # Counted in the graph of the file's own model, they are those of its table.
    table = sum(node.macs or 0 for node in trace(tiny.TINY, SIZE, classes=tiny.CLASSES))
    assert first.macs == exported.macs == table > 0


def test_an_export_is_compared_with_the_model_that_it_was_made_of(run: Path, exported: Any, tmp_path: Path) -> None:
    path, _ = exported["litert"]
    folder = tmp_path / "files"
    folder.mkdir()
    assert [*make_files(parse(str(path)), folder, SIZE, [])] == [Files(str(path), None, 0)]
    # Another model of the same network, classes and size, and a damaged one, are not what it was made from.
    another, damaged = tmp_path / "another.keras", tmp_path / "damaged.keras"
    save_model(lively(), another, CARD)
    model = keras.models.load_model(another)
    logits = model.get_layer("logits")
    logits.set_weights([2 * weight for weight in logits.get_weights()])
    save_model(model, another, CARD)
    damaged.write_bytes(another.read_bytes()[:1000])
    others = [str(damaged), str(another)]
    assert [*make_files(parse(str(path)), folder, SIZE, others)] == [Files(str(path), None, 0)]
    [own] = make_files(parse(str(run)), folder, SIZE, [])
    [found] = make_files(parse(str(path)), folder, SIZE, [*others, str(run / "model.keras")])
    assert found == own._replace(model=str(path))
    beside = Path(shutil.copy(path, tmp_path))  # the run's model lies beside it
    shutil.copy(run / "model.keras", tmp_path)
    [again] = make_files(parse(str(beside)), folder, SIZE, [])
    with np.load(str(again.reference)) as one, np.load(str(own.reference)) as other:
        np.testing.assert_array_equal(one["outputs"], other["outputs"])
    with pytest.raises(InputError, match=f"images of {tiny.SIDE}×{tiny.SIDE}: give this as --size"):
        list(make_files(parse(str(path)), folder, (75, 75), []))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that Keras wrote, of images of any size."""
    path = tmp_path_factory.mktemp("plain") / "plain.keras"
    layers = [keras.layers.Conv2D(4, 3, 2), keras.layers.DepthwiseConv2D(3), keras.layers.GlobalAveragePooling2D()]
    keras.Sequential([keras.Input((None, None, 3)), *layers, keras.layers.Dense(5, "softmax")]).save(path)
    return path


def test_a_plain_keras_file_of_any_size(plain: Path, model: Path, tmp_path: Path) -> None:
    [found] = make_files(parse(str(plain)), tmp_path, (21, 41), [])
    with np.load(str(found.reference)) as arrays:
        assert arrays["images"].shape == (8, 21, 41, 3)
        assert arrays["outputs"].shape == (8, 5)
    assert found.macs == 10 * 20 * 4 * 27 + 8 * 18 * 4 * 9 + 4 * 5
    small = tmp_path / "small.h5"
    keras.Sequential([keras.Input((9, 7, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]).save(small)
    assert list(own_size([parse(str(plain))])) == [None]
    assert list(own_size([parse(str(plain)), parse(str(model))])) == [SIZE]
    with pytest.raises(InputError, match=f"of {tiny.SIDE}×{tiny.SIDE} and .* of 9×7"):
        list(own_size([parse(str(model)), parse(str(small))]))


def test_siblings_are_joined_unless_they_are_kept_apart(model: Path) -> None:
    def convolutions(line: str) -> int:
        exported = open_keras(parse(line), model, SIZE).exported
        return sum(isinstance(layer, keras.layers.Conv2D) for layer in leaves(exported))

    assert convolutions(f"{model}+optimized") < convolutions(f"{model}+apart") <= convolutions(str(model))


def test_a_model_of_another_size_is_refused_with_the_size_to_give(model: Path) -> None:
    with pytest.raises(InputError, match=f"takes images of {tiny.SIDE}×{tiny.SIDE}"):
        open_keras(parse(str(model)), model, (75, 75))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_of_the_deepest_network_is_within_its_bound(precision: str) -> None:
    """Inception-v4 has no residual connections; a network of other weights is beyond any bound."""
    whole = np.asarray(photograph(278, 278), np.float32)
    images = np.stack([whole[top:, left:][:139, :139] for top in (0, 139) for left in (0, 139)])
    table = networks.find("inception_v4", "paper")

    def make(policy: str) -> keras.Model:
        return build(table, input_shape=(139, 139, 3), include_preprocessing=True, dtype=policy)

    keras.utils.set_random_seed(0)
    exact = imitate_training(make("float32"), images)
    wanted = exact.predict_on_batch(images)
    half = make(precision)
    half.set_weights(exact.get_weights())
    found = compare_outputs(half.predict_on_batch(images).astype(np.float32), wanted, precision)
    assert found["passed"], found
    assert found["difference"] > 1e-4
    other = imitate_training(make("float32"), images).predict_on_batch(images)
    assert not compare_outputs(other, wanted, precision)["passed"]

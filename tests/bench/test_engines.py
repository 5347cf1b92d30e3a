import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from inception_resnet_keras import networks
from inception_resnet_keras.bench.engines import (
    APART,
    AS_SAVED,
    BOUNDS,
    EXPORTED,
    IN_TENSORFLOW,
    OPTIMIZED,
    PRECISIONS,
    PRESETS,
    TIMM,
    Contender,
    compare_outputs,
    difference,
    parse,
    parse_all,
    prepare,
)
from inception_resnet_keras.common.errors import InputError

from .. import tiny

NETWORKS = [f"{name}:{variant}" for name, variants in networks.NETWORKS.items() for variant in variants]


@st.composite
def contenders(draw: st.DrawFn) -> Contender:
    what = draw(st.sampled_from([*NETWORKS, "keras-applications", f"{TIMM}inception_v4", "a b/c@d/model.keras"]))
    own = what in NETWORKS or what.endswith(".keras")
    engines = [*IN_TENSORFLOW, *EXPORTED] if own else ["eager", "compile"] if what.startswith(TIMM) else IN_TENSORFLOW
    engine = draw(st.sampled_from(engines))
    forms = ["", APART] if engine in EXPORTED else ["", OPTIMIZED, APART]
    form = draw(st.sampled_from(forms)) if own else ""
    return Contender(what, form, engine, draw(st.sampled_from(PRECISIONS[engine])))


@given(contenders())
def test_a_contenders_line_is_read_back_as_the_contender(contender: Contender) -> None:
    assert parse(str(contender)) == contender


def refused(text: str) -> str | None:
    """Why a line is refused; None where it is a contender."""
    try:
        parse(text)
    except InputError as error:
        return str(error)
    return None


@given(contenders(), st.data())
def test_a_slip_is_refused_with_a_line_that_is_right(contender: Contender, data: st.DataObject) -> None:
    text = str(contender)
    # Of a sign that separates, or of a form, a slip breaks two parts: they are put right one at a time.
    places = [place for place, sign in enumerate(text) if sign not in ":+@,-"]
    place = data.draw(st.sampled_from(places))
    wrong = text[:place] + data.draw(st.sampled_from("abxyz_")) + text[place + 1 :]
    assume("/" not in wrong and not contender.form)
    reason = refused(wrong)
    if reason is not None:
        suggested = re.search(r"(?:the nearest right one: |give )'([^']*)'$", reason)
        assert suggested, reason
        assert refused(suggested[1]) is None, reason


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
    ("text", "says", "nearest"),
    [
        ("inception_resnet_v2:slm@graph", "variant of inception_resnet_v2 'slm'", "inception_resnet_v2:slim@graph"),
        ("inception_v4:facenet", "is not one of paper, slim", "inception_v4:paper"),
        ("inception_v4@openvio,int8", "engine 'openvio'", "inception_v4@openvino,int8"),
        ("inception_v4@openvino,int4", "precision 'int4'", "inception_v4@openvino,int8"),
        ("inception_v4@graph,bfloat16", "mixed_bfloat16", "inception_v4@graph,mixed_bfloat16"),
        ("keras-applications@openvino", "engine 'openvino' is not one of graph, xla", "keras-applications@graph"),
        ("keras_applications", "network 'keras_applications'", "keras-applications"),
        ("timm:inception_v3", "network of timm 'inception_v3'", "timm:inception_v4"),
        ("inception_v4+optimised", "network", "inception_v4"),
        ("keras-applications+optimized@xla", "for our networks", "keras-applications@xla"),
        ("inception_v4+optimized@openvino", "an export is optimized", "inception_v4@openvino"),
        ("run/model.xml@openvino,int8", "runs as it was exported", "run/model.xml"),
        ("run/model.h5", "is no model that can be opened", ".keras"),
    ],
)
def test_wrong_ones_are_refused_with_the_nearest_right_one(text: str, says: str, nearest: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(text)
    assert says in str(refused.value)
    assert nearest in str(refused.value)


def test_what_is_not_said_is_the_default() -> None:
    assert parse("inception_v4") == Contender("inception_v4:paper", "", "graph", "float32")
    assert parse("inception_v4:slim+optimized@xla") == Contender("inception_v4:slim", "optimized", "xla", "float32")
    assert parse("timm:inception_v4") == Contender("timm:inception_v4", "", "eager", "float32")
    assert parse("a/b.onnx") == Contender("a/b.onnx", "", "onnxruntime", AS_SAVED)
    apart = Contender("inception_v4:paper", APART, "openvino", "int8")
    assert parse("inception_v4+apart@openvino,int8") == apart
    assert parse("a/b.keras@litert,int8") == Contender("a/b.keras", "", "litert", "int8")


def test_one_that_is_named_twice_is_refused() -> None:
    with pytest.raises(InputError, match="named twice"):
        parse_all(["inception_v4", "inception_v4:paper@graph,float32"])


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_contenders_with_batches(name: str) -> None:
    preset = PRESETS[name]
    found = parse_all(preset.contenders)
    assert found[0].kind == "applications"
    assert preset.batches == tuple(sorted(preset.batches))
    assert {each.kind for each in found} == {"applications", "ours", "timm"}
    assert any(each.form for each in found)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_difference_is_of_logits_and_nothing_hides_it() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(8, 100))
    same = softmax(logits)
    assert difference(same, same) == 0
    assert difference(softmax(logits + 3), same) < 1e-12  # a constant is no difference
    off = softmax(logits + 0.1 * random.normal(size=logits.shape))
    assert 0.08 < difference(off, same) < 0.12
    assert 0.08 < difference(softmax(1.1 * logits), same) < 0.12
    assert difference(softmax(random.normal(size=logits.shape)), same) > 1  # another network
    assert difference(np.full_like(same, 0.01), same) == pytest.approx(1)  # one that says nothing
    embeddings = random.normal(size=(4, 16))
    assert difference(1.1 * embeddings, embeddings) == pytest.approx(0.1)


@pytest.mark.parametrize("computed_in", list(BOUNDS))
def test_outputs_of_another_network_or_of_nan_never_pass(computed_in: str) -> None:
    random = np.random.default_rng(1)
    same = softmax(random.normal(size=(8, 100)))
    assert compare_outputs(same, same, computed_in)["passed"]
    assert not compare_outputs(softmax(random.normal(size=(8, 100))), same, computed_in)["passed"]
    assert not compare_outputs(np.full_like(same, 0.01), same, computed_in)["passed"]
    assert not compare_outputs(np.full_like(same, np.nan), same, computed_in)["passed"]
    with pytest.raises(ValueError, match="shape"):
        compare_outputs(same[:, :5], same, computed_in)


def test_an_export_may_have_its_siblings_apart(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    counts = []
    for contender in parse_all([f"{model}@openvino", f"{model}+apart@openvino", f"{model}@onnxruntime"]):
        exported, reference = prepare(contender, tmp_path / "network", tiny.SIDE)
        counts.append(operations(Path(exported)))
        with np.load(reference) as arrays:
            assert arrays["outputs"].shape == (len(arrays["images"]), tiny.CLASSES)
    joined, apart, onnx = counts
    assert apart["VariadicSplit"] == onnx["Split"] == 0 < joined["VariadicSplit"]
    assert (
        apart["Convolution"] == onnx["Conv"] == joined["Convolution"] + joined["VariadicSplit"]
    )  # of two siblings each


def operations(exported: Path) -> Counter[str]:
    if exported.suffix == ".xml":
        return Counter(re.findall(r'<layer [^>]*type="(\w+)"', exported.read_text(encoding="utf-8")))
    import onnx

    return Counter(node.op_type for node in onnx.load(exported).graph.node)

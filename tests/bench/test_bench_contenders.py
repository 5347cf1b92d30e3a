import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from inception_resnet_keras import networks
from inception_resnet_keras.bench.contenders import (
    APART,
    AS_SAVED,
    EXPORTED,
    IN_TENSORFLOW,
    OPTIMIZED,
    PRECISIONS,
    TIMM,
    Contender,
    parse,
    parse_all,
)
from inception_resnet_keras.bench.presets import PRESETS
from inception_resnet_keras.common.errors import InputError

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

"""What requests of TensorFlow Serving's form and of the Open Inference Protocol say, and what is refused of them."""

import base64
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inception_resnet_keras.deploy import protocols
from inception_resnet_keras.deploy.protocols import RequestError, Served, parse_inference, parse_tf_serving

SIZE = (2, 3)
SERVED = Served("cats", "onnx", SIZE, ["a", "b ☃", "c"], 3, top=2)
VECTORS = Served("faces", "onnx", SIZE, None, 3)
PIXELS = np.arange(18).reshape(2, 3, 3)
OUTPUTS = np.array([[0.25, 0.5, 0.25], [0.125, 0.125, 0.75]], np.float32)
FILE = b"\x89PNG \xff\x00 anything"
B64 = {"b64": base64.b64encode(FILE).decode()}


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


def refused(parse: Any, message: str, *arguments: Any) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        parse(SERVED, *arguments)
    assert caught.value.status == 400


# TensorFlow Serving


@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"image": value}])
def test_instances_are_pixels_or_files(wrap: Any) -> None:
    asked = parse_tf_serving(SERVED, body({"instances": [wrap(PIXELS.tolist()), wrap(B64)]}))
    pixels, file = asked.pictures
    np.testing.assert_array_equal(pixels, PIXELS)
    assert file == FILE
    assert json.loads(asked.answer(SERVED, OUTPUTS)) == {"predictions": OUTPUTS.tolist()}


@pytest.mark.parametrize("inputs", [[PIXELS.tolist(), B64], {"image": [PIXELS.tolist(), B64]}])
def test_inputs_are_answered_with_outputs(inputs: Any) -> None:
    asked = parse_tf_serving(SERVED, body({"inputs": inputs}))
    np.testing.assert_array_equal(asked.pictures[0], PIXELS)
    assert asked.pictures[1] == FILE
    assert json.loads(asked.answer(SERVED, OUTPUTS)) == {"outputs": OUTPUTS.tolist()}


def test_the_signature_of_files_names_the_classes() -> None:
    asked = parse_tf_serving(SERVED, body({"signature_name": "encoded", "instances": [B64, {"image_bytes": B64}]}))
    assert asked.pictures == [FILE, FILE]
    first, second = json.loads(asked.answer(SERVED, OUTPUTS))["predictions"]
    assert first == {protocols.OUTPUT: [0.25, 0.5, 0.25], "classes": ["b ☃", "a"], "scores": [0.5, 0.25]}
    assert second["classes"] == ["c", "a"]
    columns = parse_tf_serving(SERVED, body({"signature_name": "encoded", "inputs": [B64, B64]}))
    assert json.loads(columns.answer(SERVED, OUTPUTS))["outputs"]["classes"] == [["b ☃", "a"], ["c", "a"]]
    vectors = parse_tf_serving(VECTORS, body({"signature_name": "encoded", "instances": [B64, B64]}))
    assert json.loads(vectors.answer(VECTORS, OUTPUTS)) == {"predictions": OUTPUTS.tolist()}


def test_malformed_bodies_of_tf_serving_are_refused() -> None:
    nested = PIXELS.tolist()
    for value, message in (
        (b"{", "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b'{"instances": NaN}', "NaN is not a number"),
        (body([]), "the body is an array; it must be an object"),
        (body({}), 'either "instances" or "inputs"'),
        (body({"instances": [B64], "inputs": [B64]}), 'either "instances" or "inputs"'),
        (body({"instances": [B64], "signature_name": "x"}), "signature_name: got 'x'; the model has 'serving_default'"),
        (body({"instances": [B64], "signature_name": [1]}), "signature_name: got"),
        (body({"instances": []}), "instances: is empty"),
        (body({"instances": {"b64": "eA=="}}), "instances: is an object; it must be an array"),
        (body({"instances": ["x"]}), r"instances\[0\]: is a string; it must be pixels"),
        (body({"instances": [B64, {"b64": "*"}]}), r"instances\[1\]: is not base64"),
        (body({"instances": [{"b64": ""}]}), r"instances\[0\]: is empty"),
        (body({"instances": [{"b64": 1}]}), r"instances\[0\]: is a number; it must be a string"),
        (body({"instances": [{"picture": B64}]}), "the input's name is 'image'"),
        (body({"instances": [{"image": {"b65": ""}}]}), "has the keys"),
        (body({"instances": [nested[:1]]}), r"has the shape \[1, 3, 3\]; pictures must have the shape \[2, 3, 3\]"),
        (body({"instances": [[nested]]}), r"has 4 dimensions"),
        (body({"instances": [[[[1, 2, 3]], [[1, 2]]]]}), "unequal lengths|values that are not numbers"),
        (body({"instances": [[[["1", "2", "3"]] * 3] * 2]}), "values that are not numbers"),
        (body({"instances": [[[[10**30] * 3] * 3] * 2]}), "values that are not numbers"),
        (body({"instances": [(PIXELS - 1).tolist()]}), "values from -1 to 16; pixels must be from 0 to 255"),
        (body({"instances": [(PIXELS * 100).tolist()]}), "values from 0 to 1700"),
        (body({"instances": [(PIXELS / 17).tolist()]}), "fractions from 0 to 1; pixels must be from 0 to 255"),
        (b'{"instances": [[[[1e999,0,0],[0,0,0],[0,0,0]],[[0,0,0],[0,0,0],[0,0,0]]]]}', "values from 0 to inf"),
    ):
        refused(parse_tf_serving, message, value)


def test_black_pixels_are_a_picture() -> None:
    assert len(parse_tf_serving(SERVED, body({"instances": [np.zeros((2, 3, 3)).tolist()]})).pictures) == 1


# The Open Inference Protocol


def tensor(**changes: Any) -> dict[str, Any]:
    given = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 3, 3], "data": PIXELS.ravel().tolist()}
    return {key: value for key, value in (given | changes).items() if value is not None}


def request(head: dict[str, Any], *tails: bytes) -> tuple[bytes, str]:
    encoded = body(head)
    return b"".join([encoded, *tails]), str(len(encoded))


@pytest.mark.parametrize("datatype", protocols.DTYPES)
def test_pixels_of_every_datatype_in_json_and_in_binary(datatype: str) -> None:
    two = np.stack([PIXELS, PIXELS + 1]).astype(protocols.DTYPES[datatype])
    said = {"datatype": datatype, "shape": [2, 2, 3, 3]}
    content = two.tobytes()
    binary = tensor(**said, data=None, parameters={"binary_data_size": len(content)})
    for asked in (
        parse_inference(SERVED, body({"inputs": [tensor(**said, data=two.ravel().tolist())]})),
        parse_inference(SERVED, body({"inputs": [tensor(**said, data=two.tolist())]})),
        parse_inference(SERVED, *request({"inputs": [binary]}, content)),
    ):
        np.testing.assert_array_equal(np.stack([np.asarray(each) for each in asked.pictures]), two)


def test_files_in_json_and_in_binary() -> None:
    files = [FILE, b"x"]
    content = b"".join(struct.pack("<I", len(file)) + file for file in files)
    texts = [base64.b64encode(file).decode() for file in files]
    said = {"datatype": "BYTES", "shape": [2]}
    binary = tensor(**said, data=None, parameters={"binary_data_size": len(content)})
    assert parse_inference(SERVED, body({"inputs": [tensor(**said, data=texts)]})).pictures == files
    column = tensor(datatype="BYTES", shape=[2, 1], data=[[text] for text in texts])
    assert parse_inference(SERVED, body({"inputs": [column]})).pictures == files
    assert parse_inference(SERVED, *request({"inputs": [binary]}, content)).pictures == files


def test_outputs_are_what_was_asked_for() -> None:
    outputs: list[dict[str, Any]] = [
        {"name": protocols.OUTPUT},
        {"name": "classes"},
        {"name": protocols.OUTPUT, "parameters": {"classification": 2}},
    ]
    asked = parse_inference(SERVED, body({"id": "mine", "inputs": [tensor()], "outputs": outputs}))
    content, length = asked.answer(SERVED, OUTPUTS[:1])
    assert length is None
    said = json.loads(content)
    assert (said["id"], said["model_name"], said["model_version"]) == ("mine", "cats", "1")
    assert said["outputs"] == [
        {"name": protocols.OUTPUT, "datatype": "FP32", "shape": [1, 3], "data": [0.25, 0.5, 0.25]},
        {"name": "classes", "datatype": "BYTES", "shape": [1], "data": ["b ☃"]},
        {"name": protocols.OUTPUT, "datatype": "BYTES", "shape": [1, 2], "data": ["0.500000:1:b ☃", "0.250000:0:a"]},
    ]


def test_outputs_in_binary_stand_behind_the_json_in_order() -> None:
    both = [{"name": protocols.OUTPUT}, {"name": "classes", "parameters": {"binary_data": True}}]
    for outputs, flag in ((both, False), ([{"name": protocols.OUTPUT}], True), ([], True)):
        head = {"inputs": [tensor()], "outputs": outputs, "parameters": {"binary_data_output": flag}}
        content, length = parse_inference(SERVED, body(head)).answer(SERVED, OUTPUTS)
        assert length is not None
        said, tail = json.loads(content[:length])["outputs"], content[length:]
        assert sum(each.get("parameters", {}).get("binary_data_size", 0) for each in said) == len(tail)
        if flag:
            np.testing.assert_array_equal(np.frombuffer(tail, "<f4").reshape(2, 3), OUTPUTS)
        else:
            assert said[0]["data"] == OUTPUTS.ravel().tolist()
            assert tail == struct.pack("<I", 5) + "b ☃".encode() + struct.pack("<I", 1) + b"c"


def test_malformed_inferences_are_refused() -> None:
    for inputs, message in (
        (None, "an array of one tensor"),
        ([], "an array of one tensor"),
        ([tensor(), tensor()], "an array of one tensor"),
        ([tensor(name="x")], "the input's name is 'image'"),
        ([tensor(shape=[1, 2, 3])], r"for UINT8 it must be \['n', 2, 3, 3\]"),
        ([tensor(shape=[0, 2, 3, 3])], "integers of at least 1"),
        ([tensor(shape="x")], "integers of at least 1"),
        ([tensor(shape=[True, 2, 3, 3])], "integers of at least 1"),
        ([tensor(shape=[2, 2, 3, 3])], "has 18 numbers, but its shape .* needs 36"),
        ([tensor(shape=[2**31 - 1] * 4)], "has 18 numbers"),
        ([tensor(shape=[1, 3, 2, 3])], "has the shape"),
        ([tensor(datatype="BF16")], "datatype: got 'BF16'"),
        ([tensor(datatype=["UINT8"])], "datatype: got"),
        ([tensor(data=None)], "either data or the parameter"),
        ([tensor(data="x")], "values that are not numbers"),
        ([tensor(data=[True] * 18)], "values that are not numbers"),
        ([tensor(parameters=[])], "parameters: is an array"),
        ([tensor(data=None, parameters={"binary_data_size": 18})], "binary_data_size: got 18, but 0 bytes follow"),
        ([tensor(datatype="BYTES", shape=[1], data=["*"])], "is not base64"),
        ([tensor(datatype="BYTES", shape=[1], data="x")], "is a string; it must be an array"),
        ([tensor(datatype="BYTES", shape=[2], data=["eA=="])], "has 1 elements"),
        ([tensor(data=[300] * 18)], "values from 300 to 300"),
    ):
        refused(parse_inference, message, body({"inputs": inputs}))
    for outputs, message in (
        ("x", "an array of objects"),
        ([1], "an array of objects"),
        ([{"name": "x"}], "the model has"),
        ([{"name": protocols.OUTPUT, "parameters": {"classification": "2"}}], "classification: got '2'"),
        ([{"name": protocols.OUTPUT, "parameters": {"classification": -1}}], "classification: got -1"),
    ):
        refused(parse_inference, message, body({"inputs": [tensor()], "outputs": outputs}))
    refused(parse_inference, "id: is a number", body({"id": 1, "inputs": [tensor()]}))
    whole = {"inputs": [tensor(data=None, datatype="FP32", parameters={"binary_data_size": 5})]}
    refused(parse_inference, "4 bytes per number", *request(whole, b"12345"))
    for tail, message in ((b"\5\0\0\0abc", "longer than the body"), (b"\5\0", "longer than"), (b"\0" * 4, "empty")):
        files = tensor(datatype="BYTES", shape=[1], data=None, parameters={"binary_data_size": len(tail)})
        refused(parse_inference, message, *request({"inputs": [files]}, tail))
    for length in ("-1", "99999", "x", "1" * 5000):
        refused(parse_inference, "Inference-Header-Content-Length: got", body({"inputs": [tensor()]}), length)
    refused(parse_inference, "2 bytes follow the JSON", *request({"inputs": [tensor()]}, b"xx"))


def test_an_embedding_has_no_classes() -> None:
    assert [each["name"] for each in protocols.inference_metadata(VECTORS)["outputs"]] == [protocols.OUTPUT]
    with pytest.raises(RequestError, match="the model has"):
        parse_inference(VECTORS, body({"inputs": [tensor()], "outputs": [{"name": "classes"}]}))
    wanted = {"name": protocols.OUTPUT, "parameters": {"classification": 1}}
    with pytest.raises(RequestError, match="classification"):
        parse_inference(VECTORS, body({"inputs": [tensor()], "outputs": [wanted]}))


def outcome(parse: Any, *arguments: Any) -> Any:
    try:
        return parse(SERVED, *arguments)
    except RequestError as error:
        return error


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["image", "UINT8", "BYTES"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*tensor(), "inputs", "instances", "b64"]), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["inputs", "instances", "outputs", "id", "signature_name"]), JSON), st.binary())
def test_whatever_is_sent_is_parsed_or_refused(value: dict[str, Any], tail: bytes) -> None:
    encoded = body(value)
    for parse, arguments in (
        (parse_tf_serving, (encoded,)),
        (parse_tf_serving, (tail,)),
        (parse_inference, (encoded,)),
        (parse_inference, (encoded + tail, str(len(encoded)))),
    ):
        said = outcome(parse, *arguments)
        assert said.pictures if not isinstance(said, RequestError) else said.status == 400 and "\n" not in said.message

"""The request and answer formats of two protocols of other model servers, independent of HTTP.

TensorFlow Serving's REST form
    {"instances": [{"b64": …}]} or pixels, answered with {"predictions": …}; {"inputs": …} with {"outputs": …}
The Open Inference Protocol, version 2 (KServe, Triton, OpenVINO Model Server, Seldon)
    {"inputs": [{"name", "shape", "datatype", "data"}]}, with the extension for binary tensors after the JSON

A request is parsed into a list of images, each the bytes of a file or an array of pixels; outputs become the answer.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..common.console import json_text
from ..common.errors import shown
from ..models.runtimes import ENCODED, ENCODED_INPUT, INPUT, OUTPUT

Picture: TypeAlias = bytes | np.ndarray
VERSION = "1"  # the model's only version
SIGNATURE = "serving_default"
CLASSES, SCORES = "classes", "scores"
BYTES = "BYTES"
# Datatypes of the Open Inference Protocol that can hold pixels.
DTYPES = {
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
_NUMBERS = "iuf"  # NumPy's kinds of dtypes that pixels may have
_LENGTH = struct.Struct("<I")  # precedes each element of a binary tensor of bytes


class RequestError(Exception):
    """Raised for a request that cannot be answered, with an HTTP status and a reason of one line."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


@dataclass(frozen=True)
class Served:
    """The description of the served model.

    Attributes:
        name: The model's name in URLs.
        platform: The runtime.
        size: (height, width) of its input.
        class_names: The class names in the order of the outputs; None for an embedding.
        outputs: The number of outputs.
        top: The number of classes in an answer with names.
    """

    name: str
    platform: str
    size: tuple[int, int]
    class_names: Sequence[str] | None
    outputs: int
    top: int = 5

    def best(self, row: np.ndarray, count: int) -> np.ndarray:
        """The indices of the most probable classes, the most probable first."""
        return np.argsort(-row, kind="stable")[:count]


def parse_json(body: bytes | bytearray | memoryview) -> dict[str, Any]:
    """Parse a body as a JSON object; RequestError if it is not one."""
    try:
        found = json.loads(bytes(body), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise RequestError(400, f"the body is not JSON: {_first_line(error)}") from None
    if not isinstance(found, dict):
        raise RequestError(400, f"the body is {_kind(found)}; it must be an object")
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number in JSON")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


_KINDS = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a number")


# Pixels


def check_pixels(where: str, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an array of images unchanged, or raise RequestError if its shape or its values are wrong.

    Args:
        where: The name of the array in errors.
        pixels: (height, width, 3) or (n, height, width, 3), of any real dtype.
        size: (height, width) of the model's input.
    """
    wanted = (*size, 3)
    if pixels.shape[-3:] != wanted:
        raise RequestError(
            400,
            f"{where}: has the shape {shown(list(pixels.shape))}; pictures must have the shape {list(wanted)} (height, "
            "width, RGB). Picture files may have any size",
        )
    if not pixels.size:
        raise RequestError(400, f"{where}: has no pictures; it must have at least one")
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= 255):  # also for NaN
        raise RequestError(400, f"{where}: has values from {low:.6g} to {high:.6g}; pixels must be from 0 to 255")
    if high <= 1 and pixels.dtype.kind == "f" and (pixels % 1).any():
        raise RequestError(400, f"{where}: has fractions from 0 to 1; pixels must be from 0 to 255, not scaled")
    return pixels


def _numbers(where: str, value: Any) -> np.ndarray:
    """Convert nested JSON arrays to an array of numbers."""
    try:
        found = np.array(value)
    except (ValueError, OverflowError):  # NumPy accepts neither, nor more than 64 levels
        raise RequestError(400, f"{where}: its arrays have unequal lengths, or are nested too deeply") from None
    if found.dtype.kind not in _NUMBERS:
        raise RequestError(400, f"{where}: contains values that are not numbers; it must be nested arrays of numbers")
    return found


def _decoded_base64(where: str, text: Any) -> bytes:
    if not isinstance(text, str):
        raise RequestError(400, f"{where}: is {_kind(text)}; it must be a string in base64")
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(400, f"{where}: is not base64: {_first_line(error)}") from None
    if not found:
        raise RequestError(400, f"{where}: is empty; it must be the bytes of a picture file")
    return found


# TensorFlow Serving


@dataclass(frozen=True)
class TfServingRequest:
    """A parsed request.

    Attributes:
        pictures: The images.
        columnar: Whether they were sent as `inputs`.
        named: Whether to answer with class names.
    """

    pictures: list[Picture]
    columnar: bool
    named: bool

    def answer(self, served: Served, outputs: np.ndarray) -> bytes:
        """The body of the response. outputs: float32 (n, outputs)."""
        rows: list[Any] = outputs.tolist()
        if self.named and served.class_names is not None:
            best = [served.best(row, served.top) for row in outputs]
            columns: dict[str, list[Any]] = {
                OUTPUT: rows,
                CLASSES: [[served.class_names[number] for number in numbers] for numbers in best],
                SCORES: [row[numbers].tolist() for row, numbers in zip(outputs, best, strict=True)],
            }
            if self.columnar:
                return _encoded({"outputs": columns})
            rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return _encoded({"outputs" if self.columnar else "predictions": rows})


def parse_tf_serving(served: Served, body: bytes | bytearray) -> TfServingRequest:
    """Parse a body of `:predict`.

    Each of `instances` is {"b64": STRING}, the bytes of a picture file, or pixels, (height, width, 3), as nested
    arrays; both may be given under the name of the input, as {"image": …}. `inputs` holds the same in columns. With the
    signature "encoded", the answer has class names besides the probabilities, as from the exported SavedModel.

    Raises:
        RequestError: The body is malformed; status 400.
    """
    found = parse_json(body)
    signature = found.get("signature_name") or SIGNATURE
    if signature not in (SIGNATURE, ENCODED):
        known = f"{SIGNATURE!r} and {ENCODED!r}"
        raise RequestError(400, f"signature_name: got {shown(signature)}; the model has {known}")
    if ("instances" in found) == ("inputs" in found):
        raise RequestError(400, 'the body must have either "instances" or "inputs"')
    columnar = "inputs" in found
    key = "inputs" if columnar else "instances"
    values = found[key]
    if columnar and isinstance(values, dict) and "b64" not in values:
        values = _named_input(key, values)
    if not isinstance(values, list):
        raise RequestError(400, f"{key}: is {_kind(values)}; it must be an array with one element per picture")
    if not values:
        raise RequestError(400, f"{key}: is empty; it must hold at least one picture")
    pictures = [_instance(f"{key}[{number}]", value, served) for number, value in enumerate(values)]
    return TfServingRequest(pictures, columnar, signature == ENCODED)


def _instance(where: str, value: Any, served: Served) -> Picture:
    if isinstance(value, dict) and set(value) != {"b64"}:
        value = _named_input(where, value)
    if isinstance(value, dict):
        if set(value) != {"b64"}:
            raise RequestError(400, f'{where}: has the keys {shown(sorted(value))}; it must be {{"b64": STRING}}')
        return _decoded_base64(where, value["b64"])
    if not isinstance(value, list):
        raise RequestError(400, f'{where}: is {_kind(value)}; it must be pixels as nested arrays, or {{"b64": STRING}}')
    pixels = check_pixels(where, _numbers(where, value), served.size)
    if pixels.ndim != 3:
        raise RequestError(400, f"{where}: has {pixels.ndim} dimensions; a picture has three: height, width and RGB")
    return pixels


def _named_input(where: str, value: dict[str, Any]) -> Any:
    """The value under the name of the model's only input."""
    if len(value) != 1 or (name := next(iter(value))) not in (INPUT, ENCODED_INPUT):
        raise RequestError(400, f"{where}: has the keys {shown(sorted(value))}; the input's name is {INPUT!r}")
    return value[name]


def tf_serving_status(ready: bool) -> dict[str, Any]:
    """The answer to GET /v1/models/NAME."""
    state = "AVAILABLE" if ready else "LOADING"
    status = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": VERSION, "state": state, "status": status}]}


def tf_serving_metadata(served: Served) -> dict[str, Any]:
    """The answer to GET /v1/models/NAME/metadata."""

    def tensor(name: str, dtype: str, *shape: int) -> dict[str, Any]:
        dims = [{"size": str(side), "name": ""} for side in shape]
        return {"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": f"{name}:0"}

    outputs = {OUTPUT: tensor(OUTPUT, "DT_FLOAT", -1, served.outputs)}
    pixels = {INPUT: tensor(INPUT, "DT_FLOAT", -1, *served.size, 3)}
    signatures = {SIGNATURE: _signature(pixels, outputs)}
    if served.class_names is not None:
        top = min(served.top, served.outputs)
        outputs = outputs | {
            CLASSES: tensor(CLASSES, "DT_STRING", -1, top),
            SCORES: tensor(SCORES, "DT_FLOAT", -1, top),
        }
        signatures[ENCODED] = _signature({ENCODED_INPUT: tensor(ENCODED_INPUT, "DT_STRING", -1)}, outputs)
    return {
        "model_spec": {"name": served.name, "signature_name": "", "version": VERSION},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _signature(inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    return {"inputs": inputs, "outputs": outputs, "method_name": "tensorflow/serving/predict", "defaults": {}}


# The Open Inference Protocol


@dataclass(frozen=True)
class RequestedOutput:
    """An output to return.

    Attributes:
        name: OUTPUT or CLASSES.
        binary: Whether it follows the JSON in binary.
        classification: For OUTPUT, the number of classes to return instead of it, as by Triton; 0 for the
            probabilities.
    """

    name: str
    binary: bool = False
    classification: int = 0


@dataclass(frozen=True)
class InferenceRequest:
    """A parsed request.

    Attributes:
        pictures: The images.
        outputs: The outputs to return.
        id: The client's identifier, which the answer repeats; None for none.
    """

    pictures: list[Picture]
    outputs: list[RequestedOutput]
    id: str | None = None

    def answer(self, served: Served, outputs: np.ndarray) -> tuple[bytes, int | None]:
        """The body of the response, and the length of its JSON part in bytes; None if all of it is JSON."""
        tensors: list[dict[str, Any]] = []
        tail: list[bytes] = []
        for wanted in self.outputs:
            datatype, values = _output(served, wanted, outputs)
            tensor: dict[str, Any] = {"name": wanted.name, "datatype": datatype, "shape": list(values.shape)}
            if wanted.binary:
                tail.append(_binary(datatype, values))
                tensor["parameters"] = {"binary_data_size": len(tail[-1])}
            else:
                tensor["data"] = values.ravel().tolist()
            tensors.append(tensor)
        response: dict[str, Any] = {"model_name": served.name, "model_version": VERSION, "outputs": tensors}
        if self.id is not None:
            response = {"id": self.id, **response}
        head = _encoded(response)
        return b"".join([head, *tail]), len(head) if tail else None


def parse_inference(served: Served, body: bytes | bytearray, json_length: str | None = None) -> InferenceRequest:
    """Parse a body of `infer`.

    Its only input is "image": pixels of shape (n, height, width, 3), or BYTES of shape (n), the bytes of picture files
    (in JSON as base64).

    Args:
        served: The model.
        body: The body.
        json_length: The header Inference-Header-Content-Length, if binary tensors follow the JSON.

    Raises:
        RequestError: The body is malformed; status 400.
    """
    end = len(body) if json_length is None else _length(json_length, len(body))
    found = parse_json(memoryview(body)[:end])
    request_id = found.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise RequestError(400, f"id: is {_kind(request_id)}; it must be a string")
    inputs = found.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise RequestError(400, f"inputs: must be an array of one tensor, {INPUT!r}")
    tensor = inputs[0]
    if tensor.get("name") != INPUT:
        raise RequestError(400, f"inputs[0].name: got {shown(tensor.get('name'))}; the input's name is {INPUT!r}")
    pictures = _pictures(served, tensor, memoryview(body)[end:])
    return InferenceRequest(pictures, _requested(served, found), request_id)


def _length(header: str, most: int) -> int:
    if not (header.isascii() and header.isdigit() and len(header) < 16 and int(header) <= most):
        name = "Inference-Header-Content-Length"
        raise RequestError(400, f"{name}: got {shown(header)}; the body has {most} bytes")
    return int(header)


def _pictures(served: Served, tensor: dict[str, Any], tail: memoryview) -> list[Picture]:
    shape, datatype = tensor.get("shape"), tensor.get("datatype")
    if not isinstance(shape, list) or not all(type(side) is int and 0 < side < 2**31 for side in shape):
        raise RequestError(400, f"inputs[0].shape: got {shown(shape)}; it must be an array of integers of at least 1")
    if not isinstance(datatype, str) or (datatype not in DTYPES and datatype != BYTES):
        known = ", ".join([*DTYPES, BYTES])
        raise RequestError(400, f"inputs[0].datatype: got {shown(datatype)}; it must be one of {known}")
    rank = 1 if datatype == BYTES else 4
    # Triton's clients may also send picture files as (n, 1), with an additional batch axis.
    if len(shape) != rank and not (rank == 1 and len(shape) == 2 and shape[1] == 1):
        wanted = ["n"] if rank == 1 else ["n", *served.size, 3]
        raise RequestError(400, f"inputs[0].shape: got {shown(shape)}; for {datatype} it must be {wanted}")
    data = _data(tensor, datatype, tail)
    if isinstance(data, list):
        if len(data) != shape[0]:
            raise RequestError(400, f"inputs[0]: has {len(data)} elements, but its shape is {shape}")
        return list(data)
    count = 1
    for side in shape:
        count *= side
    if data.size != count:
        raise RequestError(400, f"inputs[0]: has {data.size} numbers, but its shape {shape} needs {count}")
    return list(check_pixels("inputs[0]", data.reshape(shape), served.size))


def _data(tensor: dict[str, Any], datatype: str, tail: memoryview) -> np.ndarray | list[bytes]:
    """The data of a tensor: a flat array of numbers or, for BYTES, a list of contents."""
    parameters = _parameters("inputs[0]", tensor)
    size = parameters.get("binary_data_size")
    if (size is None) == ("data" not in tensor):
        raise RequestError(400, "inputs[0]: needs either data or the parameter binary_data_size")
    if size is None:
        if len(tail):
            raise RequestError(400, f"inputs[0]: lacks binary_data_size, but {len(tail)} bytes follow the JSON")
        if datatype != BYTES:
            return _numbers("inputs[0].data", tensor["data"]).ravel()
        texts = tensor["data"]
        if not isinstance(texts, list):
            raise RequestError(400, f"inputs[0].data: is {_kind(texts)}; it must be an array of strings in base64")
        texts = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in texts]
        return [_decoded_base64(f"inputs[0].data[{number}]", text) for number, text in enumerate(texts)]
    if type(size) is not int or size != len(tail):
        raise RequestError(400, f"binary_data_size: got {shown(size)}, but {len(tail)} bytes follow the JSON")
    if datatype == BYTES:
        return _split(tail)
    dtype = DTYPES[datatype]
    if size % dtype.itemsize:
        raise RequestError(400, f"binary_data_size: got {size}; {datatype} has {dtype.itemsize} bytes per number")
    return np.frombuffer(tail, dtype)


def _split(tail: memoryview) -> list[bytes]:
    """The elements of a binary tensor of bytes, each of which is preceded by its length."""
    found: list[bytes] = []
    place = 0
    while place < len(tail):
        start = place + _LENGTH.size
        end = start + _LENGTH.unpack(tail[place:start])[0] if start <= len(tail) else len(tail) + 1
        if end > len(tail):
            raise RequestError(400, "inputs[0]: the last of its elements is longer than the body")
        if end == start:
            raise RequestError(400, f"inputs[0]: element {len(found)} is empty; it must be a picture file")
        found.append(bytes(tail[start:end]))
        place = end
    return found


def _parameters(where: str, holder: dict[str, Any]) -> dict[str, Any]:
    found = holder.get("parameters", {})
    if not isinstance(found, dict):
        raise RequestError(400, f"{where}.parameters: is {_kind(found)}; it must be an object")
    return found


def _requested(served: Served, found: dict[str, Any]) -> list[RequestedOutput]:
    binary = _parameters("the request", found).get("binary_data_output") is True
    outputs = found.get("outputs")
    if outputs is None or outputs == []:
        return [RequestedOutput(OUTPUT, binary)]
    if not isinstance(outputs, list) or not all(isinstance(each, dict) for each in outputs):
        raise RequestError(400, f"outputs: got {shown(outputs)}; it must be an array of objects")
    known = [OUTPUT] if served.class_names is None else [OUTPUT, CLASSES]
    wanted = []
    for number, each in enumerate(outputs):
        name, parameters = each.get("name"), _parameters(f"outputs[{number}]", each)
        if name not in known:
            names = " and ".join(map(repr, known))
            raise RequestError(400, f"outputs[{number}].name: got {shown(name)}; the model has {names}")
        top = parameters.get("classification", 0)
        if type(top) is not int or top < 0 or (top and served.class_names is None):
            raise RequestError(400, f"classification: got {shown(top)}; it must be a number of classes")
        wanted.append(RequestedOutput(name, parameters.get("binary_data", binary) is True, top))
    return wanted


def _output(served: Served, wanted: RequestedOutput, outputs: np.ndarray) -> tuple[str, np.ndarray]:
    """The datatype and the values of a requested output."""
    names = served.class_names
    if names is None or (wanted.name == OUTPUT and not wanted.classification):
        return "FP32", outputs
    if wanted.name == CLASSES:
        return BYTES, np.array([names[int(row.argmax())] for row in outputs], object)
    lines = [
        [f"{row[number]:f}:{number}:{names[number]}" for number in served.best(row, wanted.classification)]
        for row in outputs
    ]
    return BYTES, np.array(lines, object).reshape(len(outputs), -1)


def _binary(datatype: str, values: np.ndarray) -> bytes:
    if datatype != BYTES:
        return values.astype(DTYPES[datatype]).tobytes()
    texts = [value.encode("utf-8", "surrogateescape") for value in values.ravel()]
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)


def inference_metadata(served: Served) -> dict[str, Any]:
    """The answer to GET /v2/models/NAME."""
    outputs = [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, served.outputs]}]
    if served.class_names is not None:
        outputs.append({"name": CLASSES, "datatype": BYTES, "shape": [-1]})
    return {
        "name": served.name,
        "versions": [VERSION],
        "platform": served.platform,
        "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *served.size, 3]}],
        "outputs": outputs,
    }


def _encoded(value: Any) -> bytes:
    return json_text(value).encode("utf-8")

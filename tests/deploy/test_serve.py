"""The server, running in this process on a free port: what it answers, to whom, and what it refuses."""

import argparse
import base64
import http.client
import json
import re
import socket
import threading
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from openapi_spec_validator import validate
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException

from inception_resnet_keras.cli import main
from inception_resnet_keras.cli import serve as cli_serve
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.images import read_image
from inception_resnet_keras.deploy import serve as serving
from inception_resnet_keras.deploy import service as services
from inception_resnet_keras.deploy.serve import ModelServer
from inception_resnet_keras.deploy.service import Settings
from inception_resnet_keras.models.model_file import card_text
from inception_resnet_keras.models.predict import predict
from inception_resnet_keras.models.runtimes import CARD_KEY, OUTPUT, open_runtime

from .. import tiny
from ..exporting import CARD

ROOT = Path(__file__).parents[2]
KINDS = ("keras", "saved_model", "onnx", "openvino", "litert")
SMALL = Settings(max_batch=4, max_queue=8, max_upload=64 * 1024, max_pixels=500_000, timeout=0.5)


@pytest.fixture(scope="module")
def paths(run: Path, exported: Any) -> dict[str, Path]:
    return {"keras": run, **{name: path for name, (path, _) in exported.items()}}


@pytest.fixture(scope="module")
def server(paths: dict[str, Path]) -> Iterator[ModelServer]:
    """The tiny network as ONNX, under the name "digits"."""
    with ModelServer(paths["onnx"], SMALL, port=0, name="digits") as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ModelServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as session:
        yield session


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of many kinds: sizes, modes, depths, orientations."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)

    def noise(height: int, width: int, layers: int) -> Image.Image:
        small = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, layers), np.uint8)
        mode = {1: "L", 3: "RGB", 4: "RGBA"}[layers]
        return Image.fromarray(small.squeeze(), mode).resize((width, height), Image.Resampling.BICUBIC)

    turned = Image.Exif()
    turned[0x0112] = 6
    noise(300, 200, 3).save(folder / "large.jpg", quality=85)
    noise(120, 90, 3).save(folder / "turned.jpg", exif=turned)
    noise(64, 64, 3).convert("CMYK").save(folder / "cmyk.jpg")
    noise(50, 40, 1).save(folder / "grey.png")
    noise(40, 50, 4).save(folder / "transparent.png")
    noise(33, 31, 3).convert("P").save(folder / "palette.gif")
    Image.fromarray(rng.integers(0, 65536, (20, 20), np.uint16)).save(folder / "deep.tif")
    noise(tiny.SIDE, tiny.SIDE, 3).save(folder / "exact.webp", lossless=True)
    return sorted(folder.iterdir())


def probabilities(found: dict[str, Any], classes: list[str]) -> np.ndarray:
    return np.array([dict(found["top"])[name] for name in classes])


@pytest.mark.parametrize("kind", KINDS)
def test_every_runtime_answers_as_predict_does_whatever_it_is_batched_with(
    kind: str, paths: dict[str, Path], pictures: list[Path]
) -> None:
    expected = predict(paths[kind], pictures, top=3)
    contents = [path.read_bytes() for path in pictures]
    with ModelServer(paths[kind], Settings(max_batch=4, max_wait=0.02), port=0) as server, httpx.Client() as client:

        def ask(number: int) -> np.ndarray:
            url = f"{server.url}/predict?top=3"
            return probabilities(client.post(url, content=contents[number]).json()[0], CARD.classes)

        numbers = list(np.random.default_rng(1).permutation(3 * len(pictures)) % len(pictures))
        with ThreadPoolExecutor(6) as threads:
            answers = list(threads.map(ask, numbers))
        batches = server.service.metrics.registry.get_sample_value("inception_serve_batch_pictures_count") or 0
        assert 0 < batches < len(numbers), "nothing was batched"
        for number, answer in zip(numbers, answers, strict=True):
            np.testing.assert_allclose(answer, expected.probabilities[number], rtol=0, atol=1e-6)
        # All at once, as every protocol has it.
        instances = [{"b64": base64.b64encode(content).decode()} for content in contents]
        name = server.service.name
        said = client.post(f"{server.url}/v1/models/{name}:predict", json={"instances": instances}).json()
        np.testing.assert_allclose(said["predictions"], expected.probabilities, rtol=0, atol=1e-6)


def test_a_form_is_answered_as_predict_prints_json(client: httpx.Client, pictures: list[Path], paths: Any) -> None:
    names = [path.name for path in pictures]
    files: Any = [("image", (path.name, path.read_bytes())) for path in pictures]
    found = client.post("/predict", files=files, data={"note": "ignored"}).json()
    expected = predict(paths["onnx"], pictures)
    assert [each["path"] for each in found] == names
    for ours, theirs in zip(found, expected, strict=True):
        assert [name for name, _ in ours["top"]] == [name for name, _ in theirs.top]
        assert [share for _, share in ours["top"]] == pytest.approx([share for _, share in theirs.top], abs=1e-6)
        assert ours["error"] is None


def test_a_file_that_cannot_be_read_has_an_error_beside_the_others(client: httpx.Client, pictures: list[Path]) -> None:
    files: Any = [("x", ("bad ☃.png", b"no picture")), ("x", (pictures[0].name, pictures[0].read_bytes()))]
    answer = client.post("/predict?top=1", files=files)
    assert answer.status_code == 200
    bad, good = answer.json()
    assert (bad["path"], bad["top"]) == ("bad ☃.png", [])
    assert "is not a JPEG, PNG" in bad["error"]
    assert len(good["top"]) == 1


def test_pixels_are_taken_as_they_are(client: httpx.Client, pictures: list[Path], paths: Any) -> None:
    images = np.stack([read_image(path, CARD.size) for path in pictures[:3]])
    expected = open_runtime(paths["onnx"]).run(images.astype(np.float32))
    said = client.post("/v1/models/digits:predict", json={"instances": images.tolist()}).json()
    np.testing.assert_allclose(said["predictions"], expected, atol=1e-6)
    said = client.post("/v1/models/digits/versions/1:predict", json={"inputs": {"image": images.tolist()}}).json()
    np.testing.assert_allclose(said["outputs"], expected, atol=1e-6)


def test_the_named_signature_answers_as_the_exported_saved_model(
    client: httpx.Client, pictures: list[Path], paths: Any
) -> None:
    """Keys and classes, and what they are called; the pixels of files are the SavedModel's own business."""
    import tensorflow as tf

    stream = BytesIO()
    Image.fromarray(read_image(pictures[0], CARD.size)).save(stream, "PNG")  # which nobody has to resize
    exact = stream.getvalue()
    asked = {"signature_name": "encoded", "instances": [{"b64": base64.b64encode(exact).decode()}]}
    (ours,) = client.post("/v1/models/digits:predict", json=asked).json()["predictions"]
    loaded = tf.saved_model.load(paths["saved_model"])
    theirs = loaded.signatures["encoded"](tf.constant([exact]))
    assert set(ours) == set(theirs)
    assert ours["classes"] == [name.decode() for name in theirs["classes"].numpy()[0]]
    np.testing.assert_allclose(ours["scores"], theirs["scores"].numpy()[0], atol=1e-6)
    signatures = client.get("/v1/models/digits/metadata").json()["metadata"]["signature_def"]["signature_def"]
    for name, signature in signatures.items():
        assert set(signature["outputs"]) == set(loaded.signatures[name].structured_outputs)
        assert set(signature["inputs"]) == set(loaded.signatures[name].structured_input_signature[1])


def test_tritons_own_client_is_answered(server: ModelServer, pictures: list[Path], paths: Any) -> None:
    client = triton.InferenceServerClient(server.url.removeprefix("http://"))
    try:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("digits")
        assert not client.is_model_ready("others")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        metadata = client.get_model_metadata("digits")
        (takes,), (gives, names) = metadata["inputs"], metadata["outputs"]
        assert (takes["shape"], gives["shape"]) == ([-1, 32, 32, 3], [-1, 3])

        images = np.stack([read_image(path, CARD.size) for path in pictures[:2]])
        expected = open_runtime(paths["onnx"]).run(images.astype(np.float32))
        for datatype, array in (("UINT8", images), ("FP32", images.astype(np.float32))):
            for binary in (True, False):
                given = triton.InferInput(takes["name"], list(array.shape), datatype)
                given.set_data_from_numpy(array, binary_data=binary)
                wanted = [triton.InferRequestedOutput(each["name"], binary_data=binary) for each in (gives, names)]
                found = client.infer("digits", [given], outputs=wanted, request_id="7")
                np.testing.assert_allclose(found.as_numpy(gives["name"]), expected, atol=1e-6)
                said = [each.decode() if binary else each for each in found.as_numpy(names["name"])]
                assert said == [CARD.classes[number] for number in expected.argmax(axis=1)]
                assert found.get_response()["id"] == "7"
        files = np.array([path.read_bytes() for path in pictures[:2]], object)
        given = triton.InferInput(takes["name"], [len(files)], "BYTES")
        given.set_data_from_numpy(files)
        np.testing.assert_allclose(client.infer("digits", [given]).as_numpy(gives["name"]), expected, atol=1e-6)
        top = [triton.InferRequestedOutput(gives["name"], class_count=2)]
        lines = client.infer("digits", [given], outputs=top).as_numpy(gives["name"])
        assert lines.shape == (len(files), 2)
        share, number, name = lines[0][0].decode().split(":")
        assert float(share) == pytest.approx(expected[0].max(), abs=1e-5)
        assert (int(number), name) == (expected[0].argmax(), CARD.classes[expected[0].argmax()])
        with pytest.raises(InferenceServerException, match="the model has"):
            client.infer("digits", [given], outputs=[triton.InferRequestedOutput("x")])
        with pytest.raises(InferenceServerException, match="is not served"):
            client.infer("others", [given])
    finally:
        client.close()


def png(height: int, width: int) -> bytes:
    stream = BytesIO()
    Image.new("L", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def test_wrong_requests_are_answered_with_the_right_status(client: httpx.Client, pictures: list[Path]) -> None:
    file = pictures[0].read_bytes()
    predict, tf, infer = "/predict", "/v1/models/digits:predict", "/v2/models/digits/infer"
    part = b'--x\r\nContent-Disposition: form-data; name="x"; filename="a"\r\n\r\n'
    cut_off = part + file + b"\r\n" + part + file  # the second file has no end
    asked: list[tuple[int, str, str, dict[str, Any]]] = [
        (400, "POST", predict, {}),
        (400, "POST", f"{predict}?top=0", {"content": file}),
        (400, "POST", f"{predict}?top=x", {"content": file}),
        (400, "POST", predict, {"content": b"--x", "headers": {"content-type": "multipart/form-data"}}),
        (400, "POST", predict, {"content": b"--y", "headers": {"content-type": "multipart/form-data; boundary=x"}}),
        (400, "POST", predict, {"files": {"image": (None, "IMAGE")}}),
        (400, "POST", predict, {"content": cut_off, "headers": {"content-type": "multipart/form-data; boundary=x"}}),
        (413, "POST", predict, {"files": [("x", ("a", file))] * 9}),  # more pictures than the queue has places
        (400, "POST", tf, {"content": b"{"}),
        (400, "POST", tf, {"json": {"instances": [{"b64": base64.b64encode(b"no picture").decode()}]}}),
        (400, "POST", infer, {"json": {"inputs": []}}),
        (404, "GET", "/nothing", {}),
        (404, "GET", "/predict/", {}),
        (404, "GET", "/v1/models/others", {}),
        (404, "POST", "/v1/models/others:predict", {"json": {"instances": [[[[0]]]]}}),
        (404, "POST", "/v1/models/digits/versions/2:predict", {"json": {}}),
        (404, "POST", "/v1/models/digits:classify", {"json": {}}),
        (404, "POST", "/v2/models/digits/versions/2/infer", {"json": {}}),
        (405, "GET", predict, {}),
        (405, "GET", tf, {}),
        (405, "DELETE", "/v1/models/digits", {}),
        (405, "POST", "/v2/health/live", {}),
        (413, "POST", predict, {"content": b"x" * 65_537}),
        (413, "POST", predict, {"content": iter([b"x" * 40_000] * 3)}),  # chunked: its length is not told
        (413, "POST", tf, {"content": b" " * 70_000}),
        (413, "POST", predict, {"content": png(1000, 1000)}),  # pixels
        (413, "POST", predict, {"content": png(9000, 9000)}),
        (413, "POST", tf, {"json": {"instances": [{"b64": base64.b64encode(png(1000, 1000)).decode()}]}}),
        (413, "POST", tf, {"json": {"instances": [{"b64": "eA=="}] * 9}}),  # more pictures than the queue has places
        (415, "POST", predict, {"content": file, "headers": {"content-type": "text/html"}}),
        (415, "POST", predict, {"content": file, "headers": {"content-encoding": "gzip"}}),
        (415, "POST", tf, {"content": b"{}", "headers": {"content-type": "application/xml"}}),
        (422, "POST", predict, {"content": b"no picture"}),
        (422, "POST", predict, {"content": file[: len(file) // 2]}),
        (422, "POST", predict, {"files": [("x", ("a", b"1")), ("x", ("b", b"2"))]}),
    ]
    for status, method, path, options in asked:
        answer = client.request(method, path, **options)
        assert answer.status_code == status, (method, path, list(options), answer.text)
        assert list(answer.json()) == ["error"]
        assert answer.headers["content-type"] == "application/json"
        if status == 405:
            assert answer.headers["allow"]
    assert client.post(predict, content=file).status_code == 200


def raw(server: ModelServer, sent: bytes, seconds: float = 20) -> bytes:
    """What the server says until it closes the connection."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.sendall(sent)
        found = b""
        while piece := connection.recv(65536):
            found += piece
        return found


def test_what_is_no_http_is_refused(server: ModelServer) -> None:
    for sent in (
        b"\x16\x03\x01 TLS\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # without a host
    ):
        assert raw(server, sent).startswith(b"HTTP/1.1 400 ")
    assert raw(server, b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000).startswith(b"HTTP/1.1 431 ")
    coded = raw(server, b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nx")
    assert coded.startswith(b"HTTP/1.1 501 ")
    assert b"Transfer-Encoding" in coded
    # Of two ends of a body, a proxy may have used the other one: what follows is not read as a request.
    ends = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    refused = raw(server, ends + b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert refused.startswith(b"HTTP/1.1 400 ")
    assert refused.count(b"HTTP/1.1") == 1
    assert len(raw(server, b"GET /" + b"y" * 20_000 + b" HTTP/1.0\r\n\r\n")) < 1000
    both = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"
    assert raw(server, both).startswith(b"HTTP/1.1 400 ")


def test_slow_requests_are_ended_and_others_are_not_held_up(
    server: ModelServer, client: httpx.Client, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_body = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nxxx"
    with ThreadPoolExecutor(20) as threads:
        answers = [threads.submit(raw, server, slow_body) for _ in range(20)]
        begun = time.monotonic()
        assert client.post("/predict", content=pictures[0].read_bytes()).status_code == 200
        assert time.monotonic() - begun < SMALL.timeout * 20
        for answer in answers:
            head, _, text = answer.result().partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 ")
            assert b"connection: close" in head.lower()
            assert json.loads(text) == {"error": "the request did not arrive within 0.5 seconds"}
    wait_until(lambda: server.service.held == 0)


def test_a_header_by_drips_and_a_silent_connection_are_ended(paths: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEADER_SECONDS", 0.5)
    with ModelServer(paths["onnx"], SMALL, port=0) as server:
        assert raw(server, b"") == b""
        said = raw(server, b"GET /v2/health/live HTTP/1.1\r\nHost: x")
        assert said.startswith(b"HTTP/1.1 408 ")
        assert json.loads(said.partition(b"\r\n\r\n")[2]) == {"error": "the header did not arrive within 0.5 seconds"}
        # One that keeps its connection open between requests is not slow.
        with httpx.Client(base_url=server.url) as client:
            assert client.get("/v2/health/live").status_code == 200
            time.sleep(1.2)
            assert client.get("/v2/health/live").status_code == 200


def test_a_client_that_takes_no_answer_is_ended(paths: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEADER_SECONDS", 0.5)
    with ModelServer(paths["onnx"], SMALL, port=0) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((host, int(port)))
            connection.settimeout(20)
            with suppress(OSError):  # reset or timed out
                connection.sendall(b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n" * 100_000)
            wait_until(lambda: not server._server.server_state.connections)


def test_connections_are_bounded(paths: Any) -> None:
    with ModelServer(paths["onnx"], Settings(max_connections=2), port=0) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with httpx.Client(base_url=server.url) as client:
            assert client.get("/v2/health/live").status_code == 200
            with socket.create_connection((host, int(port))):
                time.sleep(0.1)
                said = raw(server, b"")
                assert said.startswith(b"HTTP/1.1 503 ")
                assert "2 connections" in json.loads(said.partition(b"\r\n\r\n")[2])["error"]
            assert client.get("/v2/health/live").status_code == 200


def wait_until(condition: Any, seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


class Held:
    """The server's model, held until it is let go."""

    def __init__(self, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.go, self.seen = threading.Event(), threading.Event(), 0
        model = server.service.batcher.model
        assert model is not None
        run = model.run

        def held(images: np.ndarray) -> np.ndarray:
            self.entered.set()
            assert self.go.wait(20)
            self.seen += len(images)
            return run(images)

        monkeypatch.setattr(server.service.batcher, "_run", self._with(server, held))

    @staticmethod
    def _with(server: ModelServer, run: Any) -> Any:
        original = type(server.service.batcher)._run
        return lambda model, batch: original(server.service.batcher, replace(model, run=run), batch)


def test_a_full_queue_is_told_and_what_was_taken_is_answered(
    server: ModelServer, client: httpx.Client, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(server, monkeypatch)
    content = pictures[0].read_bytes()
    with ThreadPoolExecutor(SMALL.max_queue) as threads:
        taken = [threads.submit(client.post, "/predict", content=content) for _ in range(SMALL.max_queue)]
        wait_until(lambda: server.service.batcher.in_progress == SMALL.max_queue)
        for path, options in (("/predict", {"content": content}), ("/v1/models/digits:predict", {"content": b"{"})):
            answer = client.post(path, **options)  # type: ignore[arg-type]
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert "the queue is full" in answer.json()["error"]
        assert client.get("/v2/health/ready").status_code == 200
        held.go.set()
        assert {answer.result().status_code for answer in taken} == {200}
    wait_until(lambda: server.service.batcher.in_progress == 0)


def test_pictures_of_clients_that_went_away_are_not_computed(
    server: ModelServer, client: httpx.Client, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(server, monkeypatch)
    content = pictures[0].read_bytes()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(client.post, "/predict", content=content)
        assert held.entered.wait(20)
        host, port = server.url.removeprefix("http://").split(":")
        for _ in range(5):
            gone = http.client.HTTPConnection(host, int(port))
            gone.request("POST", "/predict", content)
            wait_until(lambda: server.service.batcher.in_progress == 2)
            gone.close()
            wait_until(lambda: server.service.batcher.in_progress == 1)
        last = threads.submit(client.post, "/predict", content=content)
        wait_until(lambda: server.service.batcher.in_progress == 2)
        held.go.set()
        assert first.result().json() == last.result().json()
    assert held.seen == 2


def test_all_bodies_together_are_bounded(
    server: ModelServer, client: httpx.Client, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from inception_resnet_keras.deploy import web

    monkeypatch.setattr(web, "HELD", 1)
    body = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + b"x" * 40_000
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(raw, server, body)
        wait_until(lambda: server.service.held == 40_000)
        assert client.post("/predict", content=b"x" * 40_000).status_code == 503
        assert first.result().startswith(b"HTTP/1.1 408 ")
    wait_until(lambda: server.service.held == 0)
    assert client.post("/predict", content=pictures[0].read_bytes()).status_code == 200


def test_a_model_that_fails_on_a_picture_is_told_and_goes_on(
    server: ModelServer, client: httpx.Client, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(images: np.ndarray) -> np.ndarray:
        return np.full((len(images), 3), np.nan, np.float32)

    with monkeypatch.context() as patch:
        patch.setattr(server.service.batcher, "_run", Held._with(server, broken))
        answer = client.post("/predict", content=pictures[0].read_bytes())
        assert answer.status_code == 500
        assert answer.json()["error"].startswith("digits: computes NaN or infinity"), "its path is nobody's business"
    assert client.post("/predict", content=pictures[0].read_bytes()).status_code == 200


def test_metrics_are_prometheus_and_count(client: httpx.Client, pictures: list[Path]) -> None:
    def read() -> dict[tuple[str, str], float]:
        answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        return {
            (sample.name, str(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    before = read()
    client.post("/predict", content=pictures[0].read_bytes())
    client.get("/nothing?x")
    after = read()

    def more(name: str, **labels: str) -> float:
        key = (f"inception_serve_{name}", str(sorted(labels.items())))
        return after[key] - before.get(key, 0)

    assert more("requests_total", route="/predict", method="POST", status="200") == 1
    assert more("requests_total", route="none", method="GET", status="404") == 1
    assert more("pictures_total", result="read") == 1
    assert more("batch_pictures_count") == 1
    assert more("request_seconds_count", route="/predict") == 1
    assert after[("inception_serve_ready", "[]")] == 1
    assert after[("inception_serve_pictures_in_progress", "[]")] == 0
    assert after[("process_resident_memory_bytes", "[]")] > 1e6


def test_the_document_is_openapi_and_names_what_is_answered(client: httpx.Client, server: ModelServer) -> None:
    document = client.get("/openapi.json").json()
    validate(document)
    assert document["info"]["title"] == "digits"
    for path, methods in document["paths"].items():
        for method in methods:
            status = client.request(method, path).status_code
            assert status == (400 if method == "post" else 200), path


def test_the_page_fetches_nothing_from_elsewhere(client: httpx.Client) -> None:
    answer = client.get("/", follow_redirects=True)
    assert answer.url.path == "/docs"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "connect-src 'self'" in policy
    assert "://" not in answer.text
    assert "digits" in answer.text


def test_health_tells_live_before_ready(paths: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    opened = services.Service._open

    def late(self: Any) -> Any:
        assert go.wait(20)
        return opened(self)

    monkeypatch.setattr(services.Service, "_open", late)
    server = ModelServer(paths["onnx"], SMALL, port=0, name="m")
    starting = threading.Thread(target=server.__enter__)
    starting.start()
    with httpx.Client(base_url=server.url, timeout=20) as client:
        assert client.get("/v2/health/live").status_code == 200
        for path in ("/v2/health/ready", "/v2/models/m/ready", "/v2/models/m"):
            assert client.get(path).status_code == 503, path
        assert client.get("/v1/models/m").json()["model_version_status"][0]["state"] == "LOADING"
        answer = client.post("/predict", content=b"x")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert "not ready" in client.get("/openapi.json").json()["info"]["description"]
        go.set()
        starting.join()
        assert client.get("/v2/health/ready").json() == {"ready": True}
    server.__exit__()


def with_card(onnx_file: Path, out: Path, **changes: Any) -> Path:
    """An ONNX file whose card says something else of the same graph."""
    import onnx

    model = onnx.load(onnx_file)
    onnx.helper.set_model_props(model, {CARD_KEY: card_text(replace(open_runtime(onnx_file).card, **changes))})
    onnx.save(model, out)
    return out


def test_an_embedding_is_served_as_a_vector(tmp_path: Path, pictures: list[Path], paths: Any) -> None:
    path = with_card(paths["onnx"], tmp_path / "m.onnx", classes=[], output="embedding")
    with ModelServer(path, SMALL, port=0, embedding=True) as server, httpx.Client(base_url=server.url) as client:
        (found,) = client.post("/predict", content=pictures[0].read_bytes()).json()
        vector = open_runtime(paths["onnx"]).run(read_image(pictures[0], CARD.size)[None])[0]
        np.testing.assert_allclose(found["embedding"], vector / np.linalg.norm(vector), atol=1e-6)
        outputs = client.get("/v2/models/m").json()["outputs"]
        assert outputs == [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, 3]}]
        validate(client.get("/openapi.json").json())
    with pytest.raises(InputError, match="exported to give an embedding"), ModelServer(path, SMALL, port=0):
        pass


def test_several_labels_are_those_that_reach_their_thresholds(tmp_path: Path, pictures: list[Path], paths: Any) -> None:
    path = with_card(paths["onnx"], tmp_path / "labels.onnx", thresholds=[0.0, 1.0, 0.0])
    with ModelServer(path, SMALL, port=0) as server:
        (found,) = httpx.post(f"{server.url}/predict", content=pictures[0].read_bytes()).json()
        (expected,) = predict(path, pictures[:1])
        assert [name for name, _ in found["top"]] == [name for name, _ in expected.top]
        assert {name for name, _ in found["top"]} == {CARD.classes[0], CARD.classes[2]}


def test_bad_arguments_are_refused_before_anything_starts(paths: Any, server: ModelServer, tmp_path: Path) -> None:
    port = int(server.url.rpartition(":")[2])
    for options, message in (
        ({"port": port}, f"port: cannot listen on 127.0.0.1, port {port}"),
        ({"port": 65536}, "port: got 65536"),
        ({"port": True}, "port: got True"),
        ({"host": "no such host.invalid"}, "host: got"),
        ({"host": "192.0.2.1", "port": 0}, "port: cannot listen on 192.0.2.1"),
        ({"name": "a/b"}, "name: got 'a/b'"),
        ({"precision": "float32"}, "computes as it was exported"),
    ):
        with pytest.raises(InputError, match=message):
            ModelServer(paths["onnx"], SMALL, **options)
    for settings, message in (
        ({"max_batch": 0}, "max_batch: got 0"),
        ({"max_queue": 2}, "max_queue: got 2; it takes at least max_batch"),
        ({"max_upload": 10}, "max_upload: got 10"),
        ({"max_pixels": 10**9}, "max_pixels: got"),
        ({"timeout": 0}, "timeout: got 0"),
        ({"max_wait": 60}, "max_wait: got 60"),
    ):
        with pytest.raises(InputError, match=message):
            Settings(**settings)
    with pytest.raises(InputError, match="there is no such file"):
        ModelServer(tmp_path / "none.onnx", SMALL, port=0)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"\x00" * 100)
    with pytest.raises(InputError, match="damaged"), ModelServer(damaged, SMALL, port=0):
        pass


def test_the_command_refuses_on_one_line(paths: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        ([str(tmp_path / "none.onnx")], "there is no such file"),
        ([str(paths["onnx"]), "--port", "65536"], "port: got 65536"),
        ([str(paths["onnx"]), "--max-upload", "0.0001"], "max_upload: got 105"),
        ([str(paths["onnx"]), "--max-wait", "70000"], "max_wait: got 70.0"),
    ):
        assert main(["serve", *arguments]) == 1
        assert message in capsys.readouterr().err.splitlines()[-1]


def instructions() -> list[tuple[str, str]]:
    """The container's file as (instruction, rest)."""
    lines = (ROOT / "examples" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    found = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    return [(name, rest) for name, rest in found]


def test_the_container_runs_what_there_is_as_a_user_without_rights(server: ModelServer) -> None:
    given = instructions()
    last = dict(given)
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+( AS \w+)?", rest) for name, rest in given if name == "FROM")
    assert int(last["USER"]) > 0
    for name, rest in given:
        if name == "COPY" and "--from" not in rest:
            assert all((ROOT / source).exists() for source in rest.split()[:-1]), rest
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    (sync,) = [rest for name, rest in given if name == "RUN" and "uv sync" in rest]
    wanted = {
        extra.replace("${RUNTIME}", last["ARG"].partition("=")[2]) for extra in re.findall(r"--extra (\S+)", sync)
    }
    assert wanted == {"serve", "openvino"} <= set(extras)
    command = [*json.loads(last["ENTRYPOINT"]), *json.loads(last["CMD"])]
    parser = argparse.ArgumentParser()
    cli_serve.add_arguments(parser)
    args = parser.parse_args(command[2:])
    assert (command[:2], args.host, args.port) == (["inception-resnet-keras", "serve"], "0.0.0.0", int(last["EXPOSE"]))
    _, _, check = json.loads(last["HEALTHCHECK"].partition("CMD ")[2])
    exec(check.replace("http://127.0.0.1:8080", server.url))  # raises where it is not ready
    with pytest.raises(OSError, match=r"404|Not Found"):
        exec(check.replace("http://127.0.0.1:8080", f"{server.url}/x"))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("runs/photos-1", "photos-1"),
        ("a b/model.onnx", "model"),
        ("inception_v4=imagenet", "imagenet"),
        ("schön ☃.keras", "sch-n"),
        ("..", "model"),
        ("tiny (Keras)", "tiny-Keras"),
    ],
)
def test_the_models_name_fits_into_an_address(model: str, name: str) -> None:
    assert services.check_name(services.default_name(model)) == name

"""The server as a process of its own: a thousand clients at once, and a graceful end."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inception_resnet_keras.models.predict import predict

from ..exporting import CARD

pytestmark = pytest.mark.slow
CLIENTS = 1000


@contextmanager
def process(model: Path, *options: str, port: int = 0) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "inception_resnet_keras", "serve", str(model), "--port", str(port), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def port_of(server: subprocess.Popen[str]) -> int:
    assert server.stdout is not None
    line = server.stdout.readline()
    assert " serves model (onnx, 32×32, 3 classes" in line
    assert "curl --data-binary @IMAGE http://127.0.0.1:" in line
    return int(line.split(" ", 1)[0].rpartition(":")[2])


def ended(server: subprocess.Popen[str]) -> str:
    """What is on stderr of a server that has been told to end, and has, without fault."""
    out, errors = server.communicate(timeout=60)
    assert server.returncode == 0, errors
    assert out == ""
    return errors


async def asked(port: int, content: bytes, half: asyncio.Event | None = None, rest: asyncio.Event | None = None) -> Any:
    """Status and answer; with the events, the second half of the body is sent when it is told."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    sent = head + content
    middle = len(sent) - len(content) // 2 if half and rest else len(sent)
    writer.write(sent[:middle])
    await writer.drain()
    if half and rest:
        half.set()
        await rest.wait()
        writer.write(sent[middle:])
    answer, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(answer.split(b" ", 2)[1]), json.loads(body)


def test_a_thousand_clients_at_once_are_all_answered(exported: Any, digits: Path) -> None:
    model = exported["onnx"][0]
    files = sorted(digits.rglob("*.png"))[:20]
    expected = predict(model, files, top=3).probabilities
    contents = [file.read_bytes() for file in files]

    async def all_at_once(port: int) -> list[Any]:
        return await asyncio.gather(*(asked(port, contents[number % len(files)]) for number in range(CLIENTS)))

    with process(model, "--max-queue", "1024") as server:
        answers = asyncio.run(all_at_once(port_of(server)))
        assert Counter(status for status, _ in answers) == {200: CLIENTS}
        for number, (_, (found,)) in enumerate(answers):
            shares = dict(found["top"])
            row = [shares[name] for name in CARD.classes]
            np.testing.assert_allclose(row, expected[number % len(files)], atol=1e-6)
        server.send_signal(signal.SIGTERM)
        assert "opening" in ended(server)
    with process(model, "--max-queue", "8") as server:
        port = port_of(server)
        statuses = Counter(status for status, _ in asyncio.run(all_at_once(port)))
        assert set(statuses) <= {200, 503}
        assert statuses[200]
        status, _ = asyncio.run(asked(port, contents[0]))
        assert status == 200, "it has not recovered"
        server.send_signal(signal.SIGTERM)
        ended(server)


def test_sigterm_lets_what_is_in_progress_finish(exported: Any, digits: Path) -> None:
    content = next(digits.rglob("*.png")).read_bytes()

    async def in_the_middle(server: subprocess.Popen[str], port: int) -> list[int]:
        half, rest = [asyncio.Event() for _ in range(20)], asyncio.Event()
        waiting = [asyncio.create_task(asked(port, content, each, rest)) for each in half]
        await asyncio.gather(*(each.wait() for each in half))
        await asyncio.sleep(0.5)  # for the server to have read them
        server.send_signal(signal.SIGTERM)
        ends = time.monotonic() + 20
        while True:  # until it listens no more
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                break
            writer.close()
            assert time.monotonic() < ends
            await asyncio.sleep(0.05)
        rest.set()
        return [status for status, _ in await asyncio.gather(*waiting)]

    with process(exported["onnx"][0]) as server:
        assert asyncio.run(in_the_middle(server, port_of(server))) == [200] * 20
        ended(server)


@pytest.mark.parametrize("kind", ["keras", "onnx"])
def test_sigterm_ends_a_server_whose_model_is_not_open_yet(exported: Any, run: Path, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with process(run if kind == "keras" else exported[kind][0], port=port) as server:
        ends = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() < ends
                time.sleep(0.02)
        server.send_signal(signal.SIGTERM)
        _, errors = server.communicate(timeout=60)
        assert server.returncode == 0, errors


def test_a_model_that_cannot_be_opened_ends_the_server_with_its_reason(tmp_path: Path) -> None:
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes(bytes(100))
    with process(damaged) as server:
        _, errors = server.communicate(timeout=60)
        assert server.returncode == 1
        assert "Traceback" not in errors
        assert f"{damaged}: is damaged" in errors

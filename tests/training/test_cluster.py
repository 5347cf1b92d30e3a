import json
import socket
from typing import Any

import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.training import cluster


def told(monkeypatch: pytest.MonkeyPatch, address: str, index: Any = 0) -> None:
    config = {"cluster": {"worker": [address, "127.0.0.1:1"]}, "task": {"type": "worker", "index": index}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))


@pytest.mark.parametrize(
    ("address", "index"),
    [("127.0.0.1", 0), ("127.0.0.1:x", 0), ("127.0.0.1:70000", 0), (7, 0), ("a:5", -1), ("a:5", 9)],
)
def test_addresses_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch, address: Any, index: int) -> None:
    told(monkeypatch, address, index)
    with pytest.raises(InputError, match="TF_CONFIG: is damaged"):
        cluster._resolver()


def test_a_text_that_is_nested_too_deeply_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", "[" * 100_000)
    with pytest.raises(InputError, match="TF_CONFIG: is damaged"):
        cluster._resolver()


def test_a_port_that_another_process_has_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told(monkeypatch, f"127.0.0.1:{port}")
        with pytest.raises(InputError, match=f"this worker cannot listen on port {port} of 127.0.0.1:{port} .*in use"):
            cluster._resolver()
    assert cluster._resolver().task_id == 0  # it is free again

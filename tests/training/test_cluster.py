import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.training import cluster

from ..forked import free_addresses


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


def test_workers_go_on_when_all_have_come_whoever_is_first(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """And somebody who is no worker is none; who waits for long says for whom."""
    monkeypatch.setattr(cluster, "MESSAGE_AFTER", 0.5)
    there = free_addresses(4)
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(cluster.wait_for_workers, there, number, 1) for number in (2, 0, 1)]
        time.sleep(1.5)
        for content in (b"", b"GET / HTTP/1.1\r\n\r\n", b"0", b"99"):
            with socket.create_connection(("127.0.0.1", int(there[0].rpartition(":")[2]))) as stranger:
                stranger.sendall(content)
        assert not any(one.done() for one in done)
        done.append(pool.submit(cluster.wait_for_workers, there, 3, 1))
        for one in done:
            one.result(30)
    assert f"waiting for the worker {there[3]}, at most 1 minutes" in capsys.readouterr().err
    socket.create_server(("127.0.0.1", int(there[0].rpartition(":")[2]))).close()  # the chief's port is free for it


@pytest.mark.parametrize(("number", "missing"), [(0, "the worker {1}"), (1, "the chief {0}")])
def test_who_does_not_come_is_named(number: int, missing: str) -> None:
    there = free_addresses(2)
    with pytest.raises(InputError, match=rf"{missing.format(*there)} did not start within 0.01 minutes"):
        cluster.wait_for_workers(there, number, 0.01)

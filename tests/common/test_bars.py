"""The lines that tell of long work."""

import io
import threading
import time

import pytest
from rich.console import Console

from inception_resnet_keras.common import bars


def test_a_long_step_is_said_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "STILL_AFTER", 0.01)
    monkeypatch.setattr(bars, "CHANGES_EVERY", 0.001)
    out = io.StringIO()
    with bars.steps(Console(file=out)) as begin:
        begin("writing [onnx]")
        while "so far" not in out.getvalue():
            time.sleep(0.001)
        begin("comparing")
    first, again, *_ = out.getvalue().splitlines()
    assert (first, again) == ("writing [onnx]", "writing [onnx]: 0 s so far")
    assert "comparing" in out.getvalue().splitlines()
    assert not [thread for thread in threading.enumerate() if thread.name == bars.WATCHER]

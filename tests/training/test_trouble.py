"""Steps that do not fit in memory, the memory of a step, and several steps in a call."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from inception_resnet_keras import networks
from inception_resnet_keras.training import trouble
from inception_resnet_keras.training.cluster import make_strategy
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.session import Session
from inception_resnet_keras.training.trouble import (
    MemoryMeter,
    batch_size_advice,
    estimate_activations,
    gpu_peak_bytes,
    measure_step,
    memory_meter,
)

from ..tiny import FEW, SIDE

MB = 2**20
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what a process holds now is read from /proc")


def touched(megabytes: int) -> Callable[[], object]:
    """What holds so much for a moment, written to, so that it is there."""
    return lambda: np.ones(megabytes * MB, np.uint8).sum()


@linux
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be set back here")
def test_what_a_process_held_during_work_and_not_before() -> None:
    touched(400)()  # a peak that is past
    of_process = MemoryMeter("the process", trouble._process_bytes, trouble._reset_process_peak)
    found = of_process.peak_beyond_start(touched(150))
    assert 120 * MB < found < 250 * MB


def test_a_device_differs_in_its_readings_alone() -> None:
    """The order in which they are asked, of one with a peak before the work."""
    held, most, asked = [100], [900], []

    def reset() -> None:
        asked.append("reset")
        most[0] = held[0]

    def read() -> tuple[int, int]:
        asked.append("read")
        return held[0], most[0]

    def work() -> None:
        asked.append("work")
        most[0], held[0] = 350, 120

    assert MemoryMeter("a device", read, reset).peak_beyond_start(work) == 250
    assert asked == ["reset", "read", "work", "read"]


def test_what_is_asked_of_a_gpu_is_there() -> None:
    """No GPU is needed for TensorFlow to know these calls, and to say that there is no such device."""
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        assert memory_meter().memory == "the first GPU"
        assert 0 < memory_meter().read()[0] <= (gpu_peak_bytes() or 0)
        return
    assert memory_meter().memory == "the process"
    assert gpu_peak_bytes() is None
    for call in (trouble._gpu_bytes, lambda: tf.config.experimental.reset_memory_stats(trouble.GPU)):
        with pytest.raises(ValueError, match="GPU:0"):
            call()


@linux
@pytest.mark.slow
def test_a_step_is_measured_in_a_process_of_its_own() -> None:
    settings: dict[str, Any] = {"model": "inception_resnet_v1", "size": 107, "batch_size": 16, "optimizer": "sgd"}
    found = measure_step(settings)
    assert found.memory == memory_meter().memory
    assert (
        found.peak > estimate_activations(TrainConfig(**settings)).kept / 2
    )  # the maps, without what single operations need
    assert found.seconds > 0 < found.processor_seconds


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is limited by RLIMIT_AS")
def test_a_step_that_does_not_fit_names_the_largest_batch_that_does() -> None:
    """Real allocations fail: a gigabyte a picture, and room for eight less what the step itself needs."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.crowded", "16"], capture_output=True, text=True, check=True
    )
    trying, said = done.stdout.splitlines()
    assert "trying smaller batches" in trying
    assert said.startswith(
        "batch_size: a step of 16 pictures of 32×32 does not fit in memory; the largest tried batch that fits"
    )
    assert any(f"Give --batch-size {fits}," in said for fits in (6, 7))
    assert "--accumulate 4" in said


def session(**settings: Any) -> Session:
    usual = {"model": "few", "size": SIDE, "batch_size": 4, "dropout": 0.0, "optimizer": "sgd", "learning_rate": 0.01}
    config = TrainConfig.from_settings({**usual, **settings})
    return Session(config, ["a", "b", "c"], 3, 0.8, make_strategy(config))


@pytest.fixture(autouse=True)
def _few_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, FEW.name, {FEW.variant: FEW})


def test_several_replicas_are_not_tried_one_at_a_time() -> None:
    """They would wait for each other: what to set is said, and no batch is named that was not tried."""
    found = session()

    class Replicas:
        num_replicas_in_sync = 2

    found.strategy = Replicas()
    said = batch_size_advice(found, None, None, None)  # type: ignore[arg-type]
    assert "--accumulate" in said
    assert "largest" not in said

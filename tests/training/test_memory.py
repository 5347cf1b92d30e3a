"""A step's memory is measured, and whose it is told."""

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from inception_resnet_keras.training import memory
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.memory import Meter, estimated, measured, meter, peak_on_gpu

MB = 2**20

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what a process holds now is read from /proc")


def touched(megabytes: int) -> Callable[[], object]:
    """What holds so much for a moment, written to, so that it is there."""
    return lambda: np.ones(megabytes * MB, np.uint8).sum()


@linux
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak cannot be set back here")
def test_what_a_process_held_during_work_and_not_before() -> None:
    touched(400)()  # a peak that is past
    of_process = Meter("the process", memory._in_process, memory._reset_process)
    found = of_process.beyond(touched(150))
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

    assert Meter("a device", read, reset).beyond(work) == 250
    assert asked == ["reset", "read", "work", "read"]


def test_what_is_asked_of_a_gpu_is_there() -> None:
    """No GPU is needed for TensorFlow to know these calls, and to say that there is no such device."""
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        assert meter().memory == "the first GPU"
        assert 0 < meter().read()[0] <= (peak_on_gpu() or 0)
        return
    assert meter().memory == "the process"
    assert peak_on_gpu() is None
    for call in (memory._on_gpu, lambda: tf.config.experimental.reset_memory_stats(memory.GPU)):
        with pytest.raises(ValueError, match="GPU:0"):
            call()


@linux
@pytest.mark.slow
def test_a_step_is_measured_in_a_process_of_its_own() -> None:
    settings: dict[str, Any] = {"model": "inception_resnet_v1", "size": 107, "batch_size": 16, "optimizer": "sgd"}
    found = measured(settings)
    assert found.memory == meter().memory
    assert found.peak > estimated(TrainConfig(**settings)).kept / 2  # the maps, without what single operations need
    assert found.seconds > 0 < found.processor

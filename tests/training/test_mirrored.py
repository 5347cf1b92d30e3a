"""Two logical devices of one machine against one device, through the command line."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from inception_resnet_keras.models.model_file import load_model

from .. import forked
from ..data.photographs import write_photographs

# As in test_workers: plain SGD, and photographs, keep rounding small.
SETTINGS = (
    *("--model=few", "--size=32", "--batch-size=16", "--learning-rate=0.02", "--set=optimizer=sgd"),
    *("--set=dropout=0", "--set=average=0.9", "--set=checkpoint_minutes=0", "--sampler=balanced"),
    '--class-weight={"class 0" = 1.5, "class 2" = 0.5}',
)


def two_devices() -> None:
    import tensorflow as tf

    [cpu] = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


@pytest.mark.slow
def test_two_devices_are_one_and_a_run_goes_on_on_either(tmp_path: Path) -> None:
    data = write_photographs(tmp_path / "photographs", (20, 20, 20), size=(40, 40))
    begin = ["train", *SETTINGS, f"--data={data}"]
    said = tmp_path / "said.txt"
    one, two = tmp_path / "one", tmp_path / "two"
    single = forked.start([*begin, "--epochs=4", f"--out={one}"], tmp_path / "one.txt")
    # Stopped as early as possible and resumed: a run of fewer epochs would have other learning rates.
    process = forked.start([*begin, "--epochs=4", "--strategy=mirrored", f"--out={two}"], said, two_devices)
    forked.wait_for(process, said, "epoch 1/4")
    os.kill(process.pid, signal.SIGINT)
    process.join(forked.PATIENCE)
    assert process.exitcode in (0, 130), said.read_text()
    forked.finish(single, tmp_path / "one.txt")
    runs = [two]
    if process.exitcode == 130:
        assert json.loads((two / "config.json").read_text())["chosen"]["replicas"] == 2
        runs.append(Path(shutil.copytree(two, tmp_path / "resumed on one")))
        forked.finish(forked.start(["train", "--resume", str(runs[0])], said, two_devices), said)
        forked.finish(forked.start(["train", "--resume", str(runs[1]), "--strategy=one"], said), said)
    expected = load_model(one / "model.keras")[0].weights
    for run in runs:
        for mine, theirs in zip(load_model(run / "model.keras")[0].weights, expected, strict=True):
            np.testing.assert_allclose(mine.numpy(), theirs.numpy(), atol=1e-5, rtol=0, err_msg=mine.path)

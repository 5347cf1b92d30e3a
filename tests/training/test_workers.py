"""Two real worker processes on 127.0.0.1 against one that trains on both of their pictures."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.data.photographs import write_photographs

ROOT = Path(__file__).parents[2]
WORKER = ("-m", "tests.training.workers")
# Plain SGD: Adam's division by a gradient's own size would blow rounding up.
SETTINGS = (
    *("--epochs=2", "--batch-size=16", "--learning-rate=0.02", "--set=optimizer=sgd", "--set=dropout=0"),
    *("--set=l2=1e-4", "--set=clip_norm=1", "--set=average=0.9", "--set=checkpoint_minutes=0", "--set=keep=100"),
)


def environment(workers: list[str], index: int) -> dict[str, str]:
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if len(workers) == 1:
        return quiet
    return quiet | {
        "TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})
    }


def start(
    count: int,
    *arguments: object,
    program: Sequence[str] = ("-m", "tests.training.workers"),
    last: Sequence[str] = (),
) -> list[subprocess.Popen[str]]:
    """So many workers that run the same command, as a scheduler starts them; `last` is given to the last one too."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    workers = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    command = [sys.executable, *program, *map(str, arguments)]
    return [
        subprocess.Popen(
            [*command, *(last if index == count - 1 else ())],
            cwd=ROOT,
            env=environment(workers, index),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(count)
    ]


def finish(workers: list[subprocess.Popen[str]]) -> list[str]:
    said = [worker.communicate(timeout=500)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(workers), "\n---\n".join(said)
    return said


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, np.ndarray]]:
    """The command without its folder, and what one process ends with."""
    folder = tmp_path_factory.mktemp("one")
    # Photographs: of a digit's even background, max pooling's ties would turn rounding into other weights.
    data = write_photographs(folder / "photographs", (20, 20, 20), size=(40, 40))
    begin = ["train", "--model=few", "--size=32", f"--data={data}", *SETTINGS]
    finish(start(1, folder / "one", *begin, f"--out={folder / 'run'}"))
    return begin, dict(np.load(folder / "one.0.npz"))


def require_equal(workers: list[dict[str, np.ndarray]], expected: dict[str, np.ndarray]) -> None:
    for worker in workers:
        assert worker["together"].tolist() == [3, 3, 3]  # 1 of the first, 2 of the second
        for key in expected.keys() - {"losses", "together"}:
            np.testing.assert_allclose(worker[key], expected[key], atol=1e-5, rtol=0, err_msg=key)
    statistics = [key for key in expected if "moving_" in key]
    assert len(statistics) == 8
    for key in statistics:
        assert np.array_equal(workers[0][key], workers[1][key]), key


@pytest.mark.slow
def test_two_workers_are_one_with_both_their_pictures_and_only_the_chief_writes(
    one: tuple[list[str], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    begin, expected = one
    said = finish(start(2, tmp_path / "two", *begin, f"--out={tmp_path / 'run'}"))
    workers = [dict(np.load(tmp_path / f"two.{number}.npz")) for number in (0, 1)]
    for worker in workers:
        np.testing.assert_allclose(worker["losses"], expected["losses"], rtol=1e-5)
    require_equal(workers, expected)
    assert "epoch 2/2" in said[0]
    assert "epoch" not in said[1]
    assert "held-out accuracy" in said[0]
    assert "held-out" not in said[1]
    assert sorted(path.name for path in (tmp_path / "run").glob("*.keras")) == ["best.keras", "model.keras"]


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_the_run_goes_on_from_the_last_checkpoint(
    one: tuple[list[str], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    begin, expected = one
    run = tmp_path / "run"
    workers = start(2, tmp_path / "two", *begin, f"--out={run}")
    try:
        while len(list(run.glob("checkpoints/step-*.ckpt"))) < 2:
            assert all(worker.poll() is None for worker in workers), [worker.communicate()[0] for worker in workers]
            time.sleep(0.02)
        workers[1].kill()
    finally:
        for worker in workers:
            worker.kill()  # what a scheduler does with the rest of a job that lost a worker
            worker.communicate()
    said = finish(start(2, tmp_path / "two", "train", "--resume", run))
    assert "going on from step-" in said[0]
    require_equal([dict(np.load(tmp_path / f"two.{number}.npz")) for number in (0, 1)], expected)


@pytest.mark.slow
def test_workers_that_were_told_otherwise_all_end_at_once(
    one: tuple[list[str], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    begin, _ = one
    run = tmp_path / "run"
    workers = start(2, tmp_path / "two", *begin, f"--out={run}", last=["--set=l2=1e-3"])
    said = [worker.communicate(timeout=500)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [1, 1], said
    assert all("the workers do not agree on the settings" in text for text in said), said
    assert not run.exists()


FIT = """
import keras, numpy, tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
model.fit(numpy.zeros((8, 4)), numpy.zeros((8, 2)), batch_size=4, verbose=0)
print("FIT WORKS")
"""


@pytest.mark.slow
def test_kerass_own_fit_still_fails_under_several_workers() -> None:
    """The day this fails, `fit` has become an alternative to a loop of our own: keras issue 20585."""
    workers = start(2, program=["-c", FIT])
    said = [worker.communicate(timeout=500)[0] for worker in workers]
    assert not any("FIT WORKS" in text for text in said), said
    assert any("unsupported type" in text or "Invalid reduction" in text or "PerReplica" in text for text in said), said

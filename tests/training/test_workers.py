"""Two real worker processes on 127.0.0.1 against one that trains on both of their pictures."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from inception_resnet_keras.training.checkpoints import Checkpoints

from .. import forked
from ..data.photographs import write_photographs
from ..forked import free_addresses
from ..pictures import write_digits
from .workers import note

# Plain SGD: Adam's division by a gradient's own size would blow rounding up.
SETTINGS = (
    *("--epochs=2", "--batch-size=16", "--learning-rate=0.02", "--set=optimizer=sgd", "--set=dropout=0"),
    *("--set=l2=1e-4", "--set=clip_norm=1", "--set=average=0.9", "--set=checkpoint_minutes=0", "--set=keep=100"),
)


class Workers:
    """So many processes that run the same command, as a scheduler starts them.

    folder: Where each one's output is kept, and what `tests.training.workers` notes of it.
    last: What is given to the last one besides.
    each: What is given to each besides.
    """

    def __init__(
        self, count: int, folder: Path, *arguments: object, last: Sequence[str] = (), each: Sequence[str] = (),
        prepare: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        folder.mkdir(exist_ok=True)
        started = len(list(folder.glob("*.txt")))
        addresses = free_addresses(count)
        self.said = [folder / f"{started + number}.txt" for number in range(count)]
        self.processes = []
        for number, said in enumerate(self.said):
            more = [*(last if number == count - 1 else ()), *each[number : number + 1]]
            self.processes.append(
                forked.start(
                    [*map(str, arguments), *more], said, prepare or partial(note, str(folder / "worker")),
                    _environment(addresses, number),
                )
            )  # fmt: skip

    def finish(self, *statuses: int) -> list[str]:
        """What each has said when all have ended, and that with `statuses`, or 0."""
        for process in self.processes:
            process.join(500)
        expected = list(statuses) or [0] * len(self.processes)
        said = self.texts()
        assert [process.exitcode for process in self.processes] == expected, "\n---\n".join(said)
        return said

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Until it holds, while every worker lives."""
        while not holds():
            assert all(process.is_alive() for process in self.processes), self.texts()
            time.sleep(0.01)

    def send(self, number: int, sent: signal.Signals) -> None:
        os.kill(self.processes[number].pid, sent)

    def kill(self) -> None:
        """What a scheduler does with the rest of a job that lost a worker."""
        for process in self.processes:
            process.kill()
            process.join()

    def texts(self) -> list[str]:
        return [said.read_text() if said.exists() else "" for said in self.said]


def _environment(addresses: list[str], number: int) -> dict[str, str]:
    if len(addresses) == 1:
        return {}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}})}


def arrays(folder: Path) -> list[dict[str, np.ndarray]]:
    """What the workers of that folder noted."""
    return [dict(np.load(file)) for file in sorted(folder.glob("worker.*.npz"))]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, np.ndarray]]:
    """The command without its folder, and what one process ends with."""
    folder = tmp_path_factory.mktemp("one")
    # Photographs: of a digit's even background, max pooling's ties would turn rounding into other weights.
    data = write_photographs(folder / "photographs", (20, 20, 20), size=(40, 40))
    begin = ["train", "--model=few", "--size=32", f"--data={data}", *SETTINGS]
    Workers(1, folder / "one", *begin, f"--out={folder / 'run'}").finish()
    [alone] = arrays(folder / "one")
    return begin, alone


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
    said = Workers(2, tmp_path / "two", *begin, f"--out={tmp_path / 'run'}").finish()
    workers = arrays(tmp_path / "two")
    for worker in workers:
        np.testing.assert_allclose(worker["losses"], expected["losses"], rtol=1e-5)
    require_equal(workers, expected)
    assert "epoch 2/2" in said[0]
    assert "epoch" not in said[1]
    assert "held-out accuracy" in said[0]
    assert "held-out" not in said[1]
    assert sorted(path.name for path in (tmp_path / "run").glob("*.keras")) == ["best.keras", "model.keras"]


@pytest.mark.slow
def test_two_workers_with_several_labels_a_picture_are_one(tmp_path: Path) -> None:
    data = write_photographs(tmp_path / "photographs", (20, 20, 20), size=(40, 40))
    files = sorted(data.rglob("*.jpg"))
    rows = [f"{file.relative_to(tmp_path)},{number % 2},{number // 2 % 2}" for number, file in enumerate(files)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,even,high", *rows]))
    begin = ["train", "--model=few", "--size=32", f"--data={table}", *SETTINGS]
    Workers(1, tmp_path / "one", *begin, f"--out={tmp_path / 'alone'}").finish()
    said = Workers(2, tmp_path / "two", *begin, f"--out={tmp_path / 'run'}").finish()
    workers = arrays(tmp_path / "two")
    require_equal(workers, *arrays(tmp_path / "one"))
    reports = [json.loads((tmp_path / run / "report.json").read_text()) for run in ("alone", "run")]
    assert reports[0]["mean_average_precision"] == pytest.approx(reports[1]["mean_average_precision"])
    assert "mean average precision" in said[0]


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_the_run_goes_on_from_the_last_checkpoint(
    one: tuple[list[str], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    begin, expected = one
    run = tmp_path / "run"
    workers = Workers(2, tmp_path / "two", *begin, f"--out={run}")
    try:
        workers.wait_until(lambda: len(list(run.glob("checkpoints/step-*.ckpt"))) >= 2)
        workers.send(1, signal.SIGKILL)
    finally:
        workers.kill()
    said = Workers(2, tmp_path / "two", "train", "--resume", run).finish()
    assert "resuming from step-" in said[0]
    require_equal(arrays(tmp_path / "two"), expected)


@pytest.mark.slow
def test_workers_that_were_told_otherwise_all_end_at_once(
    one: tuple[list[str], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    begin, _ = one
    run = tmp_path / "run"
    said = Workers(2, tmp_path / "two", *begin, f"--out={run}", last=["--set=l2=1e-3"]).finish(1, 1)
    assert all("the workers do not agree on the settings" in text for text in said), said
    assert not run.exists()


@pytest.mark.slow
def test_workers_of_other_classes_end_before_they_build(tmp_path: Path) -> None:
    """Their networks would have other shapes, and TensorFlow would end with a trace."""
    data = write_digits(tmp_path / "three"), write_digits(tmp_path / "four", classes=4)
    begin = ("train", "--model=few", "--size=32", f"--out={tmp_path / 'run'}")
    each = [f"--data={folder}" for folder in data]
    said = Workers(2, tmp_path / "said", *begin, each=each).finish(1, 1)
    assert all("the workers do not agree on the pictures and the settings" in text for text in said), said
    assert not any("Traceback" in text for text in said), said


@pytest.mark.slow
def test_a_slow_worker_is_waited_for(one: tuple[list[str], dict[str, np.ndarray]], tmp_path: Path) -> None:
    begin, expected = one
    checkpoints = tmp_path / "run" / "checkpoints"
    workers = Workers(2, tmp_path / "two", *begin, f"--out={tmp_path / 'run'}")
    try:
        for number in (0, 1):
            workers.wait_until(lambda number=number: len(list(checkpoints.glob("step-*.ckpt"))) > number)  # type: ignore[misc]
            workers.send(number, signal.SIGSTOP)
            time.sleep(3)  # TensorFlow takes one that stands still for 10 s for dead
            workers.send(number, signal.SIGCONT)
        workers.finish()
    finally:
        workers.kill()
    require_equal(arrays(tmp_path / "two"), expected)


TOO_MANY = "4 of 48 pictures cannot be read, max_corrupt allows 3: "
DAMAGED = ("0/003.png", "1/004.png", "1/011.png", "2/007.png")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A command on digits, of which some are cut short, with many more of them held out."""
    folder = tmp_path_factory.mktemp("damaged")
    data, held_out = write_digits(folder / "digits", per_class=16), write_digits(folder / "val", per_class=170)
    for name in DAMAGED:
        path = data / name
        path.write_bytes(path.read_bytes()[:90])
    begin = ["train", "--model=few", "--size=32", f"--data={data}", f"--val={held_out}"]
    # Most of the training pictures are among the held-out ones too.
    settings = ["--epochs=1", "--batch-size=4", "--set=checkpoint_minutes=0", "--set=keep=100", "--set=copies=allow"]
    return [*begin, *settings, "--seed=2"]  # by which each of two workers comes by two of the damaged ones


def names(unreadable: list[list[str]]) -> list[str]:
    return ["/".join(Path(name).parts[-2:]) for name, _ in unreadable]


@pytest.mark.slow
def test_asked_during_an_evaluation_the_workers_stop_after_the_same_batch(damaged: list[str], tmp_path: Path) -> None:
    """One of them is asked, and not the chief; what either could not read is known when the run is gone on with."""
    run = tmp_path / "run"
    workers = Workers(2, tmp_path / "two", *damaged, "--set=max_corrupt=4", f"--out={run}")
    try:
        # The last step's: the evaluation is next.
        workers.wait_until((run / "checkpoints" / "step-00000012.ckpt").exists)
        workers.send(1, signal.SIGTERM)
        said = workers.finish(130, 130)
    finally:
        workers.kill()
    assert "interrupted after 0 of 1 epoch and 12 of 12 steps" in said[0]
    assert not (run / "history.csv").exists()
    checkpoint = Checkpoints(run / "checkpoints").newest().checkpoint or pytest.fail("no checkpoint is whole")
    assert names(checkpoint.meta["position"]["unreadable"]) == list(DAMAGED)

    said = Workers(2, tmp_path / "two", "train", "--resume", run).finish()
    assert "resuming from step-00000012" in said[0]
    report = json.loads((run / "report.json").read_text())
    assert names(report["unreadable"]) == list(DAMAGED)
    assert sum(score["support"] for score in report["classes"]) == 510


@pytest.mark.slow
def test_max_corrupt_bounds_what_all_workers_found_together(damaged: list[str], tmp_path: Path) -> None:
    """Each finds two, fewer than the bound; both end with the same error after the epoch."""
    run = tmp_path / "run"
    said = Workers(2, tmp_path / "two", *damaged, "--set=max_corrupt=3", f"--out={run}").finish(1, 1)
    for text in said:
        assert TOO_MANY in text
        assert "Traceback" not in text
    assert not (run / "history.csv").exists()


@pytest.mark.slow
def test_a_worker_that_ends_by_itself_is_told_by_the_other(damaged: list[str], tmp_path: Path) -> None:
    """By this seed the last one comes by all that are damaged, and ends within the epoch."""
    run = tmp_path / "run"
    said = Workers(2, tmp_path / "two", *damaged, "--set=max_corrupt=3", f"--out={run}", "--seed=0").finish(1, 1)
    assert TOO_MANY in said[1]
    assert "another worker has ended, and this one cannot continue without it" in said[0]
    assert f"train --resume {run}" in said[0]
    assert not any("Traceback" in text for text in said)


def fit_with_keras() -> None:
    """Keras's own training under the strategy; what it says then is all that the process has to do."""
    import keras
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.compile("sgd", "mse")
    try:
        model.fit(np.zeros((8, 4)), np.zeros((8, 2)), batch_size=4, verbose=0)
    except Exception as error:
        print(error)
        sys.exit(1)
    print("FIT WORKS")


@pytest.mark.slow
def test_kerass_own_fit_still_fails_under_several_workers(tmp_path: Path) -> None:
    """The day this fails, `fit` has become an alternative to a loop of our own: keras issue 20585."""
    said = Workers(2, tmp_path / "said", prepare=fit_with_keras).finish(1, 1)
    assert not any("FIT WORKS" in text for text in said), said
    assert any("unsupported type" in text or "Invalid reduction" in text or "PerReplica" in text for text in said), said

"""Whole runs of the tiny network through the command line, in processes of their own."""

import csv
import json
import os
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inception_resnet_keras import networks
from inception_resnet_keras.cli import main
from inception_resnet_keras.data.labelled import Source
from inception_resnet_keras.data.splits import read_split
from inception_resnet_keras.models.model_file import load_model
from inception_resnet_keras.training import epochs
from inception_resnet_keras.training.checkpoints import Checkpoints
from inception_resnet_keras.training.run import RunWriter
from inception_resnet_keras.training.settings import ADDED_LATER
from inception_resnet_keras.weights.runs import MEMBER

from .. import forked
from ..pictures import write_digits
from ..tiny import FEW, KNOWN, TINY

ROOT = Path(__file__).parents[2]

LEFT_IN_A_RUN = {
    ".writer.lock",
    "model.keras",
    "best.keras",
    "history.csv",
    "split.csv",
    "config.json",
    "predictions.csv",
    "report.html",
    "report.json",
    "learning_curves.png",
    "confusion_matrix.png",
    "mistakes.png",
}


def train_arguments(data: Path, out: Path, *more: object, model: str = FEW.name) -> list[str]:
    return ["train", f"--model={model}", "--size=32", f"--data={data}", f"--out={out}", *map(str, more)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three digits, one picture of them corrupt, one truncated."""
    folder = write_digits(tmp_path_factory.mktemp("data") / "three digits")
    (folder / "0" / "003.png").write_text("corrupt")
    truncated = folder / "1" / "004.png"
    truncated.write_bytes(truncated.read_bytes()[:90])
    return folder


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("runs") / "finished"
    arguments = train_arguments(data, out, "--epochs=30", "--batch-size=16", "--learning-rate=0.02", model=TINY.name)
    said = out.with_name("said.txt")
    return out, forked.finish(forked.start(arguments, said), said)


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as file:
        return list(csv.DictReader(file))


def require_events_are_the_history(run: Path) -> None:
    """TensorBoard's own reader finds each row of history.csv once, in order, and nothing else.

    Figures of the held-out pictures have the tags of the training ones, in a folder of their own.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    rows, names = history(run), set()
    for folder, prefix in (("train", ""), ("validation", "val_")):
        events = EventAccumulator(str(run / "tensorboard" / folder), size_guidance={"tensors": 0})
        events.Reload()
        for tag in events.Tags()["tensors"]:
            found, name = events.Tensors(tag), prefix + tag
            names.add(name)
            assert [event.step for event in found] == [int(row["epoch"]) for row in rows]
            values = [float(tensor_util.make_ndarray(event.tensor_proto)) for event in found]
            assert values == pytest.approx([float(row[name]) for row in rows], rel=1e-6)
    assert names == set(rows[0]) - {"epoch"}


def test_a_run_leaves_what_is_promised(finished: tuple[Path, str]) -> None:
    run, said = finished
    assert {path.name for path in run.iterdir()} == LEFT_IN_A_RUN
    assert [row["epoch"] for row in history(run)] == [str(epoch) for epoch in range(1, 31)]
    report = json.loads((run / "report.json").read_text())
    assert report["accuracy"] >= 0.8  # three digits, far beyond the third that chance gives
    assert f"held-out accuracy {report['accuracy']:.2%}" in said
    # A fifth of each class is held out, 12 pictures, and the truncated one is among them.
    assert sum(map(sum, report["confusion"])) == sum(score["support"] for score in report["classes"]) == 11
    assert "batch norm momentum 0.8, which suits 90 steps" in said


def test_a_run_leaves_its_split_and_is_evaluated_on_it(
    finished: tuple[Path, str], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = finished
    split = read_split(run / "split.csv")
    assert Counter(split.parts) == {"train": 47, "val": 12}  # of 60, one has no readable header
    assert {path for path, digest in zip(split.paths, split.hashes, strict=True) if not digest} == {
        str(data / "1" / "004.png")
    }
    status, _, error = here(capsys, ["evaluate", str(run), "--out", str(tmp_path / "evaluation")])
    assert status == 0, error
    evaluated = json.loads((tmp_path / "evaluation" / "report.json").read_text())
    assert evaluated["note"] == f"these are the pictures of {data} that {run} held out"
    assert [name for name, _ in evaluated["left_out"]] == [str(data / "1" / "004.png")]
    accuracy = json.loads((run / "report.json").read_text())["accuracy"]
    assert (evaluated["pictures"], evaluated["models"][0]["figures"]["top1"]) == (11, pytest.approx(accuracy))


def test_groups_and_a_test_part_that_is_seen_once(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(data.glob("*/*.png"))
    rows = [f"{path},{path.parent.name},p{index % 13}" for index, path in enumerate(files)]
    manifest, run = tmp_path / "set.csv", tmp_path / "run"
    manifest.write_text("\n".join(["path,label,patient", *rows]))
    evaluated: list[tuple[str, int]] = []
    evaluate = epochs.Trainer._evaluate

    def noted(self: epochs.Trainer, source: Source, batches: Any, part: str) -> Any:
        evaluated.append((part, self.session.position.epoch))
        return evaluate(self, source, batches, part)

    monkeypatch.setattr(epochs.Trainer, "_evaluate", noted)
    more = ("--epochs=3", "--batch-size=16", "--group=patient", "--test-fraction=0.2")
    status, said, error = here(capsys, train_arguments(manifest, run, *more))
    assert status == 0, error
    assert evaluated == [("val", 0), ("val", 1), ("val", 2), ("test", 3)]
    split = read_split(run / "split.csv")
    by_group: dict[str, set[str]] = {}
    for group, part in zip(split.groups, split.parts, strict=True):
        by_group.setdefault(group, set()).add(part)
    assert len(by_group) == 13
    assert all(len(parts) == 1 for parts in by_group.values())
    assert set(split.parts) == {"train", "val", "test"}
    report = json.loads((run / "report.json").read_text())
    tested = sum(score["support"] for score in report["test"]["classes"])
    assert f"used once: accuracy {report['test']['accuracy']:.2%} (" in said
    assert f"test on {tested} pictures, used once" in said

    status, _, error = here(capsys, ["evaluate", str(run), "--out", str(tmp_path / "evaluation")])
    assert status == 0, error
    found = json.loads((tmp_path / "evaluation" / "report.json").read_text())
    assert found["note"].startswith(f"these are the test pictures of {manifest}")
    assert found["pictures"] == tested
    assert found["models"][0]["figures"]["top1"] == pytest.approx(report["test"]["accuracy"])
    (run / "split.csv").unlink()
    status, _, error = here(capsys, ["evaluate", str(run)])
    assert status == 1
    assert "are not known" in error


def test_unreadable_pictures_are_left_out_and_named(finished: tuple[Path, str], data: Path) -> None:
    run, said = finished
    listed = {Path(path).name for path, _ in json.loads((run / "report.json").read_text())["unreadable"]}
    assert listed == {"003.png", "004.png"}
    assert f"left out: {data / '0' / '003.png'}: " in said


def test_a_saved_model_needs_nothing_else_to_predict(finished: tuple[Path, str], data: Path, tmp_path: Path) -> None:
    run, _ = finished
    alone = tmp_path / "renamed.keras"
    alone.write_bytes((run / "model.keras").read_bytes())
    given = map(str, (alone, data / "2", data / "0" / "003.png"))
    command = [sys.executable, "-m", "tests.tiny_cli", "predict", *given]
    done = subprocess.run([*command, "--top=2", "--json"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    predictions = json.loads(done.stdout)
    assert len(predictions) == 21
    assert predictions[-1]["error"]
    assert all(len(row["top"]) == 2 for row in predictions[:-1])
    right = sum(row["top"][0][0] == "2" for row in predictions[:-1])
    assert right >= 16

    model, card = load_model(alone)
    assert (card.classes, card.size, card.network) == (["0", "1", "2"], (32, 32), "tiny")
    pixels = np.asarray(Image.open(data / "2" / "000.png").convert("RGB").resize((32, 32), 2), np.float32)
    expected = float(np.max(model(pixels[None])))
    assert predictions[0]["top"][0][1] == pytest.approx(expected, abs=1e-5)
    assert not load_model(alone, compile=True)[0].compiled  # the optimizer's state is not carried along


def test_a_table_and_an_error_when_nothing_can_be_predicted(
    finished: tuple[Path, str], data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = finished
    monkeypatch.setenv("COLUMNS", "300")
    status, said, _ = here(capsys, ["predict", str(run), str(data / "0" / "000.png")])
    assert status == 0
    assert str(data / "0" / "000.png") in said
    assert "probability" in said
    assert here(capsys, ["predict", str(run), str(data / "0" / "003.png")])[0] == 1


def test_a_run_is_never_written_over(
    finished: tuple[Path, str], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = finished
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    status, _, error = here(capsys, train_arguments(data, run, "--epochs=1"))
    assert status == 1
    assert f"{run}: already contains a run" in error
    status, _, error = here(capsys, ["train", "--resume", str(run)])
    assert status == 1
    assert "there is nothing to resume" in error
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_finished_run_that_lost_its_history_is_not_trained_again(
    finished: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished[0], tmp_path / "run"))
    model = (run / "model.keras").read_bytes()
    lines = (run / "history.csv").read_text().splitlines(keepends=True)
    for rest in (None, lines[:1], lines[:3], [*lines, "1,2,3\n"], [*lines[:-1], lines[-1].strip() + ",5,6\n"]):
        (run / "history.csv").unlink(missing_ok=True)
        if rest is not None:
            (run / "history.csv").write_text("".join(rest))
        status, _, error = here(capsys, ["train", "--resume", str(run)])
        assert status == 1
        assert "history.csv" in error or "there is nothing to resume" in error
        assert len(error.strip().splitlines()) == 1
        assert (run / "model.keras").read_bytes() == model


@pytest.mark.parametrize(
    "damage", [b"\xff\xfe{", b"[" * 100_000, b'{"config": 3}', b'{"config": {"epochs": []}}', b"null"]
)
def test_a_damaged_configuration_is_a_line(
    damage: bytes, finished: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_bytes(damage)
    status, _, error = here(capsys, ["train", "--resume", str(tmp_path)])
    assert status == 1
    assert f"{tmp_path / 'config.json'}: is damaged or from another program" in error
    assert len(error.strip().splitlines()) == 1


def test_a_run_has_one_writer(data: Path, tmp_path: Path) -> None:
    """Two trainings into one folder at once; and a second process that would go on with a run that is being trained."""
    run, said = tmp_path / "run", [tmp_path / f"{number}.txt" for number in range(4)]
    arguments = train_arguments(data, run, "--epochs=400")
    both = [forked.start(arguments, file) for file in said[:2]]
    until = time.monotonic() + forked.PATIENCE
    while all(process.is_alive() for process in both):
        assert time.monotonic() < until
        time.sleep(0.05)
    loser = next(number for number, process in enumerate(both) if not process.is_alive())
    both[loser].join()
    assert both[loser].exitcode == 1, said[loser].read_text()
    told = " ".join(said[loser].read_text().split())
    assert any(text in told for text in ("writes in it", "already contains a run", "is not an empty folder"))
    winner = both[1 - loser]
    forked.wait_for(winner, said[1 - loser], "epoch 2/400")
    error = " ".join(forked.finish(forked.start(["train", "--resume", str(run)], said[2]), said[2], status=1).split())
    assert f"process {winner.pid} on host '{platform.node()}' writes in it" in error
    winner.kill()
    winner.join()
    config = json.loads((run / "config.json").read_text())
    config["config"]["epochs"] = len(history(run)) + 2
    (run / "config.json").write_text(json.dumps(config))
    forked.finish(forked.start(["train", "--resume", str(run)], said[3]), said[3])
    assert {path.name for path in run.iterdir()} == LEFT_IN_A_RUN


def test_a_folder_that_holds_other_things_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    status, _, error = here(capsys, train_arguments(data, tmp_path, "--epochs=1"))
    assert status == 1
    assert "is not an empty folder" in error
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_bad_data_leaves_no_folder_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_digits(tmp_path / "one class", classes=1)
    status, _, error = here(capsys, train_arguments(tmp_path / "one class", tmp_path / "run"))
    assert status == 1
    assert "one class only" in error
    assert not (tmp_path / "run").exists()


def here(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str, str]:
    """The same in this process, where nothing is killed: status, and what it said on either stream."""
    with pytest.MonkeyPatch.context() as patch:
        for name, variants in KNOWN.items():
            patch.setitem(networks.NETWORKS, name, variants)
        status = main(arguments)
    return (status, *capsys.readouterr())


def start_and_wait_for(text: str, arguments: list[str], said: Path) -> Any:
    process = forked.start(arguments, said)
    forked.wait_for(process, said, text)
    return process


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_a_run_keeps_what_was_trained_and_says_how_to_go_on(
    data: Path, tmp_path: Path, asked: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    run, file = tmp_path / "run", tmp_path / "said.txt"
    process = start_and_wait_for("epoch 2/400", train_arguments(data, run, "--epochs=400", "--tensorboard"), file)
    os.kill(process.pid, asked)
    said = forked.finish(process, file, status=130)
    assert f"train --resume {run}" in said
    assert "Traceback" not in said
    ended = len(history(run))
    assert 2 <= ended < 400
    checkpoint = Checkpoints(run / "checkpoints").newest().checkpoint or pytest.fail("no checkpoint is whole")
    assert checkpoint.meta["position"]["step"] >= ended * 2
    assert f"and {checkpoint.meta['position']['batch']} of 2 steps" in said

    split = (run / "split.csv").stat()
    config = json.loads((run / "config.json").read_text())
    config["config"]["epochs"] = ended + 2
    for name in ADDED_LATER:  # as an older version left it
        del config["config"][name]
    (run / "config.json").write_text(json.dumps(config))
    status, told, error = here(capsys, ["train", "--resume", str(run)])
    assert status == 0, error
    said = " ".join(told.split())
    assert "was written by an older version without some settings; they are set as it behaved: " in said
    assert 'augmentation = "shift", area = [0.05, 1.0]' in said
    assert set(json.loads((run / "config.json").read_text())["config"]) >= set(ADDED_LATER)
    assert [row["epoch"] for row in history(run)] == [str(epoch) for epoch in range(1, ended + 3)]
    assert {path.name for path in run.iterdir()} == {*LEFT_IN_A_RUN, "tensorboard"}
    assert (run / "split.csv").stat().st_ino == split.st_ino  # not hashed again
    require_events_are_the_history(run)


def test_a_killed_run_leaves_a_whole_model(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start_and_wait_for("epoch 3/400", train_arguments(data, run, "--epochs=400"), tmp_path / "said.txt")
    time.sleep(random.uniform(0, 0.2))
    process.kill()
    process.join()
    with zipfile.ZipFile(run / "model.keras") as archive:
        assert archive.testzip() is None
        assert MEMBER in archive.namelist()
    load_model(run / "model.keras")


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on a file's size")
def test_a_disk_that_refuses_a_save_is_told_and_nothing_is_half_written(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "said.txt"
    process = forked.start(train_arguments(data, tmp_path / "run", "--epochs=1"), file, limit_files)
    said = forked.finish(process, file, status=1)
    assert "could not be saved" in said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.keras"))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_too_little_space_is_told_before_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one thing here that is not real is how much the disk says is free."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    status, _, error = here(capsys, train_arguments(data, tmp_path / "run"))
    assert status == 1
    assert "but saving this model safely needs" in error
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_counts_every_step_that_its_weights_took(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where steps are started and not waited for, and a checkpoint becomes due at any moment between them."""
    due, save = cycle((False, True, False)), Checkpoints.save
    saved: list[tuple[int, int, int]] = []

    def noted(self: Checkpoints, step: int, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> Path:
        [taken] = [int(array) for key, array in arrays.items() if key.endswith("/iteration")]
        saved.append((step, meta["position"]["step"], taken))
        return save(self, step, arrays, meta)

    monkeypatch.setattr(epochs, "SHOWN_EVERY", float("inf"))
    monkeypatch.setattr(RunWriter, "checkpoint_is_due", lambda self: next(due))
    monkeypatch.setattr(Checkpoints, "save", noted)
    status, _, error = here(capsys, train_arguments(data, tmp_path / "run", "--epochs=2", "--batch-size=4"))
    assert status == 0, error
    assert len(saved) > 4
    assert all(step == counted == taken for step, counted, taken in saved), saved


def test_a_loss_that_is_no_longer_finite_stops_the_run_before_it_harms_and_is_explained(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At this rate the penalty's own step multiplies every kernel by -179: it overflows after some steps."""
    run = tmp_path / "run"
    blow_up = ["--learning-rate=900", "--set=l2=0.1", "--set=optimizer=sgd", "--set=momentum=0", "--set=warmup=0"]
    saving = ["--epochs=30", "--batch-size=16", "--set=checkpoint_minutes=0"]
    status, _, error = here(capsys, train_arguments(data, run, *blow_up, *saving))
    assert status == 1
    reasons = (
        "weights are not finite; the first is",
        "is not finite, so it was not taken",
        "computes NaN or infinity for",
    )
    assert any(text in error for text in reasons), error
    found = Checkpoints(run / "checkpoints").newest()
    assert found.checkpoint
    assert f"The last good checkpoint is {found.path}" in error
    arrays = found.checkpoint.arrays
    assert all(np.isfinite(array).all() for key, array in arrays.items() if key.startswith("model/"))
    assert "lower learning rate than 900" in error


def test_a_step_that_cannot_be_taken_is_diagnosed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, error = here(capsys, train_arguments(data, tmp_path / "run", "--set=l2=3e38"))
    assert status == 1
    assert "the loss of epoch 1, step 1 is not finite, so it was not taken. losses: classifier 1." in error
    assert "penalty inf" in error
    assert "gradients are not finite" in error
    assert "No checkpoint was written before" in error
    assert not (tmp_path / "run").exists()


def test_a_truncated_newest_checkpoint_is_passed_over_and_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    started = train_arguments(data, run, "--epochs=400", "--set=checkpoint_minutes=0")
    process = start_and_wait_for("epoch 2/400", started, tmp_path / "said.txt")
    os.kill(process.pid, signal.SIGINT)
    forked.finish(process, tmp_path / "said.txt", status=130)
    newest, before = Checkpoints(run / "checkpoints").paths()
    newest.write_bytes(newest.read_bytes()[:-1000])
    split = (run / "split.csv").read_text()
    (run / "split.csv").unlink()  # as an older version left it
    config = json.loads((run / "config.json").read_text())
    config["config"]["epochs"] = len(history(run)) + 1
    (run / "config.json").write_text(json.dumps(config))
    status, said, error = here(capsys, ["train", "--resume", str(run), "--accumulate=2"])
    assert status == 0, error
    assert json.loads((run / "config.json").read_text())["config"]["accumulate"] == 2
    assert f"{newest}: its end is missing; it is skipped" in said
    assert f"resuming from {before.name}" in said
    assert (run / "split.csv").read_text() == split

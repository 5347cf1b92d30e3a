"""Runs whose files were lost, damaged, locked or mixed with another run's: noticed, and never written over."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from inception_resnet_keras import networks
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.images import read_image
from inception_resnet_keras.models.model_file import load_model
from inception_resnet_keras.models.open import open_model
from inception_resnet_keras.training import train as training
from inception_resnet_keras.weights.inspect import inspect_checkpoint
from inception_resnet_keras.weights.load import load_weights

from ..permissions import as_other_users
from ..pictures import write_digits
from ..tiny import FEW, KNOWN


@pytest.fixture(scope="module", autouse=True)
def small_networks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, variants in KNOWN.items():
            patch.setitem(networks.NETWORKS, name, variants)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data") / "digits")


def stopped_before_its_report(run: Path, data: Path, *settings: str) -> Path:
    """A run that Ctrl-C met after its last epoch: its models are saved, and its checkpoints are not removed yet."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    begin = ["train", f"--model={FEW.name}", "--size=32", "--epochs=2", "--batch-size=16", "--set=average=0.9"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "write_report", interrupted)
        assert main([*begin, f"--data={data}", f"--out={run}", *settings]) == 130
    return run


@pytest.fixture(scope="module")
def one(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stopped_before_its_report(tmp_path_factory.mktemp("runs") / "one", data)


@pytest.fixture(scope="module")
def other(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stopped_before_its_report(tmp_path_factory.mktemp("runs") / "other", data, "--seed=7")


@pytest.fixture
def run(one: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(one, tmp_path / "run"))


def contents(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".writer.lock"}


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    return error


def test_the_report_of_a_run_that_was_stopped_before_it_is_of_its_model(
    run: Path, one: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing but the checkpoints is whole, the clock runs backwards, and the newest files have the oldest times."""
    ticks = count()
    monkeypatch.setattr(time, "time", lambda: 2e9 - 60 * next(ticks))
    for age, path in enumerate(sorted((run / "checkpoints").iterdir())):
        os.utime(path, (1e9 - 1000 * age,) * 2)
    (run / "model.keras").write_bytes((run / "model.keras").read_bytes()[:-500])
    (run / "history.csv").write_bytes(b"\xff\0")
    (run / "split.csv").write_text("path,label\n")
    assert main(["train", "--resume", str(run)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "resuming from step-00000006.ckpt" in said
    assert f"{run / 'split.csv'}: is damaged or lists other pictures; it is written again" in said
    for name in ("history.csv", "split.csv"):
        assert (run / name).read_bytes() == (one / name).read_bytes()
    for mine, theirs in zip(*(load_model(each / "model.keras")[0].weights for each in (run, one)), strict=True):
        assert np.array_equal(mine.numpy(), theirs.numpy())
    # The report is of the averaged weights, as the model is.
    opened = open_model(str(run))
    [mistake, *_] = json.loads((run / "report.json").read_text())["mistakes"]
    picture = read_image(Path(mistake["name"]), (32, 32))
    assert opened.run(picture[None].astype(np.float32)).max() == pytest.approx(mistake["probability"], abs=1e-5)
    assert not (run / "checkpoints").exists()
    assert "there is nothing to resume" in refused(capsys, "train", "--resume", run)


def take_from(other: Path, run: Path, name: str) -> None:
    if (run / name).is_dir():
        shutil.rmtree(run / name)
        shutil.copytree(other / name, run / name)
    else:
        shutil.copy(other / name, run / name)


@pytest.mark.parametrize("name", ["config.json", "model.keras", "best.keras", "checkpoints"])
def test_a_run_with_files_of_another_is_not_resumed(
    run: Path, other: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    take_from(other, run, name)
    before = contents(run)
    assert "another run than" in refused(capsys, "train", "--resume", run)
    assert contents(run) == before


def test_a_renamed_checkpoint_is_not_taken_for_a_newer_one(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = run / "checkpoints" / "step-00000006.ckpt"
    newest.rename(newest.with_name("step-00000099.ckpt"))
    assert "step-00000099.ckpt: contains step 6, so it was renamed" in refused(capsys, "train", "--resume", run)


def test_a_run_with_files_of_another_is_not_evaluated_exported_or_used(
    run: Path, one: Path, other: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run.with_name("out")
    evaluate = ("evaluate", run, "--out", out)
    export = ("export", run, "--format=onnx", "--out", run.with_name("m.onnx"))
    predict = ("predict", run, data / "0" / "000.png")
    explain = ("explain", run, data / "0" / "000.png", "--out", out)
    convert = ("convert", run, run.with_name("c.keras"))
    for name in ("model.keras", "config.json"):
        take_from(other, run, name)
        for arguments in (evaluate, (*evaluate, "--data", data), export, predict, explain, convert, ("inspect", run)):
            assert "another run than" in refused(capsys, *arguments)
        for take in (load_model, inspect_checkpoint):
            with pytest.raises(InputError, match="another run than"):
                take(run)
        with pytest.raises(InputError, match="another run than"):
            load_weights(load_model(one)[0], run)
        shutil.copy(one / name, run / name)
    lines = (one / "split.csv").read_text().splitlines(keepends=True)
    for text in ((other / "split.csv").read_text(), "".join(lines[:-2])):  # another's; cut at the end of a line
        (run / "split.csv").write_text(text)
        for arguments in (evaluate, (*evaluate, "--data", data), ("evaluate", run / "best.keras", "--out", out)):
            assert "split.csv: has other rows than the run wrote" in refused(capsys, *arguments)
    assert not out.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's capabilities")
def test_what_another_user_may_not_read_or_write_is_named(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resume, evaluate = ("train", "--resume", run), ("evaluate", run, "--out", tmp_path / "out")
    checkpoints = run / "checkpoints"
    for path, mode, arguments, says in (
        (run / "model.keras", 0, evaluate, f"{run / 'model.keras'}: Permission denied"),
        (run / "config.json", 0, evaluate, f"{run / 'config.json'}: Permission denied"),
        (run / "config.json", 0, resume, f"{run / 'config.json'}: Permission denied"),
        (run / "split.csv", 0, evaluate, f"{run / 'split.csv'}: Permission denied"),
        (run, 0o555, resume, f"{run}: cannot be written to (Permission denied)"),
        (checkpoints, 0, resume, f"{checkpoints}: Permission denied"),
        (checkpoints / "step-00000006.ckpt", 0, resume, "step-00000006.ckpt: cannot be read (Permission denied)"),
    ):
        before, kept = path.stat().st_mode, contents(run)
        path.chmod(mode)
        with as_other_users():
            assert says in refused(capsys, *arguments)
        path.chmod(before)
        assert contents(run) == kept

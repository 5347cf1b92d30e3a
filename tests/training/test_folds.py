"""Cross-validation and repeated seeds: several runs in one folder, which are resumed as one."""

import csv
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from inception_resnet_keras import networks, train
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.data.splits import read_split
from inception_resnet_keras.models.model_file import load_model
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.folds import find_study, is_finished
from inception_resnet_keras.training.run import RunFolder
from inception_resnet_keras.training.train import resume
from inception_resnet_keras.training.training_result import RepeatedResult

from .. import forked
from ..pictures import write_digits
from ..tiny import FEW

QUIET = Console(quiet=True)
SETTINGS: dict[str, Any] = {"model": "few", "size": 32, "batch_size": 16, "epochs": 2}
FLAGS = ("--model=few", "--size=32", "--batch-size=16", "--epochs=3", "--set=deterministic=true")


@pytest.fixture(autouse=True)
def _few_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, FEW.name, {FEW.variant: FEW})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data") / "digits", per_class=12)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_folds_hold_out_every_picture_once_and_pool_their_predictions(data: Path, tmp_path: Path) -> None:
    found = train(str(data), out=tmp_path / "folds", folds=3, test_fraction=0.2, console=QUIET, **SETTINGS)
    assert isinstance(found, RepeatedResult)
    assert [run.path.name for run in found.runs] == ["fold-1", "fold-2", "fold-3"]
    splits = [read_split(run.split) for run in found.runs]
    tested = {path for path, part in zip(splits[0].paths, splits[0].parts, strict=True) if part == "test"}
    assert len(tested) == 6
    held_out = [path for split in splits for path, part in zip(split.paths, split.parts, strict=True) if part == "val"]
    assert sorted(held_out) == sorted(set(open_source(data).names) - tested)

    pooled = rows(found.folder.path / "predictions.csv")
    assert [row["picture"] for row in pooled if row["fold"] == "fold-2"] == [
        path for path, part in zip(splits[1].paths, splits[1].parts, strict=True) if part == "val"
    ]
    assert sorted(row["picture"] for row in pooled) == sorted(held_out)
    correct = [row["true"] == row["predicted"] for row in pooled]
    assert all(row["true"] == Path(row["picture"]).parent.name for row in pooled)
    assert all(abs(sum(float(row[name]) for name in "012") - 1) < 1e-4 for row in pooled)
    assert found.report.accuracy == pytest.approx(np.mean(correct))
    stored = json.loads((found.folder.path / "report.json").read_text())
    of_runs = [json.loads(run.report.read_text()) for run in found.runs]
    accuracies = [report["accuracy"] for report in of_runs]
    assert stored["accuracy"] == found.report.accuracy
    assert stored["mean"]["accuracy"] == pytest.approx(np.mean(accuracies)) == found.figures.mean["accuracy"]
    assert stored["sd"]["accuracy"] == pytest.approx(np.std(accuracies, ddof=1)) == found.figures.sd["accuracy"]
    assert stored["test"]["mean"]["accuracy"] == pytest.approx(
        np.mean([report["test"]["accuracy"] for report in of_runs])
    )
    recalls = [score["recall"] for score in of_runs[0]["classes"]]
    assert stored["runs"]["fold-1"]["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert "by run" in repr(found)
    assert "fold-2" in found._repr_html_()
    with pytest.raises(InputError, match="all folds are trained; there is nothing to resume"):
        resume(found.folder.path, console=QUIET)


def test_seeds_repeat_a_run_on_the_same_held_out_pictures(data: Path, tmp_path: Path) -> None:
    found = train(str(data), out=tmp_path / "seeds", seeds=2, seed=7, console=QUIET, **{**SETTINGS, "epochs": 1})
    assert isinstance(found, RepeatedResult)
    assert [run.path.name for run in found.runs] == ["seed-7", "seed-8"]
    one, other = (read_split(run.split) for run in found.runs)
    assert (one.paths, one.parts) == (other.paths, other.parts)
    first, second = (load_model(run.model)[0].weights[0].numpy() for run in found.runs)
    assert not np.array_equal(first, second)
    assert len(rows(found.folder.path / "predictions.csv")) == 2 * one.parts.count("val")
    study = find_study(found.folder.path)
    assert study
    assert all(is_finished(study.run(name)) for name in study.configs)


@pytest.mark.slow
def test_interrupted_folds_are_resumed_as_a_whole(data: Path, tmp_path: Path) -> None:
    """Stopped and killed at random moments; what is finished is not trained again, and no bit differs at the end."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    begin = ["train", f"--data={data}", "--folds=3", *FLAGS]
    undisturbed = forked.start([*begin, f"--out={whole}"], tmp_path / "whole.txt")
    chance = random.Random(19)
    said, arguments = tmp_path / "said.txt", [*begin, f"--out={stopped}"]
    process = forked.start(arguments, said)
    forked.wait_for(process, said, "fold 2 of 3")
    time.sleep(chance.uniform(0, 3))
    process.kill()
    process.join()
    first = (stopped / "fold-1" / "model.keras").stat()
    again = tmp_path / "again.txt"
    process = forked.start(["train", "--resume", str(stopped)], again)
    forked.wait_for(process, again, "fold 1 of 3 is already trained")
    forked.wait_for(process, again, "epoch")

    os.kill(process.pid, signal.SIGTERM)
    process.join(forked.PATIENCE)
    assert process.exitcode, "it was stopped"
    assert f"--resume {stopped}" in again.read_text()
    assert f"--resume {stopped}/fold" not in again.read_text()
    last = tmp_path / "last.txt"
    forked.finish(forked.start(["train", "--resume", str(stopped)], last), last)
    forked.finish(undisturbed, tmp_path / "whole.txt")
    assert (stopped / "fold-1" / "model.keras").stat() == first
    assert {path.name for path in stopped.rglob("*")} == {path.name for path in whole.rglob("*")}
    for fold in (1, 2, 3):
        one, other = (load_model(place / f"fold-{fold}" / "model.keras")[0] for place in (whole, stopped))
        for mine, theirs in zip(one.weights, other.weights, strict=True):
            assert np.array_equal(mine.numpy(), theirs.numpy()), mine.path
    assert (whole / "predictions.csv").read_text() == (stopped / "predictions.csv").read_text()
    assert "standard deviation " in last.read_text()


def test_what_cannot_be_repeated_is_refused(data: Path, tmp_path: Path) -> None:
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"folds": 1}, "folds: got 1; it takes an integer of at least 2"),
        ({"folds": 3, "fold": 4}, "fold: got 4; it takes 0 for all folds, or one of the 3"),
        ({"folds": 3, "seeds": 2}, "seeds: got 2; it takes 0 with folds"),
        ({"seeds": 2, "strategy": "multiworker"}, "strategy: got 'multiworker'; it takes auto"),
        ({"folds": 3, "val": str(data)}, "folds: got 3; it takes 0 with val"),
    )
    for settings, says in wrong:
        with pytest.raises(InputError, match=says):
            TrainConfig(data=str(data), **settings)
    out = tmp_path / "folds"
    with pytest.raises(InputError, match="folds: got 40; it takes at most 12"):
        train(str(data), out=out, folds=40, console=QUIET, **SETTINGS)
    assert not out.exists()  # nothing was trained
    out.mkdir()
    (out / "folds.json").write_text("{")
    with pytest.raises(InputError, match=r"folds\.json: is damaged"):
        resume(out, console=QUIET)
    assert RunFolder(out / "fold-1").study == out

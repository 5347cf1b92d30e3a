"""A run is evaluated on what it was not trained on."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from inception_resnet_keras.cli import main
from inception_resnet_keras.data.sources import held_out_split, open_source
from inception_resnet_keras.errors import InputError
from inception_resnet_keras.evaluation.evaluate import evaluate
from inception_resnet_keras.evaluation.held_out import choose
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.run import RunFolder
from tests.evaluation.models import write_model
from tests.pictures import write_digits

SEED = 5


def write_run(path: Path, model: Path, **config: Any) -> str:
    """As `train` leaves one, but for the training."""
    path.mkdir()
    shutil.copy(model, path / "model.keras")
    RunFolder(path).write_config(TrainConfig(**config).anywhere(), {})
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.keras")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("pictures") / "digits")


def pictures(folder: Path) -> set[str]:
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return {row["picture"] for row in csv.DictReader(file)}


def test_the_fifth_that_a_run_held_out_is_evaluated(
    model: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", model, data=str(digits), seed=SEED)
    wanted = set(held_out_split(open_source(digits), SEED)[1].names)
    assert len(wanted) == 12
    assert main(["evaluate", run, "--data", str(digits), "--out", str(tmp_path / "given")]) == 0
    assert "held out: a fifth of each class" in " ".join(capsys.readouterr().out.split())
    assert main(["evaluate", run, "--json", "--out", str(tmp_path / "left out")]) == 0
    captured = capsys.readouterr()
    assert "held out: a fifth of each class" in " ".join(captured.err.split())
    assert json.loads(captured.out)["pictures"] == 12
    for folder in ("given", "left out"):
        assert pictures(tmp_path / folder) == wanted
        assert "held out" in json.loads((tmp_path / folder / "report.json").read_text())["note"]


def test_what_is_evaluated_is_told(model: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = write_digits(tmp_path / "other", per_class=2)
    monkeypatch.chdir(digits.parent)
    one = write_run(tmp_path / "one", model, data="digits", seed=1)
    two = write_run(tmp_path / "two", model, data=str(digits), seed=2)
    whole = write_run(tmp_path / "whole", model, data=str(digits), val=str(other))
    small = write_run(tmp_path / "small", model)
    assert choose([one], "digits").seed == choose([f"{one}/model.keras"], str(digits)).seed == 1
    assert choose([one, str(model)], "digits").runs == [one]
    assert choose([one], str(other)).note == choose([str(model)], "digits").note == ""
    assert "each run held out another fifth" in choose([one, two], "digits").note
    assert "trained on these very pictures" in choose([whole], "digits").note
    assert (choose([whole], None).data, choose([whole], None).runs) == (str(other), ())
    monkeypatch.chdir(tmp_path)
    assert choose([small], None) == choose([small], "digits")
    assert choose([small], "digits").runs == [small]
    for models in ([one, two], [str(model)], ["imagenet"]):
        with pytest.raises(InputError, match="data: none is given"):
            choose(models, None)


def test_pictures_that_came_since_are_told(model: Path, tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", per_class=10)
    run = write_run(tmp_path / "run", model, data=str(data))
    report = {"classes": [{"support": 2}] * 3, "unreadable": []}
    (tmp_path / "run" / "report.json").write_text(json.dumps(report))
    assert "held out: a fifth" in evaluate([run], out=tmp_path / "same").note
    for number in range(5):
        Image.new("RGB", (24, 24)).save(data / "0" / f"new {number}.png")
    assert "has other pictures now than when" in evaluate([run], out=tmp_path / "changed").note

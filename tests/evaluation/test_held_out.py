"""A run is evaluated on what it was not trained on."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.pack import pack
from inception_resnet_keras.data.sources import held_out_split, open_source
from inception_resnet_keras.evaluation import overlap
from inception_resnet_keras.evaluation.evaluate import evaluate
from inception_resnet_keras.evaluation.held_out import choose
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.run import RunFolder

from ..pictures import write_digits
from .models import write_model

SEED = 5


def write_run(path: Path, model: Path, **config: Any) -> str:
    """As `train` leaves one, but for the training."""
    path.mkdir()
    shutil.copy(model, path / "model.keras")
    RunFolder(path).write_config(TrainConfig(**config).with_absolute_paths(), {})
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


def write_manifest(path: Path, folder: Path, names: set[str]) -> str:
    rows = [f"{Path(name).relative_to(path.parent)},{Path(name).parent.name}" for name in sorted(names)]
    path.write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    return str(path)


def test_what_a_run_was_trained_on_is_known_in_whatever_form_it_comes(model: Path, tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data")
    run = write_run(tmp_path / "run", model, data=str(data), seed=SEED)
    training, held_out = (set(part.names) for part in held_out_split(open_source(data), SEED))
    whole = write_manifest(tmp_path / "whole.csv", data, training | held_out)
    held = write_manifest(tmp_path / "held.csv", data, held_out)
    links = tmp_path / "links"
    for name in sorted(training)[::4]:
        link = links / Path(name).parent.name / f"link to {Path(name).name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(name)
    copies = tmp_path / "copies"
    for number, name in enumerate(sorted(training)):
        copy = copies / Path(name).parent.name / f"{number}.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, copy)
    pack(open_source(data), tmp_path / "packed")
    of_shards = write_run(tmp_path / "of shards", model, data=str(tmp_path / "packed"), seed=SEED)
    other = write_digits(tmp_path / "other", per_class=40)
    for label in "012":  # the first 20 of each are the run's
        for number in range(20):
            (other / label / f"{number:03d}.png").unlink()

    def note(asked: str, place: str | Path) -> str:
        return choose([asked], str(place)).of(open_source(place))[1]

    assert f"48 of the 60 pictures are among those that {run} was trained on" in note(run, whole)
    assert note(run, held) == (f"12 of the 12 pictures are among those that {run} held out, and none was it trained on")
    assert f"12 of the 12 pictures are among those that {run} was trained on" in note(run, links)
    assert "48 of the 48 pictures that were looked for by their content are among those" in note(run, copies)
    assert "48 of the 60 pictures" in note(run, tmp_path / "packed")
    assert "of the 60 pictures" in note(of_shards, data)
    assert note(run, other) == note(of_shards, other) == ""
    report = {"classes": [{"support": 9}], "unreadable": []}
    (tmp_path / "run" / "report.json").write_text(json.dumps(report))  # of a split of other pictures
    assert f"12 of the 12 pictures are among those that {run} was trained on" in note(run, held)
    shutil.rmtree(data)
    assert note(run, copies) == ""

    found = evaluate([run, of_shards], tmp_path / "packed", out=tmp_path / "out")
    assert "held out: a fifth of each class" in found.note
    assert found.reported.figures.pictures == 12


def test_a_large_trainings_files_are_known_by_their_folders(
    model: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of ImageNet's size is asked: no file of it is looked at one by one."""
    monkeypatch.setattr(overlap, "SMALL", 10)
    run = write_run(tmp_path / "run", model, data=str(digits), val=str(digits))
    (tmp_path / "linked").symlink_to(digits)
    linked = write_manifest(tmp_path / "linked.csv", digits, {str(path) for path in (tmp_path / "linked").glob("*/*")})
    assert "60 of the 60 pictures" in choose([run], linked).of(open_source(linked))[1]
    copy = Path(shutil.copytree(digits, tmp_path / "copy"))
    assert choose([run], str(copy)).of(open_source(copy))[1] == ""


def test_pictures_that_came_since_are_told(model: Path, tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", per_class=10)
    run = write_run(tmp_path / "run", model, data=str(data))
    report = {"classes": [{"support": 2}] * 3, "unreadable": []}
    (tmp_path / "run" / "report.json").write_text(json.dumps(report))
    assert "held out: a fifth" in evaluate([run], out=tmp_path / "same").note
    for number in range(5):
        Image.new("RGB", (24, 24)).save(data / "0" / f"new {number}.png")
    assert "has other pictures now than when" in evaluate([run], out=tmp_path / "changed").note

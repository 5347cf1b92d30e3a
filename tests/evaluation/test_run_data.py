"""A run is evaluated on what it was not trained on, and what it was trained on is known of every picture."""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.options import SplitRules
from inception_resnet_keras.data.packed import pack
from inception_resnet_keras.data.parts import Parts, held_out_split
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.data.splits import write_split
from inception_resnet_keras.evaluation.evaluate import evaluate
from inception_resnet_keras.evaluation.run_data import ancestors, choose, find_run
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.pictures import open_pictures, trained_before_warnings
from inception_resnet_keras.training.run import RunFolder

from ..pictures import write_digits
from .models import write_model

SEED = 5


def write_run(path: Path, model: Path, *, split: bool = True, **settings: Any) -> str:
    """As `train` leaves one, but for the training; without a split, as earlier versions did."""
    path.mkdir()
    shutil.copy(model, path / "model.keras")
    config = TrainConfig(**settings).with_absolute_paths()
    RunFolder(path).write_config(config, {})
    if split:
        pictures = open_pictures(config, Console(quiet=True))
        write_split(RunFolder(path).split, pictures.parts, pictures.prints)
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


def test_held_out_pictures_on_which_the_weights_were_trained_are_reported(
    model: Path, digits: Path, tmp_path: Path
) -> None:
    first = write_run(tmp_path / "first", model, data=str(digits), seed=SEED)
    trained = set(open_source(digits).names) - set(held_out_split(open_source(digits), SEED)[1].names)
    config = TrainConfig(data=str(digits), seed=SEED + 1, test_fraction=0.1, weights=first)
    parts = open_pictures(config, Console(quiet=True)).parts
    warnings = trained_before_warnings(config, parts)
    for part, what in ((parts.held_out, "held-out pictures"), (parts.test, "test pictures")):
        assert part is not None
        count = len(trained & set(part.names))
        assert count > 1
        text = f"{count} of the {len(part)} {what} are training pictures of {first}, whose weights were the start"
        assert any(warning.startswith(text) for warning in warnings)
    # A copy of the data is recognised by its content; the split of the first run is no leak.
    copied = shutil.copytree(digits, tmp_path / "copied")
    same = TrainConfig(data=str(copied), seed=SEED + 1, test_fraction=0.1, weights=first)
    assert trained_before_warnings(same, open_pictures(same, Console(quiet=True)).parts) == warnings
    for settings in ({"data": str(digits), "seed": SEED}, {"data": f"{first}/split.csv"}):
        kept = TrainConfig(**settings, weights=first)
        assert trained_before_warnings(kept, open_pictures(kept, Console(quiet=True)).parts) == []
    # An evaluation looks at every run that the weights came from.
    second = write_run(tmp_path / "second", model, data=str(digits), seed=SEED, weights=first)
    third = write_run(tmp_path / "third", model, data=str(digits), seed=SEED + 1, weights=f"{second}/model.keras")
    assert [run.folder.name for run in ancestors(third)] == ["third", "second", "first"]
    chosen = choose([third], None)
    source = open_source(chosen.place, class_names=["0", "1", "2"])
    note = chosen.select(source)[1]
    count = len(trained & set(source.names))
    assert f"{count} of the {len(source)} pictures are training pictures of {first}, whose weights" in note
    with pytest.raises(InputError, match=r"whose weights were the start.*allow_trained"):
        chosen.select(source, allow_trained=False)


@pytest.mark.parametrize("split", [True, False])
def test_the_fifth_that_a_run_held_out_is_evaluated(
    model: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], split: bool
) -> None:
    run = write_run(tmp_path / "run", model, data=str(digits), seed=SEED, split=split)
    wanted = set(held_out_split(open_source(digits), SEED)[1].names)
    assert len(wanted) == 12
    assert main(["evaluate", run, "--data", str(digits), "--out", str(tmp_path / "given")]) == 0
    assert "held out" in " ".join(capsys.readouterr().out.split())
    assert main(["evaluate", run, "--json", "--out", str(tmp_path / "left out")]) == 0
    captured = capsys.readouterr()
    assert "held out" in " ".join(captured.err.split())
    assert json.loads(captured.out)["pictures"] == 12
    assert json.loads(captured.out)["data"] == str(digits)
    for folder in ("given", "left out"):
        assert pictures(tmp_path / folder) == wanted
        note = json.loads((tmp_path / folder / "report.json").read_text())["note"]
        assert "held out" in note
        assert ("its training pictures are not known for certain" in note) == (not split)


def selected(models: list[str], data: str | None) -> tuple[list[str], str]:
    """Names of the pictures that are evaluated, and the note."""
    chosen = choose(models, data)
    source, note = chosen.select(open_source(chosen.place, least_classes=1))
    return list(source.names), note


def test_what_is_evaluated_is_told(model: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = write_digits(tmp_path / "other", per_class=2)
    monkeypatch.chdir(digits.parent)
    one = write_run(tmp_path / "one", model, data="digits", seed=1)
    two = write_run(tmp_path / "two", model, data=str(digits), seed=2)
    like_one = write_run(tmp_path / "like one", model, data=str(digits), seed=1, split=False)
    whole = write_run(tmp_path / "whole", model, data=str(digits), val=str(other), copies="allow")
    apart = write_run(tmp_path / "apart", model, data=str(digits), val=str(other))
    of_one = [f"digits/{Path(name).relative_to(digits)}" for name in held_out_split(open_source(digits), 1)[1].names]
    fifth = f"these are the pictures of digits that {one} held out"
    for models, data in (([one], "digits"), ([f"{one}/model.keras"], str(digits)), ([one, str(model)], "digits")):
        assert [os.path.relpath(name) for name in selected(models, data)[0]] == of_one
    assert selected([one], "digits")[1] == selected([one, str(model)], "digits")[1] == fifth
    assert selected([one, like_one], "digits")[0] == of_one
    assert choose([str(model)], "digits").note == ""
    assert selected([str(model)], "digits")[1] == ""
    names, note = selected([one, two], "digits")
    assert len(names) == 60
    assert note.startswith(f"{one} and {two} were trained on these pictures: the figures do not apply to new ones")
    assert note.endswith("each run held out another fifth of them")
    assert "trained on these pictures" in selected([whole], "digits")[1]
    names, note = selected([whole], None)
    assert names == [str(path) for path in sorted(other.glob("*/*"))]
    assert f"these are the pictures that {whole} was given to hold out; 6 of the 6 pictures are identical to" in note
    assert choose([whole], None).data == str(other)
    assert selected([apart], None)[1] == f"these are the pictures that {apart} was given to hold out"  # without copies
    monkeypatch.chdir(tmp_path)
    small = write_run(tmp_path / "small", model)
    names, note = selected([small], None)
    assert (names, note) == selected([small], "digits")
    assert len(names) == 359
    assert note == f"these are the pictures of digits that {small} held out"
    for models in ([one, two], [str(model)], ["imagenet"]):
        with pytest.raises(InputError, match="data: none is given"):
            choose(models, None)


def write_manifest(path: Path, names: set[str]) -> str:
    rows = [f"{Path(name).relative_to(path.parent)},{Path(name).parent.name}" for name in sorted(names)]
    path.write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    return str(path)


def test_what_a_run_was_trained_on_is_known_in_whatever_form_it_comes(model: Path, tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data")
    run = write_run(tmp_path / "run", model, data=str(data), seed=SEED)
    training, held_out = (set(part.names) for part in held_out_split(open_source(data), SEED))
    whole = write_manifest(tmp_path / "whole.csv", training | held_out)
    held = write_manifest(tmp_path / "held.csv", held_out)
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
        return selected([asked], str(place))[1]

    assert f"48 of the 60 pictures are training pictures of {run}" in note(run, whole)
    of_held_out = f"12 of the 12 pictures are held-out pictures of {run}, and none is a training picture of it"
    assert note(run, held) == note(run, f"{run}/split.csv:val") == of_held_out
    assert f"12 of the 12 pictures are training pictures of {run}" in note(run, links)
    assert f"48 of the 48 pictures are training pictures of {run}" in note(run, copies)
    assert "48 of the 60 pictures" in note(run, tmp_path / "packed")
    assert "48 of the 60 pictures" in note(of_shards, data)
    assert note(run, other) == f"none of the 60 pictures is a training picture or a held-out picture of {run}"
    assert note(of_shards, other).startswith("none of the 60 pictures")
    shutil.rmtree(data)
    assert f"48 of the 48 pictures are training pictures of {run}" in note(run, copies)

    found = evaluate([run, of_shards], tmp_path / "packed", out=tmp_path / "out")
    assert "held out" in found.note
    assert f"of the 12 pictures are training pictures of {run}" in found.note
    assert found.reported.figures.pictures == 12
    assert evaluate(of_shards, out=tmp_path / "by itself").reported.figures.pictures == 12


def test_a_run_without_a_split_says_that_they_cannot_be_known(model: Path, digits: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", model, data=str(digits), seed=SEED, split=False)
    copy = Path(shutil.copytree(digits, tmp_path / "copy"))
    note = f"{run} has no split.csv (an earlier version wrote it): its training pictures are not known"
    assert selected([run], str(copy))[1] == note
    of_val = write_run(tmp_path / "of val", model, data=str(digits), val=str(copy), split=False)
    assert selected([of_val], None)[1].startswith(
        f"these are the pictures that {of_val} was given to hold out; {of_val} has"
    )
    small = write_run(tmp_path / "small", model, seed=SEED, split=False)
    assert selected([small], None)[0] == held_out_split(open_source("digits"), 0)[1].names


def test_a_run_that_ended_before_its_pictures_were_hashed_says_so(model: Path, digits: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", model, data=str(digits), seed=SEED, split=False)
    parts = held_out_split(open_source(digits), SEED)
    write_split(tmp_path / "run" / "split.csv", Parts(*parts))
    whole = [line.rsplit(",", 2)[0] for line in (tmp_path / "run" / "split.csv").read_text().splitlines()]
    lacking = [f"{line.rpartition(',')[0]}," for line in whole[11:]]
    (tmp_path / "run" / "split.csv").write_text("\n".join([*whole[:11], *lacking]))
    copy = Path(shutil.copytree(digits, tmp_path / "copy"))
    note = f"{run} was interrupted before 50 of its pictures were hashed: copies of those are not recognised"
    assert note in selected([run], str(copy))[1]
    write_split(tmp_path / "run" / "split.csv", Parts(*parts))
    assert "was interrupted" not in selected([run], str(copy))[1]


def test_only_what_a_run_left_is_read_as_one(model: Path, digits: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", model, data=str(digits), seed=SEED)
    found = find_run(f"{run}/model.keras")
    assert found
    assert (found.data, found.val, found.rules) == (str(digits), None, SplitRules(seed=SEED))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["config"] |= {"of a later version": 1, "max_corrupt": "unknown"}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert find_run(run)
    assert find_run("imagenet") is None
    broken = [
        {"config": {}},
        {"config": {**config["config"], "seed": "x"}},
        {**config, "run": 3},
        {**config, "split": 3},
    ]
    for text in ("{", "[]", "[" * 100_000, *map(json.dumps, broken)):
        (tmp_path / "run" / "config.json").write_text(text)
        with pytest.raises(InputError, match=r"config\.json: is damaged or from another program"):
            find_run(run)
    (tmp_path / "run" / "model.keras").write_text("of another program, as the other file may be")
    assert find_run(run) is None


def test_a_damaged_split_ends_an_evaluation(model: Path, digits: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", model, data=str(digits))
    file = tmp_path / "run" / "split.csv"
    file.write_text(file.read_text()[:-20])
    with pytest.raises(InputError, match=r"split\.csv, line 61: .*delete it to continue without"):
        evaluate(run, digits, out=tmp_path / "out")
    file.unlink()
    assert evaluate(run, digits, out=tmp_path / "out").reported.figures.pictures == 12


def test_pictures_that_came_or_went_since_are_told(model: Path, tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", per_class=10)
    run = write_run(tmp_path / "run", model, data=str(data))
    old = write_run(tmp_path / "old", model, data=str(data), split=False)
    report = {"classes": [{"support": 2}] * 3, "unreadable": []}
    (tmp_path / "old" / "report.json").write_text(json.dumps(report))
    assert f"that {old} held out" in evaluate([old], out=tmp_path / "same").note
    before = selected([run], None)[0]
    for number in range(5):
        Image.new("RGB", (24, 24)).save(data / "0" / f"new {number}.png")
    assert "has changed since" in evaluate([old], out=tmp_path / "changed").note
    fifth = f"these are the pictures of {data} that {run} held out"
    assert selected([run], None) == selected([run], str(data)) == (before, fifth)
    Path(before[0]).unlink()
    note = f"{fifth}; 1 other picture that {run} held out no longer exists"
    assert selected([run], str(data)) == (before[1:], note)
    for name in before[1:]:
        Path(name).unlink()
    with pytest.raises(InputError, match="no longer has any of the pictures"):
        selected([run], str(data))


def test_the_test_part_of_a_source_is_evaluated_and_a_named_part_alone(tmp_path: Path) -> None:
    for name, count in (("train", 4), ("val", 2), ("test", 1)):
        write_digits(tmp_path / "data" / name, classes=2, per_class=count)
    data = str(tmp_path / "data")

    def selected_from(place: str) -> tuple[set[str], str]:
        chosen = choose(["model.keras"], place)
        source, note = chosen.select(open_source(chosen.place, least_classes=1))
        return {Path(name).parents[1].name for name in source.names}, note

    parts, note = selected_from(data)
    assert parts == {"test"}
    assert f"the test part of {data} is evaluated: 2 of 14 pictures" in note
    parts, note = selected_from(f"{data}:validation")
    assert (parts, note) == ({"val"}, "")
    (tmp_path / "data" / "test").rename(tmp_path / "elsewhere")
    parts, note = selected_from(data)
    assert parts == {"train", "val"}
    assert "declares train and val and no test part: all its 12 pictures are evaluated" in note

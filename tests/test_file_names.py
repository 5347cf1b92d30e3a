"""Files, folders of classes and persons whose names are no UTF-8, in every verb."""

import csv
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest

from inception_resnet_keras import networks
from inception_resnet_keras.cli import main
from inception_resnet_keras.models.model_file import read_card
from inception_resnet_keras.models.runtimes import open_runtime

from .evaluation.faces import write_faces, write_pairs
from .pictures import write_digits
from .tiny import FEW

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs a file system whose names are bytes")
NAME = os.fsdecode(b"caf\xe9")
CLASSES = ["1", NAME]


@pytest.fixture(autouse=True, scope="module")
def _few_is_known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.NETWORKS, FEW.name, {FEW.variant: FEW})
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_digits(tmp_path_factory.mktemp("names") / os.fsdecode(b"pic\xfftures"), classes=2, per_class=10)
    (folder / "0").rename(folder / NAME)
    for picture in sorted((folder / NAME).iterdir()):
        picture.rename(picture.with_name(os.fsdecode(b"\xe9 ") + picture.name))
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / os.fsdecode(b"r\xfcn")
    settings = ["--model", FEW.name, "--size=32", "--batch-size=8", "--epochs=1"]
    assert main(["train", "--data", str(data), "--out", str(out), *settings]) == 0
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def test_train_and_evaluate(run: Path, data: Path, tmp_path: Path) -> None:
    assert read_card(run / "model.keras").classes == CLASSES
    assert json.loads((run / "report.json").read_text())["classes"][1]["name"] == NAME
    out = tmp_path / "found"
    assert main(["evaluate", str(run), "--data", str(data), "--out", str(out)]) == 0
    assert {row["true"] for row in rows(out / "predictions.csv")} == set(CLASSES)
    assert main(["evaluate", str(run), "--out", str(tmp_path / "again")]) == 0
    again = tmp_path / "study"
    more = ["--model", FEW.name, "--size=32", "--epochs=1", "--weights", str(run), "--out", str(again)]
    assert main(["train", "--data", f"{run / 'split.csv'}:train", *more]) == 0


def test_predict_and_explain(run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "found.csv"
    assert main(["predict", str(run), str(data), "--csv", str(table)]) == 0
    found = rows(table)
    assert len(found) == 20
    assert {NAME, "1"} <= found[0].keys()
    assert all(Path(row["path"]).is_file() for row in found)
    capsys.readouterr()
    [picture, *_] = sorted((data / NAME).iterdir())
    assert main(["predict", str(run), str(picture), "--json"]) == 0
    assert NAME in json.dumps(json.loads(capsys.readouterr().out), ensure_ascii=False)
    assert main(["explain", str(run), str(picture), "--class", NAME, "--steps=2", "--out", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("*_explained.png"))) == 1


def test_export_and_its_labels(run: Path, data: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.keras"
    keras.models.load_model(run / "model.keras", compile=False).save(bare)  # without the names
    labels = tmp_path / os.fsdecode(b"l\xe4bels.txt")
    labels.write_bytes(b"\n".join(map(os.fsencode, CLASSES)))
    out = tmp_path / "model"
    given = ["--labels", str(labels), "--validate", str(data)]
    assert main(["export", str(bare), "--format=saved_model", "--out", str(out), *given]) == 0
    assert open_runtime(out).card.classes == CLASSES
    assert main(["predict", str(out), str(data), "--csv", str(tmp_path / "found.csv")]) == 0
    assert NAME in rows(tmp_path / "found.csv")[0]


def test_faces(run: Path, tmp_path: Path) -> None:
    folder = write_faces(tmp_path / "faces")
    pairs = write_pairs(tmp_path / "pairs.txt")
    for picture in sorted((folder / "Digit_0").iterdir()):
        picture.rename(picture.with_name(picture.name.replace("Digit_0", NAME)))
    shutil.move(folder / "Digit_0", folder / NAME)
    pairs.write_bytes(pairs.read_bytes().replace(b"Digit_0", os.fsencode(NAME)))
    out = tmp_path / "found"
    assert main(["evaluate", str(run), "--pairs", str(pairs), "--data", str(folder), "--out", str(out)]) == 0
    assert json.loads((out / "report.json").read_text())["left_out"] == 0

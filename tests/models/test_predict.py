"""`predict` with one model and with several: every probability, what could not be read, and the CSV file."""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inception_resnet_keras import predict
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.crops import View, cut
from inception_resnet_keras.data.images import decode
from inception_resnet_keras.evaluation.evaluate import evaluate
from inception_resnet_keras.models.model_file import load_model
from inception_resnet_keras.models.predict import Prediction, Predictions, list_pictures, unique_columns

from .. import tiny
from ..evaluation.models import write_model
from ..permissions import as_other_users
from ..pictures import write_digits

CLASSES = ["0", "path", "2"]  # one named as a column of the CSV file


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_digits(tmp_path_factory.mktemp("pictures") / "digits", classes=3, per_class=3)
    (folder / "1").rename(folder / "path")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two, of other sizes and of other orders of the classes."""
    folder = tmp_path_factory.mktemp("models")
    one = write_model(folder / "one.keras", CLASSES, network=tiny.FEW)
    other = [CLASSES[number] for number in (2, 0, 1)]
    return [str(one), str(write_model(folder / "other.keras", other, side=40, seed=3, network=tiny.FEW))]


@pytest.fixture(scope="module")
def both(models: list[str], pictures: Path) -> Predictions:
    return predict(models, pictures, crops=12, batch_size=24)


@pytest.fixture(scope="module")
def alone(models: list[str], pictures: Path) -> Predictions:
    return predict(models[0], [pictures])


@pytest.fixture
def messy(pictures: Path, tmp_path: Path) -> Path:
    """A folder with one readable picture, whose name is not UTF-8, and with most of what people leave in folders."""
    folder = tmp_path / "messy"
    for name in (".git", "empty folder", "folder.jpg"):
        (folder / name).mkdir(parents=True)
    shutil.copy(pictures / "0/000.png", os.fsdecode(os.fsencode(str(folder / "folder.jpg")) + b"/caf\xe9.png"))
    for name in ("Thumbs.db", ".hidden.png", "NOTES", ".git/c.png", "empty.png"):
        (folder / name).touch()
    (folder / "broken.png").symlink_to("nowhere")
    (folder / "again").symlink_to(folder)
    os.mkfifo(folder / "fifo.png")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def by_hand(model: str, files: list[str], side: int, crops: int) -> np.ndarray:
    """Each crop through the model as it was saved, one by one; the mean over a picture's crops."""
    loaded, _ = load_model(Path(model))
    pixels = [cut(decode(Path(file)), View((side, side)), crops).astype(np.float32) for file in files]
    return np.stack([np.asarray(loaded(each), np.float64).mean(axis=0) for each in pixels])


def test_several_models_and_crops_are_averaged_by_class_name(both: Predictions, models: list[str]) -> None:
    one = by_hand(models[0], both.paths, 32, 12)
    other = by_hand(models[1], both.paths, 40, 12)[:, [1, 2, 0]]
    np.testing.assert_allclose(both.model_probabilities, [one, other], atol=1e-5)
    np.testing.assert_allclose(both.probabilities, (one + other) / 2, atol=1e-5)
    assert both.probabilities.dtype == np.float32
    assert both.class_names == CLASSES
    assert both.labels == [CLASSES[number] for number in ((one + other) / 2).argmax(axis=1)]
    assert both.paths == both.files == sorted(both.paths)
    assert np.abs(one - other).max() > 0.05  # so that an average of one alone, or of other columns, is noticed


def test_the_file_holds_exactly_the_arrays(both: Predictions, models: list[str], tmp_path: Path) -> None:
    found = rows(both.to_csv(tmp_path / "out.csv", per_model=True))
    columns = ["0", "class path", "2"]
    by_model = [f"{column} by {model}" for model in models for column in columns]
    assert list(found[0]) == ["path", "label", "probability", "error", *columns, *by_model]
    assert [row["path"] for row in found] == both.paths
    assert [row["label"] for row in found] == both.labels
    table = np.array([[row[column] for column in [*columns, *by_model]] for row in found], np.float32)
    np.testing.assert_array_equal(table, np.hstack([both.probabilities, *both.model_probabilities]))
    np.testing.assert_array_equal(
        np.array([row["probability"] for row in found], np.float32), both.probabilities.max(axis=1)
    )
    assert list(rows(both.to_csv(tmp_path / "short.csv"))[0]) == ["path", "label", "probability", "error", *columns]
    with pytest.raises(InputError, match=r"out\.csv: already exists; nothing is overwritten"):
        both.to_csv(tmp_path / "out.csv")
    with pytest.raises(InputError, match=r"the folder .*nowhere does not exist; make it first"):
        both.to_csv(tmp_path / "nowhere" / "out.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "short.csv"]


def test_a_messy_folder_is_accounted_for_in_the_file_and_on_the_console(
    models: list[str], alone: Predictions, messy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    assert main(["predict", models[0], str(messy), "--csv", str(out)]) == 0
    found = {row["path"]: row for row in rows(out)}
    picture = os.fsdecode(os.fsencode(str(messy / "folder.jpg")) + b"/caf\xe9.png")
    unreadable = {
        "empty.png": "is empty",
        "broken.png": "is a link to a file that does not",
        "fifo.png": "is a FIFO",
    }
    passed_over = {
        "Thumbs.db": "ends in .db; pictures end in .jpg",
        "NOTES": "has no ending",
        ".hidden.png": "is a hidden file",
        ".git": "is a hidden folder",
        "again": "leads to a folder that was already read",
    }
    assert set(found) == {picture, *(str(messy / name) for name in (*unreadable, *passed_over))}
    assert found[picture]["error"] == ""
    values = [float(found[picture][column]) for column in ("0", "class path", "2")]
    assert values == pytest.approx(alone.probabilities[0].tolist(), abs=1e-6)
    console = capfd.readouterr()
    for name, reason in {**unreadable, **passed_over}.items():
        error = found[str(messy / name)]["error"]
        assert error.startswith(reason if name in unreadable else f"passed over: {reason}")
        assert set(found[str(messy / name)].values()) == {str(messy / name), error, ""}
        (line,) = (line for line in console.err.splitlines() if line.endswith(f"{messy / name}"))
        assert line.startswith(f"1 {'could not be read' if name in unreadable else 'passed over'}: {reason}")
    assert f"{out}: 1 of 4 pictures by {models[0]}: " in console.out


def test_evaluate_has_the_same_probabilities(
    both: Predictions, models: list[str], pictures: Path, tmp_path: Path
) -> None:
    evaluate(models, pictures, out=tmp_path / "out", crops=12)
    evaluated = {row["picture"]: row for row in rows(tmp_path / "out/predictions.csv")}
    assert set(evaluated) == set(both.paths)
    for path, label, values in zip(both.paths, both.labels, both.probabilities, strict=True):
        assert evaluated[path]["predicted"] == label
        assert evaluated[path]["true"] == Path(path).parent.name
        assert [float(evaluated[path][name]) for name in both.class_names] == pytest.approx(values, abs=2e-6)


def test_a_folder_that_cannot_be_listed_is_named(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "pictures")
    locked = tmp_path / "pictures" / "2"
    locked.chmod(0)
    try:
        with as_other_users():
            files, passed_over = list_pictures([tmp_path / "pictures"])
            with pytest.raises(InputError, match=r"2: has no pictures; 1 passed over: cannot be listed"):
                list_pictures([locked])
    finally:
        locked.chmod(0o755)
    assert len(files) == 6
    assert passed_over == [(str(locked), "cannot be listed (Permission denied)")]


def test_nothing_readable_fails_and_says_why(models: list[str], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "a.png").touch()
    options = ["--with", models[1], "--csv", str(tmp_path / "out.csv"), "--json"]
    assert main(["predict", models[0], str(tmp_path), *options]) == 1
    (row,) = rows(tmp_path / "out.csv")
    assert (row["path"], row["label"]) == (str(tmp_path / "a.png"), "")
    console = capsys.readouterr()
    assert "1 could not be read" in console.err
    assert json.loads(console.out) == [{"path": str(tmp_path / "a.png"), "top": [], "error": row["error"]}]


def test_predictions_are_a_sequence_that_shows_itself(
    models: list[str], alone: Predictions, pictures: Path, tmp_path: Path
) -> None:
    shutil.copy(pictures / "0/000.png", tmp_path / "a <b>.png")
    (tmp_path / "b.png").touch()
    files = [tmp_path / "b.png", pictures / "2", tmp_path / "a <b>.png", tmp_path / "b.png"]
    found = predict(models[0], files, top=2)
    assert len(found) == 6
    assert [each.path for each in found] == found.files
    assert found[0].error == found[-1].error == "is empty"
    assert dict(found[-2].top) == pytest.approx(dict(alone[0].top[:2]), abs=1e-6)
    assert found[1:3] == [found[1], found[2]]
    assert found == list(found) != found[1:]
    best = found.probabilities[3].argsort()[::-1][:2]
    assert found[4] == Prediction(
        str(tmp_path / "a <b>.png"), [(CLASSES[each], float(found.probabilities[3][each])) for each in best]
    )
    with pytest.raises(IndexError):
        found[6]
    assert repr(found).startswith(f"<Predictions: 4 of 6 pictures by {models[0]}: ")
    assert "2 could not be read: is empty" in repr(found)
    html = found._repr_html_()
    assert "a &lt;b&gt;.png" in html
    assert html.count("<tr>") == 7
    assert "2 could not be read" in html


@pytest.mark.parametrize(
    ("names", "taken", "columns"),
    [
        (["a", "b"], [], ["a", "b"]),
        (["path", "class path"], ["path"], ["class class path", "class path"]),
        (["crane", "x", "crane"], [], ["crane (output 0)", "x", "crane (output 2)"]),
        (["path", "path"], ["path"], ["path (output 0)", "path (output 1)"]),
        (["a", "a", "a (output 0)"], [], ["class a (output 0)", "a (output 1)", "a (output 0)"]),
    ],
)
def test_columns_have_names_of_their_own(names: list[str], taken: list[str], columns: list[str]) -> None:
    assert unique_columns(names, taken) == columns


def test_what_cannot_be_averaged_is_refused(models: list[str], pictures: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.keras", ["0", "path", "3"], network=tiny.FEW)
    with pytest.raises(InputError, match=r"models with different classes cannot be averaged: .*'2'.*'3'"):
        predict([models[0], other], pictures)
    (tmp_path / "run").mkdir()
    shutil.copy(models[0], tmp_path / "run" / "model.keras")
    with pytest.raises(InputError, match=r"model\.keras is given twice, and would count twice in the average"):
        predict([tmp_path / "run", tmp_path / "run" / "model.keras"], pictures)
    with pytest.raises(InputError, match="model: got none"):
        predict([], pictures)
    with pytest.raises(InputError, match="crops: got 5"):
        predict(models, pictures, crops=5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="classes: got names for models that have their own class names"):
        predict(models, pictures, classes=CLASSES)
    nameless = load_model(Path(models[0]))[0]
    with pytest.raises(InputError, match="has no names for its 3 classes"):
        predict([models[0], nameless], pictures)


def test_a_model_without_names_is_averaged_by_those_given(
    models: list[str], alone: Predictions, pictures: Path
) -> None:
    """The same model again, its outputs named in another order: they stand in other columns."""
    nameless = load_model(Path(models[0]))[0]
    found = predict([models[0], nameless], pictures / "0", classes=["path", "2", "0"])
    (expected, moved), wanted = found.model_probabilities, alone.probabilities[:3]
    np.testing.assert_allclose(expected, wanted, atol=1e-6)
    np.testing.assert_allclose(moved, wanted[:, [2, 0, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--csv", "{there}"], "already exists; nothing is overwritten"),
        (["--csv", "{there}/out.csv"], "does not exist; make it first"),
        (["--csv", "a" * 300], "cannot be written (File name too long)"),
        (["--per-model"], "--per-model: adds columns to the file of --csv"),
    ],
)
def test_the_command_line_refuses_before_it_opens_a_model(
    options: list[str], error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").write_text("mine")
    options = [option.replace("{there}", str(tmp_path / "there")) for option in options]
    assert main(["predict", str(tmp_path / "no model"), str(tmp_path), *options]) == 1
    assert error in capsys.readouterr().err
    assert (tmp_path / "there").read_text() == "mine"

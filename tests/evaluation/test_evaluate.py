"""Whole evaluations of small models on small real pictures."""

import csv
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, average_precision_score, confusion_matrix, log_loss

from inception_resnet_keras import create_inception_resnet_v1
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data import labelled
from inception_resnet_keras.data.crops import Crops, View, cut, make_crops
from inception_resnet_keras.data.images import decode
from inception_resnet_keras.evaluation.evaluate import Evaluation, evaluate, repeated
from inception_resnet_keras.models.model_file import load_model
from inception_resnet_keras.models.open import locate
from inception_resnet_keras.models.predict import predict

from .. import tiny
from ..data.photographs import write_photographs
from ..pictures import write_digits
from .models import write_model

WRITTEN = {
    "report.html",
    "report.json",
    "roc.png",
    "predictions.csv",
    "confusion_matrix.csv",
    "confusion_matrix.png",
    "precision_recall.png",
    "reliability.png",
    "mistakes.png",
    "results.md",
    "results.tex",
    "thresholds.csv",
}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("pictures") / "digits", classes=3, per_class=12)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two, of other sizes and of other orders of the classes."""
    folder = tmp_path_factory.mktemp("models")
    one = write_model(folder / "one.keras")
    other = write_model(folder / "other.keras", classes="201", side=40, seed=3)
    return [str(one), str(other)]


@pytest.fixture(scope="module")
def both(models: list[str], digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return evaluate(models, digits, out=tmp_path_factory.mktemp("out"), batch_size=8)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def probabilities(model: str, files: list[str], view: View, crops: int = 1) -> np.ndarray:
    """By hand: each crop through the model, the softmax outputs averaged."""
    loaded, _ = load_model(Path(model))
    pixels = np.concatenate([cut(decode(Path(file)), view, crops) for file in files]).astype(np.float32)
    return np.asarray(loaded(pixels)).reshape(len(files), crops, -1).mean(axis=1)


def test_one_crop_says_what_predict_says(models: list[str], digits: Path, tmp_path: Path) -> None:
    found = evaluate(models[:1], digits, out=tmp_path / "out", batch_size=7)
    said = rows(tmp_path / "out" / "predictions.csv")
    wanted = predict(Path(models[0]), [Path(row["picture"]) for row in said])
    assert len(said) == found.models[0].figures.pictures == 36
    for row, prediction in zip(said, wanted, strict=True):
        name, probability = prediction.top[0]
        assert row["predicted"] == name
        assert float(row[name]) == pytest.approx(probability, abs=1e-5)
        assert row["true"] == Path(row["picture"]).parent.name
        assert sorted("012", key=lambda name: -float(row[name])) == [name for name, _ in prediction.top]
    assert found.average is None
    assert found.report.accuracy == found.models[0].figures.top1 < 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == WRITTEN


def test_the_positive_class_is_what_all_is_of(
    models: list[str], digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(write_model(tmp_path / "two.keras", classes="01"))
    data = write_digits(tmp_path / "two", classes=2, per_class=9)
    out = tmp_path / "out"
    options = ["--data", str(data), "--positive", "0", "--batch-size", "9"]
    assert main(["evaluate", model, *options, "--out", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["positive"], said["models"][0]["figures"]["positive"]) == ("0", "0")
    table = rows(out / "predictions.csv")
    assert list(table[0])[-2:] == ["1", "0"]
    found = said["models"][0]["figures"]["values"]
    hits = [row["predicted"] == "0" for row in table if row["true"] == "0"]
    assert found["sensitivity"]["value"] == pytest.approx(np.mean(hits))
    truth, scores = [row["true"] == "0" for row in table], [float(row["0"]) for row in table]
    assert found["average_precision"]["value"] == pytest.approx(average_precision_score(truth, scores), abs=1e-6)
    assert {row["class"] for row in rows(out / "thresholds.csv")} == {"0"}
    page = (out / "report.html").read_text()
    assert "Positive class: 0." in page
    repeat = f"evaluate {model} --data {data} --positive 0 --batch-size 9"
    assert said["command"].endswith(repeat)
    assert repeat in page
    for chosen, positive, says in (
        (model, "2", "positive: got '2'; it takes one of the two classes, '0', '1'"),
        (models[0], "0", "positive: got '0'; it is for two classes, and there are 3"),
    ):
        with pytest.raises(InputError, match=re.escape(says)):
            evaluate(chosen, data, positive=positive, out=tmp_path / "refused")
        assert not (tmp_path / "refused").exists()


def test_a_command_that_cannot_be_given_is_none() -> None:
    defaults = {"crops": 1, "classes": None, "ema": False, "positive": None, "out": None, "progress": None}
    given = {"data": Path("d d"), "crops": 12, "classes": "c.txt", "ema": True, "positive": "-1", "out": "x"}
    assert repeated("evaluate", ["m"], given, defaults).endswith(
        "evaluate m --data 'd d' --crops 12 --classes c.txt --ema --positive=-1"
    )
    ranged = repeated("evaluate", ["m"], {"data": "d", "value_range": (-1.0, 4095.0)}, {"value_range": None})
    assert ranged.endswith("evaluate m --data d --value-range -1.0 4095.0")
    assert repeated("evaluate", ["m"], {**given, "classes": ["a", "b"]}, defaults) == ""
    assert repeated("evaluate", [lambda: None], given, defaults) == ""


def test_groups_are_read_from_paths(models: list[str], digits: Path, tmp_path: Path) -> None:
    folder = evaluate(models[:1], digits, group=r"re:/(\d\d)\d\.png$", out=tmp_path / "out", batch_size=36).folder
    said = rows(folder / "predictions.csv")
    assert [row["group"] for row in said] == [Path(row["picture"]).stem[:2] for row in said]
    assert {row["group"] for row in said} == {"00", "01"}


def test_groups_that_are_not_there_are_refused(models: list[str], digits: Path, tmp_path: Path) -> None:
    for model, group, says in (
        ("/nowhere", "re:patient", "group: got 're:patient'; it takes re: and a regular expression with a group"),
        (models[0], "re:(patient)", "'(patient)' is not found in 36 of 36 paths"),
        (models[0], "patient", "or a column of a .csv, which"),
    ):
        with pytest.raises(InputError) as refused:
            evaluate(model, digits, group=group, out=tmp_path / "out")
        assert says in str(refused.value)
        assert not (tmp_path / "out").exists()


def test_figures_are_scikit_learns_of_the_probabilities(both: Evaluation, models: list[str]) -> None:
    said = rows(both.folder / "predictions.csv")
    files, labels = [row["picture"] for row in said], np.array([int(row["true"]) for row in said])
    one = probabilities(models[0], files, View((32, 32)))
    other = probabilities(models[1], files, View((40, 40)))[:, [1, 2, 0]]  # its outputs are classes 2, 0, 1
    for model, each in zip([*both.models, both.average], [one, other, (one + other) / 2], strict=True):
        assert model is not None
        assert model.figures.top1 == pytest.approx(accuracy_score(labels, each.argmax(axis=1)))
        exact = each.astype(float) / each.sum(axis=1, keepdims=True, dtype=float)
        assert model.figures.calibration.nll == pytest.approx(log_loss(labels, exact), rel=1e-3)
    average = (one + other) / 2
    assert both.report.confusion == confusion_matrix(labels, average.argmax(axis=1)).tolist()
    matrix = rows(both.folder / "confusion_matrix.csv")
    assert [[int(row[name]) for name in "012"] for row in matrix] == both.report.confusion
    for columns, each in (("{}", average), (f"{{}} by {models[0]}", one), (f"{{}} by {models[1]}", other)):
        written = [[float(row[columns.format(name)]) for name in "012"] for row in said]
        np.testing.assert_allclose(written, each, atol=1e-5)


def test_a_models_figures_are_the_same_in_company(
    both: Evaluation, models: list[str], digits: Path, tmp_path: Path
) -> None:
    for number, model in enumerate(models):
        alone = evaluate([model], digits, out=tmp_path / str(number), batch_size=36).models[0]
        assert alone.figures.top1 == both.models[number].figures.top1
        assert alone.figures.calibration.nll == pytest.approx(both.models[number].figures.calibration.nll, rel=1e-5)
    twice = evaluate([models[0], models[0]], digits, out=tmp_path / "twice")
    assert twice.average is not None
    assert twice.average.figures == twice.models[0].figures == twice.models[1].figures


def test_large_jpegs_are_the_same_in_company(models: list[str], tmp_path: Path) -> None:
    """For 32 pixels they are decoded at half their size, for 40 whole."""
    folder = write_photographs(tmp_path / "photographs", counts=(4, 4), size=(150, 260))
    for name, new in (("class 0", "2"), ("class 1", "0")):
        (folder / name).rename(folder / new)
    both = evaluate(models, folder, out=tmp_path / "both").models
    for number, model in enumerate(models):
        alone = evaluate(model, folder, out=tmp_path / str(number)).models[0]
        assert alone.figures.calibration.nll == pytest.approx(both[number].figures.calibration.nll, rel=1e-6)


@pytest.mark.parametrize("crops", [12, 144])
def test_crops_are_averaged_on_photographs(models: list[str], tmp_path: Path, crops: Crops) -> None:
    folder = write_photographs(tmp_path / "photographs", counts=(2, 1), size=(45, 60))
    for name, new in (("class 0", "2"), ("class 1", "0")):
        (folder / name).rename(folder / new)
    found = evaluate(models[:1], folder, out=tmp_path / "out", crops=crops, batch_size=50, interpolation="bicubic")
    said = rows(tmp_path / "out" / "predictions.csv")
    wanted = probabilities(models[0], [row["picture"] for row in said], View((32, 32), interpolation="bicubic"), crops)
    assert [row["true"] for row in said] == ["0", "2", "2"]
    np.testing.assert_allclose([[float(row[name]) for name in "012"] for row in said], wanted, atol=1e-5)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["crops"] == crops
    assert len(make_crops(found.models[0].view or View((1, 1)), crops, 45, 60)) == crops


def test_every_picture_is_decoded_once(
    models: list[str], digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[str] = Counter()

    def counting(path: Path, *args: Any, **options: Any) -> Image.Image:
        decoded[str(path)] += 1
        return decode(path, *args, **options)

    monkeypatch.setattr(labelled, "decode", counting)
    found = evaluate(models, digits, out=tmp_path / "out")
    shown = {mistake.name for mistake in found.report.mistakes[:16]}  # read again, to be drawn
    assert decoded == Counter({str(file): 1 + (str(file) in shown) for file in digits.glob("*/*.png")})


def test_the_order_of_the_pictures_changes_nothing(models: list[str], digits: Path, tmp_path: Path) -> None:
    files = [(file, file.parent.name) for file in digits.glob("*/*.png")]
    order = np.random.default_rng(0).permutation(len(files))
    manifest = tmp_path / "shuffled.csv"
    manifest.write_text("path,label\n" + "".join(f"{files[n][0]},{files[n][1]}\n" for n in order), encoding="utf-8")
    one = evaluate(models[:1], digits, out=tmp_path / "one", batch_size=5).models[0].figures
    other = evaluate(models[:1], manifest, out=tmp_path / "other", batch_size=11).models[0].figures
    assert (one.top1, one.balanced, one.macro_f1) == (other.top1, other.balanced, other.macro_f1)
    assert one.calibration.ece == pytest.approx(other.calibration.ece, abs=1e-5)
    assert one.calibration.temperature == pytest.approx(other.calibration.temperature, rel=1e-3)


def test_corrupt_pictures_are_listed_up_to_a_bound(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_digits(tmp_path / "some corrupt", classes=2, per_class=4)
    (folder / "0" / "001.png").write_text("corrupt")
    damaged = folder / "1" / "002.png"
    damaged.write_bytes(damaged.read_bytes()[:-40])  # its header is whole: found out on the way
    (folder / "1" / "003.png").unlink()
    (folder / "0" / "notes.txt").write_text("no picture")
    assert main(["evaluate", models[0], "--data", str(folder), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    found, rarest = report["models"][0]["figures"], report["rarest"]
    assert (rarest["name"], rarest["support"]) == ("1", 2)
    for fact in (
        "5 pictures of 2 classes",
        f"{found['top1']:.2%}",
        f"{found['balanced']:.2%}",
        f"rarest class '1', 2 pictures: recall {rarest['recall']:.1%}",
        "mean of the classes",
        "ECE",
        f"{tmp_path / 'out'}",
    ):
        assert fact in said
    for name in ("001.png: is not a JPEG", "002.png: cannot be decoded", "1 file ending in .txt, not read"):
        assert name in said
    assert report["pictures"] == sum(score["support"] for score in report["per_class"]) == 5
    assert [Path(name).name for name, _ in report["left_out"]] == ["001.png", "002.png", "some corrupt"]
    assert (
        main(["evaluate", models[0], "--data", str(folder), "--max-corrupt", "1", "--out", str(tmp_path / "no")]) == 1
    )
    assert "2 of 7 pictures cannot be read, max_corrupt allows 1" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_classes_that_the_model_has_not_are_refused_with_the_lists(models: list[str], tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "four", classes=4, per_class=1)
    with pytest.raises(
        InputError, match=r"four: has 1 of 4 classes that .*one\.keras lacks: '3'; its 3 .*'0', '1', '2'"
    ):
        evaluate(models[:1], folder, out=tmp_path / "out")
    other = write_model(tmp_path / "other.keras", classes="0123")
    with pytest.raises(InputError, match=r"other\.keras has 1 that .*one\.keras lacks: '3'\. Use them one by one"):
        evaluate(
            [models[0], str(other)], write_digits(tmp_path / "three", classes=3, per_class=1), out=tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_one_class_alone_and_needless_names(models: list[str], digits: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "ones.csv"
    manifest.write_text("path,label\n" + "".join(f"{file},1\n" for file in digits.glob("1/*.png")), encoding="utf-8")
    found = evaluate(models[:1], manifest, out=tmp_path / "out")
    assert found.models[0].figures.pictures == sum(found.report.confusion[1]) == 12
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\n")
    with pytest.raises(InputError, match="classes: all models have class names of their own"):
        evaluate(models[:1], digits, out=tmp_path / "no", classes=names)


def test_what_a_user_of_keras_would_pass(models: list[str], digits: Path, tmp_path: Path) -> None:
    """One model or several, texts or paths, a Keras model with its classes' names."""
    wanted = evaluate(models[:1], digits, out=str(tmp_path / "texts"))
    assert evaluate(models[0], str(digits), out=tmp_path / "one").models == wanted.models
    assert evaluate([Path(models[0])], digits, out=tmp_path / "path").models == wanted.models
    keras_model, _ = load_model(Path(models[0]))
    names = tmp_path / "names.txt"
    names.write_text("0\n1\n2\n")
    for out, classes in (("file", str(names)), ("list", ["0", "1", "2"])):
        found = evaluate(keras_model, digits, out=tmp_path / out, classes=classes)
        assert found.models[0].figures == wanted.models[0].figures
    for given, says in (
        ({"models": [3]}, "model: got 3; it takes a run's folder"),
        ({"models": []}, "models: none is given"),
        ({"data": 3}, "data: got 3"),
        ({"out": 3}, "out: got 3"),
        ({"classes": "nowhere.txt"}, "nowhere.txt: cannot be read"),
        ({"classes": ["a", "a"]}, "classes: has 'a' more than once"),
        ({"classes": [1, 2]}, "classes: got"),
        ({"models": keras_model}, "has no names for its 3 classes"),
        ({"models": keras_model, "data": None}, "data: none is given"),
    ):
        with pytest.raises(InputError, match=says):
            evaluate(**{"models": models, "data": digits, "out": tmp_path / "no", **given})
    with pytest.raises(InputError, match="takes images of any size"):
        evaluate(tiny.build(input_shape=(None, None, 3)), digits, out=tmp_path / "no")


def test_a_model_that_does_not_scale_its_pixels_is_given_scaled_ones(digits: Path, tmp_path: Path) -> None:
    unscaled = create_inception_resnet_v1(3, input_shape=(75, 75, 3), depths=(1, 1, 1))
    scaled = create_inception_resnet_v1(3, input_shape=(75, 75, 3), depths=(1, 1, 1), include_preprocessing=True)
    scaled.set_weights(unscaled.get_weights())
    classes = ["0", "1", "2"]
    found, wanted = (
        evaluate(model, digits, out=tmp_path / name, classes=classes).models[0].figures
        for name, model in (("unscaled", unscaled), ("scaled", scaled))
    )
    assert (found.top1, found.pictures) == (wanted.top1, wanted.pictures)
    assert found.calibration.nll == pytest.approx(wanted.calibration.nll, rel=1e-5)


def test_what_is_there_is_not_overwritten(models: list[str], digits: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="is not an empty folder; nothing is overwritten, give a new folder"):
        evaluate(models[:1], digits, out=tmp_path)
    with pytest.raises(InputError, match="lies in the folder of pictures"):
        evaluate(models[:1], digits, out=digits / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_out_the_next_free_folder_is_taken(
    models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = write_digits(tmp_path / "few", 3, 1)
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        folder = evaluate(models[:1], few).folder
        assert folder == Path("evaluations") / f"few-{number}"
        assert (folder / "report.json").is_file()


def test_nothing_is_left_among_the_pictures(models: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_digits(tmp_path / "pictures", classes=2, per_class=1)
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=r"evaluations: lies in the folder of pictures \."):
        evaluate(models[:1], ".")
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1"]


def test_json_for_programs(models: list[str], digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", *models, "--data", str(digits), "--crop-fraction", "0.5", "--crop-mode", "center"]
    assert main([*arguments, "--json", "--out", str(tmp_path / "one")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "one" / "report.json").read_text())
    assert [model["view"]["size"] for model in printed["models"]] == [[32, 32], [40, 40]]
    assert {(model["view"]["fraction"], model["view"]["mode"]) for model in printed["models"]} == {(0.5, "center")}
    assert printed["average"]["name"] == "average"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--crops", "10"], "crops: got 10; it takes 1 or 12 or 144"),
        (["--crops", "12", "--crop-fraction", "0.5"], "crops: got 12; it takes 1 with a crop fraction or mode"),
        (["--crop-fraction", "2"], "crop fraction: got 2.0"),
        (["--batch-size", "0"], "batch_size: got 0"),
        (["--mirror"], "--mirror needs --pairs"),
        (["--classes", "/nowhere.txt"], "/nowhere.txt: cannot be read"),
        (["nothing.keras"], "nothing.keras: there is no such file, folder or registered name"),
        (
            ["imagenet"],
            "'imagenet' has several networks: give inception_resnet_v2:slim=imagenet or inception_v4:slim",
        ),
        (["inception_v4=vggface2"], "'vggface2' has no weights for inception_v4: give inception_resnet_v1:facenet=vgg"),
        (["inception_v5=imagenet"], "network: got 'inception_v5'"),
        (["inception_v4:facenet=imagenet"], "variant: got 'facenet'"),
    ],
)
def test_bad_input_is_refused_before_work(
    models: list[str], digits: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = digits.parent / "no"
    assert main(["evaluate", models[0], *arguments, "--data", str(digits), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_what_is_no_model_is_said_to_be_none(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file; give a run's folder, a SavedModel's folder"):
        locate(str(digits))
    with pytest.raises(InputError, match="has an unknown format"):
        locate(str(digits / "0" / "000.png"))
    damaged = tmp_path / "model.keras"
    damaged.write_bytes(b"PK damaged")
    with pytest.raises(InputError, match="damaged"):
        locate(str(damaged))

"""Verification of pairs, whole, by a small model on small real pictures."""

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from inception_resnet_keras import create_inception_resnet_v1
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.console import counted
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.images import decode, read_image
from inception_resnet_keras.evaluation import faces
from inception_resnet_keras.evaluation.evaluate import ASSUMED
from inception_resnet_keras.evaluation.faces import read_pairs, verify_faces
from inception_resnet_keras.evaluation.tables import show_verified
from inception_resnet_keras.evaluation.verification import verify
from inception_resnet_keras.models import open as opening
from inception_resnet_keras.models.model_file import load_model, save_model

from .faces import face_file, write_faces, write_pairs
from .models import write_model


class Set(NamedTuple):
    model: Path
    pairs: Path
    data: Path


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Set:
    folder = tmp_path_factory.mktemp("faces")
    return Set(write_model(folder / "model.keras"), write_pairs(folder / "pairs.txt"), write_faces(folder / "faces"))


def distances(given: Set, mirror: bool) -> np.ndarray:
    """By hand, pair by pair: what the classifier reads, made of length 1."""
    loaded, _ = load_model(given.model)
    embedder = keras.Model(loaded.input, loaded.get_layer("logits").input)
    sides = []
    for each in range(2):
        files = [face_file(given.data, (pair.first, pair.second)[each]) for pair in read_pairs(given.pairs)]
        pixels = np.stack([read_image(file, (32, 32)) for file in files]).astype(np.float32)
        looks = [pixels, pixels[:, :, ::-1]] if mirror else [pixels]
        vectors = np.stack([np.asarray(embedder(look)) for look in looks])
        sides.append(vectors / np.linalg.norm(vectors, axis=2, keepdims=True))
    return np.square(sides[0] - sides[1]).sum(axis=2).mean(axis=0)


@pytest.mark.parametrize("mirror", [False, True])
def test_figures_are_those_of_the_embeddings(
    given: Set, tmp_path: Path, mirror: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: Counter[str] = Counter()

    def counting(path: Path, *size: Any, **options: Any) -> Image.Image:
        decoded[path.name] += bool(size)  # those that are drawn are read again, without a size
        return decode(path, *size, **options)

    monkeypatch.setattr(faces, "decode", counting)
    found = verify_faces(str(given.model), given.pairs, given.data, out=tmp_path / "out", mirror=mirror, batch_size=4)
    every = read_pairs(given.pairs)
    same, folds = np.array([pair.same for pair in every]), np.array([pair.fold for pair in every])
    wanted = distances(given, mirror)
    with (tmp_path / "out" / "pairs.csv").open(newline="") as file:
        said = list(csv.DictReader(file))
    np.testing.assert_allclose([float(row["distance"]) for row in said], wanted, atol=1e-5)
    scores = verify(wanted, same, folds)
    assert found.verification.accuracy == pytest.approx(scores.accuracy)
    assert found.verification.auc == pytest.approx(scores.auc)
    assert np.mean([int(row["right"]) for row in said]) == pytest.approx(scores.accuracy)  # folds of equal length
    assert (found.one_person, found.two_persons, found.left_out) == (18, 18, 0)
    assert max(decoded.values()) == 1
    with (console := Console(width=80)).capture() as capture:
        show_verified(console, found)
    pairs = "18 pairs of the same person, 18 of different persons"
    for fact in (f"accuracy {scores.accuracy:.2%} ± ", pairs, f"{scores.auc:.4f}"):
        assert fact in capture.get()
    assert found.pictures == len(decoded) == len({face for pair in every for face in pair[1:]})
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.json",
        "pairs.csv",
        "roc.png",
        "mistakes.png",
    }


def test_texts_paths_and_keras_models_are_taken(given: Set, tmp_path: Path) -> None:
    wanted = verify_faces(given.model, given.pairs, given.data, out=tmp_path / "paths").verification
    texts = verify_faces(str(given.model), str(given.pairs), str(given.data), out=str(tmp_path / "texts"))
    assert texts.verification == wanted
    loaded, _ = load_model(given.model)
    assert verify_faces(loaded, given.pairs, given.data, out=tmp_path / "keras").verification == wanted
    with pytest.raises(InputError, match="pairs: got 3; it takes a path"):
        verify_faces(given.model, 3, given.data)  # type: ignore[arg-type]


def test_what_the_weights_are_published_with_stands_beside(
    given: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a registered name; the network is the small one, so that nothing is downloaded."""
    small, _ = load_model(given.model)
    monkeypatch.setattr(opening, "_built", lambda *_, **__: small)
    found = verify_faces("vggface2", given.pairs, given.data, out=tmp_path / "out")
    assert found.published == json.loads((tmp_path / "out" / "report.json").read_text())["published"] == {"LFW": 99.65}
    with (console := Console(width=80)).capture() as capture:
        show_verified(console, found)
    assert "published accuracy of its weights, on their own pairs: LFW 99.65 %" in capture.get()


def test_faces_are_looked_at_as_their_run_was_evaluated_and_it_is_told(given: Set, tmp_path: Path) -> None:
    model, card = load_model(given.model)
    save_model(model, tmp_path / "cropped.keras", replace(card, central_crop=0.875))
    cropped = verify_faces(tmp_path / "cropped.keras", given.pairs, given.data, out=tmp_path / "cropped")
    asked = verify_faces(given.model, given.pairs, given.data, out=tmp_path / "asked", crop_fraction=0.875)
    whole = verify_faces(given.model, given.pairs, given.data, out=tmp_path / "whole")
    assert (cropped.view, cropped.verification) == (asked.view, asked.verification)
    for found, says in ((cropped, "0.875 of the picture (squash), bilinear, at"), (whole, "the whole picture")):
        with (console := Console(width=200)).capture() as capture:
            show_verified(console, found)
        assert says in capture.get()
        assert found.notes == []


def test_a_view_that_nothing_tells_is_said_to_be_assumed(
    given: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a checkpoint; the network is the small one, so that none of a hundred megabytes is written."""
    small, _ = load_model(given.model)
    monkeypatch.setattr(opening, "_built", lambda *_, **__: small)
    checkpoint = tmp_path / "faces.weights.h5"
    create_inception_resnet_v1(3, variant="facenet", depths=(1, 1, 1), input_shape=(75, 75, 3)).save_weights(checkpoint)
    found = verify_faces(checkpoint, given.pairs, given.data, out=tmp_path / "out")
    assert found.notes == json.loads((tmp_path / "out" / "report.json").read_text())["notes"]
    alone, assumed = found.notes
    assert alone.startswith("the file holds only weights: they are run in inception_resnet_v1 (facenet) at 160×160")
    assert assumed == ASSUMED
    with (console := Console(width=300)).capture() as capture:
        show_verified(console, found)
    assert ASSUMED in capture.get()
    told = verify_faces(checkpoint, given.pairs, given.data, out=tmp_path / "told", crop_fraction=1.0)
    assert (told.notes, told.verification) == ([alone], found.verification)


def test_missing_and_corrupt_pictures_are_listed_and_their_pairs_left_out(
    given: Set, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, pairs = write_faces(tmp_path / "faces"), write_pairs(tmp_path / "pairs.txt")
    every = read_pairs(pairs)
    gone, damaged = every[0].first, every[-1].second
    face_file(data, gone).unlink()
    face_file(data, damaged).write_text("corrupt")
    left = [pair for pair in every if not {gone, damaged} & set(pair[1:])]
    arguments = ["evaluate", str(given.model), "--pairs", str(pairs), "--data", str(data)]
    assert main([*arguments, "--json", "--out", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert printed == json.loads((tmp_path / "out" / "report.json").read_text())
    assert printed["left_out"] == len(every) - len(left) > 1
    assert printed["one_person"] + printed["two_persons"] == len(left)
    assert f"left out: {data / gone.person / str(gone)}: no such picture exists" in captured.err
    assert f"left out: {face_file(data, damaged)}: is not a JPEG" in captured.err
    assert main([*arguments, "--max-corrupt", "1", "--out", str(tmp_path / "no")]) == 1
    assert "2 of 15 pictures cannot be read, max_corrupt allows 1" in capsys.readouterr().err
    assert f"{counted(printed['left_out'], 'pair', 'was', 'were')} left out" in captured.err


@pytest.mark.parametrize(
    ("models", "more", "says"),
    [
        (2, [], "--pairs: 2 models are given; faces are verified by one"),
        (
            1,
            ["--crops", "12"],
            "--pairs: --crops, --classes, --group, --positive and --value-range are for classifiers",
        ),
        (1, ["--data", "/nowhere/at all"], "/nowhere/at all: is not a folder"),
        (1, ["--pairs", "/nowhere.txt"], "/nowhere.txt: cannot be read"),
        (1, ["--interpolation", "nearest", "--crop-fraction", "0"], "crop fraction: got 0.0"),
    ],
)
def test_bad_input_is_refused(
    given: Set, models: int, more: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = given.data.parent / "no"
    arguments = ["--pairs", str(given.pairs), "--data", str(given.data), "--out", str(out), *more]
    assert main(["evaluate", *[str(given.model)] * models, *arguments]) == 1
    assert says in capsys.readouterr().err
    assert not out.exists()


def test_one_fold_and_no_picture_at_all_are_refused(given: Set, tmp_path: Path) -> None:
    one = write_pairs(tmp_path / "one.txt", folds=1)
    with pytest.raises(InputError, match="has one fold; at least two are needed"):
        verify_faces(str(given.model), one, given.data, out=tmp_path / "out")
    (tmp_path / "empty").mkdir()
    two = write_pairs(tmp_path / "two.txt", folds=2)
    with pytest.raises(InputError, match="lacks pictures of all 24 pairs"):
        verify_faces(str(given.model), two, tmp_path / "empty", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()

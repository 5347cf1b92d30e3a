"""A damaged model, whose outputs are NaN: every verb and function names it and a picture, and none ranks NaN."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from inception_resnet_keras import evaluate, explain, export_model, predict, verify_faces
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.models.model_file import load_model, save_model
from inception_resnet_keras.models.open import require_finite, without_background
from inception_resnet_keras.weights.labels import decode_predictions

from ..evaluation.faces import write_faces, write_pairs
from ..exporting import CARD, lively, write_pictures


class Given(NamedTuple):
    model: Path
    pictures: Path
    pairs: Path
    faces: Path
    folder: Path


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    folder = tmp_path_factory.mktemp("damaged")
    model = lively()
    last = [layer for layer in model.layers if layer.weights][-2]
    last.set_weights([np.full(weight.shape, np.nan, np.float32) for weight in last.weights])
    save_model(model, folder / "model.keras", CARD)
    pairs, faces = write_pairs(folder / "pairs.txt"), write_faces(folder / "faces")
    return Given(folder / "model.keras", write_pictures(folder / "pictures"), pairs, faces, folder)


VERBS: dict[str, Callable[[Given], list[Any]]] = {
    "predict": lambda given: [given.model, given.pictures],
    "evaluate": lambda given: [given.model, "--data", given.pictures, "--out", given.folder / "e"],
    "evaluate --pairs": lambda given: [
        *(given.model, "--pairs", given.pairs, "--data", given.faces, "--out", given.folder / "v"),
    ],
    "explain": lambda given: [given.model, given.pictures / "null" / "000.png", "--out", given.folder / "x"],
    "export": lambda given: [
        *(given.model, "--format=litert", "--check", given.pictures, "--out", given.folder / "a.tflite"),
    ],
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_names_the_model_and_the_first_picture(
    given: Given, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb.partition(" ")[0], *map(str, VERBS[verb](given))]) == 1
    said = capsys.readouterr()
    last = said.err.splitlines()[-1]
    assert re.search(r"model.*: computes NaN or infinity for \d+ of \d+ pictures, the first of them \S+", last), last
    if verb != "export":
        assert ".png" in last
    assert "nan" not in said.out.lower()
    assert {path.name for path in given.folder.iterdir()} == {"model.keras", "pictures", "pairs.txt", "faces"}


def test_every_function_does(given: Given, tmp_path: Path) -> None:
    model, _ = load_model(given.model)
    calls: list[Callable[[], object]] = [
        lambda: predict(model, given.pictures),
        lambda: evaluate(model, given.pictures, classes=CARD.classes, out=tmp_path / "e"),
        lambda: verify_faces(model, given.pairs, given.faces, out=tmp_path / "v"),
        lambda: explain(model, np.zeros((2, 32, 32, 3))),
        lambda: explain(model, np.zeros((2, 32, 32, 3)), classes=1),
        lambda: explain(model, np.zeros((2, 32, 32, 3)), against=np.zeros((1, 32, 32, 3))),
        lambda: export_model(given.model, tmp_path / "a.tflite", "litert", check=given.pictures),
    ]
    for call in calls:
        with pytest.raises(InputError, match="computes NaN or infinity"):
            call()


def test_the_first_such_picture_is_named() -> None:
    outputs = np.zeros((3, 2, 4))
    assert require_finite("m", outputs, "abc") is outputs
    outputs[1, 1, 3] = np.inf
    with pytest.raises(InputError, match="m: computes NaN or infinity for 1 of 3 pictures, the first of them b:"):
        require_finite("m", outputs, "abc")


def test_nan_does_not_pass_for_slims_background() -> None:
    given = np.array([[1, 0, 0], [np.nan, np.nan, np.nan], [0.5, np.nan, 0.5]], np.float32)
    found = without_background(lambda images: images, given)
    assert found[0].tolist() == [0.5, 0.5]
    assert np.isnan(found[1:]).any(axis=1).all()


def test_nan_has_no_rank_among_imagenets_classes() -> None:
    with pytest.raises(InputError, match="row 1 has NaN"):
        decode_predictions(np.stack([np.zeros(1000), np.full(1000, np.nan)]))

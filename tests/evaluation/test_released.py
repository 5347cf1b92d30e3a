"""Whole networks, runs and exports under evaluation: checkpoints, the background class, names by a file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inception_resnet_keras import create_inception_resnet_v1, create_inception_v4, networks, preprocess_input
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.crops import View, cut
from inception_resnet_keras.data.images import decode, read_image
from inception_resnet_keras.evaluation.evaluate import ASSUMED, evaluate
from inception_resnet_keras.evaluation.faces import read_pairs, verify_faces
from inception_resnet_keras.evaluation.verification import squared_distances
from inception_resnet_keras.models import classes
from inception_resnet_keras.weights import registry

from .. import tiny
from ..data.photographs import write_photographs
from ..pictures import write_digits
from .faces import face_file, write_faces, write_pairs

INDEX = [(f"n{number:08d}", f"class_{number}") for number in range(1000)]


@pytest.mark.slow
def test_slims_background_class_is_no_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registered name of 1001 classes on folders of WordNet ids: output k + 1 is class k."""
    model = create_inception_v4(1001, variant="slim")
    logits = model.get_layer("logits")
    logits.bias.assign(np.where(np.arange(1001) == 0, 2.0, 0.0))  # a background that would be likeliest
    weights = tmp_path / "v4.weights.h5"
    model.save_weights(weights)
    monkeypatch.setattr(registry, "fetch", lambda *_: weights)
    monkeypatch.setattr(classes, "class_index", lambda: INDEX)
    folder = write_photographs(tmp_path / "photographs", counts=(2, 1), size=(90, 120))
    pixels = [cut(decode(file), View((299, 299), 0.875), 1)[0] for file in sorted(folder.glob("*/*.jpg"))]
    raw = np.asarray(model(preprocess_input(np.stack(pixels).astype(np.float32)), training=False))
    assert (raw.argmax(axis=1) == 0).all()
    first = int(raw[0, 1:].argmax())
    (folder / "class 0").rename(folder / f"n{first:08d}")
    (folder / "class 1").rename(folder / f"class_{(first + 1) % 1000}")
    found = evaluate(["slim/inception_v4"], folder, out=tmp_path / "out", batch_size=3)
    without = raw[:, 1:] / raw[:, 1:].sum(axis=1, keepdims=True)
    truth = np.array([first, first, (first + 1) % 1000])
    scores = found.models[0].figures
    assert scores.top1 == pytest.approx((without.argmax(axis=1) == truth).mean())
    assert scores.top1 >= 1 / 3
    assert scores.calibration.nll == pytest.approx(-np.log(without[range(3), truth]).mean(), rel=1e-3)
    assert (found.models[0].published, found.models[0].paper) == ({}, None)  # of two classes, nothing is published
    assert found.models[0].view == View((299, 299), 0.875)


@pytest.mark.slow
def test_a_checkpoint_of_faces_verifies_and_classifies_by_a_file_of_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = (160, 160, 3)
    model = create_inception_resnet_v1(3, variant="facenet", input_shape=shape)
    weights = tmp_path / "faces.weights.h5"
    model.save_weights(weights)
    named = f"inception_resnet_v1:facenet={weights}"
    data, pairs = write_faces(tmp_path / "faces", each=3), write_pairs(tmp_path / "pairs.txt", each=3, folds=2, pairs=2)
    found = verify_faces(named, pairs, data, out=tmp_path / "verified", mirror=True)

    embedder = create_inception_resnet_v1(variant="facenet", input_shape=shape, weights=str(weights))
    sides = []
    for each in (0, 1):
        files = [face_file(data, (pair.first, pair.second)[each]) for pair in read_pairs(pairs)]
        pixels = np.stack([read_image(file, shape[:2]) for file in files]).astype(np.float32)
        looks = [preprocess_input(look, "facenet") for look in (pixels, pixels[:, :, ::-1])]
        sides.append(np.stack([embedder.predict(look, verbose=0) for look in looks], axis=1))
    wanted = squared_distances(*sides)
    rows = (tmp_path / "verified" / "pairs.csv").read_text().splitlines()[1:]
    np.testing.assert_allclose([float(row.split(",")[4]) for row in rows], wanted, atol=1e-4)
    assert found.view == View((160, 160))
    alone, assumed = found.notes
    assert alone.startswith("the file holds only weights: they are run in inception_resnet_v1 (facenet) at 160×160")
    assert assumed == ASSUMED

    with pytest.raises(InputError, match="has no names for its 3 classes; give a file with one name per line"):
        evaluate([str(weights)], data, out=tmp_path / "out")
    names = tmp_path / "names.txt"
    names.write_text("Digit_2\nDigit_0\nDigit_1\n")
    scored = evaluate([str(weights)], data, out=tmp_path / "out", classes=names)
    assert scored.classes == ["Digit_2", "Digit_0", "Digit_1"]
    assert scored.models[0].figures.pictures == 9
    assert scored.models[0].notes == [alone, ASSUMED]
    told = evaluate([str(weights)], data, out=tmp_path / "told", classes=names, crop_fraction=1.0).models[0]
    assert (told.notes, told.figures) == ([alone], scored.models[0].figures)
    names.write_text("Digit_2\nDigit_0\n")
    with pytest.raises(InputError, match=r"got 2 names, and .* has 3"):
        evaluate([str(weights)], data, out=tmp_path / "no", classes=names)
    assert main(["evaluate", f"inception_v4={weights}", "--data", str(data)]) == 1
    assert "the file holds inception_resnet_v1:facenet" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_is_evaluated_as_its_training_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On its validation folder, and as a SavedModel of it: the same figures as the run's own report."""
    from inception_resnet_keras import export_model

    monkeypatch.setitem(networks.NETWORKS, "few", {"paper": tiny.FEW})
    data, val = write_digits(tmp_path / "data"), write_digits(tmp_path / "val", per_class=30)
    run = tmp_path / "run"
    arguments = ["--model=few", "--size=32", f"--data={data}", f"--val={val}", f"--out={run}", "--set=copies=allow"]
    assert main(["train", *arguments, "--epochs=6", "--batch-size=16", "--learning-rate=0.02"]) == 0
    ended = json.loads((run / "report.json").read_text())
    exported = tmp_path / "exported"
    export_model(run, exported, "saved_model", optimize=False)
    found = evaluate([str(run), str(exported)], val, out=tmp_path / "out")
    assert found.models[0].figures.top1 == ended["accuracy"]
    assert found.models[1].figures.top1 == ended["accuracy"]
    assert found.report.confusion == ended["confusion"]
    assert evaluate([str(run)], out=tmp_path / "without data").report.confusion == ended["confusion"]
    losses = [model.figures.calibration.nll for model in found.models]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    facenet = replace(tiny.FEW, embedding=8)
    embedder = tiny.build(facenet, num_classes=None, include_preprocessing=True)
    export_model(embedder, tmp_path / "embedder", "saved_model", optimize=False)
    pairs, faces = write_pairs(tmp_path / "pairs.txt", folds=2), write_faces(tmp_path / "faces")
    verified = verify_faces(str(tmp_path / "embedder"), pairs, faces, out=tmp_path / "verified")
    assert verified.view == View((32, 32))
    files = [[face_file(faces, (pair.first, pair.second)[n]) for pair in read_pairs(pairs)] for n in (0, 1)]
    sides = [np.stack([read_image(file, (32, 32)) for file in side]).astype(np.float32) for side in files]
    wanted = squared_distances(*(embedder.predict(side, verbose=0)[:, None] for side in sides))
    rows = (tmp_path / "verified" / "pairs.csv").read_text().splitlines()[1:]
    np.testing.assert_allclose([float(row.split(",")[4]) for row in rows], wanted, atol=1e-4)
    with pytest.raises(InputError, match="was exported to give an embedding: give --pairs"):
        evaluate([str(tmp_path / "embedder")], val, out=tmp_path / "v")
    with pytest.raises(InputError, match="was exported to give probabilities of classes: --pairs needs an embedding"):
        verify_faces(str(exported), pairs, faces, out=tmp_path / "v")

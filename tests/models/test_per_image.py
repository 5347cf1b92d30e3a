"""Per-image standardisation: in the graph, beside it, in files, in exports and where faces are verified, one result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import pytest

from inception_resnet_keras import create_inception_resnet_v1, export_model, inspect_checkpoint, preprocess_input
from inception_resnet_keras.deploy.prepare import prepare
from inception_resnet_keras.evaluation.faces import verify_faces
from inception_resnet_keras.models import open as opening
from inception_resnet_keras.models.folding import optimize_for_inference
from inception_resnet_keras.models.model_file import Card, save_model
from inception_resnet_keras.networks.ends import pixel_input
from inception_resnet_keras.networks.rows import PER_IMAGE, RAW

from .. import tiny
from ..evaluation.faces import write_faces, write_pairs

NAME: Literal["per_image_standardization"] = "per_image_standardization"
FACES = replace(tiny.TINY, embedding=8, preprocessing=PER_IMAGE)
SIZE = (tiny.SIDE, tiny.SIDE)
CONTRAST = np.array([0.3, 1, 0.6], np.float32).reshape(3, 1, 1, 1)
PIXELS = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3)).astype(np.float32) * CONTRAST


@pytest.fixture(scope="module")
def models() -> tuple[keras.Model, keras.Model]:
    """A model of scaled images, and the same one of pixels."""
    options = {"num_classes": None, "batch_norm_momentum": 0.0}
    plain, whole = (tiny.build(FACES, include_preprocessing=inside, **options) for inside in (False, True))
    plain(preprocess_input(PIXELS, NAME), training=True)  # its statistics are theirs
    whole.set_weights(plain.get_weights())
    return plain, whole


def wanted(plain: keras.Model) -> np.ndarray:
    return np.asarray(plain(preprocess_input(PIXELS, NAME), training=False))


def close(found: Any, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    assert np.ptp(expected, axis=0).max() > 1e-2  # the images give different outputs
    np.testing.assert_allclose(np.asarray(found), expected, atol=tolerance)


def test_in_the_graph_and_beside_it_is_the_same(models: tuple[keras.Model, keras.Model]) -> None:
    plain, whole = models
    close(whole(PIXELS, training=False), wanted(plain))
    close(whole(PIXELS * np.float32(0.5) + 20, training=False), wanted(plain), 1e-4)  # whatever light and contrast
    assert pixel_input(whole, SIZE, FACES).preprocessing is RAW
    assert optimize_for_inference(whole).count_params() < whole.count_params()
    close(optimize_for_inference(whole)(PIXELS, training=False), wanted(plain), 1e-4)


def test_channels_first_is_the_same(models: tuple[keras.Model, keras.Model]) -> None:
    keras.config.set_image_data_format("channels_first")
    try:
        first = tiny.build(FACES, num_classes=None, include_preprocessing=True, input_shape=(3, *SIZE))
    finally:
        keras.config.set_image_data_format("channels_last")
    scaled = keras.Model(first.input, first.get_layer("stem_conv_1").input)
    moved = np.moveaxis(PIXELS, -1, 1)
    close(scaled(moved), np.moveaxis(preprocess_input(PIXELS, NAME), -1, 1), 1e-4)


def test_whoever_opens_a_model_finds_it(models: tuple[keras.Model, keras.Model], tmp_path: Path) -> None:
    plain, whole = models
    whole.save(tmp_path / "whole.keras")
    save_model(whole, tmp_path / "card.keras", Card("tiny", "paper", list("abcdefgh"), SIZE))
    for given in (whole, tmp_path / "whole.keras", tmp_path / "card.keras"):
        opened = opening.open_model(given, embedding=True)
        assert opened.preprocessing is RAW
        close(opened.run(PIXELS), wanted(plain))
    opened = opening.open_model(plain, embedding=True, preprocessing=NAME)
    assert opened.preprocessing is PER_IMAGE
    close(opened.run(PIXELS), wanted(plain))


def test_faces_are_verified_alike(models: tuple[keras.Model, keras.Model], tmp_path: Path) -> None:
    pairs, data = write_pairs(tmp_path / "pairs.txt"), write_faces(tmp_path / "faces")
    plain, whole = models
    found = [
        verify_faces(plain, pairs, data, out=tmp_path / "plain", preprocessing=NAME),
        verify_faces(whole, pairs, data, out=tmp_path / "whole"),
    ]
    assert found[0].verification.accuracy == pytest.approx(found[1].verification.accuracy)


def test_an_export_has_it_inside(models: tuple[keras.Model, keras.Model], tmp_path: Path) -> None:
    plain, whole = models
    cases: list[tuple[keras.Model, Literal["per_image_standardization"] | None]] = [(plain, NAME), (whole, None)]
    for number, (model, given) in enumerate(cases):
        prepared = prepare(model, "float32", class_names=None, preprocessing=given, optimize=False)
        close(prepared.reference(PIXELS), wanted(plain))
        export_model(model, tmp_path / f"m{number}.onnx", "onnx", preprocessing=given)
        close(opening.open_model(tmp_path / f"m{number}.onnx", embedding=True).run(PIXELS), wanted(plain), 1e-4)


def test_bare_weights_of_a_narrow_embedding_are_run_with_it(tmp_path: Path) -> None:
    shape = (160, 160, 3)
    model = create_inception_resnet_v1(variant="facenet_128", depths=(1, 1, 1), input_shape=shape)
    model.save_weights(tmp_path / "a.weights.h5")
    found = inspect_checkpoint(tmp_path / "a.weights.h5")
    assert (found.network.variant, found.network.preprocessing) == ("facenet_128", PER_IMAGE)
    opened = opening.open_model(tmp_path / "a.weights.h5", embedding=True)
    assert any(NAME in note for note in opened.notes)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype(np.float32)
    vectors = model(preprocess_input(pixels, NAME), training=False)
    np.testing.assert_allclose(opened.run(pixels), np.asarray(vectors), atol=1e-4)
    assert opened.run(pixels).shape == (2, 128)

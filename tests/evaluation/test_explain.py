"""Explanations against finite differences, and of models that are known to look at one place."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image
from sklearn.datasets import load_digits

from inception_resnet_keras import (
    create_inception_resnet_v1,
    create_inception_v4,
    endpoints,
    export_model,
    preprocess_input,
)
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.crops import View, cut
from inception_resnet_keras.data.images import decode
from inception_resnet_keras.evaluation import explain as explain_module
from inception_resnet_keras.evaluation.explain import explain
from inception_resnet_keras.evaluation.explanation_figure import CroppedPicture, explanation_figure
from inception_resnet_keras.evaluation.figure_style import save
from inception_resnet_keras.models import classes as named
from inception_resnet_keras.models.model_file import Card, save_model
from inception_resnet_keras.networks import edits
from inception_resnet_keras.weights import registry

from .. import tiny
from ..tiny import IMAGES

pytestmark = pytest.mark.usefixtures("charts")

SIDE = 32
WIDER = edits.with_width(tiny.TINY, 4)  # enough filters to learn with
NAMES = ["zero", "one", "seven"]


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return tiny.build(WIDER)


def in_a_quadrant(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real digits 0, 1 and 7, each somewhere in a quadrant of black: pixels, class, the quadrant's (row, column)."""
    random, digits = np.random.default_rng(seed), load_digits()
    pictures = np.zeros((count, SIDE, SIDE, 3), np.float32)
    labels, places = random.integers(0, 3, count), random.integers(0, 2, (count, 2))
    for picture, label, place in zip(pictures, labels, places, strict=True):
        chosen = random.choice(np.flatnonzero(digits.target == (0, 1, 7)[label]))
        top, left = place * 16 + random.integers(0, 5, 2)
        grey = Image.fromarray((digits.images[chosen] * 15.9).astype("uint8")).resize((12, 12))
        picture[top : top + 12, left : left + 12] = np.asarray(grey)[..., None]
    return pictures, labels, places


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    model = tiny.build(WIDER, include_preprocessing=True, batch_norm_momentum=0.9, dropout_rate=0.0)
    pictures, labels, _ = in_a_quadrant(600, seed=0)
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(pictures, labels, batch_size=20, epochs=12, verbose=0)
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    save_model(tiny.build(WIDER, include_preprocessing=True), path, Card("tiny", "paper", NAMES, (SIDE, SIDE)))
    return path


def write(folder: Path, count: int = 2) -> list[Path]:
    pictures, _, _ = in_a_quadrant(count, seed=2)
    paths = [folder / f"picture {number}.png" for number in range(count)]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture.astype(np.uint8)).save(path)
    return paths


def logits_of(model: keras.Model, pictures: np.ndarray) -> np.ndarray:
    return np.asarray(keras.Model(model.input, endpoints(model)["logits"])(pictures, training=False))


@pytest.mark.slow
def test_explanations_point_to_the_quadrant_that_holds_the_digit(trained: keras.Model) -> None:
    pictures, labels, places = in_a_quadrant(12, seed=1)
    found = explain(trained, pictures, endpoint="a02", steps=16, batch_size=16)
    right = [number for number, one in enumerate(found) if one.number == labels[number]]
    assert len(right) >= 9  # it has learned what it is asked about
    shares = []
    for number in right:
        for values in (found[number].cam, np.abs(found[number].gradients)):
            quarter = values.shape[0] // 2
            row, column = places[number] * quarter
            shares.append(values[row : row + quarter, column : column + quarter].sum() / max(values.sum(), 1e-9))
    by_cam, by_gradients = np.median(shares[::2]), np.median(shares[1::2])
    assert min(by_cam, by_gradients) > 0.5, "a map without a place has a quarter of its sum in the quadrant"


def test_grad_cams_weights_are_finite_differences(model: keras.Model) -> None:
    """A channel's weight is what the logit gains, a cell, when the channel rises everywhere."""
    maps = endpoints(model)["b02"]
    above = keras.Model(maps, endpoints(model)["logits"])
    features = np.asarray(keras.Model(model.input, maps)(IMAGES[:1], training=False))
    step, weights = 1e-2, []
    for channel in range(features.shape[-1]):
        shift = np.zeros_like(features)
        shift[..., channel] = step
        rise = [np.asarray(above(features + sign * shift, training=False))[0, 1] for sign in (1, -1)]
        weights.append((rise[0] - rise[1]) / (2 * step) / features[0, ..., 0].size)
    expected = np.maximum(features[0] @ np.array(weights), 0)
    found = explain(model, IMAGES[:1], classes=1, endpoint="b02", steps=1)[0]
    assert expected.max() > 0
    np.testing.assert_allclose(found.cam, expected / expected.max(), atol=0.02)


@pytest.mark.slow
def test_integrated_gradients_add_up_to_what_the_logit_gained(trained: keras.Model) -> None:
    pictures = in_a_quadrant(2, seed=3)[0]
    gained = logits_of(trained, pictures)[:, 2] - logits_of(trained, np.full_like(pictures, 127.5))[:, 2]
    gaps = {}
    for steps in (1, 200):
        found = explain(trained, pictures, classes=2, steps=steps, batch_size=50)
        np.testing.assert_allclose([one.difference for one in found], gained, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose([one.gradients.sum() + one.gap for one in found], gained, rtol=1e-3, atol=1e-3)
        gaps[steps] = sum(abs(one.gap) for one in found) / np.abs(gained).sum()
    assert gaps[200] < 0.02
    assert gaps[200] < gaps[1] / 5


def test_gradients_are_finite_differences(model: keras.Model) -> None:
    """One step is the gradient half way from grey to the picture, times the way."""
    found = explain(model, IMAGES[:1], classes=0, steps=1)[0]
    step, middle = 1e-2, IMAGES[:1] / 2
    for row, column in ((4, 4), (15, 20), (22, 9)):
        shift = np.zeros_like(middle)
        shift[0, row, column] = IMAGES[0, row, column] * step
        rise = [logits_of(model, middle + sign * shift)[0, 0] for sign in (1, -1)]
        assert found.gradients[row, column] == pytest.approx((rise[0] - rise[1]) / (2 * step), rel=0.1, abs=2e-4)


def test_the_class_and_its_probability(model: keras.Model) -> None:
    probabilities = tiny.run(model)
    for classes in (None, 1, [2, 0]):
        found = explain(model, IMAGES, classes=classes, steps=1)
        wanted = probabilities.argmax(axis=1) if classes is None else np.broadcast_to(classes, 2)
        assert [one.number for one in found] == list(wanted)
        expected = probabilities[[0, 1], wanted]
        assert [one.probability for one in found] == pytest.approx(list(expected), rel=1e-5)
    logits = explain(tiny.build(WIDER, classifier_activation=None), IMAGES, classes=1, steps=1)
    assert [one.probability for one in logits] == pytest.approx(list(probabilities[:, 1]), rel=1e-5)


def test_any_map_is_an_endpoint_and_the_default_has_places(model: keras.Model) -> None:
    maps = [name for name, tensor in endpoints(model).items() if len(tensor.shape) == 4]
    assert len(maps) > 12
    for name in maps[::4]:
        found = explain(model, IMAGES[:1], endpoint=name, steps=1)[0]
        assert found.endpoint == name
        assert found.cam.shape == endpoints(model)[name].shape[1:3]
    assert explain(model, IMAGES[:1], steps=1)[0].endpoint == "stem"  # 4×4: no map has five cells a side
    free = tiny.build(WIDER, input_shape=(None, None, 3))
    assert explain(free, np.zeros((1, 96, 64, 3)), steps=1)[0].cam.shape == (12, 8)
    assert explain(free, np.zeros((1, 299, 299, 3)), steps=1)[0].endpoint == "final"


def test_channels_first_says_the_same(channels_first: None, model: keras.Model, tmp_path: Path) -> None:
    """Images, maps and what is drawn; of pictures of any size too, and whatever Keras is set to."""
    del channels_first
    first = tiny.build(WIDER, input_shape=(3, SIDE, SIDE))
    free = tiny.build(WIDER, input_shape=(3, None, None))
    for other in (first, free):
        other.set_weights(model.get_weights())
    keras.config.set_image_data_format("channels_last")
    turned = IMAGES.transpose(0, 3, 1, 2)
    for other, endpoint in ((first, "a02"), (free, None)):
        expected = explain(model, IMAGES, classes=1, endpoint=endpoint, steps=2)
        found = explain(other, turned, classes=1, endpoint=endpoint, steps=2)
        for one, same in zip(found, expected, strict=True):
            assert one.endpoint == same.endpoint
            assert one.gradients.shape == (SIDE, SIDE)
            np.testing.assert_allclose(one.cam, same.cam, atol=1e-4)
            np.testing.assert_allclose(one.gradients, same.gradients, atol=1e-5)
            assert (one.score, one.gap) == pytest.approx((same.score, same.gap), abs=1e-4)
    with pytest.raises(InputError, match=r"it takes shape \(n, 3, 32, 32\)"):
        explain(first, IMAGES)

    picture = write(tmp_path, 1)[0]
    drawings = []
    for name, shape in (("first", (3, 32, 40)), ("last", (32, 40, 3))):
        keras.config.set_image_data_format(f"channels_{name}")
        scaled = tiny.build(WIDER, include_preprocessing=True, input_shape=shape)
        scaled.set_weights(model.get_weights())
        save_model(scaled, tmp_path / f"{name}.keras", Card("tiny", "paper", NAMES, (32, 40)))
        keras.config.set_image_data_format("channels_last")
        drawings.append(explained(tmp_path / f"{name}.keras", picture, tmp_path / name, "--class", "one"))
    assert np.abs(drawings[0] - drawings[1]).max() < 5


def test_half_precision_says_the_same(model: keras.Model) -> None:
    expected = explain(model, IMAGES, classes=1, endpoint="a02")
    half = tiny.build(WIDER, dtype="mixed_bfloat16")
    half.set_weights(model.get_weights())
    for one, other in zip(explain(half, IMAGES, classes=1, endpoint="a02"), expected, strict=True):
        assert np.corrcoef(one.gradients.ravel(), other.gradients.ravel())[0, 1] > 0.95


def test_an_embedding_is_explained_by_its_similarity_to_another_picture() -> None:
    facenet = tiny.build(replace(WIDER, embedding=8), num_classes=None)
    random = np.random.default_rng(0)
    for weight in facenet.weights:  # a fresh network's answer to grey is 0, which has no direction
        if weight.name == "beta":
            weight.assign(random.normal(0, 0.1, weight.shape))
    vectors = np.asarray(facenet(IMAGES, training=False))
    one, same = explain(facenet, IMAGES, against=IMAGES[1:], steps=64)
    assert (one.number, one.probability) == (None, None)
    assert one.score == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)
    assert same.score == pytest.approx(1, abs=1e-5)
    assert same.gradients.sum() == pytest.approx(same.difference, abs=0.1 * abs(same.difference) + 1e-3)
    with pytest.raises(InputError, match="gives embeddings, which have no classes"):
        explain(facenet, IMAGES)


def test_a_face_is_compared_by_what_the_classifier_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the released weights and every trained facenet have it: explained as `evaluate --pairs` verifies it."""
    facenet = tiny.build(replace(WIDER, embedding=8), include_preprocessing=True)
    read = keras.Model(facenet.input, facenet.get_layer("logits").input)
    pictures = in_a_quadrant(2, seed=4)[0]
    vectors = keras.utils.normalize(np.asarray(read(pictures, training=False)), axis=1)
    one, same = explain(facenet, pictures, against=pictures[1:], steps=1)
    assert (one.number, one.probability) == (None, None)
    assert one.score == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-5)
    assert same.score == pytest.approx(1, abs=1e-5)

    save_model(facenet, tmp_path / "model.keras", Card("tiny", "paper", NAMES, (SIDE, SIDE)))
    faces = write(tmp_path)
    out = tmp_path / "out"
    command = ["explain", str(tmp_path), str(faces[0]), "--against", str(faces[1]), "--steps", "1", "--out", str(out)]
    assert main(command) == 0
    pixels = np.stack([np.asarray(Image.open(face)) for face in faces]).astype(np.float32)
    expected = explain(facenet, pixels[:1], against=pixels[1:], steps=1)[0].score
    assert f"similarity to {faces[1].name}: {expected:.2f}" in capsys.readouterr().out
    assert [path.name for path in out.iterdir()] == ["picture 0_explained.png"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"endpoint": "a03"}, r"^endpoint: got 'a03'; it takes one of this model's feature maps: stem, a01"),
        ({"endpoint": "pooled"}, r"^endpoint: got 'pooled'"),
        ({"classes": 3}, r"^classes: got 3; it takes None, an integer from 0 to 2, or 2 such integers"),
        ({"classes": [1]}, r"^classes: got \[1\]"),
        ({"classes": "one"}, r"^classes: got 'one'"),
        ({"steps": 0}, r"^steps: got 0"),
        ({"against": IMAGES, "classes": 1}, r"^classes: got 1; it takes None together with against"),
    ],
)
def test_what_does_not_fit_is_refused(model: keras.Model, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        explain(model, IMAGES, **options)


def test_models_and_pictures_that_do_not_fit_are_refused(model: keras.Model) -> None:
    with pytest.raises(InputError, match="neither a classifier nor an embedding"):
        explain(tiny.build(include_top=False), IMAGES)
    with pytest.raises(
        InputError, match=r"^images: got 'an array of shape \(2, 32, 32\)'; it takes shape \(n, 32, 32, 3\)"
    ):
        explain(model, IMAGES[..., 0])


def test_the_command_draws_a_picture_each(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = write(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no more")
    out = tmp_path / "drawn"
    assert main(["explain", str(saved), str(tmp_path), "--class", "seven", "--endpoint", "a02", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.count("seven") == len(pictures)
    assert "left out" in said
    assert "broken.png" in said
    drawn = sorted(path.name for path in out.iterdir())
    assert drawn == ["picture 0_explained.png", "picture 1_explained.png"]
    with Image.open(out / drawn[0]) as image:
        assert image.width > 2 * image.height
        assert np.asarray(image.convert("L")).std() > 20
    before = (out / drawn[0]).read_bytes()
    assert main(["explain", str(saved), str(pictures[0]), "--out", str(out)]) == 1
    assert "already exists" in capsys.readouterr().err
    assert (out / drawn[0]).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--class", "two"],
            "--class: got 'two'; it takes the name of a class ('zero', 'one', 'seven') or a number from 0 to 2",
        ),
        (["--endpoint", "x"], "endpoint: got 'x'"),
        (["--steps", "0"], "steps: got 0"),
        (["--against", "{picture}", "--class", "1"], "--class: got '1'; it takes None together with --against"),
        (["{folder}/nowhere.png"], "nowhere.png: there is no such file or folder"),
    ],
)
def test_the_command_refuses_in_one_line(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    picture = write(tmp_path, 1)[0]
    given = [text.format(picture=picture, folder=tmp_path) for text in arguments]
    assert main(["explain", str(saved), str(picture), *given, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


SMALL: dict[str, Any] = {"depths": (1, 1, 1), "input_shape": (75, 75, 3)}
INDEX = [(f"n{number:08d}", "crane" if number in (5, 6) else f"class_{number}") for number in range(1000)]


def explained(model: Path, picture: Path, out: Path, *options: str) -> np.ndarray:
    assert main(["explain", str(model), str(picture), *options, "--steps", "1", "--out", str(out)]) == 0
    with Image.open(next(out.iterdir())) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.slow
def test_a_model_without_a_card_is_explained_with_its_own_preprocessing(tmp_path: Path) -> None:
    """As `create_…` and `convert` leave it, or its weights alone: the same drawing as of the run's model."""
    scaled, bare = (create_inception_resnet_v1(3, include_preprocessing=with_it, **SMALL) for with_it in (True, False))
    bare.set_weights(scaled.get_weights())
    picture = write(tmp_path, 1)[0]
    save_model(scaled, tmp_path / "run.keras", Card("inception_resnet_v1", "paper", ["0", "class 1", "2"], (75, 75)))
    bare.save(tmp_path / "bare.keras")
    run, other = (
        explained(tmp_path / f"{name}.keras", picture, tmp_path / name, "--class", "1", "--endpoint", "a01")
        for name in ("run", "bare")
    )
    assert run[40:].std() > 10
    assert np.abs(run - other)[40:].max() < 5  # below the titles


@pytest.mark.slow
def test_imagenets_classes_have_their_names_and_the_background_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint of 1001 classes: output k + 1 is class k, of the middle 0.875 of the picture, as evaluated."""
    model = create_inception_resnet_v1(1001, **SMALL)
    model.get_layer("logits").bias.assign(np.where(np.arange(1001) == 8, 9.0, 0.0))
    model.save(tmp_path / "imagenet.keras")
    picture = tmp_path / "picture.png"
    Image.effect_noise((160, 80), 90).convert("RGB").save(picture)
    monkeypatch.setattr(named, "class_index", lambda: INDEX)
    opened = explain_module._open(str(tmp_path / "imagenet.keras"), embedding=False, preprocessing=None)
    for asked in ("class_7", "n00000007", "n00000007_class", "Class 7", "7"):
        assert opened.number(asked) == 8
    assert (opened.name(8), opened.name(0)) == ("class_7", "background")
    with pytest.raises(InputError, match=r"--class: got 'crane'.* \('crane \(n00000005\)', 'crane \(n00000006\)'\)"):
        opened.number("crane")
    pixels, shown = opened.input_and_picture(picture)
    part = shown.crop
    assert pixels.shape == (1, 75, 75, 3)
    assert part.shape == (70, 140, 3)
    found = explain(opened.model, pixels, steps=1)[0]

    tries = []

    def offline() -> list[tuple[str, str]]:
        tries.append(1)
        raise InputError("cannot be fetched")

    monkeypatch.setattr(named, "class_index", offline)
    command = ["explain", str(tmp_path / "imagenet.keras"), str(picture), str(picture), "--steps", "1"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count(f"class 7  {found.probability:.1%}") == 2
    assert tries == [1]


@pytest.mark.slow
def test_registered_weights_are_fetched_and_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`inception_v4=imagenet` end to end: only the address and the hash are another file's, of random numbers."""
    model = create_inception_v4(1001, variant="slim")
    model.get_layer("logits").bias.assign(np.where(np.arange(1001) == 8, 9.0, 0.0))
    published = tmp_path / "inception-v4.weights.h5"
    model.save_weights(published)
    digest = f"md5:{hashlib.md5(published.read_bytes()).hexdigest()}"
    entry = replace(registry.WEIGHTS["kentsommer/inception_v4"], location=published.as_uri(), hash=digest)
    monkeypatch.setitem(registry.WEIGHTS, "kentsommer/inception_v4", entry)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(named, "class_index", lambda: INDEX)
    picture = tmp_path / "picture.png"
    Image.effect_noise((320, 240), 90).convert("RGB").save(picture)
    command = ["explain", "inception_v4=imagenet", str(picture), "--steps", "1", "--endpoint", "b07"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "keras" / registry.CACHE / published.name).is_file()
    pixels = cut(decode(picture), View((299, 299), 0.875), 1).astype(np.float32)
    probability = model.predict(preprocess_input(pixels), verbose=0)[0, 8]
    said = " ".join(capsys.readouterr().out.split())
    assert float(re.search(r"class_7 ([\d.]+)%", said)[1]) == pytest.approx(100 * probability, abs=0.06)  # type: ignore[index]
    with Image.open(tmp_path / "out" / "picture_explained.png") as drawn:
        assert np.asarray(drawn.convert("L")).std() > 20


def test_what_was_exported_has_no_gradients(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, picture = tmp_path / "exported", write(tmp_path, 1)[0]
    export_model(saved, model, "saved_model")
    assert main(["explain", str(model), str(picture), "--out", str(tmp_path / "out")]) == 1
    assert "is an exported model, which has no gradients; give the run" in capsys.readouterr().err


def test_a_picture_one_pixel_wide_is_drawn_on_a_sheet_that_can_be_written(tmp_path: Path) -> None:
    nothing = np.zeros((5, 5), np.float32)
    explained = explain_module.Explanation(
        0, 0.5, 1.0, "b10", nothing, np.zeros((9, 9), np.float32), 1.0, 0.0, np.zeros((9, 9, 3), np.uint8)
    )
    for name, shape in {"high.png": (65_535, 1, 3), "wide.png": (1, 65_535, 3)}.items():
        save(explanation_figure(np.zeros(shape, np.uint8), explained, "a class"), tmp_path / name)
        with Image.open(tmp_path / name) as drawn:
            assert max(drawn.size) < 3000


def test_a_figure_has_the_files_name_the_true_class_and_the_crops_outline(model: keras.Model) -> None:
    explained = explain(model, IMAGES[:1], steps=1)[0]
    picture = CroppedPicture(np.zeros((40, 60, 3), np.uint8), (10, 5, 50, 35))
    figure = explanation_figure(picture, explained, "seven 90 %", name="a$b.png", true="one")
    assert figure.get_suptitle() == "a\\$b.png\ntrue class: one"
    [outline] = figure.axes[0].patches
    assert isinstance(outline, Rectangle)
    assert outline.get_bbox().bounds == (9.5, 4.5, 40, 30)
    assert figure.axes[0].images[0].get_extent() == pytest.approx((-0.5, 59.5, 39.5, -0.5))
    assert figure.axes[1].images[0].get_extent() == pytest.approx((-0.5, 39.5, 29.5, -0.5))  # of the crop
    whole = explanation_figure(np.zeros((9, 9, 3), np.uint8), explained, "one")
    assert not whole.axes[0].patches
    assert not whole.get_suptitle()

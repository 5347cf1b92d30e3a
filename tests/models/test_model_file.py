import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.models.model_file import Card, load_model, read_card, save_model
from inception_resnet_keras.networks.recognise import channels_first as is_channels_first
from inception_resnet_keras.networks.recognise import image_size
from inception_resnet_keras.weights.runs import MEMBER

from .. import tiny

CARD = Card("tiny", "paper", ["a", "ß", "c"], (32, 40))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, Path]:
    model, path = tiny.build(input_shape=(32, 40, 3)), tmp_path_factory.mktemp("saved") / "model.keras"
    save_model(model, path, CARD)
    return model, path


def test_a_model_and_its_card_come_back(saved: tuple[keras.Model, Path]) -> None:
    model, path = saved
    loaded, card = load_model(path)
    assert card == CARD
    image = np.random.default_rng(0).random((1, 32, 40, 3), np.float32)
    assert np.array_equal(model(image), loaded(image))


def test_keras_itself_opens_it(saved: tuple[keras.Model, Path]) -> None:
    keras.saving.load_model(saved[1], safe_mode=True)


def rewritten(path: Path, to: Path, card: str | None) -> Path:
    """A copy of a saved model with another card, or none."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            if name != MEMBER:
                new.writestr(name, old.read(name))
        if card is not None:
            new.writestr(MEMBER, card)
    return to


@pytest.mark.parametrize("card", ["", "[]", "3", '{"network": 1}', json.dumps({"classes": 3})])
def test_a_damaged_card_is_named(saved: tuple[keras.Model, Path], tmp_path: Path, card: str) -> None:
    path = rewritten(saved[1], tmp_path / "m.keras", card)
    with pytest.raises(InputError, match=r"m\.keras: (is damaged|has no class names)"):
        read_card(path)


def test_what_this_project_did_not_save_is_named(saved: tuple[keras.Model, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no class names"):
        read_card(rewritten(saved[1], tmp_path / "m.keras", None))
    (tmp_path / "text.keras").write_text("text")
    with pytest.raises(InputError, match=r"text\.keras: is damaged or not a \.keras file"):
        read_card(tmp_path / "text.keras")
    with pytest.raises(InputError, match="no such file"):
        read_card(tmp_path)


def test_a_truncated_model_is_named(saved: tuple[keras.Model, Path], tmp_path: Path) -> None:
    whole = saved[1].read_bytes()
    for share in (0.3, 0.6, 0.99):
        (tmp_path / "m.keras").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError, match=r"m\.keras"):
            load_model(tmp_path / "m.keras")


def with_card(path: Path, to: Path, **changed: object) -> Path:
    return rewritten(path, to, json.dumps({**asdict(CARD), **changed}))


@pytest.mark.parametrize("size", [[100_000, 100_000], [-1, 5], [32, 32, 3], ["a", 3], None])
def test_a_card_that_cannot_be_true_is_refused_before_a_picture_is_read(
    saved: tuple[keras.Model, Path], tmp_path: Path, size: object
) -> None:
    with pytest.raises(InputError, match=r"m\.keras: is damaged"):
        load_model(with_card(saved[1], tmp_path / "m.keras", size=size))


@pytest.mark.parametrize("changed", [{"size": [50, 50]}, {"classes": ["x"]}])
def test_a_card_that_is_not_the_models_is_refused(
    saved: tuple[keras.Model, Path], tmp_path: Path, changed: dict[str, object]
) -> None:
    with pytest.raises(InputError, match=r"its model is \(None, 32, 40, 3\) → \(None, 3\)"):
        load_model(with_card(saved[1], tmp_path / "m.keras", **changed))


def test_the_models_own_axes_count_whatever_keras_is_set_to(channels_first: None, tmp_path: Path) -> None:
    del channels_first
    model = tiny.build(input_shape=(3, 32, 40))
    save_model(model, tmp_path / "m.keras", CARD)
    keras.config.set_image_data_format("channels_last")
    loaded, card = load_model(tmp_path / "m.keras")
    assert is_channels_first(loaded)
    assert image_size(loaded) == card.size == (32, 40)


@pytest.mark.parametrize("crop", [0, 1.5, "whole", None, True])
def test_a_crop_that_cannot_be_true_is_refused(saved: tuple[keras.Model, Path], tmp_path: Path, crop: object) -> None:
    with pytest.raises(InputError, match=r"m\.keras: is damaged.*central_crop"):
        read_card(with_card(saved[1], tmp_path / "m.keras", central_crop=crop))


def test_a_card_from_before_the_crop_was_kept_means_the_whole_picture(
    saved: tuple[keras.Model, Path], tmp_path: Path
) -> None:
    before = {name: value for name, value in asdict(CARD).items() if name != "central_crop"}
    assert read_card(rewritten(saved[1], tmp_path / "m.keras", json.dumps(before))).central_crop == 1

"""Which pictures int8 is calibrated on, and which it is judged on: all that are given, and never one of those."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.crops import View
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.data.value_range import with_models_range
from inception_resnet_keras.deploy import pictures
from inception_resnet_keras.deploy.pictures import (
    CALIBRATED_ON,
    ExportPictures,
    LazyImages,
    calibration_files,
    choose_pictures,
    read_files,
    shuffled_pictures,
)

SIZE = (8, 9)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures of noise in two classes, no two alike."""
    folder, random = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for number in range(40):
        place = folder / "ab"[number % 2]
        place.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (*SIZE, 3), np.uint8)).save(place / f"{number}.png")
    return folder


def choose(least: int = 10, validate: Path | None = None, **folders: Path) -> ExportPictures:
    named = {name: (str(folder), shuffled_pictures(name, folder)) for name, folder in folders.items()}
    labelled = None if validate is None else (str(validate), open_source(validate))
    return choose_pictures(named, labelled, View(SIZE), least)


def pixels(images: pictures.Images) -> set[bytes]:
    return {np.asarray(images[number]).tobytes() for number in range(len(images))}


def test_all_pictures_of_one_folder_are_either_calibrated_or_judged_on(noise: Path) -> None:
    chosen = choose(calibrate=noise)
    assert chosen.calibration is not None
    assert (len(chosen.calibration), len(chosen.judged)) == (32, 8)
    assert not pixels(chosen.calibration.images) & pixels(chosen.judged.images)
    assert any("calibrated on only 32 pictures" in note for note in chosen.notes)


def test_pictures_of_16_bits_are_scaled_by_the_range_of_the_model(tmp_path: Path) -> None:
    random, values = np.random.default_rng(0), []
    for number in range(12):
        values.append(random.integers(0, 4096, SIZE).astype(np.uint16))
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(values[-1]).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    view = View(SIZE, value_range=(0.0, 4095.0))
    expected = {np.rint(each * (255 / 4095)).astype(np.uint8).tobytes() for each in values}
    named = {"calibrate": ("pictures", shuffled_pictures("calibrate", tmp_path))}
    chosen = choose_pictures(named, None, view, 10)
    labelled = with_models_range(open_source(tmp_path), view.value_range, "pictures")
    validated = choose_pictures({}, ("pictures", labelled), view, 10)
    assert chosen.calibration is not None
    for images in (chosen.calibration.images, chosen.judged.images, validated.judged.images):
        assert {np.asarray(image)[..., 0].tobytes() for image in images[:]} <= expected


@pytest.mark.parametrize("kind", ["itself", "link", "copies"])
def test_no_picture_is_both_however_it_is_named(noise: Path, tmp_path: Path, kind: str) -> None:
    place = noise
    if kind == "link":
        place = tmp_path / "link"
        place.symlink_to(noise)
    elif kind == "copies":  # of half of them, under other names
        place = tmp_path / "copies"
        for name in "ab":
            (place / name).mkdir(parents=True)
            for number, file in enumerate(sorted((noise / name).iterdir())[:10]):
                shutil.copy(file, place / name / f"copy{number}.png")
        for number in range(5):  # and some that are only there
            Image.new("RGB", SIZE, (number, 0, 0)).save(place / "a" / f"own{number}.png")
    chosen = choose(calibrate=noise, validate=place)
    assert chosen.calibration is not None
    assert not pixels(chosen.calibration.images) & pixels(chosen.judged.images)
    assert len(chosen.judged) == (5 if kind == "copies" else 8)
    assert chosen.judged.calibrated == (20 if kind == "copies" else 32)
    assert chosen.judged.labels is not None
    assert len(chosen.judged.labels) == len(chosen.judged)


def test_every_picture_that_is_given_is_judged(noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    for number in range(70):
        Image.new("RGB", SIZE, (number, 1, 2)).save(loose / f"{number}.png")
    (loose / "broken.png").write_bytes(b"none")
    chosen = choose(check=loose, validate=noise)
    assert chosen.calibration is None
    assert len(chosen.judged) == 70 + 40
    assert chosen.judged.unreadable == 1
    assert chosen.judged.labels is not None
    source = open_source(noise)
    assert chosen.judged.labels.tolist() == source.labels.tolist()
    np.testing.assert_array_equal(chosen.judged.images[70 + 3], source.read(3, SIZE))
    monkeypatch.setattr(pictures, "KEPT_BYTES", 1000)  # so many that they are not kept
    again = read_files(shuffled_pictures("check", loose), View(SIZE), "loose")
    assert isinstance(again.images, LazyImages)
    assert pixels(again.images) == {bytes((number, 1, 2)) * SIZE[0] * SIZE[1] for number in range(70)}
    np.testing.assert_array_equal(again.images[3:5][1], again.images[4])


def test_too_few_to_calibrate_on_are_refused_unless_told(noise: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for file in sorted((noise / "a").iterdir())[:10]:
        shutil.copy(file, few)
    with pytest.raises(InputError, match=r"8 pictures to calibrate on besides the 2 that .*--min-calibration 8"):
        choose(calibrate=few)
    assert len(choose(8, calibrate=few).judged) == 2
    for number in range(10):  # copies do not count
        shutil.copy(few / "0.png", few / f"copy-{number}.png")
    with pytest.raises(InputError, match=r"without 0 unreadable and \d+ copies, has \d pictures to calibrate on"):
        choose(calibrate=few)
    for number in range(10):
        (few / f"copy-{number}.png").unlink()
    apart = choose(calibrate=few, check=noise / "b")
    assert apart.calibration is not None
    assert (len(apart.calibration), len(apart.judged)) == (10, 20)


@settings(max_examples=15)
@given(st.integers(1, 500), st.integers(0, 500), st.integers(0, 150))
def test_files_to_calibrate_on(count: int, shared: int, others: int) -> None:
    """The most that may be, and one is always left to judge on where there is a second."""
    shared = min(shared, count)
    files = [Path(f"/nowhere/{number}") for number in range(count)]
    judged = [f"/nowhere/{number}" for number in range(shared)] + [f"/elsewhere/{number}" for number in range(others)]
    used, _ = calibration_files(files, judged)
    assert len(set(used)) == len(used) <= min(count, CALIBRATED_ON)
    left = set(map(Path, judged)) - set(used)
    assert not judged or left
    if len(used) < min(count, CALIBRATED_ON):  # some are kept, as nothing else is judged
        assert others < count // 5 or not others
    own, kept = calibration_files(files, None)
    assert len(own) == min(CALIBRATED_ON, count - max(1, count // 5))
    assert kept == max(1, count // 5)

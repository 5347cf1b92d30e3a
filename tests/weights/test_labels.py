"""Class names for outputs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from inception_resnet_keras import decode_predictions
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.weights import download, labels
from inception_resnet_keras.weights.labels import read_class_names


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A class index of Keras's form in Keras's cache; its hash is not the published one."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    labels.class_index.cache_clear()
    path = tmp_path / "models" / "imagenet_class_index.json"
    path.parent.mkdir()
    path.write_text(json.dumps({str(number): [f"n{number:08d}", f"class_{number}"] for number in range(1000)}))
    yield path
    labels.class_index.cache_clear()


def test_the_most_probable_classes_come_first(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "DIGEST", None)
    probabilities = np.zeros((2, 1000), np.float32)
    probabilities[0, [3, 999]] = 0.75, 0.25
    probabilities[1, 0] = 1
    first, second = decode_predictions(probabilities, top=2)
    assert first == [("n00000003", "class_3", 0.75), ("n00000999", "class_999", 0.25)]
    assert (second[0].id, second[0].name, second[0].probability) == ("n00000000", "class_0", 1)
    assert len(decode_predictions(probabilities)[0]) == 5
    with_background = np.pad(probabilities, ((0, 0), (1, 0)), constant_values=9)
    assert decode_predictions(with_background, top=2) == [first, second]


def test_an_index_that_is_not_keras_own_is_refused(index: Path) -> None:
    with pytest.raises(InputError, match=r"imagenet_class_index\.json: has the md5"):
        decode_predictions(np.zeros((1, 1000)))


@pytest.mark.parametrize(
    ("shape", "top"), [((1000,), 5), ((1, 10), 5), ((1, 1000), 0), ((1, 1000), 1001), ((1, 1000), 2.0)]
)
def test_bad_arguments_are_refused(shape: tuple[int, ...], top: Any) -> None:
    with pytest.raises(InputError, match=r"probabilities: got|top: got"):
        decode_predictions(np.zeros(shape), top)


def test_offline_the_error_says_what_to_fetch_to_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**_: Any) -> str:
        raise OSError("offline")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras.utils, "get_file", offline)
    labels.class_index.cache_clear()
    with pytest.raises(InputError, match=rf"Fetch {labels.URL} and put it at {download.cache()}"):
        decode_predictions(np.zeros((1, 1000)))


def test_class_names_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\ufeffcat\n\n  dog \n", encoding="utf-8")
    assert read_class_names(path) == read_class_names(str(path), 2) == ["cat", "dog"]
    path.write_bytes(b"\xff\xfe")
    assert read_class_names(path) == ["\udcff\udcfe"]  # as a folder of that name is read
    path.write_bytes(b"")
    with pytest.raises(InputError, match="has no class names"):
        read_class_names(path)
    with pytest.raises(InputError, match="No such file"):
        read_class_names(tmp_path / "nothing.txt")


def test_class_names_may_repeat_unless_pictures_are_matched_by_them(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("crane\ntench\ncrane\n")
    for names, where in ((path, "names.txt"), (["crane", "tench", "crane"], "classes")):
        assert read_class_names(names) == ["crane", "tench", "crane"]
        with pytest.raises(InputError, match=f"{where}: has 'crane' more than once"):
            read_class_names(names, different=True)


def test_class_names_are_as_many_as_the_outputs() -> None:
    assert read_class_names(["a", "b"], 2) == ["a", "b"]
    with pytest.raises(InputError, match="classes: got 2 names, and the model has 3 outputs"):
        read_class_names(["a", "b"], 3)
    with pytest.raises(InputError, match="classes: got 3; it takes"):
        read_class_names(3)  # type: ignore[arg-type]

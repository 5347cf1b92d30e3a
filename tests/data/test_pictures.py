from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inception_resnet_keras.data import pictures
from inception_resnet_keras.data.images import SUFFIXES
from inception_resnet_keras.data.pictures import LazyImages, Pictures, digits, folder, held_out_split
from inception_resnet_keras.errors import InputError
from tests.pictures import write_digits

SIZE = (16, 20)


def test_the_digits_and_their_fixed_held_out_fifth() -> None:
    training, held_out = digits(SIZE)
    assert (len(training), len(held_out)) == (1438, 359)
    assert training.images[np.arange(2)].shape == (2, *SIZE, 3)
    assert not set(training.names) & set(held_out.names)
    assert np.bincount(held_out.labels).min() >= 35
    again = digits(SIZE)[1]
    assert list(again.names) == list(held_out.names)
    assert np.array_equal(np.asarray(again.images), np.asarray(held_out.images))


def test_a_folder_a_class(tmp_path: Path) -> None:
    write_digits(tmp_path, classes=2, per_class=3)
    (tmp_path / "1" / "deeper").mkdir()
    (tmp_path / "1" / "000.png").rename(tmp_path / "1" / "deeper" / "x.PNG")
    (tmp_path / "1" / "._000.png").write_text("hidden")
    (tmp_path / "1" / "notes.txt").write_text("passed over")
    (tmp_path / ".cache").mkdir()
    found = folder(tmp_path, SIZE)
    assert found.class_names == ["0", "1"]
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.asarray(found.images).shape == (6, *SIZE, 3)
    assert [reason for _, reason in found.unreadable] == [
        f"1 files that end in .txt are not read: {', '.join(SUFFIXES)} are"
    ]


def test_unreadable_pictures_are_left_out_and_listed(tmp_path: Path) -> None:
    write_digits(tmp_path, classes=2, per_class=3)
    bad = tmp_path / "0" / "001.png"
    bad.write_bytes(bad.read_bytes()[:60])
    calls: list[tuple[int, int]] = []
    found = folder(tmp_path, SIZE, progress=lambda done, total: calls.append((done, total)))
    assert len(found) == len(np.asarray(found.images)) == 5
    assert str(bad) not in found.names
    [(path, reason)] = found.unreadable
    assert path == str(bad)
    assert "decoded" in reason
    assert calls[-1] == (6, 6)


@pytest.mark.parametrize("lazy", [False, True])
def test_pictures_too_many_for_memory_are_read_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lazy: bool
) -> None:
    write_digits(tmp_path, classes=2, per_class=4)
    (tmp_path / "0" / "002.png").write_text("corrupt")
    if lazy:
        monkeypatch.setattr(pictures, "IN_MEMORY_BYTES", 10)
    found = folder(tmp_path, SIZE)
    assert isinstance(found.images, LazyImages) == lazy
    chosen = np.array([5, 0])
    expected = [np.asarray(Image.open(found.names[index]).convert("RGB").resize(SIZE[::-1], 2)) for index in chosen]
    assert np.abs(found.images[chosen].astype(int) - expected).max() <= 2
    subset = found.take(chosen)
    assert (subset.images[np.array([1])] == found.images[np.array([0])]).all()


def test_a_validation_folder_shares_the_training_sets_classes(tmp_path: Path) -> None:
    write_digits(tmp_path / "all", classes=3, per_class=2)
    names = folder(tmp_path / "all", SIZE).class_names
    write_digits(tmp_path / "val", classes=2, per_class=2)
    (tmp_path / "val" / "0").rename(tmp_path / "val" / "2")
    assert folder(tmp_path / "val", SIZE, class_names=names).labels.tolist() == [1, 1, 2, 2]
    (tmp_path / "val" / "1").rename(tmp_path / "val" / "cat")
    with pytest.raises(InputError, match="training set lacks: cat"):
        folder(tmp_path / "val", SIZE, class_names=names)


def test_what_cannot_be_trained_on_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing there"):
        folder(tmp_path / "none", SIZE)
    with pytest.raises(InputError, match="holds nothing"):
        folder(tmp_path, SIZE)
    write_digits(tmp_path / "one", classes=1, per_class=2)
    with pytest.raises(InputError, match="one class only, '0'"):
        folder(tmp_path / "one", SIZE)
    with pytest.raises(InputError, match="2 pictures outside any class"):
        folder(tmp_path / "one" / "0", SIZE)
    with pytest.raises(InputError, match="found a file there"):
        folder(tmp_path / "one" / "0" / "000.png", SIZE)
    (tmp_path / "one" / "cats").mkdir()
    with pytest.raises(InputError, match=r"class 'cats' has no readable picture.*\.webp"):
        folder(tmp_path / "one", SIZE)
    (tmp_path / "one" / "cats" / "a.jpg").write_text("no cat")
    with pytest.raises(InputError, match=r"class 'cats' has no readable picture.*a\.jpg: is no JPEG"):
        folder(tmp_path / "one", SIZE)


def labelled(counts: list[int]) -> Pictures:
    labels = np.repeat(np.arange(len(counts)), counts)
    numbers = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Pictures(
        [f"p{index}" for index in range(len(labels))], labels, numbers, [f"c{n}" for n in range(len(counts))]
    )


@given(counts=st.lists(st.integers(2, 20), min_size=2, max_size=6), seed=st.integers(0, 2**32 - 1))
def test_a_split_keeps_each_picture_once_and_each_class_on_both_sides(counts: list[int], seed: int) -> None:
    every = labelled(counts)
    training, held_out = held_out_split(every, seed)
    assert sorted([*training.names, *held_out.names]) == sorted(every.names)
    for part in (training, held_out):
        assert set(part.labels) == set(range(len(counts)))
        assert [f"p{number}" for number in np.asarray(part.images).ravel()] == list(part.names)
    expected = [max(1, round(count / 5)) for count in counts]
    assert np.bincount(held_out.labels).tolist() == expected
    assert list(held_out_split(every, seed)[1].names) == list(held_out.names)


def test_a_class_of_one_picture_cannot_be_split() -> None:
    with pytest.raises(InputError, match=r"1 classes have one readable picture: 'c1' \(p3\)"):
        held_out_split(labelled([3, 1]), 0)


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    write_digits(tmp_path / "data", classes=2, per_class=2)
    write_digits(tmp_path / "elsewhere", classes=1, per_class=3)
    (tmp_path / "data" / "1" / "linked").symlink_to(tmp_path / "elsewhere" / "0")
    (tmp_path / "data" / "1" / "loop").symlink_to(tmp_path / "data" / "1")
    (tmp_path / "data" / "0" / "gone.png").symlink_to(tmp_path / "nowhere")
    found = folder(tmp_path / "data", SIZE)
    assert np.bincount(found.labels).tolist() == [2, 5]
    assert [reason for _, reason in found.unreadable] == ["there is no such file"]


def test_what_is_no_class_is_passed_over_and_what_lies_beside_is_told(tmp_path: Path) -> None:
    write_digits(tmp_path, classes=2, per_class=3)
    for name in ("__MACOSX", "run"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes((tmp_path / "0" / "000.png").read_bytes())
    (tmp_path / "run" / "model.keras").touch()
    (tmp_path / "0" / "002.png").rename(tmp_path / "loose.png")
    found = folder(tmp_path, SIZE)
    assert found.class_names == ["0", "1"]
    assert [reason for _, reason in found.unreadable] == ["1 pictures beside the classes' folders are not read"]

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.contents import Memory
from inception_resnet_keras.data.corrupt import NOTHING_LEFT, CorruptPictures
from inception_resnet_keras.data.images import UnreadableImageError, read_image
from inception_resnet_keras.data.sources import JPEG, PILLOW, PLAIN, Source, header, held_out_split, open_source

from .photographs import photograph, write_formats, write_photographs


def test_a_folder(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    calls: list[tuple[int, int]] = []
    source = open_source(tmp_path, progress=lambda *call: calls.append(call))
    assert source.class_names == ["class 0", "class 1"]
    assert source.labels.tolist() == [0] * 5 + [1] * 6
    assert source.names[5] == str(tmp_path / "class 1" / "0.jpg")
    assert set(map(tuple, source.sizes)) == {(60, 80)}
    assert calls[-1] == (11, 11)
    assert source.contents.read(3) == (tmp_path / "class 0" / "3.jpg").read_bytes()
    np.testing.assert_array_equal(source.read(7), read_image(tmp_path / "class 1" / "2.jpg"))


def test_how_each_format_is_decoded(tmp_path: Path) -> None:
    paths = write_formats(tmp_path / "all")
    kinds = {name: header(path)[2] for name, path in paths.items()}
    assert {name for name, kind in kinds.items() if kind == JPEG} == {"plain.jpg", "grey.jpg", "progressive.jpg"}
    assert {name for name, kind in kinds.items() if kind == PLAIN} == {
        "plain.png",
        "grey.png",
        "palette.png",
        "plain.webp",
    }
    for name, path in paths.items():
        assert header(path)[:2] == read_image(path).shape[:2] == ((70, 50) if name == "turned.jpg" else (50, 70))
        assert header(Path("elsewhere"), path.read_bytes()) == header(path)
    assert PILLOW in kinds.values()


def test_a_png_is_turned_wherever_it_says_so_and_is_not_decoded_to_find_out(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph(50, 70).save(tmp_path / "first.png", exif=exif)
    content = (tmp_path / "first.png").read_bytes()
    at = content.index(b"eXIf") - 4
    chunk = content[at : at + 12 + int.from_bytes(content[at : at + 4], "big")]
    end = content.index(b"IEND") - 4
    (tmp_path / "last.png").write_bytes(content[:at] + content[at + len(chunk) : end] + chunk + content[end:])
    for name in ("first.png", "last.png"):
        assert header(tmp_path / name) == (70, 50, PILLOW)
        assert read_image(tmp_path / name).shape[:2] == (70, 50)
    photograph(50, 70).save(tmp_path / "half.png")
    half = (tmp_path / "half.png").read_bytes()
    (tmp_path / "half.png").write_bytes(half[: len(half) // 2])
    assert header(tmp_path / "half.png") == (50, 70, PLAIN)


def manifest(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_manifest(tmp_path: Path) -> None:
    write_photographs(tmp_path / "pictures", (2, 1))
    absolute = tmp_path / "pictures" / "class 0" / "1.jpg"
    text = f"\ufefflabel,path,note\nzebra,pictures/class 0/0.jpg,x\ncat,pictures/class 1/0.jpg,\nzebra,{absolute},\n"
    source = open_source(manifest(tmp_path / "set.csv", text))
    assert source.class_names == ["cat", "zebra"]
    assert source.labels.tolist() == [1, 0, 1]
    assert source.names == [
        str(tmp_path / "pictures/class 0/0.jpg"),
        str(tmp_path / "pictures/class 1/0.jpg"),
        str(absolute),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lacks the column label and path"),
        ("path,class\na.jpg,x\n", "lacks the column label; its first line names .* 'path,class'"),
        ("path,label\n", "names no pictures"),
        ("path,label\na.jpg,\n", "line 2: has no label"),
        ("path,label\n,x\n", "line 2: has no path"),
        ("path,label\na.jpg\n", "line 2: has no label"),
        ("path,label\na.jpg,x\nb.jpg,y\na.jpg,y\n", "line 4: 'a.jpg' stands in line 2 already"),
        ('path,label\n"a.jpg,x\n', "is no CSV file in UTF-8"),
        ("path,label\na.jpg,x\nb.jpg,y\n", r"class 'x' has no readable picture: .*a\.jpg: there is no such file"),
    ],
)
def test_a_manifests_faults_are_told(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=rf"set\.csv.*{says}"):
        open_source(manifest(tmp_path / "set.csv", text))
    (tmp_path / "latin.csv").write_bytes("path,label\né.jpg,x\n".encode("latin-1"))
    with pytest.raises(InputError, match="is no CSV file in UTF-8"):
        open_source(tmp_path / "latin.csv")
    with pytest.raises(InputError, match="no such file"):
        open_source(tmp_path / "none.csv")


def test_the_digits_and_a_held_out_fifth() -> None:
    source = open_source("digits")
    assert len(source) == 1797
    assert source.read(0).shape == (8, 8, 3)
    training, held_out = held_out_split(source, 0)
    assert (len(training), len(held_out)) == (1438, 359)
    assert not set(training.names) & set(held_out.names)
    index = source.names.index(held_out.names[5])
    np.testing.assert_array_equal(held_out.read(5), source.read(index))
    assert held_out.labels[5] == source.labels[index]


def labelled(counts: list[int]) -> Source:
    """Pictures without content, so many of each class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    count = len(labels)
    return Source(
        class_names=[f"c{number}" for number in range(len(counts))],
        names=[f"p{index}" for index in range(count)],
        labels=labels,
        sizes=np.ones((count, 2), np.int32),
        kinds=np.zeros(count, np.uint8),
        contents=Memory([b"%d" % index for index in range(count)]),
        corrupt=CorruptPictures(0, count),
    )


@given(counts=st.lists(st.integers(2, 20), min_size=2, max_size=6), seed=st.integers(0, 2**32 - 1))
def test_a_split_keeps_each_picture_once_and_each_class_on_both_sides(counts: list[int], seed: int) -> None:
    every = labelled(counts)
    training, held_out = held_out_split(every, seed)
    assert sorted([*training.names, *held_out.names]) == sorted(every.names)
    for part in (training, held_out):
        assert set(part.labels) == set(range(len(counts)))
        assert [b"p" + part.contents.read(index) for index in range(len(part))] == [
            name.encode() for name in part.names
        ]
    assert np.bincount(held_out.labels).tolist() == [max(1, round(count / 5)) for count in counts]
    assert list(held_out_split(every, seed)[1].names) == list(held_out.names)


def test_a_class_of_one_picture_cannot_be_split() -> None:
    with pytest.raises(InputError, match=r"1 classes have one readable picture: 'c1' \(p3\)"):
        held_out_split(labelled([3, 1]), 0)


def test_a_folder_named_digits_is_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photographs(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert open_source("digits").class_names == ["class 0", "class 1"]


def test_classes_of_a_held_out_set(tmp_path: Path) -> None:
    write_photographs(tmp_path, (2, 3))
    source = open_source(tmp_path, class_names=["class 1", "other", "class 0"])
    assert source.class_names == ["class 1", "other", "class 0"]
    assert source.labels.tolist() == [2, 2, 0, 0, 0]
    with pytest.raises(InputError, match="training set lacks: class 1"):
        open_source(tmp_path, class_names=["class 0", "x"])


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    write_photographs(tmp_path / "one", (2,))
    with pytest.raises(InputError, match="one class only, 'class 0'"):
        open_source(tmp_path / "one")
    (tmp_path / "one" / "empty").mkdir()
    with pytest.raises(InputError, match="class 'empty' has no picture"):
        open_source(tmp_path / "one")
    with pytest.raises(InputError, match="found nothing there"):
        open_source(tmp_path / "none")


def test_broken_headers_are_left_out_up_to_the_bound(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    broken = tmp_path / "class 0" / "1.jpg"
    broken.write_bytes(b"no picture")
    source = open_source(tmp_path, max_corrupt=1)
    assert len(source) == 10
    [(name, reason)] = source.corrupt.listed()
    assert name == str(broken)
    assert "is no JPEG" in reason
    for bound in (0, 0.05):
        with pytest.raises(InputError, match=r"1 of 11 pictures cannot be read, max_corrupt allows 0: .*1\.jpg"):
            open_source(tmp_path, max_corrupt=bound)
    for picture in (tmp_path / "class 0").iterdir():
        picture.write_bytes(b"")
    with pytest.raises(InputError, match="class 'class 0' has no readable picture"):
        open_source(tmp_path, max_corrupt=0.9)


@pytest.mark.parametrize("bound", [-1, 1.5, "2", True, float("nan"), None])
def test_bounds_that_are_none(bound: object) -> None:
    with pytest.raises(InputError, match="max_corrupt: got"):
        CorruptPictures(bound, 10)  # type: ignore[arg-type]


def test_a_picture_is_counted_once_and_others_errors_pass() -> None:
    corrupt = CorruptPictures(1, 10)
    corrupt.add("a", "x")
    corrupt.add("a", "x")
    assert len(corrupt) == 1
    with pytest.raises(KeyError), corrupt.told():
        raise KeyError
    with pytest.raises(InputError, match="no picture of a batch can be read: a: x"), corrupt.told():
        raise ValueError(f"Assertion failed: {NOTHING_LEFT}")
    with pytest.raises(InputError, match="2 of 10"):
        corrupt.add("b", "y")
    with pytest.raises(InputError, match="2 of 10"), corrupt.told():
        raise KeyError


def test_a_picture_that_goes_away(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    source = open_source(tmp_path)
    Path(source.names[0]).unlink()
    with pytest.raises(InputError, match="No such file"):  # one of 11 is over a hundredth
        source.read(0)
    allowed = open_source(tmp_path, max_corrupt=1)
    Path(allowed.names[0]).unlink()
    with pytest.raises(UnreadableImageError):
        allowed.read(0)
    assert len(allowed.in_memory) == 10


def test_tfds_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(InputError, match=r"pip install 'inception-resnet-keras\[tfds\]'"):
        open_source("tfds:mnist")


def test_another_input_error_is_told_as_it_is() -> None:
    corrupt = CorruptPictures(0, 10)
    corrupt.list_one("a", "x")
    with pytest.raises(InputError, match="something else"), corrupt.told():
        raise InputError("something else")

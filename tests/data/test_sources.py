import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.images import JPEG, PILLOW, PLAIN, UnreadableImageError, header, read_image
from inception_resnet_keras.data.labelled import NOTHING_LEFT, CorruptPictures
from inception_resnet_keras.data.packed import pack
from inception_resnet_keras.data.sources import (
    SourceKind,
    absolute_source,
    open_source,
    require_source,
    same_source,
    source_kind,
)

from ..pictures import write_digits
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


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    write_digits(tmp_path / "data", classes=2, per_class=2)
    write_digits(tmp_path / "elsewhere", classes=1, per_class=3)
    (tmp_path / "data" / "1" / "linked").symlink_to(tmp_path / "elsewhere" / "0")
    (tmp_path / "data" / "1" / "loop").symlink_to(tmp_path / "data" / "1")
    (tmp_path / "data" / "0" / "gone.png").symlink_to(tmp_path / "nowhere")
    source = open_source(tmp_path / "data", max_corrupt=1)
    assert Counter(source.labels.tolist()) == {0: 2, 1: 5}
    assert [reason for _, reason in source.corrupt.listed()] == ["is a link to a file that does not exist"]


def manifest(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_folder_named_digits_is_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photographs(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert open_source("digits").class_names == ["class 0", "class 1"]


def test_what_a_name_stands_for_is_decided_in_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_photographs(Path("set"), (2, 2))
    write_photographs(Path("folder.csv"), (2, 2))
    manifest(Path("set.CSV"), "path,label\nset/class 0/0.jpg,a\nset/class 1/0.jpg,b\n")
    pack(open_source("set"), Path("packed"))
    Path("digits.txt").touch()
    kinds = {
        "digits": SourceKind.DIGITS,
        "set": SourceKind.FOLDER,
        "folder.csv": SourceKind.FOLDER,
        "set.CSV": SourceKind.MANIFEST,
        "set.CSV:val": SourceKind.MANIFEST,
        "none.csv": SourceKind.MANIFEST,
        "packed": SourceKind.PACKED,
        "tfds:mnist": SourceKind.TFDS,
    }
    assert {name: source_kind(name) for name in kinds} == kinds
    for name in ("digits", "set", "folder.csv", "set.CSV", "packed"):
        require_source(name, "data")
        assert open_source(name, max_corrupt=0).class_names
    for name, says in {
        "none": "does not exist; labelled pictures are a folder with one folder per class",
        "digits.txt": "is not a source of labelled pictures",
        "none.csv": "there is no such file",
        "set.CSV:val": "lacks the column split",
    }.items():
        with pytest.raises(InputError, match=f"^{name.split(':')[0]}: .*{says}"):
            open_source(name)
        with pytest.raises(InputError, match=f"^data: {name.split(':')[0]}: .*{says}"):
            require_source(name, "data")


def test_a_source_is_found_from_any_folder_and_under_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    manifest(Path("set.csv"), "path,label\n")
    Path("link.csv").symlink_to("set.csv")
    assert absolute_source("set.csv") == str(tmp_path / "set.csv")
    assert absolute_source("set.csv:val") == f"{tmp_path / 'set.csv'}:val"
    assert [absolute_source(name) for name in ("digits", "tfds:mnist")] == ["digits", "tfds:mnist"]
    assert same_source(absolute_source("set.csv:val"), "link.csv:val")
    assert same_source("tfds:mnist", "tfds:mnist:train")
    for one, other in (("set.csv", "set.csv:val"), ("set.csv:train", "set.csv:val"), ("set.csv", "digits")):
        assert not same_source(one, other)
    assert not same_source("tfds:mnist", "tfds:mnist:test")


def test_classes_of_a_held_out_set(tmp_path: Path) -> None:
    write_photographs(tmp_path, (2, 3))
    source = open_source(tmp_path, class_names=["class 1", "other", "class 0"])
    assert source.class_names == ["class 1", "other", "class 0"]
    assert source.labels.tolist() == [2, 2, 0, 0, 0]
    with pytest.raises(InputError, match="training set lacks: 'class 1'"):
        open_source(tmp_path, class_names=["class 0", "x"])


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    write_photographs(tmp_path / "one", (2,))
    with pytest.raises(InputError, match="one class only, 'class 0'"):
        open_source(tmp_path / "one")
    (tmp_path / "one" / "empty").mkdir()
    with pytest.raises(InputError, match="class 'empty' has no picture"):
        open_source(tmp_path / "one")
    with pytest.raises(InputError, match="does not exist"):
        open_source(tmp_path / "none")


def test_broken_headers_are_left_out_up_to_the_bound(tmp_path: Path) -> None:
    write_photographs(tmp_path)
    broken = tmp_path / "class 0" / "1.jpg"
    broken.write_bytes(b"no picture")
    source = open_source(tmp_path, max_corrupt=1)
    assert len(source) == 10
    [(name, reason)] = source.corrupt.listed()
    assert name == str(broken)
    assert "is not a JPEG" in reason
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
    with pytest.raises(KeyError), corrupt.raising_input_errors():
        raise KeyError
    with pytest.raises(InputError, match="no picture of a batch can be read: a: x"), corrupt.raising_input_errors():
        raise ValueError(f"Assertion failed: {NOTHING_LEFT}")
    with pytest.raises(InputError, match="2 of 10"):
        corrupt.add("b", "y")
    with pytest.raises(InputError, match="2 of 10"), corrupt.raising_input_errors():
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
    with pytest.raises(InputError, match="something else"), corrupt.raising_input_errors():
        raise InputError("something else")

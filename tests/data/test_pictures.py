"""What lies below a folder: which files are pictures of which class, and what is told of the rest."""

from collections import Counter
from pathlib import Path

import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.images import SUFFIXES
from inception_resnet_keras.data.pictures import files_by_class, not_read
from inception_resnet_keras.data.sources import open_source

from ..pictures import write_digits


def test_a_folder_a_class(tmp_path: Path) -> None:
    write_digits(tmp_path, classes=2, per_class=3)
    (tmp_path / "1" / "deeper").mkdir()
    (tmp_path / "1" / "000.png").rename(tmp_path / "1" / "deeper" / "x.PNG")
    (tmp_path / "1" / "._000.png").write_text("hidden")
    (tmp_path / "1" / "notes.txt").write_text("passed over")
    (tmp_path / ".cache").mkdir()
    found = files_by_class(tmp_path)
    assert {name: len(files) for name, files in found.items()} == {"0": 3, "1": 3}
    told = f"1 files that end in .txt are not read: {', '.join(SUFFIXES)} are"
    assert not_read(tmp_path) == [(str(tmp_path), told)]
    assert open_source(tmp_path).beside == not_read(tmp_path)


def test_what_cannot_be_trained_on_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing there"):
        files_by_class(tmp_path / "none")
    with pytest.raises(InputError, match="holds nothing"):
        files_by_class(tmp_path)
    write_digits(tmp_path / "one", classes=1, per_class=2)
    with pytest.raises(InputError, match="2 pictures outside any class"):
        files_by_class(tmp_path / "one" / "0")
    with pytest.raises(InputError, match="found a file there"):
        files_by_class(tmp_path / "one" / "0" / "000.png")
    (tmp_path / "one" / "cats").mkdir()
    with pytest.raises(InputError, match=r"class 'cats' has no picture.*\.webp"):
        files_by_class(tmp_path / "one")


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    write_digits(tmp_path / "data", classes=2, per_class=2)
    write_digits(tmp_path / "elsewhere", classes=1, per_class=3)
    (tmp_path / "data" / "1" / "linked").symlink_to(tmp_path / "elsewhere" / "0")
    (tmp_path / "data" / "1" / "loop").symlink_to(tmp_path / "data" / "1")
    (tmp_path / "data" / "0" / "gone.png").symlink_to(tmp_path / "nowhere")
    source = open_source(tmp_path / "data", max_corrupt=1)
    assert Counter(source.labels.tolist()) == {0: 2, 1: 5}
    assert [reason for _, reason in source.corrupt.listed()] == ["there is no such file"]


def test_what_is_no_class_is_passed_over_and_what_lies_beside_is_told(tmp_path: Path) -> None:
    write_digits(tmp_path, classes=2, per_class=3)
    for name in ("__MACOSX", "run"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes((tmp_path / "0" / "000.png").read_bytes())
    (tmp_path / "run" / "model.keras").touch()
    (tmp_path / "0" / "002.png").rename(tmp_path / "loose.png")
    assert list(files_by_class(tmp_path)) == ["0", "1"]
    assert [reason for _, reason in not_read(tmp_path)] == ["1 pictures beside the classes' folders are not read"]

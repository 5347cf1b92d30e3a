"""Folders of classes, and of parts that hold them."""

from collections import Counter
from pathlib import Path

import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.folders import files_by_class, not_read
from inception_resnet_keras.data.images import SUFFIXES
from inception_resnet_keras.data.sources import absolute_source, open_source, require_source, same_source

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
    told = f"1 file ending in .txt, not read: {', '.join(SUFFIXES)} are"
    assert not_read(tmp_path) == [
        (str(tmp_path), told),
        (str(tmp_path / "1" / "._000.png"), "is a hidden file"),
        (str(tmp_path / ".cache"), "is a hidden folder: it is not read"),
    ]
    assert open_source(tmp_path).beside == not_read(tmp_path)


def test_folders_that_are_no_source_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_source(tmp_path / "none")
    with pytest.raises(InputError, match="holds no pictures; put"):
        files_by_class(tmp_path)
    write_digits(tmp_path / "one", classes=1, per_class=2)
    with pytest.raises(InputError, match="2 pictures outside any class"):
        files_by_class(tmp_path / "one" / "0")
    with pytest.raises(InputError, match="is not a source of labelled pictures"):
        open_source(tmp_path / "one" / "0" / "000.png")
    (tmp_path / "one" / "cats").mkdir()
    with pytest.raises(InputError, match=r"class 'cats' has no picture.*\.webp"):
        files_by_class(tmp_path / "one")


def test_what_is_no_class_is_passed_over_and_what_lies_beside_is_told(tmp_path: Path) -> None:
    write_digits(tmp_path, classes=2, per_class=3)
    for name in ("__MACOSX", "run"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes((tmp_path / "0" / "000.png").read_bytes())
    (tmp_path / "run" / "model.keras").touch()
    (tmp_path / "0" / "002.png").rename(tmp_path / "loose.png")
    assert list(files_by_class(tmp_path)) == ["0", "1"]
    assert not_read(tmp_path) == [
        (str(tmp_path / "__MACOSX"), "begins with __, like folders left by archivers: it is not read"),
        (str(tmp_path / "run"), "holds a training run: it is not read"),
        (str(tmp_path), "1 picture beside the classes' folders, not read"),
    ]


def parts_of(folder: Path) -> dict[str, int]:
    return dict(Counter(open_source(folder).parts or []))


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "VALID", "testing"), ("TRAIN", "validation")])
def test_folders_that_are_named_as_parts_are_the_parts(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name, count in zip(names, (4, 2, 1), strict=False):
        write_digits(tmp_path / "data" / name, classes=3, per_class=count)
    source = open_source(tmp_path / "data")
    assert source.class_names == ["0", "1", "2"]
    parts = ["train", "val", "test"][: len(names)]
    assert list(source.parts or []) == [
        part for part, count in zip(parts, (12, 6, 3), strict=False) for _ in range(count)
    ]
    for name, part in zip(source.names, source.parts or [], strict=True):
        assert Path(name).relative_to(tmp_path / "data").parts[0] == names[parts.index(part)]
    assert source.labels[:12].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    [note] = source.notes
    assert f"train 12 ({names[0]}), val 6 ({names[1]})" in note
    assert source.beside == []


def test_one_part_of_a_folder_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("train", 3), ("validation", 2)):
        write_digits(tmp_path / "data" / name, classes=2, per_class=count)
    for name in ("val", "validation", "VALID"):
        source = open_source(f"{tmp_path / 'data'}:{name}")
        assert source.parts is None
        assert [Path(path).parent.parent.name for path in source.names] == ["validation"] * 4
    for place in (f"{tmp_path / 'data'}:test", f"{tmp_path / 'data' / 'train'}:val"):
        with pytest.raises(
            InputError, match=r"has no part '(test|val)'; it(s subfolders are classes| has train and val)"
        ):
            open_source(place)
        with pytest.raises(InputError, match=r"^data: .*has no part"):
            require_source(place, "data")
    with pytest.raises(InputError, match="does not exist"):
        open_source(f"{tmp_path / 'none'}:val")
    monkeypatch.chdir(tmp_path)
    assert absolute_source("data:valid") == f"{tmp_path / 'data'}:val"
    assert same_source("data:val", f"{tmp_path / 'data'}:validation")
    assert not same_source("data:val", "data")
    write_digits(tmp_path / "data:test", classes=2, per_class=1)  # a folder of that very name comes first
    assert len(open_source("data:test")) == 2


def test_a_class_that_only_a_held_out_part_has_is_refused_and_one_that_it_lacks_is_not(tmp_path: Path) -> None:
    write_digits(tmp_path / "train", classes=2, per_class=3)
    write_digits(tmp_path / "val", classes=1, per_class=2)
    assert parts_of(tmp_path) == {"train": 6, "val": 2}
    (tmp_path / "val" / "1").mkdir()
    assert open_source(tmp_path).beside == [(str(tmp_path / "val" / "1"), "holds no pictures")]
    write_digits(tmp_path / "test", classes=3, per_class=1)
    with pytest.raises(InputError, match="test part has 1 class without a training picture: '2'"):
        open_source(tmp_path)
    assert open_source(f"{tmp_path}:test").class_names == ["0", "1", "2"]


def test_a_class_named_test_beside_other_classes_is_a_class(tmp_path: Path) -> None:
    write_digits(tmp_path, classes=2, per_class=2)
    write_digits(tmp_path / "more", classes=1, per_class=2)
    (tmp_path / "more" / "0").rename(tmp_path / "test")
    (tmp_path / "more").rmdir()
    source = open_source(tmp_path)
    assert source.class_names == ["0", "1", "test"]
    assert source.parts is None
    assert source.notes == [
        f"{tmp_path}: test is taken as a class, not as a part of a split, because it lies beside 0, 1"
    ]


def test_layouts_that_could_be_either_are_refused(tmp_path: Path) -> None:
    write_digits(tmp_path / "loose" / "x", classes=2, per_class=1)
    for number, name in enumerate(("train", "test")):
        (tmp_path / "loose" / "x" / str(number)).rename(tmp_path / "loose" / name)
    (tmp_path / "loose" / "x").rmdir()
    with pytest.raises(InputError, match="has test, train, named like the parts of a split, with pictures but"):
        open_source(tmp_path / "loose")
    write_digits(tmp_path / "twice" / "val", classes=2, per_class=1)
    write_digits(tmp_path / "twice" / "valid", classes=2, per_class=1)
    with pytest.raises(InputError, match="has both val and valid, which are names of the same part"):
        open_source(tmp_path / "twice")
    write_digits(tmp_path / "mixed" / "train", classes=2, per_class=1)
    write_digits(tmp_path / "mixed", classes=1, per_class=1)
    with pytest.raises(InputError, match=r"has train with folders in them, .*and also 0: if it is split, move"):
        open_source(tmp_path / "mixed")
    write_digits(tmp_path / "flat" / "test", classes=2, per_class=1)
    write_digits(tmp_path / "flat" / "x", classes=1, per_class=2)
    (tmp_path / "flat" / "x" / "0").rename(tmp_path / "flat" / "train")
    (tmp_path / "flat" / "x").rmdir()
    with pytest.raises(InputError, match="train: holds 2 pictures and no folder of a class, unlike test"):
        open_source(tmp_path / "flat")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="its folders train hold no pictures"):
        open_source(tmp_path / "empty")


def test_classes_one_level_deeper_are_found_out(tmp_path: Path) -> None:
    write_digits(tmp_path / "one" / "data", classes=2, per_class=1)
    with pytest.raises(InputError, match=r"one class only, 'data'.*the folders 0, 1: if .* by these, give .*one/data"):
        open_source(tmp_path / "one")
    for part in ("train", "val"):
        write_digits(tmp_path / "parts" / part / "images", classes=2, per_class=1)
    with pytest.raises(InputError, match=r"one class only, 'images'.* by these, move them up into the folders of the"):
        open_source(tmp_path / "parts")
    for hospital in "ab":
        write_digits(tmp_path / "hospitals" / hospital, classes=2, per_class=1)
    source = open_source(tmp_path / "hospitals")
    assert source.class_names == ["a", "b"]
    assert (
        "its folders a, b are taken as the classes, and the folders 0, 1 within each of them are not" in source.notes[0]
    )


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (("train_data", "test_data"), True),
        (("Train set", "Validation set", "Test set"), True),
        (("leaf-train", "leaf-val"), True),
        (("test_positive", "test_negative"), False),
        (("training shoes", "trees"), False),
    ],
)
def test_folders_named_almost_like_parts_are_no_classes(tmp_path: Path, names: tuple[str, ...], refused: bool) -> None:
    for name in names:
        write_digits(tmp_path / name, classes=2, per_class=1)
    if not refused:
        assert sorted(open_source(tmp_path).class_names) == sorted(names)
        return
    with pytest.raises(InputError, match="are named almost like the parts of a split: rename them to train, val and"):
        open_source(tmp_path)


def test_what_lies_beside_parts_is_counted_and_named(tmp_path: Path) -> None:
    for name in ("train", "val"):
        write_digits(tmp_path / name, classes=2, per_class=2)
    picture = (tmp_path / "train" / "0" / "000.png").read_bytes()
    (tmp_path / "test").mkdir()
    for name in ("test/a.png", "test/b.png", "loose.png", "val/loose.png"):
        (tmp_path / name).write_bytes(picture)
    (tmp_path / "train" / "0" / "notes.txt").write_text("x")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.xml").write_text("x")
    source = open_source(tmp_path)
    assert sorted(source.beside) == [
        (str(tmp_path), "1 picture beside the parts' folders, not read"),
        (str(tmp_path / "annotations"), "holds no pictures"),
        (
            str(tmp_path / "test"),
            "2 pictures are outside any class's folder, without a label: not read",
        ),
        (str(tmp_path / "train"), f"1 file ending in .txt, not read: {', '.join(SUFFIXES)} are"),
        (str(tmp_path / "val"), "1 picture beside the classes' folders, not read"),
    ]
    assert parts_of(tmp_path) == {"train": 4, "val": 4}


def test_parts_within_classes_are_said_not_to_be_used(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        write_digits(tmp_path / "x", classes=2, per_class=2)
        for number, name in enumerate(("train", "test")):
            (tmp_path / label).mkdir(exist_ok=True)
            (tmp_path / "x" / str(number)).rename(tmp_path / label / name)
        (tmp_path / "x").rmdir()
    source = open_source(tmp_path)
    assert source.class_names == ["cat", "dog"]
    assert source.parts is None
    assert "the folders test and train within each class are not used as the parts of a split" in source.notes[0]


def test_the_pictures_to_evaluate_are_the_test_part(tmp_path: Path) -> None:
    write_digits(tmp_path / "train", classes=2, per_class=3)
    write_digits(tmp_path / "val", classes=2, per_class=2)
    source, note = open_source(tmp_path).test_part("data")
    assert (len(source), note) == (
        10,
        "data declares train and val and no test part: all its 10 pictures are evaluated",
    )
    write_digits(tmp_path / "test", classes=2, per_class=1)
    source, note = open_source(tmp_path).test_part("data")
    assert [Path(name).parent.parent.name for name in source.names] == ["test"] * 2
    assert note == "the test part of data is evaluated: 2 of 12 pictures"
    assert open_source(tmp_path / "val").test_part("data")[1] == ""

"""The split of a run's pictures: how it is drawn, kept, and what it knows of other pictures."""

import csv
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.copies import pixel_hash
from inception_resnet_keras.data.labelled import CorruptPictures, Files, Source
from inception_resnet_keras.data.manifest import read_manifest
from inception_resnet_keras.data.packed import pack
from inception_resnet_keras.data.parts import Parts, held_out_split
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.data.splits import (
    HELD_OUT,
    NEAR_TRAINED,
    TRAINED_ON,
    UNKNOWN,
    compare,
    kept_parts,
    part_indices,
    read_split,
    write_split,
)

from ..pictures import labelled, write_digits
from .photographs import photograph, write_formats, write_photographs


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
    with pytest.raises(InputError, match=r"1 class has one readable picture: 'c1' \(p3\)"):
        held_out_split(labelled([3, 1]), 0)


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=20)


@given(names=st.lists(NAMES, min_size=4, max_size=8, unique=True), classes=st.lists(NAMES, min_size=2, max_size=2))
def test_a_split_comes_back_as_it_was_written_whatever_the_names(names: list[str], classes: list[str]) -> None:
    """Commas, quotes, ends of lines and spaces at a name's ends included; the pictures themselves are not there."""
    paths = [f"/nowhere/{name}.png" for name in names]
    count = len(paths)
    every = Source(
        class_names=classes,
        names=paths,
        labels=np.arange(count) % 2,
        sizes=np.ones((count, 2), np.int32),
        kinds=np.zeros(count, np.uint8),
        contents=Files(paths),
        corrupt=CorruptPictures(0, count),
    )
    parts = every.take(np.arange(2)), every.take(np.arange(2, count))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "split.csv"
        write_split(file, Parts(*parts))
        split = read_split(file)
        kept = kept_parts(split, every, None, set())
        assert kept
        assert [part.names for part in (kept.training, kept.held_out)] == [part.names for part in parts]
        assert not kept_parts(split, every.take(np.arange(1, count)), None, set())
        assert kept_parts(split, parts[0], parts[1], set())
        assert not kept_parts(split, parts[1], parts[0], set())
        listing = read_manifest(file, "val")
        assert (listing.files, [listing.class_names[label] for label in listing.labels]) == (
            paths[2:],
            [classes[n % 2] for n in range(2, count)],
        )
    assert (split.paths, split.hashes) == (tuple(paths), ("",) * count)
    assert split.labels == tuple(classes[index % 2] for index in range(count))
    assert split.parts == ("train", "train", *["val"] * (count - 2))
    assert not len(every.corrupt)  # none could be decoded; that is for training to say


def test_the_weights_of_pictures_are_kept(tmp_path: Path) -> None:
    data = write_photographs(tmp_path / "set", (6, 6))
    lines = [f"{file},{file.parent.name},{0.1 * number}\n" for number, file in enumerate(sorted(data.glob("*/*")))]
    (tmp_path / "list.csv").write_text("path,label,weight\n" + "".join(lines))
    source = open_source(tmp_path / "list.csv")
    training, held_out = held_out_split(source, 0)
    write_split(tmp_path / "split.csv", Parts(training, held_out))
    again = open_source(f"{tmp_path / 'split.csv'}:train")
    assert source.weights is not None
    assert again.weights is not None
    given = dict(zip(source.names, source.weights.tolist(), strict=True))
    assert dict(zip(again.names, again.weights.tolist(), strict=True)) == {name: given[name] for name in training.names}
    assert len(read_split(tmp_path / "split.csv")) == 12


def test_a_split_is_a_source_and_its_hashes_are_of_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photographs(tmp_path / "set", (10, 5))
    monkeypatch.chdir(tmp_path)
    training, held_out = held_out_split(open_source("set"), 0)
    file = tmp_path / "run" / "split.csv"
    file.parent.mkdir()
    write_split(file, Parts(training, held_out))
    with file.open(encoding="utf-8", newline="") as rows:
        table = list(csv.DictReader(rows))
    assert list(table[0]) == ["path", "label", "split", "sha256", "group", "phash"]
    assert all(row["sha256"] == pixel_hash(Image.open(row["path"])) for row in table)
    assert all(int(row["phash"], 16) for row in table)
    monkeypatch.chdir("/")
    for place, part in ((file, (*training.names, *held_out.names)), (f"{file}:val", held_out.names)):
        assert open_source(place).names == [str(tmp_path / name) for name in part]
    assert open_source(f"{file}:train").labels.tolist() == training.labels.tolist()


def test_equal_pixels_have_equal_hashes_and_others_have_others(tmp_path: Path) -> None:
    image = photograph(50, 70)
    hashes = {name: pixel_hash(image.convert("RGB")) for name in ("a", "b")}
    for name in ("plain.png", "plain.bmp", "plain.webp"):  # lossless, of other bytes
        hashes[name] = pixel_hash(Image.open(write_formats(tmp_path / name)[name]))
    assert len(set(hashes.values())) == 1
    turned = Image.fromarray(np.asarray(image).reshape(70, 50, 3))  # the same bytes, in another shape
    changed = image.copy()
    changed.putpixel((69, 49), (1, 2, 3))
    assert len({hashes["a"], pixel_hash(turned), pixel_hash(changed)}) == 3


def test_every_picture_is_known_by_path_or_by_content(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", per_class=20)
    training, held_out = held_out_split(open_source(data), 3)
    write_split(tmp_path / "split.csv", Parts(training, held_out))
    split = read_split(tmp_path / "split.csv")
    use = {Path(name).relative_to(data): TRAINED_ON for name in training.names}
    use |= {Path(name).relative_to(data): HELD_OUT for name in held_out.names}

    source = open_source(data)
    wanted = [use[Path(name).relative_to(data)] for name in source.names]
    assert compare(source, [split])[0].tolist() == wanted
    assert [source.names[index] for index in part_indices(source, split, "val")] == list(held_out.names)

    (tmp_path / "linked").symlink_to(data)
    assert compare(open_source(tmp_path / "linked"), [split, split])[1].tolist() == wanted

    pack(source, tmp_path / "packed")
    packed = open_source(tmp_path / "packed")
    assert compare(packed, [split])[0].tolist() == [use[Path(name).relative_to(data)] for name in packed.names]

    copies = tmp_path / "copies"
    answers: dict[str, int] = {}
    for number, (name, known) in enumerate(sorted(use.items())):
        copy = copies / name.parent / f"{number}.bmp"  # other bytes, the same pixels
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(data / name).save(copy)
        answers[str(copy)] = known
    new = copies / "0" / "new.png"
    Image.new("RGB", (24, 24), "red").save(new)
    broken = copies / "0" / "broken.png"
    broken.write_bytes((data / "0" / "000.png").read_bytes()[:90])
    answers |= {str(new): UNKNOWN, str(broken): UNKNOWN}
    source = open_source(copies)
    calls: list[tuple[int, int]] = []
    found = compare(source, [split], progress=lambda *call: calls.append(call))[0]
    assert found.tolist() == [answers[name] for name in source.names]
    assert calls[-1] == (62, 62)
    assert not len(source.corrupt)


def test_a_copy_among_the_held_out_pictures_is_one_trained_on(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", per_class=10)
    training, held_out = held_out_split(open_source(data), 3)
    shutil.copy(training.names[0], held_out.names[0])
    write_split(tmp_path / "split.csv", Parts(training, held_out))
    found = compare(held_out, [read_split(tmp_path / "split.csv")])[0]
    assert found.tolist() == [TRAINED_ON, *[HELD_OUT] * 5]


def test_paths_in_a_split_may_be_relative_to_it(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", per_class=5)
    write_split(tmp_path / "split.csv", Parts(*held_out_split(open_source(data), 3)))
    text = (tmp_path / "split.csv").read_text()
    shutil.move(data, tmp_path / "moved" / "data")
    (tmp_path / "moved" / "split.csv").write_text(text.replace(f"{tmp_path}/", ""))
    split = read_split(tmp_path / "moved" / "split.csv")
    source = open_source(tmp_path / "moved" / "data")
    (tmp_path / "moved" / "data" / "0" / "000.png").write_bytes(b"of no picture any more")
    assert (compare(source, [split])[0] != UNKNOWN).all()
    assert len(part_indices(source, split, "val")) == 3


def test_pictures_that_are_no_files_are_known_by_their_names_and_content(tmp_path: Path) -> None:
    digits = open_source("digits").take(np.arange(100))
    training, held_out = held_out_split(digits, 0)
    write_split(tmp_path / "split.csv", Parts(training, held_out))
    split = read_split(tmp_path / "split.csv")
    assert split.paths[0] == training.names[0] == "digit 0"
    assert [digits.names[index] for index in part_indices(digits, split, "val")] == list(held_out.names)
    assert (compare(held_out, [split])[0] == HELD_OUT).all()
    assert (compare(training, [split])[0] == TRAINED_ON).all()
    with pytest.raises(InputError, match=r"has no readable picture: .*digit .*: there is no such file"):
        open_source(tmp_path / "split.csv")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text[:-10], "line 16: is not a row .*delete it"),
        (
            lambda text: text.replace(",val,", ",other,"),
            "line 14: is not a row of path,label,train, val or test,SHA-256",
        ),
        (lambda text: text.partition("\n")[0], "names no pictures: it is damaged"),
        (lambda text: text.partition("\n")[2], "lacks the column"),
        (lambda text: text + '"', "is not a CSV file"),
        (lambda text: text.rstrip() + ",more\n", "line 16: has more values than the 6 columns"),
        (lambda text: text.replace(",val,", "\0,", 1), "line 14: is not a row"),
        (lambda text: text[:200] + "\0" * 200, "is not a row"),
        (lambda text: "[" * 200_000, "is not a CSV file.*field larger than field limit"),
        (lambda text: "\0" * 100_000, "is not a CSV file"),
        (lambda text: text.encode("utf-16").decode("latin1"), "is not a CSV file"),
        (lambda text: "", "lacks the column"),
    ],
)
def test_a_damaged_split_is_refused(tmp_path: Path, damage: object, says: str) -> None:
    file, parts = tmp_path / "split.csv", held_out_split(open_source(write_digits(tmp_path / "data", per_class=5)), 3)
    write_split(file, Parts(*parts))
    file.write_text(damage(file.read_text()))  # type: ignore[operator]
    with pytest.raises(InputError, match=rf"split\.csv.*{says}") as error:
        read_split(file)
    assert len(str(error.value)) < 1000


def test_names_may_have_bytes_that_are_no_utf8_but_classes_and_manifests_may_not(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", per_class=5)
    for number, path in enumerate(sorted((data / "0").iterdir())):
        path.rename(path.with_name(os.fsdecode(b"caf\xe9 %d.png" % number)))
    source = open_source(data)
    assert os.fsdecode(b"caf\xe9 0.png") in source.names[0]
    file = tmp_path / "split.csv"
    parts = held_out_split(source, 3)
    write_split(file, Parts(*parts))
    kept = kept_parts(read_split(file), source, None, set())
    assert kept
    assert kept.held_out.names == parts[1].names
    assert open_source(f"{file}:val").names == list(parts[1].names)
    assert source.contents.graph(tf.constant(0)).numpy() == source.contents.read(0)  # as the pipeline reads it
    (tmp_path / "mine.csv").write_bytes(b"path,label\ncaf\xe9.png,0\n")
    with pytest.raises(InputError, match=r"mine\.csv: is not a CSV file in UTF-8"):
        open_source(tmp_path / "mine.csv")
    (tmp_path / "mine.csv").write_bytes(
        b"path,label\n%s/0/caf\xe9 0.png,0\n%s/1/000.png,1\n" % ((os.fsencode(data),) * 2)
    )
    assert open_source(tmp_path / "mine.csv").names[0] == source.names[0]
    (data / "0").rename(data / os.fsdecode(b"\xe9"))
    assert os.fsdecode(b"\xe9") in open_source(data).class_names


def test_splits_of_earlier_versions_are_read(tmp_path: Path) -> None:
    source = open_source(write_digits(tmp_path / "data", per_class=5))
    training, held_out = held_out_split(source, 3)
    file = tmp_path / "split.csv"
    write_split(file, Parts(training, held_out))
    rows = [line.rsplit(",", 2)[0] for line in file.read_text().splitlines()]
    digest = read_split(file).digest
    file.write_text("\n".join([*rows, ""]))
    split = read_split(file)
    assert rows[0] == "path,label,split,sha256"
    assert split.digest == digest
    assert set(split.groups) == set(split.phashes) == {""}
    assert kept_parts(split, source, None, set())
    assert (compare(source, [split])[0] != UNKNOWN).all()


def test_near_identical_pictures_are_known_by_their_hashes(tmp_path: Path) -> None:
    image = photograph(300, 400)
    data, other = tmp_path / "data", tmp_path / "other"
    for number in range(6):
        for folder, size in ((data, 100), (other, 75)):  # cut from places far apart; the others are smaller, as JPEG
            cell = image.crop((60 * number, 40 * number, 60 * number + 100, 40 * number + 100))
            (folder / str(number % 2)).mkdir(parents=True, exist_ok=True)
            suffix = "png" if folder == data else "jpg"
            cell.resize((size, size)).save(folder / str(number % 2) / f"{number}.{suffix}")
    Image.new("RGB", (100, 100), "white").save(other / "0" / "flat.png")
    source = open_source(data)
    parts = Parts(source.take(np.arange(4)), source.take(np.arange(4, 6)))
    write_split(tmp_path / "split.csv", parts)
    split = read_split(tmp_path / "split.csv")
    near = open_source(other)
    trained = {Path(name).stem for name in parts.training.names}
    wanted = [NEAR_TRAINED if Path(name).stem in trained else UNKNOWN for name in near.names]
    assert compare(near, [split])[0].tolist() == wanted
    assert wanted.count(NEAR_TRAINED) == 4
    (tmp_path / "held").mkdir()
    write_split(tmp_path / "held" / "split.csv", Parts(parts.training, near))
    known = compare(near, [read_split(tmp_path / "held" / "split.csv")])[0]  # by path, so that nothing need be decoded
    assert known.tolist() == [NEAR_TRAINED if use == NEAR_TRAINED else HELD_OUT for use in wanted]
    shutil.rmtree(data)
    assert not compare(near, [split])[0].any()  # the hash alone is no proof

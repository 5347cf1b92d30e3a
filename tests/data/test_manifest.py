"""CSV files that name pictures, with labels, parts, groups and weights."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.parts import picture_groups
from inception_resnet_keras.data.sources import open_source

from .photographs import write_photographs


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
        (
            "path,class\na.jpg,x\n",
            "lacks the column label, and its other columns do not hold 0 or 1.* 'class' holds 'x'",
        ),
        ("path;label\na.jpg;x\n", "is 'path;label': its values are separated by semicolons; save it with commas"),
        ("label\tPath\nx\ta.jpg\n", "its values are separated by tabs; save it with commas"),
        ("path\na.jpg\n", "lacks the column label; the first line must name .* 'path'"),
        ("path,tumour\na.jpg,1\n", "has only one column of 0 and 1, 'tumour': rename it to 'label'"),
        ("path,a,b\na.jpg,1,0\nb.jpg,-1,0\n", "'a' holds '-1' in line 3"),
        ("path,a,b\na.jpg,1,0\nb.jpg,1\n", "'b' holds '' in line 3"),
        ("path,a,a\na.jpg,1,0\n", "'a' is empty, given twice"),
        ("path,a,b|c\na.jpg,1,0\n", r"'b\|c' is empty, given twice or contains '\|'"),
        ("path,label,Label\na.jpg,x,y\n", "has two columns 'label'"),
        ("path,label,labels\na.jpg,x,y\n", "both a column label and a column labels"),
        ("path,label\na.jpg,x|y\nb.jpg,x;y\n", r"hold both \| and ; \(lines 2 and 3\)"),
        ("path,label\na.jpg,x||y\n", r"line 2: 'x\|\|y' has an empty label"),
        ("path,label,split\na.jpg,x,1\n", "line 2: the column split holds '1'; it takes train, training, val"),
        ("path,label,split\na.jpg,x,\n", "line 2: the column split holds ''"),
        ("path,label,weight\na.jpg,x,-1\n", "line 2: the column weight holds '-1'; it takes a number of at least 0"),
        ("path,label,weight\na.jpg,x,nan\n", "weight holds 'nan'"),
        ("path,label,weight\na.jpg,x,inf\n", "weight holds 'inf'"),
        ("path,label,weight\na.jpg,x,1e39\n", "weight holds '1e39'"),
        ("path,label,weight\na.jpg,x,\n", "weight holds ''"),
        ("path,label,weight\na.jpg,x,0\nb.jpg,y,0\n", "every training weight is 0"),
        ("path,label,weight,split\na.jpg,x,0,train\nb.jpg,y,1,val\n", "every training weight is 0"),
        (
            "path,label\na.jpg,0.5\nb.jpg,1.25\nc.jpg,3\n",
            r"3 different numbers, such as 0.5: predicting numbers",
        ),
        ("path,label\n", "names no pictures"),
        ("path,label\na.jpg,\n", "line 2: has no label"),
        ("path,label\n,x\n", "line 2: has no path"),
        ("path,label\na.jpg\n", "line 2: has no label"),
        (
            "path,label\na.jpg,x\nb.jpg,y\na.jpg,y\n",
            "is already listed in line 2, with label 'x' instead of 'y'",
        ),
        ('path,label\n"a.jpg,x\n', "is not a CSV file in UTF-8"),
        ("path,label\na.jpg,x\nb.jpg,y\n", r"class 'x' has no readable picture: .*a\.jpg: there is no such file"),
    ],
)
def test_a_manifests_faults_are_told(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=rf"set\.csv.*{says}"):
        open_source(manifest(tmp_path / "set.csv", text))
    (tmp_path / "latin.csv").write_bytes("path,label\né.jpg,x\n".encode("latin-1"))
    with pytest.raises(InputError, match="is not a CSV file in UTF-8"):
        open_source(tmp_path / "latin.csv")
    with pytest.raises(InputError, match="no such file"):
        open_source(tmp_path / "none.csv")


SIX = ["set/class 0/0.jpg", "set/class 0/1.jpg", "set/class 0/2.jpg", "set/class 1/0.jpg", "set/class 1/1.jpg"]


def rows(tmp_path: Path, header: str, *ends: str) -> Path:
    """A CSV file of the pictures SIX, each with its end of a line."""
    if not (tmp_path / "set").exists():
        write_photographs(tmp_path / "set", (3, 2))
    lines = [f"{name},{end}" for name, end in zip(SIX, ends, strict=False)]
    return manifest(tmp_path / "set.csv", "\n".join([header, *lines]))


def test_parts_are_a_source_together_and_each(tmp_path: Path) -> None:
    file = rows(tmp_path, "path,label,split", "a,train", "a,val", "b,Validation", "b,TRAINING", "b,testing")
    source = open_source(file)
    assert list(source.parts or []) == ["train", "val", "val", "train", "test"]
    assert source.notes == [f"{file}: the column split divides the pictures into train 2, val 2, test 1"]
    held_out = open_source(f"{file}:val")
    assert held_out.names == [str(tmp_path / name) for name in SIX[1:3]]
    assert held_out.parts is None
    assert open_source(f"{file}:test", least_classes=1).class_names == ["b"]
    file = rows(tmp_path, "path,label,split", "a,train", "a,val", "b,val")
    with pytest.raises(InputError, match="val part has 1 class without a training picture: 'b'"):
        open_source(file)
    file = rows(tmp_path, "path,label,split", "a,val", "b,val")
    with pytest.raises(InputError, match="names no pictures whose split is 'train'"):
        open_source(f"{file}:train")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("path,label\na.jpg,x\n".encode("utf-16"), "it is UTF-16; save it as a CSV file in UTF-8"),
        (b"PK\x03\x04\x14\x00\x06\x00", "it is an Excel workbook or another ZIP file; save it as a CSV"),
        (b"path,label,gr\xf6\xdfe\na.jpg,x,1\n", "line 1 is not text in UTF-8"),
    ],
)
def test_files_in_another_encoding_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "set.csv"
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"is not a CSV file in UTF-8: {says}"):
        open_source(file)


def test_paths_are_found_as_windows_and_macs_write_them(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD"))
    write_photographs(tmp_path / composed, (2, 1))
    names = (rf"{decomposed}\class 0\0.jpg", f"{decomposed}/class 0/1.jpg", rf"{composed}\class 1\0.jpg")
    rows = [f"{name},{label},{number}" for number, (name, label) in enumerate(zip(names, "aab", strict=True))]
    file = manifest(tmp_path / "set.csv", "\n".join(["path,label,patient", *rows, ",,", "  "]))
    source = open_source(file)
    files = ("class 0/0.jpg", "class 0/1.jpg", "class 1/0.jpg")
    assert source.names == [str(tmp_path / composed / name) for name in files]
    assert picture_groups(source, "patient", str(file)) == ["0", "1", "2"]
    twice = manifest(tmp_path / "twice.csv", "\n".join(["path,label,patient", *rows, f"{composed}/class 0/0.jpg,a,7"]))
    with pytest.raises(InputError, match=r"line 5: .* is already listed with patient '0' instead of '7'"):
        picture_groups(open_source(twice), "patient", str(twice))


def test_a_class_that_may_be_several_labels_is_reported(tmp_path: Path) -> None:
    write_photographs(tmp_path / "pictures", (3, 1))
    rows = ('pictures/class 0/0.jpg,"cat, dog"', "pictures/class 0/1.jpg,dog", "pictures/class 0/2.jpg,fox")
    source = open_source(manifest(tmp_path / "set.csv", "\n".join(["path,label", *rows])))
    assert source.class_names == ["cat, dog", "dog", "fox"]
    assert any("the label 'cat, dog' counts as one class; to give a picture several" in note for note in source.notes)


def test_groups_weights_and_columns_that_are_not_read(tmp_path: Path) -> None:
    file = rows(tmp_path, "Path, LABEL,Group,weight,note,age", "a,p1,1,x,3", "a,p1,0,y,4", "b,,2.5,z,5", "b,p2,1e-3,,")
    source = open_source(file)
    assert source.groups == ["p1", "p1", "", "p2"]
    assert source.weights is not None
    assert source.weights.dtype == np.float32
    assert source.weights.tolist() == np.array([1, 0, 2.5, 1e-3], np.float32).tolist()
    [(place, reason)] = source.beside
    assert place == str(file)
    takes = "columns read: path, label, split, group, weight"
    assert reason.startswith(f"the columns 'note', 'age' are not read, unless named by the setting group; {takes}")
    taken = source.take(np.array([2, 0]))
    assert (taken.groups, taken.weights.tolist() if taken.weights is not None else None) == (["", "p1"], [2.5, 1])


@pytest.mark.parametrize(
    ("header", "ends"),
    [
        ("path,label", ("cat|dog", "dog", "", "cat | dog|fox")),
        ("path,label", ("cat;dog", "dog", "", "dog;fox;cat;cat")),
        ("path,labels", ("dog|cat", "dog", "", "fox|dog|cat")),
        ("path,fox,cat,dog", ("0,1,1", "0,0,1", "0.0,0,0", "1,1.0,1")),
        ("path,fox,cat,dog", ("False,true,1", "FALSE,0,TRUE", "false,0,0", "True,1.0,1")),
    ],
)
def test_several_labels_of_a_picture(tmp_path: Path, header: str, ends: tuple[str, ...]) -> None:
    source = open_source(rows(tmp_path, header, *ends))
    assert source.multi_label
    assert source.class_names == ["cat", "dog", "fox"]
    assert source.labels.dtype == np.uint8
    assert source.labels.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1]]
    [note] = source.notes
    assert "a picture may have several of 3 labels" in note
    assert "1.50 on average, none for 1 picture" in note
    renamed = open_source(tmp_path / "set.csv", class_names=["fox", "dog", "owl", "cat"])
    assert renamed.labels.tolist() == [[0, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 1]]


def test_every_part_is_understood_alike(tmp_path: Path) -> None:
    file = rows(tmp_path, "path,label,split", "a|b,train", "b,train", "c,train", "a,val", "b,val")
    assert open_source(f"{file}:val").multi_label  # though none of its cells holds a separator


def test_a_run_keeps_class_names_with_a_separator_in_them(tmp_path: Path) -> None:
    file = rows(tmp_path, "path,label,split,sha256", "a|b,train,", "a;b,train,", "a|b,val,")
    assert open_source(file).class_names == ["a;b", "a|b"]
    file = rows(tmp_path, "path,labels,split,sha256", "a;b|c,train,", "c,train,", ",val,")
    source = open_source(file)
    assert source.class_names == ["a;b", "c"]
    assert source.labels.tolist() == [[1, 1], [0, 1], [0, 0]]


def test_numbers_that_are_few_are_classes(tmp_path: Path) -> None:
    assert open_source(rows(tmp_path, "path,label", "0.5", "0.5", "1.25", "1.25")).class_names == ["0.5", "1.25"]
    assert open_source(rows(tmp_path, "path,label", "1", "2", "3", "4")).class_names == ["1", "2", "3", "4"]


def test_a_picture_under_another_spelling_counts_once(tmp_path: Path) -> None:
    write_photographs(tmp_path / "set", (3, 2))
    (tmp_path / "linked.jpg").symlink_to(tmp_path / SIX[0])
    (tmp_path / "elsewhere").symlink_to(tmp_path / "set")
    (tmp_path / "hard.jpg").hardlink_to(tmp_path / SIX[3])
    again = [
        "./set/class 0/0.jpg",
        "set//class 0/./0.jpg",
        "set/class 1/../class 0/0.jpg",
        str(tmp_path / SIX[0]),
        "linked.jpg",
        "elsewhere/class 0/0.jpg",
    ]
    lines = [f"{SIX[0]},a", f"{SIX[3]},b", *(f"{name},a" for name in again), "hard.jpg,b"]
    file = manifest(tmp_path / "set.csv", "\n".join(["path,label", *lines]))
    source = open_source(file)
    assert source.names == [str(tmp_path / SIX[0]), str(tmp_path / SIX[3])]
    assert source.labels.tolist() == [0, 1]
    assert len(source.sizes) == len(source.kinds) == 2
    reasons = [reason for _, reason in source.beside]
    assert sum(int(reason.split()[0].replace("one", "1")) for reason in reasons) == 7
    assert all("each picture counts once" in reason for reason in reasons)


@pytest.mark.parametrize("name", ["set/class 0/0.jpg", "./set/class 0/0.jpg", "linked.jpg"])
@pytest.mark.parametrize(
    ("header", "pair", "differs"),
    [
        ("path,label", ("a", "b"), "label 'a' instead of 'b'"),
        ("path,label,split", ("a,train", "a,test"), "split 'train' instead of 'test'"),
        ("path,label,group", ("a,p1", "a,p2"), "group 'p1' instead of 'p2'"),
        ("path,label,weight", ("a,1", "a,2"), "weight 1.0 instead of 2.0"),
        ("path,labels", ("a|b", "a"), r"label 'a\|b' instead of 'a'"),
    ],
)
def test_lines_that_contradict_each_other_are_both_named(
    tmp_path: Path, name: str, header: str, pair: tuple[str, str], differs: str
) -> None:
    write_photographs(tmp_path / "set", (3, 2))
    (tmp_path / "linked.jpg").symlink_to(tmp_path / SIX[0])
    one, other = pair
    rest = one.replace("a", "b", 1)
    text = "\n".join([header, f"{SIX[0]},{one}", f"{SIX[1]},{rest}", f"{name},{other}", f"{SIX[2]},{one}"])
    with pytest.raises(InputError, match=rf"set\.csv, line 4: .* is already listed in line 2.* with {differs}"):
        open_source(manifest(tmp_path / "set.csv", text))

"""One form of each name, and notes on names that look alike."""

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.parts import with_groups
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.data.spelling import alike_names, alike_note, canonical
from inception_resnet_keras.models.classes import Classes, columns, places
from inception_resnet_keras.training.config import TrainConfig

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Käse") for form in ("NFC", "NFD"))


def write(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), (number, 0, 0)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("Cat", "cat", True),
        ("big cat", "big  cat", True),
        ("big cat", "big_cat", True),
        ("big cat", "big\xa0cat", True),
        ("cat", "cat\u200b", True),
        ("01", "1", True),
        ("1", "1.0", True),
        ("P007", "p7", True),
        ("HER2+", "HER2-", False),
        ("v1.05", "v1.5", False),
        ("10", "1", False),
        ("P10", "P1", False),
    ],
)
def test_names_look_alike_if_only_their_spelling_differs(one: str, other: str, alike: bool) -> None:
    assert alike_names([one, other, "else"]) == ([sorted([one, other])] if alike else [])
    assert bool(alike_note("classes", [one, other])) is alike


def test_composed_and_decomposed_letters_are_one_class_in_every_source(tmp_path: Path) -> None:
    assert COMPOSED != DECOMPOSED
    assert canonical(DECOMPOSED) == COMPOSED
    folder = open_source(write(tmp_path / "folder", f"{COMPOSED}/1.png", f"{DECOMPOSED}/2.png", "b/3.png"))
    assert (list(folder.class_names), folder.class_counts.tolist()) == ([COMPOSED, "b"], [2, 1])
    names = (f"train/{COMPOSED}/1.png", "train/b/2.png", f"val/{DECOMPOSED}/3.png", "val/b/4.png")
    parts = open_source(write(tmp_path / "parts", *names))
    assert (list(parts.class_names), parts.class_counts.tolist()) == ([COMPOSED, "b"], [2, 2])
    file = tmp_path / "folder" / "set.csv"
    rows = [f"{COMPOSED}/1.png,{DECOMPOSED},{COMPOSED}", f"{DECOMPOSED}/2.png,{COMPOSED},{DECOMPOSED}", "b/3.png,b,b"]
    file.write_text("\n".join(["path,label,patient", *rows]), encoding="utf-8")
    listed = open_source(file)
    assert (list(listed.class_names), listed.class_counts.tolist()) == ([COMPOSED, "b"], [2, 1])
    assert with_groups(listed, "patient", str(file)).groups == [COMPOSED, COMPOSED, "b"]
    # Models that were trained on either form.
    assert list(open_source(file, class_names=["b", DECOMPOSED]).labels) == [1, 1, 0]
    known = Classes(["b", DECOMPOSED])
    assert places([COMPOSED, "b"], known, source="data", model="run").tolist() == [1, 0]
    assert columns(Classes([COMPOSED, "b"]), known, model="run", first_model="other").tolist() == [1, 0]
    assert TrainConfig(class_weight={DECOMPOSED: 2.0}).class_weight == {COMPOSED: 2.0}


def test_classes_and_groups_that_look_alike_are_reported(tmp_path: Path) -> None:
    source = open_source(write(tmp_path, "Cat/1.png", "cat/2.png", "dog/3.png"))
    assert any("'Cat' and 'cat'; if they are the same, give them one name" in note for note in source.notes)
    file = tmp_path / "set.csv"
    file.write_text("path,label,patient,age\nCat/1.png,a,P1,3\ncat/2.png,a,p01,4\ndog/3.png,b,P2,5\n", encoding="utf-8")
    grouped = with_groups(open_source(file), "patient", str(file))
    assert any(
        note.startswith("these groups count as different") and "'P1' and 'p01'" in note for note in grouped.notes
    )
    takes = "columns read: path, label, split, group, weight"
    assert grouped.beside == [(str(file), f"the column 'age' is not read; {takes}")]
    with pytest.raises(InputError, match=r"the training set lacks: 'a', 'b' \(written 'B' there\)"):
        open_source(file, class_names=["B", "c"])
    with pytest.raises(InputError, match=r"without a training picture: 'Cat' \(written 'cat' there\)"):
        open_source(write(tmp_path / "parts", "train/cat/1.png", "train/dog/2.png", "val/Cat/3.png"))

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.common.files import fresh_folder, replacing, write_json


def write_half(path: Path) -> None:
    with replacing(path) as beside:
        beside.write_text("half of the ne")
        assert path.read_text() == "old"
        assert beside.suffix == ".txt"
        raise RuntimeError


def test_what_was_there_stays_until_the_new_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        write_half(path)
    assert path.read_text() == "old"
    with replacing(path) as beside:
        beside.write_text("new")
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_json_keeps_any_text(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"klasse": "größer"})
    assert "größer" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_json_has_no_numbers_that_are_none(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"check": [{"difference": math.inf}, (math.nan, 0.5, 1)], "found": -math.inf})

    def refused(name: str) -> None:
        raise AssertionError(name)

    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=refused)
    assert found == {"check": [{"difference": None}, [None, 0.5, 1]], "found": None}


def test_numbered_folders_are_fresh_whoever_was_faster(tmp_path: Path) -> None:
    parent = tmp_path / "runs"
    first, second = (fresh_folder(None, parent, "a") for _ in range(2))
    assert [first.path.name, second.path.name] == ["a-1", "a-2"]
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: fresh_folder(None, parent, "b").path, range(40)))
    assert {path.name for path in made} == {f"b-{number}" for number in range(1, 41)}


def test_only_what_was_made_is_removed(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    fresh_folder(own, tmp_path, "").remove_if_empty()
    assert own.is_dir()
    deep = fresh_folder(own / "deep" / "deeper", tmp_path, "")
    deep.remove_if_empty()
    assert list(own.iterdir()) == []
    kept = fresh_folder(None, own / "runs", "a")
    (kept.path / "model.keras").touch()
    fresh_folder(None, own / "runs", "a").remove_if_empty()
    kept.remove_if_empty()
    assert sorted(path.name for path in own.rglob("*")) == ["a-1", "model.keras", "runs"]


def test_no_folder_lies_among_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = tmp_path / "pictures"
    (pictures / "class").mkdir(parents=True)
    (tmp_path / "link").symlink_to(pictures)
    monkeypatch.chdir(pictures)
    for out in (None, Path("out"), tmp_path / "link" / "out", pictures):
        with pytest.raises(InputError, match="lies in the folder of pictures"):
            fresh_folder(out, Path("evaluations"), "a", not_below=[Path(".")])
    assert [path.name for path in pictures.iterdir()] == ["class"]
    file = tmp_path / "file"
    file.touch()
    for out, says in ((file, "is no empty folder"), (tmp_path, "nothing is overwritten"), (file / "a", "cannot be")):
        with pytest.raises(InputError, match=says):
            fresh_folder(out, Path("evaluations"), "a", not_below=["tfds:mnist"])

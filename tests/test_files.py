from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inception_resnet_keras.errors import InputError
from inception_resnet_keras.files import fresh_folder, placing, replacing, write_json


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


def test_several_are_placed_whole(tmp_path: Path) -> None:
    with placing(tmp_path / "a.bin", tmp_path / "folder") as beside:
        (beside / "a.bin").write_text("weights")
        (beside / "folder" / "in").mkdir(parents=True)
        (beside / "folder" / "in" / "file").write_text("graph")
        (beside / "not asked for").write_text("left")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "folder"]
    assert (tmp_path / "folder" / "in" / "file").read_text() == "graph"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_places_none(tmp_path: Path, failure: type[BaseException]) -> None:
    def fail() -> None:
        with placing(tmp_path / "a", tmp_path / "b") as beside:
            (beside / "a").write_text("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert not list(tmp_path.iterdir())


def test_what_came_to_be_meanwhile_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    def write() -> None:
        with placing(tmp_path / "a", tmp_path / "b") as beside:
            for name in ("a", "b"):
                (beside / name).write_text("new")
            (tmp_path / "b").write_text("another's")

    with pytest.raises(FileExistsError, match="b has come to be"):
        write()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("b", "another's")]


def test_one_that_was_not_written_takes_the_others_back(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), placing(tmp_path / "a", tmp_path / "b") as beside:
        (beside / "a").write_text("new")
    assert not list(tmp_path.iterdir())


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

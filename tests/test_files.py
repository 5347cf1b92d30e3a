from pathlib import Path

import pytest

from inception_resnet_keras.files import replacing, write_json


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

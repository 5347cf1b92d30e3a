"""What is written is whole, or it is not there, however the process ends."""

import csv
import json
import math
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from inception_resnet_keras.common import files
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.common.files import (
    IrregularFileError,
    new_files,
    new_folder,
    only_writer,
    open_regular,
    read_text,
    remove_partial,
    replacing,
    require_new_file,
    write_csv,
    write_json,
)

from ..fifos import make_fifo, without_waiting
from ..permissions import as_other_users

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(path: Path) -> None:
    with replacing(path) as beside:
        beside.write_text("half of the ne")
        assert path.read_text() == "old"
        assert beside.suffix == ".txt"
        raise RuntimeError


HOLDS = """
import sys, time
from pathlib import Path
from inception_resnet_keras.common.files import only_writer
with only_writer(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(100)
"""


@POSIX
def test_a_folder_has_one_writer_until_it_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDS, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(InputError, match=f"process {other.pid} on host '.*' writes in it"), only_writer(tmp_path):
            pytest.fail("it is held by two")
        (tmp_path / ".writer.json").write_text("[" * 100_000)
        with pytest.raises(InputError, match="another process writes in it"), only_writer(tmp_path):
            pytest.fail("it is held by two")
        other.send_signal(signal.SIGKILL)
        other.wait()
    with only_writer(tmp_path):
        assert json.loads((tmp_path / ".writer.json").read_text())["process"] == os.getpid()
    assert names(tmp_path) == [".writer.lock"]


def test_what_was_there_stays_until_the_new_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        write_half(path)
    assert path.read_text() == "old"
    with replacing(path) as beside:
        beside.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_any_name_that_a_file_may_have(tmp_path: Path) -> None:
    for name in ("a" * 255, "ü" * 127, "a [b]*.txt", ".a"):
        with replacing(tmp_path / name) as beside:
            beside.write_text("new")
        assert (tmp_path / name).read_text() == "new"
        (tmp_path / name).unlink()
        with new_files(tmp_path / name) as folder:
            (folder / name).mkdir()
        (tmp_path / name).rmdir()


def test_several_come_to_be_whole(tmp_path: Path) -> None:
    with new_files(tmp_path / "a.bin", tmp_path / "folder") as hidden:
        (hidden / "a.bin").write_text("weights")
        (hidden / "folder" / "in").mkdir(parents=True)
        (hidden / "folder" / "in" / "file").write_text("graph")
        (hidden / "temporary").write_text("dropped")
        assert hidden.parent == tmp_path
    assert names(tmp_path) == ["a.bin", "folder"]
    assert (tmp_path / "folder" / "in" / "file").read_text() == "graph"


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_none(tmp_path: Path, failure: type[BaseException]) -> None:
    def fail() -> None:
        with new_files(tmp_path / "a", tmp_path / "b") as hidden:
            (hidden / "a").write_text("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert not names(tmp_path)


def test_what_exists_stays(tmp_path: Path) -> None:
    (tmp_path / "b").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="b: already exists"), new_files(tmp_path / "a", tmp_path / "b"):
        pytest.fail("nothing is to be written")
    assert names(tmp_path) == ["b"]


def test_what_came_to_be_meanwhile_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    def write() -> None:
        with new_files(tmp_path / "a", tmp_path / "b") as hidden:
            for name in ("a", "b"):
                (hidden / name).write_text("new")
            (tmp_path / "b").write_text("another's")

    with pytest.raises(InputError, match="b: appeared during the work"):
        write()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("b", "another's")]


def test_one_that_was_not_written_keeps_the_others_back(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), new_files(tmp_path / "a", tmp_path / "b") as hidden:
        (hidden / "a").write_text("new")
    assert not names(tmp_path)


WRITES = """
import os, pathlib, signal, sys, time
from inception_resnet_keras.common.files import new_files, replacing
folder, moment = pathlib.Path(sys.argv[1]), sys.argv[2]
def die():
    os.kill(os.getpid(), getattr(signal, sys.argv[3]))
    time.sleep(60)
rename = os.rename
def renamed(old, new):
    rename(old, new)
    moment == "between" and new.name == "a" and die()
os.rename = renamed
if moment == "replacing":
    with replacing(folder / "b") as part:
        part.write_text("new")
        die()
with new_files(folder / "a", folder / "b") as hidden:
    moment == "empty" and die()
    (hidden / "a").write_text("new")
    (hidden / "b").mkdir()
    (hidden / "b" / "in").write_text("new")
    moment == "written" and die()
    if moment == "waits":
        print("writing", flush=True)
        sys.stdin.read()
"""


def command(folder: Path, moment: str, signal_name: str = "") -> list[str]:
    return [sys.executable, "-c", WRITES, str(folder), moment, signal_name]


def write(folder: Path, moment: str, signal_name: str = "") -> int:
    return subprocess.run(command(folder, moment, signal_name), check=False, timeout=60).returncode


@POSIX
@pytest.mark.parametrize("moment", ["empty", "written", "replacing"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path, moment: str, name: str) -> None:
    assert write(tmp_path, moment, name) == -getattr(signal, name)
    [left] = tmp_path.iterdir()
    assert left.match(".b.*.partial")
    with new_files(tmp_path / "another") as hidden:
        (hidden / "another").touch()
    assert left.exists()
    assert write(tmp_path, "never") == 0
    assert names(tmp_path) == ["a", "another", "b"]


@POSIX
def test_the_last_one_is_there_only_if_all_are(tmp_path: Path) -> None:
    assert write(tmp_path, "between", "SIGKILL") == -signal.SIGKILL
    [left] = tmp_path.glob(".b.*.partial")
    assert names(tmp_path) == [left.name, "a"]
    assert names(left) == ["b"]


@POSIX
def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    with subprocess.Popen(command(tmp_path, "waits"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin
        assert other.stdout
        assert other.stdout.readline() == b"writing\n"
        [its] = tmp_path.iterdir()
        with replacing(tmp_path / "b") as first, replacing(tmp_path / "b") as second:
            first.write_text("first")
            second.write_text("second")
            assert its.exists()
        assert names(its) == ["a", "b"]
        (tmp_path / "b").unlink()
        other.stdin.close()
        assert other.wait(60) == 0
    assert names(tmp_path) == ["a", "b"]


@POSIX
def test_what_another_host_left_stays_and_what_an_earlier_process_of_this_number_left_goes(tmp_path: Path) -> None:
    with replacing(tmp_path / "b") as part:
        part.touch()
        mine = part.parent.name
    host_and_pid, token, _ = mine.rsplit(".", 2)
    elsewhere = tmp_path / f"{host_and_pid.rpartition('.')[0]}-2.1.{token}.partial"
    restarted = tmp_path / mine
    others = tmp_path / f".b.notes.{token}.partial"
    for folder in (elsewhere, restarted, others):
        folder.mkdir()
    with replacing(tmp_path / "b") as part:
        part.touch()
    assert names(tmp_path) == sorted(["b", elsewhere.name, others.name])


def test_a_folder_of_one_writer_is_swept_whole(tmp_path: Path) -> None:
    for name in (".a.elsewhere.1.01234567.partial", "kept", ".kept"):
        (tmp_path / name).mkdir()
    (tmp_path / ".a.elsewhere.1.01234567.partial" / "a").touch()
    (tmp_path / ".model.77.partial.keras").touch()  # as an older version called it
    remove_partial(tmp_path)
    assert names(tmp_path) == [".kept", "kept"]


def test_a_table(tmp_path: Path) -> None:
    rows = [["größer", 1], ['a "b", c', 0.5]]
    write_csv(tmp_path / "a.csv", ["name", "number"], (row for row in rows))
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["name", "number"], ["größer", "1"], ['a "b", c', "0.5"]]


def test_json_keeps_any_text(tmp_path: Path) -> None:
    write_json(tmp_path / "of bytes.json", {"data": os.fsdecode(b"caf\xe9")})  # a name that is no UTF-8
    assert json.loads((tmp_path / "of bytes.json").read_text("utf-8")) == {"data": os.fsdecode(b"caf\xe9")}
    write_json(tmp_path / "a.json", {"klasse": "größer"})
    assert "größer" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_json_has_no_numbers_that_are_none(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"check": [{"difference": math.inf}, (math.nan, 0.5, 1)], "found": -math.inf})

    def refused(name: str) -> None:
        raise AssertionError(name)

    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=refused)
    assert found == {"check": [{"difference": None}, [None, 0.5, 1]], "found": None}


def test_numbered_folders_are_new_whoever_was_faster(tmp_path: Path) -> None:
    parent = tmp_path / "runs"
    with new_folder(None, parent, "a") as first, new_folder(None, parent, "a") as second:
        assert [first.name, second.name] == ["a-1", "a-2"]
        with ExitStack() as opened, ThreadPoolExecutor(8) as threads:
            made = list(threads.map(lambda _: opened.enter_context(new_folder(None, parent, "b")), range(40)))
            assert {path.name for path in made} == {f"b-{number}" for number in range(1, 41)}
    assert not names(tmp_path)


def test_only_what_was_made_is_removed(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for out in (own, own / "deep" / "deeper"):
        with new_folder(out, tmp_path, "") as folder:
            assert folder == out
            assert out.is_dir()
        assert not names(own)
    with new_folder(None, own / "runs", "a") as kept:
        (kept / "model.keras").touch()
        with pytest.raises(KeyboardInterrupt), new_folder(None, own / "runs", "a"):
            raise KeyboardInterrupt
    assert sorted(path.name for path in own.rglob("*")) == ["a-1", "model.keras", "runs"]


def test_no_folder_lies_among_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = tmp_path / "pictures"
    (pictures / "class").mkdir(parents=True)
    (tmp_path / "link").symlink_to(pictures)
    monkeypatch.chdir(pictures)
    for out in (None, Path("out"), tmp_path / "link" / "out", pictures):
        with (
            pytest.raises(InputError, match="lies in the folder of pictures"),
            new_folder(out, Path("evaluations"), "a", not_below=[Path(".")]),
        ):
            pytest.fail("no folder is to be made")
    assert names(pictures) == ["class"]
    file = tmp_path / "file"
    file.touch()
    for out, says in ((file, "not an empty folder"), (tmp_path, "nothing is overwritten"), (file / "a", "cannot be")):
        with pytest.raises(InputError, match=says), new_folder(out, tmp_path, "a", not_below=["tfds:mnist"]):
            pytest.fail("no folder is to be made")
    for parent in (file, tmp_path / "dangling"):
        (tmp_path / "dangling").unlink(missing_ok=True)
        (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
        with pytest.raises(InputError, match="cannot be created"), new_folder(None, parent, "a"):
            pytest.fail("no folder is to be made")


@POSIX
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    fifo = make_fifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(fifo)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))
        for name, kind in {"fifo": "a FIFO", "link": "a FIFO", "socket": "a socket", os.devnull: "a device"}.items():
            with pytest.raises(IrregularFileError) as refusal:
                without_waiting(fifo, partial(open_regular, tmp_path / name))
            assert str(refusal.value).startswith(f"{tmp_path / name}: is {kind}, and only regular files are read")
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfa\r\nb\r")
    assert read_text(tmp_path / "text", "utf-8-sig") == "a\nb\n"


@POSIX
def test_a_fifo_that_takes_a_files_place_after_the_check_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "picture.png"
    path.touch()

    def replaced(checked: Path) -> None:
        checked.unlink()
        make_fifo(checked)

    monkeypatch.setattr(files, "require_regular", replaced)  # the check passes, and then the file is another one
    with pytest.raises(IrregularFileError, match="is a FIFO"):
        without_waiting(path, lambda: open_regular(path))


def test_that_a_file_can_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    require_new_file(tmp_path / "a.csv")
    assert not list(tmp_path.iterdir())
    (tmp_path / "a.csv").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"a\.csv: already exists; nothing is overwritten"):
        require_new_file(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"b\.csv: the folder .*nowhere does not exist; make it first"):
        require_new_file(tmp_path / "nowhere" / "b.csv")
    with pytest.raises(InputError, match=r"cannot be written \(File name too long\)"):
        require_new_file(tmp_path / ("b" * 300))
    (tmp_path / "locked").mkdir(0o555)
    with as_other_users(), pytest.raises(InputError, match=r"b\.csv: cannot be written \(Permission denied\)"):
        require_new_file(tmp_path / "locked" / "b.csv")

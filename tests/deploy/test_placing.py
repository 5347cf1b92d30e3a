"""What is written beside its place is whole there or gone, however the process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inception_resnet_keras.deploy import placing as module
from inception_resnet_keras.deploy.placing import placing

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


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


PLACES = """
import os, pathlib, signal, sys, time
from inception_resnet_keras.deploy import placing as module
folder, moment = pathlib.Path(sys.argv[1]), sys.argv[2]
def die():
    os.kill(os.getpid(), getattr(signal, sys.argv[3]))
    time.sleep(60)
rename = os.rename
def renamed(old, new):
    rename(old, new)
    moment == "between" and new.name == "a" and die()
os.rename = renamed
if len(sys.argv) > 4:
    def _start(folder):
        raise OSError
    module._start = _start
with module.placing(folder / "a", folder / "b") as beside:
    moment == "empty" and die()
    (beside / "a").write_text("new")
    (beside / "b").mkdir()
    (beside / "b" / "in").write_text("new")
    moment == "written" and die()
"""


def place(folder: Path, moment: str, signal_name: str, *more: str) -> int:
    command = [sys.executable, "-c", PLACES, str(folder), moment, signal_name, *more]
    return subprocess.run(command, check=False, timeout=60).returncode


def wait_for(condition: object, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.01)
    return met


@POSIX
@pytest.mark.parametrize("moment", ["empty", "written", "between"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGSEGV"])
def test_a_process_that_is_ended_leaves_nothing(tmp_path: Path, moment: str, name: str) -> None:
    assert place(tmp_path, moment, name) == -getattr(signal, name)
    assert wait_for(lambda: not list(tmp_path.iterdir())), list(tmp_path.rglob("*"))


def test_one_that_is_well_leaves_what_it_placed(tmp_path: Path) -> None:
    assert place(tmp_path, "never", "SIGTERM") == 0
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "in"]


@pytest.mark.skipif(not module._BOOT_ID.exists(), reason="which kernel it is, Linux alone tells")
def test_what_a_killed_one_left_the_next_removes_and_what_a_living_one_makes_stays(tmp_path: Path) -> None:
    assert place(tmp_path, "written", "SIGKILL", "unguarded") == -signal.SIGKILL
    [left] = tmp_path.iterdir()
    assert (left / "b" / "in").read_text() == "new"
    elsewhere = left.with_name(left.name.replace(module._boot(), "0" * 8))
    elsewhere.mkdir()
    with placing(tmp_path / "c", tmp_path / "b") as own:
        assert sorted(tmp_path.iterdir()) == sorted([own, elsewhere])
        with placing(tmp_path / "b") as other:
            (other / "b").write_text("other")
            assert own.exists()
        (tmp_path / "b").unlink()
        for name in "bc":
            (own / name).write_text("own")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["b", "c", elsewhere.name])


def test_temporary_files_go_too(tmp_path: Path) -> None:
    code = (
        "import os, sys, tempfile; tempfile.tempdir = sys.argv[1]\n"
        "from inception_resnet_keras.deploy.placing import temporary_files\n"
        "with temporary_files():\n"
        "    made = tempfile.mkdtemp(); assert os.listdir(sys.argv[1]); len(sys.argv) > 2 and os._exit(9)\n"
        "assert tempfile.gettempdir() == sys.argv[1] and not os.listdir(sys.argv[1])"
    )
    for more, status in ((["dies"], 9), ([], 0)):
        done = subprocess.run([sys.executable, "-c", code, tmp_path, *more], check=False)
        assert done.returncode == status
        assert wait_for(lambda: not list(tmp_path.iterdir()))

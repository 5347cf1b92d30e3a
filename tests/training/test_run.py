"""The folder of a run: its place, its checkpoints, its event files."""

import hashlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.training.checkpoints import (
    Checkpoints,
    DamagedCheckpointError,
    read_checkpoint,
    write_checkpoint,
)
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.run import EventWriter, new_run
from inception_resnet_keras.training.session import assign_variables

from ..pictures import write_digits

ARRAYS = {"model/00000/a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "optimizer/00000/step": np.array(7)}
META = {"position": {"epoch": 1, "loss": 0.1 + 0.2}}


def test_no_run_lies_among_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = write_digits(tmp_path / "pictures", classes=2, per_class=1)
    monkeypatch.chdir(pictures)
    for out in (None, Path("run")):
        with pytest.raises(InputError, match="lies in the folder of pictures"), new_run(out, TrainConfig(data=".")):
            pytest.fail("no folder is to be made")
    assert sorted(path.name for path in pictures.iterdir()) == ["0", "1"]


def test_an_untrained_run_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own"
    own.mkdir()
    for out in (None, own, own / "a" / "b"):
        with new_run(out, TrainConfig()) as run:
            run.write_config(TrainConfig(), {})
    assert list(tmp_path.rglob("*")) == [own]


def test_a_checkpoint_gives_back_every_bit(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "step.ckpt", ARRAYS, META)
    found = read_checkpoint(tmp_path / "step.ckpt")
    assert found.meta == META
    assert found.arrays.keys() == ARRAYS.keys()
    for key, array in ARRAYS.items():
        assert found.arrays[key].dtype == array.dtype
        assert np.array_equal(found.arrays[key], array)


def test_the_newest_are_kept(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "checkpoints", keep=2)
    for step in (1, 2, 10, 11):
        kept.save(step, ARRAYS, META)
    assert [path.name for path in kept.paths()] == ["step-00000011.ckpt", "step-00000010.ckpt"]
    kept.clear()
    assert not kept.folder.exists()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other"])
def test_a_damaged_newest_one_is_passed_over_and_named(tmp_path: Path, damage: str) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(1, ARRAYS, {"which": 1})
    newest = kept.save(2, ARRAYS, {"which": 2})
    whole = newest.read_bytes()
    broken = {
        "truncated": whole[: len(whole) // 2],
        "flipped": whole[:200] + bytes([whole[200] ^ 1]) + whole[201:],
        "empty": b"",
        "other": b"x" * 1000,
    }[damage]
    newest.write_bytes(broken)
    found = kept.newest()
    assert found.checkpoint
    assert found.checkpoint.meta == {"which": 1}
    [(path, reason)] = found.damaged
    assert path == newest
    assert reason
    with pytest.raises(DamagedCheckpointError):
        read_checkpoint(newest)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "step.ckpt"
    write_checkpoint(path, ARRAYS, META)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedCheckpointError):
            read_checkpoint(path)


@pytest.mark.parametrize(
    "arrays",
    [{}, ARRAYS, {"meta": np.frombuffer(b"[" * 100_000, np.uint8)}, {"meta": np.frombuffer(b"[]", np.uint8)}],
)
def test_one_of_another_program_is_passed_over(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Its hash is right: nothing has changed in it since it was written."""
    kept = Checkpoints(tmp_path)
    kept.save(1, ARRAYS, META)
    path = tmp_path / "step-00000002.ckpt"
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    path.write_bytes(path.read_bytes() + b"sha256 " + hashlib.sha256(path.read_bytes()).hexdigest().encode())
    found = kept.newest()
    assert found.path == tmp_path / "step-00000001.ckpt"
    [(damaged, reason)] = found.damaged
    assert damaged == path
    assert reason.startswith("cannot be read (")


def test_the_newest_is_that_of_the_highest_step_whatever_the_clock_said(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    for step in (99_999_998, 99_999_999, 100_000_000):
        os.utime(kept.save(step, ARRAYS, {"which": step}), (2e9 - step,) * 2)
    copy = tmp_path / "step-99999999 (copy).ckpt"
    shutil.copy(kept.paths()[0], copy)
    assert [path.name for path in kept.paths()] == ["step-100000000.ckpt", "step-99999999.ckpt"]
    found = kept.newest()
    assert found.checkpoint
    assert found.checkpoint.meta == {"which": 100_000_000}
    kept.clear()
    assert list(tmp_path.iterdir()) == [copy]  # a user's own file


def test_one_that_cannot_be_reached_is_not_taken_for_damaged(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(1, ARRAYS, META)
    (tmp_path / "step-00000002.ckpt").mkdir()  # as root, no mode keeps a test from reading
    with pytest.raises(InputError, match=r"2\.ckpt: cannot be read \(Is a directory\).*remove the file"):
        kept.newest()


def test_another_networks_checkpoint_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    assigned: list[np.ndarray] = []
    variable = SimpleNamespace(shape=(2, 3), assign=assigned.append)
    with pytest.raises(InputError, match="to another network or configuration"):
        assign_variables({"model/00000/a/kernel": variable}, ARRAYS, tmp_path)
    with pytest.raises(InputError, match=r"differ in .*\(2, 3\)"):
        assign_variables({**dict.fromkeys(ARRAYS, variable)}, ARRAYS, tmp_path)
    assert not assigned


def test_old_event_files_stay_until_there_are_rows_to_write_in_their_place(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    folder = tmp_path / "tensorboard"
    EventWriter(folder)
    assert not folder.exists()
    EventWriter(folder).write([{"epoch": 1, "loss": 0.5}])
    [old] = folder.glob("train/*")
    (folder / old.name).write_bytes(b"of an older version")
    again = EventWriter(folder)
    assert list(folder.glob("train/*")) == [old]
    again.write([{"epoch": 1, "loss": 0.5}])
    [new] = folder.glob("train/*")
    assert new != old
    assert {path.name for path in folder.iterdir()} == {"train", "validation"}


def test_tensorboard_draws_training_and_validation_into_one_chart(tmp_path: Path) -> None:
    """One tag, two folders: TensorBoard takes each folder for a run and draws a tag of both into one chart."""
    tf = pytest.importorskip("tensorflow")
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    rows = [
        {"epoch": 1, "loss": 0.5, "accuracy": 0.6, "val_loss": 0.7, "val_accuracy": 0.8, "phase": 1},
        {"epoch": 2, "loss": 0.4, "accuracy": 0.7, "val_loss": 0.6, "val_accuracy": 0.9, "phase": 2},
    ]
    EventWriter(tmp_path).write(rows)
    found = {}
    for name in ("train", "validation"):
        accumulator = accumulators.EventAccumulator(str(tmp_path / name))
        accumulator.Reload()
        for tag in accumulator.Tags()["tensors"]:
            events = accumulator.Tensors(tag)
            values = [round(float(tf.make_ndarray(event.tensor_proto)), 3) for event in events]
            found[name, tag] = ([event.step for event in events], values)
    assert found == {
        ("train", "loss"): ([1, 2], [0.5, 0.4]),
        ("train", "accuracy"): ([1, 2], [0.6, 0.7]),
        ("train", "phase"): ([1, 2], [1, 2]),
        ("validation", "loss"): ([1, 2], [0.7, 0.6]),
        ("validation", "accuracy"): ([1, 2], [0.8, 0.9]),
    }

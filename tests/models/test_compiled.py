"""What OpenVINO compiled is kept for the next start, where no other user can put anything."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inception_resnet_keras.models import runtimes
from inception_resnet_keras.models.runtimes import KEPT, cache_for, open_runtime

from .. import tiny


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "inception-resnet-keras" / "openvino"


@pytest.fixture
def model(exported: Any, tmp_path: Path) -> Path:
    path, _ = exported["openvino"]
    for suffix in (".xml", ".bin"):
        shutil.copy2(path.with_suffix(suffix), tmp_path)
    return tmp_path / path.name


def opened(model: Path) -> tuple[bool, np.ndarray]:
    """Whether it was loaded from the cache, and what it says."""
    runtime: Any = open_runtime(model)
    found = runtime._request.get_compiled_model().get_property("LOADED_FROM_CACHE")
    return found, runtime.run(np.full((1, tiny.SIDE, tiny.SIDE, 3), 99, np.float32))


def test_the_second_start_compiles_nothing(cache: Path, model: Path) -> None:
    (first, wanted), (second, found) = opened(model), opened(model)
    assert (first, second) == (False, True)
    np.testing.assert_array_equal(found, wanted)
    [blob] = cache.rglob("*.blob")
    assert blob.stat().st_size < model.stat().st_size + 100_000  # no weights
    if os.name == "posix":
        assert cache.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("spoil", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[::-1]])
def test_what_is_damaged_there_is_compiled_anew(cache: Path, model: Path, spoil: Any) -> None:
    _, wanted = opened(model)
    [blob] = cache.rglob("*.blob")
    data = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(spoil(data))
    first, found = opened(model)
    assert not first
    np.testing.assert_array_equal(found, wanted)
    assert opened(model)[0]


def test_another_model_in_its_place_is_another(cache: Path, model: Path) -> None:
    before = cache_for(model)
    assert before is not None
    assert cache_for(model) == before
    weights = model.with_suffix(".bin")
    os.utime(weights, ns=(1, 1))
    assert cache_for(model) not in {before, None}
    model.write_text(model.read_text() + "\n")
    os.utime(model, ns=(1, 1))
    assert len({before, cache_for(model)}) == 2


@pytest.mark.skipif(os.name != "posix", reason="owners and rights are POSIX's")
def test_a_folder_that_others_write_to_is_not_used(cache: Path, model: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert cache_for(model) is None
    assert not opened(model)[0]
    cache.rmdir()
    (elsewhere := cache.parent / "elsewhere").mkdir()
    cache.symlink_to(elsewhere)
    assert cache_for(model) is None
    assert not list(elsewhere.iterdir())


def test_where_no_folder_can_be_made_it_runs_without(cache: Path, model: Path) -> None:
    cache.parents[1].write_text("a file")
    assert cache_for(model) is None
    assert not opened(model)[0]


def test_the_oldest_go(cache: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "KEPT", 3)
    assert KEPT > 3
    for number in range(5):
        (cache / str(number)).mkdir(parents=True)
        os.utime(cache / str(number), (number, number))
    new = cache_for(model)
    assert new is not None
    assert {path.name for path in cache.iterdir()} == {"3", "4", new.name}

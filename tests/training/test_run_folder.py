"""The folder that a run is given."""

from pathlib import Path

import pytest

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.run import new_run

from ..pictures import write_digits


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

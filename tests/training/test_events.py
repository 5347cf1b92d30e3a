from pathlib import Path

import pytest

from inception_resnet_keras.training.events import Events

pytest.importorskip("tensorboard")


def test_old_files_stay_until_there_are_rows_to_write_in_their_place(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    Events(folder)
    assert not folder.exists()
    Events(folder).write([{"epoch": 1, "loss": 0.5}])
    [old] = folder.iterdir()
    again = Events(folder)
    assert list(folder.iterdir()) == [old]
    again.write([{"epoch": 1, "loss": 0.5}])
    [new] = folder.iterdir()
    assert new != old

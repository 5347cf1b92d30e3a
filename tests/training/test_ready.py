"""A wrong flag ends a run before the first picture is read, and leaves no folder."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from inception_resnet_keras import networks
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data import sources
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.loop import train_config
from inception_resnet_keras.training.ready import require_ready

from ..pictures import write_digits
from ..tiny import TINY

QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def _tiny_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, TINY.name, {TINY.variant: TINY})


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of which reading a single header fails the test."""

    def unwanted(*_: Any) -> None:
        raise AssertionError("a header was read")

    monkeypatch.setattr(sources, "header", unwanted)
    return write_digits(tmp_path / "digits")


def config(data: Path, **settings: Any) -> TrainConfig:
    return TrainConfig(**{"data": str(data), "model": "tiny", "size": 32, "batch_size": 8, "epochs": 1, **settings})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"val": "nowhere"}, "val: nowhere: found nothing there"),
        ({"val": "nowhere.csv"}, "there is no such file"),
        ({"weights": "nowhere.keras"}, "no file"),
        ({"weights": "imagnet"}, "'imagenet' perhaps"),
        ({"weights": "imagenet"}, "those of tiny .*--model inception_resnet_v2 --variant slim"),
    ],
)
def test_a_wrong_setting_is_told_first(data: Path, tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        train_config(config(data, **settings), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_taken_is_told_first(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="no empty folder"):
        train_config(config(data), tmp_path, console=QUIET)
    monkeypatch.chdir(data)
    with pytest.raises(InputError, match=r"data: .* holds this folder's runs/.*give --out"):
        train_config(config(Path()), console=QUIET)
    assert not (data / "runs").exists()


def test_workers_that_cannot_share_pairs_are_told_first(data: Path) -> None:
    require_ready(config(data, batch_size=6), (0, 2))
    with pytest.raises(InputError, match=r"batch_size: got 6; .*an even number each"):
        require_ready(config(data, batch_size=6, mixup=0.2), (0, 2))

import csv
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from inception_resnet_keras import find_learning_rate, networks
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.training import rate_finder
from inception_resnet_keras.training.rate_finder import _running_means, _suggestion

from .. import tiny
from ..pictures import write_digits

pytestmark = pytest.mark.usefixtures("charts")

RATES = [10.0**exponent for exponent in range(-6, 2)]


def test_the_suggestion_is_a_tenth_of_the_rate_at_the_lowest_loss() -> None:
    assert _suggestion(RATES, [2.0, 2.0, 1.8, 1.2, 0.9, 1.4, 3.0, 9.0]) == pytest.approx(1e-3)
    assert _suggestion(RATES, [2.0, 2.0, 1.99, 1.99, 1.99, 2.0, 4.0, 9.0]) is None


def test_the_running_mean_has_no_bias_towards_zero() -> None:
    assert _running_means([3.0] * 5) == pytest.approx([3.0] * 5)
    assert _running_means([1.0, 2.0])[1] == pytest.approx((0.09 * 1 + 0.1 * 2) / 0.19)


def test_rising_rates_are_tried_until_the_loss_diverges_and_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(networks.NETWORKS, tiny.FEW.name, {tiny.FEW.variant: tiny.FEW})
    monkeypatch.setattr(rate_finder, "HIGHEST", 1e5)  # so small a network bears 10
    monkeypatch.chdir(tmp_path)
    data = write_digits(tmp_path / "digits", classes=3)
    settings: dict[str, Any] = {"model": "few", "size": 32, "batch_size": 16, "average": 0.9}
    found = find_learning_rate(data, console=Console(file=io.StringIO()), **settings)
    assert found.folder == Path("runs/digits-few-lr-1")
    assert sorted(path.name for path in found.folder.iterdir()) == ["lr.csv", "lr.png"]
    assert all(later / earlier == pytest.approx(1e12 ** (1 / 99)) for earlier, later in pairwise(found.rates))
    assert found.rates[0] == 1e-7
    assert found.diverged
    assert found.rates[-1] < 1e5
    assert found.means[-1] > 4 * min(found.means)
    assert found.suggestion is not None
    assert found.suggestion == pytest.approx(0.1 * found.rates[found.means.index(min(found.means))], rel=0.05)
    with (found.folder / "lr.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == pytest.approx(found.losses)
    with pytest.raises(InputError, match="already exists and is not an empty folder"):
        find_learning_rate(data, out=found.folder, console=Console(file=io.StringIO()), **settings)


def test_the_test_is_of_a_new_runs_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--find-lr", "--resume", str(tmp_path)]) == 1
    assert "--find-lr tests the settings of a new run" in capsys.readouterr().err
    assert main(["train", "--find-lr", "--data", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err

"""What a run is made of before it trains, what is refused before that, and what its model then predicts."""

import io
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from rich.console import Console

from inception_resnet_keras import networks
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data import sources
from inception_resnet_keras.data.packed import pack
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.evaluation.report import Report, classification_report
from inception_resnet_keras.models.model_file import read_card
from inception_resnet_keras.models.predict import predict
from inception_resnet_keras.training import run_report
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.pictures import open_pictures
from inception_resnet_keras.training.preparation import (
    batch_norm_hint,
    batch_norm_momentum_for,
    require_ready,
    steps_per_epoch,
)
from inception_resnet_keras.training.settings import read_stored_config
from inception_resnet_keras.training.train import train_config
from inception_resnet_keras.training.trouble import estimate_activations

from .. import tiny
from ..data.photographs import write_photographs
from ..pictures import write_digits

QUIET = Console(quiet=True)


@pytest.fixture(autouse=True)
def _few_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, tiny.FEW.name, {tiny.FEW.variant: tiny.FEW})


def config(**settings: Any) -> TrainConfig:
    return TrainConfig.from_settings({"model": "few", "size": 32, "batch_size": 8, "epochs": 1, **settings})


def manifest(folder: Path, path: Path) -> Path:
    lines = [f"{file},{file.parent.name}" for file in sorted(folder.glob("*/*"))]
    path.write_text("\n".join(["path,label", *lines]))
    return path


def test_pictures_come_from_folders_manifests_and_shards_alike(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "pictures", (10, 6))
    pack(open_source(folder), tmp_path / "packed")
    told = []
    for place in (folder, manifest(folder, tmp_path / "set.csv"), tmp_path / "packed"):
        training, held_out, _ = open_pictures(config(data=str(place), seed=3, copies="allow"), QUIET).parts
        assert (len(training), len(held_out)) == (13, 3)
        other = open_pictures(config(data=str(place), seed=4, copies="allow"), QUIET).parts[1]
        assert other.names != held_out.names
        told.append(sorted(held_out.names))
    assert told[0] == told[1]  # shards are shuffled, so their held-out fifth is another
    with pytest.raises(InputError, match="2 classes would have no training picture"):  # each shifted by a pixel
        open_pictures(config(data=str(folder), val=str(tmp_path / "packed")), QUIET)
    given = config(data=str(folder), val=str(tmp_path / "packed"), copies="allow")
    training, held_out, _ = open_pictures(given, QUIET).parts
    assert (len(training), len(held_out)) == (16, 16)
    digits = [open_pictures(config(seed=seed), QUIET).parts[1].names for seed in (0, 1)]
    assert digits[0] == digits[1]
    assert len(digits[0]) == 359
    with pytest.raises(InputError, match="does not exist"):
        open_pictures(config(data=str(tmp_path / "none")), QUIET)


def test_a_user_gets_the_probabilities_that_the_report_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TrainingResult on a manifest, with all that varies and mixes pictures; evaluated on shards, of their middle."""
    folder = write_photographs(tmp_path / "pictures", (9, 9), size=(90, 120))
    pack(open_source(folder), tmp_path / "packed")
    seen: dict[str, np.ndarray] = {}

    def noted(labels: Any, probabilities: np.ndarray, classes: Any, names: Any, *rest: Any, **groups: Any) -> Report:
        seen.update(zip(names, probabilities, strict=True))
        return classification_report(labels, probabilities, classes, names, *rest, **groups)

    monkeypatch.setattr(run_report, "classification_report", noted)
    varied = {"augmentation": "inception", "area": [0.4, 1.0], "rand_augment": 1, "mixup": 0.2, "cutmix": 1.0}
    settings = {
        **varied,
        "copies": "allow",
        "label_smoothing": 0.1,
        "average": 0.9,
        "central_crop": 0.8,
        "cache": "memory",
        "epochs": 2,
    }
    data = manifest(folder, tmp_path / "set.csv")
    run = train_config(
        config(data=str(data), val=str(tmp_path / "packed"), **settings), tmp_path / "run", console=QUIET
    )
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert read_card(run.folder.model).central_crop == 0.8
    predicted = predict(run.folder.path, [Path(name) for name in seen])
    assert len(predicted) == 18
    for prediction in predicted:
        for name, probability in prediction.top:
            label = ["class 0", "class 1"].index(name)
            assert probability == pytest.approx(seen[prediction.path][label], abs=1e-6)
    assert len({round(prediction.top[0][1], 6) for prediction in predicted}) > 9  # pictures are told apart


def test_too_many_damaged_pictures_stop_the_run_with_their_names(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits")
    for number in range(3):
        path = folder / "0" / f"{number:03d}.png"
        path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(InputError, match=r"max_corrupt allows 2: .*00\d\.png: cannot be decoded"):
        train_config(config(data=str(folder), max_corrupt=2), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run").exists()


def test_a_last_batch_too_small_for_every_replica_is_left_out() -> None:
    assert [steps_per_epoch(9, config(batch_size=4), replicas) for replicas in (1, 2)] == [3, 2]
    assert [steps_per_epoch(8, config(batch_size=4), replicas) for replicas in (1, 2)] == [2, 2]
    assert steps_per_epoch(1, config(batch_size=4), 2) == 0
    assert [steps_per_epoch(7, config(batch_size=4, mixup=0.2), replicas) for replicas in (1, 2)] == [2, 1]
    # 3 pictures of 2 replicas are 1 and 2: one micro-batch and two.
    assert [steps_per_epoch(7, config(batch_size=4, accumulate=2), replicas) for replicas in (1, 2)] == [2, 1]


def test_the_maps_that_a_step_keeps_are_the_models() -> None:
    """By hand from the model's layers: what batch norms and ReLUs read and give, pools, concatenations, the head."""
    maps = estimate_activations(config(batch_size=8, dropout=0.0))
    kept = 0
    for layer in tiny.build(tiny.FEW).layers:
        shape = layer.output.shape[1:]
        kind = type(layer).__name__
        read_by_sum = kind == "Conv2D" and layer.use_bias
        if kind in ("BatchNormalization", "Rescaling") or read_by_sum:
            continue
        followed = [node.operation for node in layer._outbound_nodes]
        if followed and all(isinstance(each, keras.layers.Activation) for each in followed) and kind != "Conv2D":
            continue
        kept += int(np.prod(shape))
    assert maps.kept == pytest.approx(8 * 4 * kept, rel=0.2)
    assert maps.rematerialised < maps.kept
    halves = estimate_activations(config(batch_size=8, accumulate=2, precision="mixed_bfloat16"))
    assert halves.kept * 4 == maps.kept
    assert estimate_activations(config(batch_size=8), replicas=2).kept * 2 == maps.kept


def test_a_short_runs_statistics_settle_and_a_long_runs_are_the_papers() -> None:
    assert batch_norm_momentum_for(200) == pytest.approx(0.9)
    assert batch_norm_momentum_for(1) == batch_norm_momentum_for(30) == 0.8
    assert batch_norm_momentum_for(10**7) == 0.9997


def test_a_momentum_too_slow_for_the_run_is_told_with_one_that_suits() -> None:
    hint = batch_norm_hint(0.9997, 200)
    assert "0.9997" in hint
    assert "give 0.9," in hint
    assert not batch_norm_hint(0.0, 1)  # no memory at all
    for steps in (10, 200, 10**5):
        assert not batch_norm_hint(batch_norm_momentum_for(steps), steps)


def test_a_momentum_of_0_is_taken_and_frozen_batch_norm_has_no_hint(tmp_path: Path) -> None:
    data = str(write_digits(tmp_path / "digits", per_class=8))
    plain = train_config(config(data=data, batch_norm_momentum=0.0), str(tmp_path / "plain"), console=QUIET)
    chosen = json.loads(plain.folder.config.read_text())["chosen"]
    assert chosen["batch_norm_momentum"] == 0.0
    said = io.StringIO()
    frozen = {"weights": str(plain.folder.model), "freeze_batch_norm": True, "batch_norm_momentum": 0.9997}
    train_config(config(data=data, **frozen), tmp_path / "frozen", console=Console(file=said))
    assert "batch norm is frozen" in said.getvalue()
    assert "hint" not in said.getvalue()


@pytest.fixture
def unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of which reading a single header fails the test."""

    def unwanted(*_: Any) -> None:
        raise AssertionError("a header was read")

    monkeypatch.setattr(sources, "header", unwanted)
    return write_digits(tmp_path / "digits")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"val": "nowhere"}, "val: nowhere: does not exist"),
        ({"val": "nowhere.csv"}, "there is no such file"),
        ({"weights": "nowhere.keras"}, "which does not exist"),
        ({"weights": "imagnet"}, "'imagenet' perhaps"),
        ({"weights": "imagenet"}, "weights of few .*--model inception_resnet_v2 --variant slim"),
    ],
)
def test_a_wrong_setting_is_told_first(unread: Path, tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        train_config(config(data=str(unread), **settings), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_taken_is_told_first(unread: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        train_config(config(data=str(unread)), tmp_path, console=QUIET)
    monkeypatch.chdir(unread)
    with pytest.raises(InputError, match=r"data: .* contains runs/.*give --out"):
        train_config(config(data="."), console=QUIET)
    assert not (unread / "runs").exists()


def test_workers_that_cannot_share_pairs_are_told_first(unread: Path) -> None:
    require_ready(config(data=str(unread), batch_size=6), (0, 2))
    with pytest.raises(InputError, match=r"batch_size: got 6; .*an even number of pictures for each"):
        require_ready(config(data=str(unread), batch_size=6, mixup=0.2), (0, 2))


def test_auto_precision_is_chosen_by_a_probe_and_kept_with_the_run(tmp_path: Path) -> None:
    said = io.StringIO()
    console = Console(file=said, width=200)
    write_digits(tmp_path / "digits", classes=3, per_class=10)
    asked = config(data=str(tmp_path / "digits"), precision="auto")
    result = train_config(asked, tmp_path / "run", console=console)
    kept = read_stored_config(result.folder.config)[0].precision
    assert kept in ("float32", "mixed_bfloat16")
    assert f"precision {kept}: " in said.getvalue()
    # The probe leaves no trace: the same run with the precision named gives the same losses.
    named = train_config(config(data=str(tmp_path / "digits"), precision=kept), tmp_path / "named", console=QUIET)
    assert named.history[0]["loss"] == pytest.approx(result.history[0]["loss"], rel=1e-4)


def test_auto_precision_is_refused_where_a_probe_cannot_decide() -> None:
    with pytest.raises(InputError, match="precision: got 'auto'; it takes another value with deterministic"):
        config(precision="auto", deterministic=True)
    with pytest.raises(InputError, match="precision: auto works in a single process"):
        require_ready(config(precision="auto"), (0, 2))

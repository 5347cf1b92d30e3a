import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.training.config import ADDED, TrainConfig, read_config, stored_config
from inception_resnet_keras.training.run import RunFolder


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": "vgg"}, "model: got 'vgg'.*inception_v4"),
        ({"variant": "none"}, "variant: got 'none'.*paper"),
        ({"size": 74}, "size: got 74.*75"),
        ({"size": 10**6}, "size: got 1000000.*4096"),
        ({"epochs": 0}, "epochs: got 0.*at least 1"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"learning_rate": 0}, "learning_rate: got 0"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan"),
        ({"shift": 0.5}, "shift: got 0.5.*below 0.5"),
        ({"seed": -1}, "seed: got -1"),
        ({"augmentation": "inceptoin"}, "augmentation: got 'inceptoin'; it takes 'none' or 'shift' or 'inception'"),
        ({"area": [0.5, 0.1]}, r"area: got \(0.5, 0.1\); it takes two numbers, 0 < low"),
        ({"central_crop": 0.0}, "central_crop: got 0.0"),
        ({"mixup": -1.0}, "mixup: got -1.0"),
        ({"rand_magnitude": 11.0}, "rand_magnitude: got 11.0"),
        ({"cache": "disk"}, "cache: got 'disk'; it takes 'none' or 'memory'"),
        ({"max_corrupt": 1.5}, "max_corrupt: got 1.5; it takes a number of pictures, at least 0, or a share"),
        ({"val": "somewhere"}, "need a training set"),
        ({"freeze_batch_norm": True}, "freeze_batch_norm: freezing layers needs trained ones: give weights too"),
    ],
)
def test_what_is_out_of_range_is_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        TrainConfig(**given)


def test_a_runs_configuration_runs_it_again(tmp_path: Path) -> None:
    config = TrainConfig(
        data=str(tmp_path / "my pictures"), size=80, learning_rate=3e-4, seed=7, area=(0.2, 1.0), max_corrupt=3
    )
    run = RunFolder(tmp_path)
    run.write_config(config, {"steps": 3})
    assert read_config(run.config) == config
    command = shlex.split(json.loads(run.config.read_text())["command"])
    assert command[:2] == ["inception-resnet-keras", "train"]
    assert f"--data={config.data}" in command
    assert "--learning-rate=0.0003" in command
    assert {"--set=area=[0.2, 1.0]", "--set=max_corrupt=3"} < set(command)
    assert not any(part.startswith("--val") for part in command)


@pytest.mark.parametrize(
    ("data", "named"),
    [("/x/my set.csv", "my set"), ("tfds:mnist:test", "tfds-mnist-test"), ("/x/a.b", "a.b"), (None, "digits")],
)
def test_a_runs_folder_is_named_after_its_pictures(data: str | None, named: str) -> None:
    assert TrainConfig(data=data).dataset == named


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"config": {"epochs": 1}}', '{"config": 3}'])
def test_a_damaged_configuration_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json: is damaged"):
        read_config(tmp_path / "config.json")


def test_an_older_versions_configuration_is_filled_in_where_it_did_as_the_defaults_say(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    config = TrainConfig(epochs=7, area=(0.2, 1.0))
    whole = json.loads(json.dumps(asdict(config)))

    def stored(**changed: object) -> tuple[TrainConfig, list[str]]:
        kept = {key: value for key, value in (whole | changed).items() if value is not ...}
        path.write_text(json.dumps({"config": kept}))
        return stored_config(path)

    assert stored() == (config, [])
    assert stored(central_crop=..., area=...) == (TrainConfig(epochs=7), ["area", "central_crop"])
    assert stored(**dict.fromkeys(ADDED, ...)) == (TrainConfig(epochs=7), [name for name in whole if name in ADDED])
    for name in ("shift", "epochs", "optimizer"):  # the first runs shifted nothing, say
        with pytest.raises(InputError, match=rf"config\.json: is damaged or of another program.*{name}"):
            stored(**{name: ...})
    with pytest.raises(InputError, match=r"holds 'ara', which is no setting of this version; did you mean 'area'\?"):
        stored(area=..., ara=[0.2, 1.0])
    with pytest.raises(InputError, match=r"holds 'xyz', which is no setting of this version$"):
        stored(xyz=True)
    assert read_config(path, newer=True) == config


def test_resume_takes_no_other_choice(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "--resume", str(tmp_path), "--epochs", "3"]) == 1
    assert "leave out --epochs" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path), "--jit", "--set=keep=3", "--set=l2=0.1", "--recipe=smoke"]) == 1
    assert "leave out --recipe, --set l2. What may be changed is strategy, jit" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path), "--jit", "--set=keep=3"]) == 1
    assert "holds no run" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path)]) == 1
    assert "holds no run" in capsys.readouterr().err


def test_a_folder_called_as_registered_weights_does_not_take_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("imagenet").mkdir()
    Path("mine.keras").touch()
    assert TrainConfig(data="imagenet", weights="imagenet").anywhere() == TrainConfig(
        data=str(tmp_path / "imagenet"), weights="imagenet"
    )
    assert TrainConfig(weights="mine.keras").anywhere().weights == str(tmp_path / "mine.keras")


def test_what_a_resumed_run_is_computed_with_is_kept_with_it(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_config(TrainConfig(epochs=7), {"steps": 3})
    before = json.loads(run.config.read_text())
    run.change_config(replace(read_config(run.config), accumulate=2, keep=5))
    after = json.loads(run.config.read_text())
    assert read_config(run.config) == TrainConfig(epochs=7, accumulate=2, keep=5)
    assert {"--accumulate=2", "--set=keep=5", "--epochs=7"} < set(shlex.split(after["command"]))
    assert {key: value for key, value in after.items() if key not in ("command", "config")} == {
        key: value for key, value in before.items() if key not in ("command", "config")
    }

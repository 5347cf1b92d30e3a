import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.options import DataOptions
from inception_resnet_keras.training.config import DATA_OPTIONS, DEFAULTS, TrainConfig
from inception_resnet_keras.training.run import RunFolder
from inception_resnet_keras.training.settings import (
    ADDED_LATER,
    RECIPES,
    configured,
    read_config,
    read_recipe,
    read_settings,
    read_stored_config,
    recipe_names,
)


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
        ({"freeze_batch_norm": True}, "freeze_batch_norm: only pretrained layers can be frozen; give weights too"),
    ],
)
def test_what_is_out_of_range_is_named(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        TrainConfig.from_settings(given)


def test_a_runs_configuration_runs_it_again(tmp_path: Path) -> None:
    config = TrainConfig(
        data=str(tmp_path / "my pictures"), size=80, learning_rate=3e-4, seed=7, max_corrupt=3
    ).with_settings({"area": (0.2, 1.0)})
    run = RunFolder(tmp_path)
    run.write_config(config, {"steps": 3})
    assert read_config(run.config) == config
    command = shlex.split(json.loads(run.config.read_text())["command"])
    assert command[:2] == ["inception-resnet-keras", "train"]
    assert f"--data={config.data}" in command
    assert "--learning-rate=0.0003" in command
    assert {"--set=area=[0.2, 1.0]", "--set=max_corrupt=3"} < set(command)
    assert not any(part.startswith("--val=") for part in command)
    assert len(command) == 8  # nothing that is the default
    bare = TrainConfig(weights="w.keras").command()
    assert "--model=inception_resnet_v1 --variant=paper --size=75" in bare  # which would follow from the weights


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
    config = TrainConfig.from_settings({"epochs": 7, "area": (0.2, 1.0)})
    whole = json.loads(json.dumps(config.settings()))

    def stored(**changed: object) -> tuple[TrainConfig, list[str]]:
        kept = {key: value for key, value in (whole | changed).items() if value is not ...}
        path.write_text(json.dumps({"config": kept}))
        return read_stored_config(path)

    assert stored() == (config, [])
    assert stored(central_crop=..., area=...) == (TrainConfig(epochs=7), ["area", "central_crop"])
    assert stored(**dict.fromkeys(ADDED_LATER, ...)) == (
        # Those versions let copies be, and kept the epoch of the best accuracy.
        TrainConfig(epochs=7, copies="allow", monitor="accuracy"),
        [name for name in whole if name in ADDED_LATER],
    )
    for name in ("shift", "epochs", "optimizer"):  # the first runs shifted nothing, say
        with pytest.raises(InputError, match=rf"config\.json: is damaged or from another program.*{name}"):
            stored(**{name: ...})
    with pytest.raises(InputError, match=r"has 'ara', which is not a setting of this version; did you mean 'area'\?"):
        stored(area=..., ara=[0.2, 1.0])
    with pytest.raises(InputError, match=r"has 'xyz', which is not a setting of this version$"):
        stored(xyz=True)
    assert read_config(path, newer=True) == config


def test_an_older_run_keeps_one_rate_for_both_phases(tmp_path: Path) -> None:
    config = TrainConfig(weights="imagenet", head_epochs=2, learning_rate=0.01)
    (tmp_path / "config.json").write_text(
        json.dumps({"config": {k: v for k, v in config.settings().items() if k != "trunk_learning_rate"}})
    )
    older, missing = read_stored_config(tmp_path / "config.json")
    assert missing == ["trunk_learning_rate"]
    assert older.phase_rate(head_only=False) == older.phase_rate(head_only=True) == 0.01


def test_resume_takes_no_other_choice(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "--resume", str(tmp_path), "--epochs", "3"]) == 1
    assert "leave out --epochs" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path), "--jit", "--set=keep=3", "--set=l2=0.1", "--recipe=smoke"]) == 1
    assert "leave out --recipe, --set l2. Settings that may change are strategy, jit" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path), "--jit", "--set=keep=3"]) == 1
    assert "is not a run's folder" in capsys.readouterr().err
    assert main(["train", "--resume", str(tmp_path)]) == 1
    assert "is not a run's folder" in capsys.readouterr().err


def test_a_folder_called_as_registered_weights_does_not_take_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("imagenet").mkdir()
    Path("mine.keras").touch()
    assert TrainConfig(data="imagenet", weights="imagenet").with_absolute_paths() == TrainConfig(
        data=str(tmp_path / "imagenet"), weights="imagenet"
    )
    assert TrainConfig(weights="mine.keras").with_absolute_paths().weights == str(tmp_path / "mine.keras")


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


def test_data_options_are_nested_and_written_flat() -> None:
    flat = {"augmentation": "inception", "area": [0.2, 1], "central_crop": 0.875, "seed": 3}
    config = TrainConfig.from_settings(flat)
    assert config == configured(None, ["augmentation=inception", "area=[0.2, 1]"], {"central_crop": 0.875, "seed": 3})
    assert config.data_options == DataOptions("inception", area=(0.2, 1.0), central_crop=0.875)
    assert config.settings().items() >= {**flat, "area": (0.2, 1)}.items()
    assert TrainConfig.from_settings(config.settings()) == config
    assert config.with_settings({"cache": "memory"}).data_options.cache == "memory"
    assert TrainConfig().data_options == DataOptions()
    assert not {"data_options", *DATA_OPTIONS} - {"data_options", *DEFAULTS}
    with pytest.raises(InputError, match="data_options: got 'shift'; it takes a DataOptions"):
        TrainConfig(data_options="shift")  # type: ignore[arg-type]


def test_a_stored_configuration_is_read_flat_and_nested(tmp_path: Path) -> None:
    config = TrainConfig.from_settings({"epochs": 7, "mixup": 0.2, "aspect": [0.5, 2]})
    for settings in (config.settings(), asdict(config)):
        (tmp_path / "config.json").write_text(json.dumps({"config": settings}))
        assert read_stored_config(tmp_path / "config.json") == (config, [])
    (tmp_path / "config.json").write_text(json.dumps({"config": {**config.settings(), "data_options": 3}}))
    with pytest.raises(InputError, match="is damaged"):
        read_config(tmp_path / "config.json")


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_opens_with_its_command_cost_and_result_and_is_valid(name: str) -> None:
    text = (RECIPES / f"{name}.toml").read_text()
    command = next(line for line in text.splitlines() if line.startswith("#   "))
    assert shlex.split(command)[1:5] == ["inception-resnet-keras", "train", "--recipe", name]
    for part in ("# Cost: ", "# Expected: "):
        assert part in text.split("\nmodel = ")[0]
    assert isinstance(configured(name), TrainConfig)


def test_without_a_recipe_a_run_is_the_digits_recipes() -> None:
    assert configured("digits") == configured() == TrainConfig()


def test_the_papers_recipe_is_the_papers() -> None:
    paper = configured("paper")
    assert (paper.optimizer, paper.epsilon, paper.rho, paper.momentum) == ("rmsprop", 1.0, 0.9, 0.9)
    assert (paper.learning_rate, paper.schedule, paper.decay_rate, paper.decay_epochs) == (
        0.045,
        "exponential",
        0.94,
        2,
    )
    assert (paper.label_smoothing, paper.l2, paper.aux_weight, paper.dropout) == (0.1, 2e-5, 0.4, 0.2)
    assert (paper.batch_norm_momentum, paper.size) == (0.9997, 299)
    options = paper.data_options
    assert (options.augmentation, options.area, options.central_crop) == ("inception", (0.05, 1.0), 0.875)
    assert options.aspect == pytest.approx((3 / 4, 4 / 3), abs=1e-4)


def test_the_modern_recipe_mixes_and_augments() -> None:
    modern = configured("modern")
    options = modern.data_options
    assert (options.augmentation, options.rand_augment) == ("inception", 2)
    assert options.mixup > 0
    assert options.cutmix > 0
    assert modern.average > 0


def test_settings_go_over_the_recipe_and_flags_over_both(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('optimizer = "sgd"\nlearning_rate = 1\nepochs = 7\nseed = 5\n[class_weight]\ncat = 2\n')
    config = configured(str(own), ["epochs=9", "seed=6", "jit=true", "val=none", "momentum=0"], {"seed": 8})
    assert (config.optimizer, config.learning_rate, config.epochs, config.seed) == ("sgd", 1.0, 9, 8)
    assert config.class_weight == {"cat": 2.0}
    assert config.jit is True
    assert config.momentum == 0
    assert isinstance(config.momentum, float)


def test_a_number_of_pictures_is_no_share_of_them() -> None:
    counted, share = (configured(None, [f"max_corrupt={text}"]).max_corrupt for text in ("3", "0.5"))
    assert (counted, share) == (3, 0.5)
    assert isinstance(counted, int)
    assert configured(None, ["area=[0.35, 1]"]).data_options.area == (0.35, 1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["learning_rte=1"], "'learning_rte' is not a setting; did you mean 'learning_rate'"),
        (["qqqq=1"], "'qqqq' is not a setting; settings: data,val,val_fraction"),
        (["epochs=many"], "epochs: got 'many'; it takes an integer .default: 5"),
        (["epochs=1.5"], "epochs: got 1.5; it takes an integer"),
        (["jit=1"], "jit: got 1; it takes true or false"),
        (["learning_rate=true"], "learning_rate: got True; it takes a number"),
        (["epochs"], "set: got 'epochs'; it takes key=value"),
        (["average=1"], r"average: got 1.0; it takes a number in \[0, 1\)"),
        (["optimizer=adm"], "optimizer: got 'adm'; it takes 'adam'"),
        (["accumulate=3"], "accumulate: got 3; it takes an integer that divides the batch of 32"),
        (["weight_decay=0.1"], "weight_decay: got 0.1; it takes 0 with adam"),
        (["head_epochs=2"], "head_epochs: only pretrained layers can be frozen; give weights"),
        (["head_epochs=6", "weights=x"], "head_epochs: got 6; it takes an integer from 0 to the 5 epochs"),
        (["unfreeze_from=z01", "weights=x"], "unfreeze_from: got 'z01'; it takes a stage of .*: stem, a01"),
        (["unfreeze=0.0", "weights=x"], "unfreeze: got 0.0; it takes a share above 0, at most 1"),
        (["unfreeze=0.5", "unfreeze_from=b01", "weights=x"], "unfreeze: got 0.5; .* which is an alternative"),
        (["trunk_learning_rate=0.1"], "trunk_learning_rate: got 0.1; it takes nothing without head_epochs"),
        (["size=[80]"], r"size: got \(80,\); it takes an integer from 75, the least for .*, or two: \(height, width\)"),
        (["size=80x74"], r"size: got \(80, 74\); it takes an integer from 75"),
        (["size=big"], r"size: got 'big'; it takes an integer, or two: \[height, width\]"),
        (["area=0.5"], r"area: got 0.5; it takes two numbers: \[low, high\] .default: \[0.05, 1.0\]"),
        (["area=[1]"], r"area: got \(1,\); it takes two numbers"),
        (["max_corrupt=few"], "max_corrupt: got 'few'; it takes a number"),
        (["val_fraction=0"], "val_fraction: got 0.0; it takes a number above 0 and below 1"),
        (
            ["val_fraction=0.5", "test_fraction=0.5"],
            "test_fraction: got 0.5; it takes less than 0.5, because val_fraction is 0.5",
        ),
        (["group=re:("], "group: got 're:\\('; it takes re: and a regular expression with a group"),
        (
            ["class_weight=blanced"],
            "class_weight: got 'blanced'; it takes 'none', 'balanced' or a table of class names",
        ),
        (["class_weight={a = 0}"], "class_weight: a: got 0; it takes a number above 0"),
        (["class_weight={a = {b = 1}}"], "class_weight: a: got {'b': 1}; it takes a number above 0"),
        (["class_weight={}"], "class_weight: got {}; it takes a table of class names and numbers above 0"),
        (["class_weight=balanced", "sampler=balanced"], "sampler: got 'balanced'; it takes none with class_weight"),
        (
            ["monitor=f1"],
            "monitor: got 'f1'; it takes 'auto' or 'accuracy' or 'balanced_accuracy' or 'mean_average_pre",
        ),
        (["patience=-1"], "patience: got -1; it takes an integer of at least 0, in epochs"),
        (["mixop=0.2"], "'mixop' is not a setting; did you mean 'mixup'"),
        (["aux_weight=0.4"], "size: got 75; it takes an integer from 107"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_right(settings: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        configured(None, settings)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("epochs = ", "cannot be read as a TOML file"),
        ("[optimizer]\nname = 1", "optimizer: got .*; it takes text"),
        ("epoch = 3", "'epoch' is not a setting; did you mean 'epochs'"),
        ("size = '75'", "size: got '75'; it takes an integer"),
    ],
)
def test_a_wrong_recipe_names_its_file_and_fault(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=says) as error:
        read_recipe(str(path))
    assert str(path) in str(error.value)


def test_pictures_may_be_rectangular(tmp_path: Path) -> None:
    config = configured(None, ["size=80x120"])
    assert config == configured(None, ["size=[80, 120]"]) == TrainConfig(size=(80, 120))
    assert (config.image_size, config.size_text) == ((80, 120), "80×120")
    assert TrainConfig.from_settings(json.loads(json.dumps(config.settings()))) == config
    assert "--size=80x120" in shlex.split(config.command())
    assert TrainConfig(size=(80, 80)).size == 80


@pytest.mark.parametrize(
    ("model", "variant", "first"),
    [
        ("inception_v4", "slim", "b03"),
        ("inception_resnet_v1", "paper", "b05"),
        ("inception_resnet_v2", "slim", "b11"),
    ],
)
def test_the_recipe_of_fine_tuning_fits_any_network(model: str, variant: str, first: str) -> None:
    """What is unfrozen is a share of the stages, and the second phase's rate follows the first one's."""
    config = configured("finetune", [], {"model": model, "learning_rate": 0.01})
    assert config.variant == variant
    assert config.first_unfrozen == first
    assert [config.phase_rate(head_only=head_only) for head_only in (True, False)] == pytest.approx([0.01, 0.001])
    named = configured("finetune", ["unfreeze_from=a02", "trunk_learning_rate=0.5"], {"model": model})
    assert (named.unfreeze, named.first_unfrozen, named.phase_rate(head_only=False)) == (None, "a02", 0.5)


def test_registered_weights_stand_for_their_network() -> None:
    config = configured("finetune", [], {"weights": "vggface2"})
    assert (config.model, config.variant) == ("inception_resnet_v1", "facenet")
    assert configured("finetune", [], {"model": "inception_v4"}).variant == "slim"


def test_an_unknown_recipe_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--recipe", "papr"]) == 1
    assert "did you mean 'paper'?" in capsys.readouterr().err


def test_text_needs_no_quotes() -> None:
    assert read_settings(["data=my pictures", "optimizer=sgd"]) == {"data": "my pictures", "optimizer": "sgd"}
    assert read_settings(['model="inception_v4"', "data='a b'"]) == {"model": "inception_v4", "data": "a b"}
    assert read_settings(["data='tis here"]) == {"data": "'tis here"}


def test_the_command_of_a_run_gives_its_configuration_back(tmp_path: Path) -> None:
    for name in recipe_names():
        config = configured(name, ["jit=true", "seed=3", 'class_weight={"a \\"b\\" ☃" = 2, c = 0.5}'])
        assert config.class_weight == {'a "b" ☃': 2, "c": 0.5}
        words = shlex.split(config.command())[2:]
        given = dict(word.removeprefix("--").partition("=")[::2] for word in words if not word.startswith("--set"))
        switches = {key: True for key, value in given.items() if not value}
        settings = [f"{key.replace('-', '_')}={value}" for key, value in given.items() if value and key != "out"]
        settings += [word.removeprefix("--set=") for word in words if word.startswith("--set=")]
        assert configured(None, settings, switches) == config

import shlex
from pathlib import Path

import pytest

from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.recipes import FOLDER, configured, read_recipe, read_settings, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_opens_with_its_command_cost_and_result_and_is_valid(name: str) -> None:
    text = (FOLDER / f"{name}.toml").read_text()
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
    assert (paper.augmentation, paper.area, paper.central_crop) == ("inception", (0.05, 1.0), 0.875)
    assert paper.aspect == pytest.approx((3 / 4, 4 / 3), abs=1e-4)


def test_the_modern_recipe_mixes_and_augments() -> None:
    modern = configured("modern")
    assert (modern.augmentation, modern.rand_augment) == ("inception", 2)
    assert modern.mixup > 0
    assert modern.cutmix > 0
    assert modern.average > 0


def test_settings_go_over_the_recipe_and_flags_over_both(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('optimizer = "sgd"\nlearning_rate = 1\nepochs = 7\nseed = 5\n')
    config = configured(str(own), ["epochs=9", "seed=6", "jit=true", "val=none", "momentum=0"], {"seed": 8})
    assert (config.optimizer, config.learning_rate, config.epochs, config.seed) == ("sgd", 1.0, 9, 8)
    assert config.jit is True
    assert config.momentum == 0
    assert isinstance(config.momentum, float)


def test_a_number_of_pictures_is_no_share_of_them() -> None:
    counted, share = (configured(None, [f"max_corrupt={text}"]).max_corrupt for text in ("3", "0.5"))
    assert (counted, share) == (3, 0.5)
    assert isinstance(counted, int)
    assert configured(None, ["area=[0.35, 1]"]).area == (0.35, 1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["learning_rte=1"], "'learning_rte' is no setting; did you mean 'learning_rate'"),
        (["qqqq=1"], "'qqqq' is no setting; there are data,val,model"),
        (["epochs=many"], "epochs: got 'many'; it takes an integer .without it: 5"),
        (["epochs=1.5"], "epochs: got 1.5; it takes an integer"),
        (["jit=1"], "jit: got 1; it takes true or false"),
        (["learning_rate=true"], "learning_rate: got True; it takes a number"),
        (["epochs"], "set: got 'epochs'; it takes key=value"),
        (["average=1"], r"average: got 1.0; it takes a number in \[0, 1\)"),
        (["optimizer=adm"], "optimizer: got 'adm'; it takes 'adam'"),
        (["accumulate=3"], "accumulate: got 3; it takes an integer that divides the batch of 32"),
        (["weight_decay=0.1"], "weight_decay: got 0.1; it takes 0 with adam"),
        (["head_epochs=2"], "head_epochs: freezing layers needs trained ones: give weights"),
        (["head_epochs=6", "weights=x"], "head_epochs: got 6; it takes an integer from 0 to the 5 epochs"),
        (["unfreeze_from=z01", "weights=x"], "unfreeze_from: got 'z01'; it takes a stage of .*: stem, a01"),
        (["area=0.5"], r"area: got 0.5; it takes two numbers: \[low, high\] .without it: \[0.05, 1.0\]"),
        (["area=[1]"], r"area: got \(1,\); it takes two numbers"),
        (["max_corrupt=few"], "max_corrupt: got 'few'; it takes a number"),
        (["mixop=0.2"], "'mixop' is no setting; did you mean 'mixup'"),
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
        ("epoch = 3", "'epoch' is no setting; did you mean 'epochs'"),
        ("size = '75'", "size: got '75'; it takes an integer"),
    ],
)
def test_a_wrong_recipe_names_its_file_and_fault(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=says) as error:
        read_recipe(str(path))
    assert str(path) in str(error.value)


def test_an_unknown_recipe_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--recipe", "papr"]) == 1
    assert "did you mean 'paper'?" in capsys.readouterr().err


def test_text_needs_no_quotes() -> None:
    assert read_settings(["data=my pictures", "optimizer=sgd"]) == {"data": "my pictures", "optimizer": "sgd"}
    assert read_settings(['model="inception_v4"', "data='a b'"]) == {"model": "inception_v4", "data": "a b"}
    assert read_settings(["data='tis here"]) == {"data": "'tis here"}


def test_the_command_of_a_run_gives_its_configuration_back(tmp_path: Path) -> None:
    for name in recipe_names():
        config = configured(name, ["jit=true", "seed=3"])
        words = shlex.split(config.command())[2:]
        given = dict(word.removeprefix("--").partition("=")[::2] for word in words if not word.startswith("--set"))
        switches = {key: True for key, value in given.items() if not value}
        settings = [f"{key.replace('-', '_')}={value}" for key, value in given.items() if value and key != "out"]
        settings += [word.removeprefix("--set=") for word in words if word.startswith("--set=")]
        assert configured(None, settings, switches) == config

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from rich.console import Console

from inception_resnet_keras import finetune, networks, predict, train
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.models.model_file import load_model
from inception_resnet_keras.networks import names
from inception_resnet_keras.networks.rows import Conv, Repeat, Residual
from inception_resnet_keras.training.config import TrainConfig, read_config
from inception_resnet_keras.training.train import TrainingResult, train_config

from .. import tiny
from ..pictures import write_digits

QUIET = Console(quiet=True)
SUM = Residual([[Conv(4, 1)]], name="c")
STAGES = replace(tiny.FEW, stages=[*tiny.FEW.stages, Repeat(SUM, 2, scale=0.2)], final=[Conv(10, 1)])


@pytest.fixture(scope="module", autouse=True)
def _few_is_known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.NETWORKS, STAGES.name, {STAGES.variant: STAGES})
        yield


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    folder = tmp_path_factory.mktemp("trunk")
    data = write_digits(folder / "digits", classes=4)
    config = TrainConfig(data=str(data), model="few", size=32, epochs=4, batch_size=16, learning_rate=0.01)
    return train_config(config, folder / "run", console=QUIET)


def tuned(trunk: TrainingResult, folder: Path, **settings: Any) -> keras.Model:
    data = write_digits(folder / "digits", classes=3)
    options: dict[str, Any] = {"model": "few", "variant": "paper", "size": 32, "batch_size": 16, "learning_rate": 0.02}
    run = finetune(data, out=folder / "run", console=QUIET, **{**options, "weights": trunk.folder.model, **settings})
    return load_model(run.folder.model)[0]


def moved(before: keras.Model, after: keras.Model) -> set[str]:
    """Paths of the trunk's weights that are not the same bits."""
    old = {weight.path: weight.numpy() for weight in before.weights}
    return {
        weight.path
        for weight in after.weights
        if names.stage(weight.path) and not np.array_equal(old[weight.path], weight.numpy())
    }


def test_in_the_first_phase_the_trunk_keeps_every_bit(trunk: TrainingResult, tmp_path: Path) -> None:
    model = tuned(trunk, tmp_path, epochs=2, head_epochs=2, unfreeze_from=None)
    assert model.output_shape == (None, 3)
    # Every statistic too: a frozen layer's batch norm does not move, though it is called with training=True.
    assert not moved(load_model(trunk.folder.model)[0], model)


def test_then_only_what_stands_above_the_named_stage_moves_and_no_statistic(
    trunk: TrainingResult, tmp_path: Path
) -> None:
    model = tuned(trunk, tmp_path, epochs=3, head_epochs=1, unfreeze_from="b01", layer_rate=0.9)
    changed = moved(load_model(trunk.folder.model)[0], model)
    stages = {names.stage(path) for path in changed}
    assert stages == {"b01", "c01", "c02", "final"}
    assert {path.rpartition("/")[2] for path in changed} == {"kernel", "bias"}


def test_without_frozen_batch_norm_its_statistics_move_above_the_stage_alone(
    trunk: TrainingResult, tmp_path: Path
) -> None:
    model = tuned(trunk, tmp_path, epochs=2, head_epochs=0, unfreeze_from="c01", freeze_batch_norm=False)
    changed = moved(load_model(trunk.folder.model)[0], model)
    assert {names.stage(path) for path in changed if "moving" in path} == {"c01", "c02", "final"}


def test_what_cannot_be_tuned_is_told_before_training(trunk: TrainingResult, tmp_path: Path) -> None:
    data = write_digits(tmp_path / "digits")
    with pytest.raises(InputError, match="did you mean 'head_epochs'"):
        finetune(data, weights=trunk.folder.model, head_epoch=3)
    with pytest.raises(InputError, match="unfreeze_from: got 'z'"):
        finetune(data, weights=trunk.folder.model, unfreeze_from="z", model="few", variant="paper", size=32)
    with pytest.raises(InputError, match="nowhere"):
        tuned(
            trunk, tmp_path / "other", epochs=1, head_epochs=1, unfreeze_from=None, weights=str(tmp_path / "nowhere.h5")
        )


def test_train_and_predict_take_paths_of_both_kinds_and_settings_over_a_recipe(tmp_path: Path) -> None:
    data, val = (write_digits(tmp_path / name, classes=3, per_class=10) for name in ("digits", "held out"))
    recipe = tmp_path / "mine.toml"
    recipe.write_text('model = "few"\nsize = 32\nepochs = 9\nbatch_size = 16\n')
    run = train(data, out=str(tmp_path / "run"), recipe=recipe, val=val, epochs=1, console=QUIET)
    config = read_config(run.folder.config)
    assert (config.model, config.epochs, config.data, config.val) == ("few", 1, str(data), str(val))
    image = next(val.rglob("*.png"))
    (wanted,) = predict(run.folder.path, [image])
    assert len(wanted.top) == 3
    assert predict(str(run.folder.path), [str(image)]) == predict(run.folder.path, str(image)) == [wanted]


def test_what_train_and_predict_cannot_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'epochs'"):
        train(epocs=3)
    with pytest.raises(InputError, match=r"recipe: got 'modren'.* did you mean 'modern'"):
        train(recipe="modren")
    for argument, value in (("top", 0), ("batch_size", 0)):
        with pytest.raises(InputError, match=f"^{argument}: got 0; it takes an integer of at least 1"):
            predict(tmp_path, [], **{argument: value})  # type: ignore[arg-type]

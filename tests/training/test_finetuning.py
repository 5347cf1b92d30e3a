import io
import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from inception_resnet_keras import (
    create_inception_resnet_v1,
    evaluate,
    finetune,
    inspect_checkpoint,
    load_weights,
    networks,
    predict,
    train,
)
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.models.model_file import load_model
from inception_resnet_keras.models.open import locate
from inception_resnet_keras.networks import names
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.in_memory import model_settings
from inception_resnet_keras.training.optimizers import Phase, schedule
from inception_resnet_keras.training.run import RunFolder
from inception_resnet_keras.training.settings import configured, read_config
from inception_resnet_keras.training.train import train_config
from inception_resnet_keras.training.training_result import TrainingResult

from .. import tiny
from ..pictures import write_digits

QUIET = Console(quiet=True)
STAGES = replace(tiny.STAGED, name="few")


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
    history = RunFolder(tmp_path / "run").read_history()
    assert [row["phase"] for row in history] == [1, 2, 2]
    assert history[0]["learning_rate"] > 0.005
    assert max(row["learning_rate"] for row in history[1:]) < 0.002  # a tenth of the first phase's, without being told


def test_the_history_has_each_epochs_mean_rate_and_its_best_epoch(trunk: TrainingResult) -> None:
    steps = json.loads(trunk.folder.config.read_text())["chosen"]["steps"] // 4
    rate = schedule(read_config(trunk.folder.config), Phase(0, 4, False), steps)
    means = [np.mean([float(rate(step)) for step in range(epoch * steps, (epoch + 1) * steps)]) for epoch in range(4)]
    assert [row["learning_rate"] for row in trunk.history] == pytest.approx(means, rel=1e-4)
    assert {row["phase"] for row in trunk.history} == {1}
    scores = [(row["val_accuracy"], -row["val_loss"]) for row in trunk.history]
    bests = [1 + scores.index(max(scores[: count + 1])) for count in range(4)]
    assert [row["best_epoch"] for row in trunk.history] == bests


def test_a_run_on_rectangles_is_used_as_any_other(trunk: TrainingResult, tmp_path: Path) -> None:
    data = write_digits(tmp_path / "digits", classes=3, per_class=8)
    options = ["--weights", str(trunk.folder.path), "--size", "32x48", "--epochs", "1", "--head-epochs", "1"]
    out = tmp_path / "run"
    assert main(["train", "--data", str(data), *options, "--recipe", "finetune", "--out", str(out)]) == 0
    model, card = load_model(out)
    assert (card.size, model.input_shape[1:3]) == ((32, 48), (32, 48))
    assert read_config(out / "config.json").size == (32, 48)
    (found,) = predict(out, next(data.rglob("*.png")))
    assert len(found.top) == 3
    evaluated = evaluate(out, out=tmp_path / "evaluation", progress=lambda *_: None)
    assert evaluated.reported.figures.top1 == finetuned_accuracy(out)


def test_a_runs_folder_is_taken_wherever_a_model_is(
    trunk: TrainingResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, (model, _) = trunk.folder.path, load_model(trunk.folder.model)
    assert (run / "best.keras").is_file()  # beside model.keras, of which the report is
    found = inspect_checkpoint(run)
    assert (found.network.name, found.classes) == ("few", 4)
    other = keras.models.clone_model(model)
    load_weights(other, run)
    assert all(map(np.array_equal, other.get_weights(), model.get_weights()))
    assert locate(run).open().classes == ["0", "1", "2", "3"]
    for command in (["inspect", run], ["plot", run, "--out", tmp_path / "drawn.svg"]):
        assert main(list(map(str, command))) == 0, capsys.readouterr().err
    assert (tmp_path / "drawn.svg").stat().st_size > 1000


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


def test_a_run_stands_for_its_network_and_size_and_the_same_classes_keep_its_classifier(
    trunk: TrainingResult, tmp_path: Path
) -> None:
    """Without a recipe's head start: one epoch at a rate that moves nothing leaves the run's own accuracy."""
    before = load_model(trunk.folder.path)[0].get_layer("logits").get_weights()
    options: dict[str, Any] = {"weights": trunk.folder.path, "epochs": 1, "batch_size": 16, "learning_rate": 1e-9}
    for classes, kept in ((4, True), (3, False)):
        printed = Console(record=True, width=500, file=io.StringIO())
        data = write_digits(tmp_path / str(classes), classes=classes)
        run = train(data, out=tmp_path / f"run of {classes}", recipe=None, console=printed, **options)
        config = read_config(run.folder.config)
        assert (config.model, config.variant, config.size) == ("few", "paper", 32)
        after = load_model(run.folder.model)[0].get_layer("logits").get_weights()
        assert kept == all(
            old.shape == new.shape and np.allclose(old, new, atol=1e-5) for old, new in zip(before, after, strict=True)
        )
        old = trunk.folder.path
        said = (
            f"kept, because the 4 classes are the same as in {old}"
            if kept
            else f"new, because the classes of {old} differ (3 missing)"
        )
        assert f"the classifier is {said}" in printed.export_text()


def test_a_runs_network_gives_way_to_nothing_else(trunk: TrainingResult, tmp_path: Path) -> None:
    weights = str(trunk.folder.path)
    assert configured("finetune", [], {"weights": weights, "size": 48}).size == 48
    with pytest.raises(InputError, match=r"^model: got 'inception_v4'; it takes few, the network of .*, or nothing"):
        configured("finetune", ["model=inception_v4"], {"weights": weights})
    load_model(trunk.folder.model)[0].save_weights(tmp_path / "bare.weights.h5")  # knows no size, and no class names
    bare = configured("finetune", [], {"weights": str(tmp_path / "bare.weights.h5")})
    assert (bare.model, bare.variant, bare.size, bare.unfreeze) == ("few", "paper", 299, 0.5)
    own = tmp_path / "own.toml"
    own.write_text(f'weights = "{weights}"\nsize = 64\n')
    assert (configured(str(own)).model, configured(str(own)).size) == ("few", 64)
    other = tmp_path / "other"
    shutil.copytree(trunk.folder.path, other)
    (other / "config.json").write_text(json.dumps({"config": {}, "run": "another"}))
    with pytest.raises(InputError, match="was saved by another run"):
        train(write_digits(tmp_path / "data"), weights=other, out=tmp_path / "out", console=QUIET)


@pytest.mark.parametrize(
    ("edits", "density"),
    [
        ({"padding": "same", "output_stride": 16}, "same padding and output stride 16"),
        ({"output_stride": 8, "include_top": False}, "output stride 8"),
    ],
)
def test_a_dense_model_is_refused_before_work_starts(edits: dict[str, Any], density: str, tmp_path: Path) -> None:
    model = create_inception_resnet_v1(depths=(1, 1, 1), **edits)
    data = write_digits(tmp_path / "data", classes=3, per_class=4)
    with pytest.raises(InputError, match=rf"^model: 'inception_resnet_v1' is .* with {density}, which a run cannot"):
        finetune(data, model=model, out=tmp_path / "runs" / "run", console=QUIET)
    assert not (tmp_path / "runs").exists()


def test_a_dense_file_is_refused_unless_the_network_is_named(tmp_path: Path) -> None:
    file = tmp_path / "dense.keras"
    create_inception_resnet_v1(depths=(1, 1, 1), padding="same", output_stride=16, input_shape=(75, 75, 3)).save(file)
    with pytest.raises(InputError, match=r"^weights: .* with same padding and output stride 16, .*give model="):
        configured(None, [], {"weights": str(file)})
    config = configured(None, [], {"weights": str(file), "model": "inception_resnet_v1"})
    assert config.network.name == "inception_resnet_v1"
    assert not networks.edited(config.network)


def test_a_prefixed_model_is_trained_as_one_without() -> None:
    options: dict[str, Any] = {"num_classes": 3, "depths": (1, 2, 1), "input_shape": (107, 107, 3)}
    prefixed = create_inception_resnet_v1(layer_prefix="left_", **options)
    settings = model_settings(prefixed, {})
    assert settings == model_settings(create_inception_resnet_v1(**options), {})
    assert settings["depths"] == (1, 2, 1)


def test_train_and_predict_take_paths_of_both_kinds_and_settings_over_a_recipe(tmp_path: Path) -> None:
    data, val = (write_digits(tmp_path / name, classes=3, per_class=10) for name in ("digits", "held out"))
    recipe = tmp_path / "mine.toml"
    recipe.write_text('model = "few"\nsize = 32\nepochs = 9\nbatch_size = 16\ncopies = "allow"\n')
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


def in_memory(folder: Path, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    source = open_source(write_digits(folder / "given", classes=classes))
    return source.read_all((32, 32)), source.labels


@pytest.mark.slow
def test_a_model_in_memory_stands_for_its_table_and_weights(trunk: TrainingResult, tmp_path: Path) -> None:
    """The same bits as from the model's file, on the same pictures; the model stays as it was."""
    model, options = load_model(trunk.folder.model)[0], {"epochs": 2, "head_epochs": 1, "unfreeze_from": "c01"}
    before = [np.array(weight) for weight in model.get_weights()]
    data = write_digits(tmp_path / "digits", classes=3)
    settings: dict[str, Any] = {"batch_size": 16, "learning_rate": 0.02, "console": QUIET, **options}
    runs = [
        finetune(data, model=model, out=tmp_path / "memory", **settings),
        finetune(
            data, model="few", variant="paper", size=32, weights=trunk.folder.model, out=tmp_path / "file", **settings
        ),
    ]
    of_memory, of_file = (load_model(run.folder.model)[0].get_weights() for run in runs)
    assert all(map(np.array_equal, of_memory, of_file))
    assert all(map(np.array_equal, before, model.get_weights()))
    config = read_config(runs[0].folder.config)
    assert (config.model, config.variant, config.size) == ("few", "paper", 32)
    assert config.weights == str(runs[0].folder.path / "pretrained.keras")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_a_prefixed_model_in_memory_is_tuned_as_one_without(trunk: TrainingResult, tmp_path: Path) -> None:
    """With rates by layer and stages computed again, which go by the layers' names: the same bits."""
    plain = load_model(trunk.folder.model)[0]
    prefixed = tiny.build(STAGES, num_classes=4, include_preprocessing=True, layer_prefix="left_")
    prefixed.set_weights(plain.get_weights())
    data = write_digits(tmp_path / "digits", classes=3)
    settings: dict[str, Any] = {"epochs": 2, "head_epochs": 1, "unfreeze_from": "c01", "layer_rate": 0.5, "remat": True}
    runs = [
        finetune(data, model=model, out=tmp_path / name, batch_size=16, console=QUIET, **settings)
        for name, model in (("plain", plain), ("prefixed", prefixed))
    ]
    models = [load_model(run.folder.model)[0] for run in runs]
    for one, other in zip(*(model.weights for model in models), strict=True):
        assert one.path == other.path  # the run's model has names without a prefix
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    assert {names.stage(path) for path in moved(plain, models[1])} >= {"c01", "c02", "final"}
    assert read_config(runs[1].folder.config).remat


@pytest.mark.slow
def test_a_dataset_in_memory_is_the_pictures_of_a_run(trunk: TrainingResult, tmp_path: Path) -> None:
    images, labels = in_memory(tmp_path)
    one_hot = keras.utils.to_categorical(labels, 3)
    datasets = {
        "single": tf.data.Dataset.from_tensor_slices((images, labels)),
        "batched": tf.data.Dataset.from_tensor_slices((images.astype(np.float32) + 0.2, one_hot)).batch(7),
    }
    settings: dict[str, Any] = {
        "epochs": 1,
        "head_epochs": 1,
        "unfreeze_from": None,
        "batch_size": 16,
        "copies": "allow",  # the second run holds out what it is trained on
        "console": QUIET,
    }
    found = {}
    for name, dataset in datasets.items():
        run = finetune(
            dataset,
            model=load_model(trunk.folder.model)[0],
            class_names=["zero", "one", "two"],
            val=datasets["single"] if name == "batched" else None,
            out=tmp_path / name,
            **settings,
        )
        assert [score.name for score in run.report.classes] == ["zero", "one", "two"]
        found[name] = open_source(run.folder.path / "pictures")
        order = [int(name.removeprefix("image ")) for name in found[name].names]
        np.testing.assert_array_equal(found[name].read_all((32, 32)), images[order])
        np.testing.assert_array_equal(found[name].labels, labels[order])
        assert (run.folder.path / "held_out_pictures").is_dir() == (name == "batched")
    evaluated = evaluate(tmp_path / "single", out=tmp_path / "evaluation", progress=lambda *_: None)
    assert evaluated.reported.figures.top1 == finetuned_accuracy(tmp_path / "single")


def finetuned_accuracy(run: Path) -> float:
    return float(json.loads((run / "report.json").read_text())["accuracy"])


def test_depths_and_scales_are_settings_of_a_run(tmp_path: Path) -> None:
    config = TrainConfig(model="inception_resnet_v1", depths=(1, 2, 1), scale=(0.3, 0.2, 0.1))
    assert networks.depths(config.network) == (1, 2, 1)
    assert networks.scales(config.network) == (0.3, 0.2, 0.1)
    assert configured(None, ["model=inception_resnet_v1", "depths=[1, 2, 1]", "scale=[0.3, 0.2, 0.1]"]) == config
    assert TrainConfig.from_settings(json.loads(json.dumps(config.settings()))) == config
    assert "--set=depths=[1, 2, 1]" in shlex.split(config.command())
    wrongs: list[tuple[dict[str, Any], str]] = [
        ({"depths": (1, 2)}, r"depths: got \(1, 2\); it takes None or 3 integers"),
        ({"scale": (2.0, 1.0, 1.0)}, "scale: got"),
        ({"model": "inception_v4", "scale": (0.1, 0.1, 0.1)}, "scale: .* inception_v4 has no residual sums"),
    ]
    for wrong, says in wrongs:
        with pytest.raises(InputError, match=says):
            TrainConfig(**{"model": "inception_resnet_v1", **wrong})


def test_what_cannot_be_used_in_memory_is_refused_and_leaves_nothing(trunk: TrainingResult, tmp_path: Path) -> None:
    images, labels = in_memory(tmp_path)
    pairs, model = tf.data.Dataset.from_tensor_slices, load_model(trunk.folder.model)[0]
    out = tmp_path / "new" / "run"
    for dataset, says in (
        (pairs((images, labels)).repeat(), "data: the dataset repeats without end"),
        (pairs(images), "data: got .*; it takes a tf.data.Dataset of"),
        (pairs((images / np.float32(255), labels)), "data: no value is above 0.99.*; pixels of 0-255"),
        (pairs((images.astype(np.float32) - 128, labels)), "data: image 0 has values from -128"),
        (pairs((images, labels + 1)), "data: image .* has the label 3, which is not one of the 3 classes"),
        (pairs((images, np.zeros_like(labels))), "data: the dataset has no picture of class 'b'"),
        (pairs((images[:0], labels[:0])), "data: the dataset holds no picture"),
        (pairs({"image": images, "label": labels}), "data: its elements are dicts; give pairs"),
    ):
        with pytest.raises(InputError, match=says):
            finetune(dataset, model=model, class_names=["a", "b", "c"], out=out, console=QUIET)
    for arguments, says in (
        ({"model": keras.Sequential([keras.Input((8, 8, 3))])}, "model: got .*; it takes a model of this package"),
        ({"model": model, "weights": "imagenet"}, "weights: got 'imagenet'; it takes nothing beside a model"),
        ({"model": model, "depths": (9, 9, 9)}, "depths: got .*; it takes nothing beside a model"),
        ({"model": "few", "class_names": ["a"]}, "class_names: got .*; it takes None unless data is a"),
    ):
        with pytest.raises(InputError, match=says):
            finetune(tmp_path / "given", out=out, console=QUIET, **arguments)
    assert not out.parent.exists()

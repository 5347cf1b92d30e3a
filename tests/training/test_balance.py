"""Classes of unequal size: weights in the loss, shares of the epoch, which epoch is best and when a run stops."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.utils.class_weight import compute_class_weight

from inception_resnet_keras import networks
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.labelled import Source
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.models.model_file import read_card
from inception_resnet_keras.training import best_epoch as best
from inception_resnet_keras.training.balance import (
    class_count_table,
    class_weights,
    introduce_classes,
    require_balance,
    unevenness,
    weighted,
    with_chosen_monitor,
)
from inception_resnet_keras.training.checkpoints import Checkpoints, read_checkpoint, write_checkpoint
from inception_resnet_keras.training.cluster import make_strategy
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.run import RunFolder, RunWriter
from inception_resnet_keras.training.session import Session
from inception_resnet_keras.training.settings import read_config
from inception_resnet_keras.training.train import resume, train_config
from inception_resnet_keras.training.training_result import TrainingResult

from .. import tiny
from ..pictures import write_digits

QUIET = Console(quiet=True)
PIXELS = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype(np.float32)
LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2])


@pytest.fixture(autouse=True)
def _small_ones_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, variants in tiny.KNOWN.items():
        monkeypatch.setitem(networks.NETWORKS, name, variants)


def config(**settings: Any) -> TrainConfig:
    return TrainConfig.from_settings({"model": "few", "size": 32, "batch_size": 8, "epochs": 1, **settings})


def uneven_digits(folder: Path, counts: tuple[int, ...] = (20, 20, 5)) -> Path:
    write_digits(folder, classes=len(counts), per_class=max(counts))
    for label, count in enumerate(counts):
        for extra in sorted((folder / str(label)).iterdir())[count:]:
            extra.unlink()
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return uneven_digits(tmp_path_factory.mktemp("data") / "uneven")


@pytest.fixture
def source(data: Path) -> Source:
    return open_source(data)


# ----------------------------------------------------------------------------------------------------------------------
# The loss
# ----------------------------------------------------------------------------------------------------------------------
def weighted_loss(probabilities: np.ndarray, targets: np.ndarray, smoothing: float) -> float:
    """In float64: sum of every picture's cross entropy with its weighted, smoothed label, divided by the pictures.

    targets: (n, classes), the parts of a label, each times the weight of the picture that it is of.
    """
    probabilities, targets = probabilities.astype(np.float64), targets.astype(np.float64)
    classes = targets.shape[1]
    smoothed = (1 - smoothing) * targets + smoothing / classes * targets.sum(axis=1, keepdims=True)
    return float(-(smoothed * np.log(probabilities)).sum() / len(targets))


def fresh(**settings: Any) -> Session:
    usual = {"dropout": 0.0, "optimizer": "sgd", "learning_rate": 0.01, "freeze_batch_norm": True, "weights": "none.k"}
    made = config(**{**usual, **settings})
    return Session(made, ["a", "b", "c"], 3, 0.8, make_strategy(made))


WEIGHTS = np.array([0.5, 2.0, 0.0, 1.0, 3.0, 0.25, 10.0, 1.0], np.float32)
ONE_HOT = np.eye(3, dtype=np.float32)[LABELS]
OWN = np.linspace(0.5, 1.0, 8, dtype=np.float32)[:, None]
NEIGHBOUR = np.arange(8) ^ 1
MIXED = OWN * ONE_HOT + (1 - OWN) * ONE_HOT[NEIGHBOUR]
MIXED_WEIGHTS = OWN * ONE_HOT * WEIGHTS[:, None] + (1 - OWN) * (ONE_HOT * WEIGHTS[:, None])[NEIGHBOUR]


@pytest.mark.parametrize(
    ("labels", "weights", "targets"),
    [(LABELS, WEIGHTS, ONE_HOT * WEIGHTS[:, None]), (MIXED, MIXED_WEIGHTS, MIXED_WEIGHTS)],
    ids=["plain", "mixed"],
)
def test_the_loss_and_its_gradient_are_numpys(labels: np.ndarray, weights: np.ndarray, targets: np.ndarray) -> None:
    """Both heads, smoothed; the classifier's gradient is (probabilities * weight - target) * features, by hand."""
    smoothing = 0.1
    session = fresh(model="tiny", aux_weight=0.4, label_smoothing=smoothing)
    metrics, gradients = session.stepper.compute(PIXELS, labels, weights=weights)
    main_head, aux_head = (output.numpy() for output in session.model(PIXELS, training=True))
    assert metrics.classifier == pytest.approx(weighted_loss(main_head, targets, smoothing), rel=1e-5)
    assert metrics.auxiliary == pytest.approx(0.4 * weighted_loss(aux_head, targets, smoothing), rel=1e-5)
    assert metrics.correct == (main_head.argmax(axis=1) == (labels if labels.ndim == 1 else labels.argmax(1))).sum()
    sums = targets.sum(axis=1, keepdims=True)
    by_hand = (main_head * sums - (1 - smoothing) * targets - smoothing / 3 * sums).sum(axis=0) / len(targets)
    [bias] = [
        gradient.numpy()
        for gradient, variable in zip(gradients, session.model.trainable_variables, strict=True)
        if variable.path == "logits/bias"
    ]
    np.testing.assert_allclose(bias, by_hand, atol=1e-6)


def test_weights_of_1_change_nothing_and_twice_the_weights_are_twice_the_loss() -> None:
    session = fresh()
    plain, ones, twos = (
        session.stepper.compute(PIXELS, LABELS, weights=weights)
        for weights in (None, np.ones(8, np.float32), np.full(8, 2, np.float32))
    )
    assert ones[0].loss == pytest.approx(plain[0].loss, rel=1e-6)
    assert twos[0].loss == pytest.approx(2 * plain[0].loss, rel=1e-6)
    for one, two in zip(plain[1], twos[1], strict=True):
        np.testing.assert_allclose(2 * one.numpy(), two.numpy(), rtol=1e-4, atol=1e-6)


def test_micro_batches_take_the_same_weighted_step() -> None:
    """The sum is divided by the pictures of the whole batch, so that it does not matter how the weights fall on it."""
    whole, parts = fresh(), fresh(accumulate=4)
    expected, _ = whole.stepper.compute(PIXELS, MIXED, MIXED_WEIGHTS)
    for session in (whole, parts):
        figures = session.stepper.step(PIXELS, MIXED, 0, weights=MIXED_WEIGHTS).numpy()
        assert figures[:3].sum() == pytest.approx(expected.loss, rel=1e-5)
    for mine, theirs in zip(whole.model.weights, parts.model.weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), atol=1e-6)


# ----------------------------------------------------------------------------------------------------------------------
# Weights of classes and of pictures
# ----------------------------------------------------------------------------------------------------------------------
def test_balanced_weights_are_scikit_learns_and_multiply_the_pictures_own(source: Source) -> None:
    balanced = config(class_weight="balanced")
    expected = compute_class_weight("balanced", classes=np.arange(3), y=source.labels)
    factors = class_weights(balanced, source)
    np.testing.assert_allclose(np.asarray(factors), expected)
    found = weighted(balanced, source).weights
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected[source.labels], rtol=1e-6)
    assert found.mean() == pytest.approx(1)
    own = np.linspace(0, 2, len(source), dtype=np.float32)
    both = weighted(balanced, replace(source, weights=own)).weights
    np.testing.assert_allclose(np.asarray(both), own * expected[source.labels], rtol=1e-6)
    assert weighted(config(), source) is source
    table = class_weights(config(class_weight={"2": 4}), source)
    np.testing.assert_array_equal(np.asarray(table), [1, 1, 4])
    of_two = source.take(np.flatnonzero(source.labels > 0))  # class 0 is left without pictures
    np.testing.assert_allclose(np.asarray(class_weights(balanced, of_two)), np.array([0, 25 / 40, 25 / 10]))


@pytest.mark.parametrize(
    ("settings", "weights", "says"),
    [
        ({"class_weight": {"tow": 2.0}}, None, "class_weight: got 'tow'; it takes names of the 3 classes: 0, 1, 2"),
        ({}, [0.0, 0.0], "weight: all 2 training pictures have the weight 0, so that nothing would be learned"),
    ],
)
def test_what_cannot_be_weighted_is_refused(
    source: Source, settings: dict[str, Any], weights: list[float] | None, says: str
) -> None:
    if weights is not None:
        source = replace(source.take(np.arange(2)), weights=np.array(weights, np.float32))
    with pytest.raises(InputError, match=says):
        require_balance(config(**settings), source)


@pytest.mark.parametrize("several", [False, True])
def test_a_class_whose_pictures_all_have_the_weight_0_is_refused(source: Source, several: bool) -> None:
    labels = np.eye(3, dtype=np.uint8)[source.labels] if several else source.labels
    weights = np.where(source.labels == 1, 0, 1).astype(np.float32)
    with pytest.raises(InputError, match=r"weight: all training pictures of 1 class have the weight 0, .* it: '1'"):
        require_balance(config(), replace(source, labels=labels, weights=weights))
    weights[np.flatnonzero(source.labels == 1)[0]] = 1e-3
    require_balance(config(), replace(source, labels=labels, weights=weights))
    without = source.take(np.flatnonzero(source.labels != 1))  # of no pictures, no weight is missing
    require_balance(config(), replace(without, weights=np.ones(len(without), np.float32)))


def test_pictures_of_several_labels_have_no_class_weights(source: Source) -> None:
    several = replace(source, labels=np.eye(3, dtype=np.uint8)[source.labels])
    assert several.class_counts.tolist() == source.class_counts.tolist() == [20, 20, 5]
    require_balance(config(), several)
    for name in ("class_weight", "sampler"):
        with pytest.raises(InputError, match=f"{name}: got 'balanced'; it takes none if pictures may have several"):
            require_balance(config(**{name: "balanced"}), several)


def test_other_weights_are_another_source(source: Source) -> None:
    """A resumed run and another worker must have the same ones."""
    ones, others = (replace(source, weights=np.full(len(source), value, np.float32)) for value in (1, 2))
    assert len({source.digest, ones.digest, others.digest}) == 3


# ----------------------------------------------------------------------------------------------------------------------
# What is printed
# ----------------------------------------------------------------------------------------------------------------------
def introduced(made: TrainConfig, source: Source) -> str:
    said = io.StringIO()
    introduce_classes(Console(file=said, width=200), with_chosen_monitor(made, source), source, source)
    return said.getvalue()


def test_classes_and_what_is_done_about_them_are_printed(source: Source) -> None:
    said = introduced(config(), source)
    assert re.search(r"│ 2 +│ +5 │ +5 │", said)
    assert (
        "classes are uneven: '0' has 4 times the training pictures of '2', and every picture has the same weight"
        in said
    )
    assert "hint: --class-weight balanced or --sampler balanced" in said
    assert "best.keras is chosen by held-out balanced accuracy" in said
    said = introduced(config(class_weight="balanced", monitor="loss"), source)
    assert "hint" not in said
    assert "the loss is weighted by class: from 0.75 ('0') to 3 ('2')" in said
    assert "best.keras is chosen by held-out loss" in said
    said = introduced(config(sampler="balanced"), source)
    assert "every class is sampled 15 times per epoch: each picture of '0' 0.75 times, each of '2' 3 times" in said
    even = source.take(np.flatnonzero(source.labels < 2))
    even = replace(even, class_names=["0", "1"], weights=np.linspace(0.5, 2, len(even), dtype=np.float32))
    said = introduced(config(), even)
    assert "classes are even: " in said
    assert "hint" not in said
    assert "weighted by picture: the data's weights are from 0.5 to 2" in said
    assert "best.keras is chosen by held-out accuracy" in said


def test_many_classes_are_shortened_and_a_class_without_pictures_is_named(source: Source) -> None:
    labels = np.repeat(np.arange(30), np.arange(30))
    many = replace(
        source.take(np.zeros(len(labels), int)), class_names=[f"class {number}" for number in range(30)], labels=labels
    )
    said = io.StringIO()
    introduce_classes(Console(file=said, width=200), config(monitor="loss"), many, many.take(np.arange(3)), many)
    assert re.search(r"class +┃ training ┃ held out ┃ test ┃", said.getvalue())
    assert re.search(r"all pictures +│ +435 │ +3 │ +435 │", said.getvalue())
    table = class_count_table({"training": many, "held out": many})
    assert "the 6 largest and the 6 smallest of 30 classes" in str(table.title)
    assert table.row_count == 14
    names = [str(name) for name in table.columns[0].cells]
    assert names[:2] == ["class 29", "class 28"]
    assert names[6:8] == ["…", "class 5"]
    assert names[-1] == "all pictures"
    assert unevenness(many) == float("inf")
    assert "'class 0' has no training pictures, 'class 29' has 29" in introduced(config(), many)


# ----------------------------------------------------------------------------------------------------------------------
# The best epoch and early stopping
# ----------------------------------------------------------------------------------------------------------------------
def rows(*figures: tuple[float, float, float]) -> list[dict[str, float]]:
    """Of (accuracy, balanced accuracy, loss) on the held-out pictures."""
    names = ("val_accuracy", "val_balanced_accuracy", "val_loss")
    return [{"epoch": number, **dict(zip(names, each, strict=True))} for number, each in enumerate(figures, 1)]


HISTORY = rows((0.9, 0.5, 0.3), (0.8, 0.7, 0.5), (0.9, 0.6, 0.2), (0.9, 0.7, 0.4), (0.9, 0.7, 0.4))


@pytest.mark.parametrize(
    ("monitor", "epoch", "value"), [("accuracy", 3, 0.9), ("balanced_accuracy", 4, 0.7), ("loss", 3, 0.2)]
)
def test_the_best_epoch_is_the_first_of_the_best_and_ties_go_to_the_lower_loss(
    monitor: str, epoch: int, value: float
) -> None:
    found = best.best_epoch(config(monitor=monitor), HISTORY)
    assert found == best.BestEpoch(epoch, monitor, value)
    assert f"epoch {epoch}, with the best held-out {monitor.replace('_', ' ')}, " in str(found)


@pytest.mark.parametrize(
    ("settings", "epoch"),
    [
        ({"monitor": "accuracy"}, None),
        ({"monitor": "accuracy", "patience": 2}, 5),
        ({"monitor": "accuracy", "patience": 1}, 2),
        ({"monitor": "balanced_accuracy", "patience": 2}, None),  # the fourth is as good as the second, of less loss
        ({"monitor": "balanced_accuracy", "patience": 1}, 3),
        ({"monitor": "loss", "patience": 2}, 5),
        # The classifier alone is trained for two epochs: only those after them count.
        ({"monitor": "accuracy", "patience": 1, "head_epochs": 2}, 4),
        ({"monitor": "accuracy", "patience": 3, "head_epochs": 2}, None),
        ({"monitor": "accuracy", "patience": 1, "head_epochs": 9}, 2),  # there are no others
    ],
)
def test_a_run_stops_after_so_many_epochs_that_were_no_better(settings: dict[str, Any], epoch: int | None) -> None:
    made = config(epochs=9, weights="some.keras", **settings)
    stops = [count for count in range(1, 6) if best.stops_early(made, HISTORY[:count])]
    assert stops[:1] == ([] if epoch is None else [epoch])
    assert not best.stops_early(replace(made, epochs=5, head_epochs=0), HISTORY)  # it ends there anyway


def history_of(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def stopped(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingResult, list[Path], str]:
    """A run that stopped early, copies of its folder as each epoch left it, and what was printed."""
    folder, said = tmp_path_factory.mktemp("stopped"), io.StringIO()
    copies: list[Path] = []
    save_epoch = RunWriter.save_epoch

    def copied(writer: RunWriter) -> None:
        save_epoch(writer)
        copies.append(Path(shutil.copytree(writer.run.path, folder / f"after epoch {len(copies) + 1}")))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks.NETWORKS, "few", tiny.KNOWN["few"])
        patch.setattr(RunWriter, "save_epoch", copied)
        settings = {"epochs": 60, "patience": 2, "learning_rate": 0.05, "sampler": "balanced"}
        console = Console(file=said, width=200)
        run = train_config(config(data=str(data), **settings), folder / "run", console=console)
    return run, copies, said.getvalue()


def test_a_run_that_stopped_early_says_so_and_what_its_files_are_of(
    stopped: tuple[TrainingResult, list[Path], str],
) -> None:
    run, _, said = stopped
    assert run.best
    ended, best_one = len(run.history), run.best.epoch
    assert run.stopped_early
    assert (ended, run.best.monitor) == (best_one + 2, "balanced_accuracy")
    assert (
        f"stopped early after epoch {ended} of 60: the last 2 epochs were not better by held-out balanced accuracy"
        in said
    )
    assert "The cosine schedule was not finished: the learning rate was still 0.0" in said
    assert f"{ended} epochs, stopped early, held-out accuracy {run.report.accuracy:.2%} (" in repr(run)
    assert "rarest class &#x27;2&#x27;, 1 picture: recall" in run._repr_html_()
    report = json.loads(run.folder.report.read_text())
    assert (report["epoch"], report["epochs"], report["stopped_early"]) == (ended, 60, True)
    assert report["best"] == {"epoch": best_one, "monitor": "balanced_accuracy", "value": run.best.value}
    assert report["rarest"]["name"] == "2"
    confusion = np.array(report["confusion"])
    assert report["balanced_accuracy"] == pytest.approx(np.mean(confusion.diagonal() / confusion.sum(axis=1)))
    assert report["balanced_accuracy"] == run.history[-1]["val_balanced_accuracy"]
    assert read_card(run.folder.model).epoch == ended
    assert read_card(run.folder.best).epoch == best_one
    assert read_config(run.folder.config).monitor == "balanced_accuracy"  # what "auto" has taken
    with pytest.raises(
        InputError, match=rf"stopped early, after epoch {ended} of 60 \(patience 2\); there is nothing to resume"
    ):
        resume(run.folder.path, console=QUIET)


@pytest.mark.parametrize("before_the_end", [0, 1])
def test_a_resumed_run_stops_at_the_same_epoch(
    stopped: tuple[TrainingResult, list[Path], str], before_the_end: int, tmp_path: Path
) -> None:
    """Also one that was killed between its last epoch and its report."""
    run, copies, _ = stopped
    folder = Path(shutil.copytree(copies[-1 - before_the_end], tmp_path / "resumed"))
    resumed = resume(folder, console=QUIET)
    assert resumed.best
    assert run.best
    assert (resumed.best.epoch, resumed.stopped_early) == (run.best.epoch, True)
    for mine, theirs in zip(resumed.history, run.history, strict=True):
        for name in ("loss", "val_loss", "val_accuracy", "val_balanced_accuracy"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-2)
    assert read_card(resumed.folder.model).epoch == len(run.history)
    assert read_card(resumed.folder.best).epoch == run.best.epoch
    assert not resumed.folder.has_checkpoint()


def test_an_older_versions_run_goes_on_by_accuracy(
    stopped: tuple[TrainingResult, list[Path], str], tmp_path: Path
) -> None:
    """Its config.json, checkpoint and history have nothing of what this version adds."""
    folder = RunFolder(Path(shutil.copytree(stopped[1][0], tmp_path / "older")))
    stored = json.loads(folder.config.read_text())
    for name in ("class_weight", "sampler", "monitor", "patience"):
        del stored["config"][name]
    stored["config"]["epochs"] = 2
    folder.config.write_text(json.dumps(stored))
    [path] = Checkpoints(folder.checkpoints).paths()
    checkpoint = read_checkpoint(path)
    position = checkpoint.meta["position"]
    position["best"] = position["history"][0]["val_accuracy"]
    del position["history"][0]["val_balanced_accuracy"]
    write_checkpoint(path, checkpoint.arrays, checkpoint.meta)
    said = io.StringIO()
    resumed = resume(folder.path, console=Console(file=said, width=400))
    assert 'monitor = "accuracy", patience = 0' in said.getvalue()
    assert resumed.best
    assert (resumed.best.monitor, len(resumed.history)) == ("accuracy", 2)
    assert history_of(folder.path)[0]["val_balanced_accuracy"] == "nan"
    assert folder.read_history()[1] == resumed.history[1]


def test_weights_reach_the_loss_of_a_run_from_the_command_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a rate that moves no weight, three times the weight is three times the loss; held-out figures stay."""
    still = ["--model=few", "--size=32", "--batch-size=8", "--epochs=1", "--learning-rate=1e-12", "--set=dropout=0"]
    found = []
    for name, more in {"plain": [], "weighted": ['--class-weight={0 = 3, "1" = 3, 2 = 3}', "--accumulate=2"]}.items():
        assert main(["train", f"--data={data}", f"--out={tmp_path / name}", *still, *more]) == 0
        found.append({key: float(value) for key, value in history_of(tmp_path / name)[0].items()})
    said = " ".join(capsys.readouterr().out.split())
    shares = r"held-out accuracy \S+% \(\S+\), balanced accuracy \S+% \(\S+\)"
    assert re.search(shares + r"; rarest class '2', 1 picture: recall \S+%", said)
    assert "the loss is weighted by class: from 3 ('0') to 3 ('0')" in said
    plain, heavy = found
    assert plain["loss"] > 0.5
    assert heavy["loss"] == pytest.approx(3 * plain["loss"], rel=0.05)  # batch norm is that of micro-batches
    assert heavy["val_balanced_accuracy"] == pytest.approx(plain["val_balanced_accuracy"])
    command = json.loads((tmp_path / "weighted" / "config.json").read_text())["command"]
    assert """'--class-weight={"0" = 3.0, "1" = 3.0, "2" = 3.0}'""" in command
    assert main(["train", f"--data={data}", f"--out={tmp_path / 'wrong'}", "--class-weight={tow = 2}", *still]) == 1
    assert "class_weight: got 'tow'; it takes names of the 3 classes: 0, 1, 2" in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()

"""Several labels per picture, from a CSV file to an export: the loss and every score are computed anew here."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from inception_resnet_keras import evaluate, explain, export_model, finetune, networks, optimize_for_inference, predict
from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.datasets import pack_dataset
from inception_resnet_keras.data.options import DataOptions
from inception_resnet_keras.data.pipeline import batches
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.evaluation.label_evaluation import LabelEvaluation
from inception_resnet_keras.evaluation.multi_label import MultiLabelReport
from inception_resnet_keras.models.model_file import load_model, read_card
from inception_resnet_keras.models.runtimes import open_runtime
from inception_resnet_keras.training import train as train_module
from inception_resnet_keras.training.cluster import make_strategy
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.folds import Study, pool
from inception_resnet_keras.training.session import Session
from inception_resnet_keras.training.train import resume, train
from inception_resnet_keras.training.training_result import RepeatedResult, TrainingResult

from ..evaluation.test_multi_label import average_precision
from ..tiny import FEW, KNOWN

QUIET = Console(quiet=True)
NAMES = ["blue", "green", "red"]
SETTINGS: dict[str, Any] = {
    "model": FEW.name,
    "size": 32,
    "batch_size": 16,
    "epochs": 12,
    "learning_rate": 0.02,
    "seed": 1,
    "console": QUIET,
}


@pytest.fixture(autouse=True)
def _determinism_ends_with_its_test() -> Iterator[None]:
    """XLA cannot give it, and TensorFlow's public API never takes it back."""
    from tensorflow.python.framework.config import disable_op_determinism

    yield
    disable_op_determinism()


@pytest.fixture(autouse=True, scope="module")
def _few_is_known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, variants in KNOWN.items():
            patch.setitem(networks.NETWORKS, name, variants)
        yield


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise with a blue, a green and a red square, each in half of the pictures: 64 to train on, 32 and 16 beside."""
    folder = tmp_path_factory.mktemp("squares")
    random = np.random.default_rng(0)
    lines = ["path,red,green,blue,split"]
    for number in range(112):
        pixels = random.integers(0, 90, (32, 32, 3), np.uint8)
        bits = random.integers(0, 2, 3)
        for channel in np.flatnonzero(bits):
            top, left = random.integers(0, 22, 2)
            pixels[top : top + 10, left : left + 10, channel] = 255
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
        part = "train" if number < 64 else "val" if number < 96 else "test"
        lines.append(f"{number:03d}.png,{','.join(map(str, bits))},{part}")
    (folder / "set.csv").write_text("\n".join(lines))
    return folder / "set.csv"


@pytest.fixture(scope="module")
def trained(table: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    return train(table, out=tmp_path_factory.mktemp("runs") / "run", **SETTINGS)


@pytest.fixture(scope="module")
def evaluated(trained: TrainingResult, table: Path, tmp_path_factory: pytest.TempPathFactory) -> LabelEvaluation:
    found = evaluate(trained.folder.path, table, out=tmp_path_factory.mktemp("evaluation") / "of test")
    assert isinstance(found, LabelEvaluation)
    return found


def told(trained: TrainingResult, table: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """The labels of a part, and the probabilities that the saved model gives, by Keras alone."""
    source = open_source(f"{table}:{part}")
    model = keras.models.load_model(trained.folder.model, compile=False)
    pixels = np.stack([np.asarray(Image.open(name)) for name in source.names]).astype(np.float32)
    return source.labels, model.predict(pixels, verbose=0)


def session(**settings: Any) -> Session:
    made = TrainConfig.from_settings({"model": "few", "size": 32, "batch_size": 8, "dropout": 0.0, **settings})
    return Session(made, NAMES, 3, 0.8, make_strategy(made), multi_label=True)


PIXELS = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 2, (8, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "settings",
    [{}, {"label_smoothing": 0.2}, {"jit": True}, {"remat": True}, {"accumulate": 2, "freeze_batch_norm": False}],
)
def test_the_loss_is_the_mean_binary_cross_entropy(settings: dict[str, Any]) -> None:
    made = session(**settings)
    size = 8 // settings.get("accumulate", 1)
    parts = [made.model(PIXELS[start : start + size], training=True) for start in range(0, 8, size)]
    probabilities = np.concatenate([np.asarray(part[0] if isinstance(part, list) else part) for part in parts])
    metrics, gradients = made.stepper.compute(PIXELS, LABELS)
    smoothed = LABELS * (1 - settings.get("label_smoothing", 0)) + settings.get("label_smoothing", 0) / 2
    p = probabilities.astype(np.float64)
    wanted = -(smoothed * np.log(p) + (1 - smoothed) * np.log(1 - p)).mean()
    assert metrics.classifier == pytest.approx(wanted, rel=1e-5)
    assert metrics.correct == pytest.approx(((p >= 0.5) == (LABELS == 1)).mean() * 8)
    assert metrics.count == 8
    # The gradient by the logits is (p - y) / (pictures * labels); the bias of the classifier gets its sum.
    bias = next(index for index, each in enumerate(made.model.trainable_variables) if each.path == "logits/bias")
    np.testing.assert_allclose(gradients[bias], (p - smoothed).sum(axis=0) / 24, rtol=1e-4, atol=1e-7)


def test_pictures_are_weighted_and_mixed_ones_by_both_weights() -> None:
    made = session(label_smoothing=0.1)
    p = np.asarray(made.model(PIXELS, training=True)).astype(np.float64)
    weights = np.linspace(0, 2, 8, dtype=np.float32)

    def losses(labels: np.ndarray) -> np.ndarray:
        smoothed = labels * 0.9 + 0.05
        found: np.ndarray = -(smoothed * np.log(p) + (1 - smoothed) * np.log(1 - p)).mean(axis=1)
        return found

    metrics, _ = made.stepper.compute(PIXELS, LABELS, weights)
    assert metrics.classifier == pytest.approx((losses(LABELS) * weights).mean(), rel=1e-5)
    own, others, other_weights = np.linspace(0.5, 1, 8), LABELS[::-1], weights[::-1]
    shares = own[:, None] * LABELS + (1 - own[:, None]) * others
    parts = own[:, None] * LABELS * weights[:, None] + (1 - own[:, None]) * others * other_weights[:, None]
    total = own * weights + (1 - own) * other_weights
    given = np.column_stack([parts, total]).astype(np.float32)
    metrics, _ = made.stepper.compute(PIXELS, shares.astype(np.float32), given)
    wanted = own * weights * losses(LABELS) + (1 - own) * other_weights * losses(others)
    assert metrics.classifier == pytest.approx(wanted.mean(), rel=1e-5)


@pytest.mark.parametrize("settings", [{}, {"remat": True}, {"jit": True}])
def test_a_sigmoid_that_is_sure_and_wrong_is_still_corrected(settings: dict[str, Any]) -> None:
    made = session(**settings)
    logits = made.model.get_layer("logits")
    logits.kernel.assign(logits.kernel * 0)
    logits.bias.assign([200.0, -200.0, 0.0])  # probabilities of exactly 1 and 0
    labels = np.tile(np.array([0, 1, 1], np.float32), (8, 1))
    metrics, gradients = made.stepper.compute(PIXELS, labels)
    assert metrics.classifier == pytest.approx((200 + 200 + np.log(2)) / 3, rel=1e-6)
    bias = next(index for index, each in enumerate(made.model.trainable_variables) if each.path == "logits/bias")
    np.testing.assert_allclose(gradients[bias], np.array([1, -1, -0.5]) / 3, rtol=1e-5)


def test_mixed_pictures_have_both_their_labels_by_share(table: Path) -> None:
    source = open_source(f"{table}:train")
    options = DataOptions(mixup=0.4)
    given: Any = {"size": (32, 32), "batch_size": 64, "training": True, "seed": 3}
    (plain, labels), (mixed, shares) = (next(iter(batches(source, each, **given))) for each in (DataOptions(), options))
    assert labels.dtype == shares.dtype == tf.float32
    assert set(np.unique(labels)) == {0, 1}
    others = np.asarray(labels).reshape(32, 2, 3)[:, ::-1].reshape(64, 3)
    images, neighbours = np.asarray(plain), np.asarray(plain).reshape(32, 2, -1)[:, ::-1].reshape(64, 32, 32, 3)
    for index in range(64):
        differs = np.abs(images[index] - neighbours[index]) > 50
        ratio = (np.asarray(mixed)[index] - neighbours[index])[differs] / (images[index] - neighbours[index])[differs]
        own = float(np.median(ratio))
        np.testing.assert_allclose(shares[index], own * labels[index] + (1 - own) * others[index], atol=1e-3)


def test_the_pipeline_mixes_weights_as_it_mixes_labels(table: Path) -> None:
    source = open_source(f"{table}:train")
    weights = np.random.default_rng(0).uniform(0.1, 2, len(source)).astype(np.float32)
    given: Any = {"size": (32, 32), "batch_size": 64, "training": True, "seed": 3}
    weighted = replace(source, weights=weights)
    _, labels, plain = next(iter(batches(weighted, DataOptions(), **given)))
    _, shares, mixed = next(iter(batches(weighted, DataOptions(mixup=0.4), **given)))
    labels, plain = np.asarray(labels), np.asarray(plain)
    others, other = labels.reshape(32, 2, 3)[:, ::-1].reshape(64, 3), plain.reshape(32, 2)[:, ::-1].reshape(64)
    row = next(index for index in range(64) if (labels[index] != others[index]).any())
    column = int(np.flatnonzero(labels[row] != others[row])[0])
    own = float(np.asarray(shares)[row, column]) if labels[row, column] else 1 - float(np.asarray(shares)[row, column])
    parts = own * labels[row] * plain[row] + (1 - own) * others[row] * other[row]
    np.testing.assert_allclose(np.asarray(mixed)[row], [*parts, own * plain[row] + (1 - own) * other[row]], rtol=1e-4)


def test_a_run_learns_the_labels_and_reports_what_its_model_says(trained: TrainingResult, table: Path) -> None:
    report = trained.report
    assert isinstance(report, MultiLabelReport)
    assert [score.name for score in report.classes] == NAMES
    labels, probabilities = told(trained, table, "val")
    wanted = [average_precision(labels[:, label], probabilities[:, label]) for label in range(3)]
    assert report.mean_average_precision == pytest.approx(np.mean(wanted), abs=1e-6)
    assert report.mean_average_precision > 0.9
    row = trained.history[-1]
    p = np.where(labels == 1, probabilities, 1 - probabilities)
    assert row["val_loss"] == pytest.approx(float(-np.log(p).mean()), rel=1e-4)
    assert row["val_accuracy"] == pytest.approx(float(((probabilities >= 0.5) == (labels == 1)).mean()))
    assert row["val_mean_average_precision"] == pytest.approx(np.mean(wanted), abs=1e-6)
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]
    stored = json.loads(trained.folder.report.read_text())
    assert stored["micro_f1"] == report.micro_f1
    assert stored["classes"][0]["name"] == "blue"
    drawn = {path.name for path in trained.folder.path.glob("*.png")}
    assert drawn == {"labels.png", "learning_curves.png", "mistakes.png"}


def test_the_card_carries_thresholds_of_the_greatest_f1(trained: TrainingResult, table: Path) -> None:
    card = read_card(trained.folder.model)
    assert card.multi_label
    labels, probabilities = told(trained, table, "val")
    for label, threshold in enumerate(card.thresholds):

        def f1(cut: float, label: int = label) -> float:
            said, truth = probabilities[:, label] >= cut, labels[:, label] == 1
            return 2 * float((said & truth).sum()) / float(said.sum() + truth.sum())

        assert f1(threshold) == pytest.approx(max(map(f1, np.linspace(0, 1, 1001))))
    best = max(row["val_mean_average_precision"] for row in trained.history)
    source, saved = open_source(f"{table}:val"), load_model(trained.folder.best)[0]
    pixels = np.stack([np.asarray(Image.open(name)) for name in source.names]).astype(np.float32)
    found = saved.predict(pixels, verbose=0)
    assert np.mean([average_precision(labels[:, k], found[:, k]) for k in range(3)]) == pytest.approx(best, abs=1e-6)


def test_evaluate_scores_the_test_part_at_those_thresholds(
    evaluated: LabelEvaluation, trained: TrainingResult, table: Path
) -> None:
    labels, probabilities = told(trained, table, "test")
    thresholds = np.array(read_card(trained.folder.model).thresholds)
    said = probabilities >= thresholds
    report = evaluated.report
    assert report.pictures == 16
    assert report.subset_accuracy == pytest.approx(float((said == (labels == 1)).all(axis=1).mean()))
    right = float((said & (labels == 1)).sum())
    assert report.micro_f1 == pytest.approx(2 * right / float(said.sum() + labels.sum()))
    assert "test part" in evaluated.note
    assert "too optimistic" not in evaluated.note
    with (evaluated.folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row)[3:] for row in rows] == [["split", *NAMES]] * 16
    for row, true, decided, given in zip(rows, labels, said, probabilities, strict=True):
        assert row["true labels"] == "|".join(np.array(NAMES)[true == 1])
        assert row["predicted labels"] == "|".join(np.array(NAMES)[decided])
        assert [float(row[name]) for name in NAMES] == pytest.approx(given.tolist(), abs=1e-5)
    assert {path.name for path in evaluated.folder.glob("*.png")} == {"labels.png", "mistakes.png"}
    assert json.loads((evaluated.folder / "report.json").read_text())["models"][0]["micro_f1"] == report.micro_f1


def test_evaluate_says_where_thresholds_were_chosen_on_the_same_pictures(
    trained: TrainingResult, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, place in enumerate((f"{table}:val", f"{trained.folder.split}:val", "")):
        given = ["--data", place] if place else []
        assert main(["evaluate", str(trained.folder.path), *given, "--out", str(tmp_path / str(number))]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert f"{32 if place else 16} pictures with 3 labels" in out
        assert ("the thresholds were chosen on these pictures" in out) == bool(place)
        assert "scores by label" in out
    average = evaluate([trained.folder.path, trained.folder.best], out=tmp_path / "both", data=trained.folder.split)
    assert isinstance(average, LabelEvaluation)
    assert average.average is not None
    assert len(average.models) == 2


def test_evaluate_takes_sigmoids_that_keras_saved(
    evaluated: LabelEvaluation, trained: TrainingResult, table: Path, tmp_path: Path
) -> None:
    """It leaves our card out, and with it the names and the thresholds."""
    keras.models.load_model(trained.folder.model, compile=False).save(tmp_path / "bare.keras")
    given: dict[str, Any] = {"data": table, "classes": NAMES}
    found = evaluate(tmp_path / "bare.keras", out=tmp_path / "of test", **given)
    assert isinstance(found, LabelEvaluation)
    assert "has no thresholds" in found.models[0].notes[-1]
    assert found.report.mean_average_precision == pytest.approx(evaluated.report.mean_average_precision)
    labels, probabilities = told(trained, table, "test")
    decided = probabilities >= 0.5
    right = float((decided & (labels == 1)).sum())
    assert found.report.micro_f1 == pytest.approx(2 * right / float(decided.sum() + labels.sum()))


def test_predict_gives_every_label_over_its_threshold(
    trained: TrainingResult, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, probabilities = told(trained, table, "test")
    thresholds = read_card(trained.folder.model).thresholds
    files = open_source(f"{table}:test").names
    for prediction, row in zip(predict(trained.folder.path, files), probabilities, strict=True):
        wanted = sorted(
            ((p, name) for p, cut, name in zip(row, thresholds, NAMES, strict=True) if p >= cut), reverse=True
        )
        assert [name for name, _ in prediction.top] == [name for _, name in wanted]
        assert [p for _, p in prediction.top] == pytest.approx([p for p, _ in wanted], abs=1e-5)
    assert [len(each.top) for each in predict(trained.folder.path, files[:2], top=2)] == [2, 2]
    nothing = next(file for file, row in zip(files, labels, strict=True) if not row.any())
    assert main(["predict", str(trained.folder.path), str(nothing)]) == 0
    assert ("no label" in capsys.readouterr().out) == (not predict(trained.folder.path, [nothing])[0].top)


def test_predictions_have_every_label_and_probability_in_a_csv_file(
    trained: TrainingResult, table: Path, tmp_path: Path
) -> None:
    _, probabilities = told(trained, table, "test")
    files = open_source(f"{table}:test").names
    found = predict(trained.folder.path, files)
    said = probabilities >= np.array(read_card(trained.folder.model).thresholds)
    assert found.labels == ["|".join(np.array(NAMES)[row]) for row in said]
    with found.to_csv(tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, label, decided, given in zip(rows, found.labels, said, probabilities, strict=True):
        assert (row["label"], row["error"]) == (label, "")
        assert [float(part) for part in row["probability"].split("|") if part] == pytest.approx(
            given[decided], abs=1e-5
        )
        assert [float(row[name]) for name in NAMES] == pytest.approx(given, abs=1e-5)
    assert f"red {int(said[:, 2].sum())}" in found.summary()
    both = predict([trained.folder.path, trained.folder.best], files)
    cuts = [np.array(read_card(path).thresholds) for path in (trained.folder.model, trained.folder.best)]
    assert both.thresholds == pytest.approx(np.mean(cuts, axis=0))
    wanted = both.probabilities >= np.mean(cuts, axis=0)
    assert both.labels == ["|".join(np.array(NAMES)[row]) for row in wanted]


def test_explain_takes_the_gradient_of_a_label(trained: TrainingResult, table: Path) -> None:
    model, _ = load_model(trained.folder.model)
    pixels = np.stack([np.asarray(Image.open(name)) for name in open_source(f"{table}:test").names[:1]])
    found = explain(model, pixels.astype(np.float32), classes=1, steps=200)[0]
    probability = float(model.predict(pixels.astype(np.float32), verbose=0)[0, 1])
    assert found.probability == pytest.approx(probability, abs=1e-5)
    assert found.score == pytest.approx(np.log(probability / (1 - probability)), abs=1e-3)  # a sigmoid's logit
    assert abs(found.gap) < 0.05 * max(abs(found.difference), 1)


def test_optimised_models_and_exports_keep_the_sigmoids_and_the_thresholds(
    trained: TrainingResult, table: Path, tmp_path: Path
) -> None:
    labels, probabilities = told(trained, table, "test")
    pixels = np.stack([np.asarray(Image.open(name)) for name in open_source(f"{table}:test").names]).astype(np.float32)
    faster = optimize_for_inference(load_model(trained.folder.model)[0])
    np.testing.assert_allclose(faster.predict(pixels, verbose=0), probabilities, atol=1e-5)
    out = tmp_path / "model.onnx"
    check = export_model(trained.folder.path, out, "onnx", validate=table, check=table.parent)
    assert check.labels
    assert "agreement of the labels at their thresholds 100.00%" in str(check)
    thresholds = np.array(read_card(trained.folder.model).thresholds)
    right = float(((probabilities >= thresholds) == (labels == 1)).all(axis=1).mean())
    assert check.accuracy == pytest.approx((right, right))
    assert check.labelled == 16
    runtime = open_runtime(out)
    assert runtime.card.thresholds == read_card(trained.folder.model).thresholds
    np.testing.assert_allclose(runtime.run(pixels), probabilities, atol=1e-5)
    files = open_source(f"{table}:test").names
    for one, other in zip(predict(out, files), predict(trained.folder.path, files), strict=True):
        assert [name for name, _ in one.top] == [name for name, _ in other.top]


def test_a_resumed_run_is_the_one_that_was_not_interrupted(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS | {"epochs": 2, "deterministic": True}
    whole = train(table, out=tmp_path / "whole", **settings)
    steps = iter([False] * 5)

    @contextmanager
    def stop_after_five(_: Console) -> Iterator[Callable[[], bool]]:
        yield lambda: next(steps, None) is not False

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "stop_requests", stop_after_five)
        with pytest.raises(KeyboardInterrupt):
            train(table, out=tmp_path / "cut", **settings)
    resumed = resume(tmp_path / "cut", console=QUIET)
    models = [load_model(each.folder.model)[0] for each in (whole, resumed)]
    for one, other in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert read_card(resumed.folder.model).thresholds == read_card(whole.folder.model).thresholds
    assert resumed.report == whole.report


def threshold(truth: np.ndarray, given: np.ndarray) -> float:
    """Half-way below the highest probability that gives the greatest F1, by trying all."""
    values = sorted(set(given.tolist()))

    def f1(cut: float) -> float:
        said = given >= cut
        return 2 * float((said & truth).sum()) / float(said.sum() + truth.sum())

    best = max(values, key=lambda value: (f1(value), value))
    below = [value for value in values if value < best]
    return (best + (below[-1] if below else 0.0)) / 2


def test_folds_and_seeds_pool_their_held_out_pictures(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.rpartition(",")[0] for line in table.read_text().splitlines()[:61]]  # without the column split
    whole = table.with_name("whole.csv")
    whole.write_text("\n".join(lines))
    settings = SETTINGS | {"epochs": 1, "console": Console()}
    found = train(whole, out=tmp_path / "folds", folds=2, **settings)
    assert isinstance(found, RepeatedResult)
    assert isinstance(found.report, MultiLabelReport)
    assert "decided by the thresholds of maximum F1 on the other folds'" in capsys.readouterr().out
    with (tmp_path / "folds" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    bits = {str(table.with_name(name)): list(map(int, row)) for name, *row in (line.split(",") for line in lines[1:])}
    assert sorted(row["picture"] for row in rows) == sorted(bits)
    order = ("red", "green", "blue")
    for row in rows:
        named = [name for name, bit in zip(order, bits[row["picture"]], strict=True) if bit]
        assert row["true labels"] == "|".join(sorted(named))
    folds = np.array([row["fold"] for row in rows])
    truth = np.array([[name in row["true labels"].split("|") for name in NAMES] for row in rows])
    given = np.array([[float(row[name]) for name in NAMES] for row in rows])
    decided = np.zeros_like(truth)
    for fold in ("fold-1", "fold-2"):
        for label in range(3):
            cut = threshold(truth[folds != fold, label], given[folds != fold, label])
            decided[folds == fold, label] = given[folds == fold, label] >= cut
    assert [row["predicted labels"] for row in rows] == ["|".join(np.array(NAMES)[row]) for row in decided]
    right = float((decided & truth).sum())
    assert found.report.micro_f1 == pytest.approx(2 * right / float(decided.sum() + truth.sum()))
    assert found.report.pictures == 60
    assert (tmp_path / "folds" / "labels.png").exists()
    reports = [json.loads(run.report.read_text()) for run in found.runs]
    means = [report["mean_average_precision"] for report in reports]
    stored = json.loads((tmp_path / "folds" / "report.json").read_text())
    assert stored["mean"]["mean_average_precision"] == pytest.approx(np.mean(means))
    assert stored["sd"]["mean_average_precision"] == pytest.approx(np.std(means, ddof=1))
    assert stored["runs"]["fold-2"]["macro_f1"] == reports[1]["macro_f1"]
    assert "mean average precision" in repr(found)

    shutil.copytree(tmp_path / "folds", tmp_path / "seeds")  # the same runs, as if they were of two seeds
    by_seed = Study("seeds", tmp_path / "seeds", dict.fromkeys(("fold-1", "fold-2"), TrainConfig()))
    _, _, report = pool(by_seed)
    cuts = [np.array(read_card(run.model).thresholds) for run in found.runs]
    with (tmp_path / "seeds" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    own = np.array([cuts[int(row["seed"][-1]) - 1] for row in rows])
    assert [row["predicted labels"] for row in rows] == ["|".join(np.array(NAMES)[row]) for row in given >= own]
    assert isinstance(report, MultiLabelReport)
    assert report.classes[0].threshold == pytest.approx(own[:, 0].mean())


def test_a_dataset_in_memory_is_fine_tuned_on_with_mixing_and_smoothing(
    trained: TrainingResult, table: Path, tmp_path: Path
) -> None:
    sources = {part: open_source(f"{table}:{part}") for part in ("train", "val")}
    pixels = {part: source.read_all((32, 32)) for part, source in sources.items()}
    labels = {part: source.labels for part, source in sources.items()}
    labels["val"] = np.eye(3)[:1].repeat(32, axis=0)  # one label each, and none has the others
    data, val = (tf.data.Dataset.from_tensor_slices((pixels[part], labels[part])) for part in sources)
    run = finetune(
        data.batch(10),
        val=val,
        class_names=NAMES,
        weights=trained.folder.model,
        out=tmp_path / "tuned",
        **SETTINGS | {"epochs": 2, "head_epochs": 1, "mixup": 0.2, "cutmix": 0.5, "label_smoothing": 0.1},
        unfreeze_from="b01",
        variant="paper",
        copies="skip",
    )
    assert isinstance(run.report, MultiLabelReport)
    assert [score.support for score in run.report.classes] == [32, 0, 0]
    assert read_card(run.folder.model).multi_label
    assert all(np.isfinite(row["loss"]) for row in run.history)
    packed = open_source(run.folder.path / "pictures")
    order = [int(name.removeprefix("image ")) for name in packed.names]
    np.testing.assert_array_equal(packed.labels, labels["train"][order])
    np.testing.assert_array_equal(packed.read_all((32, 32)), pixels["train"][order])


def test_vectors_of_labels_in_memory_that_are_none_are_refused(tmp_path: Path) -> None:
    pixels = np.full((4, 8, 8, 3), 200, np.uint8)
    pairs = tf.data.Dataset.from_tensor_slices
    several = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0]])
    for labels, names, says in (
        (
            several / 2,
            None,
            r"data: image 0 has the label \[0.5, 0.5, 0.0\]; an integer, a one-hot vector or a vector of",
        ),
        (several, ["a", "b"], "data: image 0 has a label of 3 values, but there are 2 classes"),
        (several[:, [0, 0, 1]] * [1, 0, 1], ["a", "b", "c"], "data: the dataset has no picture of class 'b'"),
    ):
        with pytest.raises(InputError, match=says):
            pack_dataset(pairs((pixels, labels)), tmp_path / "packed", class_names=names)
    pack_dataset(pairs((pixels, several)), tmp_path / "packed")
    packed = open_source(tmp_path / "packed")
    assert packed.class_names == ["0", "1", "2"]
    assert packed.labels.tolist() == several.tolist()


def test_what_does_not_fit_is_refused(trained: TrainingResult, table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "classes"
    for name, number in zip(NAMES, range(3), strict=True):
        (folder / name).mkdir(parents=True)
        shutil.copy(table.parent / f"{number:03d}.png", folder / name)
    with pytest.raises(InputError, match=r"has one class per picture, but .* predicts several labels per picture"):
        evaluate(trained.folder.path, folder, out=tmp_path / "none")
    with pytest.raises(InputError, match=r"validate: pictures of .* have one class, but the model predicts sev"):
        export_model(trained.folder.path, tmp_path / "x.onnx", "onnx", validate=folder)
    rows = [line.split(",") for line in table.read_text().split("\n")[1:]]
    lines = [
        "path,labels,split",
        *(f"{table.parent / row[0]},{'a' if row[1] == '1' else 'b'},{row[4]}" for row in rows),
    ]
    (tmp_path / "lacking.csv").write_text("\n".join([*lines, f"{table.parent / '000.png'},a|c,val"]))
    with pytest.raises(InputError, match="is already listed in line 2"):
        train(tmp_path / "lacking.csv", out=tmp_path / "run", **SETTINGS)
    lines[-1] = f"{lines[-1].split(',')[0]},a|c,val"
    (tmp_path / "lacking.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match="val part has 1 class without a training picture: 'c'"):
        train(tmp_path / "lacking.csv", out=tmp_path / "run", **SETTINGS)
    every = ["path,red,green,never,split", *(f"{table.parent / row[0]},{row[1]},{row[2]},0,{row[4]}" for row in rows)]
    (tmp_path / "never.csv").write_text("\n".join(every))
    with pytest.raises(InputError, match="no training picture has the label 'never'"):
        train(tmp_path / "never.csv", out=tmp_path / "run", **SETTINGS)

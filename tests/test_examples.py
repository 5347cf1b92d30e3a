"""Every example, shortened: small networks in place of the whole ones, an epoch, a few pictures."""

import base64
import csv
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_score
from sklearn.svm import SVC

from inception_resnet_keras import networks
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.networks.rows import Conv, Fork, Repeat, Residual

from .blank import save_blank
from .tiny import FEW, TINY

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
HELPERS = {"digit_pictures", "new_folder"}
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem not in HELPERS)
# TrainingResult six times over, so without reductions.
SUM = Residual([[Conv(2, 1)], [Conv(3, 3)]], name="a")
WITH_SUMS = replace(FEW, name="inception_resnet_v2", stages=[Repeat(SUM, 1, scale=0.1)])
WITHOUT_SUMS = replace(FEW, name="inception_v4", stages=[Repeat(Fork(SUM.branches, name="a"), 1)])
Run = Callable[..., ModuleType]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, blank_charts: Any) -> Iterator[Run]:
    """`run(name, arguments…)` runs an example in this process, where the networks are tiny ones.

    The examples' own figures are drawn; those of runs, which the package writes as a named format, are blank.
    """

    def savefig(figure: Any, target: Any, **options: Any) -> None:
        (save_blank if "format" in options else blank_charts)(figure, target, **options)

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)
    few = {"paper": FEW, "facenet": replace(FEW, variant="facenet", embedding=8)}
    for name, variants in {
        "tiny": {"paper": TINY},
        "few": few,
        "inception_v4": {"paper": WITHOUT_SUMS},
        "inception_resnet_v2": {"paper": WITH_SUMS},
    }.items():
        monkeypatch.setitem(networks.NETWORKS, name, {**networks.NETWORKS.get(name, {}), **variants})
    monkeypatch.syspath_prepend(EXAMPLES)

    def main(name: str, *arguments: object, **constants: object) -> ModuleType:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        module = importlib.import_module(name)
        for constant, value in constants.items():
            monkeypatch.setattr(module, constant, value)
        module.main()
        return module

    yield main
    for name in [*NAMES, *HELPERS]:
        sys.modules.pop(name, None)


def is_a_picture(path: Path) -> bool:
    with Image.open(path) as image:
        return bool(np.asarray(image.convert("L")).std() > 5)


@pytest.mark.parametrize("name", NAMES)
def test_no_example_writes_over_what_is_there(run: Run, tmp_path: Path, name: str) -> None:
    """Such as what it left there the last time."""
    (tmp_path / "mine.txt").write_text("mine")
    for out, says in ((tmp_path, "is not empty, and nothing is written over"), (tmp_path / "mine.txt", "is a file")):
        with pytest.raises(SystemExit, match=says):
            run(name, "--out", out)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_residual_impact(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    short = ("--width", 1, "--size", 32, "--epochs", 2, "--seeds", 2, "--limit", 64)
    rates = []
    optimizer = importlib.import_module("residual_impact").papers_optimizer

    def noted(rate: float, steps: int) -> Any:
        rates.append(rate)
        return optimizer(rate, steps)

    run("residual_impact", *short, "--learning-rate", 0.01, "--out", out, papers_optimizer=noted)
    assert rates == [0.01] * 3
    said = capsys.readouterr().out
    assert "every seed of it is better" in said
    assert "What it cannot show" in said
    figures = json.loads((out / "figures.json").read_text())
    for name in ("Inception-v4", "Inception-ResNet-v2", "Inception-ResNet-v2, not scaled"):
        errors = np.array(figures[name]["error"])
        assert errors.shape == (2, 2)
        assert (errors >= 0).all()
        assert (errors <= 1).all()
        assert figures[name]["loss"][0] != figures[name]["loss"][1], "seeds that are the same training"
    assert is_a_picture(out / "curves.png")


def test_residual_impacts_text_follows_the_figures(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    module = importlib.import_module("residual_impact")
    low, high = np.array([[0.5, 0.1], [0.6, 0.2]]), np.array([[0.8, 0.4], [0.9, 0.5]])
    for errors, others, better, worse, overlap in ((low, high, 2, 0, 0), (high, low, 0, 2, 0), (low, low, 0, 0, 2)):
        said = module.compared("A", errors, "B", others)
        assert f"better than every seed of the other in {better} of 2 epochs, worse in {worse}" in said
        assert f"overlap in {overlap};" in said
    assert "it reaches the mean error that B ends with, 45.0%, in epoch 2 of 2" in module.compared("A", low, "B", high)
    assert "does not reach" in module.compared("A", high, "B", low)
    curves = {
        name: module.Curves([[2.3, loss]], low.tolist())
        for name, loss in ((module.PLAIN, 2.2), (module.RESIDUAL, 0.1), (module.UNSCALED, 0.2))
    }
    told = module.finding(curves, 10).splitlines()
    assert len(told) == 3
    assert told[2].startswith(
        "Inception-v4 has not begun to learn: its training loss ends at 2.20, and guessing has 2.30"
    )
    assert "15.0% (10.0% to 20.0%) against 45.0% (40.0% to 50.0%)" in module.compared("A", low, "B", high)


def test_residual_impact_takes_a_rate_above_zero_and_names_it(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module("residual_impact")
    decay = module.papers_optimizer(0.001, 10)._learning_rate
    assert [float(decay(step)) for step in (0, 19, 20)] == pytest.approx([0.001, 0.001, 0.00094])
    training = open_source("digits")
    assert "One learning rate, the paper's, is tried" in module.cannot_show(0.25, training, module.PAPERS_RATE)
    assert "One learning rate, 0.001 where the paper has 0.045, is" in module.cannot_show(0.25, training, 0.001)
    with pytest.raises(SystemExit):
        run("residual_impact", "--learning-rate", 0)
    assert "--learning-rate: got 0; it takes a number above 0" in capsys.readouterr().err


def test_image_search(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("--model", "few", "--size", 32, "--epochs", 1, "--per-class", 12, "--endpoint", "stride_8")
    run("image_search", *short, "--out", tmp_path / "out")
    shares = dict(re.findall(r"by (\w+) +([\d.]+)%", capsys.readouterr().out))
    assert float(shares["stride_8"]) > float(shares["chance"]) == 20.0
    assert is_a_picture(tmp_path / "out" / "found.png")


def test_face_verification(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("--model", "few", "--size", 32, "--epochs", 1, "--per-class", 12, "--pairs", 3)
    run("face_verification", *short, "--out", tmp_path / "out")
    said = capsys.readouterr().out
    assert "on 60 pairs of digits that it never saw, 10 folds" in said
    assert re.search(r"accuracy [\d.]+% ± [\d.]+%, area under the ROC curve [01]\.\d{3}", said)
    assert (tmp_path / "out" / "verified" / "report.json").is_file()


@pytest.mark.slow
def test_segmentation(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("--model", "tiny", "--width", 2, "--size", 64, "--epochs", 2, "--pictures", 32)
    run("segmentation", *short, "--out", tmp_path)
    assert re.search(r"intersection over union of the digits' pixels: [\d.]+%", capsys.readouterr().out)
    assert is_a_picture(tmp_path / "segmented.png")


@pytest.mark.slow
def test_hub_segmentation(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("keras_hub", reason="needs keras-hub: pip install 'inception-resnet-keras[hub]'")
    run("hub_segmentation", "--size", 32, "--epochs", 1, "--pictures", 16, "--out", tmp_path)
    said = capsys.readouterr().out
    for shape in ("circle", "square", "triangle"):
        assert re.search(rf"{shape} [\d.]+%; calling every pixel a {shape}: [\d.]+%", said)
    assert is_a_picture(tmp_path / "segmented.png")


@pytest.mark.slow
def test_study(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("--model", "few", "--size", 32, "--epochs", 1, "--folds", 2)
    out = tmp_path / "out"
    run("study", *short, "--out", out, DEVELOPMENT=range(1, 5), KEPT=range(5, 7))
    said = capsys.readouterr().out
    accuracy = json.loads((out / "folds" / "report.json").read_text())["accuracy"]
    assert f"cross-validated: {accuracy:.1%} of 516 digits; by fold" in said
    average = json.loads((out / "tested" / "evaluation" / "report.json").read_text())["average"]["figures"]
    assert f"average of the folds' models: {average['top1']:.1%} of 260 digits kept apart" in said
    assert "The difference in accuracy, average minus" in said
    folds, tested = ((out / folder / "report.html").read_text(encoding="utf-8") for folder in ("folds", "tested"))
    assert folds.count("data:image/svg+xml") > 3
    assert "average minus" in tested
    folders = ("folds/fold-1", "folds/fold-2", "tested")
    first, second, kept = (
        {row["group"] for row in csv.DictReader((out / folder / "predictions.csv").open(encoding="utf-8"))}
        for folder in folders
    )
    assert not first & second
    assert first | second == {"form_01", "form_02", "form_03", "form_04"}
    assert kept == {"form_05", "form_06"}


def test_the_digits_forms_are_one_form_filled_in_by_several_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it does to a figure if digits of one form are on both sides of a split."""
    monkeypatch.syspath_prepend(EXAMPLES)
    forms = importlib.import_module("digit_pictures").digit_forms()
    pixels, labels = load_digits(return_X_y=True)
    assert len(forms) == len(labels)
    assert (np.diff(forms) >= 0).all()
    numbers, counts = np.unique(forms, return_counts=True)
    assert numbers.tolist() == list(range(1, 15))
    assert counts.min() >= 124
    assert counts.max() <= 130  # a few digits of some forms are missing
    first = labels[forms == 1].tolist()
    for form in numbers:
        assert SequenceMatcher(None, first, labels[forms == form].tolist(), autojunk=False).ratio() > 0.95
    by_picture = cross_val_score(SVC(gamma=0.001), pixels, labels, cv=StratifiedKFold(5, shuffle=True, random_state=0))
    by_form = cross_val_score(
        SVC(gamma=0.001), pixels, labels, groups=forms, cv=StratifiedGroupKFold(5, shuffle=True, random_state=0)
    )
    told = (ROOT / "inception_resnet_keras" / "guides" / "publish.md").read_text(encoding="utf-8")
    assert f"{1 - by_picture.mean():.1%} of the digits wrong".replace("%", " %") in told
    assert f"{1 - by_form.mean():.1%} wrong".replace("%", " %") in told


def test_plotting(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("plotting", "--out", tmp_path)
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert is_a_picture(tmp_path / "figure_16.png")
    assert "\nflowchart TB\n" in (tmp_path / "mine.mmd").read_text()
    assert "b02_branch_2_conv_3" in (tmp_path / "mine.svg").read_text()


@pytest.mark.slow
def test_transfer_learning(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("--model", "few", "--size", 32, "--trunk-epochs", 1, "--epochs", 2, "--per-class", 10)
    run("transfer_learning", *short, "--out", tmp_path / "out")
    assert re.search(r"fine-tuned +[\d.]+%.*\n +from nothing +[\d.]+%", capsys.readouterr().out)
    assert (tmp_path / "out" / "fine-tuned" / "model.keras").is_file()


@pytest.mark.slow
def test_two_workers(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("--model", "few", "--size", 32, "--epochs", 1, "--per-class", 8)
    run("two_workers", *short, "--out", tmp_path / "out", PROGRAM=(sys.executable, "-m", "tests.tiny_cli"))
    assert "2 workers, 2 steps, held-out accuracy" in capsys.readouterr().out


@pytest.mark.slow
def test_export_and_serve(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ("--model", "few", "--size", 32, "--epochs", 1, "--per-class", 8)
    run("export_and_serve", *short, "--out", tmp_path / "out")
    said = capsys.readouterr().out
    assert float(re.findall(r"differ by ([\d.e+-]+) at most", said)[0]) < 1e-3
    request = said.partition("{ printf")[2].partition("curl")[0]
    sent = subprocess.run("{ printf" + request + "cat", shell=True, check=True, capture_output=True).stdout
    assert base64.b64decode(json.loads(sent)["instances"][0]["b64"]).startswith(b"\x89PNG")
    assert "/v1/models/inception:predict" in said
    assert (tmp_path / "out" / "inception" / "1" / "saved_model.pb").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_the_command_that_an_example_shows_is_its_own(run: Run, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"python examples/{name}.py" in (EXAMPLES / f"{name}.py").read_text()
    with pytest.raises(SystemExit, match="0"):
        run(name, "--help")
    assert "uv run --extra" in capsys.readouterr().out


def test_the_index_lists_every_example_and_the_time_it_takes() -> None:
    index = (EXAMPLES / "README.md").read_text()
    for name in NAMES:
        rows = [line for line in index.splitlines() if f"]({name}.py)" in line]
        assert len(rows) == 1, name
        assert re.search(r"\d+ (s|min)\b", rows[0]), name

"""The model card beside an export: read back by huggingface_hub, with the run's figures, and never over a README.md."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.deploy.check import Bounds, Check
from inception_resnet_keras.deploy.export import _run_of, export_model
from inception_resnet_keras.deploy.model_card import escaped, write_model_card
from inception_resnet_keras.models.model_file import Card

from ..evaluation.test_html_report import write_run

CARD = Card("inception_v4", "paper", ["<b>cat", "[dog](x)", "猫"], (75, 75))


def checked(out: Path) -> Check:
    bounds = Bounds(1e-4, 0.99, 0.001)
    return Check(str(out), "onnx", "float32", 4, "given", 1e-6, 0.9, 1.0, embedding=False, bounds=bounds)


def test_a_card_has_the_runs_figures_and_states_nothing_that_is_not_known(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    out = tmp_path / "model.onnx"
    path = write_model_card(out, CARD, checked(out), run)
    card = ModelCard.load(path)
    assert (card.data.library_name, card.data.pipeline_tag) == ("keras", "image-classification")
    assert "license" not in card.data.to_dict()
    assert card.text.count("Not stated.") == 3
    lines = [line for line in card.text.splitlines() if "pictures: Accuracy" in line.replace("\\", "")]
    assert len(lines) == 1
    assert "95 % intervals" in lines[0]
    assert "<b>" not in card.text
    assert r"\[dog\]\(x\)" in card.text
    with pytest.raises(InputError, match=r"README\.md: already exists"):
        write_model_card(out, CARD, checked(out), run)
    bare = write_model_card(tmp_path / "run" / "model.onnx", CARD, checked(out), None)
    assert ModelCard.load(bare).text.count("Not stated.") == 5
    assert (_run_of(run), _run_of(run / "model.keras"), _run_of(tmp_path)) == (run, run, None)


def test_a_readme_is_refused_before_anything_is_exported(run: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match=r"README\.md: already exists; nothing is overwritten"):
        export_model(run, tmp_path / "model", "saved_model", model_card=True)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_an_export_writes_its_card(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    export_model(tmp_path / "run", tmp_path / "out", "saved_model", model_card=True)
    assert "saved_model" in ModelCard.load(tmp_path / "README.md").data.tags


def test_markdown_and_html_are_escaped() -> None:
    assert escaped("<script>") == r"\<script\>"
    assert escaped("a\x1b\u202eb") == r"a\\x1b\\u202eb"

"""The notebook of the README's path, run by a real kernel: what each of its cells shows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

# After the cell of imports: a small network, with blocks of each kind, under the name that the cells give.
SMALL = """
from dataclasses import replace
from inception_resnet_keras import networks
from tests.tiny import STAGED
networks.NETWORKS["inception_resnet_v1"] = {
    **networks.NETWORKS["inception_resnet_v1"],
    "paper": replace(STAGED, name="inception_resnet_v1"),
}
"""
NOTEBOOK = Path(__file__).parents[1] / "examples" / "first_steps.ipynb"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What the cells show, by a cell's first word of code."""
    nbformat = pytest.importorskip("nbformat", reason="needs nbclient and ipykernel: the extra `test`")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:  # an epoch shows what three show
        cell.source = cell.source.replace("epochs=3, learning_rate", "epochs=1, learning_rate")
    notebook.cells.insert(2, nbformat.v4.new_code_cell(SMALL))
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        root = os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")])
        patch.setenv("PYTHONPATH", root)
        nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder)}}).execute()
    return {
        cell.source.removeprefix("%env TF_CPP_MIN_LOG_LEVEL=2\n").split()[0].partition("(")[0]: cell.outputs
        for cell in notebook.cells
        if "outputs" in cell
    }


def shown(cell: list[Any]) -> dict[str, str]:
    """What the cell's result is, by its kind; the last output of a cell."""
    assert cell[-1].output_type == "execute_result", cell[-1]
    return dict(cell[-1].data)


def printed(cell: list[Any]) -> str:
    """Everything else that the cell shows, as text."""
    parts = [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell[:-1]]
    return "\n".join(parts)


@pytest.mark.slow
def test_every_result_shows_itself(outputs: dict[str, list[Any]]) -> None:
    run = shown(outputs["run"])
    assert run["text/plain"].startswith("<TrainingResult: 1 epoch, held-out accuracy ")
    assert "learning" in printed(outputs["run"]) or "epoch 1/1" in printed(outputs["run"])
    for fact in ("held-out accuracy", "data:image/png;base64,", "precision", "</table>"):
        assert fact in run["text/html"]

    found = shown(outputs["evaluate"])
    assert found["text/plain"].startswith("<Evaluation of ")
    assert found["text/html"].count("data:image/png;base64,") == 2
    assert "top-1" in found["text/html"]

    explained = shown(outputs["digits"])
    assert explained["text/plain"].count("<Explanation of class ") == 2
    assert explained["text/html"].count("data:image/png;base64,") == 2

    loaded = shown(outputs["trunk"])
    assert loaded["text/plain"].startswith("<LoadReport: inception_resnet_v1 (paper), ")
    assert "logits/kernel" in loaded["text/html"]

    drawn = shown(outputs["plot_architecture"])
    assert "<svg class=" in drawn["text/html"]

    tuned = shown(outputs["dataset"])
    assert "held-out accuracy" in tuned["text/html"]
    assert "odd" in tuned["text/html"]


@pytest.mark.slow
def test_evaluate_shows_how_far_it_is_in_one_line(outputs: dict[str, list[Any]]) -> None:
    told = [output for output in outputs["evaluate"] if output.output_type == "display_data"]
    assert [output.data["text/plain"] for output in told] == ["evaluating: 359 of 359 pictures"]


@pytest.mark.slow
def test_nothing_is_a_warning(outputs: dict[str, list[Any]]) -> None:
    """Such as rich's, which asks for widgets."""
    said = "".join(output.text for cell in outputs.values() for output in cell if output.get("name") == "stderr")
    assert "Warning" not in said

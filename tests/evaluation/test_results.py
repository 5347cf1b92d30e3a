"""Tables for papers: names cannot break them, and every figure is there with its interval."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from inception_resnet_keras.evaluation.metrics import NAMES, OF_POSITIVE, figures
from inception_resnet_keras.evaluation.results import class_rows, figure_rows, write_results
from inception_resnet_keras.evaluation.text_tables import latex_table, latex_text, markdown_table

HARD = ["a & b", "50 %", "x_1^2", "$\\alpha$", "{#}", "~a\\b|c", "<b>*it*</b>"]
ROW_END = r"\\"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    labels = np.arange(70) % len(HARD)
    probabilities = random.dirichlet(np.ones(len(HARD)), 70).astype(np.float32)
    found = figures(labels, probabilities, HARD)
    folder = tmp_path_factory.mktemp("results")
    write_results(folder, "70 pictures of 50 % a_b", [("run_1", found), ("average", found)], found)
    return folder


def test_every_figure_has_a_row_and_every_class(written: Path) -> None:
    text = (written / "results.md").read_text()
    labels = [label for key, label in NAMES.items() if key not in OF_POSITIVE]
    for label in labels:
        assert f"| {label} |" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) == 1 + len(labels) + 1 + len(HARD)
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4, 9}
    assert re.search(r"accuracy \| \d+\.\d % \(\d+\.\d–\d+\.\d\)", text)


def test_latex_has_as_many_cells_in_every_row_and_no_command_of_a_name(written: Path) -> None:
    text = (written / "results.tex").read_text()
    rows = [line for line in text.splitlines() if line.endswith(ROW_END) and not line.startswith("%")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {2, 7}
    for name in HARD:
        assert latex_text(name) in text
    assert r"$\alpha$" not in text
    if shutil.which("pdflatex"):
        document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{text}\end{{document}}"
        (written / "all.tex").write_text(document)
        subprocess.run(["pdflatex", "-halt-on-error", "all.tex"], cwd=written, check=True, capture_output=True)


def test_few_classes_of_many_are_those_of_least_sensitivity() -> None:
    labels = np.arange(40) % 4
    probabilities = np.eye(4)[np.where(labels == 2, 3, labels)].astype(np.float32)
    found = figures(labels, probabilities, ["a", "b", "c", "d"])
    assert [row[0] for row in class_rows(found, 1)[1]] == ["c"]
    header, rows = figure_rows([("one", found)])
    assert header == ["figure", "one"]
    assert rows[0][0] == "accuracy"


def test_tables_of_text() -> None:
    assert markdown_table(["a", "b"], [["x|y", "1"]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |"
    assert latex_table(["a"], [["50 %"]], ["no % sign"]).splitlines()[0] == r"% no \% sign"
    # Behind the end of a row, [ begins an option and * belongs to it; two hyphens are a dash; Markdown has entities.
    assert latex_text("[a]*|--data") == r"{[}a]{*}$|$-{}-data"
    assert markdown_table(["&lt; ~~a~~ $x$"], []).splitlines()[0] == r"| \&lt; \~\~a\~\~ \$x\$ |"

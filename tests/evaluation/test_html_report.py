"""report.html: what it says of a folder, what of hostile names, and how a browser shows it."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inception_resnet_keras.cli import main
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.evaluation.html_report import REPORT, write_report
from inception_resnet_keras.evaluation.predictions import prediction_table
from inception_resnet_keras.evaluation.report import classification_report
from inception_resnet_keras.evaluation.report_page import Line, Section, page, write_page

from ..diagrams import browser

NAMES = ["<script>document.title='hacked'</script>", '" onerror="x', "猫 & قطة"]
ALIEN = "b" * 90

pytestmark = pytest.mark.usefixtures("charts")


class Elements(HTMLParser):
    """The tags with their attributes, and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def write_run(folder: Path) -> Path:
    """The files of a finished run on pictures with hostile names, as `train` writes them."""
    folder.mkdir()
    random = np.random.default_rng(0)
    labels = np.arange(30) % 3
    logits = random.normal(size=(30, 3)) + 1.5 * np.eye(3)[labels]
    probabilities = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    files = [folder / f"<b>{number}{ALIEN}.png" for number in range(30)]
    for file in files[:12]:
        Image.fromarray(random.integers(0, 255, (20, 40, 3), np.uint8)).save(file)
    names, groups = [str(file) for file in files], [f"g{number // 3}" for number in range(30)]
    parts = ["val"] * 15 + ["test"] * 15
    table = prediction_table(names, NAMES, labels, probabilities, split=parts, group=groups)
    table.write(folder / "predictions.csv")
    quoted = [
        ['"{}"'.format(cell.replace('"', '""')) for cell in (n, NAMES[k])] for n, k in zip(names, labels, strict=True)
    ]
    rows = [",".join([*cells, part, "", group, ""]) for cells, part, group in zip(quoted, parts, groups, strict=True)]
    (folder / "split.csv").write_text("\n".join(["path,label,split,sha256,group,phash", *rows]))
    config = {
        "model": "inception_v4",
        "variant": "paper",
        "size": 299,
        "data": "<i>set</i>.csv",
        "epochs": 2,
        "seed": 1,
    }
    stored = {"config": config, "command": "inception-resnet-keras train", "versions": {"keras": "3"}, "run": "1"}
    (folder / "config.json").write_text(json.dumps(stored))
    row = "learning_rate,epoch,loss,accuracy,val_loss,val_accuracy\n"
    (folder / "history.csv").write_text(row + "0.1,1,2,0.5,2,0.5\n0.1,2,1,0.6,1,0.6\n")
    report = classification_report(labels, probabilities, NAMES, names, [("bad<b>.png", "cannot be decoded")])
    (folder / "report.json").write_text(json.dumps({**report.as_json(), "best": {"epoch": 2, "monitor": "accuracy"}}))
    return folder


@pytest.fixture(scope="module")
def run(charts: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("runs") / "run")
    assert write_report(folder) == folder / REPORT
    return folder


def test_a_runs_report_has_its_parts_and_its_figures(run: Path) -> None:
    found = Elements((run / REPORT).read_text(encoding="utf-8"))
    sections = [dict(tag[1])["id"] for tag in found.tags if tag[0] == "h2"]
    assert len(sections) == 8
    text = " ".join(found.text.split())
    for said in (
        "Pictures by class and part class held out test",
        "Groups: 5 held out, 5 test; none has pictures in several parts.",
        "bad<b>.png cannot be decoded",
        "inception_v4, variant paper, at 299×299 pixels",
        "2 of 2 epochs; mean learning rate of an epoch 0.1 to 0.1.",
        "Results on the test pictures",
        "Results on the held-out pictures",
        "Intervals are based on 5 groups",
        "The command that repeats it: inception-resnet-keras train",
    ):
        assert said in text
    report = json.loads((run / "report.json").read_text())
    assert re.search(r"Accuracy \d+\.\d % \(\d+\.\d–\d+\.\d\) and balanced accuracy", text)
    assert len(report["mistakes"]) > 2


def test_names_stay_text_and_the_page_asks_for_nothing(run: Path) -> None:
    text = (run / REPORT).read_text(encoding="utf-8")
    found = Elements(text)
    assert {tag for tag, _ in found.tags}.isdisjoint({"script", "i", "b", "link", "iframe", "object", "form", "base"})
    for tag, attributes in found.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:image/", "#"))  # type: ignore[union-attr]
    assert NAMES[0] in found.text
    assert "content=\"default-src 'none'; img-src data:; style-src" in text


def test_other_folders_and_files_of_others_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="give a finished folder that train, evaluate or compare wrote"):
        write_report(tmp_path)
    assert main(["report", str(tmp_path / "none")]) == 1
    assert "is not a folder" in " ".join(capsys.readouterr().err.split())
    folder = write_run(tmp_path / "run")
    (folder / REPORT).write_text("mine")
    with pytest.raises(InputError, match=r"report\.html: already exists and is not a report"):
        write_report(folder)
    assert (folder / REPORT).read_text() == "mine"
    (folder / REPORT).unlink()
    (folder / "history.csv").write_text("epoch,loss\n1\n")
    with pytest.raises(InputError, match=r"history\.csv: is damaged"):
        write_report(folder)


def test_a_comparisons_report_has_its_sentences_and_differences(tmp_path: Path) -> None:
    from inception_resnet_keras.evaluation.comparison import CSV_HEADER

    row = [
        "a|<b>",
        "b",
        "accuracy",
        "0.5",
        "0.625",
        "0.125",
        "-0.05",
        "0.3",
        "0.2",
        "0.4",
        "t",
        "McNemar",
        "1",
        "2",
        "8",
        "0",
    ]
    alike = ["a", "b", "auc", "0.8", "0.8", "0.0", "", "", "1.0", "1.0", "", "DeLong", "0", "0", "8", "0"]
    (tmp_path / "comparison.csv").write_text("\n".join(",".join(cells) for cells in (CSV_HEADER, row, alike)))
    stored = {
        "data": "set.csv",
        "models": ["a|<b>", "b", "average"],
        "sentences": ["Nothing can be said."],
        "notes": [],
    }
    (tmp_path / "comparison.json").write_text(json.dumps(stored))
    text = " ".join(Elements(write_report(tmp_path).read_text(encoding="utf-8")).text.split())
    assert "The first model: a|<b>; the second: b" in text
    assert "accuracy 50.00% 62.50% +12.5 (-5.0 to +30.0) 0.200 0.400 McNemar" in text
    assert "AUC 0.8000 0.8000 +0.0000 1.000 1.000 DeLong" in text  # no interval, so no brackets
    assert "Nothing can be said." in text
    assert "compare 'a|<b>' b --data set.csv" in text


def test_a_page_is_replaced_by_the_next_one_and_leaves_empty_parts_out(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_page(path, "one", [])
    write_page(path, "two", [Section("a", [Line("b")]), Section("empty")])
    text = path.read_text()
    assert "two" in text
    assert "empty" not in text
    assert text == page("two", [Section("a", [Line("b")])])


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1400, False), (1400, True), (400, False)])
def test_a_browser_shows_it_whole_without_errors(run: Path, tmp_path: Path, width: int, dark: bool) -> None:
    with browser.opened(run / REPORT, tmp_path, width=width, dark=dark) as window:
        assert window.title.startswith("inception_v4 on ")
        assert "hacked" not in window.title
        page_width = window.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert page_width[0] <= page_width[1]
        loaded = window.execute_script("return [...document.images].map(i => i.complete && i.naturalWidth > 0)")
        assert len(loaded) >= 8
        assert all(loaded)
        colour = window.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert colour == ("rgb(13, 17, 23)" if dark else "rgb(254, 254, 254)")
        assert [entry for entry in window.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
        asked = [address for address in browser.requests(window) if not address.startswith(("data:", "chrome"))]
        assert asked == [(run / REPORT).as_uri()]
        window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        printed = window.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert printed == "rgb(254, 254, 254)"  # paper is light
        assert window.execute_script("return getComputedStyle(document.querySelector('nav')).display") == "none"

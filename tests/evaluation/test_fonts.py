"""Names of any script in figures: never a box, never a warning; and figures as SVG in light and dark."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.text import Text

from inception_resnet_keras.common import fonts
from inception_resnet_keras.evaluation import plots
from inception_resnet_keras.evaluation.figure_style import DARK, INK, label, labels, svg_of
from inception_resnet_keras.evaluation.report import classification_report

from ..fonts import CUNEIFORM, OTHER, installed_font

pytestmark = pytest.mark.usefixtures("charts")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A font that has one sign and was installed after matplotlib listed the fonts."""
    with installed_font(tmp_path, monkeypatch) as family:
        yield family


def test_a_character_comes_from_the_font_that_has_it_and_is_escaped_where_none_has(installed: str) -> None:
    assert fonts.drawable(f"a{CUNEIFORM}") == f"a{CUNEIFORM}"
    assert fonts.families() == [fonts.BASE, installed]
    assert label(f"a{OTHER}") == r"a\U00012001"
    assert fonts.advice([label(f"a{OTHER}")]).startswith("No installed font has a character of these names: install")
    assert not fonts.advice(["a", r"\u732b"])  # a name that looks like an escape
    assert fonts.drawable("a\u200db") == "a\u200db"  # a joiner, which fonts need not have
    assert fonts.drawable("café Ж é") == "café Ж é"


def test_figures_of_any_names_have_no_boxes_and_no_warnings(installed: str, tmp_path: Path) -> None:
    names = [CUNEIFORM, OTHER, "猫", "قطة", "हिन्दी", "😀", "$x$"]
    wrong = np.eye(len(names))[[1, 2, 3, 4, 5, 6, 0]]
    report = classification_report(np.arange(len(names)), wrong, names, names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.plot_confusion(report, tmp_path / "confusion.png")
        figure = plots.mistakes(report, np.zeros((7, 8, 8, 3), np.uint8))
        svg = svg_of(figure)
    assert "No installed font has" in figure.get_supxlabel()
    assert b"<text" not in svg  # letters are paths: the reader needs no fonts
    assert all(installed in text.get_fontfamily() for text in figure.findobj(Text))


def test_long_names_are_cut_where_they_are_alike() -> None:
    assert labels(["a class with a long name 1", "a class with a long name 2", "cat"], 12) == [
        "a cla…name 1",
        "a cla…name 2",
        "cat",
    ]
    assert label("a class with a long name", 12) == "a class wit…"
    assert label("한" * 9, 16) in ("한한한한한한한…", r"\ud55c\ud55c…")  # as wide as two letters; no escape is cut


def test_an_svg_takes_the_readers_colours_and_only_the_figures_own_are_mapped() -> None:
    report = classification_report(np.array([0, 1]), np.eye(2), ["a", "b"], ["", ""])
    svg = svg_of(plots.confusion(report)).decode()
    root = ET.fromstring(svg)
    styles = "".join(element.get("style", "") for element in root.iter())
    names = {f"--c{number}": colour for number, colour in enumerate(DARK)}
    assert set(re.findall(r"var\((--c\d+)\)", styles)) <= set(names)
    assert not any(colour in styles for colour in DARK)
    assert "prefers-color-scheme:dark" in svg
    assert f"--c0:{INK}" in svg
    assert f"--c0:{DARK[INK]}" in svg
    assert svg == svg_of(plots.confusion(report)).decode()  # the same figure, the same file

"""A drawing inline in a page, such as a notebook's: it changes nothing of the page, and follows its background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inception_resnet_keras import plot_architecture
from inception_resnet_keras.diagrams import svg

from .browser import opened, visit

# Elements of the page's own that the drawing's colours and fonts would match, were its rules not scoped.
OWN = (
    f'<svg width="60" height="20"><rect id="own" width="60" height="20" fill="{svg.PAPER.light}" '
    f'stroke="{svg.INK.light}"/><text id="own-text" font-family="DejaVu Sans" fill="{svg.INK.light}">x</text></svg>'
)
LOOKS = """
const look = (element, what) => element ? getComputedStyle(element)[what] : null;
const own = document.getElementById("own"), text = document.getElementById("own-text");
const drawing = document.querySelector("svg[role=img]");
const at = (colour) => drawing && drawing.querySelector(`[fill="${colour}"]`);
return {own: [look(own, "fill"), look(own, "stroke"), look(text, "fill"), look(text, "fontFamily")],
        body: look(document.body, "color") + look(document.body, "fontFamily"),
        paper: look(at(arguments[0]), "fill"), ink: look(at(arguments[1]), "fill"),
        ids: [...document.querySelectorAll("svg[role=img] [id]")].length}
"""


def rgb(colour: str) -> str:
    return f"rgb({int(colour[1:3], 16)}, {int(colour[3:5], 16)}, {int(colour[5:7], 16)})"


def page(folder: Path, body: str, *, attributes: str = "", head: str = "") -> Path:
    path = folder / "page.html"
    path.write_text(f"<!DOCTYPE html><html><head>{head}</head><body {attributes}>{OWN}{body}</body></html>")
    return path


def looks(window: Any, path: Path) -> dict[str, Any]:
    visit(window, path.as_uri())
    return window.execute_script(LOOKS, svg.PAPER.light, svg.INK.light)


@pytest.mark.parametrize("dark", [False, True])
def test_an_inline_drawing_changes_nothing_of_the_page_and_follows_it(tmp_path: Path, dark: bool) -> None:
    drawn = plot_architecture("inception_resnet_v1")._repr_html_()
    theirs = {
        "light": ('data-jp-theme-light="true"', 'class="vscode-light"', 'data-md-color-scheme="default"'),
        "dark": ('data-jp-theme-light="false"', 'class="vscode-dark"', 'data-theme="dark"'),
    }
    with opened(page(tmp_path, ""), tmp_path / "profile", dark=dark) as window:
        without = looks(window, page(tmp_path, ""))
        alone = looks(window, page(tmp_path, drawn * 2))
        assert (alone["own"], alone["body"]) == (without["own"], without["body"])
        assert alone["ids"] == 0
        theme = "dark" if dark else "light"
        assert (alone["paper"], alone["ink"]) == (rgb(getattr(svg.PAPER, theme)), rgb(getattr(svg.INK, theme)))
        for theme, pages in theirs.items():
            for attributes in pages:
                seen = looks(window, page(tmp_path, drawn, attributes=attributes))
                wanted = rgb(getattr(svg.PAPER, theme)), rgb(getattr(svg.INK, theme))
                assert (seen["paper"], seen["ink"]) == wanted, attributes
        jupyter = page(
            tmp_path,
            drawn,
            attributes='data-jp-theme-light="false"',
            head="<style>:root{--jp-layout-color0:#111111}</style>",
        )
        assert looks(window, jupyter)["paper"] == rgb("#111111")

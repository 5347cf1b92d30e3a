"""The pictures in the repository are those that the tables give now: their graphs are compared, not pixels."""

from __future__ import annotations

from pathlib import Path

import pytest

from inception_resnet_keras.diagrams import api, svg
from inception_resnet_keras.diagrams.explorer import data_in
from inception_resnet_keras.diagrams.svg import source_of

FOLDER = Path(__file__).parents[2] / "architecture_plots"
AGAIN = "run: inception-resnet-keras plot all --out architecture_plots"


def test_every_picture_is_there_and_none_besides() -> None:
    wanted = {f"{name}{suffix}" for name, _ in api.pictures() for suffix in (".svg", ".png")}
    there = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    assert there == wanted | {api.EXPLORER}, AGAIN


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_every_picture_shows_the_graph_of_now(suffix: str) -> None:
    for name, diagram in api.pictures():
        path = FOLDER / f"{name}{suffix}"
        drawn_from = source_of(path.read_text(encoding="utf-8")) if suffix == ".svg" else svg.png_source(path)
        assert drawn_from == diagram.dot(), f"{path.name} is out of date; {AGAIN}"


def test_the_explorer_shows_the_graphs_of_now() -> None:
    there = (FOLDER / api.EXPLORER).read_text(encoding="utf-8")
    assert data_in(there) == data_in(api.explorer()), AGAIN
    assert there == api.explorer(), f"the explorer's page or libraries changed; {AGAIN}"


def test_nothing_is_over_a_megabyte() -> None:
    large = {path.name: path.stat().st_size for path in FOLDER.rglob("*") if path.stat().st_size > 1_000_000}
    assert large == {}


def test_a_table_that_changes_makes_a_picture_out_of_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above can fail."""
    from inception_resnet_keras import networks
    from inception_resnet_keras.networks import edits

    network = networks.find("inception_v4")
    monkeypatch.setitem(networks.NETWORKS["inception_v4"], "paper", edits.with_depths(network, (4, 7, 4)))
    with pytest.raises(AssertionError, match="out of date"):
        test_every_picture_shows_the_graph_of_now(".svg")
    with pytest.raises(AssertionError, match="plot all"):
        test_the_explorer_shows_the_graphs_of_now()

"""The verb `plot`: what it writes, where, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from inception_resnet_keras import create_inception_resnet_v1
from inception_resnet_keras.cli import main
from inception_resnet_keras.cli import plot as verb
from inception_resnet_keras.diagrams.api import FORMATS, LEVELS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_network_is_written_where_it_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "inception_v4"]) == 0
    assert capsys.readouterr().out == "inception_v4_paper_overview.svg\n"
    assert (folder / "inception_v4_paper_overview.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(("format", "start"), [("dot", "digraph"), ("mermaid", "---"), ("html", "<!doctype")])
def test_a_format_gives_the_files_ending(folder: Path, format: str, start: str) -> None:
    arguments = ["--level", "modules", "--module", "b", "--format", format]
    assert main(["plot", "inception_resnet_v2", *arguments]) == 0
    (path,) = folder.iterdir()
    assert path.suffix == verb.SUFFIXES[format]
    assert path.read_text().startswith(start)


def test_a_pngs_size_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "inception_v4", "--level", "modules", "--module", "head", "--format", "png"]) == 0
    (path,) = folder.iterdir()
    with Image.open(path) as picture:
        width, height = picture.size
    printed = capsys.readouterr()
    assert printed.out == "inception_v4_paper_head.png\n"
    assert printed.err == f"{width:,} × {height:,} pixels, {path.stat().st_size / 1e6:.1f} MB\n"


def test_out_says_the_format(folder: Path) -> None:
    out = folder / "deep.mmd"
    assert main(["plot", "inception_resnet_v2", "--depths", "10", "20", "10", "--classes", "7", "--out", str(out)]) == 0
    assert "× 20" in out.read_text()


def test_a_variant_is_drawn_with_its_own_size_and_head(folder: Path) -> None:
    arguments = ["plot", "inception_resnet_v1", "--variant", "facenet", "--format", "mermaid"]
    out = folder / "inception_resnet_v1_facenet_overview.mmd"
    assert main(arguments) == 0
    assert "160×160×3" in out.read_text()
    assert "Head<br>512<br>" in out.read_text()
    assert main([*arguments, "--classes", "8631"]) == 0
    assert "Head<br>8631<br>" in out.read_text()


def test_a_saved_model_is_drawn(folder: Path) -> None:
    create_inception_resnet_v1(3, depths=(1, 2, 1), input_shape=(75, 75, 3)).save(folder / "mine.keras")
    assert main(["plot", "mine.keras", "--format", "mermaid"]) == 0
    text = (folder / "mine_overview.mmd").read_text()
    assert "75×75×3" in text
    assert "× 2" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inception_v5"], "network: got 'inception_v5'"),
        (["none.keras"], "there is no file"),
        (["torn.keras"], "is not a Keras model"),
        (["all"], "--out"),
        (["inception_v4", "--variant", "x"], "variant: got 'x'"),
        (["inception_v4", "--out", "x.bmp"], "to_file: got 'x.bmp'"),
    ],
)
def test_bad_input_is_told_in_a_line(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "torn.keras").write_bytes(b"torn")
    assert main(["plot", *arguments]) == 1
    assert said in capsys.readouterr().err


def test_the_verb_offers_what_the_function_takes() -> None:
    assert verb.LEVELS == LEVELS
    assert set(verb.SUFFIXES) == set(FORMATS.values())
    assert all(FORMATS[suffix] == name for name, suffix in verb.SUFFIXES.items())


def test_a_format_that_the_name_denies_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "inception_v4", "--out", "p.svg", "--format", "png"]) == 1
    assert "format: got 'png'; it takes 'svg', which 'p.svg' ends in" in capsys.readouterr().err
    assert not list(folder.iterdir())


@pytest.mark.parametrize("verb", ["plot", "summary"])
def test_aligned_and_dense_networks_are_named_with_their_sizes(
    verb: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dense = ["--padding", "same", "--output-stride", "8", "--size", "256"]
    assert main([verb, "inception_v4", *dense]) == 0
    said = capsys.readouterr().out
    text = (folder / said.strip()).read_text() if verb == "plot" else said
    assert "same padding" in text
    assert "output stride 8" in text
    assert "32×32×1024" in text
    assert "Reduction-B" not in text
    assert "reduction_b" not in text

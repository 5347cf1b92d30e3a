"""No verb opens a FIFO, which would wait for a writer: as an argument it is refused in one line, in a folder named."""

import os
import shutil
from functools import partial
from pathlib import Path

import pytest

from inception_resnet_keras.cli import main
from inception_resnet_keras.data.packed import TABLE, pack
from inception_resnet_keras.data.sources import open_source

from ..fifos import make_fifo, without_waiting
from ..pictures import write_digits

pytestmark = pytest.mark.skipif(os.name != "posix", reason="FIFOs are POSIX's")


@pytest.mark.parametrize(
    "command",
    [
        "predict RUN a.png",
        "predict a.keras DIGITS",
        "predict a.onnx DIGITS",
        "predict inception_v4=a.h5 DIGITS",
        "predict RUN DIGITS --classes a.txt",
        "explain RUN a.png",
        "explain RUN DIGITS --against a.png",
        "evaluate RUN a.keras",
        "evaluate RUN --data a.csv",
        "evaluate RUN --data DIGITS --pairs a.txt",
        "inspect a.safetensors",
        "convert a.pt out.keras",
        "train --data a.png",
        "train --data a.csv",
        "train --data DIGITS --val a.csv",
        "train --recipe a.toml",
        "train --weights a.h5",
        "pack a.csv out",
    ],
)
def test_as_an_argument_it_is_refused_in_one_line(
    command: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {word: str(request.getfixturevalue(word.lower())) for word in ("RUN", "DIGITS")}
    arguments = [places.get(word, word) for word in command.split()]
    fifo = make_fifo(Path(next(word for word in arguments if word.startswith(("a.", "inception_v4="))).split("=")[-1]))
    assert without_waiting(fifo, lambda: main(arguments)) == 1
    assert "is a FIFO, and only regular files are read" in capsys.readouterr().err.splitlines()[-1]


def test_among_pictures_it_is_left_out_and_named(
    run: Path, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_digits(tmp_path / "pictures")
    fifo = make_fifo(folder / "0" / "fifo.png")
    assert without_waiting(fifo, lambda: main(["pack", str(folder), str(tmp_path / "packed")])) == 1
    assert f"1 of 61 pictures cannot be read, max_corrupt allows 0: {fifo}: is a FIFO" in capsys.readouterr().err
    source = without_waiting(fifo, lambda: open_source(folder, max_corrupt=1))
    assert len(source) == 60
    [(name, reason)] = source.corrupt.listed()
    assert name == str(fifo)
    assert "is a FIFO, and only regular files are read" in reason
    table = folder.parent / "table.csv"
    table.write_text("path,label\n" + "".join(f"{path},{path.parent.name}\n" for path in folder.glob("*/*.png")))
    assert len(without_waiting(fifo, lambda: open_source(table, max_corrupt=1))) == 60
    assert without_waiting(fifo, lambda: main(["predict", str(run), str(folder / "0")])) == 0
    assert "is a FIFO" in "".join(capsys.readouterr().out.split("\n"))


def test_in_the_place_of_a_packed_folders_index_it_is_refused(tmp_path: Path) -> None:
    packed = pack(open_source("digits"), tmp_path / "packed").path
    for name in (TABLE, "pictures-00000.tfrecord"):
        copy = shutil.copytree(packed, tmp_path / f"with a {name}")
        (copy / name).unlink()
        fifo = make_fifo(copy / name)
        with pytest.raises(ValueError, match=name):
            without_waiting(fifo, partial(open_source, copy))

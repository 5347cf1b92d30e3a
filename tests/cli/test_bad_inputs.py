"""Whatever file, name or number a verb is given, it answers in lines of its own with a documented status.

Every slot of every verb's command line is filled with a corpus of bad inputs. An exception that reaches the caller of
`main` is what a user would see as a traceback.
"""

import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from inception_resnet_keras import networks
from inception_resnet_keras.cli import VERBS, main
from inception_resnet_keras.common.console import printable
from inception_resnet_keras.models.model_file import save_model
from inception_resnet_keras.training.config import KEYS

from ..exporting import CARD, lively
from ..pictures import write_digits
from ..tiny import FEW, KNOWN

BAD_INPUT, WRONG_CALL = 1, 2
DIGITS = "9" * 5000
DEEP = "[" * 100_000


def picture(width: int = 8, height: int = 8) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def archive(members: Mapping[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for name, content in members.items():
            written.writestr(name, content)
    return file.getvalue()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A model, pictures of its classes and one of them: beside them one slot at a time is filled badly."""
    folder = tmp_path_factory.mktemp("good")
    # Of few layers: it is opened beside each bad input.
    save_model(lively(FEW), folder / "model.keras", replace(CARD, network="few"))
    write_digits(folder / "pictures", per_class=2)
    return {"model": str(folder / "model.keras"), "data": str(folder / "pictures"), "out": str(folder / "out")}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, good: dict[str, str]) -> list[str]:
    """Paths of which none is what any slot takes."""
    folder = tmp_path_factory.mktemp("corpus")
    noise = np.random.default_rng(0).bytes(3000)
    model = Path(good["model"]).read_bytes()
    with zipfile.ZipFile(good["model"]) as whole:
        config, weights = whole.read("config.json"), whole.read("model.weights.h5")
        metadata = whole.read("metadata.json")
    parts = {"config.json": config, "metadata.json": metadata, "model.weights.h5": weights}
    files: dict[str, bytes] = {
        **{f"empty{suffix}": b"" for suffix in ("", ".keras", ".tflite", ".onnx", ".csv", ".png", ".toml", ".txt")},
        **{f"noise{suffix}": noise for suffix in (".keras", ".h5", ".onnx", ".xml", ".tflite", ".pt", ".ckpt", ".png")},
        **{f"noise{suffix}": noise for suffix in (".safetensors", ".csv", ".toml", ".txt", ".bin", ".weights.h5")},
        **{f"deep{suffix}": DEEP.encode() for suffix in (".toml", ".csv", ".txt", ".xml", ".json", ".keras")},
        "digits.toml": f"epochs = {DIGITS}".encode(),
        "deep_value.toml": f"epochs = {DEEP}".encode(),
        "large.toml": f"l2 = {'9' * 4000}\n".encode(),
        "epochs.toml": f"epochs = {'9' * 4000}\n".encode(),
        "nan.toml": b"l2 = nan\n",
        "cut.png": picture()[:40],
        "wide.png": picture(8, 8).replace(b"\x00\x00\x00\x08\x00\x00\x00\x08", b"\x7f\xff\xff\xff\x7f\xff\xff\xff"),
        "cut.keras": model[: len(model) // 2],
        "middle.keras": model[:5000] + bytes(500) + model[5500:],
        "deep_config.keras": archive(parts | {"config.json": DEEP}),
        "deep_layers.keras": archive(parts | {"config.json": nested(2000)}),
        "no_weights.keras": archive({"config.json": config, "metadata.json": metadata}),
        "noise_weights.keras": archive(parts | {"model.weights.h5": noise}),
        "metadata.keras": archive({"metadata.json": DEEP}),
        "pairs.txt": b"2\t1\na\t1\t2\n",
        "huge_pairs.txt": b"999999999\t999999999\n",
        "utf16.csv": "path,label\na.png,x\n".encode("utf-16"),
        "paths.csv": b"path,label\n/nowhere/a.png,x\n/nowhere/b.png,y\n",
        "nul.csv": b"path,label\na\x00.png,x\nb\x00.png,y\n",
    }
    found = []
    for name, content in files.items():
        (folder / name).write_bytes(content)
        found.append(str(folder / name))
    for name in ("run", "saved", "packed", "classes", "nothing"):
        (folder / name).mkdir()
        found.append(str(folder / name))
    (folder / "run" / "model.keras").write_bytes(noise)
    (folder / "run" / "config.json").write_text(f'{{"config": {DEEP}')
    (folder / "saved" / "saved_model.pb").write_bytes(noise)
    (folder / "packed" / "index.json").write_text(f'{{"format": 1, "pictures": {DIGITS}}}')
    (folder / "classes" / "a").mkdir()
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "noise.bin").write_bytes(noise)  # beside noise.xml
    names = [
        b"\xff\xfe.keras",
        b"n\n\x1b[31m\xe2\x80\xae.onnx",
        b"-",
        b"tfds:",
        b"tfds:nothing_such",
        b"imagenet",
        b"a" * 300,
    ]
    names += [b"inception_v4=", b"=imagenet", b"inception_v4:slim=/nowhere", b"~", b"a=b=c", b" ", b"\xf0\x9f\x92\xa9"]
    elsewhere = [os.fsdecode(name) for name in names]
    return [*found, str(folder / "loop"), *elsewhere, "/dev/null", "x" * 5000, str(folder / "empty.png" / "below")]


def nested(levels: int) -> str:
    """A model in a model in a model."""
    begin = '{"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": ['
    return begin * levels + "]}}" * levels


SLOTS: dict[str, Callable[[dict[str, str], str], list[str]]] = {
    "train --data": lambda good, bad: ["train", "--model=few", "--size=32", f"--data={bad}"],
    "train --val": lambda good, bad: ["train", "--model=few", "--size=32", f"--data={good['data']}", f"--val={bad}"],
    "train --weights": lambda good, bad: [
        "train",
        f"--data={good['data']}",
        f"--weights={bad}",
        f"--out={good['out']}",
    ],
    "train --recipe": lambda good, bad: ["train", "--data=/nowhere", f"--recipe={bad}"],
    "train --resume": lambda good, bad: ["train", f"--resume={bad}"],
    "train --set": lambda good, bad: ["train", f"--set={bad}"],
    "predict MODEL": lambda good, bad: ["predict", f"./{bad}" if bad.startswith("-") else bad, good["data"]],
    "predict IMAGE": lambda good, bad: ["predict", good["model"], "--", bad],
    "predict --with": lambda good, bad: ["predict", good["model"], good["data"], f"--with={bad}"],
    "predict --classes": lambda good, bad: ["predict", good["model"], good["data"], f"--classes={bad}"],
    "evaluate MODEL": lambda good, bad: ["evaluate", f"--data={good['data']}", f"--out={good['out']}", "--", bad],
    "evaluate --data": lambda good, bad: ["evaluate", good["model"], f"--data={bad}", f"--out={good['out']}"],
    "evaluate --classes": lambda good, bad: [
        *("evaluate", good["model"], f"--data={good['data']}", f"--classes={bad}", f"--out={good['out']}"),
    ],
    "evaluate --pairs": lambda good, bad: [
        *("evaluate", good["model"], f"--data={good['data']}", f"--pairs={bad}", f"--out={good['out']}"),
    ],
    "compare MODEL": lambda good, bad: ["compare", f"--out={good['out']}", "--", bad, good["model"]],
    "compare --data": lambda good, bad: [
        *("compare", good["model"], good["model"], f"--data={bad}", f"--out={good['out']}"),
    ],
    "explain MODEL": lambda good, bad: ["explain", f"--out={good['out']}", "--", bad, good["data"]],
    "explain IMAGE": lambda good, bad: ["explain", good["model"], f"--out={good['out']}", "--", bad],
    "explain --against": lambda good, bad: [
        *("explain", good["model"], good["data"], f"--against={bad}", f"--out={good['out']}"),
    ],
    "explain --class": lambda good, bad: [
        *("explain", good["model"], good["data"], f"--class={bad}", f"--out={good['out']}"),
    ],
    "export MODEL": lambda good, bad: ["export", "--format=litert", f"--out={good['out']}.tflite", "--", bad],
    "export --check": lambda good, bad: [
        *("export", good["model"], "--format=litert", f"--check={bad}", f"--out={good['out']}.tflite"),
    ],
    "export --validate": lambda good, bad: [
        *("export", good["model"], "--format=litert", f"--validate={bad}", f"--out={good['out']}.tflite"),
    ],
    "export --labels": lambda good, bad: [
        *("export", good["model"], "--format=litert", f"--labels={bad}", f"--out={good['out']}.tflite"),
    ],
    "report FOLDER": lambda good, bad: ["report", "--", bad],
    "serve MODEL": lambda good, bad: ["serve", "--port=0", "--", bad],
    "bench --json": lambda good, bad: ["bench", f"--json={bad}", "nothing"],
    "summary NETWORK": lambda good, bad: ["summary", "--", bad],
    "summary --variant": lambda good, bad: ["summary", "inception_v4", f"--variant={bad}"],
    "plot NETWORK": lambda good, bad: ["plot", f"--out={good['out']}.svg", "--", bad],
    "plot --module": lambda good, bad: [
        *("plot", "inception_v4", "--level=modules", f"--module={bad}", f"--out={good['out']}.svg"),
    ],
    "convert SOURCE": lambda good, bad: ["convert", "--", bad, f"{good['out']}.safetensors"],
    "inspect FILE": lambda good, bad: ["inspect", "--", bad],
    "inspect --json": lambda good, bad: ["inspect", "--json", "--", bad],
    "pack SOURCE": lambda good, bad: ["pack", "--", bad, good["out"]],
    "pack --verify": lambda good, bad: ["pack", "--verify", "--", bad],
}
NUMBERS = ("-1", "0", "nan", "inf", "1e400", "9" * 30, DIGITS, "", "x", "1.5", "²", "0x10", "--", "\x1b[31m\n")
COUNTS: dict[str, list[str]] = {
    "train --epochs": ["train", "--data=/nowhere"],
    "train --batch-size": ["train", "--data=/nowhere"],
    "train --size": ["train", "--data=/nowhere"],
    "train --learning-rate": ["train", "--data=/nowhere"],
    "train --accumulate": ["train", "--data=/nowhere"],
    "predict --top": ["predict", "/nowhere", "a.png"],
    "predict --crops": ["predict", "/nowhere", "a.png"],
    "predict --batch-size": ["predict", "/nowhere", "a.png"],
    "evaluate --crops": ["evaluate", "/nowhere", "--data=/nowhere"],
    "evaluate --batch-size": ["evaluate", "/nowhere", "--data=/nowhere"],
    "evaluate --max-corrupt": ["evaluate", "/nowhere", "--data=/nowhere"],
    "compare --crops": ["compare", "/nowhere", "/nowhere", "--data=/nowhere"],
    "compare --batch-size": ["compare", "/nowhere", "/nowhere", "--data=/nowhere"],
    "explain --steps": ["explain", "/nowhere", "a.png"],
    "export --max-difference": ["export", "/nowhere", "--format=onnx"],
    "report --explanations": ["report", "/nowhere"],
    "bench --batch": ["bench", "nothing"],
    "bench --rounds": ["bench", "nothing"],
    "bench --seconds": ["bench", "nothing"],
    "summary --size": ["summary", "inception_v4"],
    "summary --classes": ["summary", "inception_v4"],
    "plot --size": ["plot", "inception_v4", "--format=dot", "--out=/nowhere/a.dot"],
    "plot --classes": ["plot", "inception_v4", "--format=dot", "--out=/nowhere/a.dot"],
    "pack --shard-mb": ["pack", "/nowhere", "/nowhere/out"],
    "pack --seed": ["pack", "/nowhere", "/nowhere/out"],
}


@pytest.fixture(autouse=True)
def _small_networks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name, network in KNOWN.items():
        monkeypatch.setitem(networks.NETWORKS, name, network)
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.iterdir())  # nothing is left behind


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """What is wrong with how a command line is answered; None where nothing is."""
    try:
        status: object = main(arguments)
    except SystemExit as ended:
        status = ended.code
    except Exception as error:  # what a user would see as a traceback
        return f"{type(error).__name__}: {str(error)[:300]!r}"
    said = capsys.readouterr()
    lines = said.err.strip().split("\n")
    if status not in (BAD_INPUT, WRONG_CALL):
        return f"status {status}"
    if not said.out and not any(re.match(f"inception-resnet-keras( {arguments[0]})?: ", line) for line in lines):
        return f"says only {said.err!r}"
    if "Traceback" in said.err + said.out:
        return "Traceback"
    harmful = [line for line in lines if printable(line) != line]
    return f"prints {harmful[0]!r}" if harmful else None


# Of these every input is refused before a model is opened or an engine has to start.
QUICK = (
    *("train --recipe", "train --resume", "train --set", "bench --json", "summary NETWORK", "summary --variant"),
    *("plot NETWORK", "plot --module", "inspect FILE", "inspect --json"),
)


@pytest.mark.parametrize(
    "slot", [slot if slot in QUICK else pytest.param(slot, marks=pytest.mark.slow) for slot in SLOTS]
)
def test_every_slot_refuses_every_bad_file_and_name(
    slot: str, good: dict[str, str], corpus: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {}
    lists = slot.endswith(("--classes", "--labels"))
    # Slots that open a model take seconds for each input: each input is fed to a fifth of them.
    fed = corpus if slot in QUICK else corpus[list(SLOTS).index(slot) % 5 :: 5]
    for bad in fed:
        if lists and bad.endswith(("paths.csv", "nul.csv")):
            continue  # of three lines, which may be three names
        if found := complaint(SLOTS[slot](good, bad), capsys):
            wrong[bad[-60:]] = found
    assert not wrong
    assert not list(Path(good["out"]).parent.glob("out*"))


@pytest.mark.parametrize("slot", COUNTS)
def test_every_number_is_checked(slot: str, capsys: pytest.CaptureFixture[str]) -> None:
    option = slot.partition(" ")[2]
    wrong = {}
    for number in NUMBERS:
        if found := complaint([*COUNTS[slot], f"{option}={number}"], capsys):
            wrong[number[:30]] = found
    assert not wrong


def test_every_verb_is_fed() -> None:
    assert {slot.partition(" ")[0] for slot in SLOTS} == set(VERBS)


VALUES = st.one_of(
    st.sampled_from(
        [*NUMBERS, DEEP, "[1, 2]", "[9e999, 1]", "{a = 1}", "true", "none", '"', "'''", "1\nepochs = 2", "1979-05-27"]
    ),
    st.text(max_size=20),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KEYS), VALUES)
def test_every_setting_is_checked(capsys: pytest.CaptureFixture[str], key: str, value: str) -> None:
    assert complaint(["train", "--data=/nowhere", "--set", f"{key}={value}"], capsys) is None

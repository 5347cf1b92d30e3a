import subprocess
import sys

import pytest

from inception_resnet_keras import networks
from inception_resnet_keras.cli import VERBS, main

HEAVY = ("tensorflow", "keras", "matplotlib", "sklearn")


def loaded_after(*arguments: str) -> tuple[str, set[str]]:
    """What a command prints, and which heavy packages it imported."""
    program = (
        "import sys\n"
        "from inception_resnet_keras.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        f"print('LOADED', *({HEAVY!r} & sys.modules.keys()))"
    ).replace(f"{HEAVY!r} &", f"set({HEAVY!r}) &")
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    said, _, loaded = done.stdout.rpartition("LOADED")
    return said, set(loaded.split())


@pytest.mark.parametrize("arguments", [(), *((verb,) for verb in VERBS)])
def test_help_is_quick_because_nothing_heavy_is_imported(arguments: tuple[str, ...]) -> None:
    said, loaded = loaded_after(*arguments, "--help")
    assert "usage: inception-resnet-keras" in said
    assert not loaded


@pytest.mark.parametrize("network", list(networks.NETWORKS))
def test_summary_is_quick_because_nothing_heavy_is_imported(network: str) -> None:
    said, loaded = loaded_after("summary", network)
    assert not loaded
    assert "35×35" in said
    assert "8×8" in said


def test_summary_says_the_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "inception_resnet_v2"]) == 0
    said = capsys.readouterr().out
    for fact in ("32,450,360", "9.26 G", "17×17×1152", "8×8×2144", "a ×5", "b ×10", "c ×5", "Figure 17"):
        assert fact in said
    assert main(["summary", "inception_v4", "--size", "331", "--classes", "10", "--blocks"]) == 0
    said = capsys.readouterr().out
    for fact in ("39×39×384", "b07", "9×9×1536", " 10 "):
        assert fact in said


def test_summary_is_of_the_variants_own_size_and_head(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "inception_resnet_v1", "--variant", "facenet"]) == 0
    said = capsys.readouterr().out
    for fact in ("160×160×3", "embedding", " 512 ", "23,497,424"):
        assert fact in said
    assert "logits" not in said
    assert main(["summary", "inception_resnet_v1", "--variant", "facenet", "--classes", "8631", "--size", "299"]) == 0
    said = capsys.readouterr().out
    for fact in ("299×299×3", " 8631 "):
        assert fact in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["summary", "inception_v4", "--size", "74"], "--size: got 74, which is too small"),
        (["summary", "inception_v4", "--size", "-5"], "--size: got -5, which is too small"),
        (["summary", "inception_resnet_v1", "--variant", "facenet", "--size", "20"], "--size: got 20"),
        (["summary", "inception_v4", "--classes", "0"], "--classes: got 0"),
        (["summary", "inception_v4", "--variant", "x"], "variant: got 'x'; it takes paper"),
        (["train", "--size", "10"], "size: got 10; it takes an integer from 75"),
        (["train", "--data", "/nowhere/at all"], "/nowhere/at all: does not exist"),
        (["predict", "/nowhere/at all", "a.png"], "/nowhere/at all: there is no such file"),
        (["predict", "/nowhere", "a.png", "--top", "0"], "top: got 0"),
    ],
)
def test_bad_input_is_one_clear_line(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith(f"inception-resnet-keras {arguments[0]}: ")
    assert error.count("\n") == 1


def test_an_unknown_verb_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["tarin"])
    assert "train" in capsys.readouterr().err


def test_the_module_runs_as_the_command_does() -> None:
    command = [sys.executable, "-m", "inception_resnet_keras", "summary", "inception_v4"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "42,711,400" in done.stdout

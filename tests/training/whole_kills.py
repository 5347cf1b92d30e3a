"""Kills the training of a whole network in every phase: `python -m tests.training.whole_kills [KILLS] [SEED]`.

Start-up, first compilation, steps, checkpoints, evaluation, the models' and the report's writing: each kill is aimed at
one of these phases, a random moment after it began. Every run that was killed and resumed must end with the bits of one
that was not. It takes about a quarter of an hour on two cores, so it is no test of the suite;
`test_kills.py` is that, with a network of few layers.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..pictures import write_digits

SETTINGS = (
    *("--model=inception_resnet_v1", "--size=107", "--epochs=4", "--batch-size=16"),
    *("--set=deterministic=true", "--set=checkpoint_minutes=0", "--set=average=0.9", "--set=aux_weight=0.4"),
)
PATIENCE = 900  # seconds until a phase must have begun
Began = Callable[[Path, str], bool]  # whether a phase began, by the run's folder and what the process printed


def partial(folder: Path, name: str) -> bool:
    return any(folder.glob(f".{name}*.partial"))


PHASES: dict[str, tuple[Began, float]] = {  # with the seconds within which the kill falls
    "start-up": (lambda run, said: True, 8.0),
    "first compilation": (lambda run, said: (run / "config.json").exists(), 20.0),
    "step": (lambda run, said: "epoch" in said, 10.0),
    "checkpoint": (lambda run, said: partial(run / "checkpoints", "step"), 0.2),
    "evaluation": (lambda run, said: (run / "history.csv").exists(), 3.0),
    "best model": (lambda run, said: partial(run, "best.keras"), 0.3),
    "model": (lambda run, said: partial(run, "model.keras"), 0.3),
    "report": (lambda run, said: (run / "model.keras").exists(), 1.0),
}


def start(arguments: list[str], out: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    with out.open("ab") as file:
        command = [sys.executable, "-m", "inception_resnet_keras", "train", *arguments]
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)


def weights(run: Path) -> dict[str, np.ndarray]:
    from inception_resnet_keras.models.model_file import load_model

    found: dict[str, np.ndarray] = {}
    for name in ("model.keras", "best.keras"):
        if (run / name).exists():
            found |= {f"{name}:{weight.path}": weight.numpy() for weight in load_model(run / name)[0].weights}
    return found


def main(kills: int = 20, seed: int = 1602) -> int:
    chance = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="whole-kills-"))
    data = write_digits(folder / "digits", classes=3, per_class=20)
    begin = [*SETTINGS, f"--data={data}"]
    whole, killed = folder / "whole", folder / "killed"
    if start([*begin, f"--out={whole}"], folder / "whole.txt").wait():
        raise SystemExit((folder / "whole.txt").read_text())
    expected = weights(whole), sorted(path.name for path in whole.iterdir())
    done = dict.fromkeys(PHASES, 0)
    while sum(done.values()) < kills:  # in as many runs as it takes: each is resumed until it ends
        killed = folder / f"killed-{sum(done.values())}"
        arguments = [*begin, f"--out={killed}"]
        while sum(done.values()) < kills:
            phase = min(PHASES, key=lambda name: done[name] + chance.random() / 2)
            if killed_in(phase, killed, arguments, chance, folder / "output.txt"):
                done[phase] += 1
                print(f"kill {sum(done.values())}: {phase} of {killed.name}", flush=True)
            elif (killed / "report.json").exists():
                break
            if (killed / "config.json").exists():
                arguments = ["--resume", str(killed)]
        if not (killed / "report.json").exists() and start(arguments, folder / "output.txt").wait():
            raise SystemExit((folder / "output.txt").read_text())
        found = weights(killed)
        different = [name for name, value in expected[0].items() if not np.array_equal(value, found[name])]
        print(f"{killed.name}: {len(found)} arrays, {len(different)} differ {different[:3]}", flush=True)
        if different or len(found) != len(expected[0]) or sorted(p.name for p in killed.iterdir()) != expected[1]:
            return 1
    print(done)
    return 0


def killed_in(phase: str, run: Path, arguments: list[str], chance: random.Random, out: Path) -> bool:
    """Start a training and kill it in a phase; False if it ended before. Raises SystemExit if it failed."""
    began, within = PHASES[phase]
    out.write_text("")
    process = start(arguments, out)
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not began(run, out.read_text(errors="replace")):
        assert time.monotonic() < deadline, phase
        time.sleep(0.002)
    time.sleep(chance.uniform(0, within))
    ended = process.poll()
    process.kill()
    process.wait()
    if ended:
        raise SystemExit(out.read_text())
    return ended is None


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))

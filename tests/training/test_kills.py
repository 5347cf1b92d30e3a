"""A real training process, killed at twenty random moments, ends with the bits it would have had."""

import csv
import random
import time
from pathlib import Path

import numpy as np
import pytest

from inception_resnet_keras.models.model_file import load_model

from .. import forked
from ..pictures import write_digits
from .test_runs import require_events_are_the_history

KILLS = 20
MOST = 6  # steps from the first save to the kill: of so many, twenty kills do not reach the run's end
STEP = 0.1  # seconds, at least what a step with its save takes
TIMED = {"seconds", "images_per_second"}

SETTINGS = (
    "--epochs=60",
    "--batch-size=16",
    "--set=deterministic=true",
    "--set=checkpoint_minutes=0",
    "--set=average=0.9",
    "--set=optimizer=rmsprop",
    "--set=augmentation=inception",
    "--set=mixup=0.2",
    "--tensorboard",
)


def history(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in TIMED} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_twenty_kills_change_no_bit(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "digits")
    begin = ["train", "--model=few", "--size=32", f"--data={data}", *SETTINGS]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = forked.start([*begin, f"--out={whole}"], tmp_path / "whole.txt")

    chance = random.Random(1602)
    kills = saves = 0
    said = tmp_path / "killed.txt"
    arguments = [*begin, f"--out={killed}"]
    while kills < KILLS:
        process = forked.start(arguments, said)
        # Until it has saved at least once, so that every kill meets it training, and goes on from a later step.
        last_step = newest(killed) + chance.randint(1, MOST)
        while process.is_alive() and newest(killed) < last_step:
            time.sleep(0.005)
        if kills % 2:
            while process.is_alive() and not unfinished(killed):
                time.sleep(0.001)
        else:
            time.sleep(chance.uniform(0, STEP))
        assert process.is_alive(), said.read_text()
        process.kill()
        process.join()
        kills += 1
        saves += bool(unfinished(killed))
        arguments = ["train", "--resume", str(killed)]
    last = forked.start(arguments, said)
    last.join(forked.PATIENCE)
    undisturbed.join(forked.PATIENCE)
    assert (last.exitcode, undisturbed.exitcode) == (0, 0), said.read_text() + (tmp_path / "whole.txt").read_text()
    assert saves, "no kill fell into a save"
    assert said.read_text().count("resuming from step-") == KILLS

    assert history(killed) == history(whole)
    assert len(history(whole)) == 60
    for name in ("model.keras", "best.keras"):
        one, other = (load_model(run / name)[0] for run in (whole, killed))
        for mine, theirs in zip(one.weights, other.weights, strict=True):
            assert np.array_equal(mine.numpy(), theirs.numpy()), mine.path
    require_events_are_the_history(killed)
    assert {path.name for path in killed.iterdir()} == {path.name for path in whole.iterdir()}


def unfinished(run: Path) -> list[Path]:
    """What is being written, or was when the process was killed."""
    return [path for folder in (run, run / "checkpoints") for path in folder.glob(".*.partial")]


def newest(run: Path) -> int:
    """The step of the newest checkpoint."""
    return max((int(path.stem.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*.ckpt")), default=0)

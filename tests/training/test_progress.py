import io

import pytest
from rich.console import Console

from inception_resnet_keras.training import progress
from inception_resnet_keras.training.progress import TrainingProgress
from inception_resnet_keras.training.session import Position

ROW = {
    "loss": 0.5,
    "accuracy": 0.75,
    "val_loss": 0.6,
    "val_accuracy": 0.7,
    "val_balanced_accuracy": 0.65,
    "images_per_second": 12.34,
    "seconds": 8.1,
}


def told(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    monkeypatch.setattr(progress, "PLAIN_LINE_EVERY", 0.0)
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=200)
    with TrainingProgress(console, epochs=2, images=100, steps=2) as shown:
        shown.step(Position(epoch=0, batch=1), 50, 1.25, waited=0.25, seconds=1.0)
        shown.step(Position(epoch=0, batch=2), 50, 0.75, waited=0.0, seconds=1.0)
        with shown.evaluating(1200) as evaluated:
            evaluated(400)
        shown.epoch_end(0, ROW)
        shown.step(Position(epoch=1, batch=1), 25, 0.5, waited=0.5, seconds=1.0)
    return file.getvalue()


def test_where_there_is_no_terminal_plain_lines_say_all(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told(monkeypatch, terminal=False).splitlines()
    assert lines[0].startswith("epoch 1/2  step 1/2  loss 1.250  ")
    assert "data wait 25%" in lines[0]
    assert "data wait 12%" in lines[1]
    assert lines[2] == "held-out pictures 400/1,200"
    assert lines[3].startswith(
        "epoch 1/2  loss 0.5000  accuracy 75.00%  held-out loss 0.6000  held-out accuracy 70.00%  balanced 65.00%"
    )
    assert "data wait 50%" in lines[4]
    assert all("images/s" in line for line in lines if "pictures" not in line)
    assert "\x1b" not in "".join(lines)


def test_on_a_terminal_one_line_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    said = told(monkeypatch, terminal=True)
    for part in ("epoch 2/2", "step 1/2", "held-out pictures 0/1,200", "data wait 50%", "loss 0.500", "images/s"):
        assert part in said

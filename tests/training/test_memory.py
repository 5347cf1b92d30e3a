"""Long uses of one process, whose memory stays what it was after the first of them."""

from pathlib import Path

import numpy as np
import psutil
import pytest
from rich.console import Console

from inception_resnet_keras import networks
from inception_resnet_keras.models.open import open_model
from inception_resnet_keras.training.progress import TrainingProgress
from inception_resnet_keras.training.train import train

from ..pictures import write_digits
from ..tiny import FEW, KNOWN, SIDE

MEGABYTES = 20  # that the allocators may take besides, of 5,000 uses: less than the least leak, 4 KB a use
STEPS, PREDICTIONS = 500, 5000


def memory() -> int:
    return psutil.Process().memory_info().rss


@pytest.mark.slow
def test_steps_and_predictions_keep_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, variants in KNOWN.items():
        monkeypatch.setitem(networks.NETWORKS, name, variants)
    held: list[int] = []
    step = TrainingProgress.step

    def noted(self: TrainingProgress, *given: object) -> None:
        held.append(memory())
        step(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainingProgress, "step", noted)
    data = write_digits(tmp_path / "digits")
    quiet = Console(quiet=True)
    run = train(data, out=tmp_path / "run", console=quiet, model=FEW.name, size=SIDE, epochs=50, batch_size=4)
    assert len(held) >= STEPS
    assert held[-1] - held[100] < MEGABYTES << 20

    model = open_model(run.folder.path)
    picture = np.random.default_rng(0).uniform(0, 255, (1, SIDE, SIDE, 3)).astype(np.float32)
    held.clear()
    for _ in range(PREDICTIONS):
        model.run(picture)
        held.append(memory())
    assert held[-1] - held[500] < MEGABYTES << 20

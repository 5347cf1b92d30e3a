"""Steps that do not fit in memory, and several steps of a call."""

import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest

from inception_resnet_keras import networks
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.distribution import make_strategy
from inception_resnet_keras.training.room import advice
from inception_resnet_keras.training.session import Session

from ..tiny import FEW, SIDE


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is limited by RLIMIT_AS")
def test_a_step_that_does_not_fit_names_the_largest_batch_that_does() -> None:
    """Real allocations fail: a gigabyte a picture, and room for eight less what the step itself needs."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.crowded", "16"], capture_output=True, text=True, check=True
    )
    trying, said = done.stdout.splitlines()
    assert "trying smaller ones" in trying
    assert said.startswith(
        "batch_size: a step of 16 pictures of 32×32 does not fit in memory; the largest of those tried"
    )
    assert any(f"Give --batch-size {fits}," in said for fits in (6, 7))
    assert "--accumulate 4" in said


def session(**settings: Any) -> Session:
    usual = {"model": "few", "size": SIDE, "batch_size": 4, "dropout": 0.0, "optimizer": "sgd", "learning_rate": 0.01}
    config = TrainConfig(**{**usual, **settings})
    return Session(config, ["a", "b", "c"], 3, 0.8, make_strategy(config))


@pytest.fixture(autouse=True)
def _few_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, FEW.name, {FEW.variant: FEW})


def test_several_steps_of_a_call_are_as_many_single_ones() -> None:
    images = np.random.default_rng(0).uniform(0, 255, (4, SIDE, SIDE, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 0])
    single, together = session(), session()
    for step in range(3):
        figures, gradients = single.stepper.compute(images, labels)
        single.stepper.apply(gradients, step)
    found = together.stepper.several(images, labels, 3).numpy()
    assert found[0] == pytest.approx(figures.classifier, rel=1e-5)
    assert int(keras.ops.convert_to_numpy(together.optimizer.iterations)) == 3
    for mine, theirs in zip(single.model.weights, together.model.weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-6)


def test_several_replicas_are_not_tried_one_at_a_time() -> None:
    """They would wait for each other: what to set is said, and no batch is named that was not tried."""
    found = session()

    class Replicas:
        num_replicas_in_sync = 2

    found.strategy = Replicas()
    said = advice(found, None, None, None)  # type: ignore[arg-type]
    assert "--accumulate" in said
    assert "largest" not in said

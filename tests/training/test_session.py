"""A checkpoint is gone on with on the pictures that it was written for, and on no others."""

from dataclasses import replace
from pathlib import Path

import pytest

from inception_resnet_keras import networks
from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.labelled import Source
from inception_resnet_keras.data.parts import held_out_split
from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.training.cluster import make_strategy
from inception_resnet_keras.training.config import TrainConfig
from inception_resnet_keras.training.epochs import expected_evaluation_seconds
from inception_resnet_keras.training.session import Position, Session

from ..pictures import write_digits
from ..tiny import FEW


@pytest.fixture(autouse=True)
def _few_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NETWORKS, FEW.name, {FEW.variant: FEW})


def session(training: Source, held_out: Source) -> Session:
    made = TrainConfig(model="few", size=32, batch_size=8)
    return Session(
        made, list(training.class_names), 3, 0.8, make_strategy(made), pictures=(training.digest, held_out.digest)
    )


def test_as_many_pictures_under_other_names_or_labels_are_noticed(tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "digits")
    before = held_out_split(open_source(folder), 0)
    begun = session(*before)
    state = begun.state()
    assert begun.state_bytes() == sum(array.nbytes for array in state[0].values())
    path = tmp_path / "run" / "checkpoints" / "step-00000000.ckpt"
    session(*held_out_split(open_source(folder), 0)).set_state(path, *state)

    (folder / "0" / "000.png").rename(folder / "0" / "000b.png")
    renamed = held_out_split(open_source(folder), 0)
    assert [len(source) for source in renamed] == [len(source) for source in before]
    changed = session(*renamed)
    with pytest.raises(InputError, match=r"for other (training|held-out) pictures.*--weights .*model\.keras"):
        changed.set_state(path, *state)


def test_the_same_files_in_other_classes_are_other_pictures(tmp_path: Path) -> None:
    source = open_source(write_digits(tmp_path / "digits"))
    assert replace(source, labels=source.labels[::-1].copy()).digest != source.digest


def test_an_evaluation_is_reckoned_from_the_training_before_it() -> None:
    assert expected_evaluation_seconds(Position(training_seconds=60.0, sums=[1.0, 1.0, 100.0]), 500) == pytest.approx(
        100.0
    )
    assert expected_evaluation_seconds(Position(), 500) == 0.0


def test_the_rate_of_an_epoch_is_the_mean_of_its_steps_and_is_compiled_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """TensorFlow warns from the fifth compilation of one function on; runs of five epochs and more showed that."""
    begun = session(*held_out_split(open_source(write_digits(tmp_path / "digits")), 0))
    rates = []
    for _ in range(7):
        rates.append(begun.learning_rate())
        begun.position.end_epoch()
    steps = [[float(begun.schedule(epoch * begun.steps + step)) for step in range(begun.steps)] for epoch in range(7)]
    assert rates == pytest.approx([sum(each) / len(each) for each in steps], rel=1e-5)
    assert len(set(rates[:5])) == 5
    assert not caplog.records

import os
from pathlib import Path

import pytest

from inception_resnet_keras.data.sources import open_source
from inception_resnet_keras.training.start_up import PER_CLASS, measure, write_pictures


def test_the_pictures_can_be_opened(tmp_path: Path) -> None:
    names = write_pictures(tmp_path / "pictures", PER_CLASS + 10)
    source = open_source(tmp_path / "pictures")
    assert source.names == [str(tmp_path / "pictures" / name) for name in names]
    assert source.class_names == ["class 0000", "class 0001"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="memory is asked for as POSIX has it")
def test_training_is_measured_up_to_its_first_step(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", PER_CLASS + 10)
    found = measure(tmp_path / "pictures", tmp_path / "run")
    assert 0 < found["pictures open"] < found["first batch"]
    assert 200 < found["MB"] < 10_000
    assert (tmp_path / "run" / "config.json").exists()

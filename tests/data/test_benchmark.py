from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inception_resnet_keras.data.benchmark import SIZE, WAYS, measure, pillow_transform, write_pictures


def test_the_pictures_and_pillows_way(tmp_path: Path) -> None:
    write_pictures(tmp_path, 4)
    paths = sorted(tmp_path.glob("*/*.jpg"))
    assert [Image.open(path).size for path in paths] == [(500, 375)] * 4
    first = pillow_transform(paths[0], np.random.default_rng(0))
    assert first.shape == (*SIZE, 3)
    assert first.std() > 10
    assert not np.array_equal(first, pillow_transform(paths[0], np.random.default_rng(1)))


@pytest.mark.slow
def test_every_way_is_measured(tmp_path: Path) -> None:
    write_pictures(tmp_path, 16)
    speeds = measure(tmp_path, rounds=1, seconds=0.5)
    assert list(speeds) == list(WAYS)
    for figures in speeds.values():
        assert figures.shape == (1, 2)
        assert (figures > 0).all()

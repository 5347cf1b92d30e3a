"""What checkpoints are opened as."""

from pathlib import Path

import pytest

from inception_resnet_keras import create_inception_resnet_v1
from inception_resnet_keras.data.crops import View
from inception_resnet_keras.evaluation import opening
from inception_resnet_keras.weights.convert.identify import identify
from tests.weights.synthetic import manifest

SIZE = (299, 299)
SLIMS = View(SIZE, 0.875)


@pytest.mark.parametrize(
    ("file", "view"),
    [
        ("timm_inception_resnet_v2", View(SIZE, 0.8975, "center", "bicubic")),
        ("timm_inception_v4", View(SIZE, 0.875, "center", "bicubic")),
        ("slim_inception_v4", SLIMS),
        ("slim_inception_resnet_v2", SLIMS),
        ("keras_applications_inception_resnet_v2", SLIMS),
        ("facenet_tf_inception_resnet_v1", None),
    ],
)
def test_a_file_is_looked_at_as_whoever_published_such_says(file: str, view: View | None) -> None:
    found = identify(manifest(file))
    assert found is not None
    assert opening._view_by(found.table.source, found.network, SIZE) == view


@pytest.mark.slow
def test_a_file_that_says_nothing_is_opened_at_its_own_size(tmp_path: Path) -> None:
    model = create_inception_resnet_v1(3, variant="facenet", input_shape=(75, 90, 3))
    model.save(tmp_path / "wide.keras")
    subject = opening.locate(str(tmp_path / "wide.keras"))(False)
    assert subject.view == View((75, 90))
    assert subject.assumed
    assert subject.model is not None
    assert subject.model.input_shape == (None, 75, 90, 3)

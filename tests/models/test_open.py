"""What checkpoints are opened as."""

from pathlib import Path

import keras
import numpy as np
import pytest
from tensorflow.python.eager.polymorphic_function import polymorphic_function

from inception_resnet_keras.common.errors import InputError
from inception_resnet_keras.data.crops import View
from inception_resnet_keras.models import open as opening
from inception_resnet_keras.models.open import KerasRun
from inception_resnet_keras.networks.factories import create_inception_resnet_v1
from inception_resnet_keras.weights.identify import identify

from ..weights.synthetic import arrays, manifest, write_tensorflow

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
    subject = opening.open_model(str(tmp_path / "wide.keras"), preprocessing="facenet")
    assert subject.view == View((75, 90))
    assert subject.assumed
    assert subject.model is not None
    assert subject.model.input_shape == (None, 75, 90, 3)


@pytest.mark.slow
def test_running_averages_are_taken_or_told(tmp_path: Path) -> None:
    """davidsandberg's training checkpoint: weights that are all 0, and their averages beside them."""
    values = arrays("facenet_tf_inception_resnet_v1")
    trained = [name for name in values if not name.endswith(("moving_mean", "moving_variance"))]
    shadows = {f"{name}/ExponentialMovingAverage": values[name] for name in trained}
    raw = {name: np.zeros_like(values[name]) for name in trained}
    path = str(write_tensorflow(tmp_path / "both.ckpt", values | raw | shadows, 2))
    left = opening.open_model(path, embedding=True)
    taken = opening.open_model(path, embedding=True, ema=True)
    assert (left.averages, taken.averages) == (True, False)
    noise = np.random.default_rng(0).uniform(0, 255, (1, 160, 160, 3)).astype(np.float32)
    assert not np.allclose(left.run(noise), taken.run(noise))
    assert np.linalg.norm(taken.run(noise)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("model", ["vggface2", "inception_v4=imagenet"])
def test_averages_that_are_not_there_are_refused(model: str) -> None:
    with pytest.raises(InputError, match=r"ema: .* has no running averages"):
        opening.locate(model, ema=True)


def test_many_models_in_turn_are_no_reason_for_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is traced once. TensorFlow's warning about the same calls without our filter shows that it counts them."""
    monkeypatch.setattr(polymorphic_function, "FREQUENT_TRACING_WARNING_MAX_WARNING_PER_DETECTOR", 1000)
    models = [keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()]) for _ in range(12)]
    images = np.zeros((2, 8, 8, 3), np.float32)
    for model in models[:6]:
        KerasRun(model)(images)
    assert "retracing" not in caplog.text
    for model in models[6:]:
        model.predict_on_batch(images)
    assert "retracing" in caplog.text

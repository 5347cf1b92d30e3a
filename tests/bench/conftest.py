from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network's .keras file."""
    from inception_resnet_keras.models.model_file import Card, save_model

    from .. import tiny

    path = tmp_path_factory.mktemp("bench") / "model.keras"
    classes = [str(number) for number in range(tiny.CLASSES)]
    save_model(tiny.build(include_preprocessing=True), path, Card("tiny", "paper", classes, (tiny.SIDE, tiny.SIDE)))
    return path

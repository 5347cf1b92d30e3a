"""Published figures stand beside those that they are about, and no others."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from inception_resnet_keras.data.crops import View
from inception_resnet_keras.data.labelled import CorruptPictures, Memory, Source
from inception_resnet_keras.evaluation.evaluate import EvaluatedPictures, Evaluation, _evaluation
from inception_resnet_keras.evaluation.tables import show_evaluation
from inception_resnet_keras.models import open as opening
from inception_resnet_keras.models.classes import Classes
from inception_resnet_keras.models.open import OpenedModel

NAMES = [str(number) for number in range(1000)]
PUBLISHED = {"ImageNet top-1": 80.2}


def scored(labels: np.ndarray) -> Evaluation:
    count = len(labels)
    pictures = ([""] * count, labels, np.ones((count, 2)), np.zeros(count), Memory([b""] * count))
    seen = EvaluatedPictures(
        Source(NAMES, *pictures, CorruptPictures(0, count)),
        np.arange(count),
        labels,
        [np.full((count, 1000), 0.001, np.float32)],
    )
    subject = OpenedModel("v4", "inception_v4", None, True, 1000, View((299, 299)), lambda images: images, PUBLISHED)
    return _evaluation(seen, [subject], Classes(NAMES), data="val", note="", crops=1, folder=Path(), command="")


def test_figures_of_other_pictures_stand_alone() -> None:
    few, every = scored(np.arange(10)), scored(np.arange(1000))
    assert (few.models[0].paper, few.models[0].published) == (None, {})
    assert (every.models[0].paper, every.models[0].published) == (("Table 2", 0.8, 0.95), PUBLISHED)
    for found, says in ((few, False), (every, True)):
        with (console := Console(width=200)).capture() as capture:
            show_evaluation(console, found)
        assert ("the paper's Table 2 reports" in capture.get()) is says
        assert ("80.2 % (here: 1,000 of its 50,000 pictures)" in capture.get()) is says


@pytest.mark.slow
def test_a_thousand_products_are_not_imagenet(tmp_path: Path) -> None:
    from inception_resnet_keras import create_inception_resnet_v1

    path = tmp_path / "products.weights.h5"
    create_inception_resnet_v1(1001, input_shape=(299, 299, 3)).save_weights(path)
    products = opening.open_model(str(path), imagenet=False)
    assert (products.imagenet, products.outputs, products.view.fraction) == (False, 1001, 1.0)
    slims = opening.open_model(str(path))
    assert (slims.imagenet, slims.outputs, slims.view.fraction) == (True, 1000, 0.875)

"""A network of a few layers, through the production code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inception_resnet_keras import spec
from inception_resnet_keras.models import build
from inception_resnet_keras.spec.rows import Conv, Fork, Network, Repeat, Residual

TINY = Network(
    name="tiny",
    variant="test",
    stem=[Conv(4, 3, stride=2, padding="valid")],
    stages=[
        Repeat(Residual([[Conv(2, 1)], [Conv(2, 1), Conv(3, 3)]], name="a"), 2, scale=0.1),
        Fork([[Conv(4, 3)]], name="b"),
    ],
)


@pytest.fixture
def tiny() -> Any:
    """A factory of small models: `tiny(num_classes=3, …)`."""

    def make(num_classes: int = 3, **options: Any) -> Any:
        return build(replace(TINY), num_classes, input_shape=(16, 16, 3), **options)

    assert spec.block_names(TINY) == ["a"]
    return make

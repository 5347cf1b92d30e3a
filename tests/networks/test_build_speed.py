"""Building takes at most as long per convolution as Keras's own InceptionResNetV2 does.

`python -m tests.test_build_speed` measures all of the networks.
"""

import gc
import time
from collections.abc import Callable
from functools import partial

import keras
import pytest

from inception_resnet_keras import create_inception_resnet_v1, create_inception_resnet_v2, create_inception_v4

ROUNDS = 3
Build = Callable[[], keras.Model]
THEIRS = partial(keras.applications.InceptionResNetV2, weights=None)  # 244 convolutions, 55.9 million weights
ALIKE = partial(create_inception_resnet_v2, variant="slim")  # the same network

OURS: dict[str, Build] = {
    "inception_resnet_v2, slim": ALIKE,
    "inception_resnet_v2": create_inception_resnet_v2,
    "inception_resnet_v1": create_inception_resnet_v1,
    "inception_v4": create_inception_v4,
}


def seconds(build: Build) -> float:
    """Of processor time, which other programs do not add to, for each convolution."""
    keras.backend.clear_session()
    gc.collect()
    start = time.process_time()
    model = build()
    taken = time.process_time() - start
    return taken / sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)


def per_convolution(builds: list[Build]) -> list[float]:
    """Each one's seconds, built in turn; the least of the rounds, the first of which fills caches."""
    rounds = [[seconds(build) for build in builds] for _ in range(ROUNDS)]
    return [min(taken) for taken in zip(*rounds, strict=True)]


@pytest.mark.slow
def test_builds_as_fast_as_keras_applications(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the same network: what Keras itself takes to fill a kernel grows with the kernel. A tenth is noise's."""
    theirs, ours = per_convolution([THEIRS, ALIKE])
    with capsys.disabled():
        print(
            f"\nms to build a convolution: {1e3 * ours:.2f}, keras.applications {1e3 * theirs:.2f}: {ours / theirs:.2f}"
        )
    assert ours <= 1.1 * theirs


if __name__ == "__main__":
    least, *others = per_convolution([THEIRS, *OURS.values()])
    print(f"keras.applications.InceptionResNetV2: {1e3 * least:.2f} ms per convolution")
    for name, taken in zip(OURS, others, strict=True):
        print(f"{name}: {1e3 * taken:.2f} ms per convolution, ratio {taken / least:.2f}")

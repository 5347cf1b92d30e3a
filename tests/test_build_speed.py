"""Building takes at most as long per convolution as Keras's own InceptionResNetV2 does.

`python -m tests.test_build_speed` prints the rounds.
"""

import gc
import time
from collections.abc import Callable
from statistics import median

import keras
import pytest

from inception_resnet_keras import create_inception_resnet_v2

ROUNDS = 5


def seconds_per_convolution(build: Callable[[], keras.Model]) -> float:
    keras.backend.clear_session()
    gc.collect()
    start = time.process_time()  # other work on the machine does not count
    model = build()
    return (time.process_time() - start) / sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)


def theirs() -> keras.Model:
    return keras.applications.InceptionResNetV2(weights=None)


def measure() -> float:
    """The median ratio of rounds in which the two are built one after the other."""
    for build in (theirs, create_inception_resnet_v2):  # the engine's own start counts for neither
        build()
    ratios = []
    for number in range(ROUNDS):
        order = (theirs, create_inception_resnet_v2)[:: 1 if number % 2 else -1]
        taken = {build: seconds_per_convolution(build) for build in order}
        ratios.append(taken[create_inception_resnet_v2] / taken[theirs])
        print(
            f"round {number + 1}: {1e3 * taken[create_inception_resnet_v2]:.2f} ms per convolution, "
            f"keras.applications {1e3 * taken[theirs]:.2f} ms, ratio {ratios[-1]:.2f}"
        )
    return median(ratios)


@pytest.mark.slow
def test_builds_as_fast_as_keras_applications(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print()
        ratio = measure()
        print(f"build time per convolution against keras.applications: {ratio:.2f}")
    assert ratio <= 1


if __name__ == "__main__":
    print(f"median ratio {measure():.2f}")

"""Ratios of processor time to Keras's own for the same network: to build it, to load its weights, to draw its layers.

And of the command `summary` to an interpreter that imports numpy.

`python -m tests.speed` measures them on a quiet machine. They are no part of the suite, where other tests run beside.
"""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras

from inception_resnet_keras import (
    create_inception_resnet_v1,
    create_inception_resnet_v2,
    create_inception_v4,
    load_weights,
    plot_architecture,
)
from inception_resnet_keras.networks import NETWORKS

ROUNDS = 3
Work = Callable[[], object]
THEIRS = partial(keras.applications.InceptionResNetV2, weights=None)  # 244 convolutions, 55.9 million weights
BUILDS: dict[str, Callable[[], keras.Model]] = {
    "keras.applications": THEIRS,
    "inception_resnet_v2, slim": partial(create_inception_resnet_v2, variant="slim"),  # the same network
    "inception_resnet_v2": create_inception_resnet_v2,
    "inception_resnet_v1": create_inception_resnet_v1,
    "inception_v4": create_inception_v4,
}


def seconds(work: Work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def least(works: dict[str, Work]) -> dict[str, float]:
    """Each one's seconds, measured in turn; the least of the rounds, the first of which fills caches."""
    rounds = [{name: seconds(work) for name, work in works.items()} for _ in range(ROUNDS)]
    return {name: min(taken[name] for taken in rounds) for name in works}


def show(title: str, figures: dict[str, float]) -> None:
    print(f"\n{title}")
    theirs, *_ = figures.values()
    for name, taken in figures.items():
        print(f"  {name:28} {1e3 * taken:9.2f} ms, ratio {taken / theirs:.2f}")


def building() -> dict[str, float]:
    """Seconds per convolution."""

    def taken(build: Callable[[], keras.Model]) -> float:
        keras.backend.clear_session()
        gc.collect()
        start = time.process_time()
        model = build()
        return (time.process_time() - start) / sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)

    rounds = [{name: taken(build) for name, build in BUILDS.items()} for _ in range(ROUNDS)]
    return {name: min(each[name] for each in rounds) for name in BUILDS}


def loading() -> dict[str, float]:
    """Of a legacy .h5 of `keras.applications`."""
    from .weights.test_load import save_legacy

    theirs, ours = THEIRS(), create_inception_resnet_v2(variant="slim")
    with tempfile.TemporaryDirectory() as folder:
        save_legacy(theirs, Path(folder, "a"))
        path = Path(shutil.move(Path(folder, "a"), Path(folder, "a.h5")))
        return least({"keras": lambda: theirs.load_weights(path), "ours": lambda: load_weights(ours, path)})


def drawing() -> dict[str, float]:
    """Every layer as an SVG."""
    import pygraphviz

    model = THEIRS()

    def theirs() -> None:
        graph = keras.utils.model_to_dot(model)
        pygraphviz.AGraph(string=graph.to_string()).draw(format="svg", prog="dot")

    def ours() -> None:
        plot_architecture("inception_resnet_v2", level="layers", depths=(10, 20, 10)).svg()

    return least({"model_to_dot and Graphviz": theirs, "ours": ours})


def summing_up() -> dict[str, float]:
    """A command that needs no engine, in a process of its own."""

    def taken(*arguments: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    commands = {
        "import numpy": ("-c", "import numpy"),
        **{f"summary {name}": ("-m", "inception_resnet_keras", "summary", name) for name in NETWORKS},
    }
    rounds = [{name: taken(*command) for name, command in commands.items()} for _ in range(ROUNDS)]
    return {name: min(each[name] for each in rounds) for name in commands}


if __name__ == "__main__":
    show("to build, per convolution", building())
    show("to load keras.applications' .h5", loading())
    show("to draw every layer", drawing())
    show("to sum a network up", summing_up())

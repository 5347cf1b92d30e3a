"""Every layer as an SVG, beside what Keras and Graphviz take for the network that Keras has."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import keras
import pydot
import pytest

from inception_resnet_keras import plot_architecture
from inception_resnet_keras.diagrams import svg


def seconds(work: Callable[[], object]) -> float:
    """Of processor time, which other programs do not add to."""
    start = time.process_time()
    work()
    return time.process_time() - start


@pytest.mark.slow
def test_every_layer_is_drawn_no_slower_than_keras_and_graphviz_draw_theirs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pygraphviz

    if shutil.which("dot") is None:  # Keras asks a `dot` that it does not need to make its graph
        monkeypatch.setattr(pydot.Dot, "create", lambda *_, **__: b"")
    model = keras.applications.InceptionResNetV2(weights=None)
    ours = seconds(lambda: plot_architecture("inception_resnet_v2", level="layers", depths=(10, 20, 10)).svg())
    graph = None

    def theirs() -> None:
        nonlocal graph
        graph = keras.utils.model_to_dot(model)
        pygraphviz.AGraph(string=graph.to_string()).draw(format="svg", prog="dot")

    other = seconds(theirs)
    with capsys.disabled():
        print(f"\nevery layer as SVG: {ours:.2f} s; model_to_dot and Graphviz: {other:.2f} s; {other / ours:.0f} times")
    assert ours <= other


@pytest.mark.skipif(not svg.can_draw(), reason="needs the extra `plot` or Graphviz")
def test_every_layer_takes_less_than_two_seconds() -> None:
    assert seconds(lambda: plot_architecture("inception_v4", level="layers").svg()) < 2

"""`keras.utils.plot_model` works on what the factories build, for those who know it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import keras
import pytest

from inception_resnet_keras import networks
from inception_resnet_keras.networks import edits
from inception_resnet_keras.networks.build import build
from inception_resnet_keras.networks.rows import Network

HOW = "keras.utils.plot_model asks for Graphviz's program: apt-get install graphviz"


@pytest.fixture(autouse=True)
def graphviz() -> None:
    """Keras starts `dot` itself, which no pip package brings."""
    if shutil.which("dot"):
        return
    if os.environ.get("CI"):
        pytest.fail(HOW)
    pytest.skip(HOW)


@pytest.mark.parametrize("include_top", [True, False])
def test_plot_model_draws_every_network(network: Network, include_top: bool, tmp_path: Path) -> None:
    shallow = edits.with_depths(network, [1] * len(networks.block_names(network)))
    model = build(
        shallow,
        input_shape=(139, 139, 3),
        include_top=include_top,
        include_preprocessing=True,
        aux_head=include_top and bool(network.aux),
    )
    # A PDF: beside IPython, Keras passes any other file to a class that refuses SVG; a PNG would have 100 megapixels.
    keras.utils.plot_model(model, tmp_path / "model.pdf", show_shapes=True, show_layer_names=True)
    assert (tmp_path / "model.pdf").read_bytes().startswith(b"%PDF")
    drawn = keras.utils.model_to_dot(model, show_shapes=True, show_layer_names=True).create(format="svg").decode()
    assert all(layer.name in drawn for layer in model.layers)

"""From a Keras model of this project, built or loaded, to the graph of its network."""

from __future__ import annotations

from typing import Any

from .. import networks
from ..common.errors import InputError
from ..networks import names
from ..networks.recognise import NetworkDescription, differences, layer_prefix, model_layers, model_shapes, recognise
from .from_table import graph_of
from .graph import Graph, network_title


def model_graph(model: Any) -> Graph:
    """The graph of a model: its network, variant, depths, scales, input size and heads.

    Raises InputError if the model has no layers of this project, or is not a network of the tables.
    """
    try:
        layers = model_layers(model)
    except AttributeError:
        takes = f"the name of a network ({', '.join(networks.NETWORKS)}) or a Keras model of one"
        raise InputError(f"network: got {model!r}; it takes {takes}") from None
    if not any(map(names.stage, layers)):
        raise InputError(
            f"model: {model.name!r} has no layer named as this package's are, such as 'stem_conv_1'; "
            "give the network itself where it is nested in another model: model.get_layer(...)"
        )
    found = recognise(model_shapes(model), layers, least=0)  # a part of a network is drawn, too
    if found is None or found.input_shape is None:
        inputs = [layer["batch_shape"][1:] for layer in layers.values() if layer.get("batch_shape")]
        raise InputError(f"model: {model.name!r} reads {inputs or 'nothing'}; it takes a model that reads one image")
    if different := differences(found, layers):
        raise InputError(
            f"model: {model.name!r} is none of this package's networks; the closest differs in "
            f"{'; '.join(different[:3])}. It takes a model as the factories build it, or a part of one from "
            "the image on; where it stands inside another, give it alone: model.get_layer(...)"
        )
    return graph_of(
        found.network,
        found.size,
        channels=found.channels,
        classes=found.classes if found.classes is not None else found.aux_classes,
        aux_head=found.aux_head,
        activation=str(found.activation) if found.activation else None,
        preprocess=bool(found.include_preprocessing),
        keep=lambda node: node.name in layers or node.op == "input",
        words=_words(found),
        title=_title(model, found),
    )


def _words(found: NetworkDescription) -> dict[str, tuple[str, str]]:
    """The texts of the layers whose settings are not in the tables."""
    words = {}
    if found.dropout_rate is not None:
        words[names.DROPOUT] = ("dropout", f"keep {1 - found.dropout_rate:g}")
    if found.pooling == "max":
        words[names.POOLED] = ("global max pool", "")
    return words


def _title(model: Any, found: NetworkDescription) -> str:
    title, prefix = network_title(found.name), layer_prefix(model)
    title = title if model.name == found.name else f"{title} “{model.name}”"
    return f"{title}, layers “{prefix}…”" if prefix else title

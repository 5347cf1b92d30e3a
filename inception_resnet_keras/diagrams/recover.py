"""A Keras model of ours, built or loaded → the graph of what it is, read from its layers' names and settings.

The layers are asked for their names and configurations only: no engine is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .. import networks
from ..common.arguments import is_number
from ..common.errors import InputError
from ..networks import edits, names
from ..networks.rows import Conv, Network
from ..networks.trace import Node, trace
from .graph import Graph, graph_of, layer_names, network_title


def graph_of_model(model: Any) -> Graph:
    """The graph of a model: its network, variant, depths, scales, input size and heads.

    Raises InputError where the model holds no layers of ours, or is none of the tables' networks.
    """
    layers = _layers(model)
    size, channels = _image(model, layers)
    aux = names.inside(names.AUX, names.LOGITS)
    classes = next((layers[name]["units"] for name in (names.LOGITS, aux) if "units" in layers.get(name, {})), None)
    closest: list[str] | None = None
    for network in _candidates(layers):
        try:
            nodes = trace(network, size, channels=channels, aux_head=aux in layers, **networks.head(network, classes))
        except ValueError:  # too small an image for it, or an auxiliary head that it has not
            continue
        different = list(_differences(nodes, layers))
        if different:
            closest = min(closest or different, different, key=len)
            continue
        return graph_of(
            network,
            size,
            channels=channels,
            classes=classes,
            aux_head=aux in layers,
            activation=_activation(layers),
            preprocess=names.PREPROCESS in layers,
            keep=lambda node: node.name in layers or node.op == "input",
            words=_words(layers),
            title=_title(model, network),
        )
    raise InputError(
        f"model: {model.name!r} is none of this package's networks; the closest differs in "
        f"{'; '.join((closest or ['all'])[:3])}. It takes a model as the factories build it, or a part of one from "
        "the image on; where it stands inside another, give it alone: model.get_layer(...)"
    )


def _layers(model: Any) -> dict[str, dict[str, Any]]:
    """Each layer's configuration by its name, and its class."""
    try:
        found = {layer.name: layer.get_config() | {"class": type(layer).__name__} for layer in model.layers}
    except AttributeError:
        takes = f"the name of a network ({', '.join(networks.NETWORKS)}) or a Keras model of one"
        raise InputError(f"network: got {model!r}; it takes {takes}") from None
    if not any(map(names.stage, found)):
        raise InputError(
            f"model: {model.name!r} has no layer named as this package's are, such as 'stem_conv_1'; "
            "give the network itself where it is nested in another model: model.get_layer(...)"
        )
    return found


def _image(model: Any, layers: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[int | None, int | None], int]:
    """The image's (height, width), and its channels."""
    shapes = [layer["batch_shape"][1:] for layer in layers.values() if layer.get("batch_shape")]
    if len(shapes) != 1 or len(shapes[0]) != 3:
        raise InputError(f"model: {model.name!r} reads {shapes or 'nothing'}; it takes a model that reads one image")
    first: Mapping[str, Any] = next((layer for layer in layers.values() if "kernel_size" in layer), {})
    height, width, channels = shapes[0]
    if first.get("data_format") == "channels_first":
        channels, height, width = shapes[0]
    return (height, width), channels


def _candidates(layers: Mapping[str, Mapping[str, Any]]) -> Iterator[Network]:
    """Every variant of the tables, with the depths and scales that the layers tell of."""
    places = {stage for stage in map(names.stage, layers) if stage}
    for variants in networks.NETWORKS.values():
        for network in variants.values():
            blocks = networks.block_names(network)
            depths = [max(1, sum(_is_block(place, block) for place in places)) for block in blocks]
            told = [_scale(layers, names.block(block, 1)) for block in blocks]
            scales = [scale if is_number(scale) else 1.0 for scale in told]
            for more in (0, 1):  # a part of a network may end before the last block, which may differ
                deep = edits.with_depths(network, [*depths[:-1], depths[-1] + more])
                yield edits.with_scales(deep, scales)


def _scale(layers: Mapping[str, Mapping[str, Any]], place: str) -> Any:
    """Of a block's residual sum."""
    return layers.get(names.inside(place, "scale"), {}).get("scale", 1.0)


def _is_block(place: str, block: str) -> bool:
    return place.rstrip("0123456789") == block and place != block


def _differences(nodes: list[Node], layers: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What a trace and the layers disagree on, in words; empty where the layers are the trace, or its beginning."""
    ends = {names.PREPROCESS, names.PREDICTIONS, names.inside(names.AUX, names.PREDICTIONS)}
    known = {name for node in nodes for name in layer_names(node)} | ends
    ours = known | {name for name, layer in layers.items() if "batch_shape" in layer}
    yield from (f"a layer {name!r} besides" for name in layers if name not in ours)
    there = {node.name for node in nodes if node.name in layers or node.op == "input"}
    for node in nodes:
        if node.name not in layers or node.op == "input":
            continue
        yield from (f"{node.name!r} without {name!r} before it" for name in node.inputs if name not in there)
        yield from (f"no layer {name!r}" for name in layer_names(node) if name not in layers)
        for setting, (wanted, got) in _settings(node, layers).items():
            if wanted != got:
                yield f"{node.name!r} with {setting} {got} for {wanted}"


def _settings(node: Node, layers: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[Any, Any]]:
    """What the table wants of a layer, and what it has."""
    layer, row = layers[node.name], node.row
    if isinstance(row, Conv):
        wanted: dict[str, Any] = {"filters": row.filters, "kernel_size": row.kernel, "use_bias": row.linear}
    elif row is not None:
        kind = {"max": "MaxPooling2D", "avg": "AveragePooling2D"}[row.kind]
        wanted = {"pool_size": (row.size, row.size), "class": kind}
    elif node.op == "sum":
        return {"scale": (node.scale, _scale(layers, node.place))}
    elif node.op == "dense":
        return {"class": ("Dense", layer["class"]), "units": (node.shape[-1], layer.get("units"))}
    else:
        return {}
    wanted |= {"strides": (row.stride, row.stride), "padding": row.padding}
    return {key: (value, _plain(layer.get(key))) for key, value in wanted.items()}


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _activation(layers: Mapping[str, Mapping[str, Any]]) -> str | None:
    last = layers.get(names.PREDICTIONS)
    return str(last["activation"]) if last else None


def _words(layers: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """What a picture says of the layers whose settings the tables leave open."""
    words = {}
    if names.DROPOUT in layers:
        words[names.DROPOUT] = ("dropout", f"keep {1 - layers[names.DROPOUT]['rate']:g}")
    if "Max" in layers.get(names.POOLED, {}).get("class", ""):
        words[names.POOLED] = ("global max pool", "")
    return words


def _title(model: Any, network: Network) -> str:
    title = network_title(network.name)
    return title if model.name == network.name else f"{title} “{model.name}”"

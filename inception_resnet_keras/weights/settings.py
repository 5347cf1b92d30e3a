"""What a network computes beside its weights, as arguments of its factory: scales, input, pixels, activation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .. import networks
from ..common.errors import InputError
from ..networks import names
from ..networks.rows import Network, Repeat
from .readers.checkpoint import Checkpoint

KEY = "factory"  # in a safetensors file's metadata

_POOLS = {"GlobalAveragePooling2D": "avg", "GlobalMaxPooling2D": "max"}

_TAKEN = ("scale", "input_shape", "include_preprocessing", "classifier_activation", "pooling")


def settings(checkpoint: Checkpoint, network: Network, *, include_top: bool) -> dict[str, Any]:
    """A file's own settings; empty where it has none, as all but .keras and our .safetensors files."""
    if checkpoint.metadata.get(KEY):
        written = json.loads(checkpoint.metadata[KEY])
        if not isinstance(written, dict) or any(key not in _TAKEN for key in written):
            raise InputError(f"{checkpoint.path}: its metadata has settings that no factory takes")
        return {key: tuple(value) if isinstance(value, list) else value for key, value in written.items()}
    return of_layers(checkpoint.layers, network, include_top=include_top) if checkpoint.layers else {}


def of_layers(layers: Mapping[str, Mapping[str, Any]], network: Network, *, include_top: bool) -> dict[str, Any]:
    """From the layers' configurations, each with its class."""
    found: dict[str, Any] = {}
    if networks.is_residual(network):
        found["scale"] = tuple(_scale(layers, block) for block in networks.block_names(network))
    shapes = [layer["batch_shape"][1:] for layer in layers.values() if layer.get("batch_shape")]
    if len(shapes) == 1:
        found["input_shape"] = tuple(shapes[0])
    found["include_preprocessing"] = names.PREPROCESS in layers
    if include_top:
        activation = layers.get(names.PREDICTIONS, {}).get("activation")
        found["classifier_activation"] = activation
    else:
        found["pooling"] = _POOLS.get(layers.get(names.POOLED, {}).get("class", ""))
    return found


def scales(network: Network) -> tuple[float, ...]:
    """A table's own residual scales, by block."""
    own = {row.block.name: row.scale for row in reversed(network.stages) if isinstance(row, Repeat) and row.scale}
    return tuple(own[block] for block in networks.block_names(network))


def _scale(layers: Mapping[str, Mapping[str, Any]], block: str) -> float:
    first = names.inside(f"{block}01", "scale")
    return float(layers.get(first, {}).get("scale", 1.0))

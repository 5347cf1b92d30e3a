"""Reads the graph that Keras 2 and 3 store beside a model's weights, as data: no layer is built.

Layers of nested models are listed under their paths, such as `inception_v4/stem_conv_1`. Each has its configuration and
three more keys: "class", the name of its class; "inputs", the paths of the layers that it reads; and "numbers", the
numbers among its call's arguments, such as the 0.17 in `0.17 * x`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

DEEPEST = 8  # levels of nested models


def read_layers(model: Any) -> dict[str, dict[str, Any]]:
    """All layers of a model's configuration, nested ones included, by path.

    Args:
        model: The configuration in a file, `{"class_name": …, "config": {"layers": […]}}`, from any origin.

    Raises:
        ValueError: It is not a model's configuration, or its models are nested deeper than `DEEPEST`.
    """
    return dict(_layers(model, "", 0))


def group_paths(model: Any) -> dict[str, str]:
    """The groups in which Keras stores the layers' weights → the layers' paths: `layers/conv2d_1` → `stem_conv_2`.

    Keras names a group after its layer's class, and numbers the layers of a class in the order of the configuration.
    """
    return dict(_groups(model, "", "", 0))


def _layers(model: Any, prefix: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
    before: list[str] = []
    for layer in _inside(model, depth):
        path = prefix + _name(layer)
        if _is_model(layer):
            yield from _layers(layer, f"{path}/", depth + 1)
        calls = layer.get("inbound_nodes")
        inputs = [prefix + name for name in _histories(calls)] if calls else before
        kind = str(layer.get("class_name")).rpartition(">")[2]
        yield path, {**layer["config"], "class": kind, "inputs": inputs, "numbers": list(_numbers(calls))}
        if _is_chain(model):  # each layer of a Sequential model reads the one before it
            before = [path]


def _groups(model: Any, prefix: str, group: str, depth: int) -> Iterator[tuple[str, str]]:
    counts: dict[str, int] = {}
    for layer in _inside(model, depth):
        kind = _snake_case(str(layer.get("class_name")).rpartition(">")[2])
        count = counts[kind] = counts.get(kind, -1) + 1
        own = f"{group}layers/{kind}{f'_{count}' if count else ''}"
        path = prefix + _name(layer)
        yield own, path
        if _is_model(layer):
            yield from _groups(layer, f"{path}/", f"{own}/", depth + 1)


def _inside(model: Any, depth: int) -> list[dict[str, Any]]:
    """The layers of a model's configuration. Before version 2.3, Keras wrote a Sequential model's as a plain list."""
    if not isinstance(model, Mapping) or depth > DEEPEST:
        raise ValueError("its configuration is not a Keras model's, or its models are nested too deeply")
    config = model.get("config")
    layers = config.get("layers", []) if isinstance(config, Mapping) else config
    if not isinstance(layers, list):
        raise ValueError("its configuration lists no layers")
    for layer in layers:
        if not isinstance(layer, Mapping) or not isinstance(layer.get("config"), Mapping | list):
            raise ValueError("its configuration has a layer without settings")
    return [dict(layer) | {"config": _settings(layer)} for layer in layers]


def _settings(layer: Mapping[str, Any]) -> dict[str, Any]:
    config = layer["config"]
    settings = dict(config) if isinstance(config, Mapping) else {"layers": config}
    if "batch_input_shape" in settings:  # Keras 2
        settings.setdefault("batch_shape", settings.pop("batch_input_shape"))
    return settings


def _name(layer: Mapping[str, Any]) -> str:
    return str(layer["config"].get("name") or layer.get("name") or "")


def _is_model(layer: Mapping[str, Any]) -> bool:
    return isinstance(layer["config"].get("layers"), list)


def _is_chain(model: Mapping[str, Any]) -> bool:
    return model.get("class_name") == "Sequential"


def _histories(calls: Any) -> Iterator[str]:
    """The names of the layers in a call's arguments, in Keras 3's and Keras 2's form."""
    if isinstance(calls, Mapping):
        for value in calls.values():
            yield from _histories(value)
    elif isinstance(calls, list):
        if _is_history(calls):
            yield calls[0]
            calls = calls[3:]  # in Keras 2, the call's other arguments follow
        for value in calls:
            yield from _histories(value)


def _is_history(value: Any) -> bool:
    """Whether a value is [layer, number of its call, number of its output, …]."""
    return isinstance(value, list) and len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int)


def _numbers(calls: Any) -> Iterator[float]:
    """The numbers in a call's arguments, without the indices of calls and outputs."""
    if isinstance(calls, Mapping):
        for key, value in calls.items():
            if key not in ("keras_history", "shape"):
                yield from _numbers(value)
    elif isinstance(calls, list):
        for value in calls[3:] if _is_history(calls) else calls:
            yield from _numbers(value)
    elif isinstance(calls, int | float) and not isinstance(calls, bool):
        yield float(calls)


def _snake_case(name: str) -> str:
    """Keras's default name for a layer of a class: `BatchNormalization` → `batch_normalization`."""
    parts = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", parts).lower()

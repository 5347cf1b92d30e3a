"""Quantise a graph to int8 with its runtime's own quantiser, with settings in the words of that quantiser.

    openvino    `nncf.quantize`: preset, target_device, subset_size, fast_bias_correction, ignored_scope, ...
    onnx        `onnxruntime.quantization.quantize_static`: calibrate_method, nodes_to_exclude, per_channel, ...
    litert      TensorFlow's converter, which has no settings

The top of this module imports no quantiser, because `export --help` imports it.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..common.arguments import boolean, is_number, nearest, one_of, positive_integer
from ..common.chatter import quiet
from ..common.errors import InputError, refuse

Settings = Mapping[str, Any]
Read = Callable[[str, Any], Any]
MOST_NAMES = 5  # maximum number of unknown layers that an error lists


@dataclass(frozen=True)
class Calibration:
    """The input of a quantiser.

    Attributes:
        images: The calibration images, uint8 (n, height, width, 3).
        settings: The settings of the quantiser, as returned by `read_settings`.
        dtype: The dtype of the graph's pixels.
    """

    images: np.ndarray
    settings: Settings = field(default_factory=dict)
    dtype: str = "float32"


def setting(text: str) -> tuple[str, Any]:
    """Parse KEY=VALUE of a command line. VALUE is JSON, otherwise a word."""
    key, equals, value = text.partition("=")
    if not (equals and key and value):
        raise argparse.ArgumentTypeError(f"got {text!r}; it takes KEY=VALUE, such as calibrate_method=Percentile")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def read_settings(format: str, given: Settings | None) -> dict[str, Any]:
    """Convert settings to the arguments of the format's quantiser.

    Args:
        format: "openvino", "onnx" or "litert".
        given: The settings, as for `export_model`; None for none.

    Returns:
        The keyword arguments of `nncf.quantize` or `quantize_static`.

    Raises:
        InputError: The quantiser has no such setting, or it does not accept the value.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise refuse("quantization", given, "a mapping of the quantiser's settings")
    known = _nncf_settings() if format == "openvino" else _onnx_settings() if format == "onnx" else {}
    if not known:
        raise InputError(
            f"quantization: {format}'s converter has no settings for int8; leave it out, or export to another format"
        )
    return {_known_key("quantization", key, known): known[key](f"quantization: {key}", given[key]) for key in given}


def _known_key(argument: str, key: object, known: Mapping[str, Any]) -> str:
    if not isinstance(key, str) or key not in known:
        raise refuse(argument, key, f"{', '.join(known)}{nearest(str(key), tuple(known))}")
    return key


def _member(kind: type[Enum], argument: str, value: Any) -> Enum:
    """A member of an enumeration by its name or value, ignoring case."""
    for member in kind:
        if value is member or str(value).lower() in (member.name.lower(), str(member.value).lower()):
            return member
    raise refuse(argument, value, " or ".join(repr(member.name) for member in kind))


def _texts(argument: str, value: Any) -> list[str]:
    """A list of strings, from a list or a single string."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(each, str) and each for each in values):
        raise refuse(argument, value, 'a list of names, such as ["a", "b"]')
    return list(values)


def _number(argument: str, value: Any) -> float:
    if not is_number(value):
        raise refuse(argument, value, "a number")
    return float(value)


def _nncf_settings() -> dict[str, Read]:
    import nncf
    from nncf.quantization.advanced_parameters import OverflowFix

    advanced: dict[str, Read] = {
        "overflow_fix": partial(_member, OverflowFix),
        "smooth_quant_alpha": _number,
        **dict.fromkeys(("quantize_outputs", "disable_channel_alignment", "disable_bias_correction"), boolean),
    }
    scope: dict[str, Read] = {"names": _texts, "patterns": _patterns, "types": _texts, "validate": boolean}

    def fields(kind: type, known: Mapping[str, Read], argument: str, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise refuse(argument, value, f"an object of {', '.join(known)}")
        return kind(**{_known_key(argument, key, known): known[key](f"{argument}: {key}", value[key]) for key in value})

    return {
        "preset": partial(_member, nncf.QuantizationPreset),
        "target_device": partial(_member, nncf.TargetDevice),
        "model_type": partial(_member, nncf.ModelType),
        "subset_size": positive_integer,
        "fast_bias_correction": boolean,
        "ignored_scope": partial(fields, nncf.IgnoredScope, scope),
        "advanced_parameters": partial(fields, nncf.AdvancedQuantizationParameters, advanced),
    }


def _patterns(argument: str, value: Any) -> list[str]:
    for pattern in (patterns := _texts(argument, value)):
        try:
            re.compile(pattern)
        except re.error as error:
            raise refuse(argument, pattern, f"regular expressions; {error}") from None
    return patterns


def _onnx_settings() -> dict[str, Read]:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType

    def integers(argument: str, value: Any) -> Enum:
        kind = _member(QuantType, argument, value)
        return kind if kind.name in ("QInt8", "QUInt8") else one_of(argument, value, ("QInt8", "QUInt8"))

    def options(argument: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise refuse(argument, value, 'an object such as {"CalibPercentile": 99.99}')
        return dict(value)

    return {
        "calibrate_method": partial(_member, CalibrationMethod),
        "quant_format": partial(_member, QuantFormat),
        **dict.fromkeys(("activation_type", "weight_type"), integers),
        **dict.fromkeys(("per_channel", "reduce_range"), boolean),
        **dict.fromkeys(("nodes_to_exclude", "nodes_to_quantize", "op_types_to_quantize"), _texts),
        "extra_options": options,
    }


def quantize_openvino(model: Any, calibration: Calibration) -> Any:
    """Quantise an OpenVINO model to int8 with nncf; by default with its "mixed" preset for CPUs."""
    import nncf

    count, settings = len(calibration.images), calibration.settings
    data = nncf.Dataset(calibration.images, lambda picture: picture[None].astype(calibration.dtype))
    options = {
        "preset": nncf.QuantizationPreset.MIXED,
        "target_device": nncf.TargetDevice.CPU,
        "fast_bias_correction": True,
        **settings,
    }
    options["subset_size"] = min(options.get("subset_size", count), count)
    try:
        with quiet():
            return nncf.quantize(model, data, **options)
    except nncf.ValidationError as error:
        names = [operation.get_friendly_name() for operation in model.get_ops()]
        scope = settings.get("ignored_scope")
        if scope is not None:
            _require_nodes("quantization: ignored_scope: names", scope.names, names)
        raise InputError(f"quantization: {' '.join(str(error).split())}") from None


def quantize_onnx(model: Any, calibration: Calibration, name: str) -> Any:
    """Quantise an ONNX model to int8 with `quantize_static`; from its last dense layer on it stays float32.

    name: The name of the graph's input.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pictures(CalibrationDataReader):
        def __init__(self) -> None:
            self._left: Iterator[np.ndarray] = iter(calibration.images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            picture = next(self._left, None)
            return None if picture is None else {name: picture[None].astype(calibration.dtype)}

    # 8-bit weights per channel, unless the settings differ.
    settings = calibration.settings
    options = {
        "quant_format": QuantFormat.QDQ,
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
        "per_channel": True,
        **settings,
    }
    with tempfile.TemporaryDirectory() as folder:
        given, prepared, made = (str(Path(folder, name)) for name in ("given.onnx", "prepared.onnx", "made.onnx"))
        onnx.save(model, given)
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared).graph
        # Names of nodes are checked against the prepared graph, whose nodes the quantiser sees.
        for key in ("nodes_to_exclude", "nodes_to_quantize"):
            _require_nodes(f"quantization: {key}", settings.get(key, ()), [node.name for node in graph.node])
        operations = sorted({node.op_type for node in graph.node})
        for operation in settings.get("op_types_to_quantize", ()):
            one_of("quantization: op_types_to_quantize", operation, operations)
        options["nodes_to_exclude"] = [*_head(graph), *settings.get("nodes_to_exclude", ())]
        with quiet():
            quantize_static(prepared, made, Pictures(), **options)
        return onnx.load(made)


def _require_nodes(argument: str, names: Any, known: list[str]) -> None:
    """Raise InputError for names of layers that the graph lacks, which a quantiser would ignore."""
    if missing := sorted(set(names) - set(known)):
        shown = ", ".join(map(repr, missing[:MOST_NAMES]))
        raise InputError(f"{argument}: the graph has no {shown}{nearest(missing[0], known)}")


def _head(graph: Any) -> list[str]:
    """The names of the nodes from the last dense layer on, which stay float32 at almost no cost.

    In 8 bits, a softmax has 256 different probabilities, and most of 1,000 classes would have the lowest.
    """
    producing_call = {name: node for node in graph.node for name in node.output}
    found, ends = [], [output.name for output in graph.output]
    while ends:
        node = producing_call.get(ends.pop())
        if node is None or node.op_type in ("Conv", "GlobalAveragePool", "ReduceMean") or node.name in found:
            continue
        found.append(node.name)
        if node.op_type not in ("MatMul", "Gemm"):
            ends += node.input
    return found

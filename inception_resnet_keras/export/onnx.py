"""ONNX: dynamic batch, the card in its metadata; int8 by ONNX Runtime's static quantisation."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..inference.runtime import CARD_KEY, INPUT, OUTPUT
from ..saving import card_text
from .pictures import Sample
from .quiet import quiet
from .source import Prepared

OPSET = 18  # the newest that tf2onnx writes


def write(prepared: Prepared, path: Path, calibration: Sample | None = None) -> None:
    import onnx

    precision = prepared.card.precision
    prepared.exported(np.zeros((1, *prepared.card.size, 3), np.float32))  # Keras exports no model that never ran
    with quiet(), _garbage_collected():
        prepared.exported.export(str(path), format="onnx", opset_version=OPSET, verbose=False)
    model = _named(onnx.load(path))
    if precision == "float16":
        model = _in_float16(model)
    elif precision == "int8":
        assert calibration is not None
        model = _in_int8(model, calibration)
    onnx.helper.set_model_props(model, {CARD_KEY: card_text(prepared.card)})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


@contextmanager
def _garbage_collected() -> Iterator[None]:
    """Within it, Python frees what refers to itself soon: tf2onnx copies graph and weights at each of its steps.

    Python looks at old objects when new ones are a quarter as many, and TensorFlow has a million; frozen ones are
    not counted. Of ResNet-v2 `slim` the peak falls from 11 GB to 8.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _named(model: Any) -> Any:
    """The same with its input, output and batch axis called what they are."""
    (takes,), (gives,) = model.graph.input, model.graph.output
    for node in model.graph.node:
        node.input[:] = [INPUT if name == takes.name else name for name in node.input]
        node.output[:] = [OUTPUT if name == gives.name else name for name in node.output]
    takes.name, gives.name = INPUT, OUTPUT
    for value in (takes, gives):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    return model


def _in_float16(model: Any) -> Any:
    """Computed in float16 from the first layer to the logits; pixels and probabilities stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    converted = OnnxModel(convert_float_to_float16(model, keep_io_types=True, op_block_list=["Softmax"]))
    converted.topological_sort()
    return converted.model


def _in_int8(model: Any, calibration: Sample) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Pictures(CalibrationDataReader):
        def __init__(self) -> None:
            self._left: Iterator[np.ndarray] = iter(calibration.images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            picture = next(self._left, None)
            return None if picture is None else {INPUT: picture[None].astype(np.float32)}

    with tempfile.TemporaryDirectory() as folder:
        given, prepared, made = (str(Path(folder, name)) for name in ("given.onnx", "prepared.onnx", "made.onnx"))
        onnx.save(model, given)
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            made,
            Pictures(),
            nodes_to_exclude=_head(onnx.load(prepared).graph),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        return onnx.load(made)


def _head(graph: Any) -> list[str]:
    """The names of the nodes from the last dense layer on, which costs next to nothing and stays float32.

    In 8 bits a softmax knows 256 probabilities, and of 1,000 classes most would have the lowest.
    """
    made_by = {name: node for node in graph.node for name in node.output}
    found, ends = [], [output.name for output in graph.output]
    while ends:
        node = made_by.get(ends.pop())
        if node is None or node.op_type in ("Conv", "GlobalAveragePool", "ReduceMean") or node.name in found:
            continue
        found.append(node.name)
        if node.op_type not in ("MatMul", "Gemm"):
            ends += node.input
    return found

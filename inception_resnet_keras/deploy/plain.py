"""Run exported files as other programs do: with the format's own library, without settings or this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..common.chatter import hushed
from ..models.runtimes import guarded

Run = Callable[[np.ndarray], np.ndarray]
# The call that runs each format, as reports name it.
CALLS = {
    "saved_model": "tf.saved_model.load",
    "onnx": "onnxruntime.InferenceSession",
    "openvino": "openvino.Core().compile_model",
    "litert": "LiteRT's Interpreter",
}


def run_plain(path: Path, format: str) -> Run:
    """Open a file with the format's own library, without settings.

    Args:
        path: A file or folder that `export_model` wrote.
        format: "saved_model", "onnx", "openvino" or "litert".

    Returns:
        A function from float32 pixels of 0-255, (n, height, width, 3), to float32 outputs, (n, outputs).

    Raises:
        InputError: The library cannot open or run the file.
    """
    run = guarded(path, lambda: _OPENERS[format](path))
    return lambda images: np.array(guarded(path, lambda: run(images)), np.float32)


def _saved_model(path: Path) -> Run:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]
    ((name, spec),) = signature.structured_input_signature[1].items()

    def run(images: np.ndarray) -> np.ndarray:
        assert loaded is not None  # keep a reference: the signature alone does not keep the weights
        (result,) = signature(**{name: tf.constant(images.astype(spec.dtype.as_numpy_dtype))}).values()
        return result.numpy()

    return run


def _onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    (takes,) = session.get_inputs()
    dtype = np.uint8 if takes.type == "tensor(uint8)" else np.float32
    return lambda images: session.run(None, {takes.name: images.astype(dtype)})[0]


def _openvino(path: Path) -> Run:
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU")
    dtype = compiled.input(0).element_type.to_dtype()
    return lambda images: compiled(images.astype(dtype))[0]


def _litert(path: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    with hushed():  # it prints its delegate
        interpreter.allocate_tensors()
    (takes,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run_one(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(takes["index"], image[None].astype(takes["dtype"]))
        interpreter.invoke()
        result = interpreter.get_tensor(gives["index"])[0]
        scale, zero = gives["quantization"]
        return (result.astype(np.float32) - zero) * scale if scale else result

    return lambda images: np.stack([run_one(image) for image in images])


_OPENERS: dict[str, Callable[[Path], Run]] = {
    "saved_model": _saved_model,
    "onnx": _onnx,
    "openvino": _openvino,
    "litert": _litert,
}

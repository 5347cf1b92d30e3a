"""The writers of each format, by the format's own converter, whose output on the terminal is suppressed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ..common.chatter import quiet
from ..common.errors import InputError
from ..common.files import write_text
from ..models.model_file import card_text
from ..models.runtimes import CARD_KEY, ENCODED, ENCODED_INPUT, INPUT, SAVED_MODEL_CARD, output_name
from ..models.saved_model import SAVED_MODEL_FILE
from .decoding import decode
from .descriptions import TOP, described, model_api_info, write_onnx_properties
from .formats import DEFAULT, Options
from .precise import mark_precise, stay_as_written
from .prepare import ExportableModel
from .quantization import Calibration, quantize_onnx, quantize_openvino
from .tflite_metadata import add_metadata

FACTS = "description"  # the section of an IR's runtime information with the facts of `described`
SIGNATURE = "serving_default"
CLASSIFY = "classify"
EXAMPLE_KEY = "image/encoded"  # the image's key in a tf.Example, as written by TensorFlow's own tools


def write_saved_model(
    prepared: ExportableModel, path: Path, calibration: Calibration | None = None, options: Options = DEFAULT
) -> None:
    """Write a SavedModel with signatures for pixels, for encoded images and, with classes, for `:classify`."""
    del calibration, options
    # The module keeps the weights; each signature is a function of its own.
    module = tf.Module()
    module.weights = [variable.value for variable in prepared.exported.variables]
    card, gives = prepared.card, output_name(prepared.card)
    pixels = tf.TensorSpec([None, *card.size, 3], card.input_type, INPUT)

    @tf.function(input_signature=[pixels])
    def of_pixels(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {gives: prepared.exported(image, training=False)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, ENCODED_INPUT)])
    def of_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        def read(one: tf.Tensor) -> tf.Tensor:
            return tf.cast(decode(one, card.size, card.central_crop, card.value_range), pixels.dtype)

        images = tf.map_fn(read, image_bytes, fn_output_signature=pixels.dtype)
        outputs = of_pixels(tf.ensure_shape(images, pixels.shape))
        if card.classes:
            top = tf.math.top_k(outputs[gives], k=min(TOP, len(card.classes)))
            names = tf.constant([name.encode("utf-8", "surrogateescape") for name in card.classes])
            outputs |= {"classes": tf.gather(names, top.indices), "scores": top.values}
        return outputs

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def of_examples(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        found = tf.io.parse_example(inputs, {EXAMPLE_KEY: tf.io.FixedLenFeature([], tf.string)})
        outputs = of_bytes(found[EXAMPLE_KEY])
        return {key: outputs[key] for key in ("classes", "scores")}

    signatures = {SIGNATURE: of_pixels, ENCODED: of_bytes} | ({CLASSIFY: of_examples} if card.classes else {})
    # The card is an additional file, which other programs ignore.
    tf.saved_model.save(module, path, signatures=signatures)
    if card.classes:
        _serve_classify(path / SAVED_MODEL_FILE)
    (path / SAVED_MODEL_CARD).parent.mkdir()
    write_text(path / SAVED_MODEL_CARD, card_text(card))


def _serve_classify(file: Path) -> None:
    """Mark a signature as one for TensorFlow Serving's `:classify`; TensorFlow 2 marks all for `:predict`."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    saved.meta_graphs[0].signature_def[CLASSIFY].method_name = "tensorflow/serving/classify"
    file.write_bytes(saved.SerializeToString(deterministic=True))


def write_onnx(
    prepared: ExportableModel, path: Path, calibration: Calibration | None = None, options: Options = DEFAULT
) -> None:
    """Write an ONNX file with Keras and tf2onnx, then convert it to float16 or int8 if needed."""
    import onnx

    precision = prepared.card.precision
    # Keras cannot export a model that was never called.
    prepared.exported(np.zeros((1, *prepared.card.size, 3), prepared.card.input_type))
    with quiet(), _garbage_collected():
        prepared.exported.export(str(path), format="onnx", opset_version=options.opset, verbose=False)
    model = _named(onnx.load(path), output_name(prepared.card))
    if precision == "float16":
        model = _in_float16(model)
    elif precision == "int8":
        assert calibration is not None
        model = quantize_onnx(model, calibration, INPUT)
    onnx.helper.set_model_props(model, {CARD_KEY: card_text(prepared.card)})
    write_onnx_properties(model, prepared.card)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


@contextmanager
def _garbage_collected() -> Iterator[None]:
    """Within the block, Python frees reference cycles early, because tf2onnx copies graph and weights at each step.

    Python collects old objects only when a quarter as many are new, and TensorFlow has a million; frozen objects are
    not counted. For ResNet-v2 `slim`, the peak memory falls from 11 GB to 8 GB.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _named(model: Any, output: str) -> Any:
    """Name the input, the output and the batch axis of a model."""
    (takes,), (gives,) = model.graph.input, model.graph.output
    for node in model.graph.node:
        node.input[:] = [INPUT if name == takes.name else name for name in node.input]
        node.output[:] = [output if name == gives.name else name for name in node.output]
    takes.name, gives.name = INPUT, output
    for value in (takes, gives):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]
    return model


def _in_float16(model: Any) -> Any:
    """Convert a model to float16 from the first layer to the logits; pixels and probabilities stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    converted = OnnxModel(convert_float_to_float16(model, keep_io_types=True, op_block_list=["Softmax"]))
    converted.topological_sort()
    return converted.model


def write_openvino(
    prepared: ExportableModel, path: Path, calibration: Calibration | None = None, options: Options = DEFAULT
) -> None:
    """Write an OpenVINO IR, quantised or in a form that computes in float32 without settings if needed."""
    import openvino as ov

    del options

    plain = path.with_name(f"plain_{path.name}")
    with quiet():
        prepared.exported.export(str(plain), format="openvino", verbose=False)
    model = ov.Core().read_model(plain)
    model.input(0).tensor.set_names({INPUT})
    model.output(0).tensor.set_names({output_name(prepared.card)})
    if prepared.card.precision == "int8":
        assert calibration is not None
        model = quantize_openvino(model, calibration)
    if prepared.card.precision == "float32":
        stay_as_written(model)
    model.set_rt_info(card_text(prepared.card), [CARD_KEY])
    model.get_parameters()[0].set_layout(ov.Layout("NHWC"))
    for section, facts in (("model_info", model_api_info(prepared.card)), (FACTS, described(prepared.card))):
        for key, value in facts.items():
            model.set_rt_info(value, [section, key])
    ov.save_model(model, path, compress_to_fp16=prepared.card.precision == "float16")
    if prepared.card.precision == "float32":
        mark_precise(path)
    del model  # it may keep the plain file open
    for file in (plain, plain.with_suffix(".bin")):
        file.unlink()


def write_litert(
    prepared: ExportableModel, path: Path, calibration: Calibration | None = None, options: Options = DEFAULT
) -> None:
    """Write a .tflite file with the settings of LiteRT's converter for the precision, and add metadata."""
    import tensorflow as tf

    settings: dict[str, Any] = {}
    if prepared.card.precision == "float16":
        settings = {"optimizations": [tf.lite.Optimize.DEFAULT], "target_spec": {"supported_types": [tf.float16]}}
    elif prepared.card.precision == "int8":
        assert calibration is not None
        images, dtype = calibration.images, calibration.dtype
        if options.integer_only:
            images = np.concatenate([_all_values(images.shape[1:]), images])

        def pictures() -> Iterator[list[np.ndarray]]:
            for picture in images:
                yield [picture[None].astype(dtype)]

        builtins = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        settings = {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": pictures,
            "target_spec": {
                "supported_ops": builtins if options.integer_only else [*builtins, tf.lite.OpsSet.TFLITE_BUILTINS]
            },
        }
        if options.integer_only:
            settings |= {"inference_input_type": tf.uint8, "inference_output_type": tf.uint8}
    with quiet():
        prepared.exported.export(str(path), format="litert", verbose=False, **settings)
    if options.integer_only:
        _require_integers(path)
    add_metadata(path, prepared.card)


def _all_values(shape: tuple[int, ...]) -> np.ndarray:
    """An image with all pixel values, so that the quantised input has a step of 1 and starts at 0, like pixels."""
    return np.resize(np.arange(256, dtype=np.uint8), (1, *shape))


def _require_integers(path: Path) -> None:
    """Raise InputError if a tensor of a .tflite file is not of an integer type."""
    from ai_edge_litert.interpreter import Interpreter

    found = {row["dtype"].__name__ for row in Interpreter(model_path=str(path)).get_tensor_details()}
    if others := sorted(name for name in found if "int" not in name and name != "bool_"):
        raise InputError(
            f"integer_only: LiteRT computes some of the model's operations in {', '.join(others)}; leave it out"
        )


WRITERS: dict[str, Callable[[ExportableModel, Path, Calibration | None, Options], None]] = {
    "saved_model": write_saved_model,
    "onnx": write_onnx,
    "openvino": write_openvino,
    "litert": write_litert,
}

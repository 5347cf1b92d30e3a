"""Folders in the layouts of other model servers: Triton, OpenVINO Model Server, and TensorFlow Serving.

    triton      OUT/NAME/config.pbtxt, labels.txt, and in OUT/NAME/1 model.onnx, model.xml, or model.savedmodel/
    ovms        OUT/config.json, and OUT/NAME/1/model.xml with model.bin, or model.onnx
    tfserving   OUT/NAME/1/saved_model.pb with its other files

Names, types and shapes in a configuration are read from the exported file.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..common.arguments import is_unicode, one_of, path_of, positive_integer
from ..common.console import printable
from ..common.errors import InputError
from ..common.files import new_files, write_json, write_text
from .formats import FORMATS, FormatName

if TYPE_CHECKING:
    import keras

    from .check import Check

LayoutName = Literal["triton", "ovms", "tfserving"]
LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)
VERSION = "1"
LABELS = "labels.txt"
MOUNTED = "/models"  # the folder's path in the servers' containers
# By layout: the formats that the server runs, with the name that the exported file or folder must have.
FILES: dict[str, dict[str, str]] = {
    "triton": {"onnx": "model.onnx", "openvino": "model.xml", "saved_model": "model.savedmodel"},
    "ovms": {"openvino": "model.xml", "onnx": "model.onnx"},
    "tfserving": {"saved_model": ""},  # the version's folder itself
}
BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino", "saved_model": "tensorflow"}
PLATFORMS = {"onnx": "onnxruntime_onnx", "saved_model": "tensorflow_savedmodel"}
DELAY = 5000  # microseconds that Triton waits for a batch to fill; as in `serve`
TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "uint8": "TYPE_UINT8"}


@dataclass(frozen=True)
class Tensor:
    """An input or output of an exported file. shape: Starts with the batch; -1 for any size."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def check_layout(layout: str, format: str) -> None:
    """Raise InputError for an unknown layout, or a format that its server does not run."""
    one_of("layout", layout, LAYOUTS)
    if format not in FILES[layout]:
        raise InputError(f"layout: {layout} runs {' or '.join(FILES[layout])}, but format is {format!r}; give another")


def export_layout(
    model: keras.Model | str | PathLike[str],
    out: str | PathLike[str],
    format: FormatName,
    layout: LayoutName,
    *,
    name: str | None = None,
    max_batch: int = 8,
    **options: Any,
) -> Check:
    """Write an export as a folder for another model server, completely or not at all.

    Args:
        model: As for `export_model`.
        out: The folder to write, which must not exist. The figures of the comparison are written beside it.
        format: "openvino", "onnx" or "saved_model"; the layout's server must run it.
        layout: "triton", "ovms" or "tfserving".
        name: The name of the model on the server. None takes the name of its folder or file.
        max_batch: The maximum batch size that Triton forms from requests, at least 1.
        options: Arguments of `export_model`, except `model_card`.

    Returns:
        The comparison, as from `export_model`.

    Raises:
        ValueError: The layout's server does not run the format, `out` exists, or `export_model` raises it.
    """
    from ..models.open import display_name
    from .check import checksums
    from .export import export_model
    from .service import check_name, default_name

    # Check the arguments before the model is opened.
    check_layout(layout, format)
    if options.get("model_card"):
        raise InputError("model_card: a server's folder has no model card; export the model without a layout for one")
    positive_integer("max_batch", max_batch)
    chosen = check_name(default_name(display_name(model)) if name is None else name)
    place = path_of("out", out)
    if not is_unicode(str(place.absolute())):
        raise InputError(f"out: {place.absolute()}: is not a name in UTF-8, which the converters need; give another")
    if not place.parent.is_dir():
        raise InputError(f"out: {place.parent} is not a folder; create it first")
    figures = place.with_name(f"{place.name}.check.json")
    with new_files(figures, place) as folder:
        version = folder / place.name / chosen / VERSION
        version.mkdir(parents=True)
        file = f"export{FORMATS[format].suffix}"
        found = replace(export_model(model, folder / file, format, **options), path=str(place))
        # Move the export to its place in the layout; TensorFlow Serving wants the version's folder itself.
        artefact = version / FILES[layout][format]
        if artefact == version:
            version.rmdir()
        (folder / file).rename(artefact)
        if format == "openvino":
            (folder / file).with_suffix(".bin").rename(artefact.with_suffix(".bin"))
        if layout == "ovms":
            _configure_ovms(folder / place.name, chosen, format, artefact)
        elif layout == "triton":
            _configure_triton(folder / place.name / chosen, format, artefact, max_batch)
        found = replace(found, sha256=checksums(folder / place.name))
        write_json(folder / figures.name, found.as_json())
    return found


def _configure_ovms(root: Path, name: str, format: str, artefact: Path) -> None:
    """Write config.json, which names the model and its precision."""
    from ..models.model_file import ExportCard
    from ..models.runtimes import open_runtime

    entry: dict[str, Any] = {"name": name, "base_path": f"{MOUNTED}/{name}"}
    # As in the comparison: without it, the server may compute in bfloat16. It runs ONNX by OpenVINO too, but ONNX
    # Runtime, with which such a file was compared, multiplies in float32 in every precision.
    card, hint = open_runtime(artefact).card, "f32"
    if format == "openvino" and isinstance(card, ExportCard):
        hint = _HINTS.get(card.precision, hint)
    entry["plugin_config"] = {"INFERENCE_PRECISION_HINT": hint}
    write_json(root / "config.json", {"model_config_list": [{"config": entry}]})


_HINTS = {"float16": "f16", "bfloat16": "bf16"}


def _configure_triton(folder: Path, format: str, artefact: Path, max_batch: int) -> None:
    """Write config.pbtxt, and the labels that it names. A model with a fixed batch size is not batched."""
    from ..models.runtimes import open_runtime

    classes = open_runtime(artefact).card.classes
    takes, gives = _TENSORS[format](artefact)
    batches = takes.shape[0] == -1
    lines = [f"name: {_text(folder.name)}", f"backend: {_text(BACKENDS[format])}"]
    if format in PLATFORMS:
        lines.append(f"platform: {_text(PLATFORMS[format])}")
    lines.append(f"max_batch_size: {max_batch if batches else 0}")
    lines += _tensor("input", takes, batches)
    lines += _tensor("output", gives, batches, f"    label_filename: {_text(LABELS)}" if classes else "")
    if batches:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {DELAY} }}")
    write_text(folder / "config.pbtxt", "\n".join([*lines, ""]))
    if classes:
        write_text(folder / LABELS, "".join(f"{printable(each)}\n" for each in classes))


def _tensor(kind: str, tensor: Tensor, batches: bool, more: str = "") -> Sequence[str]:
    dims = ", ".join(map(str, tensor.shape[1:] if batches else tensor.shape))
    fields = [f"    name: {_text(tensor.name)}", f"    data_type: {TYPES[tensor.dtype]}", f"    dims: [ {dims} ]"]
    return [f"{kind} [", "  {", *fields, *([more] if more else []), "  }", "]"]


def _text(value: str) -> str:
    return json.dumps(value)  # for ASCII without control characters, JSON and protobuf text escape alike


def _of_onnx(path: Path) -> tuple[Tensor, Tensor]:
    import onnx

    graph = onnx.load(path, load_external_data=False).graph

    def tensor(value: Any) -> Tensor:
        kind = value.type.tensor_type
        shape = tuple(side.dim_value if side.HasField("dim_value") else -1 for side in kind.shape.dim)
        return Tensor(value.name, onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name, shape)

    return tensor(graph.input[0]), tensor(graph.output[0])


def _of_openvino(path: Path) -> tuple[Tensor, Tensor]:
    import openvino as ov

    model = ov.Core().read_model(path)

    def tensor(port: Any) -> Tensor:
        shape = tuple(-1 if side.is_dynamic else side.get_length() for side in port.partial_shape)
        return Tensor(port.any_name, port.element_type.to_dtype().name, shape)

    return tensor(model.input(0)), tensor(model.output(0))


def _of_saved_model(path: Path) -> tuple[Tensor, Tensor]:
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    from ..models.saved_model import SAVED_MODEL_FILE
    from .writers import SIGNATURE

    saved = saved_model_pb2.SavedModel.FromString((path / SAVED_MODEL_FILE).read_bytes())
    signature = saved.meta_graphs[0].signature_def[SIGNATURE]

    def tensor(name: str, info: Any) -> Tensor:
        return Tensor(name, tf.as_dtype(info.dtype).name, tuple(side.size for side in info.tensor_shape.dim))

    ((takes, info),), ((gives, result),) = signature.inputs.items(), signature.outputs.items()
    return tensor(takes, info), tensor(gives, result)


_TENSORS = {"onnx": _of_onnx, "openvino": _of_openvino, "saved_model": _of_saved_model}


def how_to_serve(out: Path, layout: str) -> str:
    """The command that runs the layout's server on a written folder."""
    folder = shlex.quote(printable(out.resolve()))
    image = {
        "triton": "-p 8000:8000 {mount} nvcr.io/nvidia/tritonserver:YY.MM-py3 tritonserver --model-repository=/models",
        "ovms": "-p 8000:8000 {mount} openvino/model_server --config_path /models/config.json --rest_port 8000",
        "tfserving": "-p 8501:8501 {mount} -e MODEL_NAME={name} tensorflow/serving",
    }[layout]
    name = next((each.name for each in sorted(out.iterdir()) if each.is_dir()), "model")
    return "docker run " + image.format(mount=f"-v {folder}:{MOUNTED}:ro", name=name)

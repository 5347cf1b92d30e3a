"""A model that runs: a run's, or an exported one, each by the one library that it needs and no other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..arguments import positive_integer
from ..devices import use_gpus
from ..errors import InputError
from ..saving import Card, ExportCard, load_model, parse_card
from .compiled import cache_for
from .runtime import (
    CARD_KEY,
    ENCODED,
    ENCODED_INPUT,
    INPUT,
    NO_CARD,
    OUTPUT,
    SAVED_MODEL_CARD,
    SAVED_MODEL_FILE,
    Runtime,
    card_of_archive,
    card_of_file,
    check,
    dimensions,
    opened,
    required,
)
from .saved_models import refuse_unsafe

MODEL_FILE = "model.keras"
MAX_XML = 256 * 1024**2  # fifty times an Inception-ResNet's


class KerasRuntime(Runtime):
    """A run's model, by Keras on the engine it is set to, with the threads that it started with."""

    kind = "keras"

    def _open(self) -> Card:
        self.model, card = load_model(self.path)
        from ..features import channels_first

        self._first = channels_first(self.model)
        return card

    def _run(self, images: np.ndarray) -> np.ndarray:
        if self._first:
            images = np.moveaxis(images, -1, 1)
        return np.asarray(self.model(images, training=False))


class SavedModelRuntime(Runtime):
    """A SavedModel, by TensorFlow without Keras; where that has begun to compute, with the threads that it has."""

    kind = "saved_model"

    def _open(self) -> Card:
        card = card_of_file(self.path, self.path / SAVED_MODEL_CARD)
        tf = required("tensorflow", "cpu")
        if self.threads is not None:
            use_threads(self.threads)
        use_gpus()
        refuse_unsafe(self.path)
        self._loaded = opened(self.path, lambda: tf.saved_model.load(self.path))  # its signature does not hold it
        try:
            self._signature = self._loaded.signatures["serving_default"]
            takes = self._signature.structured_input_signature[1][INPUT].shape
            gives = self._signature.structured_outputs[OUTPUT].shape
        except (KeyError, AttributeError, IndexError) as error:
            raise InputError(f"{self.path}: has no signature serving_default as it is exported here: {error}") from None
        check(self.path, card, takes.as_list(), gives.as_list())
        self._tensor = tf.constant
        return card

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self._signature(**{INPUT: self._tensor(images)})[OUTPUT].numpy()

    def run_encoded(self, contents: Sequence[bytes]) -> np.ndarray:
        """What the model says of JPEG or PNG files' bytes, which it decodes and resizes itself."""
        return self._loaded.signatures[ENCODED](**{ENCODED_INPUT: self._tensor(contents)})[OUTPUT].numpy()


class OpenVinoRuntime(Runtime):
    """An OpenVINO IR (.xml beside its .bin) on the CPU, computed in the precision that it was exported in."""

    kind = "openvino"
    # By precision the hint, and what a CPU tells that has it. Left alone, it computes float32 in bfloat16 where it can,
    # and float16 too where it has none: then float32 is right.
    HALVES: ClassVar = {"float16": ("f16", "FP16"), "bfloat16": ("bf16", "BF16")}

    def _open(self) -> Card:
        ov = required("openvino", "openvino")
        weights = self.path.with_suffix(".bin")
        if not weights.is_file():
            raise InputError(f"{self.path}: its weights are missing: {weights.name} belongs beside it")
        if self.path.stat().st_size > MAX_XML:
            raise InputError(f"{self.path}: has more than the {MAX_XML // 1024**2} MiB that a network's graph can have")
        core = ov.Core()
        model = opened(self.path, lambda: core.read_model(self.path))
        if not model.has_rt_info([CARD_KEY]):
            raise InputError(f"{self.path}: {NO_CARD}")
        text = opened(self.path, lambda: model.get_rt_info([CARD_KEY]).astype(str))
        card = parse_card(self.path, text, ExportCard)
        check(self.path, card, dimensions(model.input(0)), dimensions(model.output(0)))
        hint, has = self.HALVES.get(card.precision, ("f32", "FP32"))
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": hint if has in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32",
        }
        if self.threads is not None:
            settings["INFERENCE_NUM_THREADS"] = self.threads
        self._request = self._compiled(core, model, settings).create_infer_request()
        return card

    def _compiled(self, core: Any, model: Any, settings: dict[str, Any]) -> Any:
        if (cache := cache_for(self.path)) is not None:
            kept = {"CACHE_DIR": str(cache), "CACHE_MODE": "OPTIMIZE_SIZE"}  # without the weights
            with suppress(RuntimeError):  # a full disk, or what OpenVINO does not catch: then without
                return core.compile_model(self.path, "CPU", settings | kept)  # by path: else it finds none of these
        return opened(self.path, lambda: core.compile_model(model, "CPU", settings))

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self._request.infer([images], share_inputs=True)[0]


class OnnxRuntime(Runtime):
    """An ONNX file, by ONNX Runtime on the CPU."""

    kind = "onnx"

    def _open(self) -> Card:
        ort = required("onnxruntime", "onnx")
        options = ort.SessionOptions()
        options.log_severity_level = 3  # its warnings are for builders
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        self._session = opened(
            self.path, lambda: ort.InferenceSession(str(self.path), options, ["CPUExecutionProvider"])
        )
        text = self._session.get_modelmeta().custom_metadata_map.get(CARD_KEY)
        if text is None:
            raise InputError(f"{self.path}: {NO_CARD}")
        card = parse_card(self.path, text, ExportCard)
        takes, gives = self._session.get_inputs()[0], self._session.get_outputs()[0]
        check(self.path, card, takes.shape, gives.shape)
        self._takes, self._gives = takes.name, gives.name
        return card

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self._session.run([self._gives], {self._takes: images})[0]


class LiteRtRuntime(Runtime):
    """A .tflite file, by LiteRT (TensorFlow Lite's present name) on the CPU."""

    kind = "litert"

    def _open(self) -> Card:
        card = card_of_archive(self.path)
        litert = required("ai_edge_litert.interpreter", "litert")
        threads = self.threads or _cores()  # by itself it takes one
        self._interpreter = opened(
            self.path, lambda: litert.Interpreter(model_path=str(self.path), num_threads=threads)
        )
        takes, gives = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        check(self.path, card, takes["shape_signature"].tolist(), gives["shape_signature"].tolist())
        self._takes, self._gives, self._batch = takes["index"], gives["index"], 0
        return card

    def _run(self, images: np.ndarray) -> np.ndarray:
        if len(images) != self._batch:
            self._interpreter.resize_tensor_input(self._takes, images.shape, strict=True)
            self._interpreter.allocate_tensors()
            self._batch = len(images)
        self._interpreter.set_tensor(self._takes, images)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._gives)


def _cores() -> int:
    """How many this process may use: in a container fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


RUNTIMES: dict[str, type[Runtime]] = {
    ".keras": KerasRuntime,
    ".xml": OpenVinoRuntime,
    ".onnx": OnnxRuntime,
    ".tflite": LiteRtRuntime,
}


def open_model(path: str | os.PathLike[str], *, threads: int | None = None) -> Runtime:
    """Opens a model to be run, with the library of its format alone.

    Args:
        path: A run's folder or a .keras file of one; or what `export_model` wrote: a SavedModel's
            folder, a .onnx, an OpenVINO .xml with its .bin beside it, or a .tflite.
        threads: How many the runtime computes with; None for its own choice. A SavedModel's are
            TensorFlow's, set where that has computed nothing yet; Keras keeps those it has.

    Raises:
        InputError: The file is missing, damaged, of no such format or carries no card, or the
            format's library is not installed; the message says which extra brings it.
    """
    if threads is not None:
        threads = positive_integer("threads", threads)
    runtime, found = find_model(path)
    return runtime(found, threads)


def use_threads(count: int) -> bool:
    """Sets how many threads TensorFlow computes with; False where it has begun, and keeps those it has."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(count)
        tf.config.threading.set_inter_op_parallelism_threads(count)
    except RuntimeError:
        return False
    return True


def find_model(path: str | os.PathLike[str]) -> tuple[type[Runtime], Path]:
    """What opens a path, and the file or folder that it opens; InputError where there is no model. Reads nothing."""
    path = Path(path)
    if path.is_dir():
        if (path / SAVED_MODEL_FILE).is_file():
            return SavedModelRuntime, path
        path = path / MODEL_FILE
    runtime = RUNTIMES.get(path.suffix.lower())
    if runtime is None or not path.is_file():
        raise InputError(f"{path}: {_what_is_needed(path)}")
    return runtime, path


def _what_is_needed(path: Path) -> str:
    if path.suffix == ".bin" and path.with_suffix(".xml").is_file():
        return f"holds weights only; open {path.with_suffix('.xml').name} beside it"
    found = "is of no format that is run here" if path.exists() else "there is no such file"
    return f"{found}; a run's folder, a SavedModel's folder, or a file ending in {', '.join(RUNTIMES)} is needed"

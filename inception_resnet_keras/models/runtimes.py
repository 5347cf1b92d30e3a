"""Runs saved and exported models: one class each for Keras, SavedModel, ONNX, OpenVINO and LiteRT."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from hashlib import sha256
from lzma import LZMAError
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, ClassVar

import numpy as np

from ..common.arguments import boolean, is_unicode, positive_integer
from ..common.chatter import hushed
from ..common.console import counted
from ..common.devices import is_out_of_memory, usable_cores, use_gpus
from ..common.errors import NO_MEMORY, InputError, NoMemoryError, refuse
from ..common.packages import required
from ..weights.runs import MEMBER, MODEL_FILE, model_of_run, read_member
from .model_file import Card, ExportCard, load_model, parse_card
from .saved_model import SAVED_MODEL_FILE, refuse_unknown_operations

# OpenVINO's compiled models are cached, because compiling an int8 model takes longer than the rest of `predict`.

KEPT = 32  # cached models, of about 3 MB each without weights
_PRIVATE = 0o700  # permissions of the cache's folders


def cache_for(xml: Path) -> Path | None:
    """The user's private cache folder for one model in its present state; None if there can be none.

    It is in $XDG_CACHE_HOME, or in ~/.cache. OpenVINO itself detects cached files that are damaged or come from another
    version or processor, and compiles again.
    """
    try:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        root = Path(base, "inception-resnet-keras", "openvino")
        root.mkdir(_PRIVATE, parents=True, exist_ok=True)
        if not (_is_own(root.parent) and _is_own(root)):
            return None
        weights = xml.with_suffix(".bin").stat()
        key = sha256(xml.read_bytes())
        key.update(f"{weights.st_size} {weights.st_mtime_ns} {xml.absolute()}".encode("utf-8", "surrogateescape"))
        folder = root / key.hexdigest()[:32]
        if not folder.is_dir():
            _make_room(root)
            folder.mkdir(_PRIVATE, exist_ok=True)
        return folder if _is_own(folder) and os.access(folder, os.W_OK) else None
    except (OSError, RuntimeError):  # no home folder, no space, or no permission
        return None


def _is_own(folder: Path) -> bool:
    """Whether no other user can write in the folder, because its content is executed."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return False
    return os.name != "posix" or (found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _make_room(root: Path) -> None:
    """Remove the oldest folders, so that with a new one there are at most `KEPT`."""
    folders = sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for folder in folders[: len(folders) + 1 - KEPT]:
        with suppress(OSError):
            shutil.rmtree(folder)


SAVED_MODEL_CARD = Path("assets.extra") / MEMBER  # a folder that TensorFlow Serving ignores
CARD_KEY = "inception_resnet_keras"  # in an ONNX file's metadata and an IR's runtime information
INPUT, OUTPUT, EMBEDDING = "image", "probabilities", "embedding"
ENCODED = "encoded"  # a SavedModel's signature for the bytes of JPEG and PNG files
ENCODED_INPUT = "image_bytes"  # TensorFlow Serving's REST API expects base64 for names that end in _bytes
_LITERT_HAS_NO_MEMORY = "failed with error '12'"  # in a ValueError about memory-mapping the file


def output_name(card: Card) -> str:
    """The name of an export's output, in every format."""
    return OUTPUT if card.gives_classes else EMBEDDING


NO_CARD = (
    "has no class names: it was not exported by `inception-resnet-keras export`, "
    "or was changed by a tool that drops them"
)


class Runtime(ABC):
    """An opened model. Any thread may run it, but calls are computed one after another.

    A server that computes several calls at once opens one runtime per thread.

    Attributes:
        kind: "keras", "saved_model", "onnx", "openvino" or "litert".
        path: The file or folder.
        card: The model's classes and image size.
    """

    kind: ClassVar[str]

    def __init__(self, path: Path, threads: int | None = None, trust: bool = False) -> None:
        self.path, self.threads, self.trust = path, threads, trust
        self._turn = Lock()  # a format's request or interpreter holds the tensors of one call
        self.card: Card = self._guarded(self._open)

    def run(self, images: np.ndarray) -> np.ndarray:
        """The model's outputs for images.

        Args:
            images: RGB pixels of 0-255, (n, height, width, 3), of any real dtype and the card's size; n is at least 1.

        Returns:
            Probabilities, float32 (n, classes); or embeddings, float32 (n, width).

        Raises:
            InputError: `images` has another shape, the file is damaged, or there is not enough memory.
        """
        shape = (*self.card.size, 3)
        if not isinstance(images, np.ndarray) or images.ndim != 4 or images.shape[1:] != shape or not len(images):
            found = f"an array of shape {images.shape}" if isinstance(images, np.ndarray) else images
            raise refuse("images", found, f"an array of shape (n, {', '.join(map(str, shape))}), n at least 1")
        taken = self._taken(images)
        with self._turn:  # guarded too: a damaged file may open and fail only here
            outputs = self._guarded(lambda: self._run(taken))
            return np.array(outputs, np.float32)  # a copy, because the array may be the runtime's own memory

    def _taken(self, images: np.ndarray) -> np.ndarray:
        """The images in the dtype that the model takes."""
        if not isinstance(self.card, ExportCard) or self.card.input_type == "float32":
            return np.ascontiguousarray(images, np.float32)
        if images.dtype != np.uint8:
            images = np.clip(np.rint(images), 0, 255)
        return np.ascontiguousarray(images, np.uint8)

    def _guarded(self, work: Callable[[], Any]) -> Any:
        """The result of work with the format's library, whose errors for a damaged file become InputError."""
        return guarded(self.path, work)

    @abstractmethod
    def _open(self) -> Card:
        """Open `path` and return its card, which is read as early as the format allows."""

    @abstractmethod
    def _run(self, images: np.ndarray) -> np.ndarray:
        """The outputs for checked images in the card's dtype."""


def guarded(path: Path, work: Callable[[], Any]) -> Any:
    """The result of work on a file. A library's errors become InputError, or NoMemoryError if memory ran out."""
    try:
        return work()
    except (InputError, ImportError):  # already clear, or not the file's fault
        raise
    except Exception as error:  # each library has its own errors, some raise a plain RuntimeError
        if is_out_of_memory(error) or _LITERT_HAS_NO_MEMORY in str(error):
            raise NoMemoryError(f"{path}: {NO_MEMORY}") from error
        if not is_unicode(str(path.absolute())):
            raise InputError(f"{path}: its name is not UTF-8, which the format's library needs; rename it") from None
        lines = str(error).strip().splitlines()
        reason = lines[-1].strip() if lines else type(error).__name__
        raise InputError(f"{path}: is damaged, or in a newer version of the format: {reason}") from error


def read_file_card(path: Path, card: Path) -> ExportCard:
    """Read the card of an export from the file `card` in it."""
    if not card.is_file():
        raise InputError(f"{path}: {NO_CARD}")
    with card.open("rb") as file:
        return parse_card(path, file.read(16 * 1024**2 + 1), ExportCard)


def read_archive_card(path: Path) -> ExportCard:
    """Read the card of an export from the zip archive at its end."""
    try:
        text = read_member(path)
    except (KeyError, zipfile.BadZipFile):
        raise InputError(f"{path}: {NO_CARD}") from None
    except (RuntimeError, zlib.error, LZMAError, EOFError, OSError) as error:  # encrypted, or unknown compression
        raise InputError(f"{path}: is damaged: its card cannot be read ({error})") from None
    return parse_card(path, text, ExportCard)


def dimensions(port: Any) -> list[int | None]:
    """The shape of an OpenVINO input or output; None for a dynamic axis."""
    return [None if axis.is_dynamic else axis.get_length() for axis in port.partial_shape]


def check_card(path: Path, card: Card, takes: Sequence[Any], gives: Sequence[Any]) -> None:
    """Raise InputError if the model's input or output is not the one that its card describes."""
    fits = list(takes[1:]) == [*card.size, 3] and len(gives) == 2
    if fits and card.gives_classes:
        fits = gives[1] == len(card.classes)
    if not fits:
        raise InputError(
            f"{path}: is damaged: its card describes {counted(len(card.classes), 'class')} and pictures of "
            f"{card.size[0]}×{card.size[1]}, but its model is {tuple(takes)} → {tuple(gives)}"
        )


MAX_XML = 256 * 1024**2  # bytes, fifty times an Inception-ResNet's


class KerasRuntime(Runtime):
    """A run's model, run by Keras on its configured backend, with that backend's threads."""

    kind = "keras"

    def _open(self) -> Card:
        self.model, card = load_model(self.path)
        from ..networks.recognise import channels_first

        self._first = channels_first(self.model)
        return card

    def _guarded(self, work: Callable[[], Any]) -> Any:
        return work()  # `load_model` already reports a damaged file; later errors are not the file's fault

    def _run(self, images: np.ndarray) -> np.ndarray:
        if self._first:
            images = np.moveaxis(images, -1, 1)
        import keras

        return keras.ops.convert_to_numpy(self.model(images, training=False))


class SavedModelRuntime(Runtime):
    """A SavedModel, run by TensorFlow without Keras. If TensorFlow is already in use, it keeps its threads."""

    kind = "saved_model"

    def _open(self) -> Card:
        card = read_file_card(self.path, self.path / SAVED_MODEL_CARD)
        tf = required("tensorflow", "this SavedModel")
        if self.threads is not None:
            use_threads(self.threads)
        use_gpus()
        if not self.trust:
            refuse_unknown_operations(self.path)
        # The model is kept, because the signature alone does not keep it alive.
        self._loaded = tf.saved_model.load(self.path)
        try:
            self._signature = self._loaded.signatures["serving_default"]
            takes = self._signature.structured_input_signature[1][INPUT].shape
            ((self._gives, result),) = self._signature.structured_outputs.items()
            gives = result.shape
        except (KeyError, AttributeError, IndexError, ValueError) as error:
            raise InputError(f"{self.path}: has no signature serving_default like those of `export`: {error}") from None
        check_card(self.path, card, takes.as_list(), gives.as_list())
        self._tensor = tf.constant
        return card

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self._signature(**{INPUT: self._tensor(images)})[self._gives].numpy()

    def run_encoded(self, contents: Sequence[bytes]) -> np.ndarray:
        """The model's outputs for the bytes of JPEG or PNG files, which it decodes and resizes itself."""
        return self._loaded.signatures[ENCODED](**{ENCODED_INPUT: self._tensor(contents)})[self._gives].numpy()


class OpenVinoRuntime(Runtime):
    """An OpenVINO IR (.xml and .bin) on the CPU, in the precision of its export.

    `computes_in_float32_instead` is whether it was exported in a half precision that this CPU does not support.
    """

    kind = "openvino"
    # For each half precision OpenVINO's hint, and the capability of a CPU that supports it. Without a hint, OpenVINO
    # computes float32 in bfloat16 if the CPU supports it, and also float16 on a CPU without it; float32 is then right.
    HALVES: ClassVar = {"float16": ("f16", "FP16"), "bfloat16": ("bf16", "BF16")}

    def _open(self) -> Card:
        ov = required("openvino", "an OpenVINO model")
        weights = self.path.with_suffix(".bin")
        if not weights.is_file():
            raise InputError(f"{self.path}: its weights are missing: put {weights.name} beside it")
        if self.path.stat().st_size > MAX_XML:
            raise InputError(f"{self.path}: has more than {MAX_XML // 1024**2} MiB, which no network's graph needs")
        from openvino.frontend import FrontEndManager

        # Core.read_model would try every format that it knows, so that an .xml could be a TensorFlow graph.
        reader = FrontEndManager().load_by_framework("ir")
        core, model = ov.Core(), reader.convert(reader.load(self.path))
        if not model.has_rt_info([CARD_KEY]):
            raise InputError(f"{self.path}: {NO_CARD}")
        text = model.get_rt_info([CARD_KEY]).astype(str)
        card = parse_card(self.path, text, ExportCard)
        check_card(self.path, card, dimensions(model.input(0)), dimensions(model.output(0)))
        # Compute in the precision of the export if this CPU supports it, otherwise in float32.
        hint, has = self.HALVES.get(card.precision, ("f32", "FP32"))
        if has not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            hint = "f32"
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
        if self.threads is not None:
            settings["INFERENCE_NUM_THREADS"] = self.threads
        compiled = self._compiled(core, model, settings)
        taken = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.computes_in_float32_instead = card.precision in self.HALVES and taken == "f32"
        self._request = compiled.create_infer_request()
        return card

    def _compiled(self, core: Any, model: Any, settings: dict[str, Any]) -> Any:
        if (cache := cache_for(self.path)) is not None:
            kept = {"CACHE_DIR": str(cache), "CACHE_MODE": "OPTIMIZE_SIZE"}  # the cache has no weights
            with suppress(RuntimeError):  # the disk is full, or the cache is damaged: compile without it
                return core.compile_model(self.path, "CPU", settings | kept)  # the cache works only with a path
        return core.compile_model(model, "CPU", settings)

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self._request.infer([images], share_inputs=True)[0]


class OnnxRuntime(Runtime):
    """An ONNX file, run by ONNX Runtime on the CPU."""

    kind = "onnx"

    def _open(self) -> Card:
        ort = required("onnxruntime", "an ONNX model")
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors only: its warnings are for authors of models
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        with TemporaryDirectory() as empty:  # a file may refer to others with its weights; none of them is read
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", empty)
            self._session = ort.InferenceSession(str(self.path), options, ["CPUExecutionProvider"], enable_fallback=0)
        text = self._session.get_modelmeta().custom_metadata_map.get(CARD_KEY)
        if text is None:
            raise InputError(f"{self.path}: {NO_CARD}")
        card = parse_card(self.path, text, ExportCard)
        takes, gives = self._session.get_inputs()[0], self._session.get_outputs()[0]
        check_card(self.path, card, takes.shape, gives.shape)
        self._takes, self._gives = takes.name, gives.name
        return card

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self._session.run([self._gives], {self._takes: images})[0]


class LiteRtRuntime(Runtime):
    """A .tflite file, run by LiteRT (formerly TensorFlow Lite) on the CPU."""

    kind = "litert"

    def _open(self) -> Card:
        card = read_archive_card(self.path)
        litert = required("ai_edge_litert.interpreter", "a .tflite model")
        threads = self.threads or usable_cores()  # its own default is one
        self._interpreter = litert.Interpreter(model_path=str(self.path), num_threads=threads)
        takes, gives = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        check_card(self.path, card, takes["shape_signature"].tolist(), gives["shape_signature"].tolist())
        self._takes, self._gives, self._batch = takes["index"], gives["index"], 0
        self._scale, self._zero = gives["quantization"]  # for a whole-integer file; otherwise the scale is 0
        return card

    def _run(self, images: np.ndarray) -> np.ndarray:
        if len(images) != self._batch:
            self._interpreter.resize_tensor_input(self._takes, images.shape, strict=True)
            with hushed() if self._batch == 0 else nullcontext():  # at the first call it prints a note
                self._interpreter.allocate_tensors()
            self._batch = len(images)
        self._interpreter.set_tensor(self._takes, images)
        self._interpreter.invoke()
        found = self._interpreter.get_tensor(self._gives)
        return (found.astype(np.float32) - self._zero) * self._scale if self._scale else found


RUNTIMES: dict[str, type[Runtime]] = {
    ".keras": KerasRuntime,
    ".xml": OpenVinoRuntime,
    ".onnx": OnnxRuntime,
    ".tflite": LiteRtRuntime,
}


def open_runtime(path: str | os.PathLike[str], *, threads: int | None = None, trust: bool = False) -> Runtime:
    """Open a model with the library of its format only.

    Args:
        path: A run's folder or its .keras file; or an exported model: a SavedModel's folder, a .onnx file, an OpenVINO
            .xml file with its .bin beside it, or a .tflite file.
        threads: Number of threads, at least 1; None for the library's own choice. For a SavedModel they are set only
            if TensorFlow has not computed anything yet; Keras keeps its own.
        trust: Whether to load a SavedModel with operations that `export_model` does not write. Such a file can run any
            program, so pass True only if you trust whoever made it.

    Raises:
        InputError: The file is missing, damaged, in another format or has no card; a SavedModel has other operations
            and `trust` is False; or the format's library is not installed (the message names the extra).
    """
    if threads is not None:
        threads = positive_integer("threads", threads)
    runtime, found = find_runtime(path)
    return runtime(found, threads, boolean("trust", trust))


def run_in_batches(run: Callable[[np.ndarray], Any], images: Any, size: int) -> np.ndarray:
    """The outputs of a model for images, as float64.

    All batches have `size` images, the last one with repeated images: each size would need its own graph.

    Args:
        run: The model, from float32 pixels (size, height, width, 3) to outputs (size, outputs).
        images: An array or another sequence of images, (n, height, width, 3), n at least 1, that can be sliced.
        size: The batch size.
    """
    found = []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        filled = np.resize(batch, (size, *batch.shape[1:])).astype(np.float32)
        found.append(np.asarray(run(filled))[: len(batch)])
    return np.concatenate(found).astype(np.float64)


def use_threads(count: int) -> bool:
    """Set TensorFlow's number of threads. Returns False if TensorFlow is already in use and keeps its own."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(count)
        tf.config.threading.set_inter_op_parallelism_threads(count)
    except RuntimeError:
        return False
    return True


def find_runtime(path: str | os.PathLike[str]) -> tuple[type[Runtime], Path]:
    """The runtime class for a path, and the file or folder that it opens. Opens no model.

    Raises InputError if there is no model, or if a run's folder has the model of another run.
    """
    path = Path(path)
    if path.is_dir():
        if (path / SAVED_MODEL_FILE).is_file():
            return SavedModelRuntime, path
        path = model_of_run(path) or path / MODEL_FILE
    runtime = RUNTIMES.get(path.suffix.lower())
    if runtime is None or not path.is_file():
        raise InputError(f"{path}: {_what_is_needed(path)}")
    return runtime, path


def holds_model(folder: Path) -> bool:
    """Whether a folder is a SavedModel or a run's folder."""
    return (folder / SAVED_MODEL_FILE).is_file() or model_of_run(folder) is not None


def _what_is_needed(path: Path) -> str:
    if path.suffix == ".bin" and path.with_suffix(".xml").is_file():
        return f"has only weights; open {path.with_suffix('.xml').name} beside it"
    found = "is in no supported format" if path.exists() else "there is no such file"
    return f"{found}; give a run's folder, a SavedModel's folder, or a file ending in {', '.join(RUNTIMES)}"

"""Exported models and how each format is run: Keras, SavedModel, ONNX, OpenVINO and LiteRT, one class each."""

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

# OpenVINO keeps what it compiled: compiling an int8 model takes longer than everything else that `predict` does.

KEPT = 32  # models, of about 3 MB each: no weights are in it
_PRIVATE = 0o700


def cache_for(xml: Path) -> Path | None:
    """A folder of the user's own for one model as it is now; None where none can be had, which hurts nothing.

    It lies in $XDG_CACHE_HOME, else ~/.cache. OpenVINO tells by itself what another version or processor wrote, or
    what is damaged, and compiles anew.
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
    except (OSError, RuntimeError):  # no home, no room, no right
        return None


def _is_own(folder: Path) -> bool:
    """Whether no other user can put anything there: what is compiled is run."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        return False
    return os.name != "posix" or (found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _make_room(root: Path) -> None:
    """Removes the folders that are oldest, so that with a new one there are no more than `KEPT`."""
    folders = sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for folder in folders[: len(folders) + 1 - KEPT]:
        with suppress(OSError):
            shutil.rmtree(folder)


SAVED_MODEL_CARD = Path("assets.extra") / MEMBER  # where TensorFlow Serving leaves alone what it finds
CARD_KEY = "inception_resnet_keras"  # of an ONNX file's metadata, and of an IR's runtime information
INPUT, OUTPUT, EMBEDDING = "image", "probabilities", "embedding"
ENCODED = "encoded"  # a SavedModel's signature of JPEG and PNG files' bytes
ENCODED_INPUT = "image_bytes"  # TensorFlow Serving's REST takes base64 where a name ends so
_LITERT_HAS_NO_MEMORY = "failed with error '12'"  # of a file that is mapped, as a ValueError


def output_name(card: Card) -> str:
    """What the output of an export is called, in every format."""
    return OUTPUT if card.gives_classes else EMBEDDING


NO_CARD = (
    "holds no class names: it was not exported by `inception-resnet-keras export`, "
    "or was changed by a tool that leaves them out"
)


class Runtime(ABC):
    """An opened model, which any thread may run: calls are computed one after another.

    A server that is to compute several at once opens one for each thread.

    kind: "keras", "saved_model", "onnx", "openvino" or "litert".
    path: what was opened.
    card: its classes and the size of the pictures it takes.
    """

    kind: ClassVar[str]

    def __init__(self, path: Path, threads: int | None = None, trust: bool = False) -> None:
        self.path, self.threads, self.trust = path, threads, trust
        self._turn = Lock()  # requests and interpreters hold one call's tensors at a time
        self.card: Card = self._guarded(self._open)

    def run(self, images: np.ndarray) -> np.ndarray:
        """What the model says of pictures.

        Args:
            images: (n, height, width, 3), RGB pixels of 0-255 of any real dtype, of the card's size; n at least 1.

        Returns:
            float32 (n, classes), probabilities; or (n, width of the embedding).

        Raises:
            InputError: The pictures are of another shape, the file is damaged, or the memory does not suffice.
        """
        shape = (*self.card.size, 3)
        if not isinstance(images, np.ndarray) or images.ndim != 4 or images.shape[1:] != shape or not len(images):
            found = f"an array of shape {images.shape}" if isinstance(images, np.ndarray) else images
            raise refuse("images", found, f"an array of shape (n, {', '.join(map(str, shape))}), n at least 1")
        taken = self._taken(images)
        with self._turn:  # a damaged file may open, and fail only when it is run
            outputs = self._guarded(lambda: self._run(taken))
            return np.array(outputs, np.float32)  # a copy: what a runtime gives may be its own memory

    def _taken(self, images: np.ndarray) -> np.ndarray:
        """The pictures in the type that the model takes."""
        if not isinstance(self.card, ExportCard) or self.card.input_type == "float32":
            return np.ascontiguousarray(images, np.float32)
        if images.dtype != np.uint8:
            images = np.clip(np.rint(images), 0, 255)
        return np.ascontiguousarray(images, np.uint8)

    def _guarded(self, work: Callable[[], Any]) -> Any:
        """The result of work with the format's library, whose errors on a damaged file become InputErrors."""
        return guarded(self.path, work)

    @abstractmethod
    def _open(self) -> Card:
        """Opens `path` and returns its card, which is read as early as the format lets."""

    @abstractmethod
    def _run(self, images: np.ndarray) -> np.ndarray:
        """Of checked pictures, of the card's type."""


def guarded(path: Path, work: Callable[[], Any]) -> Any:
    """The result of work on a file; any error of a library becomes an InputError, and lack of memory NoMemoryError."""
    try:
        return work()
    except (InputError, ImportError):  # the one says what is wrong, the other that the file is not
        raise
    except Exception as error:  # each library has its own, down to plain RuntimeError
        if is_out_of_memory(error) or _LITERT_HAS_NO_MEMORY in str(error):
            raise NoMemoryError(f"{path}: {NO_MEMORY}") from error
        if not is_unicode(str(path.absolute())):
            raise InputError(f"{path}: is no name in UTF-8, which the format's library needs; rename it") from None
        lines = str(error).strip().splitlines()
        reason = lines[-1].strip() if lines else type(error).__name__
        raise InputError(f"{path}: is damaged, or of a newer format than is known here: {reason}") from error


def read_file_card(path: Path, card: Path) -> ExportCard:
    if not card.is_file():
        raise InputError(f"{path}: {NO_CARD}")
    with card.open("rb") as file:
        return parse_card(path, file.read(16 * 1024**2 + 1), ExportCard)


def read_archive_card(path: Path) -> ExportCard:
    try:
        text = read_member(path)
    except (KeyError, zipfile.BadZipFile):
        raise InputError(f"{path}: {NO_CARD}") from None
    except (RuntimeError, zlib.error, LZMAError, EOFError, OSError) as error:  # encrypted, or of no known compression
        raise InputError(f"{path}: is damaged: its card cannot be read ({error})") from None
    return parse_card(path, text, ExportCard)


def dimensions(port: Any) -> list[int | None]:
    return [None if axis.is_dynamic else axis.get_length() for axis in port.partial_shape]


def check_card(path: Path, card: Card, takes: Sequence[Any], gives: Sequence[Any]) -> None:
    """Raises InputError where the model is not the one that its card tells of."""
    fits = list(takes[1:]) == [*card.size, 3] and len(gives) == 2
    if fits and card.gives_classes:
        fits = gives[1] == len(card.classes)
    if not fits:
        raise InputError(
            f"{path}: is damaged: its card tells of {counted(len(card.classes), 'class')} of pictures of "
            f"{card.size[0]}×{card.size[1]}, its model is {tuple(takes)} → {tuple(gives)}"
        )


MAX_XML = 256 * 1024**2  # fifty times an Inception-ResNet's


class KerasRuntime(Runtime):
    """A run's model, by Keras on the engine it is set to, with the threads that it started with."""

    kind = "keras"

    def _open(self) -> Card:
        self.model, card = load_model(self.path)
        from ..networks.recognise import channels_first

        self._first = channels_first(self.model)
        return card

    def _guarded(self, work: Callable[[], Any]) -> Any:
        return work()  # `load_model` names what is wrong with a file, and what then fails is no fault of it

    def _run(self, images: np.ndarray) -> np.ndarray:
        if self._first:
            images = np.moveaxis(images, -1, 1)
        import keras

        return keras.ops.convert_to_numpy(self.model(images, training=False))


class SavedModelRuntime(Runtime):
    """A SavedModel, by TensorFlow without Keras; where that has begun to compute, with the threads that it has."""

    kind = "saved_model"

    def _open(self) -> Card:
        card = read_file_card(self.path, self.path / SAVED_MODEL_CARD)
        tf = required("tensorflow", "this SavedModel")
        if self.threads is not None:
            use_threads(self.threads)
        use_gpus()
        if not self.trust:
            refuse_unknown_operations(self.path)
        # Kept: the signature alone does not hold it.
        self._loaded = tf.saved_model.load(self.path)
        try:
            self._signature = self._loaded.signatures["serving_default"]
            takes = self._signature.structured_input_signature[1][INPUT].shape
            ((self._gives, result),) = self._signature.structured_outputs.items()
            gives = result.shape
        except (KeyError, AttributeError, IndexError, ValueError) as error:
            raise InputError(f"{self.path}: has no signature serving_default as it is exported here: {error}") from None
        check_card(self.path, card, takes.as_list(), gives.as_list())
        self._tensor = tf.constant
        return card

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self._signature(**{INPUT: self._tensor(images)})[self._gives].numpy()

    def run_encoded(self, contents: Sequence[bytes]) -> np.ndarray:
        """What the model says of JPEG or PNG files' bytes, which it decodes and resizes itself."""
        return self._loaded.signatures[ENCODED](**{ENCODED_INPUT: self._tensor(contents)})[self._gives].numpy()


class OpenVinoRuntime(Runtime):
    """An OpenVINO IR (.xml beside its .bin) on the CPU, computed in the precision that it was exported in.

    computes_in_float32_instead: Whether it was exported in half precision that this CPU has no instructions for.
    """

    kind = "openvino"
    # By precision the hint, and what a CPU tells that has it. Left alone, it computes float32 in bfloat16 where it can,
    # and float16 too where it has none: then float32 is right.
    HALVES: ClassVar = {"float16": ("f16", "FP16"), "bfloat16": ("bf16", "BF16")}

    def _open(self) -> Card:
        ov = required("openvino", "an OpenVINO model")
        weights = self.path.with_suffix(".bin")
        if not weights.is_file():
            raise InputError(f"{self.path}: its weights are missing: {weights.name} belongs beside it")
        if self.path.stat().st_size > MAX_XML:
            raise InputError(f"{self.path}: has more than the {MAX_XML // 1024**2} MiB that a network's graph can have")
        from openvino.frontend import FrontEndManager

        # Not Core.read_model: that tries every format it knows, so an .xml could be a TensorFlow graph.
        reader = FrontEndManager().load_by_framework("ir")
        core, model = ov.Core(), reader.convert(reader.load(self.path))
        if not model.has_rt_info([CARD_KEY]):
            raise InputError(f"{self.path}: {NO_CARD}")
        text = model.get_rt_info([CARD_KEY]).astype(str)
        card = parse_card(self.path, text, ExportCard)
        check_card(self.path, card, dimensions(model.input(0)), dimensions(model.output(0)))
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
            kept = {"CACHE_DIR": str(cache), "CACHE_MODE": "OPTIMIZE_SIZE"}  # without the weights
            with suppress(RuntimeError):  # a full disk, or what OpenVINO does not catch: then without
                return core.compile_model(self.path, "CPU", settings | kept)  # by path: else it finds none of these
        return core.compile_model(model, "CPU", settings)

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self._request.infer([images], share_inputs=True)[0]


class OnnxRuntime(Runtime):
    """An ONNX file, by ONNX Runtime on the CPU."""

    kind = "onnx"

    def _open(self) -> Card:
        ort = required("onnxruntime", "an ONNX model")
        options = ort.SessionOptions()
        options.log_severity_level = 3  # its warnings are for builders
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        with TemporaryDirectory() as empty:  # a file may name others that hold its weights: none is read
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
    """A .tflite file, by LiteRT (TensorFlow Lite's present name) on the CPU."""

    kind = "litert"

    def _open(self) -> Card:
        card = read_archive_card(self.path)
        litert = required("ai_edge_litert.interpreter", "a .tflite model")
        threads = self.threads or usable_cores()  # by itself it takes one
        self._interpreter = litert.Interpreter(model_path=str(self.path), num_threads=threads)
        takes, gives = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        check_card(self.path, card, takes["shape_signature"].tolist(), gives["shape_signature"].tolist())
        self._takes, self._gives, self._batch = takes["index"], gives["index"], 0
        self._scale, self._zero = gives["quantization"]  # of a whole-integer file; a scale of 0 where it is none
        return card

    def _run(self, images: np.ndarray) -> np.ndarray:
        if len(images) != self._batch:
            self._interpreter.resize_tensor_input(self._takes, images.shape, strict=True)
            with hushed() if self._batch == 0 else nullcontext():  # it notes how it computes, the first time
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
    """Opens a model to be run, with the library of its format alone.

    Args:
        path: A run's folder or a .keras file of one; or what `export_model` wrote: a SavedModel's
            folder, a .onnx, an OpenVINO .xml with its .bin beside it, or a .tflite.
        threads: How many the runtime computes with; None for its own choice. A SavedModel's are
            TensorFlow's, set where that has computed nothing yet; Keras keeps those it has.
        trust: Whether to load a SavedModel that holds operations which `export_model` does not write. Such a file
            can run any program, so pass True only if you trust whoever made it.

    Raises:
        InputError: The file is missing, damaged, of no such format or carries no card, a SavedModel holds other
            operations and `trust` is False, or the format's library is not installed; the message says which extra
            brings it.
    """
    if threads is not None:
        threads = positive_integer("threads", threads)
    runtime, found = find_runtime(path)
    return runtime(found, threads, boolean("trust", trust))


def use_threads(count: int) -> bool:
    """Sets how many threads TensorFlow computes with; False where it has begun, and keeps those it has."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(count)
        tf.config.threading.set_inter_op_parallelism_threads(count)
    except RuntimeError:
        return False
    return True


def find_runtime(path: str | os.PathLike[str]) -> tuple[type[Runtime], Path]:
    """What opens a path, and the file or folder that it opens. Opens no model.

    Raises InputError where there is no model, or a run's folder holds the model of another run.
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
    """Whether a folder is a SavedModel's or a run's."""
    return (folder / SAVED_MODEL_FILE).is_file() or model_of_run(folder) is not None


def _what_is_needed(path: Path) -> str:
    if path.suffix == ".bin" and path.with_suffix(".xml").is_file():
        return f"holds weights only; open {path.with_suffix('.xml').name} beside it"
    found = "is of no format that is run here" if path.exists() else "there is no such file"
    return f"{found}; a run's folder, a SavedModel's folder, or a file ending in {', '.join(RUNTIMES)} is needed"

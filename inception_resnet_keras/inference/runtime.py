"""What every runtime shares: the interface, where an exported model carries its card, how one is refused."""

from __future__ import annotations

import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import import_module
from lzma import LZMAError
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError, refuse
from ..memory import is_out_of_memory
from ..saving import MEMBER, Card, ExportCard, parse_card, read_member

SAVED_MODEL_FILE = "saved_model.pb"
SAVED_MODEL_CARD = Path("assets.extra") / MEMBER  # where TensorFlow Serving leaves alone what it finds
CARD_KEY = "inception_resnet_keras"  # of an ONNX file's metadata, and of an IR's runtime information
INPUT, OUTPUT = "image", "output"
ENCODED = "encoded"  # a SavedModel's signature of JPEG and PNG files' bytes
ENCODED_INPUT = "image_bytes"  # TensorFlow Serving's REST takes base64 where a name ends so
_LITERT_HAS_NO_MEMORY = "failed with error '12'"  # of a file that is mapped, as a ValueError
NO_CARD = (
    "holds no class names: it was not exported by `inception-resnet-keras export`, "
    "or was changed by a tool that leaves them out"
)


class NoMemoryError(InputError, MemoryError):
    """The machine has not the memory that a model takes."""


class Runtime(ABC):
    """An opened model, which any thread may run: calls are computed one after another.

    A server that is to compute several at once opens one for each thread.

    kind: "keras", "saved_model", "onnx", "openvino" or "litert".
    path: what was opened.
    card: its classes and the size of the pictures it takes.
    """

    kind: ClassVar[str]

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path, self.threads = path, threads
        self._turn = Lock()  # requests and interpreters hold one call's tensors at a time
        self.card: Card = self._open()

    def run(self, images: np.ndarray) -> np.ndarray:
        """What the model says of pictures.

        Args:
            images: (n, height, width, 3), RGB pixels of 0-255 of any real dtype, of the card's size; n at least 1.

        Returns:
            float32 (n, classes), probabilities; or (n, width of the embedding).
        """
        shape = (*self.card.size, 3)
        if not isinstance(images, np.ndarray) or images.ndim != 4 or images.shape[1:] != shape or not len(images):
            found = f"an array of shape {images.shape}" if isinstance(images, np.ndarray) else images
            raise refuse("images", found, f"an array of shape (n, {', '.join(map(str, shape))}), n at least 1")
        taken = np.ascontiguousarray(images, np.float32)
        with self._turn:
            return np.array(self._run(taken), np.float32)  # a copy: what a runtime gives may be its own memory

    @abstractmethod
    def _open(self) -> Card:
        """Opens `path` and returns its card, which is read as early as the format lets."""

    @abstractmethod
    def _run(self, images: np.ndarray) -> np.ndarray:
        """Of checked float32 pictures."""


def required(module: str, extra: str) -> Any:
    library = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != library:
            raise
        raise InputError(
            f"{library} is not installed, which runs this format: pip install 'inception-resnet-keras[{extra}]'"
        ) from None


def opened(path: Path, opening: Callable[[], Any]) -> Any:
    """What a library opens; whatever it throws at a damaged file is told as an InputError, a lack of memory as that."""
    try:
        return opening()
    except Exception as error:  # each library has its own, down to plain RuntimeError
        if is_out_of_memory(error) or _LITERT_HAS_NO_MEMORY in str(error):
            raise NoMemoryError(
                f"{path}: the memory does not suffice to open it; end other programs, or give the machine or "
                "container more"
            ) from error
        lines = str(error).strip().splitlines()
        reason = lines[-1].strip() if lines else type(error).__name__
        raise InputError(f"{path}: is damaged, or of a newer format than is known here: {reason}") from error


def card_of_file(path: Path, card: Path) -> ExportCard:
    if not card.is_file():
        raise InputError(f"{path}: {NO_CARD}")
    with card.open("rb") as file:
        return parse_card(path, file.read(16 * 1024**2 + 1), ExportCard)


def card_of_archive(path: Path) -> ExportCard:
    try:
        text = read_member(path)
    except (KeyError, zipfile.BadZipFile):
        raise InputError(f"{path}: {NO_CARD}") from None
    except (RuntimeError, zlib.error, LZMAError, EOFError, OSError) as error:  # encrypted, or of no known compression
        raise InputError(f"{path}: is damaged: its card cannot be read ({error})") from None
    return parse_card(path, text, ExportCard)


def dimensions(port: Any) -> list[int | None]:
    return [None if axis.is_dynamic else axis.get_length() for axis in port.partial_shape]


def check(path: Path, card: Card, takes: Sequence[Any], gives: Sequence[Any]) -> None:
    """Raises InputError where the model is not the one that its card tells of."""
    fits = list(takes[1:]) == [*card.size, 3] and len(gives) == 2
    if fits and card.gives_classes:
        fits = gives[1] == len(card.classes)
    if not fits:
        raise InputError(
            f"{path}: is damaged: its card tells of {len(card.classes)} classes of pictures of "
            f"{card.size[0]}×{card.size[1]}, its model is {tuple(takes)} → {tuple(gives)}"
        )

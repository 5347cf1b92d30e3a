"""A `.keras` file with a card, which has what a user of the model must know; written whole or not at all."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from ..common.arguments import is_integer, is_number, value_range_of
from ..common.console import counted, json_text
from ..common.devices import is_out_of_memory, use_gpus
from ..common.errors import NO_MEMORY, InputError, NoMemoryError, reason_of
from ..common.files import read_text, replacing
from ..weights.runs import CARD_BYTES, MEMBER, model_of_run, read_member

if TYPE_CHECKING:
    import keras

_LONGEST_SIDE = 65_535
_NO_TEXTS = ("classes", "size", "central_crop", "epoch", "value_range", "thresholds")
Precision = Literal["float32", "float16", "bfloat16", "int8"]
Output = Literal["probabilities", "embedding"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
InputType = Literal["float32", "uint8"]
INPUT_TYPES: tuple[InputType, ...] = get_args(InputType)


@dataclass(frozen=True)
class Card:
    """What a user of a model must know.

    Attributes:
        network, variant: The table that the model was built from.
        classes: Class names in the order of the model's outputs.
        size: (height, width) in pixels to which images are resized. The model takes pixels of 0-255, because it was
            built with include_preprocessing=True.
        central_crop: Share of each side, around the centre, that is cropped before resizing, as in the run's
            evaluation; 1 for the whole image.
        run: Identity of the run that saved the model, also in the run's config.json; "" if unknown.
        epoch: Number of the epoch after which the run saved it, from 1; 0 if unknown.
        value_range: The values that became 0 and 255 in the run's images of more than 8 bits; None without such images.
        thresholds: For a model with several labels per image, one per class, in [0, 1]: a label is predicted if its
            probability is at least its threshold. Empty if each image has one class.
    """

    network: str
    variant: str
    classes: list[str]
    size: tuple[int, int]
    central_crop: float = 1.0
    run: str = ""
    epoch: int = 0
    value_range: tuple[float, float] | None = None
    thresholds: Sequence[float] = ()

    @property
    def gives_classes(self) -> bool:
        """Whether the output is one probability per class, not an embedding."""
        return True

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several of the classes, or none."""
        return len(self.thresholds) > 0


@dataclass(frozen=True)
class ExportCard(Card):
    """The card of an exported model.

    Attributes:
        precision: The precision in which it computes.
        output: "probabilities", one per class (independent ones if the network ends in sigmoids); or "embedding",
            without classes.
        input_type: The dtype of its pixels.
        weights_sha256: SHA-256 of the Keras model's weights, in its order, as little-endian float32; "" if unknown.
        made_by: The programs that wrote it, with versions.
    """

    precision: Precision = "float32"
    output: Output = "probabilities"
    input_type: InputType = "float32"
    weights_sha256: str = ""
    made_by: str = ""

    @property
    def gives_classes(self) -> bool:
        return self.output == "probabilities"


CardKind = TypeVar("CardKind", bound=Card)


def save_model(model: keras.Model, path: Path, card: Card) -> None:
    """Write a model and its card. A file at `path` is kept until the new one is completely on the disk."""
    with replacing(path) as beside:
        model.save(beside)
        with zipfile.ZipFile(beside, "a") as archive:
            archive.writestr(MEMBER, card_text(card))


def read_card(path: Path) -> Card:
    """Read the card of a saved model, without opening the model.

    Raises InputError if the file is missing or damaged, or was not saved by this package.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; give a run's folder or the model.keras in it")
    try:
        return parse_card(path, read_member(path))
    except KeyError:
        raise InputError(
            f"{path}: has no class names; it was not saved by `inception-resnet-keras train`, or was saved again by "
            "Keras, which drops them"
        ) from None
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path}: is damaged or not a .keras file ({error})") from None


def card_text(card: Card) -> str:
    """A card as JSON text."""
    return json_text(asdict(card))


def parse_card(path: Path, text: str | bytes, kind: type[CardKind] = Card) -> CardKind:  # type: ignore[assignment]
    """Parse the text of a card in the file `path`. Raises InputError if it is not a valid card."""
    try:
        if len(text) > CARD_BYTES:
            raise ValueError(f"its card has {len(text):,} bytes")
        # Cards of earlier versions lack these fields; those models were evaluated on whole images with one class each.
        earlier = {"central_crop": 1.0, "run": "", "epoch": 0, "value_range": None, "thresholds": []}
        earlier |= {"input_type": "float32", "weights_sha256": "", "made_by": ""}
        found = {**earlier, **json.loads(text)}
        # The file may be hostile: every field is checked before it is used.
        values = {field.name: found[field.name] for field in fields(kind)}
        card = kind(**values)
        if not isinstance(card.classes, list) or not all(isinstance(name, str) for name in card.classes):
            raise TypeError("its class names are not strings")
        if not card.classes and card.gives_classes:
            raise TypeError("it has no class names")
        if not all(isinstance(values[key], str) for key in values if key not in _NO_TEXTS):
            raise TypeError("a name in it is not a string")
        if isinstance(card, ExportCard) and (card.precision not in PRECISIONS or card.output not in get_args(Output)):
            raise TypeError(f"its output is {card.output!r} in {card.precision!r}")
        if isinstance(card, ExportCard) and card.input_type not in INPUT_TYPES:
            raise TypeError(f"its input type is {card.input_type!r}")
        height, width = card.size
        if not all(is_integer(side) and 0 < side <= _LONGEST_SIDE for side in (height, width)):
            raise TypeError(f"its size is {card.size!r}")
        if not is_integer(card.epoch) or card.epoch < 0:
            raise TypeError(f"its epoch is {card.epoch!r}")
        if not is_number(card.central_crop) or not 0 < card.central_crop <= 1:
            raise TypeError(f"its central_crop is {card.central_crop!r}")
        value_range = None if card.value_range is None else value_range_of("its value_range", card.value_range)
        thresholds = list(card.thresholds)
        if len(thresholds) not in (0, len(card.classes)) or not all(is_number(t) and 0 <= t <= 1 for t in thresholds):
            raise TypeError(f"its thresholds are {thresholds!r:.100}")
    except KeyError as error:
        raise InputError(f"{path}: has no class names: its card lacks {error}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is damaged: its card cannot be read ({error})") from None
    return replace(card, size=(height, width), value_range=value_range, thresholds=tuple(thresholds))


def load_model(path: Path, *, compile: bool = False) -> tuple[keras.Model, Card]:
    """Load the model of a file or a run's folder, and its card; with `compile` also the optimizer's state.

    Raises InputError if the file is missing or damaged, or was not saved by this package.
    """
    path = model_of_run(path) or path
    card = read_card(path)
    model = _loaded(path, compile)
    if not _fits(model, card):
        raise InputError(
            f"{path}: is damaged: its {MEMBER} describes {counted(len(card.classes), 'class')} and pictures of "
            f"{card.size[0]}×{card.size[1]}, but its model is {model.input_shape} → {model.output_shape}"
        )
    return model, card


def has_card(path: Path) -> bool:
    """Whether a file is a .keras file of this package; False for a file that is not a zip archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return MEMBER in archive.namelist()
    except PermissionError:
        raise  # the file is not damaged, and its owner can grant access
    except (zipfile.BadZipFile, OSError):
        return False


def read_card_if_any(path: Path) -> Card | None:
    """The card of a .keras file that this package wrote; None for a file that Keras wrote."""
    return read_card(path) if has_card(path) or not path.is_file() else None


def read_run_config(path: Path) -> dict[str, Any]:
    """Read a run's config.json: its settings under `config`, the values derived from them, and its identity.

    Raises InputError if it is missing or damaged.
    """
    try:
        stored = json.loads(read_text(path))
        if not isinstance(stored, dict) or not isinstance(stored.get("config"), dict):
            raise TypeError("it has no table `config`")
        if not isinstance(stored.get("run", ""), str):
            raise TypeError("the run's identity is not a string")
    except FileNotFoundError:
        raise InputError(f"{path.parent}: is not a run's folder: it has no {path.name}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise damaged_run_config(path, error) from None
    return stored


def damaged_run_config(path: Path, error: Exception) -> InputError:
    return InputError(f"{path}: is damaged or from another program ({error!r:.200})")


def has_graph(path: Path) -> bool:
    """Whether a file is a Keras model with its graph, not only weights: a .keras file, or a whole model's .h5."""
    if not path.is_file():
        return False
    try:
        if path.suffix.lower() == ".keras":
            with zipfile.ZipFile(path) as archive:
                return {"config.json", "model.weights.h5"} <= set(archive.namelist())
        if path.suffix.lower() in (".h5", ".hdf5"):
            from ..weights.readers.hdf5 import open_hdf5

            with open_hdf5(path) as file:
                return "model_config" in file.attrs
    except PermissionError:
        raise  # the file is not damaged, and its owner can grant access
    except (zipfile.BadZipFile, OSError, RuntimeError):
        pass  # damaged: reading the file will report it
    return False


def load_keras_model(path: Path, card: Card | None = None) -> keras.Model:
    """Load a saved Keras model. Raises InputError if it cannot be read, or if its card does not describe it."""
    return _loaded(path) if card is None else load_model(path)[0]


def _loaded(path: Path, compile: bool = False) -> keras.Model:
    import keras

    from ..weights.readers.hdf5 import check_keras

    # Files that would make Keras fail without a clear message, or never end, are refused first.
    if path.suffix.lower() == ".keras" and not zipfile.is_zipfile(path):
        raise InputError(f"{path}: is not a Keras model: it is not a zip archive, so it is damaged or truncated")
    if keras.config.backend() == "tensorflow":
        use_gpus()
    if has_graph(path):
        from .keras2 import load_keras2, written_by_keras2

        if written_by_keras2(path):
            return load_keras2(path)
    if path.suffix.lower() == ".keras":
        check_keras(path)
    try:
        with _layers_of_applications():
            return keras.saving.load_model(path, compile=compile)
    except RecursionError:
        raise InputError(f"{path}: cannot be read as a Keras model: its layers are nested too deeply") from None
    except Exception as error:  # on a damaged file, Keras and HDF5 may raise any error, even a plain RuntimeError
        if is_out_of_memory(error):
            raise NoMemoryError(f"{path}: {NO_MEMORY}") from error
        raise InputError(f"{path}: cannot be read as a Keras model: {reason_of(error)}") from error


def _layers_of_applications() -> keras.saving.CustomObjectScope:
    """A scope with the only layer that keras.applications defines: .h5 files have its name without its module."""
    import keras
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    return keras.saving.CustomObjectScope({"CustomScaleLayer": CustomScaleLayer})


def _fits(model: keras.Model, card: Card) -> bool:
    """Whether a model has the input and output that its card describes."""
    from ..networks.recognise import image_size

    return (
        isinstance(model.input_shape, tuple)
        and len(model.input_shape) == 4
        and image_size(model) == card.size
        and model.output_shape == (None, len(card.classes))
    )

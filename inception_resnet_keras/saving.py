"""A `.keras` file with what a user of the model must know inside it, written whole or not at all."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError
from .files import replacing

if TYPE_CHECKING:
    import keras

MEMBER = "inception_resnet_keras.json"  # beside Keras's own members, which Keras reads alone
_CARD_BYTES = 16 * 1024**2


@dataclass(frozen=True)
class Card:
    """What must be known to use a model.

    network, variant: whose table it was built from.
    classes: names, in the order of the model's outputs.
    size: (height, width) that pictures are resized to.
    preprocessing: "in the model" (it takes pixels of 0-255), or the convention its input must be in.
    """

    network: str
    variant: str
    classes: list[str]
    size: tuple[int, int]
    preprocessing: str = "in the model"


def save_model(model: keras.Model, path: Path, card: Card) -> None:
    """Writes a model and its card; whatever `path` held stays until the new file is whole on the disk."""
    with replacing(path) as beside:
        model.save(beside)
        with zipfile.ZipFile(beside, "a") as archive:
            archive.writestr(MEMBER, json.dumps(asdict(card), ensure_ascii=False))


def read_card(path: Path) -> Card:
    """The card of a saved model, without opening the model.

    Raises InputError where the file is missing, damaged, or was not saved by this project.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; a run's folder or a model.keras of a run is needed")
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(MEMBER)
            if member.file_size > _CARD_BYTES:
                raise InputError(f"{path}: its {MEMBER} claims {member.file_size:,} bytes; it is damaged")
            found = json.loads(archive.read(member))
        card = Card(**{field.name: found[field.name] for field in fields(Card)})
        if not all(isinstance(name, str) for name in card.classes):
            raise TypeError("class names")
        height, width = (int(side) for side in card.size)
    except KeyError:
        raise InputError(f"{path}: holds no class names; it was not saved by `inception-resnet-keras train`") from None
    except (zipfile.BadZipFile, TypeError, ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is damaged or no .keras file ({error})") from None
    return Card(card.network, card.variant, list(card.classes), (height, width), card.preprocessing)


def load_model(path: Path, *, compile: bool = False) -> tuple[keras.Model, Card]:
    """A saved model and its card; `compile` brings the optimizer's state too.

    Raises InputError where the file is missing, damaged, or was not saved by this project.
    """
    card = read_card(path)
    import keras

    try:
        return keras.saving.load_model(path, compile=compile), card
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as a Keras model: {error}") from error

"""Published weights: resolves a registered name to a file that fits the model, and downloads it.

The files are listed in `weights.toml`. If a publisher gives no hash, the SHA-256 of the first download is written
beside the file, and later uses must match it.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from .. import networks
from ..common.errors import InputError, refuse
from ..common.packages import required
from ..networks import names
from ..networks.recognise import NetworkDescription, Shape, recognise
from . import download
from .labels import label_offset
from .sources import drops_background

NewHead = Literal[False, True, "aux"]
CACHE = "models/inception-resnet-keras"  # below Keras's folder
TABLE = Path(__file__).with_name("weights.toml")


@dataclass(frozen=True)
class Weights:
    """One published file: an entry of `weights.toml`, whose first lines explain the fields."""

    location: str
    network: str
    variant: str
    licence: str
    hash: str | None = None
    classes: int | None = None
    preprocessing: str = "inception"
    size: int = 299
    crop: float | None = None
    crop_mode: str = "squash"
    interpolation: str = "bilinear"
    accuracy: Mapping[str, float] | None = None
    aux_head: bool = False

    @property
    def label_offset(self) -> int | None:
        """The output for ImageNet's first class: 1 if output 0 is "background", otherwise 0; None for other classes."""
        return label_offset(self.classes)


_TYPES: dict[str, Any] = {"classes": int, "size": int, "crop": float, "accuracy": dict, "aux_head": bool}

_PATTERNS = {
    "location": r"https://\S+|hub:[^/\s]+/[^/\s]+/\S+",
    "hash": r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}",
    "crop_mode": "squash|center",
    "interpolation": "bilinear|bicubic",
}


def read_table(path: Path) -> tuple[dict[str, Weights], dict[str, tuple[str, ...]]]:
    """The published files by name, and the aliases, each with its files in order of preference.

    Raises:
        InputError: The table does not have the form that its first lines explain. The message names the entry.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if unknown := table.keys() - {"files", "aliases"}:
        raise InputError(f"{path}: has {', '.join(sorted(unknown))}; it takes files and aliases")
    files = {name: _entry(path, name, entry) for name, entry in table.get("files", {}).items()}
    aliases = {name: tuple(meant) for name, meant in table.get("aliases", {}).items()}
    for name, meant in aliases.items():
        if not meant or name in files or not set(meant) <= set(files):
            raise InputError(f"{path}: alias {name!r} means {list(meant)}; it takes names of files and must be none")
    return files, aliases


def _entry(path: Path, name: str, entry: Mapping[str, Any]) -> Weights:
    wrong = [key for key in entry if key not in {field.name for field in fields(Weights)}]
    wrong += [field.name for field in fields(Weights) if field.default is MISSING and field.name not in entry]
    wrong += [key for key, value in entry.items() if type(value) is not _TYPES.get(key, str)]
    wrong += [key for key, form in _PATTERNS.items() if key in entry and not re.fullmatch(form, str(entry[key]))]
    if not wrong:
        weights = Weights(**entry)
        table = networks.NETWORKS.get(weights.network, {}).get(weights.variant)
        if table is None:
            wrong = ["network", "variant"]
        elif (weights.preprocessing, weights.size) != (table.preprocessing.name, table.size):
            wrong = ["preprocessing", "size"]
        else:
            return weights
    raise InputError(f"{path}: file {name!r}: {', '.join(dict.fromkeys(wrong))} is missing, unknown or out of range")


WEIGHTS, _ALIASES = read_table(TABLE)
NAMES = (*_ALIASES, *WEIGHTS)


def files_of(name: str) -> tuple[str, ...]:
    """The full names of a name's files, in order of preference. Raises InputError for an unknown name."""
    if name not in NAMES:
        longer = [known for known in NAMES if name and known.startswith(name)]
        near = longer or difflib.get_close_matches(name, NAMES, 1, cutoff=0.5)
        raise refuse(
            "weights",
            name,
            f"{f'{near[0]!r} perhaps: ' if near else ''}None, the path of a checkpoint, or "
            f"{', '.join(map(repr, NAMES))}",
        )
    return _ALIASES.get(name, (name,))


def resolve(name: str, model: Mapping[str, Shape], new_head: NewHead = False) -> Weights:
    """Choose the file for a name and a model.

    Args:
        name: A registered name.
        model: The shapes of the model's weights, by `layer/variable`.
        new_head: As for `load_weights`.

    Raises:
        InputError: The name is unknown, or none of its files fits. The message says which variant the name needs, or
            how to load it with a new head. Nothing is downloaded.
    """
    # The network and its depths must be those of a file.
    files = [WEIGHTS[file] for file in files_of(name)]
    found = recognise(model)
    fitting = [file for file in files if found and (file.network, file.variant) == (found.name, found.variant)]
    if found is None or not fitting:
        raise _needs(name, files, found)
    if "depths" in found.network_options():
        own = networks.depths(networks.find(found.name, found.variant))[: len(found.depths)]
        raise InputError(
            f"weights: {name!r} is for a network with {own} blocks, and the model has {found.depths}: leave depths "
            "out, or give weights=None"
        )
    # The heads that are to be loaded must be in the file.
    classes = None if new_head is True else found.classes
    has_aux = any(names.place(key) == names.AUX for key in model)
    aux_head = has_aux and not new_head
    having_aux = [file for file in fitting if file.aux_head or not aux_head]
    serving = [file for file in having_aux if classes is None or _serves(file.classes, classes)]
    if not serving:
        raise _another_head(name, fitting, classes, having_aux=bool(having_aux))
    # Of several files, prefer the one with the most that is needed, then the smallest.
    if new_head is True and has_aux:
        serving.sort(key=lambda file: not file.aux_head)  # all but the last layer of the auxiliary head is loaded
    elif classes is None:
        serving.sort(key=lambda file: file.classes is not None)  # without a classifier it is smaller
    else:
        serving.sort(key=lambda file: file.classes != classes)
    return serving[0]


def _serves(stored: int | None, wanted: int) -> bool:
    """Whether a file's classifier fits: the same number of classes, or one more, the background."""
    return stored == wanted or drops_background(stored, wanted)


def _another_head(name: str, files: list[Weights], classes: int | None, *, having_aux: bool) -> InputError:
    build = f"build the model with weights=None, then load_weights(model, {name!r}, new_head="
    if not having_aux:
        return InputError(f"weights: {name!r} has no auxiliary head; for a new one, {build}'aux')")
    published = sorted({file.classes for file in files if file.classes is not None})
    return InputError(
        f"weights: {name!r} has {' or '.join(map(str, published))} classes, and the model {classes}: "
        f"num_classes={published[0]} keeps the file's; for a new classifier, {build}True)"
    )


def _needs(name: str, files: list[Weights], found: NetworkDescription | None) -> InputError:
    family = [file for file in files if found and file.network == found.name]
    fits = dict.fromkeys(f'create_{file.network}(variant="{file.variant}")' for file in family or files)
    got = f"{found.name} ({found.variant})" if found else "a network that is not in the tables"
    return InputError(f"weights: {name!r} does not fit {got}: it was trained with {' or '.join(fits)}")


def fetch(name: str, model: Mapping[str, Shape], new_head: NewHead = False) -> Path:
    """The path of a name's file, which is downloaded into Keras's cache if it is missing, and verified."""
    weights = resolve(name, model, new_head)
    if weights.location.startswith("hub:"):
        return _from_hub(weights.location)
    return download.fetch(weights.location, CACHE, weights.hash)


def _from_hub(location: str) -> Path:
    """A file of the Hugging Face hub, whose library has its own cache and verifies its downloads."""
    repository, _, file = location.removeprefix("hub:").rpartition("/")
    hub = required("huggingface_hub", repository)
    try:
        return Path(hub.hf_hub_download(repository, file))
    except Exception as error:  # network libraries have no common error class
        page = f"https://huggingface.co/{repository}/resolve/main/{file}"
        raise InputError(
            f"weights: {repository} could not be downloaded ({error}). Fetch {page} and give its path as weights=, "
            f"or fill the hub's own cache: hf download {repository} {file}"
        ) from error

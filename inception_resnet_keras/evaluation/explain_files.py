"""Explanations of picture files by a saved model, drawn."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import positive_integer
from ..data.images import UnreadableImageError, read_image
from ..errors import InputError, refuse
from ..inference.predict import expand
from ..inference.runtimes import MODEL_FILE
from ..saving import MEMBER, load_model
from ..spec import names
from .overlays import draw

if TYPE_CHECKING:
    import keras

    from .explain import Explanation

STEEP = 0.05  # share of the score's difference that steps may miss before more are advised


@dataclass(frozen=True)
class Drawn:
    """A picture and what was drawn of it: `out`, or why there is none."""

    path: str
    out: Path | None
    what: str = ""
    explanation: Explanation | None = None
    error: str | None = None

    @property
    def hint(self) -> str:
        """What to say where too few steps were taken; empty where they suffice."""
        found = self.explanation
        if found is None or abs(found.gap) <= STEEP * abs(found.difference):
            return ""
        return f"the gradients miss {found.gap:+.2g} of a difference of {found.difference:.2g}: give more --steps"


@dataclass(frozen=True)
class _Opened:
    """classes: None of a model that carries none. size: (height, width). first: whether its channels come first.

    crop: the share of each side of a picture that it looks at.
    """

    model: keras.Model
    classes: list[str] | None
    size: tuple[int, int]
    first: bool
    crop: float = 1.0

    def looked_at(self, file: Path) -> tuple[np.ndarray, np.ndarray]:
        """Its input, uint8 (*size, 3), and the part of the picture that it is made of, at its own size."""
        picture = read_image(file)
        top, left = (round(side * (1 - self.crop) / 2) for side in picture.shape[:2])
        part = picture[top : picture.shape[0] - top, left : picture.shape[1] - left]
        return read_image(file, self.size, crop=self.crop), part

    def input_of(self, picture: np.ndarray) -> np.ndarray:
        """float32 (1, …), as the model takes it, of uint8 (height, width, 3)."""
        from ..data.preprocessing import preprocess_input

        layers = {layer.name for layer in self.model.layers}
        pixels = picture[None].astype(np.float32)
        if names.PREPROCESS not in layers:
            pixels = preprocess_input(picture[None], _table(layers).preprocessing.name)
        return np.moveaxis(pixels, -1, 1) if self.first else pixels


def explain_files(
    model: Path,
    images: Sequence[Path],
    *,
    out: Path,
    class_name: str | None = None,
    against: Path | None = None,
    endpoint: str | None = None,
    steps: int | None = None,
) -> list[Drawn]:
    """Draws why a saved model says what it says of pictures.

    Args:
        model: A run's folder, or a .keras file of a model of this project.
        images: Files, and folders that stand for the pictures in them.
        out: The folder to write `NAME_explained.png` to, made where it is not there.
        class_name: The class to explain, by name or number; None for each picture's likeliest.
        against: Of an embedding's model: the picture to compare with.
        endpoint: The map that Grad-CAM reads, as `features.endpoints` names it; None as `explain` has it.
        steps: Of integrated gradients; None for 32.

    Returns:
        One a file, in order; a file that cannot be read has an error.

    Raises:
        InputError: The model cannot be opened or explained, a file is missing, or one would be written over.
    """
    if steps is not None:
        positive_integer("steps", steps)
    files = expand(images)
    targets = _targets(files, out)
    opened = _open(model / MODEL_FILE if model.is_dir() else model)
    from .explain import STEPS, explain

    options: dict[str, Any] = {"endpoint": endpoint, "steps": steps or STEPS}
    if class_name is not None:
        options["classes"] = _number(opened, class_name)
    if against is not None:
        options["against"] = opened.input_of(opened.looked_at(against)[0])
    drawn = []
    for file, target in zip(files, targets, strict=True):
        try:
            pixels, picture = opened.looked_at(file)
        except UnreadableImageError as error:
            drawn.append(Drawn(str(file), None, error=error.reason))
            continue
        found = explain(opened.model, opened.input_of(pixels), **options)[0]
        what = _told(opened, found, against)
        out.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise InputError(f"{target}: is there already; nothing is overwritten")
        draw(picture, found, what, target)
        drawn.append(Drawn(str(file), target, what, found))
    return drawn


def _targets(files: Sequence[Path], out: Path) -> list[Path]:
    """One a picture, all different, none of them there."""
    taken: list[Path] = []
    for file in files:
        stems = (f"{file.stem}{'' if number == 1 else f'_{number}'}" for number in count(1))
        taken.append(next(path for stem in stems if (path := out / f"{stem}_explained.png") not in taken))
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; a folder is needed for the pictures")
    if there := [str(path) for path in taken if path.exists()]:
        raise InputError(f"{there[0]}: is there already ({len(there)} such); give another folder with --out")
    return taken


def _open(path: Path) -> _Opened:
    from .explain import channels_first

    if _has_card(path):
        model, card = load_model(path)
        return _Opened(model, card.classes, card.size, channels_first(model), card.central_crop)
    import keras

    try:
        model = keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as a Keras model: {error}") from error
    first = channels_first(model)
    shape = model.input_shape if isinstance(model.input_shape, tuple) else ()
    if len(shape) != 4 or shape[1 if first else 3] != 3:
        raise InputError(f"{path}: takes {model.input_shape}; a model of pictures of three channels is needed")
    usual = _table({layer.name for layer in model.layers}).size
    height, width = shape[2:4] if first else shape[1:3]
    return _Opened(model, None, (height or usual, width or usual), first)


def _has_card(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return True  # which `saving` tells of, whatever is wrong with it
    with zipfile.ZipFile(path) as archive:
        return MEMBER in archive.namelist()


def _table(layers: set[str]) -> Any:
    """Whose size and preprocessing a model has that carries neither: the embedding network's, or the others'."""
    from .. import spec

    embedding = any(layer.startswith(names.EMBEDDING) for layer in layers)
    tables = [network for variants in spec.NETWORKS.values() for network in variants.values()]
    return next(network for network in tables if bool(network.embedding) == embedding)


def _number(opened: _Opened, asked: str) -> int:
    """A class by its name, or by its number where none is named so."""
    classes = opened.classes or []
    if asked in classes:
        return classes.index(asked)
    count = opened.model.output_shape[-1] if isinstance(opened.model.output_shape, tuple) else len(classes)
    if not asked.isdecimal() or int(asked) >= count:
        named = f"the name of a class ({', '.join(classes[:10])}{', …' if classes[10:] else ''}) or " if classes else ""
        raise refuse("--class", asked, f"{named}a number from 0 to {count - 1}")
    return int(asked)


def _told(opened: _Opened, found: Explanation, against: Path | None) -> str:
    if found.number is None:
        return f"similarity to {against.name if against else ''}: {found.score:.2f}"
    return f"{_class_name(opened, found.number)}  {found.probability:.1%}"


def _class_name(opened: _Opened, number: int) -> str:
    from ..weights.labels import CLASSES, class_index

    if opened.classes:
        return opened.classes[number]
    count = opened.model.output_shape[-1]
    if count not in (CLASSES, CLASSES + 1):
        return f"class {number}"
    try:
        index = class_index()
    except InputError:  # it is not in Keras's cache, and cannot be fetched
        return f"class {number}"
    shift = count - CLASSES
    return index[number - shift][1] if number >= shift else "background"

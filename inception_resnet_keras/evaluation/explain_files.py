"""Explanations of picture files by a saved model, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import positive_integer
from ..data.crops import central_crop, cut, decoding_size
from ..data.images import UnreadableImageError, decode, read_image
from ..errors import InputError, refuse
from ..inference.predict import expand
from .classes import Classes, imagenet, number_of, shown
from .opening import locate
from .overlays import draw
from .subjects import Subject

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
    """A model that is explained. classes: None where it carries none, and where none can be had."""

    subject: Subject
    model: keras.Model
    classes: Classes | None

    @property
    def before(self) -> int:
        """How many outputs stand before the first class: Slim's background."""
        return self.model.output_shape[-1] - self.subject.outputs

    def looked_at(self, file: Path) -> tuple[np.ndarray, np.ndarray]:
        """Its input, float32 (1, …), and the part of the picture that it is made of, uint8 at its own size."""
        from ..features import channels_first

        view = self.subject.view
        pixels = cut(decode(file, decoding_size(view, 1)), view, 1).astype(np.float32)
        picture = read_image(file)
        left, top, right, bottom = map(round, central_crop(view, *picture.shape[:2]).window(*picture.shape[:2]))
        return np.moveaxis(pixels, -1, 1) if channels_first(self.model) else pixels, picture[top:bottom, left:right]

    def number(self, asked: str) -> int:
        """The output that is a class, by its name, or by its number where none is named so."""
        known = self.classes.numbers() if self.classes else {}
        found = number_of(asked, known, imagenet=self.subject.imagenet)
        if found is None and asked.isdecimal() and int(asked) < self.subject.outputs:
            found = int(asked)
        if found is not None:
            return self.before + found
        named = f"the name of a class ({shown(self._likely(asked))}) or " if self.classes else ""
        raise refuse("--class", asked, f"{named}a number from 0 to {self.subject.outputs - 1}")

    def _likely(self, asked: str) -> Sequence[str]:
        """The classes that may have been meant: those of an ambiguous name, else all."""
        classes = self.classes or Classes([])
        meant = [name for name, keys in zip(classes.names, classes.keys, strict=False) if asked in keys]
        return meant or classes.names

    def name(self, output: int) -> str:
        number = output - self.before
        if number < 0:
            return "background"
        return self.classes.names[number] if self.classes else f"class {number}"


def explain_files(
    model: str | PathLike[str],
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
        model: As `evaluate` takes it: a run's folder, a .keras file, registered weights such as
            "inception_v4=imagenet", or a checkpoint. Not what was exported, which has no gradients.
        images: Files, and folders that stand for the pictures in them.
        out: The folder to write `NAME_explained.png` to, made where it is not there.
        class_name: The class to explain, by name or number, ImageNet's from 0 to 999 with Slim's
            background or without it; None for each picture's likeliest.
        against: The picture to compare with: what makes each similar to it is explained, in place of a class.
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
    if against is not None and class_name is not None:
        raise refuse("--class", class_name, "None beside --against: a similarity to a picture has no class")
    opened = _open(str(model), embedding=against is not None)
    from .explain import STEPS, explain

    options: dict[str, Any] = {"endpoint": endpoint, "steps": steps or STEPS}
    if class_name is not None:
        options["classes"] = opened.number(class_name)
    if against is not None:
        options["against"] = opened.looked_at(against)[0]
    drawn = []
    for file, target in zip(files, targets, strict=True):
        try:
            pixels, picture = opened.looked_at(file)
        except UnreadableImageError as error:
            drawn.append(Drawn(str(file), None, error=error.reason))
            continue
        found = explain(opened.model, pixels, **options)[0]
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


def _open(text: str, *, embedding: bool) -> _Opened:
    subject = locate(text)(embedding)
    if subject.model is None:
        raise InputError(f"{text}: was exported, and has no gradients; give the run or .keras file that it came from")
    return _Opened(subject, subject.model, _classes(subject))


def _classes(subject: Subject) -> Classes | None:
    if subject.classes:
        return Classes(subject.classes)
    if not subject.imagenet:
        return None
    try:
        return imagenet(())
    except InputError:  # the index is not in Keras's cache, and cannot be fetched: numbers do
        return None


def _told(opened: _Opened, found: Explanation, against: Path | None) -> str:
    if found.number is None:
        return f"similarity to {against.name if against else ''}: {found.score:.2f}"
    return f"{opened.name(found.number)}  {found.probability:.1%}"

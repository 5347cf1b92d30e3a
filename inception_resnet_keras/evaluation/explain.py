"""Why a model says what it says of a picture: Grad-CAM at any endpoint, and integrated gradients.

Grad-CAM is Selvaraju et al., arXiv 1610.02391; integrated gradients Sundararajan et al., arXiv 1703.01365.
Both explain a logit, not the softmax, whose gradient vanishes where the model is sure.

Libraries were tried first (with Keras 3.15, TensorFlow 2.21). xplique 2.0.2 wants TensorFlow 2.20 at most, and
`tensorflow[and-cuda]` on Linux; shap 0.54 wants Python 3.12 and has no Grad-CAM; captum and grad-cam are for
PyTorch. tf-keras-vis 0.8.7 runs, but neither it nor saliency 0.2.1 has been released since March 2024, and what they
would take over is the few lines of `gradients` and what follows it, without channels-first or embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ..common import notebook
from ..common.arguments import is_integer, positive_integer
from ..common.errors import InputError, refuse
from ..data.crops import central_crop, cut, decoding_size
from ..data.images import UnreadableImageError, decode, read_image
from ..data.preprocessing import Convention
from ..models.classes import Classes, classes_of, number_of
from ..models.open import GivenModel, OpenedModel, locate, require_finite
from ..models.predict import by_reason, list_pictures
from ..networks.recognise import channels_first
from ..weights.labels import quoted
from .explanation_figure import CroppedPicture, explanation_figure
from .figure_style import save
from .gradients import ScoreGradient, float_array

if TYPE_CHECKING:
    import keras

STEPS = 32
LEAST_SIDE = 5  # cells a side of the map that is taken where none is named: fewer tell no place


@dataclass(frozen=True)
class Explanation:
    """Of one picture.

    number, probability: the class that is explained, and what the model gives it; None for a similarity.
    score: the class's logit, or the cosine similarity, from -1 to 1. endpoint: the map that Grad-CAM reads.
    cam: float32, (height, width) of that map, from 0 to 1: where it speaks for the class; 0 everywhere
        where nothing does.
    gradients: float32 (height, width) of the picture: each pixel's part in the score, above 0 for, below
        against. They add up to the score's difference from a grey picture's, but for `gap`.
    difference: that difference. gap: what the steps taken miss of it.
    picture: uint8 (height, width, 3), what was explained, as it is seen.

    A notebook shows it drawn.
    """

    number: int | None
    probability: float | None
    score: float
    endpoint: str
    cam: np.ndarray
    gradients: np.ndarray
    difference: float
    gap: float
    picture: np.ndarray

    def __repr__(self) -> str:
        return f"<Explanation of {self.what} at {self.endpoint}>"

    @property
    def what(self) -> str:
        """What is explained, in a few words."""
        if self.number is None:
            return f"similarity {self.score:.3f}"
        return f"class {self.number}" + ("" if self.probability is None else f" ({self.probability:.1%})")

    def _repr_html_(self) -> str:
        drawn = BytesIO()
        save(explanation_figure(self.picture, self, self.what), drawn, dpi=100)
        return notebook.page(notebook.picture(drawn.getvalue(), f"why {self.what}", 900))


SHOWN_AT_MOST = 12  # explanations that a notebook draws


class Explanations(list[Explanation]):
    """Explanations, in the order of the pictures; a notebook shows the first of them drawn, below one another."""

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self))}]"

    def _repr_html_(self) -> str:
        left = len(self) - SHOWN_AT_MOST
        more = notebook.line(f"and {left} more: show each by its number" if left > 0 else "")
        return notebook.page(*(each._repr_html_() for each in self[:SHOWN_AT_MOST]), more)


def explain(
    model: keras.Model,
    images: ArrayLike,
    *,
    classes: int | Sequence[int] | None = None,
    against: ArrayLike | None = None,
    endpoint: str | None = None,
    steps: int = STEPS,
    batch_size: int = 8,
    names: Sequence[object] | None = None,
) -> Explanations:
    """Explains a model's answers.

    Args:
        model: A model of this project, built or loaded, with its classifier or its embedding.
        images: (n, height, width, channels), or channels first, as the model takes them: pixels of
            0-255 where it scales them itself, else what `preprocess_input` returns.
        classes: The output to explain, one for all pictures or one each; None for the likeliest.
        against: One picture (1, height, width, channels): what makes each of `images` similar to it is
            explained, by the cosine of the two embeddings: what a classifier reads, where there is one.
            A model without a classifier needs it.
        endpoint: A map that `features.endpoints` names; None for the last of at least 5×5, which at
            299 pixels is the last of all, 8×8.
        steps: Of integrated gradients, from grey to the picture, at least 1: more make `gap` smaller.
        batch_size: How many pictures or steps go through the model at once.
        names: What errors call the pictures; None for their numbers.

    Returns:
        One explanation a picture, in order: a list, which a notebook shows drawn.

    Raises:
        ValueError: The model has neither classifier nor embedding, or gives NaN; or an argument does not fit it or
            another.
    """
    import keras

    from ..networks.ends import classifier_head, classifier_input
    from ..networks.features import endpoints
    from ..networks.keras_graph import flattened

    steps, batch_size = positive_integer("steps", steps), positive_integer("batch_size", batch_size)
    model = flattened(model) or model  # a network inside another model is found, and read from the outer input
    maps = endpoints(model)
    pixels = _pixels("images", images, model)
    first = channels_first(model)
    place = map_endpoint(model, pixels.shape[2:4] if first else pixels.shape[1:3], endpoint, first=first)
    classifier = classifier_head(model)
    if against is None and classifier is None:
        classifier_input(model)  # which refuses a model that gives maps
        raise InputError(
            f"model: {model.name!r} gives embeddings, which have no classes: give the picture to compare with "
            "(against, `--against` of the command)"
        )
    if against is not None and classes is not None:
        raise refuse("classes", classes, "None beside against: a similarity to a picture has no class")
    head = classifier.logits if classifier and against is None else _unit(classifier_input(model))
    outputs = {"map": maps[place], "head": head}
    if against is None and (output := keras.tree.flatten(model.output)[0]) is not head:
        outputs["predictions"] = output
    above = keras.Model([model.input, maps[place]], {"head": head})
    network = _Network(keras.Model([model.input], outputs), above, first, steps, batch_size)
    named = [f"images[{number}]" for number in range(len(pixels))] if names is None else names
    heads = require_finite(f"model {model.name!r}", network.run(pixels), named)
    numbers: Sequence[int | None]
    if against is None:
        numbers = _numbers(heads, classes)
        directions = np.eye(head.shape[-1], dtype=np.float32)[np.array(numbers)]
    else:
        numbers = [None] * len(pixels)
        other = network.run(_pixels("against", against, model)[:1])
        directions = np.repeat(require_finite(f"model {model.name!r}", other, ["against"]), len(pixels), axis=0)
    found = Explanations(
        network.explained(picture, direction, number, place)
        for picture, direction, number in zip(pixels, directions, numbers, strict=True)
    )
    require_finite(f"model {model.name!r}", np.stack([each.gradients for each in found]), named)
    return found


def _unit(vectors: Any) -> Any:
    """A Keras tensor (batch, width), each row at length 1, in float32."""
    import keras

    return keras.ops.normalize(keras.ops.cast(vectors, "float32"), axis=-1)


def map_endpoint(model: keras.Model, size: Sequence[int], endpoint: str | None, *, first: bool) -> str:
    """The endpoint to read, checked to be a map; None for the last of at least 5×5 for pictures of `size`."""
    import keras

    from ..networks.features import endpoints
    from ..networks.names import STRIDES

    maps = {name: tensor for name, tensor in endpoints(model).items() if len(tensor.shape) == 4}
    if endpoint is not None:
        if endpoint not in maps:
            raise refuse("endpoint", endpoint, f"of this model's maps one: {', '.join(maps)}")
        return endpoint
    stages = [name for name in maps if name not in STRIDES]
    shape = (1, model.input_shape[1], *size) if first else (1, *size, model.input_shape[-1])
    shapes = keras.Model(model.input, [maps[name] for name in stages]).compute_output_shape(shape)
    sides = [min(shape[2:4] if first else shape[1:3]) for shape in shapes]
    return next((name for name, side in zip(stages[::-1], sides[::-1], strict=True) if side >= LEAST_SIDE), stages[0])


@dataclass(frozen=True)
class _Network:
    """model: from the image to "map", "head" and, where it has them, "predictions".

    above: from the image and the map to "head"; the image for what the head reads of it past the map.
    """

    model: keras.Model
    above: keras.Model
    first: bool  # channels
    steps: int
    batch_size: int

    def explained(self, picture: np.ndarray, direction: np.ndarray, number: int | None, place: str) -> Explanation:
        outputs, score, _ = self.by_image([picture[None]], direction)
        _, _, slopes = self.by_map([picture[None], outputs["map"]], direction)
        cam = np.maximum(self._last(outputs["map"][0]) @ self._last(slopes[0]).mean(axis=(0, 1)), 0)
        grey = np.full_like(picture, self.grey)
        gradients = self.integrated(picture, grey, direction)
        difference = float(score[0] - self.by_image([grey[None]], direction)[1][0])
        return Explanation(
            number=number,
            probability=None if number is None else _probability(outputs, number),
            score=float(score[0]),
            endpoint=place,
            cam=cam / cam.max() if cam.max() > 0 else cam,
            gradients=gradients,
            difference=difference,
            gap=float(difference - gradients.sum()),
            picture=_seen(self._last(picture)),
        )

    def integrated(self, picture: np.ndarray, grey: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """(picture - grey) times the mean gradient on the way from grey to the picture, over channels added."""
        total = np.zeros_like(picture)
        for start in range(0, self.steps, self.batch_size):
            numbers = np.arange(start, min(start + self.batch_size, self.steps), dtype=np.float32)
            shares = (numbers[:, None, None, None] + 0.5) / self.steps  # each step's middle
            total += self.by_image([grey + shares * (picture - grey)], direction)[2].sum(axis=0)
        return self._last((picture - grey) * total / self.steps).sum(axis=-1)

    @cached_property
    def by_image(self) -> ScoreGradient:
        return ScoreGradient(self.model)

    @cached_property
    def by_map(self) -> ScoreGradient:
        return ScoreGradient(self.above, by=1)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """The head's numbers."""
        size = self.batch_size
        parts = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        return np.concatenate([float_array(self.model([part], training=False)["head"]) for part in parts])

    @property
    def grey(self) -> float:
        """The pixel that the network reads as zero: 0 where no rescaling stands before its first weights."""
        for layer in self.model.layers:
            if layer.weights:
                break
            if type(layer).__name__ == "Rescaling" and np.ndim(layer.scale) == np.ndim(layer.offset) == 0:
                return -float(layer.offset) / float(layer.scale)
        return 0.0

    def _last(self, values: np.ndarray) -> np.ndarray:
        return np.moveaxis(values, 0, -1) if self.first else values


def _numbers(heads: np.ndarray, classes: Any) -> list[int]:
    """The class of each picture. heads: (n, classes), logits."""
    pictures, count = heads.shape
    if classes is None:
        return [int(number) for number in heads.argmax(axis=-1)]
    asked = [classes] * pictures if is_integer(classes) else classes
    fits = isinstance(asked, Sequence | np.ndarray) and len(asked) == pictures
    if not fits or not all(is_integer(number) and 0 <= number < count for number in asked):
        raise refuse("classes", classes, f"None, an integer from 0 to {count - 1}, or {pictures} such integers")
    return [int(number) for number in asked]


def _pixels(argument: str, given: Any, model: keras.Model) -> np.ndarray:
    pixels, expected = np.asarray(given, np.float32), model.input_shape[1:]
    fits = pixels.ndim == 4 and all(want in (None, have) for have, want in zip(pixels.shape[1:], expected, strict=True))
    if not fits or not len(pixels):
        raise refuse(argument, f"an array of shape {pixels.shape}", f"shape (n, {str(expected)[1:-1]}), n at least 1")
    return pixels


def _probability(outputs: dict[str, np.ndarray], number: int) -> float:
    """What the model gives the class; of a model that ends in logits, their softmax."""
    if "predictions" in outputs:
        return float(outputs["predictions"][0, number])
    shifted = np.exp(outputs["head"][0] - outputs["head"][0].max())
    return float(shifted[number] / shifted.sum())


def _seen(pixels: np.ndarray) -> np.ndarray:
    """A model's input (height, width, channels) as it is seen: pixels of 0-255, or of -1 to 1, or stretched to that."""
    low, high = float(pixels.min()), float(pixels.max())
    if low >= 0 and 1 < high <= 255:
        shown = pixels
    elif -1 <= low < 0 and high <= 1:
        shown = (pixels + 1) * 127.5
    else:
        shown = (pixels - low) * (255 / max(high - low, 1e-6))
    if shown.shape[-1] != 3:
        shown = np.repeat(shown.mean(axis=-1, keepdims=True), 3, axis=-1)
    return np.rint(shown).astype(np.uint8)


STEEP = 0.05  # share of the score's difference that steps may miss before more are advised


@dataclass(frozen=True)
class ExplanationFile:
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

    subject: OpenedModel
    model: keras.Model
    classes: Classes | None

    @property
    def before(self) -> int:
        """How many outputs stand before the first class: Slim's background."""
        return self.model.output_shape[-1] - self.subject.outputs

    def input_and_picture(self, file: Path) -> tuple[np.ndarray, CroppedPicture]:
        """Its input, float32 (1, …), and the picture at its own size with the part that the input is made of."""
        view = self.subject.view
        pixels = cut(decode(file, decoding_size(view, 1), value_range=view.value_range), view, 1).astype(np.float32)
        picture = read_image(file, value_range=view.value_range)
        left, top, right, bottom = map(round, central_crop(view, *picture.shape[:2]).window(*picture.shape[:2]))
        return self.subject.keras_input(pixels), CroppedPicture(picture, (left, top, right, bottom))

    def true_class(self, file: Path) -> str:
        """The class that the file's folder is named by; "" if it is named by none."""
        folder = file.absolute().parent.name
        return folder if self.classes and folder in self.classes.names else ""

    def number(self, asked: str) -> int:
        """The output that is a class, by its name, or by its number where none is named so."""
        known = self.classes.numbers() if self.classes else {}
        found = number_of(asked, known, imagenet=self.subject.imagenet)
        if found is None and asked.isdecimal() and len(asked) < 10 and int(asked) < self.subject.outputs:
            found = int(asked)
        if found is not None:
            return self.before + found
        named = f"the name of a class ({quoted(self._likely(asked))}) or " if self.classes else ""
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
    model: GivenModel,
    images: Sequence[Path],
    *,
    out: Path,
    class_name: str | None = None,
    against: Path | None = None,
    endpoint: str | None = None,
    steps: int | None = None,
    preprocessing: Convention | None = None,
    note: Callable[[str], object] = lambda text: None,
) -> list[ExplanationFile]:
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
        preprocessing: How the model takes pixels, as `preprocess_input` names it; None measures it.
        note: Called with what was passed over in the folders, one line for each reason.

    Returns:
        One a file, in order; a file that cannot be read has an error.

    Raises:
        InputError: The model cannot be opened or explained, a file is missing, or one would be written over.
    """
    if steps is not None:
        positive_integer("steps", steps)
    names, passed_over = list_pictures(images)
    files = list(map(Path, names))
    for line in by_reason("passed over", passed_over):
        note(line)
    targets = _targets(files, out)
    if against is not None and class_name is not None:
        raise refuse("--class", class_name, "None beside --against: a similarity to a picture has no class")
    opened = _open(model, embedding=against is not None, preprocessing=preprocessing)

    options: dict[str, Any] = {"endpoint": endpoint, "steps": steps or STEPS}
    if class_name is not None:
        options["classes"] = opened.number(class_name)
    if against is not None:
        options["against"] = opened.input_and_picture(against)[0]
    drawn = []
    for file, target in zip(files, targets, strict=True):
        try:
            pixels, picture = opened.input_and_picture(file)
        except UnreadableImageError as error:
            drawn.append(ExplanationFile(str(file), None, error=error.reason))
            continue
        found = explain(opened.model, pixels, names=[file], **options)[0]
        what = _caption(opened, found, against)
        out.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise InputError(f"{target}: is there already; nothing is overwritten")
        figure = explanation_figure(picture, found, what, name=file.name, true=opened.true_class(file))
        save(figure, target, dpi=130)
        drawn.append(ExplanationFile(str(file), target, what, found))
    return drawn


def explained_figures(model: GivenModel, files: Sequence[tuple[Path, str]], steps: int = 8) -> Iterator[Figure]:
    """A figure for each picture of its likeliest class, with few steps of integrated gradients.

    files: Pictures and their true classes. One that is gone or cannot be read is left out.
    """
    opened = _open(model, embedding=False, preprocessing=None)
    for file, true in files:
        try:
            pixels, picture = opened.input_and_picture(file)
        except (UnreadableImageError, OSError):
            continue
        found = explain(opened.model, pixels, names=[file], steps=steps)[0]
        yield explanation_figure(picture, found, _caption(opened, found, None), name=file.name, true=true)


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


def _open(model: GivenModel, *, embedding: bool, preprocessing: Convention | None) -> _Opened:
    source = locate(model, preprocessing=preprocessing)
    if source.exported:
        raise InputError(
            f"{source.name}: was exported, and has no gradients; give the run or .keras file that it came from"
        )
    subject = source.open(embedding=embedding)
    assert subject.model is not None
    return _Opened(subject, subject.model, _classes(subject))


def _classes(subject: OpenedModel) -> Classes | None:
    """None where nothing names them, or ImageNet's index is not in Keras's cache and cannot be fetched: numbers do."""
    try:
        return classes_of(subject)
    except InputError:
        return None


def _caption(opened: _Opened, found: Explanation, against: Path | None) -> str:
    if found.number is None:
        return f"similarity to {against.name if against else ''}: {found.score:.2f}"
    return f"{opened.name(found.number)}  {found.probability:.1%}"

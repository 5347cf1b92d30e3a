"""Explanations of a model's output for an image: Grad-CAM at any endpoint, and integrated gradients.

Grad-CAM: Selvaraju et al., arXiv 1610.02391. Integrated gradients: Sundararajan et al., arXiv 1703.01365. Both explain
a logit, not the softmax, whose gradient vanishes where the model is confident.

Why no library (tried with Keras 3.15 and TensorFlow 2.21): xplique 2.0.2 needs TensorFlow up to 2.20, and
`tensorflow[and-cuda]` on Linux; shap 0.54 needs Python 3.12 and has no Grad-CAM; captum and grad-cam are for PyTorch.
tf-keras-vis 0.8.7 runs, but neither it nor saliency 0.2.1 has had a release since March 2024. They would replace only
the few lines of `gradients` and of `_Network`, and support neither channels first nor embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ..common import notebook
from ..common.arguments import is_integer, positive_integer, value_range_of
from ..common.errors import InputError, refuse
from ..data.crops import central_crop, cut, decoding_size
from ..data.images import UnreadableImageError, decode, read_image
from ..data.preprocessing import Convention
from ..data.value_range import file_range_notes
from ..models.classes import Classes, classes_of, number_of
from ..models.open import GivenModel, OpenedModel, locate, require_finite, with_given_range
from ..models.predict import by_reason, list_pictures
from ..networks.recognise import channels_first
from ..weights.labels import quoted
from .explanation_figure import CroppedPicture, explanation_figure
from .figure_style import save
from .gradients import ScoreGradient, float_array

if TYPE_CHECKING:
    import keras

STEPS = 32
LEAST_SIDE = 5  # the default endpoint has at least 5×5 cells: smaller maps do not localise


@dataclass(frozen=True)
class Explanation:
    """The explanation of one image. A notebook shows it as a figure.

    Attributes:
        number: The index of the explained class; None for a similarity.
        probability: The probability of that class; None for a similarity.
        score: The logit of the class, or the cosine similarity, from -1 to 1.
        endpoint: The endpoint that Grad-CAM reads.
        cam: float32 (height, width) of the endpoint, from 0 to 1: where the map supports the class; all 0 if nowhere.
        gradients: float32 (height, width) of the image: the contribution of each pixel to the score, positive for the
            class and negative against it. Their sum is `difference` minus `gap`.
        difference: The score of the image minus that of a grey image.
        gap: The part of `difference` that the gradients miss because the number of steps is finite.
        picture: uint8 (height, width, 3), the explained image, for display.
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
        """The explained class with its probability, or the similarity, such as "class 3 (98.1%)"."""
        if self.number is None:
            return f"similarity {self.score:.3f}"
        return f"class {self.number}" + ("" if self.probability is None else f" ({self.probability:.1%})")

    def _repr_html_(self) -> str:
        drawn = BytesIO()
        save(explanation_figure(self.picture, self, self.what), drawn, dpi=100)
        return notebook.page(notebook.picture(drawn.getvalue(), f"why {self.what}", 900))


SHOWN_AT_MOST = 12  # maximum number of explanations that a notebook draws


class Explanations(list[Explanation]):
    """A list of explanations in the order of the images. A notebook shows figures of the first 12."""

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self))}]"

    def _repr_html_(self) -> str:
        left = len(self) - SHOWN_AT_MOST
        more = notebook.line(f"and {left} more: show each by its index" if left > 0 else "")
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
    """Explain a model's output for images by Grad-CAM and integrated gradients.

    Args:
        model: A model of this package, built or loaded, that ends in its classifier or its embedding.
        images: (n, height, width, channels), or channels first, in the range that the model expects: pixels of 0-255
            if it rescales them itself, otherwise the output of `preprocess_input`.
        classes: The index of the output to explain: one for all images, or one per image. None explains the most
            probable class of each image.
        against: One image, (1, height, width, channels): explain what makes each of `images` similar to it, by the
            cosine similarity of the two embeddings, which are the input of the classifier if there is one. Required for
            a model without a classifier; cannot be combined with `classes`.
        endpoint: The feature map that Grad-CAM reads, as `endpoints` names it. None takes the last one of at least 5×5,
            which at 299 pixels is the last of all, 8×8.
        steps: The number of steps of integrated gradients from grey to the image, at least 1. More steps make `gap`
            smaller.
        batch_size: The number of images or steps that go through the model at once, at least 1.
        names: The names of the images in error messages. None takes their indices.

    Returns:
        One `Explanation` per image, in order, as a list that a notebook shows as figures.

    Raises:
        ValueError: The model has neither classifier nor embedding, or gives NaN; or an argument does not fit the model
            or another argument.

    Examples:
        >>> import keras, numpy as np
        >>> from inception_resnet_keras import explain
        >>> model = keras.saving.load_model("runs/photos-1/model.keras")
        >>> images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
        >>> explanations = explain(model, images, steps=8)
        >>> len(explanations), explanations[0].cam.shape, explanations[0].gradients.shape
        (2, (4, 4), (32, 32))
    """
    import keras

    from ..networks.ends import classifier_head, classifier_input
    from ..networks.features import endpoints
    from ..networks.keras_graph import flattened

    # Check the arguments, and find the feature map.
    steps, batch_size = positive_integer("steps", steps), positive_integer("batch_size", batch_size)
    model = flattened(model) or model  # a network nested in another model is flattened, to start from the outer input
    maps = endpoints(model)
    pixels = _pixels("images", images, model)
    first = channels_first(model)
    place = map_endpoint(model, pixels.shape[2:4] if first else pixels.shape[1:3], endpoint, first=first)
    # Find the head whose score is explained: the logits, or the embedding scaled to unit length.
    classifier = classifier_head(model)
    if against is None and classifier is None:
        classifier_input(model)  # raises for a model that ends in a feature map
        raise InputError(
            f"model: {model.name!r} gives embeddings, which have no classes: give the picture to compare with "
            "(against; on the command line --against)"
        )
    if against is not None and classes is not None:
        raise refuse("classes", classes, "None together with against: a similarity to a picture has no class")
    head = classifier.logits if classifier and against is None else _unit(classifier_input(model))
    outputs = {"map": maps[place], "head": head}
    if against is None and (output := keras.tree.flatten(model.output)[0]) is not head:
        outputs["predictions"] = output
    # Grad-CAM differentiates only the part of the network above the map.
    above = keras.Model([model.input, maps[place]], {"head": head})
    network = _Network(keras.Model([model.input], outputs), above, first, steps, batch_size)
    named = [f"images[{number}]" for number in range(len(pixels))] if names is None else names
    heads = require_finite(f"model {model.name!r}", network.run(pixels), named)
    # The score is the head along a direction: a class's unit vector, or the embedding of the other image.
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
    """A Keras tensor (batch, width) in float32, with rows of unit length."""
    import keras

    return keras.ops.normalize(keras.ops.cast(vectors, "float32"), axis=-1)


def map_endpoint(model: keras.Model, size: Sequence[int], endpoint: str | None, *, first: bool) -> str:
    """The endpoint that Grad-CAM reads.

    Args:
        model: The network.
        size: Height and width of the images.
        endpoint: A name to check. None takes the last map of at least 5×5 at this size.
        first: Whether the model takes channels first.
    """
    import keras

    from ..networks.features import endpoints
    from ..networks.names import STRIDES

    maps = {name: tensor for name, tensor in endpoints(model).items() if len(tensor.shape) == 4}
    if endpoint is not None:
        if endpoint not in maps:
            raise refuse("endpoint", endpoint, f"one of this model's feature maps: {', '.join(maps)}")
        return endpoint
    stages = [name for name in maps if name not in STRIDES]
    shape = (1, model.input_shape[1], *size) if first else (1, *size, model.input_shape[-1])
    shapes = keras.Model(model.input, [maps[name] for name in stages]).compute_output_shape(shape)
    sides = [min(shape[2:4] if first else shape[1:3]) for shape in shapes]
    return next((name for name, side in zip(stages[::-1], sides[::-1], strict=True) if side >= LEAST_SIDE), stages[0])


@dataclass(frozen=True)
class _Network:
    """The two models that explanations are computed with.

    Attributes:
        model: From the image to "map", "head" and, if the model has them, "predictions".
        above: From the image and the map to "head"; the image is an input for branches that bypass the map.
        first: Whether channels come first.
        steps: The number of steps of integrated gradients.
        batch_size: The number of images or steps per pass.
    """

    model: keras.Model
    above: keras.Model
    first: bool
    steps: int
    batch_size: int

    def explained(self, picture: np.ndarray, direction: np.ndarray, number: int | None, place: str) -> Explanation:
        outputs, score, _ = self.by_image([picture[None]], direction)
        # Grad-CAM: channels weighted by their mean gradient; negative evidence is cut off.
        _, _, slopes = self.by_map([picture[None], outputs["map"]], direction)
        cam = np.maximum(self._last(outputs["map"][0]) @ self._last(slopes[0]).mean(axis=(0, 1)), 0)
        # Integrated gradients start from grey, the image that the network reads as zero.
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
            picture=_for_display(self._last(picture)),
        )

    def integrated(self, picture: np.ndarray, grey: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """(picture - grey) times the mean gradient on the line from grey to the picture, summed over channels."""
        total = np.zeros_like(picture)
        for start in range(0, self.steps, self.batch_size):
            numbers = np.arange(start, min(start + self.batch_size, self.steps), dtype=np.float32)
            shares = (numbers[:, None, None, None] + 0.5) / self.steps  # the midpoint of each step
            total += self.by_image([grey + shares * (picture - grey)], direction)[2].sum(axis=0)
        return self._last((picture - grey) * total / self.steps).sum(axis=-1)

    @cached_property
    def by_image(self) -> ScoreGradient:
        return ScoreGradient(self.model)

    @cached_property
    def by_map(self) -> ScoreGradient:
        return ScoreGradient(self.above, by=1)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """The outputs of the head, (n, width)."""
        size = self.batch_size
        parts = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        return np.concatenate([float_array(self.model([part], training=False)["head"]) for part in parts])

    @property
    def grey(self) -> float:
        """The pixel value that the network reads as zero: 0 if it has no rescaling before its first weights."""
        for layer in self.model.layers:
            if layer.weights:
                break
            if type(layer).__name__ == "Rescaling" and np.ndim(layer.scale) == np.ndim(layer.offset) == 0:
                return -float(layer.offset) / float(layer.scale)
        return 0.0

    def _last(self, values: np.ndarray) -> np.ndarray:
        return np.moveaxis(values, 0, -1) if self.first else values


def _numbers(heads: np.ndarray, classes: Any) -> list[int]:
    """The index of the class to explain for each image. heads: (n, classes), logits."""
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
    """The model's probability for the class; the softmax of the logits if the model ends in those."""
    if "predictions" in outputs:
        return float(outputs["predictions"][0, number])
    shifted = np.exp(outputs["head"][0] - outputs["head"][0].max())
    return float(shifted[number] / shifted.sum())


def _for_display(pixels: np.ndarray) -> np.ndarray:
    """A model's input, (height, width, channels), as an image to look at, uint8 (height, width, 3).

    Values of 0 to 255 and of -1 to 1 are recognised by their range; other values are stretched to 0 to 255.
    """
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


STEEP = 0.05  # more steps are advised if the gradients miss more than this share of the difference


@dataclass(frozen=True)
class ExplanationFile:
    """An explained file.

    Attributes:
        path: The image.
        out: The figure; None if there is an error.
        what: The explained class with its probability, or the similarity.
        explanation: The explanation; None if there is an error.
        error: Why the file could not be read; None if it could.
    """

    path: str
    out: Path | None
    what: str = ""
    explanation: Explanation | None = None
    error: str | None = None

    @property
    def hint(self) -> str:
        """Advice to take more steps; "" if the steps sufficed."""
        found = self.explanation
        if found is None or abs(found.gap) <= STEEP * abs(found.difference):
            return ""
        return f"the gradients miss {found.gap:+.2g} of a difference of {found.difference:.2g}: use more --steps"


@dataclass(frozen=True)
class _Opened:
    """A model to explain. classes: Its classes; None if their names are not known."""

    subject: OpenedModel
    model: keras.Model
    classes: Classes | None

    @property
    def before(self) -> int:
        """The number of outputs before the first class: 1 with TF-Slim's background class, otherwise 0."""
        return self.model.output_shape[-1] - self.subject.outputs

    def input_and_picture(self, file: Path) -> tuple[np.ndarray, CroppedPicture]:
        """The model's input, float32 (1, …), and the full-size image with the part that the input is made from."""
        view = self.subject.view
        pixels = cut(decode(file, decoding_size(view, 1), value_range=view.value_range), view, 1).astype(np.float32)
        picture = read_image(file, value_range=view.value_range)
        left, top, right, bottom = map(round, central_crop(view, *picture.shape[:2]).window(*picture.shape[:2]))
        return self.subject.keras_input(pixels), CroppedPicture(picture, (left, top, right, bottom))

    def true_class(self, file: Path) -> str:
        """The name of the file's folder if that is a class; otherwise ""."""
        folder = file.absolute().parent.name
        return folder if self.classes and folder in self.classes.names else ""

    def number(self, asked: str) -> int:
        """The index of the output of a class, which is given by its name or its number; names go first."""
        known = self.classes.numbers() if self.classes else {}
        found = number_of(asked, known, imagenet=self.subject.imagenet)
        if found is None and asked.isdecimal() and len(asked) < 10 and int(asked) < self.subject.outputs:
            found = int(asked)
        if found is not None:
            return self.before + found
        named = f"the name of a class ({quoted(self._likely(asked))}) or " if self.classes else ""
        raise refuse("--class", asked, f"{named}a number from 0 to {self.subject.outputs - 1}")

    def _likely(self, asked: str) -> Sequence[str]:
        """The classes that an ambiguous name may refer to; all classes for other names."""
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
    value_range: tuple[float, float] | None = None,
    note: Callable[[str], object] = lambda text: None,
) -> list[ExplanationFile]:
    """Explain a saved model's output for image files, and write one figure per file.

    Args:
        model: A model as `evaluate` takes it: a run's folder, a .keras file, registered weights such as
            "inception_v4=imagenet", or a checkpoint; no exported file, which has no gradients.
        images: Image files, and folders of images.
        out: The folder to write `NAME_explained.png` to; it is created if it does not exist.
        class_name: The class to explain, by name or number; for ImageNet 0 to 999, with or without TF-Slim's
            background class. None explains the most probable class of each image.
        against: The image to compare with: explain what makes each image similar to it, instead of a class.
        endpoint: The feature map that Grad-CAM reads, as `endpoints` names it; None takes the default of `explain`.
        steps: The number of steps of integrated gradients; None takes 32.
        preprocessing: The pixel range that the model expects, as `preprocess_input` names it; None measures it.
        value_range: (low, high), the values that become 0 and 255 in images of more than 8 bits; None takes the
            model's own.
        note: Called with the reasons for which files in the folders were skipped, one line per reason, and with the
            range of values of images of more than 8 bits.

    Returns:
        One result per file, in order; a file that cannot be read has an error.

    Raises:
        InputError: The model cannot be opened or explained, a file is missing, or a file would be overwritten.
    """
    # List the files, and refuse to overwrite any, before the model is opened.
    if steps is not None:
        positive_integer("steps", steps)
    if value_range is not None:
        value_range = value_range_of("value_range", value_range)
    names, passed_over = list_pictures(images)
    files = list(map(Path, names))
    for line in by_reason("passed over", passed_over):
        note(line)
    targets = _targets(files, out)
    if against is not None and class_name is not None:
        raise refuse("--class", class_name, "None together with --against: a similarity to a picture has no class")
    opened = _open(model, embedding=against is not None, preprocessing=preprocessing)
    opened = replace(opened, subject=with_given_range(opened.subject, value_range))
    for line in file_range_notes(names, opened.subject.view.value_range, given=value_range is not None):
        note(line)
    # All images share the class or the image to compare with; a file that cannot be read does not stop the others.
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
            raise InputError(f"{target}: already exists; nothing is overwritten")
        figure = explanation_figure(picture, found, what, name=file.name, true=opened.true_class(file))
        save(figure, target, dpi=130)
        drawn.append(ExplanationFile(str(file), target, what, found))
    return drawn


def explained_figures(model: GivenModel, files: Sequence[tuple[Path, str]], steps: int = 8) -> Iterator[Figure]:
    """Yield a figure per image that explains its most probable class, with few steps of integrated gradients.

    files: Images and their true classes. An image that cannot be read is left out.
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
    """One new file per image, all different; InputError if one of them exists."""
    taken: list[Path] = []
    for file in files:
        stems = (f"{file.stem}{'' if number == 1 else f'_{number}'}" for number in count(1))
        taken.append(next(path for stem in stems if (path := out / f"{stem}_explained.png") not in taken))
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; give a folder for the figures")
    if existing := [str(path) for path in taken if path.exists()]:
        raise InputError(f"{existing[0]}: already exists ({len(existing)} such); give another folder with --out")
    return taken


def _open(model: GivenModel, *, embedding: bool, preprocessing: Convention | None) -> _Opened:
    source = locate(model, preprocessing=preprocessing)
    if source.exported:
        raise InputError(
            f"{source.name}: is an exported model, which has no gradients; give the run or .keras file that it was "
            "made from"
        )
    subject = source.open(embedding=embedding)
    assert subject.model is not None
    return _Opened(subject, subject.model, _classes(subject))


def _classes(subject: OpenedModel) -> Classes | None:
    """The model's classes; None if they have no names, or ImageNet's index is not cached and cannot be downloaded."""
    try:
        return classes_of(subject)
    except InputError:
        return None


def _caption(opened: _Opened, found: Explanation, against: Path | None) -> str:
    if found.number is None:
        return f"similarity to {against.name if against else ''}: {found.score:.2f}"
    return f"{opened.name(found.number)}  {found.probability:.1%}"

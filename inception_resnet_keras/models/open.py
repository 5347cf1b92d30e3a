"""Opens a model in any form: the result takes pixels of 0-255 and describes its outputs. All verbs open models here.

A model is given in one of these forms:

    a Keras model in memory     run with its own graph
    FILE.keras, FILE.h5         a model saved by Keras or this package: run with its own graph
    RUN                         the folder of a training run: its model.keras
    a SavedModel's folder, FILE.onnx, FILE.xml or FILE.tflite
                                a model written by `export`
    [NETWORK[:VARIANT]=]NAME    registered weights, such as inception_v4=imagenet or timm/inception_v4.tf_in1k
    [NETWORK[:VARIANT]=]PATH    bare weights in any format that `load_weights` reads: their network is built, and
                                settings that the file lacks are assumed and noted
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from .. import networks
from ..common.arguments import boolean, text_of
from ..common.chatter import without_retracing_warnings
from ..common.errors import InputError, refuse
from ..common.files import require_regular
from ..data.crops import View
from ..data.preprocessing import scale_pixels
from ..networks.rows import PREPROCESSINGS, RAW, Network, Preprocessing
from ..weights import registry
from ..weights.labels import CLASSES, label_offset
from ..weights.readers import holds_checkpoints, is_checkpoint, open_checkpoint
from .model_file import Card, has_graph, load_keras_model, read_card_if_any
from .runtimes import KerasRuntime, find_runtime, holds_model, open_runtime

if TYPE_CHECKING:
    import keras

    from ..networks.ends import OutputKind

GivenModel: TypeAlias = Union[str, PathLike[str], "keras.Model"]
Run = Callable[[np.ndarray], np.ndarray]
IMAGENET_CROP = View((299, 299), 0.875)  # TF-Slim's; the other projects' weights are conversions of its weights
# Sources whose checkpoints use the registry's crop and size: `inspect`'s source → beginning of its entries' names.
PUBLISHERS = {
    "TF-Slim": "slim",
    "kentsommer/keras-inceptionV4": "kentsommer",
    "keras.applications": "keras",
    "timm": "timm",
}
IMAGENET_ENDS = ("tench", "toilet_tissue")  # Keras's names of the first and last class


@dataclass(frozen=True)
class OpenedModel:
    """A model as a function from pixels to probabilities or embeddings.

    Attributes:
        name: The model's name as the user gave it.
        network: Name of the network whose table it has; "" if unknown.
        classes: Class names in the order of the outputs; None if the model has none.
        imagenet: Whether its outputs are ImageNet's classes.
        outputs: Number of outputs.
        view: How an image is resized and cropped to the input.
        run: From pixels of 0-255, float32 (n, height, width, 3), to float32 (n, outputs).
        published: Published accuracy in %, by measure.
        assumed: Whether the view is only assumed to be that of the weights.
        averages: Whether its file has running averages of the weights that were not loaded.
        notes: Assumptions about the model and additions to it, one sentence each.
        model: The Keras model in `run`; None for an exported model.
        preprocessing: The preprocessing in `run`, before the model.
        runner: The function in `run` that runs the Keras model; None for an exported model.
        thresholds: For a model with several labels per image, one per class: a label is predicted if its probability
            is at least its threshold. Empty if each image has one class, or if that is unknown.
        sigmoids: Whether each output is known to be a separate sigmoid, so that an image may have several classes.
    """

    name: str
    network: str
    classes: list[str] | None
    imagenet: bool
    outputs: int
    view: View
    run: Run
    published: Mapping[str, float] = field(default_factory=dict)
    assumed: bool = False
    averages: bool = False
    notes: tuple[str, ...] = ()
    model: keras.Model | None = None
    preprocessing: Preprocessing = RAW
    runner: KerasRun | None = None
    thresholds: tuple[float, ...] = ()
    sigmoids: bool = False

    def keras_input(self, images: np.ndarray) -> np.ndarray:
        """The input of `model` for pixels of 0-255, (n, height, width, 3): preprocessed, in the model's data format."""
        assert self.runner is not None
        return self.runner.keras_input(images)


@dataclass(frozen=True)
class ModelSource:
    """A model that exists but is not opened yet. `exported` is whether `export` wrote it, so it has no gradients."""

    name: str
    opener: Callable[[bool], OpenedModel]
    exported: bool = False

    def open(self, *, embedding: bool = False) -> OpenedModel:
        """Open the model for its classes, or with `embedding` for its embedding of images.

        Raises InputError if it has no such output, or is damaged.
        """
        return self.opener(embedding)


def open_model(
    model: GivenModel,
    *,
    embedding: bool = False,
    imagenet: bool = True,
    ema: bool = False,
    preprocessing: str | None = None,
    trust: bool = False,
) -> OpenedModel:
    """Open a model in any form. The arguments are those of `locate` and `ModelSource.open`."""
    source = locate(model, imagenet=imagenet, ema=ema, preprocessing=preprocessing, trust=trust)
    return source.open(embedding=embedding)


def display_name(model: GivenModel) -> str:
    """A model's name in reports."""
    return text_of("model", model) if isinstance(model, str | PathLike) else f"{model.name} (Keras)"


def locate(
    model: GivenModel,
    *,
    imagenet: bool = True,
    ema: bool = False,
    preprocessing: str | None = None,
    trust: bool = False,
) -> ModelSource:
    """Find a model without opening it. For a path, no framework is imported.

    Args:
        model: The model, in one of the forms above.
        imagenet: Whether 1000 or 1001 classes without names are assumed to be ImageNet's.
        ema: Whether to load the running averages that a checkpoint may have beside its weights.
        preprocessing: The preprocessing of the model's input, one of `PREPROCESSINGS`, if it cannot be measured; "none"
            for pixels of 0-255. None measures it.
        trust: Whether to load a SavedModel with operations that `export` does not write, which can run any program.

    Raises:
        InputError: The model does not exist, or an argument does not fit it.
    """
    _check_preprocessing(preprocessing)
    name = _name_of(model)
    if not isinstance(model, str | PathLike):
        if ema:
            raise _no_averages(name)
        opener = partial(_open_keras, name, model, None, imagenet=imagenet, preprocessing=preprocessing)
        return ModelSource(name, opener)
    opener = _locate_path(name, imagenet=imagenet, ema=ema, preprocessing=preprocessing, trust=boolean("trust", trust))
    return ModelSource(name, opener, exported=opener.func is _open_exported)


def _check_preprocessing(name: Any) -> None:
    if name is not None and (not isinstance(name, str) or name not in PREPROCESSINGS):
        raise refuse("preprocessing", name, " or ".join(map(repr, PREPROCESSINGS)))


def _name_of(model: GivenModel) -> str:
    if isinstance(model, str | PathLike):
        return text_of("model", model)
    import keras

    if not isinstance(model, keras.Model):
        raise refuse("model", model, "a run's folder, a file, a registered name, or a Keras model")
    return display_name(model)


def _locate_path(
    text: str, *, imagenet: bool, ema: bool, preprocessing: str | None, trust: bool
) -> partial[OpenedModel]:
    # NETWORK:VARIANT=WEIGHTS, unless a file has this name.
    prefix, equals, rest = text.partition("=")
    wanted = prefix if equals and not Path(text).exists() else ""
    source = rest if wanted else text
    network, variant = _network(wanted)
    if source in registry.NAMES:
        _refuse_options(text, ema=ema, preprocessing=preprocessing)
        return partial(_open_registered, text, _fitting(source, network, variant))
    # Otherwise a path: of a whole model, or of bare weights.
    path = Path(source)
    if not path.exists() and not is_checkpoint(path):  # a TensorFlow checkpoint is given by the prefix of its files
        known = ", ".join(map(repr, registry.NAMES))
        raise InputError(
            f"{text}: there is no such file, folder or registered name; give a run's folder, a .keras file, or "
            f"[NETWORK[:VARIANT]=]WEIGHTS, where WEIGHTS is a checkpoint's path or one of {known}"
        )
    require_regular(path)
    if not wanted and _is_whole_model(path):
        file = find_keras_file(path)
        _refuse_options(text, ema=ema, preprocessing=None if file == path else preprocessing)
        if file is None:
            return partial(_open_exported, text, path, trust)
        card = read_card_if_any(file)
        return partial(_open_keras, text, file, card, imagenet=imagenet, preprocessing=preprocessing)
    _refuse_options(text, preprocessing=preprocessing)
    with open_checkpoint(path):
        return partial(_open_checkpoint, text, path, network, variant, imagenet=imagenet, ema=ema)


def _is_whole_model(path: Path) -> bool:
    """Whether a path is a model with its graph; False for bare weights, also in a folder."""
    if path.is_dir():
        return holds_model(path) or not holds_checkpoints(path)
    return path.suffix.lower() in (".xml", ".onnx", ".tflite", ".bin") or has_graph(path)


def find_keras_file(path: Path) -> Path | None:
    """The Keras model's file for a path: the path itself, or a run's model; None for an exported model.

    Raises InputError if there is no model, or a run's folder has the model of another run. Imports no framework.
    """
    if has_graph(path):
        return path
    runtime, file = find_runtime(path)
    if runtime is not KerasRuntime:
        return None
    return file


def _refuse_options(text: str, *, ema: bool = False, preprocessing: str | None = None) -> None:
    if ema:
        raise _no_averages(text)
    if preprocessing is not None:
        raise InputError(f"preprocessing: got {preprocessing!r}, but {text} takes pixels of 0-255; leave it out")


def _no_averages(text: str) -> InputError:
    return InputError(f"ema: {text} has no running averages, which only some checkpoints have; leave --ema out")


def _no_classifier(text: str) -> InputError:
    return InputError(
        f"{text}: has no classifier: its output is an embedding; verify pairs of faces with --pairs, "
        "or explain a similarity with --against"
    )


# A model with its own graph


@dataclass
class KerasModel:
    """A Keras model and its properties.

    Attributes:
        model: A functional model from one image to one output.
        card: The card in its file, if this package wrote it.
        network: The network of the tables that it contains, possibly nested; None if there is none.
        source: The project whose layer names the network has.
        size: (height, width) of its images in pixels.
        preprocessing: The preprocessing that pixels of 0-255 need before the model.
        ending: The kind of its output.
        notes: What was assumed.
    """

    model: keras.Model
    card: Card | None
    network: Network | None
    source: str
    size: tuple[int, int]
    preprocessing: Preprocessing
    ending: OutputKind
    notes: list[str] = field(default_factory=list)

    @property
    def activation(self) -> str | None:
        """The activation that turns logits into probabilities; None if the outputs are not logits."""
        if self.ending != "logits":
            return None
        return "sigmoid" if self.model.output.shape[1] == 1 else "softmax"


def examine(
    name: str,
    given: keras.Model | Path,
    card: Card | None = None,
    preprocessing: str | None = None,
    *,
    size: tuple[int, int] | None = None,
    default_size: bool = True,
) -> KerasModel:
    """Determine a Keras model's graph, image size, preprocessing and kind of output.

    Args:
        name: The model's name in messages.
        given: The model, or its file.
        card: The card in its file; None for a model that this package did not write.
        preprocessing: One of `PREPROCESSINGS`, or None to measure it.
        size: (height, width) in pixels for a model of any size; None for its own.
        default_size: Whether, without `size`, a model of any size gets the size that its network was designed for.

    Raises:
        InputError: The file cannot be read; the model is not a functional model from one image to (batch, n); its
            size is unknown or differs from `size`; or its preprocessing cannot be measured and is not given.
    """
    import keras

    from ..networks.ends import output_kind, pixel_input, require_known
    from ..networks.keras_graph import flattened, functional
    from ..networks.recognise import channels_first, image_size, model_layers, model_shapes
    from ..weights.identify import identify

    _check_preprocessing(preprocessing)
    whole = given if isinstance(given, keras.Model) else load_keras_model(given, card)
    model = functional(whole)
    if model is None:
        raise InputError(f"{name}: its graph is unknown; a functional or sequential Keras model is needed")
    # One image in, one output of (batch, n) out.
    notes: list[str] = []
    output, *others = keras.tree.flatten(model.output)
    if others:
        first, *rest = model.output_names
        notes.append(f"its first output, {first}, is used, and {', '.join(rest)} ignored")
        model = keras.Model(model.input, output, name=model.name)
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        takes = ", ".join(str(tuple(each.shape)) for each in model.inputs)
        raise InputError(f"{name}: takes {takes}; a model with one image as input is needed: (batch, height, width, 3)")
    if len(output.shape) != 2:
        raise InputError(
            f"{name}: its output is {tuple(output.shape)}; a classifier or an embedding, (batch, n), is needed: "
            "build it with include_top=True, or pooling='avg'"
        )
    # The network inside, under whichever project's names.
    flat = flattened(model)
    shapes, layers = model_shapes(flat), model_layers(flat)
    found = identify(shapes, layers) if shapes else None
    network = found.network if found else None
    shape = model.inputs[0].shape[1:]
    if shape[0 if channels_first(model) else 2] != 3:
        raise InputError(f"{name}: takes {tuple(shape)}; an input with three channels is needed")
    size = _size(name, card.size if card else image_size(model), network if default_size else None, size)
    # The pixel range: given, known from the card, or measured.
    if preprocessing is not None:
        chosen = PREPROCESSINGS[preprocessing]
        measured = None if chosen is RAW else pixel_input(model, size, network)
        if measured and measured.measured and measured.preprocessing is RAW:
            raise InputError(f"preprocessing: got {preprocessing!r}, but {name} scales pixels itself; leave it out")
    elif card:
        chosen = RAW
    else:
        measured = pixel_input(model, size, network)
        chosen = require_known(measured, name, " or ".join(map(repr, PREPROCESSINGS)))
        if chosen is not RAW:
            notes.append(f"pixels are preprocessed as {chosen.name!r} before the model: {measured.reason}")
    source = found.table.source if found else ""
    return KerasModel(model, card, network, source, size, chosen, output_kind(output), notes)


def _size(name: str, own: tuple[Any, Any], network: Network | None, given: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of a model's images: its own, or for a model of any size `given` or its network's own size."""
    height, width = own
    if given is not None:
        if any(side not in (None, wanted) for side, wanted in zip(own, given, strict=True)):
            shown = "×".join(str(side or "any") for side in own)
            raise InputError(f"size: got {given[0]}×{given[1]}, but {name} takes images of {shown}; leave it out")
        return given
    if height and width:
        return height, width
    if network is None:
        raise InputError(
            f"{name}: takes images of any size; give one with size= (--size) when you export it, or build it for one "
            "size"
        )
    return height or network.size, width or network.size


def _open_keras(
    name: str,
    given: keras.Model | Path,
    card: Card | None,
    embedding: bool,
    *,
    imagenet: bool = True,
    preprocessing: str | None = None,
) -> OpenedModel:
    """Open a Keras model with its own graph."""
    import keras

    from ..networks.ends import classifier_input

    # An embedding is the classifier's input, or the output of a model without a classifier.
    found = examine(name, given, card, preprocessing)
    network = card.network if card else found.network.name if found.network else ""
    model, notes = found.model, list(found.notes)
    if embedding:
        vector = classifier_input(model)
        view = card_view(card) if card else View(found.size)
        runner = KerasRun(keras.Model(model.input, vector), found.preprocessing)
        embed = partial(normalised, runner)
        opened = OpenedModel(name, network, None, False, vector.shape[-1], view, embed)
        return replace(opened, notes=tuple(notes), model=model, preprocessing=found.preprocessing, runner=runner)
    # A classifier: probabilities, class names, and the view that the weights were evaluated with.
    if found.ending == "embedding":
        raise _no_classifier(name)
    if activation := found.activation:
        notes.append(f"its output is logits: a {activation} turns them into probabilities")
        model = keras.Model(model.input, keras.layers.Activation(activation, dtype="float32")(model.output))
    runner, outputs = KerasRun(model, found.preprocessing), model.output.shape[-1]
    classes = card.classes if card else None
    of_imagenet = imagenet and classes is None and found.network is not None and label_offset(outputs) is not None
    published = None if card or found.network is None else _view_by(found.source, found.network, found.size)
    view = card_view(card) if card else published or View(found.size, IMAGENET_CROP.fraction if of_imagenet else 1.0)
    opened = OpenedModel(name, network, classes, False, outputs, view, runner, assumed=not card and published is None)
    opened = replace(opened, notes=tuple(notes), model=model, preprocessing=found.preprocessing, runner=runner)
    opened = replace(opened, thresholds=tuple(card.thresholds) if card else (), sigmoids=found.ending == "sigmoids")
    return _as_imagenet(opened) if of_imagenet else opened


def with_given_range(opened: OpenedModel, value_range: tuple[float, float] | None) -> OpenedModel:
    """The model with a range that the user gives for images of more than 8 bits; None keeps the model's own."""
    return opened if value_range is None else replace(opened, view=replace(opened.view, value_range=value_range))


def common_value_range(opened: Sequence[OpenedModel]) -> tuple[float, float] | None:
    """The models' common value range for images of more than 8 bits. Raises InputError if they differ."""
    ranges = {each.view.value_range: each.name for each in opened}
    if len(ranges) > 1:
        listed = ", ".join(f"{name} ({shown or 'none'})" for shown, name in ranges.items())
        raise InputError(f"the models were trained with different value ranges: {listed}; use them one by one")
    return next(iter(ranges))


def card_view(card: Card) -> View:
    """The view with which the card's run was evaluated."""
    return View(card.size, card.central_crop, value_range=card.value_range)


class KerasRun:
    """Runs a model on arrays, compiled for a few batch sizes. Smaller batches are padded to the next of them.

    The model is compiled again for each batch that is larger than all before it.

    Attributes:
        model: The model. It may be replaced by an equivalent one.
        preprocessing: The preprocessing of pixels before the model.
    """

    def __init__(self, model: keras.Model, preprocessing: Preprocessing = RAW) -> None:
        self.model, self.preprocessing = model, preprocessing
        self._lengths: list[int] = []  # ascending

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """From pixels of 0-255, float32 (n, height, width, 3), to float32 (n, outputs)."""
        new = not self._lengths or self._lengths[-1] < len(images)
        if new:
            self._lengths.append(len(images))
        missing = next(length for length in self._lengths if length >= len(images)) - len(images)
        batch = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else images
        with without_retracing_warnings() if new else nullcontext():
            return np.asarray(self.model.predict_on_batch(self.keras_input(batch)))[: len(images)]

    def apply(self, model: keras.Model, images: np.ndarray) -> np.ndarray:
        """The output of another model with the same input, for pixels of 0-255, without compilation."""
        import keras

        found: np.ndarray = keras.ops.convert_to_numpy(model(self.keras_input(images), training=False))
        return found

    def keras_input(self, images: np.ndarray) -> np.ndarray:
        """The model's input for pixels of 0-255: preprocessed, in the model's data format."""
        from ..networks.recognise import channels_first

        scaled = scale_pixels(images, self.preprocessing)
        return np.moveaxis(scaled, -1, 1) if channels_first(self.model) else scaled


def require_finite(name: str, outputs: np.ndarray, pictures: Sequence[object]) -> np.ndarray:
    """Return a model's outputs (n, …) for n images unchanged, or raise InputError if any is NaN or infinite.

    The message names the model and the first such image. Call it before outputs are ranked or averaged.
    """
    broken = np.flatnonzero(~np.isfinite(outputs.reshape(len(pictures), -1)).all(axis=1))
    if len(broken):
        raise InputError(
            f"{name}: computes NaN or infinity for {len(broken)} of {len(pictures)} pictures, the first of them "
            f"{pictures[broken[0]]}: its weights are damaged or too large for its precision; train or convert it again"
        )
    return outputs


def normalised(run: Run, images: np.ndarray) -> np.ndarray:
    """A model's output vectors, each divided by its length."""
    vectors = run(images)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def without_background(run: Run, images: np.ndarray) -> np.ndarray:
    """Drop TF-Slim's background class (index 0) and renormalise; uniform if all the mass was on it."""
    found = run(images)[:, 1:]
    total = found.sum(axis=1, keepdims=True)
    # NaN is kept, so that it cannot be mistaken for probabilities.
    return np.where(total == 0, 1 / found.shape[1], found / np.maximum(total, np.finfo(found.dtype).tiny))


def _as_imagenet(opened: OpenedModel, published: Mapping[str, float] | None = None) -> OpenedModel:
    """The model as one of ImageNet's 1000 classes, without TF-Slim's background class."""
    run = partial(without_background, opened.run) if label_offset(opened.outputs) else opened.run
    return replace(opened, classes=None, imagenet=True, outputs=CLASSES, run=run, published=published or {})


# Exported models


def _open_exported(text: str, path: Path, trust: bool, embedding: bool) -> OpenedModel:
    """Open an exported model with the library of its format."""
    runtime = open_runtime(path, trust=trust)
    card = runtime.card
    if embedding == card.gives_classes:
        gives = "probabilities of classes" if card.gives_classes else "an embedding"
        raise InputError(
            f"{text}: was exported to give {gives}: {'--pairs needs an embedding' if embedding else 'give --pairs'}"
        )
    if embedding:
        width = runtime.run(np.zeros((1, *card.size, 3), np.float32)).shape[1]
        run = partial(normalised, runtime.run)
        return OpenedModel(text, card.network, None, False, width, card_view(card), run)
    opened = OpenedModel(text, card.network, card.classes, False, len(card.classes), card_view(card), runtime.run)
    opened = replace(opened, thresholds=tuple(card.thresholds))
    if label_offset(len(card.classes)) is not None and (card.classes[-CLASSES], card.classes[-1]) == IMAGENET_ENDS:
        whole = card.central_crop == 1
        view = View(card.size, IMAGENET_CROP.fraction if whole else card.central_crop)
        return _as_imagenet(replace(opened, view=view, assumed=whole))
    return opened


# Bare weights, for which the network is built


def _open_registered(text: str, files: list[str], embedding: bool) -> OpenedModel:
    """Open registered weights with the file's own number of classes, the background class included."""
    with_classes = [file for file in files if registry.WEIGHTS[file].classes]
    file = (files if embedding else with_classes or files)[0]
    weights = registry.WEIGHTS[file]
    network = networks.find(weights.network, weights.variant)
    size = (weights.size, weights.size)
    if embedding:
        embedder = _open_keras(text, _built(network, None, size, file), None, True, preprocessing="none")
        return replace(embedder, network=network.name, published=weights.accuracy or {})
    if weights.label_offset is None:
        raise InputError(
            f"{text}: its {weights.classes or 'missing'} classes have no published names: use its embedding; "
            "verify pairs of faces with --pairs, or explain a similarity with --against"
        )
    model = _built(network, weights.classes, size, file)
    opened = _open_keras(text, model, None, False, imagenet=False, preprocessing="none")
    view = _published_view(weights, size)
    return _as_imagenet(replace(opened, network=network.name, view=view, assumed=False), weights.accuracy)


def _open_checkpoint(
    text: str, path: Path, network: str, variant: str, embedding: bool, *, imagenet: bool, ema: bool
) -> OpenedModel:
    """Open a checkpoint with the depths, scales, classes and size that the file shows."""
    from ..weights.inspect import inspect_checkpoint

    # Recognise the network, and check that it is the one in the prefix, if there is a prefix.
    finding = inspect_checkpoint(path)
    found = finding.network
    if network not in ("", found.name) or variant not in ("", found.variant):
        raise InputError(f"{text}: the file holds {found.name}:{found.variant}; leave the prefix out, or give this one")
    if ema and not finding.averages:
        raise _no_averages(text)
    # Build it with the settings that the file shows.
    height, width = finding.description.size
    size = (height or found.size, width or found.size)
    taken = {key: value for key, value in finding.options.items() if key in ("depths", "scale")} | {"ema": ema}
    left = finding.averages and not ema
    notes = (
        f"the file holds only weights: they are run in {found.name} ({found.variant}) at {size[0]}×{size[1]}, with "
        f"pixels preprocessed as {found.preprocessing.name!r} and a softmax",
    )
    if embedding:
        model = _built(found, None, size, path, **taken)
        embedder = _open_keras(text, model, None, True, preprocessing="none")
        return replace(embedder, network=found.name, assumed=True, averages=left, notes=notes)
    # For a classifier, also find out how images should be cropped.
    if finding.classes is None:
        raise _no_classifier(text)
    model = _built(found, finding.classes, size, path, **taken)
    imagenet = imagenet and label_offset(finding.classes) is not None and found.preprocessing.name == "inception"
    known = _view_by(finding.source, found, size)
    view = known or View(size, IMAGENET_CROP.fraction if imagenet else 1.0)
    opened = _open_keras(text, model, None, False, imagenet=False, preprocessing="none")
    opened = replace(opened, network=found.name, view=view, assumed=known is None, averages=left, notes=notes)
    return _as_imagenet(opened) if imagenet else opened


def _view_by(source: str, network: Network, size: tuple[int, int]) -> View | None:
    """The view of the source's registered weights for a network; None without any, or if the input is not square."""
    publisher = PUBLISHERS.get(source)
    for name, weights in registry.WEIGHTS.items():
        of_network = (weights.network, weights.variant) == (network.name, network.variant) and weights.classes
        if name.partition("/")[0] == publisher and of_network and size[0] == size[1]:
            return _published_view(weights, size)
    return None


def _published_view(weights: registry.Weights, size: tuple[int, int]) -> View:
    """The view with which registered weights were evaluated, or ImageNet's usual one."""
    if not weights.crop:
        return replace(IMAGENET_CROP, size=size)
    return View(size, weights.crop, weights.crop_mode, weights.interpolation)


def _built(
    network: Network,
    classes: int | None,
    size: tuple[int, int],
    weights: str | Path,
    *,
    ema: bool = False,
    **options: Any,
) -> keras.Model:
    """Build the network with these weights, from pixels to probabilities, or without `classes` to the embedding."""
    import keras

    from ..networks import factories
    from ..weights.load import load_weights

    shape = (*size, 3) if keras.config.image_data_format() == "channels_last" else (3, *size)
    head: dict[str, Any] = {"num_classes": classes} if classes else {}
    if not classes and not network.embedding:
        head = {"include_top": False, "pooling": "avg"}
    factory = getattr(factories, f"create_{network.name}")
    options |= {"include_preprocessing": True, "weights": None if ema else str(weights)}
    model = factory(variant=network.variant, input_shape=shape, **head, **options)
    if ema:
        load_weights(model, weights, ema=True)
    return model


def _network(wanted: str) -> tuple[str, str]:
    """Parse NETWORK[:VARIANT] to (network, variant). A missing part is ""."""
    if not wanted:
        return "", ""
    network, colon, variant = wanted.partition(":")
    first = next(iter(networks.NETWORKS.get(network, {"paper": None})))
    networks.find(network, variant if colon else first)
    return network, variant


def _fitting(name: str, network: str, variant: str) -> list[str]:
    """A registered name's files for a network. Raises InputError if they are for several networks or none."""
    every = registry.files_of(name)
    files = [
        file
        for file in every
        if network in ("", registry.WEIGHTS[file].network) and variant in ("", registry.WEIGHTS[file].variant)
    ]
    kinds = {(registry.WEIGHTS[file].network, registry.WEIGHTS[file].variant) for file in files}
    if len(kinds) == 1:
        return files
    fitting = sorted({f"{registry.WEIGHTS[file].network}:{registry.WEIGHTS[file].variant}={name}" for file in every})
    why = f"has no weights for {':'.join(filter(None, (network, variant)))}" if network else "has several networks"
    raise InputError(f"{name!r} {why}: give {' or '.join(fitting)}")

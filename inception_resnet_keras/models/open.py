"""THE door: whatever a user names becomes a model that takes pixels of 0-255, and that says what it gives.

A model is named in one of these ways:

    a Keras model, in memory    run as it is
    FILE.keras, FILE.h5         a model that Keras or this project saved: run as its own graph
    RUN                         the folder of a training run: its model.keras
    a SavedModel's folder, FILE.onnx, FILE.xml or FILE.tflite
                                what `export` wrote
    [NETWORK[:VARIANT]=]NAME    registered weights, such as inception_v4=imagenet or timm/inception_v4.tf_in1k
    [NETWORK[:VARIANT]=]PATH    bare weights, in any format that `load_weights` reads: their network is built anew,
                                and what the file does not say is assumed and noted
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from .. import networks
from ..common.arguments import boolean, text_of
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
IMAGENET_CROP = View((299, 299), 0.875)  # TF-Slim's, of whose weights the others are conversions
# Whose checkpoints are looked at as the registry says: `inspect`'s source → what the names of its entries begin with.
PUBLISHERS = {
    "TF-Slim": "slim",
    "kentsommer/keras-inceptionV4": "kentsommer",
    "keras.applications": "keras",
    "timm": "timm",
}
IMAGENET_ENDS = ("tench", "toilet_tissue")  # the first and the last class, as Keras names them


@dataclass(frozen=True)
class OpenedModel:
    """A model as a function from pixels to probabilities or embeddings.

    name: As the user named it. network: Whose table it is of, "" where that is not known.
    classes: Names in the order of the outputs; None where it carries none.
    imagenet: Whether its outputs are ImageNet's classes. outputs: How many it has.
    view: How one picture becomes its input.
    run: float32 (n, height, width, 3), pixels of 0-255, to float32 (n, outputs).
    published: Accuracy as its source publishes it, %, by measure.
    assumed: Whether nothing says that the weights were made for this view.
    averages: Whether its file has running averages of the weights that were not taken.
    notes: What was assumed, or added to the model, one sentence each.
    model: The Keras model behind `run`; None for what `export` wrote.
    preprocessing: What `run` makes of pixels before the model reads them.
    runner: What runs the Keras model inside `run`; None for what `export` wrote.
    thresholds: Of a model of several labels per picture, one per class: a label is predicted where its probability is
        at least this. Empty where each picture has one class, or nothing says that it may have several.
    sigmoids: Whether each output is known to be a sigmoid of its own, so that a picture may have several classes.
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
        """What `model` reads, of pixels of 0-255 (n, height, width, 3): preprocessed, in its own data format."""
        assert self.runner is not None
        return self.runner.keras_input(images)


@dataclass(frozen=True)
class ModelSource:
    """A model that exists, and is not opened yet. exported: Whether `export` wrote it, so that it has no gradients."""

    name: str
    opener: Callable[[bool], OpenedModel]
    exported: bool = False

    def open(self, *, embedding: bool = False) -> OpenedModel:
        """Opens it for its classes, or for the embedding of pictures.

        Raises InputError where it gives none, or is damaged.
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
    """Opens a model, whatever it is kept as; the arguments are those of `locate` and `ModelSource.open`."""
    source = locate(model, imagenet=imagenet, ema=ema, preprocessing=preprocessing, trust=trust)
    return source.open(embedding=embedding)


def display_name(model: GivenModel) -> str:
    """What a model is called in reports."""
    return text_of("model", model) if isinstance(model, str | PathLike) else f"{model.name} (Keras)"


def locate(
    model: GivenModel,
    *,
    imagenet: bool = True,
    ema: bool = False,
    preprocessing: str | None = None,
    trust: bool = False,
) -> ModelSource:
    """Finds a model without opening it.

    Args:
        model: The model, named in one of the ways above.
        imagenet: Whether 1000 or 1001 classes without names are taken to be ImageNet's.
        ema: Whether to take the running averages that a checkpoint may have beside its weights.
        preprocessing: How the model takes pixels, one of `PREPROCESSINGS`, where that cannot be measured; None to
            measure it. "none" is 0-255 as they are.

    Raises:
        InputError: There is no such model, or an argument does not fit it. No engine is started for a path.
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
    prefix, equals, rest = text.partition("=")
    wanted = prefix if equals and not Path(text).exists() else ""
    source = rest if wanted else text
    network, variant = _network(wanted)
    if source in registry.NAMES:
        _refuse_options(text, ema=ema, preprocessing=preprocessing)
        return partial(_open_registered, text, _fitting(source, network, variant))
    path = Path(source)
    if not path.exists() and not is_checkpoint(path):  # a TensorFlow checkpoint is named by what its files begin with
        known = ", ".join(map(repr, registry.NAMES))
        raise InputError(
            f"{text}: there is no such file, folder or registered name; a run's folder, a .keras file, or "
            f"[NETWORK[:VARIANT]=]WEIGHTS is needed, weights being a checkpoint's path or one of {known}"
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
    """Whether a path is of a model with its graph; False for bare weights, also those of a folder."""
    if path.is_dir():
        return holds_model(path) or not holds_checkpoints(path)
    return path.suffix.lower() in (".xml", ".onnx", ".tflite", ".bin") or has_graph(path)


def find_keras_file(path: Path) -> Path | None:
    """The file of the Keras model that a path names: the path itself, or a run's; None for what `export` wrote.

    Raises InputError where there is no model, or a run's folder holds the model of another run. Starts no engine.
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
        raise InputError(f"preprocessing: got {preprocessing!r}, and {text} takes pixels of 0-255 here; leave it out")


def _no_averages(text: str) -> InputError:
    return InputError(f"ema: {text} has no running averages, which trainers' checkpoints may have; leave --ema out")


def _no_classifier(text: str) -> InputError:
    return InputError(
        f"{text}: has no classifier: it gives embeddings; verify pairs of faces with --pairs, "
        "or explain a likeness with --against"
    )


# A model with its own graph


@dataclass
class KerasModel:
    """A Keras model, and what was found out about it.

    model: Functional, from one picture to one output. card: What its file says, if this project wrote it.
    network: The network of the tables that it holds, perhaps inside other models; None for another.
    source: The project whose layer names the network has. size: (height, width) of its pictures.
    preprocessing: What pixels of 0-255 must become before it reads them.
    ending: What its output is. notes: What was assumed.
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
        """What makes probabilities of logits; None for a model whose outputs are none."""
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
    """What a Keras model is: its graph, size, preprocessing and output.

    Args:
        name: What errors call it. given: The model, or its file.
        card: What its file says; None for a model that this project did not write.
        preprocessing: One of `PREPROCESSINGS`, or None to measure it.
        size: (height, width) of the pictures that a model of any size is to take; None for what it says itself.
        default_size: Whether a model of any size takes, without `size`, the one that its network was made for.

    Raises:
        InputError: The file cannot be read; the model is no functional model of one picture with an output of
            (batch, n); its size is not known, or is not `size`; or the pixels that it takes cannot be told and
            `preprocessing` is None.
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
        raise InputError(f"{name}: its graph is not known; a functional or sequential Keras model is needed")
    notes: list[str] = []
    output, *others = keras.tree.flatten(model.output)
    if others:
        first, *rest = model.output_names
        notes.append(f"its first output is used, {first}, without {', '.join(rest)}")
        model = keras.Model(model.input, output, name=model.name)
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        takes = ", ".join(str(tuple(each.shape)) for each in model.inputs)
        raise InputError(f"{name}: takes {takes}; a model of one picture is needed: (batch, height, width, 3)")
    if len(output.shape) != 2:
        raise InputError(
            f"{name}: gives {tuple(output.shape)}; a classifier or an embedding is needed, which gives (batch, n): "
            "build it with include_top=True, or pooling='avg'"
        )
    flat = flattened(model)
    shapes, layers = model_shapes(flat), model_layers(flat)
    found = identify(shapes, layers) if shapes else None
    network = found.network if found else None
    shape = model.inputs[0].shape[1:]
    if shape[0 if channels_first(model) else 2] != 3:
        raise InputError(f"{name}: takes {tuple(shape)}; pictures of three channels are needed")
    size = _size(name, card.size if card else image_size(model), network if default_size else None, size)
    if preprocessing is not None:
        chosen = PREPROCESSINGS[preprocessing]
        measured = None if chosen is RAW else pixel_input(model, size, network)
        if measured and measured.measured and measured.preprocessing is RAW:
            raise InputError(f"preprocessing: got {preprocessing!r}, and {name} scales pixels itself; leave it out")
    elif card:
        chosen = RAW
    else:
        measured = pixel_input(model, size, network)
        chosen = require_known(measured, name, " or ".join(map(repr, PREPROCESSINGS)))
        if chosen is not RAW:
            notes.append(f"pixels are preprocessed as {chosen.name!r} before the model reads them: {measured.reason}")
    source = found.table.source if found else ""
    return KerasModel(model, card, network, source, size, chosen, output_kind(output), notes)


def _size(name: str, own: tuple[Any, Any], network: Network | None, given: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of a model's pictures; of any size, the one that is given or that its network was made for."""
    height, width = own
    if given is not None:
        if any(side not in (None, wanted) for side, wanted in zip(own, given, strict=True)):
            shown = "×".join(str(side or "any") for side in own)
            raise InputError(f"size: got {given[0]}×{given[1]}, and {name} takes pictures of {shown}; leave it out")
        return given
    if height and width:
        return height, width
    if network is None:
        raise InputError(
            f"{name}: takes pictures of any size; say which with size= (--size) where it is exported, or build it for "
            "the one that it is to be used with"
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
    """A Keras model, run as its own graph."""
    import keras

    from ..networks.ends import classifier_input

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
    if found.ending == "embedding":
        raise _no_classifier(name)
    if activation := found.activation:
        notes.append(f"it gives logits: a {activation} makes probabilities of them")
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


def common_value_range(opened: Sequence[OpenedModel]) -> tuple[float, float] | None:
    """The value range of pictures of more than 8 bits, where the models agree; InputError where they do not."""
    ranges = {each.view.value_range: each.name for each in opened}
    if len(ranges) > 1:
        listed = ", ".join(f"{name} ({shown or 'none'})" for shown, name in ranges.items())
        raise InputError(f"the models were trained with different ranges of values: {listed}; use them one by one")
    return next(iter(ranges))


def card_view(card: Card) -> View:
    """What the run that a card is of was evaluated on."""
    return View(card.size, card.central_crop, value_range=card.value_range)


class KerasRun:
    """A model on arrays, compiled for some lengths of batches: one between them is filled up to the next.

    A batch that is longer than all before it is another length to compile for.

    model: What is run; it may be replaced by one that computes the same. preprocessing: What pixels become before.
    """

    def __init__(self, model: keras.Model, preprocessing: Preprocessing = RAW) -> None:
        self.model, self.preprocessing = model, preprocessing
        self._lengths: list[int] = []  # ascending

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Pixels of 0-255, float32 (n, height, width, 3), to float32 (n, outputs)."""
        if not self._lengths or self._lengths[-1] < len(images):
            self._lengths.append(len(images))
        missing = next(length for length in self._lengths if length >= len(images)) - len(images)
        batch = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else images
        return np.asarray(self.model.predict_on_batch(self.keras_input(batch)))[: len(images)]

    def apply(self, model: keras.Model, images: np.ndarray) -> np.ndarray:
        """What another model of the same input gives for pixels, without compiling it."""
        import keras

        found: np.ndarray = keras.ops.convert_to_numpy(model(self.keras_input(images), training=False))
        return found

    def keras_input(self, images: np.ndarray) -> np.ndarray:
        from ..networks.recognise import channels_first

        scaled = scale_pixels(images, self.preprocessing)
        return np.moveaxis(scaled, -1, 1) if channels_first(self.model) else scaled


def require_finite(name: str, outputs: np.ndarray, pictures: Sequence[object]) -> np.ndarray:
    """A model's outputs, unchanged; InputError names the model and the first picture if any is NaN or infinite.

    outputs: (n, …), of n pictures. Whatever ranks or averages outputs asks this first: NaN has no rank.
    """
    broken = np.flatnonzero(~np.isfinite(outputs.reshape(len(pictures), -1)).all(axis=1))
    if len(broken):
        raise InputError(
            f"{name}: gives NaN or infinity for {len(broken)} of {len(pictures)} pictures, the first of them "
            f"{pictures[broken[0]]}: its weights are damaged, or too large for its precision; train or convert it anew"
        )
    return outputs


def normalised(run: Run, images: np.ndarray) -> np.ndarray:
    """The vectors that a model gives, each divided by its length."""
    vectors = run(images)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def without_background(run: Run, images: np.ndarray) -> np.ndarray:
    """Drops TF-Slim's background class (index 0) and renormalises; uniform if all the mass was on it."""
    found = run(images)[:, 1:]
    total = found.sum(axis=1, keepdims=True)
    # NaN stays: it must not pass for probabilities.
    return np.where(total == 0, 1 / found.shape[1], found / np.maximum(total, np.finfo(found.dtype).tiny))


def _as_imagenet(opened: OpenedModel, published: Mapping[str, float] | None = None) -> OpenedModel:
    """A model whose 1000 outputs, or 1001 with TF-Slim's background, are ImageNet's classes."""
    run = partial(without_background, opened.run) if label_offset(opened.outputs) else opened.run
    return replace(opened, classes=None, imagenet=True, outputs=CLASSES, run=run, published=published or {})


# What `export` wrote


def _open_exported(text: str, path: Path, trust: bool, embedding: bool) -> OpenedModel:
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


# Bare weights, whose network is built anew


def _open_registered(text: str, files: list[str], embedding: bool) -> OpenedModel:
    """With the file's own number of classes, its background class among them."""
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
            f"{text}: its {weights.classes or 'missing'} classes have no published names here: it gives embeddings; "
            "verify pairs of faces with --pairs, or explain a likeness with --against"
        )
    model = _built(network, weights.classes, size, file)
    opened = _open_keras(text, model, None, False, imagenet=False, preprocessing="none")
    view = _published_view(weights, size)
    return _as_imagenet(replace(opened, network=network.name, view=view, assumed=False), weights.accuracy)


def _open_checkpoint(
    text: str, path: Path, network: str, variant: str, embedding: bool, *, imagenet: bool, ema: bool
) -> OpenedModel:
    """A checkpoint by its own numbers: blocks, scales, classes and size where the file tells them."""
    from ..weights.inspect import inspect_checkpoint

    finding = inspect_checkpoint(path)
    found = finding.network
    if network not in ("", found.name) or variant not in ("", found.variant):
        raise InputError(f"{text}: the file is of {found.name}:{found.variant}")
    if ema and not finding.averages:
        raise _no_averages(text)
    height, width = finding.description.size
    size = (height or found.size, width or found.size)
    taken = {key: value for key, value in finding.options.items() if key in ("depths", "scale")} | {"ema": ema}
    left = finding.averages and not ema
    notes = (
        f"the file holds weights alone: they are run in {found.name} ({found.variant}) at {size[0]}×{size[1]}, with "
        f"pixels preprocessed as {found.preprocessing.name!r} and a softmax",
    )
    if embedding:
        model = _built(found, None, size, path, **taken)
        embedder = _open_keras(text, model, None, True, preprocessing="none")
        return replace(embedder, network=found.name, assumed=True, averages=left, notes=notes)
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
    """What the source's registered weights of the network look at; None where there are none, or no square input is."""
    publisher = PUBLISHERS.get(source)
    for name, weights in registry.WEIGHTS.items():
        of_network = (weights.network, weights.variant) == (network.name, network.variant) and weights.classes
        if name.partition("/")[0] == publisher and of_network and size[0] == size[1]:
            return _published_view(weights, size)
    return None


def _published_view(weights: registry.Weights, size: tuple[int, int]) -> View:
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
    """The network with these weights, from pixels to probabilities; without classes, to what it embeds a picture as."""
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
    """("", "") for none; a variant may be left out."""
    if not wanted:
        return "", ""
    network, colon, variant = wanted.partition(":")
    first = next(iter(networks.NETWORKS.get(network, {"paper": None})))
    networks.find(network, variant if colon else first)
    return network, variant


def _fitting(name: str, network: str, variant: str) -> list[str]:
    """The files of a registered name that are of the network; of one network, whatever was asked for."""
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
    why = f"has no weights of {':'.join(filter(None, (network, variant)))}" if network else "is of several networks"
    raise InputError(f"{name!r} {why}: give {' or '.join(fitting)}")

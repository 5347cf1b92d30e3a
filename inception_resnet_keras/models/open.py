"""What is evaluated: a model as a function from pictures to probabilities or embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from .. import networks
from ..common.arguments import text_of
from ..common.errors import InputError, refuse
from ..data.crops import View
from ..networks.rows import Network
from ..weights import registry
from ..weights.convert import ours
from ..weights.convert.identify import identify
from ..weights.labels import CLASSES, label_offset
from ..weights.readers import is_checkpoint, open_checkpoint
from .model_file import Card, has_card, load_model, read_card
from .runtimes import KerasRuntime, find_model, open_model

if TYPE_CHECKING:
    import keras

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Subject:
    """An opened model.

    name: as it was asked for. network: whose table it is of, "" where that is not known.
    classes: names in the order of the outputs; None where it carries none.
    imagenet: whether its outputs are ImageNet's classes. outputs: how many it has.
    view: how one picture becomes its input.
    run: float32 (n, height, width, 3), pixels of 0-255, to float32 (n, outputs).
    published: accuracy as its source publishes it, %, by measure.
    assumed: whether nothing says that the weights were made for this view.
    averages: whether its file has running averages of the weights that were not taken.
    model: the Keras model behind `run`, from pixels in its own data format; None for what `export` wrote.
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
    model: keras.Model | None = None


def without_background(run: Run, images: np.ndarray) -> np.ndarray:
    """Slim's class 0 is none of ImageNet's: the others' probabilities, made to sum to 1; equal ones if it has all."""
    found = run(images)[:, 1:]
    total = found.sum(axis=1, keepdims=True)
    return np.where(total > 0, found / np.maximum(total, np.finfo(found.dtype).tiny), 1 / found.shape[1])


def normalised(run: Run, images: np.ndarray) -> np.ndarray:
    vectors = run(images)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def keras_run(model: keras.Model) -> Run:
    """A model on arrays, compiled for batches of the first one's length: a shorter one is filled up."""
    from ..networks.features import channels_first

    first = channels_first(model)
    length = 0

    def run(images: np.ndarray) -> np.ndarray:
        nonlocal length
        length = max(length, len(images))
        missing = length - len(images)
        batch = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else images
        return np.asarray(model.predict_on_batch(np.moveaxis(batch, -1, 1) if first else batch))[: len(images)]

    return run


IMAGENET_CROP = View((299, 299), 0.875)  # TF-Slim's, of whose weights the others are conversions
# Whose checkpoints are looked at as the registry says: `inspect`'s source → what the names of its entries begin with.
PUBLISHERS = {
    "TF-Slim": "slim",
    "kentsommer/keras-inceptionV4": "kentsommer",
    "keras.applications": "keras",
    "timm": "timm",
}

IMAGENET_ENDS = ("tench", "toilet_tissue")  # the first and the last class, as Keras names them


def no_averages(text: str) -> InputError:
    return InputError(f"ema: {text} has no running averages: only checkpoints of TensorFlow 1 have; leave --ema out")


def of_keras(model: keras.Model, name: str) -> Callable[[bool], Subject]:
    """A model in memory, called `name` in reports, from pixels of 0-255; its classes' names are not in it."""
    import keras

    from ..networks.features import image_size

    shape, given = getattr(model, "input_shape", None), getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:] or not isinstance(given, tuple):
        raise InputError(f"{name}: takes {shape}; a model of pictures of one size is needed: (batch, height, width, 3)")
    if len(given) != 2:
        raise InputError(f"{name}: gives {given}; (batch, classes) is needed, or for faces (batch, width)")
    shapes = {f"{layer.name}/{weight.name}": tuple(weight.shape) for layer in model.layers for weight in layer.weights}
    found = identify(shapes, (ours.TABLE,)) if shapes else None
    scaled = any(isinstance(node, keras.layers.Rescaling) and node.input is model.inputs[0] for node in model.layers)
    if found and not scaled:
        raise InputError(
            f"{name}: takes pictures that are scaled already, and is given pixels of 0-255 here: build it with "
            "include_preprocessing=True"
        )
    network = found.network.name if found else ""
    size = image_size(model)

    def opened(embedding: bool) -> Subject:
        if embedding:
            return _embedder(name, network, model)
        return Subject(name, network, None, False, given[1], View(size), keras_run(model), model=model)

    return opened


def open_saved(text: str, path: Path, embedding: bool) -> Subject:
    model, card = load_model(path)
    if embedding:
        return replace(_embedder(text, card.network, model), view=view_of(card))
    return Subject(
        text, card.network, card.classes, False, len(card.classes), view_of(card), keras_run(model), model=model
    )


def view_of(card: Card) -> View:
    """What the run that a card is of was evaluated on."""
    return View(card.size, card.central_crop)


def open_exported(text: str, path: Path, embedding: bool) -> Subject:
    runtime = open_model(path)
    card = runtime.card
    if embedding == card.gives_classes:
        gives = "probabilities of classes" if card.gives_classes else "an embedding"
        raise InputError(
            f"{text}: was exported to give {gives}: {'--pairs needs an embedding' if embedding else 'give --pairs'}"
        )
    if embedding:
        width = runtime.run(np.zeros((1, *card.size, 3), np.float32)).shape[1]
        run = partial(normalised, runtime.run)
        return Subject(text, card.network, None, False, width, view_of(card), run)
    if label_offset(len(card.classes)) is not None and (card.classes[-CLASSES], card.classes[-1]) == IMAGENET_ENDS:
        whole = card.central_crop == 1
        view = View(card.size, IMAGENET_CROP.fraction if whole else card.central_crop)
        return replace(_imagenet(text, card.network, runtime.run, view, outputs=len(card.classes)), assumed=whole)
    return Subject(text, card.network, card.classes, False, len(card.classes), view_of(card), runtime.run)


def open_registered(text: str, name: str, files: list[str], embedding: bool) -> Subject:
    """With the file's own number of classes, its background class among them."""
    with_classes = [file for file in files if registry.WEIGHTS[file].classes]
    file = (files if embedding else with_classes or files)[0]
    weights = registry.WEIGHTS[file]
    network = networks.find(weights.network, weights.variant)
    if embedding:
        embedder = _embedder(text, network.name, _built(network, None, (weights.size, weights.size), file))
        return replace(embedder, published=weights.accuracy or {})
    if weights.label_offset is None:
        raise InputError(
            f"{text}: its {weights.classes or 'missing'} classes have no published names here: it gives embeddings; "
            "verify pairs of faces with --pairs, or explain a likeness with --against"
        )
    size = (weights.size, weights.size)
    model = _built(network, weights.classes, size, file)
    return _imagenet_model(text, network.name, model, _published_view(weights, size), published=weights.accuracy)


def open_checkpoint_file(
    text: str, path: Path, network: str, variant: str, embedding: bool, *, imagenet: bool, ema: bool
) -> Subject:
    """A checkpoint by its own numbers: blocks, scales, classes and size where the file tells them."""
    from ..weights.inspect import input_side, inspect_checkpoint

    finding = inspect_checkpoint(path)
    found = finding.network
    if network not in ("", found.name) or variant not in ("", found.variant):
        raise InputError(f"{text}: the file is of {found.name}:{found.variant}")
    if ema and not finding.averages:
        raise no_averages(text)
    shape = finding.settings.get("input_shape", ())
    sides = tuple(side for side in shape if side and side > 4)
    size = sides if len(sides) == 2 else (input_side(found), input_side(found))
    taken = {key: value for key, value in finding.options.items() if key in ("depths", "scale")} | {"ema": ema}
    left = finding.averages and not ema
    if embedding:
        embedder = _embedder(text, found.name, _built(found, None, size, path, **taken))
        return replace(embedder, assumed=True, averages=left)
    if finding.classes is None:
        raise InputError(
            f"{text}: has no classifier: it gives embeddings; verify pairs of faces with --pairs, "
            "or explain a likeness with --against"
        )
    model = _built(found, finding.classes, size, path, **taken)
    as_many = label_offset(finding.classes) is not None and found.preprocessing.name == "inception"
    imagenet = imagenet and as_many
    known = _view_by(finding.source, found, size)
    view = known or View(size, IMAGENET_CROP.fraction if imagenet else 1.0)
    if imagenet:
        return replace(_imagenet_model(text, found.name, model, view), assumed=known is None, averages=left)
    outputs, run = finding.classes, keras_run(model)
    return Subject(text, found.name, None, False, outputs, view, run, assumed=known is None, averages=left, model=model)


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


def _imagenet(
    text: str, network: str, run: Run, view: View, *, outputs: int, published: Mapping[str, float] | None = None
) -> Subject:
    if label_offset(outputs):
        run = partial(without_background, run)
    return Subject(text, network, None, True, CLASSES, view, run, published or {})


def _imagenet_model(
    text: str, network: str, model: keras.Model, view: View, *, published: Mapping[str, float] | None = None
) -> Subject:
    outputs = model.output_shape[-1]
    subject = _imagenet(text, network, keras_run(model), view, outputs=outputs, published=published)
    return replace(subject, model=model)


def _embedder(text: str, network: str, model: keras.Model) -> Subject:
    """By its embedding, or what its classifier reads; of length 1 either way."""
    import keras

    from ..networks.features import embedding_of, image_size

    model = keras.Model(model.input, embedding_of(model))
    run, view = partial(normalised, keras_run(model)), View(image_size(model))
    return Subject(text, network, None, False, model.output_shape[-1], view, run, model=model)


GivenModel: TypeAlias = Union[str, PathLike[str], "keras.Model"]


def open_model_or_name(model: GivenModel, *, imagenet: bool = True, ema: bool = False) -> Callable[[bool], Subject]:
    """As `locate`, of a Keras model too."""
    if isinstance(model, str | PathLike):
        return locate(text_of("model", model), imagenet=imagenet, ema=ema)
    import keras

    if not isinstance(model, keras.Model):
        raise refuse("model", model, "a run's folder, a file, a registered name, or a Keras model")
    if ema:
        raise no_averages(told_as(model))
    return of_keras(model, told_as(model))


def told_as(model: GivenModel) -> str:
    """What a model is called in reports."""
    return text_of("model", model) if isinstance(model, str | PathLike) else f"{model.name} (Keras)"


def locate(text: str, *, imagenet: bool = True, ema: bool = False) -> Callable[[bool], Subject]:
    """What opens a model: called with whether its embedding is wanted instead of its classes.

    imagenet: whether a checkpoint of 1000 or 1001 classes is taken to be of ImageNet's.
    ema: whether to take the running averages that a checkpoint of TensorFlow 1 may have beside its weights.

    Raises InputError where there is no such model, before an engine is started.
    """
    prefix, equals, rest = text.partition("=")
    wanted = prefix if equals and not Path(text).exists() else ""
    source = rest if wanted else text
    network, variant = _network(wanted)
    if source in registry.NAMES:
        if ema:
            raise no_averages(text)
        return partial(open_registered, text, source, _fitting(source, network, variant))
    path = Path(source)
    if not path.exists() and not is_checkpoint(path):  # a TensorFlow checkpoint is named by what its files begin with
        known = ", ".join(map(repr, registry.NAMES))
        raise InputError(
            f"{text}: there is no such file, folder or registered name; a run's folder, a .keras file, or "
            f"[NETWORK[:VARIANT]=]WEIGHTS is needed, weights being a checkpoint's path or one of {known}"
        )
    if not wanted:
        try:
            runtime, file = find_model(path)
        except InputError:
            if path.is_dir():
                raise
            return _checkpoint(text, path, network, variant, imagenet=imagenet, ema=ema)
        if ema and (runtime is not KerasRuntime or path.is_dir()):
            raise no_averages(text)
        if runtime is not KerasRuntime:
            return partial(open_exported, text, path)
        if path.is_dir() or has_card(file):
            read_card(file)
            return partial(open_saved, text, file)
    return _checkpoint(text, path, network, variant, imagenet=imagenet, ema=ema)


def _checkpoint(text: str, path: Path, network: str, variant: str, **options: bool) -> Callable[[bool], Subject]:
    with open_checkpoint(path):
        return partial(open_checkpoint_file, text, path, network, variant, **options)


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
    there = sorted({f"{registry.WEIGHTS[file].network}:{registry.WEIGHTS[file].variant}={name}" for file in every})
    why = f"has no weights of {':'.join(filter(None, (network, variant)))}" if network else "is of several networks"
    raise InputError(f"{name!r} {why}: give {' or '.join(there)}")

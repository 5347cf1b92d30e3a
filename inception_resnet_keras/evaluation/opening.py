"""Opens the models that are evaluated, whatever they are kept as.

A model is named in one of these ways:

    RUN or FILE.keras           what `train` wrote: classes, size and preprocessing are in it
    a SavedModel's folder, FILE.onnx, FILE.xml or FILE.tflite
                                what `export` wrote
    [NETWORK[:VARIANT]=]NAME    registered weights, such as inception_v4=imagenet or timm/inception_v4.tf_in1k
    [NETWORK[:VARIANT]=]PATH    a checkpoint that `load_weights` reads, of whatever format
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from .. import spec
from ..arguments import text_of
from ..errors import InputError, refuse
from ..inference.runtimes import KerasRuntime, find_model
from ..saving import has_card, read_card
from ..weights import registry
from ..weights.readers import is_checkpoint, open_checkpoint
from .openers import no_averages, of_keras, open_checkpoint_file, open_exported, open_registered, open_saved
from .subjects import Subject

if TYPE_CHECKING:
    import keras

GivenModel: TypeAlias = Union[str, PathLike[str], "keras.Model"]


def open_given(model: GivenModel, *, imagenet: bool = True, ema: bool = False) -> Callable[[bool], Subject]:
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
    first = next(iter(spec.NETWORKS.get(network, {"paper": None})))
    spec.find(network, variant if colon else first)
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

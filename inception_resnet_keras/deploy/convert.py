"""Convert checkpoints of any source to files of this package; a file is checked, and written whole or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Literal

import keras
import numpy as np

from ..common.errors import InputError, refuse
from ..common.files import new_files
from ..models.model_file import Card, has_graph, load_keras_model, read_card_if_any, save_model
from ..networks import factories, names
from ..networks.keras_graph import Graph, flattened
from ..networks.recognise import recognise_model
from ..weights.identify import SETTINGS_KEY, identify_checkpoint
from ..weights.inspect import Finding, inspect_checkpoint
from ..weights.load import LoadReport, load_weights
from ..weights.readers import open_checkpoint
from ..weights.readers.safetensors import save
from ..weights.runs import model_of_run
from ..weights.sources import OURS

FORMATS = ("keras", "safetensors")
LAYERS_TOLERANCE = 1e-4  # relative to a layer's largest output: float32 sums in another order, in a whole network


@dataclass(frozen=True)
class NumericCheck:
    """The comparison of the written file, opened again, with its source.

    Attributes:
        path: The written file.
        difference: The largest absolute difference between two numbers; of "layers", relative to each layer's largest.
        largest: The largest number.
        compared: What was compared with the source's own graph: its "outputs"; the outputs of the network's "layers",
            if the source has other layers around the network; or only weight "values", if its graph cannot be run, so
            that its outputs are not known.
        layers: The number of compared layers.
        reason: Why only values were compared.
    """

    path: str
    difference: float
    largest: float
    compared: Literal["outputs", "layers", "values"] = "outputs"
    layers: int = 0
    reason: str = ""

    def __str__(self) -> str:
        if self.compared == "values":
            return f"{self.path}: written and read back: equal values. Only values were compared: {self.reason}"
        if self.compared == "layers":
            return (
                f"{self.path}: written and read back: the outputs of {self.layers} layers differ from those of the "
                f"source's own graph by at most {self.difference:.3g} of the largest output"
            )
        return (
            f"{self.path}: written and read back: its outputs differ from those of the source's own graph by at most "
            f"{self.difference:.3g}; the largest output is {self.largest:.4g}"
        )


def convert_checkpoint(
    source: str | PathLike[str],
    out: str | PathLike[str],
    *,
    to: Literal["keras", "safetensors"] | None = None,
    ema: bool = False,
) -> tuple[LoadReport, NumericCheck]:
    """Convert a checkpoint to a .keras model, or to safetensors with the layer names of this package.

    A model that this package built is written to .keras completely, with the layers that you put around the network.
    For all other sources, only the network is written. The outputs of the written file are compared with those of the
    source's own graph, if it has one that Keras can open.

    Args:
        source: The path of the checkpoint, or a run's folder.
        out: The file to write, which must not exist.
        to: The format, "keras" or "safetensors"; its suffix is appended to `out` if that has neither. None takes the
            format from the suffix of `out`.
        ema: Whether to use the moving averages that are stored beside the weights.

    Returns:
        A pair `(report, check)`: a `LoadReport` of the loaded weights, and a `NumericCheck` with the largest difference
        between the outputs of the written file and those of the source.

    Raises:
        ValueError: The source cannot be loaded, `out` exists or has another suffix, or the outputs of the written file
            differ from those of the source.

    Examples:
        >>> import tempfile
        >>> from inception_resnet_keras import convert_checkpoint, create_inception_v4
        >>> folder = tempfile.mkdtemp()
        >>> create_inception_v4(depths=(1, 1, 1), input_shape=(96, 96, 3)).save_weights(folder + "/v4.weights.h5")
        >>> report, check = convert_checkpoint(folder + "/v4.weights.h5", folder + "/v4.safetensors")
        >>> check.compared, check.difference
        ('values', 0.0)
    """
    # Check the arguments, and identify the source.
    target, kind = _target(Path(out), to)
    if target.exists():
        raise InputError(f"out: {target} exists; it is not overwritten")
    if not target.parent.is_dir():
        raise InputError(f"out: {target.parent} is not a folder; create it first")
    path = model_of_run(Path(source)) or Path(source)
    finding = inspect_checkpoint(path)
    # Load the weights into a network of this package, or take the whole model if this package built it.
    own, unknown = _own_graph(path)
    whole = own if own is not None and kind == "keras" and finding.source == OURS.source and not ema else None
    card = read_card_if_any(path) if path.suffix == ".keras" else None
    model = whole or _build(finding)
    report = load_weights(model, path, ema=ema)
    if card and whole is None:
        report.notes.append(f"a {kind} file holds no class names")
    if finding.source == OURS.source and not finding.settings:
        report.notes.append(
            "the file does not hold scale, input and activation: the variant's own, and logits, are assumed"
        )
    # Write, read back and compare, before the file gets its name.
    with new_files(target) as folder:
        part = folder / target.name
        _write(model, finding, card if whole else None, part)
        again = _read_again(part)
        check = NumericCheck(str(target), *_difference(model, again), "values", reason=unknown)
        if whole is not None:
            check = replace(check, compared="outputs")
        elif own is not None and not ema:
            check = _compare_layers(own, again, path, str(target))
        if not check.difference <= check.largest * (LAYERS_TOLERANCE if check.compared == "layers" else 1e-6):
            raise InputError(f"{check}; it is not kept")
    return report, check


def _target(out: Path, to: str | None) -> tuple[Path, str]:
    """The file to write, with the suffix of `to` if it has neither, and its format."""
    if to is not None and to not in FORMATS:
        raise refuse("to", to, " or ".join(map(repr, FORMATS)))
    if to is not None and out.suffix.removeprefix(".") not in FORMATS:
        out = out.with_name(f"{out.name}.{to}")
    ending = out.suffix.removeprefix(".")
    if ending not in FORMATS or to not in (None, ending):
        raise refuse("out", str(out), f"a file ending in .{to}" if to else "a file ending in .keras or .safetensors")
    return out, ending


def _own_graph(path: Path) -> tuple[keras.Model | None, str]:
    """The source's own model, if it has a graph that Keras can open; otherwise None and the reason."""
    if not has_graph(path):
        return None, "the source holds weights without a graph"
    try:
        return load_keras_model(path, read_card_if_any(path) if path.suffix == ".keras" else None), ""
    except InputError as error:
        return None, f"the source's graph cannot be run here ({error})"


def _build(finding: Finding) -> keras.Model:
    options = {"classifier_activation": None} | finding.options
    if "classifier_activation" in finding.settings:
        options["classifier_activation"] = finding.settings["classifier_activation"]
    return getattr(factories, f"create_{finding.network.name}")(**options)


def _write(model: keras.Model, finding: Finding, card: Card | None, path: Path) -> None:
    if path.suffix == ".keras":
        save_model(model, path, card) if card else model.save(path)
        return
    arrays = {
        f"{layer.name}/{weight.name}": keras.ops.convert_to_numpy(weight)
        for layer in model.layers
        for weight in layer.weights
    }
    written = recognise_model(model) or finding.description
    metadata = {"network": written.name, "variant": written.variant, SETTINGS_KEY: json.dumps(written.settings())}
    save(path, arrays, metadata)


def _read_again(path: Path) -> keras.Model:
    """Open the written file as a user would."""
    if path.suffix == ".keras":
        return keras.saving.load_model(path, compile=False)
    model = _build(inspect_checkpoint(path))
    load_weights(model, path)
    return model


def _difference(model: keras.Model, again: keras.Model) -> tuple[float, float]:
    """The largest difference between two models' outputs for a random image, and the largest output."""
    shape = (1, *(side or 299 for side in model.input_shape[1:]))
    picture = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    wanted, found = (np.concatenate(list(map(np.ravel, _run(one, picture)))) for one in (model, again))
    if wanted.shape != found.shape:
        raise InputError(f"out: the written file has {found.size} outputs, but the source has {wanted.size}")
    return float(np.abs(found - wanted).max()), float(np.abs(wanted).max())


def _compare_layers(source: keras.Model, written: keras.Model, path: Path, shown: str) -> NumericCheck:
    """Compare each layer of the network in the source's graph with the same layer in the written file.

    The written network gets the input of the source's first convolution, so that it needs no layers in front of that.
    """
    # Match the layers that normalise or have a bias, which are those that end a convolution.
    with open_checkpoint(path) as checkpoint:
        identity = identify_checkpoint(checkpoint)
    flat = flattened(source)
    if flat is None or identity is None:
        return NumericCheck(shown, 0.0, 0.0, "values", reason="the source's graph is not known to Keras")
    theirs, ours = ({call.operation.name: call for call in Graph(one, one.output).calls} for one in (flat, written))
    statistics = [f"{layer.name}/moving_mean" for layer in written.layers if hasattr(layer, "moving_mean")]
    sums = [
        f"{layer.name}/bias" for layer in written.layers if isinstance(layer, keras.layers.Conv2D) and layer.use_bias
    ]
    pairs = {key.partition("/")[0]: identity.file_layer(key) for key in statistics + sums}
    missing = [name for name in pairs.values() if name not in theirs]
    first = names.inside(names.STEM, "conv", 1)
    entry = theirs.get(identity.file_layer(f"{first}/kernel"))
    if missing or entry is None:
        raise InputError(f"{path}: its graph has no layer {(missing or [first])[0]!r}, whose weights it holds")
    # Run the source on random images in its pixel range, and the written network on the input of the first convolution.
    image, (entering_tensor,) = flat.inputs[0], entry.input_tensors
    sides = [side or identity.network.size for side in image.shape[1:]]
    low, high = (-1, 1) if entering_tensor is image else (0, 255)
    pictures = np.random.default_rng(0).uniform(low, high, (2, *sides)).astype(np.float32)
    tensors = [entering_tensor, *(theirs[name].outputs[0] for name in pairs.values())]
    entering, *wanted = _run(keras.Model(flat.input, tensors), pictures)
    inside = keras.Model(ours[first].input_tensors[0], [ours[name].outputs[0] for name in pairs])
    found = _run(inside, entering)
    # Report the first layer that differs: an error there explains all later ones.
    off = {name: _relative(mine, other) for name, mine, other in zip(pairs, found, wanted, strict=True)}
    worst = max(off, key=off.__getitem__)
    if not off[worst] <= LAYERS_TOLERANCE:
        first_off = next(name for name in pairs if not off[name] <= LAYERS_TOLERANCE)
        raise InputError(
            f"{path}: its graph differs from the network that its weights fit, from layer {first_off!r} on, whose "
            f"outputs differ by {off[first_off]:.3g} of the largest; use the file as it is. Nothing is written"
        )
    return NumericCheck(shown, off[worst], 1.0, "layers", len(pairs))


def _relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, relative to the largest wanted number; infinite if the shapes differ."""
    if found.shape != wanted.shape:
        return float("inf")
    return float(np.abs(found - wanted).max() / max(float(np.abs(wanted).max()), 1e-30))


def _run(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    """All outputs of a model, computed eagerly: tracing a graph for one batch takes four times as long."""
    outputs = model(images, training=False)
    return list(map(keras.ops.convert_to_numpy, outputs if isinstance(outputs, list) else [outputs]))

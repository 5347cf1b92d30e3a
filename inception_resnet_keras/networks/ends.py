"""The two ends of a Keras model: which pixel range it takes, and what its output is.

The pixel range is measured. Images of a single colour are run through the graph up to the first layer with weights,
nested models included, which shows how the graph itself scales pixels. If it does not scale them, the moving statistics
of the first batch norm show the range of the training images.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import keras
import numpy as np

from ..common.errors import InputError
from . import names
from .keras_graph import Graph, filled_in, flattened, functional, paired, producing_call
from .recognise import channels_first
from .rows import INCEPTION, RAW, UNIT, Network, Preprocessing

OutputKind = Literal["logits", "sigmoids", "embedding", "other"]
COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [128, 64, 200]], np.float32)
# Largest minus smallest value that a network is trained on: of scaled pixels, and of pixels of 0-255.
SCALED_SPREAD, RAW_SPREAD = (0.5, 8.0), (200.0, 300.0)
RAW_DEVIATION = 5.0  # scaled pixels never have a larger standard deviation
YOUNG_MEAN, YOUNG_DEVIATION = 0.05, 1.6  # a smaller mean with a larger deviation: mostly the initial 0 and 1
UNSURE_MEAN, UNSURE_DEVIATION = 0.1, 0.3  # [-1, 1]: a mean below -0.1, or below 0.1 with a deviation above 0.3
_NO_CLASSES = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.UnitNormalization,
)


@dataclass(frozen=True)
class PixelInput:
    """The pixels that a model takes.

    Attributes:
        preprocessing: The preprocessing that turns pixels of 0-255 into the model's input; None if unknown.
        measured: Whether the graph or its statistics show it. Otherwise it is taken from the network's table.
        reason: What shows it, or why it is unknown, as a clause.
    """

    preprocessing: Preprocessing | None
    measured: bool
    reason: str


def pixel_input(model: keras.Model, size: tuple[int, int], network: Network | None) -> PixelInput:
    """Measure which pixels a functional model takes.

    Args:
        model: The model. Its first input is an image with three channels.
        size: (height, width) in pixels of the images to measure with, for sides that the model leaves open (None).
        network: The table of the network inside the model. Its preprocessing is assumed if nothing can be measured.
            None for a model that none of this package's tables describes.
    """
    # What reaches the first layer with weights?
    arrival = _arrival(model, size)
    if arrival is None:
        return PixelInput(None, False, "no layer with weights reads the image, so nothing can be measured")
    if arrival.gain is None:
        if arrival.invariant:
            return PixelInput(RAW, True, "the graph standardises each image itself")
        return PixelInput(None, False, f"its layers before {arrival.layer.name!r} are not a linear function of pixels")
    # A graph that passes pixels on unchanged shows nothing itself: its batch norm's statistics decide.
    gain, offset = arrival.gain, arrival.offset
    passes = np.allclose(gain, np.eye(3), atol=1e-4) and np.allclose(offset, 0, atol=1e-2)
    statistics = _trained_on(arrival)
    if passes:
        return _by_statistics(statistics, network)
    # A graph that scales pixels expects the one preprocessing with which they reach the usual range.
    found = [row for row in (RAW, UNIT, INCEPTION) if _is_usual(*_composed(row, gain, offset))]
    if len(found) > 1 and statistics is not None:
        found = [row for row in found if _explains(statistics, *_composed(row, gain, offset))]
    if len(found) == 1:
        return PixelInput(found[0], True, f"the graph scales its input before {arrival.layer.name!r}")
    return PixelInput(None, False, f"its layers before {arrival.layer.name!r} scale pixels to an unusual range")


@dataclass(frozen=True)
class _Arrival:
    """The first layer with weights, and its input as a function of the image: gain · (red, green, blue) + offset.

    Attributes:
        layer: The layer.
        norm: The batch norm that is the only reader of the layer's output; None without one.
        gain: Shape (3, 3); None if the layer's input is not a linear function of the image's colours.
        offset: Shape (3,).
        invariant: Whether an image in another pixel range gives the same input.
    """

    layer: Any
    norm: Any
    gain: np.ndarray | None
    offset: np.ndarray
    invariant: bool


def _arrival(model: keras.Model | None, size: tuple[int, int]) -> _Arrival | None:
    model = functional(model)
    if model is None:
        return None
    first = channels_first(model)
    shape = model.inputs[0].shape[1:]
    if len(shape) != 3 or shape[0 if first else 2] != 3:
        return None
    sides = tuple(side or default for side, default in zip(shape[1:] if first else shape[:2], size, strict=True))
    # The colours give gain and offset. The noise, in two ranges, shows whether the graph standardises each image.
    pictures = np.broadcast_to(COLOURS[:, None, None], (len(COLOURS), *sides, 3))
    noise = np.random.default_rng(0).uniform(0, 255, (1, *sides, 3)).astype(np.float32)
    batch = np.concatenate([pictures, noise, noise / 2 + 30])
    # Run the graph up to the first layer with weights.
    found = _run_to_weights(model, np.moveaxis(batch, -1, 1) if first else batch)
    if not isinstance(found, _Stop):
        return None
    values = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(found.value, "float32")))
    if getattr(found.layer, "data_format", "channels_last") == "channels_first":
        values = np.moveaxis(values, 1, -1)
    if values.ndim != 4 or values.shape[-1] != 3 or len(values) != len(batch):
        return _Arrival(found.layer, found.norm, None, np.zeros(3), False)
    # Black gives the offset, pure red, green and blue the gain. All colours must agree with them.
    colours = np.median(values[: len(COLOURS)], axis=(1, 2)).astype(np.float64)
    offset = colours[0]
    gain = (colours[1:4] - offset).T / 255
    spread = max(float(np.ptp(colours)), 1e-6)
    linear = np.abs(COLOURS @ gain.T + offset - colours).max() <= 1e-2 * spread and spread > 1e-5
    tolerance = 0.02 * max(float(np.abs(values[-2]).max()), 1e-6)
    invariant = not linear and bool(np.allclose(values[-2], values[-1], atol=tolerance))
    return _Arrival(found.layer, found.norm, gain if linear else None, offset, invariant)


@dataclass(frozen=True)
class _Stop:
    """The first layer with weights, its input, and the batch norm that is the only reader of its output."""

    layer: Any
    value: Any
    norm: Any


def _run_to_weights(model: keras.Model, value: Any) -> Any:
    """Run a functional model in inference mode, call by call, up to the first layer with weights.

    Returns a `_Stop` for that layer, or the model's output if no layer on the way has weights.
    """
    graph = Graph(model, model.output)
    values: dict[int, Any] = {id(model.inputs[0]): keras.ops.convert_to_tensor(value)}
    for call in graph.calls:
        if not any(id(tensor) in values for tensor in call.input_tensors):
            continue
        operation = call.operation
        args, kwargs = filled_in(call, values)
        if inner := functional(operation):
            result = _run_to_weights(inner, args[0])
            if isinstance(result, _Stop):
                return result
        elif getattr(operation, "weights", ()) and not isinstance(operation, keras.layers.Normalization):
            after = graph.only_reader(call.outputs[0])
            norm = after.operation if after and isinstance(after.operation, keras.layers.BatchNormalization) else None
            return _Stop(operation, args[0], norm)
        else:
            if isinstance(operation, keras.Layer) and "training" in inspect.signature(operation.call).parameters:
                # As in `predict`, even if the graph stores training=True, as it does for RandomBrightness by default.
                kwargs = {key: given for key, given in kwargs.items() if given is not None} | {"training": False}
            result = operation(*args, **kwargs)
        values |= dict(paired(call, result))
    return values.get(id(keras.tree.flatten(model.output)[0]))


def _composed(row: Preprocessing, gain: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gain and offset from pixels of 0-255 to the first layer, if `row` preprocesses the model's input."""
    mean, divisor = np.broadcast_to(row.mean, 3).astype(float), np.broadcast_to(row.divisor, 3).astype(float)
    own_gain, own_offset = np.diag(1 / divisor), -mean / divisor
    if row.reverse:
        own_gain, own_offset = own_gain[::-1], own_offset[::-1]
    return gain @ own_gain, gain @ own_offset + offset


def _is_usual(gain: np.ndarray, offset: np.ndarray) -> bool:
    """Whether this gain and offset map pixels of 0-255 to a range that networks are trained on."""
    ends = np.array([offset, gain @ np.full(3, 255.0) + offset])
    spread = float(np.abs(ends[1] - ends[0]).mean())
    centre = float(np.abs(ends.mean(axis=0)).mean())
    scaled = SCALED_SPREAD[0] <= spread <= SCALED_SPREAD[1] and centre <= 2 * spread
    return scaled or RAW_SPREAD[0] <= spread <= RAW_SPREAD[1]


def _trained_on(arrival: _Arrival) -> tuple[float, float] | None:
    """Mean and standard deviation of the first layer's input in training, estimated from its batch norm's statistics.

    The mean follows from the kernel's sum, because neighbouring pixels are similar. The deviation is the one at which
    images with the spectrum of photographs give the layer's output its stored variance. None without such statistics.
    """
    norm, layer = arrival.norm, arrival.layer
    kernel = getattr(layer, "kernel", None)
    if norm is None or kernel is None or len(kernel.shape) != 4 or kernel.shape[2] != 3 or norm.moving_mean is None:
        return None
    weights = keras.ops.convert_to_numpy(kernel).astype(np.float64)
    means = keras.ops.convert_to_numpy(norm.moving_mean).astype(np.float64)
    variances = keras.ops.convert_to_numpy(norm.moving_variance).astype(np.float64)
    if np.abs(means).max() < 1e-7 or not np.isfinite([*means, *variances]).all():
        return None
    if layer.bias is not None:
        means = means - keras.ops.convert_to_numpy(layer.bias)
    mean = np.linalg.lstsq(weights.sum(axis=(0, 1)).T, means, rcond=1e-2)[0].mean()
    height, width = weights.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(_photographs(), (height, width), axis=(1, 2))
    responses = np.einsum("nyxchw,hwco->nyxo", windows, weights, optimize=True).var(axis=(0, 1, 2))
    return float(mean), float(np.sqrt(np.median(variances / np.maximum(responses, 1e-30))))


@cache
def _photographs() -> np.ndarray:
    """float64 (8, 48, 48, 3): nearly grey images of mean 0 and variance 1 with the 1/f spectrum of photographs."""
    random = np.random.default_rng(0)
    frequencies = np.hypot(np.fft.fftfreq(48)[:, None], np.fft.rfftfreq(48))
    frequencies[0, 0] = 1 / 48
    grey = np.fft.irfft2(np.fft.rfft2(random.standard_normal((8, 48, 48))) / frequencies)
    tint = np.fft.irfft2(np.fft.rfft2(random.standard_normal((8, 3, 48, 48))) / frequencies)
    pictures = np.moveaxis(grey[:, None] / grey.std() + 0.3 * tint / tint.std(), 1, -1)
    return (pictures - pictures.mean()) / pictures.std()


def _by_statistics(statistics: tuple[float, float] | None, network: Network | None) -> PixelInput:
    """The pixels of a graph that does not scale them: what its statistics show clearly, else its table's preprocessing.

    The estimates are right to about a factor of two. Pixels of 0-255 are easily recognised. [0, 1] and [-1, 1] differ
    only by a factor of two, so that the sign of the mean decides; for bright training images the answer is "unknown".
    """
    assumed = None if network is None else network.preprocessing
    if statistics is None:
        if assumed is None:
            return PixelInput(None, False, "its graph does not scale pixels and has no statistics of their range")
        return PixelInput(assumed, False, "its graph has neither scaling nor statistics: its network's preprocessing")
    mean, deviation = statistics
    shown = f"its graph does not scale pixels; its first batch norm shows an input of mean {mean:.3g} ± {deviation:.3g}"
    if deviation > RAW_DEVIATION and (assumed is not None or mean > 0.15 * deviation):
        return PixelInput(RAW, True, shown)
    if assumed is None:
        return PixelInput(None, False, shown)
    return _of_small_numbers(mean, deviation, shown, assumed)


def _of_small_numbers(mean: float, deviation: float, shown: str, assumed: Preprocessing) -> PixelInput:
    """The pixels of a network of this package whose statistics rule out pixels of 0-255."""
    if abs(mean) < YOUNG_MEAN and deviation > YOUNG_DEVIATION:  # mostly the initial 0 and 1
        return PixelInput(assumed, False, f"{shown}, too little training to decide: its network's preprocessing")
    explained = _explains((mean, deviation), *_composed(INCEPTION, np.eye(3), np.zeros(3)))
    if explained and (mean < -UNSURE_MEAN or (mean <= UNSURE_MEAN and deviation > UNSURE_DEVIATION)):
        # Facenet's and Inception's divisors differ too little to be measured; per-image standardisation is not shown.
        return PixelInput(assumed, not assumed.per_image, shown)
    return PixelInput(None, False, f"{shown}, which fits several pixel ranges or none")


def _explains(statistics: tuple[float, float], gain: np.ndarray, offset: np.ndarray) -> bool:
    """Whether plausible images (not black, not white, with contrast) can give these statistics."""
    mean, deviation = statistics
    scale = float(np.abs(gain).sum(axis=1).mean())
    brightness, contrast = (mean - float(offset.mean())) / scale, deviation / scale
    return 8 < brightness < 247 and contrast > 8 and contrast**2 < 1.3 * brightness * (255 - brightness)


def output_kind(output: Any) -> OutputKind:
    """What a model's output tensor holds.

    "logits": its last layer with weights has no activation; "sigmoids": that layer, or the activation layer after it,
    is a sigmoid; "embedding": a pooled or normalised vector. Nested models are searched, and layers that change no
    value (Dropout, Reshape, …) are skipped.
    """
    layer: Any = None
    for layer in _producers(output):
        if layer.name in (names.EMBEDDING, names.POOLED) or isinstance(layer, _NO_CLASSES):
            return "embedding"
        if not _passes_on(layer):
            break
    weighted = isinstance(layer, keras.layers.Dense | keras.layers.Conv2D)
    if (weighted or isinstance(layer, keras.layers.Activation)) and layer.activation is keras.activations.sigmoid:
        return "sigmoids"
    return "logits" if weighted and layer.activation is keras.activations.linear else "other"


def _producers(tensor: Any) -> Iterator[Any]:
    """The operation that computes a tensor, inside nested models, then those before it while each has one input."""
    while True:
        call, which = producing_call(tensor)
        if inner := functional(call.operation):
            for layer in _producers(keras.tree.flatten(inner.output)[which]):
                if isinstance(layer, keras.layers.InputLayer):
                    break  # the nested model returns its input: go on before it
                yield layer
        else:
            yield call.operation
        if len(call.input_tensors) != 1:
            return
        (tensor,) = call.input_tensors


def _passes_on(layer: Any) -> bool:
    """Whether a layer changes no value in inference mode."""
    kinds = (keras.layers.Identity, keras.layers.Dropout, keras.layers.Flatten, keras.layers.Reshape)
    linear = isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.linear
    return linear or isinstance(layer, kinds)


@dataclass(frozen=True)
class Head:
    """A classifier's last layer with weights, in a model without nested models.

    Attributes:
        input: The layer's input, a Keras tensor (batch, width).
        logits: The layer's output before any activation, a Keras tensor (batch, classes).
    """

    input: Any
    logits: Any


def classifier_head(model: keras.Model) -> Head | None:
    """The dense layer at the end of a model without nested models; None if the model ends in an embedding or a map.

    If the layer has an activation of its own, a copy without it computes the logits.
    """
    tensor = keras.tree.flatten(model.output)[0]
    while True:
        call, _ = producing_call(tensor)
        layer = call.operation
        if layer.name in (names.EMBEDDING, names.POOLED) or isinstance(layer, _NO_CLASSES):
            return None
        if isinstance(layer, keras.layers.Dense):
            break
        activation = isinstance(layer, keras.layers.Activation | keras.layers.Softmax)
        if not (activation or _passes_on(layer)) or len(call.input_tensors) != 1:
            return None
        (tensor,) = call.input_tensors
    (read,) = call.input_tensors
    if layer.activation is keras.activations.linear:
        return Head(read, call.outputs[0])
    copy = type(layer).from_config({**layer.get_config(), "activation": "linear", "name": f"{layer.name}_logits"})
    logits = copy(read)
    copy.set_weights(layer.get_weights())
    return Head(read, logits)


def classifier_input(model: keras.Model) -> Any:
    """The feature vector of an image: the classifier's input, or the embedding; a Keras tensor (batch, width).

    Raises InputError for a model whose output is a map: it has neither a classifier nor an embedding.
    """
    flat = flattened(model)
    if flat is None or isinstance(flat.output, list | dict) or len(flat.output.shape) != 2:
        gives = getattr(model, "output_shape", None)
        raise InputError(
            f"model: {model.name!r} has neither a classifier nor an embedding: its output is {gives}; build it with "
            "include_top=True, or pooling='avg'"
        )
    head = classifier_head(flat)
    return flat.output if head is None else head.input


def require_known(found: PixelInput, name: str, takes: str) -> Preprocessing:
    """The preprocessing of the model `name`. Raises InputError, with the accepted values, if it is unknown."""
    if found.preprocessing is None:
        raise InputError(
            f"preprocessing: the pixel range that {name} takes is unknown ({found.reason}): set preprocessing= "
            f"(--preprocessing on the command line) to {takes}"
        )
    return found.preprocessing

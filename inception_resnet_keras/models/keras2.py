"""Rebuilds a whole model that Keras 2 saved, `.h5` or `.keras`, with its own graph in Keras 3.

Keras 3 opens only some of Keras 2's files, and some of those compute different values. Here the file's graph is read as
data: each layer becomes the equivalent layer of Keras 3 (`LAYERS`), each TensorFlow operation becomes an operation of
Keras (`tensorflow_ops`), and the layers are called as in the file. No code from the file is run. A layer whose
computation is code (Lambda, a user's class) is refused, except residual scaling, which is recognised by its name and
arguments, and classes that the user registered with Keras in this process.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
from keras import ops
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from ..common.arguments import is_number
from ..common.errors import InputError, reason_of
from ..weights.readers import open_checkpoint
from ..weights.readers.hdf5 import KERAS_FORMAT, read_graph
from ..weights.readers.keras_config import DEEPEST
from .tensorflow_ops import NODES, OPERATIONS


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Layers that compute the same in Keras 2 and 3 in inference mode. `_settings` renames the settings that differ.
LAYERS = _words("""
    Activation ActivityRegularization Add AlphaDropout Average AveragePooling2D BatchNormalization CenterCrop
    Concatenate Conv2D Conv2DTranspose Cropping2D Dense DepthwiseConv2D Dot Dropout ELU Flatten GaussianDropout
    GaussianNoise GlobalAveragePooling2D GlobalMaxPooling2D GroupNormalization LayerNormalization LeakyReLU Maximum
    MaxPooling2D Minimum Multiply Normalization Permute PReLU RandomBrightness RandomContrast RandomFlip RandomRotation
    RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing SeparableConv2D Softmax SpatialDropout2D
    Subtract UnitNormalization UpSampling2D ZeroPadding2D
""")
# Keras 2's names of layers that Keras 3 renamed. In inference mode, RandomHeight and RandomWidth do nothing.
OTHER_NAMES = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "ThresholdedReLU": "ReLU",
    "RandomHeight": "Identity",
    "RandomWidth": "Identity",
    "AddLoss": "Identity",
    "AddMetric": "Identity",
}
ACTIVATIONS = {
    **{name: name for name in _words("linear relu relu6 elu selu sigmoid softmax softplus softsign tanh gelu mish")},
    "exponential": "exponential",
    "swish": "silu",
    "silu": "silu",
}
# Settings that affect only training, or only initial weights, which the file's weights replace.
NO_EFFECT = _words("""
    adjustment batch_input_shape build_input_shape dynamic force_generator fused implementation noise_shape renorm
    renorm_clipping renorm_momentum rng_type seed synchronized trainable virtual_batch_size
""")
REGULARIZERS = ("L1", "L2", "L1L2", "OrthogonalRegularizer")
CONSTRAINTS = ("MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm")
WEIGHT_NAMES = {"DepthwiseConv2D": {"kernel": "depthwise_kernel"}}  # Keras 3's name → Keras 2's, where they differ
CONSTANT = "_CONSTANT_VALUE"  # replaces the layer's name in a reference
# The Lambda layers of keras.applications before 2.16: their module, and the beginnings of their names.
SCALED_SUM = ("inception_resnet_v2", ("block35_", "block17_", "block8_"))
SCALING = "inception_resnet_v1"  # module of the Keras port of facenet, whose Lambda layer `scaling` precedes a sum


@dataclass
class Built:
    """A layer that was built.

    Attributes:
        layer: The Keras layer; None for a TensorFlow operation.
        inside: The layers of a nested model, by name; None for a plain layer.
        then: A function to apply to the layer's output, if Keras 3 has no setting for it.
    """

    layer: Any
    inside: dict[str, Built] | None = None
    then: Callable[[Any], Any] | None = None


class _UnknownLayerError(ValueError):
    """Raised for a layer that cannot be built. The message names it."""


def written_by_keras2(path: Path) -> bool:
    """Whether a whole model's file has a version of Keras 2."""
    return read_graph(path).keras_version.startswith("2.")


def load_keras2(path: Path) -> keras.Model:
    """Load the model of a file that Keras 2 wrote, without its optimizer and losses.

    Raises:
        InputError: A layer's computation is code or does not exist in Keras 3, or the file is damaged.
    """
    config = read_graph(path).config
    try:
        built = _build_model(config, depth=0)
        _load_weights(path, built)
    except InputError:
        raise
    except _UnknownLayerError as error:
        raise InputError(
            f"{path}: {error}; the model's own graph cannot be run. If it contains a network of this package, "
            f"`inception-resnet-keras convert {path} OUT.keras` copies the network's weights into a new model"
        ) from error
    except Exception as error:  # for a damaged graph, Keras may raise any error
        raise InputError(f"{path}: its graph, which Keras 2 wrote, cannot be built: {reason_of(error)}") from error
    model: keras.Model = built.layer
    return model


# The graph


def _build_model(data: Mapping[str, Any], depth: int, shape: Any = None) -> Built:
    """Build a functional or sequential model. `shape` is the input of a sequential model that was saved without one."""
    kind, config = _class_name(data), data["config"]
    name = data.get("name") or (config.get("name") if isinstance(config, Mapping) else None) or "sequential"
    if depth > DEEPEST:
        raise _UnknownLayerError(f"its models are nested deeper than {DEEPEST}")
    if kind == "Sequential":
        return _build_chain(name, config, depth, shape or data.get("build_config", {}).get("input_shape"))
    if kind not in ("Functional", "Model") or "layers" not in config:
        raise _UnknownLayerError(f"its model {name!r} is of class {kind}, whose computation is code")
    graph = _Graph(config["layers"], depth)
    inputs = graph.tensors(config["input_layers"])
    outputs = graph.tensors(config["output_layers"])
    return Built(keras.Model(inputs, outputs, name=name), graph.built)


def _build_chain(name: str, config: Any, depth: int, shape: Any) -> Built:
    """Build a sequential model. Keras before 2.3 wrote its layers as a plain list."""
    layers = config if isinstance(config, list) else config["layers"]
    first = layers[0]["config"] if layers else {}
    settings = first if isinstance(first, Mapping) else {}
    built: dict[str, Built] = {}
    if layers and _class_name(layers[0]) == "InputLayer":
        tensor, layers = _input(settings), layers[1:]
    else:
        own = config.get("build_input_shape") if isinstance(config, Mapping) else None
        shape = settings.get("batch_input_shape") or own or shape or _input_shape(layers)
        if not shape:
            raise _UnknownLayerError(
                f"its model {name!r} was saved before it was built, without the shape of its input"
            )
        tensor = keras.Input(batch_shape=_plain(shape), name=f"{name}_input")
    image = tensor
    for data in layers:
        one = built[_name(data)] = _build(data, depth, tensor.shape)
        tensor = _call(data, one, tensor, {})
    return Built(keras.Model(image, tensor, name=name), built)


def _input_shape(layers: list[Any]) -> Any:
    """The input shape of a nested model at the beginning of a sequential one; None for another layer."""
    if not layers or not isinstance(layers[0]["config"], Mapping):
        return None
    inside = layers[0]["config"].get("layers") or [{"config": {}}]
    return inside[0]["config"].get("batch_input_shape")


def _input(config: Mapping[str, Any]) -> Any:
    if config.get("sparse") or config.get("ragged"):
        raise _UnknownLayerError(f"its input {config.get('name')!r} is sparse or ragged, so it is not an image")
    shape = config.get("batch_input_shape") or config.get("batch_shape")
    return keras.Input(batch_shape=_plain(shape), dtype=config.get("dtype") or "float32", name=config["name"])


class _Graph:
    """Builds and calls the layers of a functional model's configuration.

    If a layer is shared, the file may have a call before the calls whose outputs it reads. Such calls wait for the next
    round.
    """

    def __init__(self, layers: list[Any], depth: int) -> None:
        self.built: dict[str, Built] = {}
        self._outputs: dict[str, list[list[Any]]] = {}  # for each layer, the outputs of its calls in order
        self._data = {_name(data): data for data in layers}
        if len(self._data) != len(layers):
            raise _UnknownLayerError("two of its layers have the same name")
        waiting = {name: list(data.get("inbound_nodes", [])) for name, data in self._data.items()}
        self._first_call = _first_calls(self._data)
        for name, data in self._data.items():
            self._outputs[name] = []
            if _class_name(data) == "InputLayer":
                self._outputs[name].append([_input({"name": name} | data["config"])])
        while any(waiting.values()):
            before = sum(map(len, waiting.values()))
            for name, calls in waiting.items():
                while calls and self._is_ready(calls[0]):
                    self._run(name, calls.pop(0), depth)
            if sum(map(len, waiting.values())) == before:
                stuck = next(name for name, calls in waiting.items() if calls)
                raise _UnknownLayerError(f"its layer {stuck!r} reads a layer that does not exist")

    def tensors(self, given: Any) -> Any:
        """The tensors for a structure of [layer, call, output] references; a list of one is unwrapped."""
        found = self._filled(given)
        return found[0] if isinstance(found, list) and len(found) == 1 else found

    def _is_ready(self, call: Any) -> bool:
        return all(self._has(name, index) for name, index, *_ in _references(call) if name != CONSTANT)

    def _has(self, name: str, index: int) -> bool:
        return 0 <= index - self._first_call.get(name, 0) < len(self._outputs.get(name, ()))

    def _filled(self, value: Any) -> Any:
        """A structure with references replaced by their tensors."""
        if _is_reference(value):
            name, index, which = value[:3]
            if name == CONSTANT:
                return _plain(which)
            return self._outputs[name][index - self._first_call.get(name, 0)][which]
        if isinstance(value, list):
            return [self._filled(each) for each in value]
        if isinstance(value, Mapping) and "class_name" not in value:
            return {key: self._filled(each) for key, each in value.items()}
        return _plain(value)

    def _run(self, name: str, call: Any, depth: int) -> None:
        data = self._data[name]
        # A list of one is unwrapped for a layer, but not for an operation.
        arguments = self._filled(call) if _is_operation(data) else self.tensors(call)
        first = next(_references(call), None)
        if first is None:
            raise _UnknownLayerError(f"its layer {name!r} is called without a tensor")
        keywords = {key: self._filled(each) for key, each in (first[3] if len(first) > 3 else {}).items()}
        if name not in self.built:
            shape = getattr(arguments, "shape", None)
            self.built[name] = _build(data, depth, shape, lambda: _neighbours(self._data, name))
        result = _call(data, self.built[name], arguments, keywords)
        self._outputs[name].append(keras.tree.flatten(result))


def _first_calls(layers: Mapping[str, Any]) -> dict[str, int]:
    """The number of each nested model's first call, because Keras 2 may or may not count the model's own creation."""
    least: dict[str, int] = {}
    for data in layers.values():
        for name, index, *_ in _references(data.get("inbound_nodes", [])):
            least[name] = min(index, least.get(name, index))
    models = {name for name, data in layers.items() if _is_model(data)}
    return {name: least.get(name, 1) for name in models}


def _is_reference(value: Any) -> bool:
    """Whether a value is [layer, number of its call, number of its output] with or without further arguments."""
    return (
        isinstance(value, list)
        and 3 <= len(value) <= 4
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and (value[0] == CONSTANT or isinstance(value[2], int))
    )


def _references(value: Any) -> Iterator[list[Any]]:
    if _is_reference(value):
        yield value
        if len(value) > 3:
            yield from _references(list(value[3].values()))
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _references(each)


def _call(data: Mapping[str, Any], built: Built, arguments: Any, keywords: dict[str, Any]) -> Any:
    """The output of a layer for these tensors, as Keras 2 computes it in inference mode."""
    name, kind = _name(data), _class_name(data)
    if _is_operation(data):
        return _run_operation(name, data["config"]["function"], OPERATIONS, (arguments,), keywords)
    if kind == "TensorFlowOpLayer":
        return _run_node(name, data["config"], arguments)
    if keywords.pop("training", None):
        raise _UnknownLayerError(f"its layer {name!r} is called with training=True, so it never runs in inference mode")
    keywords = {key: value for key, value in keywords.items() if value is not None}
    if keywords:
        raise _UnknownLayerError(
            f"its layer {name!r} ({kind}) is called with {', '.join(keywords)}, which is not supported"
        )
    result = built.layer(arguments)
    return built.then(result) if built.then else result


def _run_operation(
    name: str, symbol: str, known: Mapping[str, Callable[..., Any]], arguments: tuple[Any, ...], keywords: Any
) -> Any:
    if symbol not in known:
        raise _UnknownLayerError(f"its layer {name!r} is the TensorFlow operation {symbol}, which is not supported")
    keywords = {key: value for key, value in keywords.items() if key != "name"}
    try:
        inspect.signature(known[symbol]).bind(*arguments, **keywords)
    except TypeError as error:
        raise _UnknownLayerError(
            f"its layer {name!r} calls the TensorFlow operation {symbol} with other arguments: {error}"
        ) from None
    return known[symbol](*arguments, **keywords)


def _run_node(name: str, config: Mapping[str, Any], arguments: Any) -> Any:
    """Run an operation as stored by TensorFlow before 2.4: a graph node with constants among its inputs."""
    node = config.get("node_def")
    if not isinstance(node, Mapping):
        raise _UnknownLayerError(f"its layer {name!r} is a TensorFlow operation that is not stored as text")
    inputs = list(arguments) if isinstance(arguments, list) else [arguments]
    for index, constant in sorted((int(index), value) for index, value in config.get("constants", {}).items()):
        inputs.insert(index, _plain(constant))
    attributes = node.get("attr", {})
    keywords = {"keepdims": True} if attributes.get("keep_dims", {}).get("b") else {}
    return _run_operation(name, str(node.get("op")), NODES, tuple(inputs), keywords)


# A layer


def _build(
    data: Mapping[str, Any], depth: int, shape: Any, neighbours: Callable[[], tuple[list[Any], list[Any]]] | None = None
) -> Built:
    """Build one layer of a model's configuration.

    `shape` is the shape of its input. `neighbours` returns the configurations of the layers that it reads and of those
    that read it.
    """
    kind, name = _class_name(data), _name(data)
    if _is_model(data):
        return _build_model({**data, "name": name}, depth + 1, shape)
    if _is_operation(data) or kind == "TensorFlowOpLayer":
        return Built(None)
    config = dict(data["config"]) | {"name": name}
    if registered := keras.saving.get_registered_object(str(data.get("registered_name") or data["class_name"])):
        return Built(registered.from_config(config | {"dtype": _policy(config)}))
    if kind == "CustomScaleLayer" and is_number(config.get("scale")):  # from keras.applications
        return Built(CustomScaleLayer(config["scale"], name=name, dtype=_policy(config)))
    if kind == "Lambda":
        return Built(_residual_scaling(config, *(neighbours() if neighbours else ([], []))))
    class_name = OTHER_NAMES.get(kind, kind)
    if kind not in LAYERS and kind not in OTHER_NAMES:
        raise _UnknownLayerError(
            f"its layer {name!r} has the class {kind}, which is not a layer that Keras 2 and 3 compute alike"
        )
    settings, then = _settings(kind, getattr(keras.layers, class_name), config)
    layer = getattr(keras.layers, class_name)(**settings)
    layer.trainable = bool(config.get("trainable", True))  # not every layer takes it as an argument
    return Built(layer, then=then)


def _settings(kind: str, layer: Any, config: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """A layer's settings in Keras 2 as arguments in Keras 3, and a function to apply to its output."""
    # Settings that Keras 3 accepts are kept; others must have no effect in inference mode.
    accepted = set(inspect.signature(layer.__init__).parameters) - {"self", "kwargs"}
    settings: dict[str, Any] = {"name": config["name"], "dtype": _policy(config)}
    then = None
    renamed = {"LeakyReLU": {"alpha": "negative_slope"}, "ThresholdedReLU": {"theta": "threshold"}}.get(kind, {})
    for old, value in config.items():
        key = renamed.get(old, old)
        if key in settings or key in NO_EFFECT or key.endswith("_initializer"):
            continue
        if layer is keras.layers.Identity or (kind == "DepthwiseConv2D" and key == "filters"):
            continue
        if key.endswith(("_regularizer", "_constraint")):
            if key in accepted:
                settings[key] = _penalty(value)
        elif key == "activation":
            settings[key], then = _activation(config["name"], value)
        elif key in accepted:
            settings[key] = _plain(value)
        elif value not in (None, False) and not (key == "groups" and value == 1):
            raise _UnknownLayerError(
                f"its layer {config['name']!r} ({kind}) has the setting {key}={value!r}, which Keras 3 lacks"
            )
    axis = settings.get("axis")
    if layer is keras.layers.BatchNormalization and isinstance(axis, list | tuple):
        if len(axis) != 1:
            raise _UnknownLayerError(f"its layer {config['name']!r} ({kind}) normalises the axes {axis}")
        settings["axis"] = axis[0]
    return settings, then


def _policy(config: Mapping[str, Any]) -> str:
    """The name of a layer's dtype policy, such as "float32" or "mixed_float16"."""
    policy = config.get("dtype")
    if isinstance(policy, Mapping):  # Policy, PolicyV1: {"config": {"name": …}}
        policy = policy.get("config", {}).get("name")
    return policy if isinstance(policy, str) else "float32"


def _activation(name: str, value: Any) -> tuple[Any, Callable[[Any], Any] | None]:
    """An activation, and a function to apply after the layer if Keras 3 uses the name for another activation."""
    if isinstance(value, Mapping) and value.get("class_name") in LAYERS:  # a layer used as an activation
        built = _build({**value, "config": {"name": f"{name}_activation"} | dict(value["config"])}, 0, None)
        if isinstance(built.layer, keras.layers.PReLU | keras.layers.BatchNormalization | keras.layers.Dense):
            raise _UnknownLayerError(f"its layer {name!r} has an activation with weights")
        return built.layer, built.then
    if isinstance(value, Mapping):  # {"class_name": "function", "config": "relu"}
        value = value.get("config")
    if value is None:
        return None, None
    if value == "hard_sigmoid":  # it has another slope in Keras 3
        return "linear", lambda x: ops.clip(0.2 * x + 0.5, 0.0, 1.0)
    if value == "leaky_relu":
        return "linear", lambda x: ops.leaky_relu(x, 0.2)
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise _UnknownLayerError(f"its layer {name!r} has the activation {value!r}, which is code or not supported")
    return ACTIVATIONS[value], None


def _penalty(value: Any) -> Any:
    """A regularizer or constraint, which affects only training; None if it is code."""
    if not isinstance(value, Mapping) or value.get("class_name") not in REGULARIZERS + CONSTRAINTS:
        return None
    home = keras.regularizers if value["class_name"] in REGULARIZERS else keras.constraints
    return getattr(home, value["class_name"])(**value.get("config", {}))


def _residual_scaling(config: Mapping[str, Any], read: list[Any], readers: list[Any]) -> Any:
    """The replacement for a Lambda layer that scales a residual in Keras 2's Inception-ResNets. Its code is not read.

    It is recognised by its function's module, its only argument, and its neighbours: in keras.applications it reads a
    block's input and its projection, and returns their scaled sum; in facenet it reads the projection, and a sum reads
    its output.
    """
    name, module = config["name"], str(config.get("module"))
    arguments = config.get("arguments") or {}
    scale = arguments.get("scale")
    convolutions = [_class_name(data) == "Conv2D" for data in read]
    if is_number(scale) and len(arguments) == 1:
        home, blocks = SCALED_SUM
        if module.endswith(home) and name.startswith(blocks) and len(read) == 2 and convolutions[1]:
            return CustomScaleLayer(scale, name=name, dtype=_policy(config))
        sums = [_class_name(data) == "Add" for data in readers]
        if module.endswith(SCALING) and convolutions == [True] and sums == [True]:
            return keras.layers.Rescaling(scale, name=name, dtype=_policy(config))
    raise _UnknownLayerError(f"its layer {name!r} is a Lambda layer, whose computation is code, which is not run")


def _neighbours(layers: Mapping[str, Any], name: str) -> tuple[list[Any], list[Any]]:
    """The configurations of the layers that a layer reads, in order, and of those that read it."""
    read = [layers[each[0]] for each in _references(layers[name].get("inbound_nodes", [])) if each[0] in layers]
    readers = [
        data for data in layers.values() if any(each[0] == name for each in _references(data.get("inbound_nodes", [])))
    ]
    return read, readers


def _is_model(data: Mapping[str, Any]) -> bool:
    config = data["config"]
    return isinstance(config, list) or isinstance(config.get("layers"), list)


def _is_operation(data: Mapping[str, Any]) -> bool:
    return _class_name(data) in ("TFOpLambda", "SlicingOpLambda")


def _class_name(data: Mapping[str, Any]) -> str:
    """The class's name without the package in which it was registered, as in `Custom>CustomScaleLayer`."""
    return str(data.get("class_name")).rpartition(">")[2]


def _name(data: Mapping[str, Any]) -> str:
    config = data["config"]
    return str(data.get("name") or (config["name"] if isinstance(config, Mapping) else "sequential"))


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one return for each wrapper
    """A configuration's value without Keras 2's wrappers for values that JSON lacks."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    kind, inside = value.get("class_name"), value.get("config", {})
    if kind in ("__tuple__", "TensorShape"):
        return [_plain(each) for each in value.get("items", inside.get("value", inside) if inside else [])]
    if kind == "__ellipsis__":
        return Ellipsis
    if kind == "__slice__":
        return slice(*(_plain(inside[key]) for key in ("start", "stop", "step")))
    if kind in ("__tensor__", "__numpy__"):
        return inside["value"]
    if kind is None:
        return {key: _plain(each) for key, each in value.items()}
    raise _UnknownLayerError(f"a setting has the class {kind}, which is code or not supported")


# Its weights


@dataclass
class _Leaf:
    """A layer with weights. `path` is its name after those of its outer models."""

    path: tuple[str, ...]
    layer: Any
    values: dict[str, str] = field(default_factory=dict)


def _leaves(built: Mapping[str, Built], around: tuple[str, ...] = ()) -> Iterator[_Leaf]:
    for name, one in built.items():
        if one.inside is not None:
            yield from _leaves(one.inside, (*around, name))
        elif one.layer is not None and one.layer.weights:
            yield _Leaf((*around, name), one.layer)


def _load_weights(path: Path, model: Built) -> None:
    """Load all weights of the model. Raises InputError if the file's weights are not the model's."""
    leaves = list(_leaves(model.inside or {}))
    with open_checkpoint(path) as checkpoint:
        names = list(checkpoint.tensors)
        numbered = checkpoint.format == KERAS_FORMAT
        chosen = _by_number(leaves, names) if numbered else _by_name(path, leaves, names, set(model.inside or {}))
        for leaf, found in zip(leaves, chosen, strict=True):
            shown = "/".join(leaf.path)
            if len(found) != len(leaf.layer.weights):
                raise InputError(
                    f"{path}: has {len(found)} weights for the layer {shown!r}, which needs {len(leaf.layer.weights)}"
                )
            for weight, name in zip(leaf.layer.weights, found, strict=True):
                if checkpoint.tensors[name].shape != tuple(weight.shape):
                    raise InputError(
                        f"{path}: {name} has shape {checkpoint.tensors[name].shape}, but its layer {shown!r} "
                        f"needs {tuple(weight.shape)}"
                    )
                weight.assign(checkpoint.read(name))
            if isinstance(leaf.layer, keras.layers.Normalization):
                leaf.layer.finalize_state()


def _by_number(leaves: list[_Leaf], names: list[str]) -> list[list[str]]:
    """The tensors of each layer in a .keras file, where a layer's weights are numbered in Keras's order."""
    owned: dict[str, list[str]] = {}
    for name in names:
        owned.setdefault(name.rpartition("/")[0], []).append(name)
    return [owned.get("/".join(leaf.path), []) for leaf in leaves]


def _by_name(path: Path, leaves: list[_Leaf], names: list[str], groups: set[str]) -> list[list[str]]:
    """The tensors of each layer in an .h5 file, where the outermost layers are groups with named weights.

    In a group, a weight's name has only the layer's name, `trunk/conv2d/kernel`, or also those of outer models.
    """
    left = {name for name in names if any(name.startswith(f"{group}/") for group in groups)}
    chosen: list[list[str]] = []
    for leaf in leaves:
        group, *inside = leaf.path
        alone = sum(other.path[0] == group for other in leaves) == 1
        owners = ["/".join((group, *inside[start:])) for start in range(len(inside) + 1 if alone else len(inside) or 1)]
        names_of = WEIGHT_NAMES.get(type(leaf.layer).__name__, {})
        keys = [names_of.get(weight.name, weight.name) for weight in leaf.layer.weights]
        owner = next((each for each in owners if f"{each}/{keys[0]}" in left), None)
        if owner is None:  # the names may begin with a model that has no input layer
            ending = f"/{leaf.path[-1]}/{keys[0]}"
            ends = [name for name in left if name.startswith(f"{group}/") and name.endswith(ending)]
            owner = ends[0].rpartition("/")[0] if len(ends) == 1 else owners[0]
        found = [f"{owner}/{key}" for key in keys if f"{owner}/{key}" in left]
        left -= set(found)
        chosen.append(found)
    if left:
        raise InputError(
            f"{path}: has weights for layers whose names are not in its graph: {sorted(left)[:5]}; layers were renamed "
            "after they were built: save the model in Keras 2 as .keras, which does not depend on names"
        )
    return chosen

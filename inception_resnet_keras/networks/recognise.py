"""Recognises the network of a model or a file: variant, depths, scales, channels, head and preprocessing.

This is the only recogniser. It reads this package's layer names, weight shapes and layer configurations;
`weights.identify` translates the names of other projects into these first. Keras is not imported: of a Keras model only
the layers' names, shapes and configurations are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from .. import networks
from ..common.arguments import is_number
from ..common.errors import InputError, refuse
from . import edits, names
from .rows import BATCH_NORM_EPSILON, Conv, Network, Padding, Pool, Preprocessing, Repeat
from .trace import Node, side_of_aux_kernel, trace, weight_shapes

Shape = tuple[int, ...]
Layers = Mapping[str, Mapping[str, Any]]
DEEPEST = 1000  # blocks of each kind; a file with more has a hostile name in it
LEAST_SCORE = 0.5  # below this score, a file or model is not recognised
USUAL_INPUT = (299, 299, 3)
_POOLS = {"GlobalAveragePooling2D": "avg", "GlobalMaxPooling2D": "max"}
_TURNS = ((3, 1, 2), (2, 3, 1))  # `dims` of a `Permute` to channels first, and back
_AUX_KERNEL = f"{names.inside(names.AUX, 'conv', 2)}/kernel"  # as large as the map it reads
_AUX_LOGITS = names.inside(names.AUX, names.LOGITS)


@dataclass(frozen=True)
class NetworkDescription:
    """The network that was recognised in a file or a Keras model.

    Weights alone do not show the fields from `scales` on. These are known for a Keras model, a .keras file, and a file
    with settings (`with_settings`): then `configured` is True.

    Attributes:
        network: The table, with the recognised depths and scales; with the variant's own scales if they are unknown.
        score: Share of the trunk's weights that are present with the right name and shape, 0 to 1.
        channels: Channels of the input image.
        classes, aux_classes: Width of the classifier and of the auxiliary classifier; None without one.
        embedding: Width of the embedding; None without one.
        aux_kernel: (height, width) of the auxiliary head's last kernel, which depends on the image size that the head
            was built for; None without one.
        configured: Whether the following fields are known.
        scales: Residual scales, one per kind of block; None if unknown, or if the network has no residual sums.
        input_shape: Shape of the input without the batch, in the order of `data_format`; None if unknown.
        data_format: "channels_last" or "channels_first"; None if unknown.
        include_preprocessing: Whether the model scales pixels of 0-255 itself; None if unknown.
        activation: Activation of the classifier and the auxiliary classifier; None for logits, or if unknown.
        pooling: Pooling of the last map, "avg" or "max"; None without pooling, or if unknown.
        dropout_rate: Dropout before the classifier or the embedding; None without one, or if unknown.
        departures: Differences between the trunk's layers and the table's, such as another padding, one clause each;
            empty if unknown.
    """

    network: Network
    score: float
    channels: int = 3
    classes: int | None = None
    aux_classes: int | None = None
    embedding: int | None = None
    aux_kernel: tuple[int, int] | None = None
    configured: bool = False
    scales: tuple[float, ...] | None = None
    input_shape: tuple[int | None, ...] | None = None
    data_format: str | None = None
    include_preprocessing: bool | None = None
    activation: Any = None
    pooling: str | None = None
    dropout_rate: float | None = None
    departures: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.network.name

    @property
    def variant(self) -> str:
        return self.network.variant

    @property
    def depths(self) -> tuple[int, ...]:
        return networks.depths(self.network)

    @property
    def padding(self) -> Padding:
        """The factories' argument, "valid" or "same"; "valid" if unknown."""
        return networks.padding(self.network)

    @property
    def output_stride(self) -> int | None:
        """The factories' argument, 16 or 8; None for the usual 32, or if unknown."""
        return networks.output_stride(self.network)

    @property
    def preprocessing(self) -> Preprocessing:
        """How pixels of 0-255 are scaled before the network's first layer."""
        return self.network.preprocessing

    @property
    def aux_head(self) -> bool:
        return self.aux_classes is not None

    @property
    def include_top(self) -> bool:
        """Whether the network has a head that a factory can build."""
        if self.network.embedding:  # the classifier, if any, reads the embedding
            return self.embedding == self.network.embedding
        return self.classes is not None

    @property
    def size(self) -> tuple[int | None, int | None]:
        """(height, width) of the input image; None for a side of any length, or if unknown."""
        if self.input_shape is None:
            return None, None
        first, *_, last = self.input_shape
        channels_first = self.data_format == "channels_first" if self.data_format else first == self.channels != last
        height, width = self.input_shape[1:] if channels_first else self.input_shape[:2]
        return height, width

    def settings(self) -> dict[str, Any]:
        """What weights do not show, as arguments of the factory; empty if it is unknown."""
        if not self.configured:
            return {}
        settings: dict[str, Any] = self._density()
        if self.scales is not None:
            own = networks.scales(networks.find(self.name, self.variant))
            settings["scale"] = self.scales + own[len(self.scales) :]
        if self.input_shape is not None:
            settings["input_shape"] = self.input_shape
        settings["include_preprocessing"] = bool(self.include_preprocessing)
        top = self.classes is not None or self.embedding is not None
        if top or self._builds_aux_head:
            settings["classifier_activation"] = self.activation
        if not top:
            settings["pooling"] = self.pooling
        return settings

    def with_settings(self, settings: Mapping[str, Any]) -> NetworkDescription:
        """The description with the settings that a file stores beside its weights, in the form of `settings()`.

        Raises:
            InputError: A setting is unknown or out of range.
        """
        # The file may be damaged or hostile, so every setting is checked.
        blocks = len(networks.block_names(networks.find(self.name, self.variant)))
        takes = {
            "padding": lambda value: value in ("valid", "same"),
            "output_stride": lambda value: value in (None, *edits.OUTPUT_STRIDES),
            "scale": lambda value: _is_list(value, blocks) and all(is_number(one) and 0 < one <= 1 for one in value),
            "input_shape": lambda value: _is_list(value, 3) and all(map(_is_side, value)),
            "include_preprocessing": lambda value: isinstance(value, bool),
            "classifier_activation": lambda value: value is None or isinstance(value, str | Mapping),
            "pooling": lambda value: value in (None, *_POOLS.values()),
        }
        wrong = [f"{key}={value!r}" for key, value in settings.items() if key not in takes or not takes[key](value)]
        if wrong:
            raise InputError(f"has settings that no factory takes: {', '.join(wrong)[:300]}")
        # Scales, padding and output stride are edits of the table.
        network, scales = self.network, settings.get("scale")
        if scales is not None:
            scales = tuple(scales[: len(networks.block_names(network))])
            network = edits.with_scales(network, scales)
        network = edits.with_padding(network, settings.get("padding", "valid"))
        if network.top:
            network = edits.with_output_stride(network, settings.get("output_stride"))
        shape = settings.get("input_shape")
        return replace(
            self,
            network=network,
            configured=True,
            scales=scales,
            input_shape=None if shape is None else tuple(shape),
            include_preprocessing=settings.get("include_preprocessing"),
            activation=settings.get("classifier_activation"),
            pooling=settings.get("pooling"),
        )

    def network_options(self) -> dict[str, Any]:
        """The factory's arguments that choose the table: the variant, and each that differs from the variant's own."""
        own = networks.depths(networks.find(self.name, self.variant))
        depths = self.depths + own[len(self.depths) :]  # a network that ends early: any number fits
        options: dict[str, Any] = {"variant": self.variant}
        if depths != own:
            options["depths"] = depths
        return options | self._density()

    def _density(self) -> dict[str, Any]:
        """The factory's arguments `padding` and `output_stride`, as far as they differ from the defaults."""
        density = {"padding": self.padding, "output_stride": self.output_stride}
        return {key: value for key, value in density.items() if value not in ("valid", None)}

    def factory_options(self) -> dict[str, Any]:
        """The factory's arguments that differ from its defaults."""
        options = self.network_options()
        if self.classes is not None and self.include_top:
            options["num_classes"] = self.classes
        elif self._builds_aux_head and self.aux_classes != 1000:
            options["num_classes"] = self.aux_classes
        if not self.include_top:
            options["include_top"] = False
        if self._builds_aux_head:
            options["aux_head"] = True
        options |= {"input_shape": (*self._usual_sides(), self.channels)} | self.settings()
        usual = {"input_shape": USUAL_INPUT, "include_preprocessing": False, "pooling": None}
        usual |= {"classifier_activation": "softmax", "scale": networks.scales(networks.find(self.name, self.variant))}
        return {key: value for key, value in options.items() if key not in usual or usual[key] != value}

    @property
    def _builds_aux_head(self) -> bool:
        """Whether a factory can build the auxiliary head, for an image size and with the classifier's class count."""
        same = self.aux_classes == self.classes or not self.include_top or self.classes is None
        return self.aux_head and same and self.aux_kernel is not None and all(self._aux_sides())

    def _usual_sides(self) -> tuple[int, ...]:
        """(height, width) of the images that the auxiliary head was built for; without one, the network's own."""
        return self._aux_sides() if self._builds_aux_head else (self.network.size, self.network.size)

    def _aux_sides(self) -> tuple[int, ...]:
        """(height, width) of the images that the auxiliary head was built for; 0 if no image size gives its kernel."""
        return tuple(side_of_aux_kernel(self.network, side) or 0 for side in self.aux_kernel or ())

    def factory_call(self, **more: Any) -> str:
        """The call that builds the network, as text: `create_inception_v4(variant='slim', num_classes=5)`."""
        return factory_call(self.name, self.factory_options() | more)


def factory_call(network: str, options: Mapping[str, Any]) -> str:
    """A factory's call as text."""
    return f"create_{network}({', '.join(f'{key}={value!r}' for key, value in options.items())})"


def recognise(
    shapes: Mapping[str, Shape], layers: Layers | None = None, *, least: float = LEAST_SCORE
) -> NetworkDescription | None:
    """Recognise the network that weights and layers belong to.

    Args:
        shapes: Shapes of the weights, in Keras's layout, by `layer/variable`.
        layers: Configurations of the layers by name, in the model's order, each with the name of its class as
            "class"; None if only weights are known.
        least: The lowest score that counts as recognised, 0 to 1.

    Returns:
        The description of the best-fitting table, with the depths that the names show; None if its score is below
        `least`. Among tables with equal trunks, the embedding's width and the preprocessing decide, then their order.

    Examples:
        >>> table = networks.find("inception_resnet_v1", "facenet")
        >>> found = recognise(weight_shapes(trace(table, classes=10)))
        >>> found.factory_call()
        "create_inception_resnet_v1(variant='facenet', num_classes=10, input_shape=(160, 160, 3))"
    """
    # Give every table the depths that the names show, then compare the tables weight by weight.
    counts, channels = _block_counts([*shapes, *(layers or ())]), _channels(shapes)
    tables = (table for variants in networks.NETWORKS.values() for table in variants.values())
    candidates = [_deepened(table, counts, layers or {}) for table in tables]
    width = _width(shapes, names.inside(names.EMBEDDING, "dense"))
    scaled = (layers or {}).get(names.PREPROCESS, {}).get("class")  # of the layer that scales pixels

    def rank(table: Network) -> tuple[int, bool, bool]:
        per_image = table.preprocessing.per_image
        return (
            _present(table, channels, shapes),
            table.embedding == width,
            scaled is not None and per_image == (scaled != "Rescaling"),
        )

    best = max(candidates, key=rank)
    found = describe(best, shapes, layers)
    return found if found.score >= least else None


def describe(network: Network, shapes: Mapping[str, Shape], layers: Layers | None = None) -> NetworkDescription:
    """Describe weights and layers as one given table, with the table's own depths, however few of them fit."""
    channels = _channels(shapes)
    network = _with_density(network, shapes, layers or {})
    width = _nodes(network, channels)[-1].shape[-1]
    embedding = _width(shapes, names.inside(names.EMBEDDING, "dense"))
    aux = _aux_width(network)
    found = NetworkDescription(
        network,
        _present(network, channels, shapes) / len(_trunk(network, channels)),
        channels,
        classes=_classes(shapes, names.LOGITS, embedding or network.embedding or width),
        aux_classes=_classes(shapes, _AUX_LOGITS, aux) if aux else None,
        embedding=embedding,
        aux_kernel=_window(shapes.get(_AUX_KERNEL)),
    )
    return _configured(found, layers) if layers else found


def recognise_model(model: Any, *, least: float = LEAST_SCORE) -> NetworkDescription | None:
    """`recognise` for a Keras model, built or loaded. Nested models are not searched."""
    return recognise(model_shapes(model), model_layers(model), least=least)


def whole_network(model: Any, takes: str) -> NetworkDescription:
    """`recognise_model` for a model that must be a whole network and compute what its table describes.

    Args:
        model: A Keras model without nested models.
        takes: What the caller's argument `model` accepts, for the error message.

    Raises:
        InputError: No table describes the model, or it is only a part of a network, or it computes something else.
    """
    found = recognise_model(model)
    if found is None or found.score < 1:
        raise refuse("model", f"the Keras model {model.name!r}", takes)
    if found.departures:
        raise InputError(f"model: {model.name!r} does not compute what {found.name} does: {found.departures[0]}")
    return found


def model_shapes(model: Any) -> dict[str, Shape]:
    """The shapes of a Keras model's weights, by `layer/variable`, without the prefix of the model's layers."""
    prefix = layer_prefix(model)
    return {
        f"{layer.name.removeprefix(prefix)}/{weight.name}": tuple(weight.shape)
        for layer in model.layers
        for weight in layer.weights
    }


def model_layers(model: Any) -> dict[str, dict[str, Any]]:
    """The configurations of a Keras model's layers, with the class's name as "class", by name without the prefix."""
    prefix = layer_prefix(model)
    return {
        layer.name.removeprefix(prefix): {**_config(layer), "class": type(layer).__name__} for layer in model.layers
    }


def layer_prefix(model: Any) -> str:
    """The `layer_prefix` of a model's network; "" without one."""
    return names.only_prefix(layer.name for layer in model.layers)


def differences(found: NetworkDescription, layers: Layers) -> list[str]:
    """The differences between a model's layers and the network that was recognised, one clause each.

    Empty if the layers are those that the factory builds, or the first ones of them.
    """
    classes = found.classes if found.classes is not None else found.aux_classes
    try:
        nodes = trace(
            found.network,
            found.size,
            channels=found.channels,
            aux_head=found.aux_head,
            **networks.head(found.network, classes),
        )
    except ValueError as error:  # the image is too small, or the variant has no auxiliary head
        return [str(error)]
    return list(_differences(nodes, layers))


def window_differences(found: NetworkDescription, layers: Layers) -> list[str]:
    """The convolutions and pools of a model whose windows or widths differ from the table's, one clause each.

    Unlike `differences` and `departures`, it accepts a model from `optimize_for_inference`: there, convolutions
    include their batch norms, activations and scales, and one may replace its siblings, but all windows are the same.
    """
    return list(_window_differences(_nodes(found.network, found.channels), layers))


def channels_first(model: Any) -> bool:
    """Whether a Keras model takes (batch, channels, height, width), whatever Keras's current setting is.

    The first layer with a `data_format` decides, also in a nested model. A `Permute` before it reverses the answer.
    """
    settings = (
        (type(layer).__name__, getattr(layer, "dims", None), getattr(layer, "data_format", None))
        for layer in leaves(model)
    )
    return _data_format(settings) == "channels_first"


def image_size(model: Any) -> tuple[Any, Any]:
    """(height, width) in pixels of the images that a Keras model takes; None for a side of any length."""
    height, width = model.input_shape[2:] if channels_first(model) else model.input_shape[1:3]
    return height, width


def leaves(model: Any) -> Iterator[Any]:
    """A Keras model's layers, with nested models replaced by their layers."""
    for layer in model.layers:
        yield from leaves(layer) if hasattr(layer, "get_layer") else (layer,)


def _config(layer: Any) -> dict[str, Any]:
    try:
        return layer.get_config()
    except NotImplementedError:  # a user's own layer, which is not a layer of the tables
        return {}


@lru_cache(maxsize=64)
def _nodes(network: Network, channels: int) -> list[Node]:
    """The operations before the heads."""
    return trace(network, (None, None), channels=channels, classes=None)


@lru_cache(maxsize=64)
def _trunk(network: Network, channels: int) -> Mapping[str, Shape]:
    """The shapes of all weights before the heads."""
    return weight_shapes(_nodes(network, channels))


def _present(network: Network, channels: int, shapes: Mapping[str, Shape]) -> int:
    """The number of the trunk's weights that are present with the right name and shape."""
    return sum(shapes.get(key) == shape for key, shape in _trunk(network, channels).items())


def _channels(shapes: Mapping[str, Shape]) -> int:
    """Channels of the image, from the first convolution's kernel; 3 without one."""
    kernel = shapes.get(f"{names.inside(names.STEM, 'conv', 1)}/kernel", ())
    return kernel[2] if len(kernel) == 4 else 3


def _block_counts(layer_names: Iterable[str]) -> dict[str, int]:
    """The highest block number of each kind."""
    counts: dict[str, int] = {}
    for name in layer_names:
        place = names.parse(name)
        counts[place.block] = max(counts.get(place.block, 0), place.number)
    return counts


def _deepened(network: Network, counts: Mapping[str, int], layers: Layers) -> Network:
    """The table with the depths that the names show."""
    if max(counts.values(), default=0) >= DEEPEST:
        return network
    depths = {block: counts.get(block) or 1 for block in networks.block_names(network)}
    for row in network.stages:
        # If the last block present has a ReLU, the model is cut off before the network's last block, which has none.
        if isinstance(row, Repeat) and not row.activation:
            last = names.block(row.block.name, depths[row.block.name])
            depths[row.block.name] += names.relu(last) in layers
    try:
        return edits.with_depths(network, list(depths.values()))
    except ValueError:  # fewer blocks than the table always ends with
        return network


def _with_density(network: Network, shapes: Mapping[str, Shape], layers: Layers) -> Network:
    """The table with the padding and the output stride that the layers show.

    Weights alone show neither, with one exception: if they are exactly those of a network with an output stride of 8,
    which ends before the next reduction, that stride is assumed.
    """
    # One block of each kind shows everything and is quick to trace.
    shallow = edits.with_depths(network, [1] * len(networks.block_names(network)))
    rows = _windows(shallow)
    valid = [name for name, row in rows.items() if row.padding == "valid" and name in layers]
    if valid and all(layers[name].get("padding") == "same" for name in valid):
        network = edits.with_padding(network, "same")
    present = {names.block_or_stage(name) for name in (layers or shapes)}
    for output_stride in edits.OUTPUT_STRIDES:
        dense = _windows(edits.with_output_stride(shallow, output_stride))
        slower = [name for name, row in dense.items() if row.stride != rows[name].stride]
        left_out = {names.block_or_stage(name) for name in rows} - {names.block_or_stage(name) for name in dense}
        if left_out & present:
            continue
        edited = edits.with_output_stride(network, output_stride)
        if layers:
            fits = all(_plain(layers.get(name, {}).get("strides")) == (1, 1) for name in slower)
        else:
            channels = _channels(shapes)
            fits = bool(left_out) and _present(edited, channels, shapes) == len(_trunk(edited, channels))
        if fits:
            return edited
    return network


def _windows(network: Network) -> dict[str, Conv | Pool]:
    """The convolutions and pools before the heads, by name."""
    return {node.name: node.row for node in _nodes(network, 3) if node.row is not None}


def _configured(found: NetworkDescription, layers: Layers) -> NetworkDescription:
    """The description with what weights do not show, from the layers' configurations."""
    scales = _scales(found.network, layers) if networks.is_residual(found.network) else None
    inputs = [layer["batch_shape"] for layer in layers.values() if layer.get("batch_shape")]
    fits = len(inputs) == 1 and _is_list(inputs[0], 4) and all(map(_is_side, inputs[0][1:]))
    formats = ((layer.get("class"), layer.get("dims"), layer.get("data_format")) for layer in layers.values())
    rate = layers.get(names.DROPOUT, {}).get("rate")
    ends = (names.PREDICTIONS, names.LOGITS, names.inside(names.AUX, names.PREDICTIONS))
    activations = [layers[end].get("activation") for end in ends if end in layers]
    network = found.network if scales is None else edits.with_scales(found.network, scales)
    return replace(
        found,
        network=network,
        configured=True,
        scales=scales,
        input_shape=tuple(inputs[0][1:]) if fits else None,
        data_format=_data_format(formats),
        include_preprocessing=names.PREPROCESS in layers,
        activation=next((one for one in activations if one not in (None, "linear")), None),
        pooling=_POOLS.get(str(layers.get(names.POOLED, {}).get("class"))),
        dropout_rate=float(rate) if is_number(rate) else None,
        departures=tuple(_departures(_nodes(network, found.channels), layers)),
    )


def _width(shapes: Mapping[str, Shape], layer: str) -> int | None:
    """Number of outputs of a dense layer; None without such a layer."""
    kernel = shapes.get(f"{layer}/kernel")
    return kernel[-1] if kernel else None


def _classes(shapes: Mapping[str, Shape], layer: str, inputs: int) -> int | None:
    """Number of outputs of a classifier with `inputs` inputs and a bias; None without such a layer."""
    classes = _width(shapes, layer)
    fits = shapes.get(f"{layer}/kernel") == (inputs, classes) and shapes.get(f"{layer}/bias") == (classes,)
    return classes if fits else None


def _aux_width(network: Network) -> int | None:
    """Number of inputs of the auxiliary classifier; None for a network without one."""
    return next((row.filters for row in reversed(network.aux) if isinstance(row, Conv)), None)


def _window(kernel: Shape | None) -> tuple[int, int] | None:
    return (kernel[0], kernel[1]) if kernel and len(kernel) == 4 else None


def _scales(network: Network, layers: Layers) -> tuple[float, ...] | None:
    """Residual scales, one per kind of block, from each kind's first sum; the table's own if its sums are not scaled.

    None if a scale is not a number: no factory builds such a layer.
    """
    scaled = {row.block.name for row in network.stages if isinstance(row, Repeat) and row.times and row.scale}
    scales = []
    for block, own in zip(networks.block_names(network), networks.scales(network), strict=True):
        first = names.block(block, 1)
        if block in scaled and names.inside(first, names.SUM) in layers:
            scale = layers.get(names.scale(first), {}).get("scale", 1.0)
            if not is_number(scale):
                return None
            scales.append(float(scale))
        else:
            scales.append(own)
    return tuple(scales)


def _data_format(layers: Iterable[tuple[Any, Any, Any]]) -> str | None:
    """The data format of the input, from each layer's class, `dims` and `data_format`."""
    turned = False
    for kind, dims, data_format in layers:
        if kind == "Permute":
            turned ^= _is_list(dims, 3) and tuple(dims) in _TURNS
        elif data_format:
            return "channels_first" if (data_format == "channels_first") != turned else "channels_last"
    return None


def _differences(nodes: list[Node], layers: Layers) -> Iterator[str]:
    """Additional layers, then for each of the table's nodes missing layers and different settings."""
    ends = {names.PREPROCESS, names.PREDICTIONS, names.inside(names.AUX, names.PREDICTIONS)}
    known = {name for node in nodes for name in node.layers} | ends
    ours = known | {name for name, layer in layers.items() if "batch_shape" in layer}
    yield from (f"an additional layer {name!r}" for name in layers if name not in ours)
    present = {node.name for node in nodes if node.name in layers or node.op == "input"}
    for node in nodes:
        if node.name not in layers or node.op == "input":
            continue
        yield from (f"{node.name!r} without {name!r} before it" for name in node.inputs if name not in present)
        yield from (f"no layer {name!r}" for name in node.layers if name not in layers)
        for setting, (wanted, got) in _layer_settings(node, layers).items():
            if wanted != got:
                yield f"{node.name!r} with {setting} {got} for {wanted}"


def _window_settings(node: Node, layers: Layers) -> dict[str, tuple[Any, Any]]:
    """`_layer_settings` without those that change no result."""
    settings = _layer_settings(node, layers)
    if isinstance(node.row, Conv) and node.row.kernel == (1, 1):
        settings.pop("padding")  # a 1×1 window never needs padding
    return settings


def _layer_settings(node: Node, layers: Layers) -> dict[str, tuple[Any, Any]]:
    """A layer's settings by name: (the table's value, the layer's value)."""
    layer, row = layers[node.name], node.row
    if isinstance(row, Conv):
        wanted: dict[str, Any] = {"filters": row.filters, "kernel_size": row.kernel, "use_bias": row.linear}
        wanted["dilation_rate"] = (row.dilation, row.dilation)
    elif row is not None and row.dilation > 1:
        return {"class": ("Functional", layer["class"])}
    elif row is not None:
        kind = {"max": "MaxPooling2D", "avg": "AveragePooling2D"}[row.kind]
        wanted = {"pool_size": (row.size, row.size), "class": kind}
    elif node.op == "sum":
        return {"scale": (node.scale, layers.get(names.scale(node.place), {}).get("scale", 1.0))}
    elif node.op == "dense":
        return {"class": ("Dense", layer["class"]), "units": (node.shape[-1], layer.get("units"))}
    else:
        return {}
    wanted |= {"strides": (row.stride, row.stride), "padding": row.padding}
    return {key: (value, _plain(layer.get(key))) for key, value in wanted.items()}


def _window_differences(nodes: Iterable[Node], layers: Layers) -> Iterator[str]:
    known = set()
    for node in nodes:
        joined = names.joined(node.name)
        known |= {node.name, joined}
        if node.row is None or not layers.keys() & {node.name, joined}:
            continue
        # A convolution that replaces its siblings has the filters of all of them.
        layer = layers[node.name] if node.name in layers else {**layers[joined], "filters": None}
        settings = _window_settings(node, {node.name: layer})
        settings.pop("use_bias", None)
        for setting, (wanted, got) in settings.items():
            if got is not None and wanted != got:
                yield f"{node.name!r} with {setting} {got} for {wanted}"
    windows = (name for name, layer in layers.items() if layer.get("kernel_size") or layer.get("pool_size"))
    yield from (f"an additional layer {name!r}" for name in windows if names.stage(name) and name not in known)


def _departures(nodes: Iterable[Node], layers: Layers) -> Iterator[str]:
    """Settings of convolutions, pools and sums that differ from the table's; unknown settings are accepted."""
    for node in nodes:
        if node.name not in layers or node.op not in ("conv", "pool", "sum"):
            continue
        settings = _window_settings(node, layers)
        if isinstance(node.row, Conv):
            norm, relu = (layers.get(of(node.name), {}) for of in (names.batch_norm, names.relu))
            settings["an epsilon of"] = BATCH_NORM_EPSILON, norm.get("epsilon")
            settings["activation"] = "relu", _activation(relu)
        for setting, (wanted, got) in settings.items():
            if got is not None and wanted != got:
                yield f"{node.name!r} with {setting} {got} for {wanted}"


def _activation(layer: Mapping[str, Any]) -> str | None:
    """The function of an activation layer; None without a layer."""
    if layer.get("class") == "ReLU":
        plain = not layer.get("max_value") and not layer.get("negative_slope") and not layer.get("threshold")
        return "relu" if plain else "another ReLU"
    return str(layer.get("activation") or layer.get("class")) if layer else None


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _is_list(value: Any, length: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == length


def _is_side(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)

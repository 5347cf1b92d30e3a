"""Loads weights into models, strictly: every tensor of the file and every weight of the model is accounted for.

The steps of a load: the file's network is identified; a plan matches its tensors with the model's weights by the
meaning of their names; every value is read and checked; only then is the model changed. If anything does not fit, one
InputError lists all of it, and the model is unchanged.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from .. import networks
from ..common import notebook
from ..common.arguments import one_of
from ..common.console import printable
from ..common.errors import InputError, refuse
from ..networks import names
from ..networks.keras_graph import flattened
from ..networks.recognise import (
    USUAL_INPUT,
    NetworkDescription,
    Shape,
    factory_call,
    leaves,
    recognise,
    recognise_model,
)
from . import registry
from .identify import Identity, NameIndex, Origin, TensorSets, identify_checkpoint, in_keras_layout, tensor_sets
from .readers import is_checkpoint, open_checkpoint
from .readers.checkpoint import Checkpoint, no_checksums
from .registry import NewHead
from .slots import slots
from .sources import BACKGROUND, EMA, OURS, drops_background

log = logging.getLogger(__name__)
ALL_ONES = "gamma, all ones"  # a reason in the report's `dropped`
FOLDED = "gamma folded into it"  # a description in the report's `changed`
Channels = Literal["adapt"] | None
CHANNELS = (None, "adapt")
RGB = 3
_LISTED = 20
_CLASSIFIERS = (names.LOGITS, names.inside(names.AUX, names.LOGITS))
_HEADS = {names.LOGITS: "classifier", names.AUX: "auxiliary head", names.EMBEDDING: "embedding"}
_TRAINED = ("kernel", "bias", "beta")


def load_weights(
    model: keras.Model,
    source: str | PathLike[str],
    *,
    new_head: NewHead = False,
    ema: bool = False,
    channels: Channels = None,
) -> LoadReport:
    """Set a model's weights from a checkpoint of this package or another project, or from a registered name.

    Every weight of the network must be in the checkpoint, with its shape, and every tensor of the checkpoint must be
    used or be dropped for a reason. Your own layers outside the network keep their weights, unless the file has
    weights with their names and shapes.

    Args:
        model: A model of this package, built or loaded, or a model that contains such a network. It is changed only
            if everything fits.
        source: A path. The format is recognised by content: checkpoints of TF-Slim and davidsandberg/facenet (V1, V2
            or the published .tar.gz), HDF5 files of `keras.applications` and kentsommer's Inception-v4, .safetensors
            and .pt files of timm and facenet-pytorch, and this package's .keras, .weights.h5 and .safetensors. Or a
            registered name such as "imagenet", whose file is downloaded once.
        new_head: Which weights stay as they are in the model. False: none. True: the classifier and the auxiliary
            classifier, for another number of classes, and your own layers after the network; heads in the source are
            dropped. "aux": only the auxiliary head.
        ema: Whether to load the running averages that TensorFlow 1 trainers store beside the weights.
        channels: "adapt" adapts the first kernel, for three-channel images, to a model with another number of channels.
            For one channel the kernel is summed over its channels; for two this sum is halved; for more the channels
            are repeated, each divided by the number of its copies. A grey image then gives the same output as its RGB
            copy. None raises an error for another number of channels.

    Returns:
        A report of the weights that were loaded, dropped, changed and left fresh. It is also logged.

    Raises:
        ValueError: A tensor or weight is left over, has another shape, or has NaN or infinite values; the checkpoint
            holds another network; the file is missing, damaged or of an unknown format; or a registered name does
            not fit the model. The message lists everything that does not fit.

    Examples:
        >>> import tempfile
        >>> from inception_resnet_keras import create_inception_v4, load_weights
        >>> file = tempfile.mkdtemp() + "/trunk.weights.h5"
        >>> small = {"depths": (1, 1, 1), "input_shape": (96, 96, 3)}
        >>> create_inception_v4(10, **small).save_weights(file)
        >>> report = load_weights(create_inception_v4(2, **small), file, new_head=True)
        >>> report.loaded, report.fresh, report.dropped
        (192, ['logits/kernel', 'logits/bias'],
         {'classifier: the model gets a new one': ['logits/kernel', 'logits/bias']})
    """
    check_new_head(new_head)
    one_of("channels", channels, CHANNELS)
    if not isinstance(model, keras.Model):
        raise refuse("model", model, "a Keras model")
    # The plan reads and checks every value; the model is changed after that.
    variables = weights_by_name(model)
    shapes = {key: tuple(weight.shape) for key, weight in variables.items()}
    path = registry.fetch(fspath(source), shapes, new_head) if is_name(source) else Path(source)
    with open_checkpoint(path) as checkpoint:
        made = plan(shapes, checkpoint, new_head=new_head, ema=ema, channels=channels)
        for key, value in made.values():
            variables[key].assign(value)
        if not (checkpoint.checksums or is_name(source)):  # a registered file was compared with its hash
            made.report.notes.append(no_checksums(path))
    # The report also notes what weights do not show, if the file does: scales, padding, other layers.
    flat = flattened(model)
    built = None if flat is None else recognise_model(flat)
    if built is not None and made.report.network:
        made.report.notes += _other_scales(built, made) + _other_padding(built, made)
    made.report.notes += _other_layers(made)
    log.info("%s", made.report)
    return made.report


def weights_by_name(model: keras.Model) -> dict[str, Any]:
    """A model's weights by `layer/variable`, in its order, including those of nested models.

    The names have no nested model's name and no `layer_prefix`. Raises InputError if the model has two networks.
    """
    found: dict[str, Any] = {}
    prefixes = names.prefixes(layer.name for layer in leaves(model))
    if len(set(prefixes)) > 1:
        raise InputError(
            f"model: {model.name!r} holds several networks, with layer names that begin with "
            f"{', '.join(map(repr, prefixes))}; load the weights of each one before they are combined"
        )
    prefix = "".join(prefixes)
    for layer in leaves(model):
        for weight in layer.weights:
            key = f"{layer.name.removeprefix(prefix)}/{weight.name}"
            if key in found and _of_network(key):
                raise InputError(
                    f"model: {model.name!r} has two layers {layer.name!r}: it holds several networks; load the weights "
                    "of each one before they are combined, or into model.get_layer(...)"
                )
            found[weight.path if key in found else key] = weight
    return found


def require(weights: str | PathLike[str], shapes: Mapping[str, Shape] | None = None) -> None:
    """Raise InputError if `weights` is neither a registered name nor a checkpoint that can be opened.

    `shapes` are the shapes of the model's weights, by `layer/variable`: a registered name must have a file that fits
    them. With None, the name must only be known.
    """
    if is_name(weights):
        name = fspath(weights)
        _ = registry.files_of(name) if shapes is None else registry.resolve(name, shapes)
    else:
        with open_checkpoint(weights):
            pass


def is_name(source: str | PathLike[str]) -> bool:
    """Whether `source` is a registered name. A bare word that is not a file counts as a misspelt name."""
    if not isinstance(source, str | PathLike) or isinstance(fspath(source), bytes):
        raise InputError(f"weights: got {source!r}; it takes None, a path or one of {', '.join(registry.NAMES)}")
    text = fspath(source)
    if text in registry.NAMES:
        return True
    like_a_name = text.isidentifier() or difflib.get_close_matches(text, registry.NAMES, 1, cutoff=0.8)
    return bool(like_a_name) and not is_checkpoint(Path(text))


def _other_scales(built: NetworkDescription, made: LoadPlan) -> list[str]:
    """A note if residual scales differ from the file's, or, if it has none, from those of the released network."""
    if built.scales is None:
        return []
    trained = made.trained.scales if made.trained else None
    if trained is None and made.report.source == OURS.source:
        return []
    theirs_in = "the file's graph" if trained else f"{made.report.source}'s own network"
    trained = trained or networks.scales(networks.find(made.report.network, made.report.variant))
    # One of the networks may end before its last blocks.
    for block, mine, theirs in zip(networks.block_names(built.network), built.scales, trained, strict=False):
        if abs(mine - theirs) > 1e-9:
            return [f"residual scales differ in block {block}01: the model has {mine}, {theirs_in} {theirs}"]
    return []


def _other_padding(built: NetworkDescription, made: LoadPlan) -> list[str]:
    """A note if the padding differs from the graph's in the file. Bare weights fit either padding."""
    trained = made.trained
    if trained is None or not trained.configured or trained.padding == built.padding:
        return []
    return [f"padding differs: the model has {built.padding!r}, the file's graph {trained.padding!r}"]


def _other_layers(made: LoadPlan) -> list[str]:
    """A note if the graph in the file differs from the table's network."""
    departures = made.trained.departures if made.trained else ()
    if not departures:
        return []
    return [f"the graph in the file differs from this network: {_listed(list(departures))}"]


@dataclass
class LoadReport:
    """What `load_weights` returns: which weights were loaded, dropped, changed and left fresh.

    `print` shows it in a few lines; a notebook shows it as a table.

    Attributes:
        path, format, source: The file, its format, and the project whose names it has.
        network, variant: The network in the file; "" for a network that is not in the tables.
        loaded: Number of the model's weights that were set.
        dropped: Names of the file's tensors that were not used, by reason.
        changed: Names of the model's weights whose values were converted, by the kind of conversion.
        fresh: Names of the model's weights that keep their values: those of a new head (`new_head`), and those of
            layers outside the network.
        notes: Further notes, such as residual scales that differ.
        prefix: Prefix of the names in the file, which was removed; "" without one.
    """

    path: str
    format: str
    source: str
    network: str
    variant: str
    loaded: int = 0
    dropped: dict[str, list[str]] = field(default_factory=dict)
    changed: dict[str, list[str]] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    prefix: str = ""

    def __repr__(self) -> str:
        which = f"{self.network} ({self.variant}), " if self.network else ""
        return f"<LoadReport: {which}{self.loaded} weights from {self.path!r}, {len(self.notes)} notes>"

    def _repr_html_(self) -> str:
        """The counts as a table with one row per kind, for a notebook."""
        found = [["loaded", self.loaded, "", ""]]
        groups = [("dropped", self.dropped), ("changed", self.changed), ("left fresh", {"": self.fresh})]
        found += [
            [kind, len(names), why, _first(names)] for kind, group in groups for why, names in group.items() if names
        ]
        return notebook.page(
            notebook.heading(self._what()),
            notebook.rows(("weights", "count", "why", "which"), found),
            *(notebook.line(f"note: {note}") for note in self.notes),
        )

    def _what(self) -> str:
        which = f" of {self.network} ({self.variant})" if self.network else ""
        return f"{self.path}: {self.format}, {self.source}{which}"

    def __str__(self) -> str:
        lines = [self._what(), f"  loaded: {self.loaded} weights"]
        if self.prefix:
            lines.append(f"  prefix: {self.prefix!r} was removed from the names")
        lines += [f"  dropped: {_listed(names)}: {reason}" for reason, names in self.dropped.items()]
        lines += [f"  changed: {_listed(names)}: {what}" for what, names in self.changed.items()]
        if self.fresh:
            lines.append(f"  left fresh: {_listed(self.fresh)}")
        return "\n".join(map(printable, lines + [f"  note: {note}" for note in self.notes]))


def _listed(names: list[str], most: int = 4) -> str:
    """`3 (a, b, c)`, or `900 (a, b, c, d, …)`."""
    return f"{len(names)} ({_first(names, most)})"


def _first(names: list[str], most: int = 4) -> str:
    return f"{', '.join(names[:most])}{', …' if len(names) > most else ''}"


@dataclass
class TensorSource:
    """The tensor for one weight of the model, and the conversions of its values.

    Attributes:
        name: The tensor's name in the file.
        kernel_first: Whether the layout is PyTorch's, (out, in, …).
        gamma: Name of the tensor that scales it; None without one.
        background: Whether class 0 is dropped.
        channels: The number of image channels that the kernel is adapted to; None keeps the file's.
    """

    name: str
    kernel_first: bool = False
    gamma: str | None = None
    background: bool = False
    channels: int | None = None


@dataclass
class LoadPlan:
    """The checked values for a model's weights, and the report.

    Attributes:
        report: The report.
        sources: The tensor for each weight, by the weight's name.
        trained: The network in the file; None if it is not in the tables.
        raw: The file's arrays by name, as read.
    """

    report: LoadReport
    sources: dict[str, TensorSource]
    trained: NetworkDescription | None = None
    raw: dict[str, np.ndarray] = field(default_factory=dict)

    def values(self) -> Iterator[tuple[str, np.ndarray]]:
        """Each weight's name and value, in Keras's layout. The arrays that were read are released one by one."""
        for key, source in self.sources.items():
            yield key, self._value(source)

    def _value(self, source: TensorSource) -> np.ndarray:
        array = self.raw.pop(source.name)
        if source.kernel_first and array.ndim > 1:
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.transpose()
        if source.background:
            array = array[..., 1:]
        if source.channels is not None:
            array = adapted(array.astype(np.float32), source.channels)
        array = np.ascontiguousarray(array, dtype=np.float32)
        return array * self.raw[source.gamma].astype(np.float32) if source.gamma else array


def adapted(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A kernel (height, width, 3, filters) adapted to another number of image channels.

    The sum over the channels is kept, so that an image with equal channels gives the same output. The usual factor
    3 / channels would change the sum if the three channels do not occur equally often.
    """
    if channels < 3:
        return np.repeat(kernel.sum(axis=2, keepdims=True) / channels, channels, axis=2)
    places = np.arange(channels) % 3
    return kernel[:, :, places] / np.bincount(places)[places][:, None].astype(kernel.dtype)


def plan(
    model: Mapping[str, Shape],
    checkpoint: Checkpoint,
    *,
    new_head: NewHead = False,
    ema: bool = False,
    channels: Channels = None,
) -> LoadPlan:
    """Match a file's tensors with a model's weights, and read and check all values.

    Args:
        model: The shapes of the model's weights, by `layer/variable`.
        checkpoint: The open file.
        new_head: True leaves the classifiers' dense layers, and an auxiliary head that the file lacks, as they are;
            "aux" leaves only the whole auxiliary head.
        ema: Whether to take the running averages in the file.
        channels: "adapt" adapts the first kernel to another number of channels.

    Raises:
        InputError: A tensor or weight is left over, has another shape, is not finite, or belongs to another network.
    """
    check_new_head(new_head)
    identity, own = _identified(model, checkpoint, ema)
    averages = own.averages is not None if own else bool(identity and identity.averages)
    if ema and not averages:
        raise refuse("ema", ema, f"False for {checkpoint.path}: the file has no running averages")
    mapping = _Mapping(model, checkpoint, identity, own, new_head=new_head, ema=ema, channels=channels)
    mapping.plan.trained = identity.description if identity else None
    mapping.match()
    mapping.account_for_the_rest()
    mapping.refuse_problems()
    mapping.problems += read(mapping.plan, checkpoint)
    mapping.refuse_problems()
    return mapping.plan


def check_new_head(new_head: Any) -> None:
    """Raise InputError unless `new_head` is True, "aux" or False."""
    if new_head not in (False, True, "aux"):
        raise refuse("new_head", new_head, 'True, "aux" or False')


def _identified(
    model: Mapping[str, Shape], checkpoint: Checkpoint, ema: bool
) -> tuple[Identity | None, TensorSets | None]:
    """The file's source and network; and its tensors by name, if these are the model's own names, of any network."""
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    trunk = [key for key in model if names.stage(key)] or list(model)
    sets = tensor_sets(NameIndex(shapes), set(trunk), least=max(1, len(trunk) // 2), ema=ema)
    named = sum(key in sets.names for key in trunk) >= len(trunk) / 2
    own = named and any(shapes[sets.names[key]] == model[key] for key in trunk if key in sets.names)
    identity, network = identify_checkpoint(checkpoint, ours_only=own, ema=ema), recognise(model)
    if identity and network and _same_trunk(identity.description, network):
        return identity, sets if own else None
    if own and (identity is None or network is None):
        return identity, sets
    if identity is None:
        first = ", ".join(list(shapes)[:5]) or "none"
        raise InputError(
            f"weights: {checkpoint.path} holds no network that is known here; its first tensors are {first}"
        )
    raise _another(checkpoint, identity, network)


def _same_trunk(one: NetworkDescription, other: NetworkDescription) -> bool:
    """Whether two descriptions have the same trunk: one network, or variants that differ only in their heads."""
    first, second = (networks.find(each.name, each.variant) for each in (one, other))
    return first.name == second.name and (first.stem, first.stages, first.final) == (
        second.stem,
        second.stages,
        second.final,
    )


def _another(checkpoint: Checkpoint, identity: Identity, network: NetworkDescription | None) -> InputError:
    model = f" ({network.name}, {network.variant})" if network else ", which is not in the tables"
    found = identity.description
    return InputError(
        f"weights: {checkpoint.path} looks like {identity.table.source}'s {found.name}, the "
        f"{found.variant} variant ({found.score:.0%} complete), but the model is another network"
        f"{model}; nothing was changed. Build the network it fits: {factory_call(found.name, found.network_options())}"
    )


def _head(key: str) -> str:
    """The head that a weight belongs to; "" for the trunk's weights and those of layers that are in no table."""
    return names.place(key) if key.partition("/")[0] in _head_layers() else ""


def _differs_in_channels(key: str, stored: Shape, shape: Shape) -> bool:
    """Whether a tensor is the network's first kernel for images with another number of channels."""
    first = key == f"{names.inside(names.STEM, 'conv', 1)}/kernel"
    return first and len(stored) == 4 and (*stored[:2], stored[3]) == (*shape[:2], shape[3]) and stored[2] != shape[2]


def _of_network(key: str) -> bool:
    """Whether a weight's name is that of a layer in the tables."""
    return bool(names.stage(key) or _head(key))


@cache
def _head_layers() -> frozenset[str]:
    """The names of all head layers that have weights, batch norms included."""
    tables = (table for variants in networks.NETWORKS.values() for table in variants.values())
    keys = (slot.key(role) for table in tables for slot in slots(table) if slot.head for role in slot.shapes)
    return frozenset(key.partition("/")[0] for key in keys)


class _Mapping:
    """A plan in progress. It collects all problems, so that one error can list them."""

    def __init__(
        self,
        model: Mapping[str, Shape],
        checkpoint: Checkpoint,
        identity: Identity | None,
        own: TensorSets | None,
        *,
        new_head: NewHead,
        ema: bool,
        channels: Channels,
    ) -> None:
        if own:  # the names are the model's own, so the network does not matter
            identity = None
        # The file's names, and the source's tensor for each weight.
        self.model, self.checkpoint, self.identity = model, checkpoint, identity
        self.new_head, self.channels = new_head, channels
        self.table = identity.table if identity else OURS
        self.sets = own or (identity.sets if identity else TensorSets({name: name for name in checkpoint.tensors}))
        self.names = identity.names if identity else self.sets.names
        self.ema = ema and self.sets.averages is None  # otherwise these names are already those of the averages
        self.origins: Mapping[str, Origin] = identity.origins if identity else {}
        # The network, for the report: the file's, or for a file with our names the model's.
        built = recognise(model)
        network = identity.network if identity else None
        if network is None and built and built.score == 1:
            network = built.network
        self.blocks = {names.block_or_stage(key) for key in model}
        self.ends_early = bool(built and not built.network.top)
        self.report = LoadReport(
            path=str(checkpoint.path),
            format=checkpoint.format,
            source=self.table.source,
            network=network.name if network else "",
            variant=network.variant if network else "",
            prefix=self.sets.prefix,
        )
        self.plan = LoadPlan(self.report, {})
        self.used: set[str] = set()
        self.heads = {_head(key) for key in model} - {""}
        keys = list(model)
        # Strictly accounted for are the network's weights, or, if there is no network, all of the model's.
        self.accounted = [key for key in keys if _of_network(key)] or keys
        self.in_front = keys[: keys.index(self.accounted[0])] if keys else []
        self.problems: list[str] = []
        self.hints: dict[str, None] = {}

    def match(self) -> None:
        """Match each of the model's weights with a tensor, or leave it fresh."""
        accounted = set(self.accounted)
        for key, shape in self.model.items():
            origin = self.origins.get(key)
            name = self._name(origin, key)
            own = key not in accounted
            if self._stays_fresh(key, name) or (own and not self._is_in_file(key, shape)):
                self.report.fresh.append(key)
            elif own:
                self._take(key, shape, self._own_name(key), None)
            elif name not in self.checkpoint.tensors:
                self.problems.append(f"{name or key}: missing from the file; the model's {key} {shape} needs it")
                self._hint_at_new_head(key)
            else:
                self._take(key, shape, name, origin)

    def _name(self, origin: Origin | None, key: str) -> str:
        """The tensor's name in the file, even if it is missing; "" if the source has no such tensor."""
        name = origin.name if origin else "" if self.table is not OURS else key
        if self.ema and (f"{name}{EMA}" in self.names or (origin and origin.role in _TRAINED)):
            name = f"{name}{EMA}"
        return self.names.get(name, f"{self.sets.prefixes[0]}{name}" if name else "")

    def _stays_fresh(self, key: str, name: str) -> bool:
        """Whether `new_head` leaves the weight as it is in the model."""
        head = _head(key)
        if self.new_head == "aux":
            return head == names.AUX
        lacks_aux = head == names.AUX and name not in self.checkpoint.tensors
        return self.new_head and (key.partition("/")[0] in _CLASSIFIERS or lacks_aux)

    def _is_in_file(self, key: str, shape: Shape) -> bool:
        """Whether the file has a weight for a layer outside the tables, with its name and shape."""
        tensor = self.checkpoint.tensors.get(self._own_name(key))
        fits = self.table is OURS and tensor is not None and tensor.shape == shape
        return fits and (key in self.in_front or not self.new_head)

    def _own_name(self, key: str) -> str:
        """The file's name for a weight outside the tables; beside a nested network it has no prefix."""
        return self.names.get(key, key)

    def _hint_at_new_head(self, key: str) -> None:
        head = _head(key)
        if head in (names.LOGITS, names.AUX):
            value = '"aux"' if head == names.AUX else "True"
            self.hints[
                f"for a new {_HEADS[head]}, build the model with weights=None, then "
                f"load_weights(model, source, new_head={value})"
            ] = None

    def _take(self, key: str, shape: Shape, name: str, origin: Origin | None) -> None:
        """Plan to set a weight from a tensor, converted if necessary; otherwise note a problem and hints."""
        # What may differ on purpose: the background class, and the number of image channels.
        tensor = self.checkpoint.tensors[name]
        source = TensorSource(name, kernel_first=self.table.channels_first)
        stored = in_keras_layout(tensor.shape, self.table.channels_first)
        self.used.add(name)
        classifier = key.partition("/")[0] in _CLASSIFIERS
        same_input = stored[:-1] == shape[:-1]
        dropping = classifier and self.table.background and drops_background(self._classes(key), shape[-1])
        if dropping and stored == (*shape[:-1], BACKGROUND):
            source.background = True
            self._note(self.report.changed, f"class 0 of {BACKGROUND}, the background, removed", key)
        elif self.channels == "adapt" and _differs_in_channels(key, stored, shape) and stored[2] == RGB:
            source.channels = shape[2]
            self._note(self.report.changed, f"adapted from {RGB} channels of the image to {shape[2]}", key)
        elif dropping or stored != shape:
            # Any other difference is a problem. The shapes often show how the model should be built.
            self.problems.append(f"{name}: has shape {stored}, the model's {key} has {shape}")
            if _differs_in_channels(key, stored, shape):
                self.hints[
                    f'the file is for images with {RGB} channels: channels="adapt" adapts its kernel to {shape[2]}'
                    if stored[2] == RGB
                    else f"the file is for images with {stored[2]} channels: input_shape=(…, …, {stored[2]}) fits it; "
                    f"only kernels with {RGB} channels can be adapted"
                ] = None
            if _head(key) == names.EMBEDDING:
                widths = {table.embedding: variant for variant, table in networks.NETWORKS[self.report.network].items()}
                other = f"variant={widths[stored[-1]]!r} builds it, and " if stored[-1] in widths else ""
                self.hints[
                    f"the file's embedding has {stored[-1]} numbers: {other}a model with include_top=False loads its "
                    "trunk"
                ] = None
            if _head(key) == names.AUX and len(stored) == 4 and stored[2:] == shape[2:] and self.identity:
                fitting = self.identity.description.factory_options().get("input_shape", USUAL_INPUT)
                self.hints[f"the file's auxiliary head is for another image size: input_shape={fitting} fits it"] = None
            if classifier and same_input:
                self.hints[f"num_classes={stored[-1]} keeps the file's classes"] = None
                self._hint_at_new_head(key)
        # The source's gamma, which batch norms here do not have, is folded into the kernel and the moving mean.
        if origin and origin.gamma:
            source.gamma = self.names.get(origin.gamma, origin.gamma)
            self.used.add(source.gamma)
            if source.gamma not in self.checkpoint.tensors:
                self.problems.append(f"{source.gamma}: missing from the file; the model's {key} needs it")
            elif self.checkpoint.tensors[source.gamma].shape != shape[-1:]:
                found = self.checkpoint.tensors[source.gamma].shape
                self.problems.append(f"{source.gamma}: has shape {found}, the model's {key} needs {shape[-1:]}")
        self.plan.sources[key] = source

    def _classes(self, key: str) -> int | None:
        """Width of the file's classifier or auxiliary classifier, whichever `key` is."""
        if self.identity is None:
            return None
        description = self.identity.description
        return description.aux_classes if _head(key) == names.AUX else description.classes

    def account_for_the_rest(self) -> None:
        """Drop each tensor that the model does not use for a reason, or note it as a problem."""
        # For each tensor: its name in the source, and the weight that it belongs to.
        canonical = {file: name for name, file in self.names.items()}
        keys = {origin.name: origin.key for origin in self.origins.values()}
        keys |= {origin.gamma: origin.key for origin in self.origins.values() if origin.gamma}
        known = set(keys)
        strict = self._needs_head() or bool(self.problems)  # an unknown tensor may be a missing one under another name
        # The first reason that applies is the one that is reported.
        for name in self.checkpoint.tensors:
            if name in self.used:
                continue
            if name not in canonical:
                self._note(self.report.dropped, self.sets.reason_left(name), name)
                continue
            plain = canonical[name]
            passed = [what for what, pattern in self.table.passed_over.items() if pattern.fullmatch(plain)]
            key = plain if self.table is OURS else keys.get(plain, "")
            head = _head(key)
            if passed:
                self._note(self.report.dropped, passed[0], name)
            elif self.ema and self.names.get(f"{plain}{EMA}") in self.used:
                self._note(self.report.dropped, "raw weights: ema=True loads their running averages", name)
            elif head and head not in self.heads:
                self._note(self.report.dropped, f"{_HEADS[head]}: the model has none", name)
            elif self.ends_early and names.stage(key) and names.block_or_stage(key) not in self.blocks:
                self._note(self.report.dropped, "layers after the blocks that the model ends with", name)
            elif head and self.new_head and self._replaced(plain):
                self._note(self.report.dropped, f"{_HEADS[head]}: the model gets a new one", name)
            elif not strict and not (_of_network(plain) if self.table is OURS else plain in known):
                self._note(self.report.dropped, "layers outside the network", name)
            else:
                self.problems.append(f"{name}: left over in the file, shape {self.checkpoint.tensors[name].shape}")

    def _needs_head(self) -> bool:
        """Whether the model has a classifier whose weights must come from the file."""
        return names.LOGITS in self.heads and self.new_head is not True

    def _replaced(self, name: str) -> bool:
        """Whether a tensor, by its name in the source, belongs to a weight that stays fresh."""
        fresh = set(self.report.fresh)
        origins = self.origins.values()
        return name in fresh or any(name in (origin.name, origin.gamma) and origin.key in fresh for origin in origins)

    @staticmethod
    def _note(group: dict[str, list[str]], what: str, name: str) -> None:
        group.setdefault(what, []).append(name)

    def refuse_problems(self) -> None:
        """Raise one InputError with the first problems, their number, and hints."""
        if not self.problems:
            return
        which = f" of {self.report.network} ({self.report.variant})" if self.report.network else ""
        lines = [f"weights: {self.checkpoint.path}, {self.table.source}{which}, does not fit; nothing was changed"]
        lines += [f"  {problem}" for problem in self.problems[:_LISTED]]
        if len(self.problems) > _LISTED:
            lines.append(f"  … and {len(self.problems) - _LISTED} more")
        raise InputError(*lines, *(f"  {hint}" for hint in self.hints))


def read(plan: LoadPlan, checkpoint: Checkpoint) -> list[str]:
    """Read all values that a plan needs, and return the problems with them.

    A gamma of ones is dropped. Any other gamma is to be folded into its kernel, and the product is checked too.
    """
    # Read every tensor that the plan uses, in the file's order.
    gammas = {source.gamma for source in plan.sources.values() if source.gamma}
    used = gammas | {source.name for source in plan.sources.values()}
    problems = []
    for name in checkpoint.tensors:
        if name in used:
            kind = checkpoint.tensors[name].dtype
            if "float" not in kind:
                problems.append(f"{name}: has type {kind}, and weights are floating-point numbers")
                continue
            plan.raw[name] = checkpoint.read(name)
            problems += _problems(name, plan.raw[name])
    if problems:
        return problems
    # Decide for each gamma whether it is dropped or folded.
    ones = [name for name in checkpoint.tensors if name in gammas and np.all(plan.raw[name] == 1)]
    if ones:
        plan.report.dropped[ALL_ONES] = ones
    for key, source in plan.sources.items():
        if source.gamma in ones:
            source.gamma = None
        elif source.gamma:
            plan.report.changed.setdefault(FOLDED, []).append(key)
            if not _is_finite_folded(plan.raw[source.name], plan.raw[source.gamma], source):
                problems.append(f"{source.name}: its product with {source.gamma} exceeds float32's range")
    plan.report.loaded = len(plan.sources)
    return problems


def _problems(name: str, array: np.ndarray) -> list[str]:
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.astype(np.float32, copy=False))
    if not finite.all():
        bad = array.size - np.count_nonzero(finite)
        return [f"{name}: {bad} of {array.size} values are NaN, infinite or beyond float32's range"]
    if name.endswith(("moving_variance", "running_var")) and (array < 0).any():
        return [f"{name}: a variance is negative"]
    return []


def _is_finite_folded(array: np.ndarray, gamma: np.ndarray, source: TensorSource) -> bool:
    """Whether each channel's largest value times its gamma is finite, so that all its products are."""
    channels = np.moveaxis(array, 0 if source.kernel_first else -1, -1).reshape(-1, len(gamma))
    largest = np.maximum(channels.max(axis=0), -channels.min(axis=0)).astype(np.float32)
    with np.errstate(over="ignore"):
        return bool(np.isfinite(largest * gamma.astype(np.float32)).all())

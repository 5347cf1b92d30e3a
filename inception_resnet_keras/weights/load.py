"""Weights into models, strictly: every tensor of the file and every weight of the model is accounted for.

The story of one load: the file's network is identified, a plan matches its tensors with the model's weights by
the meaning of their names, every value is read and checked, and only then is the model changed. Whatever does
not fit is listed in one InputError, and nothing was changed.
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
ALL_ONES = "gamma, all ones"
FOLDED = "gamma folded into it"
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
    """Sets a model's weights from a checkpoint of this project or of another, or from a registered name.

    Only the network's own layers are accounted for. Layers of your own keep their weights, unless the file has some
    of the same names and shapes.

    Args:
        model: A model of this project, built or loaded, or one with such a network inside it; changed only if
            everything fits.
        source: A path, of which the format is recognised by content (TF-Slim and davidsandberg/facenet
            checkpoints, V1, V2 or the published .tar.gz; Keras's HDF5 of `keras.applications` and of
            kentsommer's v4; timm's and facenet-pytorch's .safetensors and .pt; this project's .keras,
            .weights.h5 and .safetensors); or a name of `registry.NAMES`, which is downloaded once.
        new_head: False: every weight of the network must come from the source. True: the classifier, and the
            auxiliary one, stay as they are in the model, for another number of classes, and so do your own layers
            behind the network; whatever head the source has, of any name, is left out. "aux": the whole auxiliary
            head stays, and it alone.
        ema: Whether to take the running averages that TensorFlow 1 trainers keep beside the weights.
        channels: "adapt" fits the kernels of three-channel images to a model of one, two, four or more channels:
            for one they are summed, for two this sum is halved; for more they are repeated, each divided by how often
            it occurs. A grey image gives what its RGB copy gives. None refuses another number of channels.

    Returns:
        What was loaded, dropped, changed and left fresh; it is logged too.

    Raises:
        ValueError: Anything is left over on either side, has another shape, is NaN or infinite; the
            checkpoint is of another network; the file is missing, damaged or of no known format;
            or a registered name fits no such model. It says what and where.
    """
    check_new_head(new_head)
    one_of("channels", channels, CHANNELS)
    if not isinstance(model, keras.Model):
        raise refuse("model", model, "a Keras model")
    variables = weights_by_name(model)
    shapes = {key: tuple(weight.shape) for key, weight in variables.items()}
    path = registry.fetch(fspath(source), shapes, new_head) if is_name(source) else Path(source)
    with open_checkpoint(path) as checkpoint:
        made = plan(shapes, checkpoint, new_head=new_head, ema=ema, channels=channels)
        for key, value in made.values():
            variables[key].assign(value)
        if not (checkpoint.checksums or is_name(source)):  # what a name stands for is compared with its hash
            made.report.notes.append(no_checksums(path))
    flat = flattened(model)
    here = None if flat is None else recognise_model(flat)
    if here is not None and made.report.network:
        made.report.notes += _other_scales(here, made) + _other_padding(here, made)
    made.report.notes += _other_layers(made)
    log.info("%s", made.report)
    return made.report


def weights_by_name(model: keras.Model) -> dict[str, Any]:
    """A model's weights by `layer/variable`, in its order; of nested models too, without these models' names.

    A `layer_prefix` is taken off.

    Raises InputError where two networks stand side by side in it.
    """
    found: dict[str, Any] = {}
    prefixes = names.prefixes(layer.name for layer in leaves(model))
    if len(set(prefixes)) > 1:
        raise InputError(
            f"model: {model.name!r} holds several networks, with layers' names that begin with "
            f"{', '.join(map(repr, prefixes))}; load the weights of each alone, as they are built"
        )
    prefix = "".join(prefixes)
    for layer in leaves(model):
        for weight in layer.weights:
            key = f"{layer.name.removeprefix(prefix)}/{weight.name}"
            if key in found and _of_network(key):
                raise InputError(
                    f"model: {model.name!r} has two layers {layer.name!r}: it holds several networks; load the weights "
                    "of each alone, as they are built, or by model.get_layer(...)"
                )
            found[weight.path if key in found else key] = weight
    return found


def require(weights: str | PathLike[str], shapes: Mapping[str, Shape] | None = None) -> None:
    """Raises InputError where `weights=` is neither a registered name nor a checkpoint that opens.

    shapes: Of the weights of the model that is to be built, by `layer/variable`; a name must have a file for them.
        None asks only whether the name is known.
    """
    if is_name(weights):
        name = fspath(weights)
        _ = registry.files_of(name) if shapes is None else registry.resolve(name, shapes)
    else:
        with open_checkpoint(weights):
            pass


def is_name(source: str | PathLike[str]) -> bool:
    """A registered name; a word that is neither one nor a file is taken for a misspelt one."""
    if not isinstance(source, str | PathLike) or isinstance(fspath(source), bytes):
        raise InputError(f"weights: got {source!r}; it takes None, a path or one of {', '.join(registry.NAMES)}")
    text = fspath(source)
    if text in registry.NAMES:
        return True
    like_a_name = text.isidentifier() or difflib.get_close_matches(text, registry.NAMES, 1, cutoff=0.8)
    return bool(like_a_name) and not is_checkpoint(Path(text))


def _other_scales(here: NetworkDescription, made: LoadPlan) -> list[str]:
    """Residual scales that are not those of the file, or, where it does not say them, of the release it fits."""
    if here.scales is None:
        return []
    trained = made.trained.scales if made.trained else None
    if trained is None and made.report.source == OURS.source:
        return []
    says = "the file's graph with" if trained else f"{made.report.source}'s own network with"
    trained = trained or networks.scales(networks.find(made.report.network, made.report.variant))
    # Either may end before its last blocks.
    for block, mine, theirs in zip(networks.block_names(here.network), here.scales, trained, strict=False):
        if abs(mine - theirs) > 1e-9:
            return [f"residual scales differ: block {block}01 of the model sums with {mine}, {says} {theirs}"]
    return []


def _other_padding(here: NetworkDescription, made: LoadPlan) -> list[str]:
    """A padding that is not that of the file's graph; a release is loaded into aligned networks on purpose."""
    trained = made.trained
    if trained is None or not trained.configured or trained.padding == here.padding:
        return []
    return [f"padding differs: the model's is {here.padding!r}, that of the file's graph {trained.padding!r}"]


def _other_layers(made: LoadPlan) -> list[str]:
    """What the file's own graph does that the network of the tables does not, wherever the file has a graph."""
    departures = made.trained.departures if made.trained else ()
    if not departures:
        return []
    return [f"the file's own graph computes something else than this network: {_listed(list(departures))}"]


@dataclass
class LoadReport:
    """What was loaded, dropped on purpose, changed on the way, and left fresh.

    path, format, source: The file, its format, and the project whose names it has.
    network, variant: The network in the file; "" for a network of one's own.
    loaded: How many of the model's weights were set. shape and dtype of the file's tensors: see
    `inception-resnet-keras inspect`.
    dropped: The file's tensors that were left out on purpose, by reason.
    changed: The model's weights that were not taken as they stand in the file, by what was done.
    fresh: The model's weights that keep their values, because a new head was asked for, or because they are of
    layers that belong to no network of the tables.
    prefix: What stood before the names in the file, and was stripped; "" for nothing.
    notes: What else a user should know, such as residual scales that differ.
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
        """What became of the tensors, a row each kind, for a notebook."""
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
            lines.append(f"  prefix: {self.prefix!r} before the names, stripped")
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
    """Where one weight of the model comes from.

    background: Its first class is dropped. channels: How many the kernel is adapted to; None keeps the file's.
    """

    name: str
    kernel_first: bool = False
    gamma: str | None = None
    background: bool = False
    channels: int | None = None


@dataclass
class LoadPlan:
    """Checked values for a model's weights, as they were read, and the report of what they are.

    trained: The network in the file; None for one of the user's own tables.
    """

    report: LoadReport
    sources: dict[str, TensorSource]
    trained: NetworkDescription | None = None
    raw: dict[str, np.ndarray] = field(default_factory=dict)

    def values(self) -> Iterator[tuple[str, np.ndarray]]:
        """Each of the model's weights with its value, in Keras's layout; what was read is let go."""
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
    """A kernel (height, width, 3, filters) for images of another number of channels.

    The sum over the channels stays, so that an image whose channels are equal gives what it gave. The usual factor of
    3 / channels for all would change that sum wherever the three do not occur equally often.
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
    """How a file's tensors become a model's weights; every one of them read and checked.

    Args:
        model: The shapes of the model's weights by `layer/variable`.
        checkpoint: The open file.
        new_head: True leaves the classifiers' dense layers as they are, and an auxiliary head that
            the file lacks; "aux" the whole auxiliary head, and it alone.
        ema: Takes the running averages that the file has beside its weights.
        channels: "adapt" fits the first kernel to another number of channels.

    Raises:
        InputError: Something is left over on either side, has another shape, is not finite, or is
            of another network.
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
    if new_head not in (False, True, "aux"):
        raise refuse("new_head", new_head, 'True, "aux" or False')


def _identified(
    model: Mapping[str, Shape], checkpoint: Checkpoint, ema: bool
) -> tuple[Identity | None, TensorSets | None]:
    """Whose file it is; and its tensors where their names are the model's own, whatever the network."""
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
        raise InputError(f"weights: {checkpoint.path} is of no network that is known here; its tensors begin: {first}")
    raise _another(checkpoint, identity, network)


def _same_trunk(one: NetworkDescription, other: NetworkDescription) -> bool:
    """Whether two descriptions are of one network, or of two variants that differ in their heads alone."""
    first, second = (networks.find(each.name, each.variant) for each in (one, other))
    return first.name == second.name and (first.stem, first.stages, first.final) == (
        second.stem,
        second.stages,
        second.final,
    )


def _another(checkpoint: Checkpoint, identity: Identity, network: NetworkDescription | None) -> InputError:
    model = f" ({network.name}, {network.variant})" if network else ", which is none of the named networks"
    found = identity.description
    return InputError(
        f"weights: {checkpoint.path} looks like {identity.table.source}'s {found.name}, the "
        f"{found.variant} variant ({found.score:.0%} of it is there), and is given to another network"
        f"{model}; nothing was changed. Build the network it fits: {factory_call(found.name, found.network_options())}"
    )


def _head(key: str) -> str:
    """Which head of the tables a weight is of; "" for one of the trunk, or of a layer that no table has."""
    return names.place(key) if key.partition("/")[0] in _head_layers() else ""


def _differs_in_channels(key: str, there: Shape, shape: Shape) -> bool:
    """Whether a tensor is the network's first kernel, for images of another number of channels."""
    first = key == f"{names.inside(names.STEM, 'conv', 1)}/kernel"
    return first and len(there) == 4 and (*there[:2], there[3]) == (*shape[:2], shape[3]) and there[2] != shape[2]


def _of_network(key: str) -> bool:
    """Whether a weight's name is one that the tables give."""
    return bool(names.stage(key) or _head(key))


@cache
def _head_layers() -> frozenset[str]:
    """The names of all heads' layers that have weights, with their batch norms'."""
    tables = (table for variants in networks.NETWORKS.values() for table in variants.values())
    keys = (slot.key(role) for table in tables for slot in slots(table) if slot.head for role in slot.shapes)
    return frozenset(key.partition("/")[0] for key in keys)


class _Mapping:
    """The state of one plan: what is matched, and every problem found, told together."""

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
        if own:  # the names are the model's, whatever network they are of
            identity = None
        self.model, self.checkpoint, self.identity = model, checkpoint, identity
        self.new_head, self.channels = new_head, channels
        self.table = identity.table if identity else OURS
        self.sets = own or (identity.sets if identity else TensorSets({name: name for name in checkpoint.tensors}))
        self.names = identity.names if identity else self.sets.names
        self.ema = ema and self.sets.averages is None  # else the names are the averages' already
        self.origins: Mapping[str, Origin] = identity.origins if identity else {}
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
        self.accounted = [key for key in keys if _of_network(key)] or keys  # the network's own weights
        self.in_front = keys[: keys.index(self.accounted[0])] if keys else []
        self.problems: list[str] = []
        self.hints: dict[str, None] = {}

    def match(self) -> None:
        """Each of the model's weights to a tensor, or to the fresh ones that were asked for."""
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
        """The tensor's name in the file, whether it is there or not; "" where the source has none such."""
        name = origin.name if origin else "" if self.table is not OURS else key
        if self.ema and (f"{name}{EMA}" in self.names or (origin and origin.role in _TRAINED)):
            name = f"{name}{EMA}"
        return self.names.get(name, f"{self.sets.prefixes[0]}{name}" if name else "")

    def _stays_fresh(self, key: str, name: str) -> bool:
        head = _head(key)
        if self.new_head == "aux":
            return head == names.AUX
        lacks_aux = head == names.AUX and name not in self.checkpoint.tensors
        return self.new_head and (key.partition("/")[0] in _CLASSIFIERS or lacks_aux)

    def _is_in_file(self, key: str, shape: Shape) -> bool:
        """Whether the file has a weight of a layer that no table has, under its name and of its shape."""
        tensor = self.checkpoint.tensors.get(self._own_name(key))
        fits = self.table is OURS and tensor is not None and tensor.shape == shape
        return fits and (key in self.in_front or not self.new_head)

    def _own_name(self, key: str) -> str:
        """The name in the file of a layer that no table has; it stands beside the network where that is nested."""
        return self.names.get(key, key)

    def _hint_at_new_head(self, key: str) -> None:
        head = _head(key)
        if head in (names.LOGITS, names.AUX):
            value = '"aux"' if head == names.AUX else "True"
            self.hints[
                f"a new {_HEADS[head]} is asked for: build the model with weights=None, then "
                f"load_weights(model, source, new_head={value})"
            ] = None

    def _take(self, key: str, shape: Shape, name: str, origin: Origin | None) -> None:
        tensor = self.checkpoint.tensors[name]
        source = TensorSource(name, kernel_first=self.table.channels_first)
        there = in_keras_layout(tensor.shape, self.table.channels_first)
        self.used.add(name)
        classifier = key.partition("/")[0] in _CLASSIFIERS
        same_input = there[:-1] == shape[:-1]
        dropping = classifier and self.table.background and drops_background(self._classes(key), shape[-1])
        if dropping and there == (*shape[:-1], BACKGROUND):
            source.background = True
            self._note(self.report.changed, f"class 0 of {BACKGROUND}, the background, removed", key)
        elif self.channels == "adapt" and _differs_in_channels(key, there, shape) and there[2] == RGB:
            source.channels = shape[2]
            self._note(self.report.changed, f"adapted from {RGB} channels of the image to {shape[2]}", key)
        elif dropping or there != shape:
            self.problems.append(f"{name}: has shape {there}, the model's {key} has {shape}")
            if _differs_in_channels(key, there, shape):
                self.hints[
                    f'the file is for images of {RGB} channels: channels="adapt" fits its first kernel to {shape[2]}'
                    if there[2] == RGB
                    else f"the file is for images of {there[2]} channels: input_shape=(…, …, {there[2]}) fits it; "
                    f"only kernels of {RGB} channels can be adapted"
                ] = None
            if _head(key) == names.EMBEDDING:
                widths = {table.embedding: variant for variant, table in networks.NETWORKS[self.report.network].items()}
                other = f"variant={widths[there[-1]]!r} builds it, and " if there[-1] in widths else ""
                self.hints[
                    f"the file's embedding is {there[-1]} wide: {other}its trunk is loaded by a model of "
                    "include_top=False"
                ] = None
            if _head(key) == names.AUX and len(there) == 4 and there[2:] == shape[2:] and self.identity:
                fitting = self.identity.description.factory_options().get("input_shape", USUAL_INPUT)
                self.hints[f"the file's auxiliary head is of another image size: input_shape={fitting} fits it"] = None
            if classifier and same_input:
                self.hints[f"num_classes={there[-1]} keeps the file's classes"] = None
                self._hint_at_new_head(key)
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
        """Width of the file's classifier, or of its auxiliary head's, by the kernel."""
        if self.identity is None:
            return None
        description = self.identity.description
        return description.aux_classes if _head(key) == names.AUX else description.classes

    def account_for_the_rest(self) -> None:
        """What the file has and the model has not: dropped for a reason, or a problem."""
        canonical = {file: name for name, file in self.names.items()}
        keys = {origin.name: origin.key for origin in self.origins.values()}
        keys |= {origin.gamma: origin.key for origin in self.origins.values() if origin.gamma}
        known = set(keys)
        strict = self._needs_head() or bool(self.problems)  # a tensor without a place may be what another one lacks
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
                self._note(self.report.dropped, "raw weights: their running averages were asked for", name)
            elif head and head not in self.heads:
                self._note(self.report.dropped, f"{_HEADS[head]}: the model has none", name)
            elif self.ends_early and names.stage(key) and names.block_or_stage(key) not in self.blocks:
                self._note(self.report.dropped, "what comes after the blocks that the model ends with", name)
            elif head and self.new_head and self._replaced(plain):
                self._note(self.report.dropped, f"{_HEADS[head]}: a new one was asked for", name)
            elif not strict and not (_of_network(plain) if self.table is OURS else plain in known):
                self._note(self.report.dropped, "layers that are none of the network's", name)
            else:
                self.problems.append(f"{name}: left over in the file, shape {self.checkpoint.tensors[name].shape}")

    def _needs_head(self) -> bool:
        """Whether the model has a classifier whose weights must come from the file."""
        return names.LOGITS in self.heads and self.new_head is not True

    def _replaced(self, name: str) -> bool:
        fresh = set(self.report.fresh)
        origins = self.origins.values()
        return name in fresh or any(name in (origin.name, origin.gamma) and origin.key in fresh for origin in origins)

    @staticmethod
    def _note(group: dict[str, list[str]], what: str, name: str) -> None:
        group.setdefault(what, []).append(name)

    def refuse_problems(self) -> None:
        if not self.problems:
            return
        which = f" of {self.report.network} ({self.report.variant})" if self.report.network else ""
        lines = [f"weights: {self.checkpoint.path}, {self.table.source}{which}, does not fit; nothing was changed"]
        lines += [f"  {problem}" for problem in self.problems[:_LISTED]]
        if len(self.problems) > _LISTED:
            lines.append(f"  … and {len(self.problems) - _LISTED} more")
        raise InputError(*lines, *(f"  {hint}" for hint in self.hints))


def read(plan: LoadPlan, checkpoint: Checkpoint) -> list[str]:
    """Reads every value that a plan needs; what is wrong with them, if anything.

    A gamma of ones is left out; another is to be folded, and the product is looked at too.
    """
    gammas = {source.gamma for source in plan.sources.values() if source.gamma}
    used = gammas | {source.name for source in plan.sources.values()}
    problems = []
    for name in checkpoint.tensors:
        if name in used:
            kind = checkpoint.tensors[name].dtype
            if "float" not in kind:
                problems.append(f"{name}: holds {kind}, and weights are floating-point numbers")
                continue
            plan.raw[name] = checkpoint.read(name)
            problems += _problems(name, plan.raw[name])
    if problems:
        return problems
    ones = [name for name in checkpoint.tensors if name in gammas and np.all(plan.raw[name] == 1)]
    if ones:
        plan.report.dropped[ALL_ONES] = ones
    for key, source in plan.sources.items():
        if source.gamma in ones:
            source.gamma = None
        elif source.gamma:
            plan.report.changed.setdefault(FOLDED, []).append(key)
            if not _is_finite_folded(plan.raw[source.name], plan.raw[source.gamma], source):
                problems.append(f"{source.name}: times {source.gamma} it is beyond float32's range")
    plan.report.loaded = len(plan.sources)
    return problems


def _problems(name: str, array: np.ndarray) -> list[str]:
    with np.errstate(over="ignore"):
        finite = np.isfinite(array.astype(np.float32, copy=False))
    if not finite.all():
        bad = array.size - np.count_nonzero(finite)
        return [f"{name}: {bad} of {array.size} values are NaN, infinite or beyond float32's range"]
    if name.endswith(("moving_variance", "running_var")) and (array < 0).any():
        return [f"{name}: a variance is below zero"]
    return []


def _is_finite_folded(array: np.ndarray, gamma: np.ndarray, source: TensorSource) -> bool:
    """Whether a channel's largest number times the channel's gamma is one, as all others then are."""
    channels = np.moveaxis(array, 0 if source.kernel_first else -1, -1).reshape(-1, len(gamma))
    largest = np.maximum(channels.max(axis=0), -channels.min(axis=0)).astype(np.float32)
    with np.errstate(over="ignore"):
        return bool(np.isfinite(largest * gamma.astype(np.float32)).all())

"""Identifies the source of a checkpoint, and translates its names to ours, so that networks.recognise can read them.

A file's names may have a prefix from a wrapper (`module.`, `state_dict.model.`) or a scope
(`FirstStageFeatureExtractor/`). No list of prefixes exists. A prefix is the rest of a file's name before a source's
name at its end. A file may have several: one for its weights and one for their running averages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from .. import networks
from ..common.arguments import is_number
from ..common.errors import InputError
from ..networks import edits
from ..networks import names as own_names
from ..networks.recognise import LEAST_SCORE, Layers, NetworkDescription, Shape, describe, recognise
from ..networks.rows import Network
from .readers.checkpoint import Checkpoint
from .slots import CLASSES, Slot, slots
from .sources import EMA, OTHERS, OURS, NameTable, is_training_state

SETTINGS_KEY = "factory"  # key in a safetensors file's metadata, with the settings that weights do not show
_COUNTED = re.compile(r"(.*?)(?:_([0-9]{1,9}))?")
_COUNTER = re.compile(rf"({'|'.join(sorted({kind for table in OTHERS for kind in table.counters}))})_[0-9]{{1,9}}(?=/)")
_SEPARATOR = re.compile(r"[./]")
_DEEPEST_NAME = 10  # separators that are tried in a name; the sources' names have at most 8
_MOST_PREFIXES = 8  # values of `layer_prefix` that are tried for one file
_FIRST_KERNEL = f"{own_names.inside(own_names.STEM, 'conv', 1)}/kernel"
_LEAST_OWN = 8  # tensors with this package's names that a prefix must have
_LEAST_SHARE = 0.1  # of a network's tensors: with fewer, a prefix is a coincidence
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_ACTIVATIONS = {"Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax"}  # Keras's activation layers
_GLOBAL_POOLS = {"GlobalAveragePooling2D", "GlobalMaxPooling2D"}
_RIVAL_SHARE = 0.9  # of the largest set's tensors: a set of this size is another network
_AVERAGES = {
    "ema",
    "swa",
    "avg",
    "average",
    "averages",
    "averaged",
    "shadow",
}  # words in the prefix of running averages
_STATISTIC = re.compile(r".*[./](?:moving_mean|moving_variance|running_mean|running_var)")


@dataclass(frozen=True)
class Origin:
    """The source's tensor for one of our weights, and the gamma that scales it."""

    key: str
    slot: Slot
    role: str
    name: str
    gamma: str | None

    def shape(self, table: NameTable) -> Shape:
        """The tensor's shape in the source's layout; CLASSES stands for the number of classes."""
        shape = self.slot.shapes[self.role]
        return (*shape[:-3:-1], *shape[:-2]) if table.channels_first and len(shape) > 1 else shape


@dataclass(frozen=True)
class TensorSets:
    """The sets of tensors in a file that belong to one network, each with its own prefix. One set is chosen.

    Attributes:
        names: For the chosen set, name without the prefix → name in the file.
        prefixes: Prefixes of the chosen set; several if the network is split over scopes.
        others: For each prefix that is not chosen, the reason: running averages, or the weights that they average.
        averages: Prefix of the running averages, chosen or not; None if the file has none.
        rivals: Prefixes of other networks in the file.
    """

    names: Mapping[str, str]
    prefixes: tuple[str, ...] = ("",)
    others: Mapping[str, str] = field(default_factory=dict)
    averages: str | None = None
    rivals: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """The prefixes as text for messages; "" without one."""
        return ", ".join(filter(None, self.prefixes))

    def reason_left(self, name: str) -> str:
        """The reason why a tensor of the file is not in the chosen set."""
        if is_training_state(name):
            return "training state"
        reasons = (reason for prefix, reason in self.others.items() if name.startswith(prefix))
        return next(reasons, f"outside {self.prefix!r}, which holds the network")


@dataclass(frozen=True)
class Identity:
    """The source and the network of a file.

    Attributes:
        table: The source's name table.
        description: The network.
        names: The source's canonical name → the name in the file.
        sets: The file's prefixes.
        origins: Our weight's name → the source's tensor; empty for a file with our own names.
    """

    table: NameTable
    description: NetworkDescription
    names: Mapping[str, str]
    sets: TensorSets
    origins: Mapping[str, Origin] = field(default_factory=dict)

    @property
    def rank(self) -> tuple[float, bool]:
        """The order of candidates: by the trunk's score, and for equal trunks by whether there is a head."""
        return self.score, self.description.include_top

    @property
    def averages(self) -> bool:
        """Whether the file has running averages of its weights."""
        return self.sets.averages is not None or any(name.endswith(EMA) for name in self.names)

    @property
    def network(self) -> Network:
        return self.description.network

    @property
    def score(self) -> float:
        return self.description.score

    def file_layer(self, key: str) -> str:
        """The name of the layer in a Keras file that holds one of our weights, without outer models; "" for none."""
        origin = self.origins.get(key)
        name = self.names.get(origin.name if origin else key, "")
        return name.rpartition("/")[0].rpartition("/")[2]


def identify(shapes: Mapping[str, Shape], layers: Layers | None = None, *, ema: bool = False) -> Identity | None:
    """The source and network whose names and shapes fit best; None if no score reaches one half.

    With `ema`, running averages with a prefix of their own are chosen instead of the weights.
    """
    index = NameIndex(shapes)
    best = _of_ours(shapes, layers, _sets_of_ours(index, ema))
    for table in OTHERS:
        for name, variant in table.layers:
            network = networks.find(name, variant)
            known = _known(table, network)
            sets = tensor_sets(index, known, least=round(_LEAST_SHARE * len(known)), ema=ema)
            candidate = _of_source(table, network, shapes, layers, sets)
            if best is None or candidate.rank > best.rank:
                best = candidate
    return best if best and best.score >= LEAST_SCORE else None


def identify_checkpoint(checkpoint: Checkpoint, *, ours_only: bool = False, ema: bool = False) -> Identity | None:
    """`identify` for an open file, including the settings that this package stores beside its weights.

    With `ours_only`, the names of other projects are not tried.

    Raises:
        InputError: The file holds several networks, or settings that no factory accepts.
    """
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    if ours_only:
        found = _of_ours(shapes, checkpoint.layers, _sets_of_ours(NameIndex(shapes), ema))
    else:
        found = identify(shapes, checkpoint.layers, ema=ema)
    if found and found.sets.rivals:
        shown = ", ".join(map(repr, (*found.sets.prefixes, *found.sets.rivals)))
        raise InputError(
            f"weights: {checkpoint.path} holds several networks, with names that begin with {shown}: save only the "
            "one to load in a file of its own"
        )
    if found and found.table is OURS:
        found = replace(found, description=_of_variant(found, shapes, checkpoint))
    written = checkpoint.metadata.get(SETTINGS_KEY)
    if not written or found is None or found.table is not OURS:
        return found
    try:
        settings = json.loads(written)
        if not isinstance(settings, dict):
            raise InputError("holds no settings under 'factory'")
        return replace(found, description=found.description.with_settings(settings))
    except ValueError as error:
        raise InputError(f"{checkpoint.path}: its metadata {error}") from None


class NameIndex:
    """A file's names indexed by their possible ends: the whole name, and the part after each separator.

    `ends` maps an end to (prefix, end) of each name that has it. In its keys, counters have no number: conv2d/kernel.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = [name for name in names if not is_training_state(name)]
        self.ends: dict[str, list[tuple[str, str]]] = {}
        layers = {name.rpartition("/")[0].rpartition("/")[2] for name in self.names}
        prefixes = [prefix for prefix in own_names.prefixes(sorted(layers)) if prefix][:_MOST_PREFIXES]
        for name in self.names:
            starts = [0, *[match.end() for match in _SEPARATOR.finditer(name)][-_DEEPEST_NAME:]]
            starts += [at + len(prefix) for at in starts for prefix in prefixes if name.startswith(prefix, at)]
            for at in starts:
                end = name[at:]
                self.ends.setdefault(_uncounted(end), []).append((name[:at], end))


def tensor_sets(index: NameIndex, known: AbstractSet[str], *, least: int, ema: bool = False) -> TensorSets:
    """The sets of tensors in a file, by the prefixes before a network's names.

    Args:
        index: All names in the file.
        known: The network's names, without prefixes and without the numbers of counters.
        least: Number of known names that a prefix must have.
        ema: Whether to choose the running averages.
    """
    # The known names under each prefix; prefixes with many names are candidates.
    found: dict[str, set[str]] = {}
    for key in known & index.ends.keys():
        for prefix, name in index.ends[key]:
            found.setdefault(prefix, set()).add(name)
    sized = sorted((prefix for prefix in found if len(found[prefix]) >= least), key=lambda one: (-len(found[one]), one))
    weights = _chosen([prefix for prefix in sized if not _of_averages(prefix)], found)
    averages = _chosen([prefix for prefix in sized if _of_averages(prefix)], found)
    if not weights:  # a file with nothing but averages: they are its weights, with `ema` or without
        weights = averages or [("",)]
        averages = averages if ema else []
    average = averages[0][0] if averages else None
    beside = [prefix for group in (weights[0], *averages) for prefix in group]
    raw = _stripped(index.names, weights[0], beside)
    if not (ema and averages):
        others = {
            prefix: f"running averages under {prefix!r}, without ema=True" for group in averages for prefix in group
        }
        rivals = [prefix for group in weights[1:] for prefix in group]
        return TensorSets(raw, weights[0], others, average, tuple(rivals))
    # Some trainers average only trained parameters. The moving statistics are then taken from the weights' own set.
    statistics = {name: file for name, file in raw.items() if _STATISTIC.fullmatch(name)}
    others = dict.fromkeys(weights[0], "raw weights: ema=True loads their running averages")
    rivals = [prefix for group in averages[1:] for prefix in group]
    chosen = _stripped(index.names, averages[0], beside)
    return TensorSets(statistics | chosen, averages[0], others, average, tuple(rivals))


def _stripped(names: list[str], prefixes: Iterable[str], beside: list[str]) -> dict[str, str]:
    """Name without its prefix → name, for all names under the prefixes, except those under longer ones in `beside`."""
    result: dict[str, str] = {}
    for prefix in prefixes:
        inner = tuple(one for one in beside if one != prefix and one.startswith(prefix))
        for name in names:
            if name.startswith(prefix) and not (inner and name.startswith(inner)):
                result.setdefault(name[len(prefix) :], name)
    return result


def _of_averages(prefix: str) -> bool:
    """Whether a prefix has a word for running averages in it."""
    words = {word.lower() for word in _WORDS.findall(prefix)}
    return bool(words & _AVERAGES)


def _chosen(prefixes: list[str], found: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """Group prefixes, which are sorted by size, into sets of tensors. The first set is the one to choose.

    Prefixes without common names complete one another and form one set. Others form sets of their own if they are
    about as large as the first; smaller ones are ignored.
    """
    groups: list[tuple[list[str], set[str]]] = []
    for prefix in prefixes:
        names = found[prefix]
        if groups and not names & groups[0][1]:
            groups[0][0].append(prefix)
            groups[0][1].update(names)
        elif not groups or len(names) >= _RIVAL_SHARE * len(found[prefixes[0]]):
            groups.append(([prefix], set(names)))
    return [tuple(group) for group, _ in groups]


def _of_variant(found: Identity, shapes: Mapping[str, Shape], checkpoint: Checkpoint) -> NetworkDescription:
    """The description, changed to the variant that the file's metadata names, if that has the same trunk."""
    named = checkpoint.metadata.get("variant", found.description.variant)
    table = networks.NETWORKS[found.network.name].get(named)
    if table is None or named == found.description.variant or not table.embedding:
        return found.description
    plain = {name: shapes[file] for name, file in found.names.items()}
    depths = found.description.depths
    whole = edits.with_depths(table, depths + networks.depths(table)[len(depths) :])  # it may lack the last blocks
    other = describe(whole, plain, checkpoint.layers)
    fits = found.description.embedding in (None, table.embedding) and other.score >= found.score
    return other if fits else found.description


def in_keras_layout(shape: Shape, channels_first: bool) -> Shape:
    """Convert a shape from the source's layout to Keras's."""
    return (*shape[2:], *shape[1::-1]) if channels_first and len(shape) > 1 else shape


def _sets_of_ours(index: NameIndex, ema: bool) -> TensorSets:
    """The sets of tensors with our names, such as `a03_project/kernel`, for any network and depths."""
    known = {end for end in index.ends if end.count("/") == 1 and own_names.stage(end)}
    sets = tensor_sets(index, known, least=_LEAST_OWN, ema=ema)
    # Every network has this weight, so another prefix before it means another network, however small.
    starts = {prefix for prefix, _ in index.ends.get(_FIRST_KERNEL, ()) if not _of_averages(prefix)}
    more = sorted(starts - {*sets.prefixes, *sets.rivals, *sets.others})
    return replace(sets, rivals=(*sets.rivals, *more))


def _of_ours(shapes: Mapping[str, Shape], layers: Layers | None, sets: TensorSets) -> Identity | None:
    prefix = sets.prefixes[0].rpartition("/")[2]  # a `layer_prefix`
    around = _layers_around([f"{prefix}{name}" for name in sets.names], layers or {})
    layers = {name.removeprefix(prefix): layer for name, layer in around.items()} if around else layers
    description = recognise({name: shapes[file] for name, file in sets.names.items()}, layers)
    return Identity(OURS, description, sets.names, sets) if description else None


@lru_cache(maxsize=32)
def _known(table: NameTable, network: Network) -> frozenset[str]:
    """The names of a network's tensors in a source, without the counters' numbers."""
    origins = _origins(table, network).values()
    names = {origin.name for origin in origins} | {origin.gamma for origin in origins if origin.gamma}
    return frozenset(map(_uncounted, names))


def _uncounted(name: str) -> str:
    """A name without the number of a source's counter: conv2d_7/kernel → conv2d/kernel."""
    match = _COUNTER.match(name)
    return f"{match[1]}{name[match.end() :]}" if match else name


def _of_source(
    table: NameTable, network: Network, files: Mapping[str, Shape], layers: Layers | None, sets: TensorSets
) -> Identity:
    """A file read as one network in one source's names, whatever its score."""
    origins = _origins(table, network)
    shapes = {name: files[file] for name, file in sets.names.items()}
    names = _canonical(table, {origin.name: origin.shape(table) for origin in origins.values()}, shapes)
    translated = {
        key: in_keras_layout(shapes[names[origin.name]], table.channels_first)
        for key, origin in origins.items()
        if origin.name in names
    }
    in_file = {name: sets.names[stripped] for name, stripped in names.items()}
    around = _layers_around(names.values(), layers or {})
    renamed = _in_our_names(origins, names, around) if around else None
    return Identity(table, describe(network, translated, renamed), in_file, sets, origins)


def _layers_around(tensors: Iterable[str], layers: Layers) -> Layers | None:
    """The layers, by name, of the model that owns most of the named tensors; None if no model owns any.

    The model may be nested in other models; the layers' paths are then longer than their names.
    """
    owners = {tensor.rpartition("/")[0] for tensor in tensors}
    models: dict[str, dict[str, Mapping[str, Any]]] = {}
    for path, layer in layers.items():
        model, _, name = path.rpartition("/")
        inputs = [read.rpartition("/")[2] for read in layer.get("inputs", ())]
        models.setdefault(model, {})[name] = {**layer, "inputs": inputs}
    best = max(models.values(), key=lambda model: len(owners & model.keys()), default={})
    return best if owners & best.keys() else None


def _in_our_names(origins: Mapping[str, Origin], names: Mapping[str, str], layers: Layers) -> Layers:
    """A source's layers under our names, so that `networks.recognise` can read them.

    `names` maps the source's canonical name of each tensor to its name in the file.
    """
    # The readers of each layer show the activation after a batch norm and the scale after a projection.
    readers: dict[str, list[str]] = {}
    for name, layer in layers.items():
        for read in layer.get("inputs", ()):
            readers.setdefault(read, []).append(name)

    ours: dict[str, Mapping[str, Any]] = {name: layer for name, layer in layers.items() if layer.get("batch_shape")}
    for origin in origins.values():
        theirs = names.get(origin.name, "").rpartition("/")[0]
        if theirs not in layers:
            continue
        slot, name = origin.slot, origin.key.partition("/")[0]
        ours[name] = layers[theirs]
        reading = readers.get(theirs, [])
        reader = layers[reading[0]] if len(reading) == 1 else {}
        if origin.role == "moving_mean" and reader.get("class") in _ACTIVATIONS:
            ours[own_names.relu(slot.name)] = reader
        elif slot.project and origin.role == "kernel":
            ours[own_names.inside(slot.place, own_names.SUM)] = {"class": "Add"}
            ours[own_names.scale(slot.place)] = {"class": "Rescaling", "scale": _residual_scale(reader)}
        elif slot.place == own_names.LOGITS and origin.role == "kernel":
            own = layers[theirs].get("activation")
            behind = reader if reader.get("class") in _ACTIVATIONS else {}
            softmax = "softmax" if behind.get("class") == "Softmax" else behind.get("activation")
            ours[own_names.PREDICTIONS] = {"activation": own if own not in (None, "linear") else softmax}
    pools = [layer for layer in layers.values() if str(layer.get("class")) in _GLOBAL_POOLS]
    return ours | ({own_names.POOLED: pools[0]} if len(pools) == 1 else {})


def _residual_scale(reader: Mapping[str, Any]) -> float | None:
    """The residual scale in the layer that reads a block's projection; None if unknown.

    It is the `scale` of keras.applications' own layer or of a Rescaling layer, an argument of a Lambda layer (whose
    code is not read), or the constant of a multiplication; 1 for a plain sum.
    """
    kind, arguments = reader.get("class"), reader.get("arguments")
    if kind == "Add":
        return 1.0
    scale = reader.get("scale")
    if kind == "Lambda" and isinstance(arguments, Mapping):
        scale = arguments.get("scale")
    elif kind in ("Multiply", "TFOpLambda") and len(reader.get("numbers", ())) == 1:
        (scale,) = reader["numbers"]
    offset = reader.get("offset", 0.0)
    return float(scale) if is_number(scale) and offset == 0 else None


@lru_cache(maxsize=32)
def _origins(table: NameTable, network: Network) -> Mapping[str, Origin]:
    """Our weights' names → the source's tensors, in the order of the walk."""
    layer_of = table.layers[network.name, network.variant]
    found = {}
    for slot in slots(network):
        layer = layer_of(slot)
        if layer is None:
            continue
        gamma = table.tensor(layer, slot, "gamma") if table.gamma and slot.normalised else None
        for role in slot.shapes:
            scaled = gamma if role in ("kernel", "moving_mean") else None
            found[slot.key(role)] = Origin(slot.key(role), slot, role, table.tensor(layer, slot, role), scaled)
    return found


def _fits(shape: Shape, wanted: Shape) -> bool:
    """Whether two shapes are equal, where CLASSES equals any number."""
    return len(shape) == len(wanted) and all(b in (a, CLASSES) for a, b in zip(shape, wanted, strict=True))


def _canonical(table: NameTable, wanted: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> dict[str, str]:
    """The file's names with counters that start at 0: conv2d_7, conv2d_8, … → conv2d_0, conv2d_1, …

    The first number is chosen so that most shapes fit. A tensor missing at either end therefore shifts nothing.
    """
    names = {name: name for name in shapes}
    for kind in table.counters:
        numbered = {name: number for name in shapes if (number := _number(kind, name)) is not None}
        if not numbered:
            continue
        last = max(_number(kind, name) or 0 for name in wanted)
        first = min(numbered.values())
        starts = (first, first - 1, max(numbered.values()) - last)
        best: dict[str, str] = {}
        most = -1
        for start in starts:
            renamed = {_renumbered(kind, name, number - start): name for name, number in numbered.items()}
            fits = sum(name in wanted and _fits(shapes[file], wanted[name]) for name, file in renamed.items())
            if fits > most:
                best, most = renamed, fits
        names = {name: file for name, file in names.items() if file not in numbered} | best
    return names


def _number(kind: str, name: str) -> int | None:
    layer = name.partition("/")[0]
    found = _COUNTED.fullmatch(layer)
    return int(found[2] or 0) if found and found[1] == kind else None


def _renumbered(kind: str, name: str, number: int) -> str:
    return f"{kind}_{number}/{name.partition('/')[2]}"

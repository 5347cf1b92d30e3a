"""Whose checkpoint a set of tensors is: another project's names become ours, and networks.recognise says which network.

A file's names may stand under a prefix: a wrapper's (`module.`, `state_dict.model.`), a scope's
(`FirstStageFeatureExtractor/`). Prefixes are not listed anywhere. They are what is left of the file's names where
these end in names of a source; a file may have several, of weights and their running averages side by side.
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

SETTINGS_KEY = "factory"  # in a safetensors file's metadata: what the weights do not show
_COUNTED = re.compile(r"(.*?)(?:_([0-9]{1,9}))?")
_COUNTER = re.compile(rf"({'|'.join(sorted({kind for table in OTHERS for kind in table.counters}))})_[0-9]{{1,9}}(?=/)")
_SEPARATOR = re.compile(r"[./]")
_DEEPEST_NAME = 10  # separators in a source's own names; they have 8 at most
_MOST_PREFIXES = 8  # of layers' names, as `layer_prefix=` gives them, that are looked for in one file
_FIRST_KERNEL = f"{own_names.inside(own_names.STEM, 'conv', 1)}/kernel"
_LEAST_OWN = 8  # tensors under a prefix, of names that this project gives
_LEAST_SHARE = 0.1  # of a network's tensors: fewer under a prefix are there by chance
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_ACTIVATIONS = {"Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax"}  # classes of Keras's layers
_GLOBAL_POOLS = {"GlobalAveragePooling2D", "GlobalMaxPooling2D"}
_RIVAL_SHARE = 0.9  # of the largest set's tensors: a set that has as many is another network
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
    """Where one of our weights comes from: the source's tensor, and the gamma that scales it."""

    key: str
    slot: Slot
    role: str
    name: str
    gamma: str | None

    def shape(self, table: NameTable) -> Shape:
        """As the source lays it out; CLASSES stands for the class count."""
        shape = self.slot.shapes[self.role]
        return (*shape[:-3:-1], *shape[:-2]) if table.channels_first and len(shape) > 1 else shape


@dataclass(frozen=True)
class TensorSets:
    """The sets of a file's tensors that are one network's, each under its own prefix.

    names: Name without the prefix → name in the file, of the chosen set.
    prefixes: What stands before the chosen set's names; several where the network is split over scopes.
    others: By prefix: why a set was left, of running averages or of the weights that they are of.
    averages: Prefix of the running averages, whether they were chosen or not; None where the file has none.
    rivals: Prefixes of other networks beside the chosen one.
    """

    names: Mapping[str, str]
    prefixes: tuple[str, ...] = ("",)
    others: Mapping[str, str] = field(default_factory=dict)
    averages: str | None = None
    rivals: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """The prefixes as they are shown; "" for names without one."""
        return ", ".join(filter(None, self.prefixes))

    def reason_left(self, name: str) -> str:
        """Why a tensor of the file that is not in the chosen set is left out."""
        if is_training_state(name):
            return "training state"
        reasons = (reason for prefix, reason in self.others.items() if name.startswith(prefix))
        return next(reasons, f"outside of {self.prefix!r}, which holds the network")


@dataclass(frozen=True)
class Identity:
    """Whose names a file has, and which network it is.

    names: The source's canonical name → the name in the file.
    origins: Our weight's name → where it comes from; empty for a file under our own names.
    sets: The prefix of the names, and what stands beside them.
    """

    table: NameTable
    description: NetworkDescription
    names: Mapping[str, str]
    sets: TensorSets
    origins: Mapping[str, Origin] = field(default_factory=dict)

    @property
    def rank(self) -> tuple[float, bool]:
        """What the best of several is chosen by: the trunk, and with equal trunks the head."""
        return self.score, self.description.include_top

    @property
    def averages(self) -> bool:
        """Whether the file has running averages beside its weights."""
        return self.sets.averages is not None or any(name.endswith(EMA) for name in self.names)

    @property
    def network(self) -> Network:
        return self.description.network

    @property
    def score(self) -> float:
        return self.description.score

    def file_layer(self, key: str) -> str:
        """The layer of a Keras file that holds one of our weights, without the models around it; "" for none."""
        origin = self.origins.get(key)
        name = self.names.get(origin.name if origin else key, "")
        return name.rpartition("/")[0].rpartition("/")[2]


def identify(shapes: Mapping[str, Shape], layers: Layers | None = None, *, ema: bool = False) -> Identity | None:
    """The source and network whose names and shapes fit best; None where none fits by half.

    ema: Whether to take the running averages where they stand beside the weights under a prefix of their own.
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
    """As `identify`, for an open file, with the settings that a file of this project carries beside its weights.

    ours_only: Whether names of other projects are left aside.

    Raises:
        InputError: The file holds several networks side by side, or settings that no factory takes.
    """
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    if ours_only:
        found = _of_ours(shapes, checkpoint.layers, _sets_of_ours(NameIndex(shapes), ema))
    else:
        found = identify(shapes, checkpoint.layers, ema=ema)
    if found and found.sets.rivals:
        shown = ", ".join(map(repr, (*found.sets.prefixes, *found.sets.rivals)))
        raise InputError(
            f"weights: {checkpoint.path} holds several networks, with names that begin with {shown}: save the one that "
            "is wanted alone, in a file of its own"
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
    """A file's names, by all that they may end in: the whole name, and what follows each separator.

    ends: End → (prefix, end) of the names that have it. Counters have no number in the key: conv2d/kernel.
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
    """The sets of tensors in a file, by the prefixes before names that are known.

    Args:
        index: All of the file's names.
        known: A network's names, without a prefix and without the numbers of counters.
        least: How many known names a prefix must have.
        ema: Whether to choose the running averages.
    """
    found: dict[str, set[str]] = {}
    for key in known & index.ends.keys():
        for prefix, name in index.ends[key]:
            found.setdefault(prefix, set()).add(name)
    sized = sorted((prefix for prefix in found if len(found[prefix]) >= least), key=lambda one: (-len(found[one]), one))
    weights = _chosen([prefix for prefix in sized if not _of_averages(prefix)], found)
    averages = _chosen([prefix for prefix in sized if _of_averages(prefix)], found)
    if not weights:  # averages alone are the file's weights, asked for or not
        weights = averages or [("",)]
        averages = averages if ema else []
    average = averages[0][0] if averages else None
    beside = [prefix for group in (weights[0], *averages) for prefix in group]
    raw = _stripped(index.names, weights[0], beside)
    if not (ema and averages):
        others = {
            prefix: f"running averages under {prefix!r}, which were not asked for"
            for group in averages
            for prefix in group
        }
        rivals = [prefix for group in weights[1:] for prefix in group]
        return TensorSets(raw, weights[0], others, average, tuple(rivals))
    # Averages may be kept of what is trained alone: then the statistics are the weights' own.
    statistics = {name: file for name, file in raw.items() if _STATISTIC.fullmatch(name)}
    others = dict.fromkeys(weights[0], "raw weights: their running averages were asked for")
    rivals = [prefix for group in averages[1:] for prefix in group]
    chosen = _stripped(index.names, averages[0], beside)
    return TensorSets(statistics | chosen, averages[0], others, average, tuple(rivals))


def _stripped(names: list[str], prefixes: Iterable[str], beside: list[str]) -> dict[str, str]:
    """Name without its prefix → name, of all names under the prefixes but those under longer ones beside them."""
    result: dict[str, str] = {}
    for prefix in prefixes:
        inner = tuple(one for one in beside if one != prefix and one.startswith(prefix))
        for name in names:
            if name.startswith(prefix) and not (inner and name.startswith(inner)):
                result.setdefault(name[len(prefix) :], name)
    return result


def _of_averages(prefix: str) -> bool:
    words = {word.lower() for word in _WORDS.findall(prefix)}
    return bool(words & _AVERAGES)


def _chosen(prefixes: list[str], found: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """Prefixes, the largest first, as sets: those that complete one another are one, and smaller ones are none.

    The first is chosen; the others are about as large.
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
    """The description, of the variant that the file names where it has the same trunk as the one recognised."""
    named = checkpoint.metadata.get("variant", found.description.variant)
    table = networks.NETWORKS[found.network.name].get(named)
    if table is None or named == found.description.variant or not table.embedding:
        return found.description
    plain = {name: shapes[file] for name, file in found.names.items()}
    depths = found.description.depths
    whole = edits.with_depths(table, depths + networks.depths(table)[len(depths) :])  # it may end before its last
    other = describe(whole, plain, checkpoint.layers)
    fits = found.description.embedding in (None, table.embedding) and other.score >= found.score
    return other if fits else found.description


def in_keras_layout(shape: Shape, channels_first: bool) -> Shape:
    """A shape in the source's layout, in Keras's."""
    return (*shape[2:], *shape[1::-1]) if channels_first and len(shape) > 1 else shape


def _sets_of_ours(index: NameIndex, ema: bool) -> TensorSets:
    """The sets of names such as `a03_project/kernel`, of any network and depths."""
    known = {end for end in index.ends if end.count("/") == 1 and own_names.stage(end)}
    sets = tensor_sets(index, known, least=_LEAST_OWN, ema=ema)
    # Every network begins with this weight: another prefix before it is another network, however small it is.
    starts = {prefix for prefix, _ in index.ends.get(_FIRST_KERNEL, ()) if not _of_averages(prefix)}
    more = sorted(starts - {*sets.prefixes, *sets.rivals, *sets.others})
    return replace(sets, rivals=(*sets.rivals, *more))


def _of_ours(shapes: Mapping[str, Shape], layers: Layers | None, sets: TensorSets) -> Identity | None:
    prefix = sets.prefixes[0].rpartition("/")[2]  # of the layers' own names
    around = _layers_around([f"{prefix}{name}" for name in sets.names], layers or {})
    layers = {name.removeprefix(prefix): layer for name, layer in around.items()} if around else layers
    description = recognise({name: shapes[file] for name, file in sets.names.items()}, layers)
    return Identity(OURS, description, sets.names, sets) if description else None


@lru_cache(maxsize=32)
def _known(table: NameTable, network: Network) -> frozenset[str]:
    """The names of a network's tensors in a source, without the numbers of counters."""
    origins = _origins(table, network).values()
    names = {origin.name for origin in origins} | {origin.gamma for origin in origins if origin.gamma}
    return frozenset(map(_uncounted, names))


def _uncounted(name: str) -> str:
    """A name without the number that some source counts its layers by: conv2d/kernel of conv2d_7/kernel."""
    match = _COUNTER.match(name)
    return f"{match[1]}{name[match.end() :]}" if match else name


def _of_source(
    table: NameTable, network: Network, files: Mapping[str, Shape], layers: Layers | None, sets: TensorSets
) -> Identity:
    """A file as one source's names of one network; whatever the score."""
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
    """The layers of the model that holds most of the named tensors, under their own names; None where none does.

    It may be nested in other models: then the layers' paths are longer than their names.
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
    """A source's layers under our names, so that `networks.recognise` reads them as it reads ours.

    names: The source's canonical name of each tensor → its name in the file.
    """
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
    """What the layer that reads a block's projection multiplies it by before the sum; None where that is not known.

    Keras's own layer of keras.applications holds it, a Lambda layer has it as an argument (its code is not looked
    at), a Rescaling layer has it, and a product has it as a number; a plain sum has 1.
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
    """Our weights → the source's tensors, in the order of the walk."""
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
    """Whether two shapes agree, CLASSES agreeing with any number."""
    return len(shape) == len(wanted) and all(b in (a, CLASSES) for a, b in zip(shape, wanted, strict=True))


def _canonical(table: NameTable, wanted: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> dict[str, str]:
    """The file's names with counters brought to start at 0: conv2d, conv2d_1, … or conv2d_7, conv2d_8, …

    A counter's start is where most shapes fit, so that a tensor lost at either end shifts nothing.
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

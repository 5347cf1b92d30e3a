"""The one mapping engine: accounts for every tensor of a file and every weight of a model, or refuses.

Nothing is changed here. A plan comes out, whose values were all read and checked, or an InputError
that lists what does not fit and where.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ...common.errors import InputError, refuse
from ...networks import names
from ..readers.checkpoint import Checkpoint
from ..report import LoadReport
from . import TABLES, ours
from .identify import Identity, Origin, Shape, identify
from .slim import EMA
from .values import Plan, Source, read

NewHead = Literal[False, True, "aux"]

BACKGROUND = 1001  # classes, the first of which is none

_LISTED = 20

_CLASSIFIERS = (names.LOGITS, names.inside(names.AUX, names.LOGITS))

_HEADS = {names.LOGITS: "classifier", names.AUX: "auxiliary head", names.EMBEDDING: "embedding"}

_TRAINED = ("kernel", "bias", "beta")


def plan(model: Mapping[str, Shape], checkpoint: Checkpoint, *, new_head: NewHead = False, ema: bool = False) -> Plan:
    """How a file's tensors become a model's weights; every one of them read and checked.

    Args:
        model: The shapes of the model's weights by `layer/variable`.
        checkpoint: The open file.
        new_head: True leaves the classifiers' dense layers as they are, and an auxiliary head that
            the file lacks; "aux" the whole auxiliary head, and it alone.
        ema: Takes the running averages that the file has beside its weights.

    Raises:
        InputError: Something is left over on either side, has another shape, is not finite, or is
            of another network.
    """
    check_new_head(new_head)
    shapes = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    if ema and not any(name.endswith(EMA) for name in shapes):
        raise refuse("ema", ema, f"False for {checkpoint.path}: the file has no running averages")
    mapping = _Mapping(model, checkpoint, _identity(model, shapes, checkpoint), new_head=new_head, ema=ema)
    mapping.match()
    mapping.account_for_the_rest()
    mapping.refuse_problems()
    mapping.problems += read(mapping.plan, checkpoint)
    mapping.refuse_problems()
    return mapping.plan


def check_new_head(new_head: Any) -> None:
    if new_head not in (False, True, "aux"):
        raise refuse("new_head", new_head, 'True, "aux" or False')


def _identity(model: Mapping[str, Shape], shapes: Mapping[str, Shape], checkpoint: Checkpoint) -> Identity | None:
    """Whose file it is; None for one with the model's own names, whatever the network."""
    trunk = [key for key in model if not _head(key)]
    named = sum(key in shapes for key in trunk) >= len(trunk) / 2
    own = named and any(shapes.get(key) == model[key] for key in trunk)
    there, here = identify(shapes, (ours.TABLE,) if own else TABLES), identify(model, (ours.TABLE,))
    if there and here and _which(there) == _which(here):
        return None if own else there
    if own and (there is None or here is None):
        return None
    if there is None:
        first = ", ".join(list(shapes)[:5]) or "none"
        raise InputError(f"weights: {checkpoint.path} is of no network that is known here; its tensors begin: {first}")
    raise _another(checkpoint, there, here)


def _which(identity: Identity) -> tuple[str, str]:
    return identity.network.name, identity.network.variant


def _another(checkpoint: Checkpoint, there: Identity, here: Identity | None) -> InputError:
    model = " ({})".format(", ".join(_which(here))) if here else ", which is none of the named networks"
    return InputError(
        f"weights: {checkpoint.path} looks like {there.table.source}'s {there.network.name}, the "
        f"{there.network.variant} variant ({there.score:.0%} of it is there), and is given to another network"
        f"{model}; nothing was changed. Build the network it fits: {there.call}"
    )


def _head(key: str) -> str:
    place = names.place(key.partition("/")[0])
    return place if place in _HEADS else ""


class _Mapping:
    """The state of one plan: what is matched, and every problem found, told together."""

    def __init__(
        self,
        model: Mapping[str, Shape],
        checkpoint: Checkpoint,
        identity: Identity | None,
        *,
        new_head: NewHead,
        ema: bool,
    ) -> None:
        self.model, self.checkpoint, self.identity = model, checkpoint, identity
        self.new_head, self.ema = new_head, ema
        self.table = identity.table if identity else ours.TABLE
        self.names = identity.names if identity else {name: name for name in checkpoint.tensors}
        self.origins: Mapping[str, Origin] = identity.origins if identity else {}
        network = identity.network if identity else None
        if network is None and (own := identify(model, (ours.TABLE,))) and own.score == 1:
            network = own.network
        self.report = LoadReport(
            path=str(checkpoint.path),
            format=checkpoint.format,
            source=self.table.source,
            network=network.name if network else "",
            variant=network.variant if network else "",
        )
        self.plan = Plan(self.report, {})
        self.used: set[str] = set()
        self.problems: list[str] = []
        self.hints: dict[str, None] = {}

    def match(self) -> None:
        """Each of the model's weights to a tensor, or to the fresh ones that were asked for."""
        for key, shape in self.model.items():
            origin = self.origins.get(key)
            name = self._name(origin, key)
            if self._stays_fresh(key, name):
                self.report.fresh.append(key)
            elif name not in self.checkpoint.tensors:
                self.problems.append(f"{name or key}: missing from the file; the model's {key} {shape} needs it")
                self._hint_at_new_head(key)
            else:
                self._take(key, shape, name, origin)

    def _name(self, origin: Origin | None, key: str) -> str:
        """The tensor's name in the file, whether it is there or not; "" where the source has none such."""
        name = origin.name if origin else "" if self.identity else key
        if self.ema and f"{name}{EMA}" in self.checkpoint.tensors:
            return f"{name}{EMA}"
        if self.ema and origin and origin.role in _TRAINED:
            return f"{name}{EMA}"
        return self.names.get(name, name)

    def _stays_fresh(self, key: str, name: str) -> bool:
        head = _head(key)
        if self.new_head == "aux":
            return head == names.AUX
        lacks_aux = head == names.AUX and name not in self.checkpoint.tensors
        return self.new_head and (key.partition("/")[0] in _CLASSIFIERS or lacks_aux)

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
        source = Source(name, kernel_first=self.table.channels_first)
        there = in_keras_layout(tensor.shape, self.table.channels_first)
        self.used.add(name)
        classifier = key.partition("/")[0] in _CLASSIFIERS
        if there != shape and classifier and self.table.background and _without_background(there) == shape:
            source.background = True
            self._note(self.report.changed, f"class 0 of {BACKGROUND}, the background, removed", key)
        elif there != shape:
            self.problems.append(f"{name}: has shape {there}, the model's {key} has {shape}")
            if _head(key) == names.EMBEDDING:
                self.hints[
                    f"the file's embedding is {there[-1]} wide: its trunk is loaded by a model of include_top=False"
                ] = None
            if classifier and there[:-1] == shape[:-1]:
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

    def account_for_the_rest(self) -> None:
        """What the file has and the model has not: dropped for a reason, or a problem."""
        canonical = {file: name for name, file in self.names.items()}
        heads = {origin.name: _head(origin.key) for origin in self.origins.values()}
        heads |= {origin.gamma: _head(origin.key) for origin in self.origins.values() if origin.gamma}
        here = {_head(key) for key in self.model}
        for name in self.checkpoint.tensors:
            if name in self.used:
                continue
            plain = canonical.get(name, name)
            passed = [what for what, pattern in self.table.passed_over.items() if pattern.fullmatch(plain)]
            head = heads.get(plain, "") if self.identity else _head(name)
            if passed:
                self._note(self.report.dropped, passed[0], name)
            elif self.ema and f"{name}{EMA}" in self.used:
                self._note(self.report.dropped, "raw weights: their running averages were asked for", name)
            elif head and head not in here:
                self._note(self.report.dropped, f"{_HEADS[head]}: the model has none", name)
            elif head and self.new_head and self._replaced(plain):
                self._note(self.report.dropped, f"{_HEADS[head]}: a new one was asked for", name)
            else:
                self.problems.append(f"{name}: left over in the file, shape {self.checkpoint.tensors[name].shape}")

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
        raise InputError("\n".join(lines + [f"  {hint}" for hint in self.hints]))


def in_keras_layout(shape: Shape, channels_first: bool) -> Shape:
    """A shape in the source's layout, in Keras's."""
    return (*shape[2:], *shape[1::-1]) if channels_first and len(shape) > 1 else shape


def _without_background(shape: Shape) -> Shape | None:
    return (*shape[:-1], shape[-1] - 1) if shape[-1] == BACKGROUND else None

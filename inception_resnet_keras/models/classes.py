"""Which class each of a model's outputs is: of a folder's classes, or of another model's; by name, never by place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..common.console import counted
from ..common.errors import InputError
from ..weights.labels import CLASSES, class_index, quoted
from .open import OpenedModel

_WORDNET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Classes:
    """A model's classes.

    names: all different, in the order of the outputs. keys: what each is found by besides, such as
    "n01440764" and "tench" where the name is either.
    """

    names: Sequence[str]
    keys: Sequence[tuple[str, ...]] = ()

    def numbers(self) -> dict[str, int | None]:
        """Every name and key → its class; None for a key of several."""
        found: dict[str, int | None] = {}
        for number, keys in enumerate(self.keys):
            for key in keys:
                found[key] = number if found.get(key, number) == number else None
        return found | {name: number for number, name in enumerate(self.names)}


def classes_of(opened: OpenedModel, named: Sequence[str] | None = None, folders: Sequence[str] = ()) -> Classes:
    """The classes of a model: its own, else those that the user named, else ImageNet's.

    named: given for models that carry none. folders: as `imagenet` takes them.

    Raises InputError where nothing names its classes, or `named` are not as many as its outputs.
    """
    if opened.classes:
        return Classes(opened.classes)
    if named is not None:
        if len(named) != opened.outputs:
            raise InputError(f"classes: {len(named)} names are given, {opened.name} has {opened.outputs}")
        return Classes(named)
    if opened.imagenet:
        return imagenet(folders)
    raise InputError(
        f"{opened.name}: carries no names of its {opened.outputs} classes; give a file with one a line, in the order "
        "of its outputs, as --classes"
    )


def imagenet(folders: Sequence[str]) -> Classes:
    """ImageNet's 1000 classes, in its order, which is that of the sorted WordNet ids.

    folders: the names of the classes that are looked for: where they are all 1000 ids, the class index
    (Keras's imagenet_class_index.json, fetched once) is needed for the English names only.

    Raises InputError where the index is needed and is not there.
    """
    complete = len(folders) == CLASSES and all(map(_WORDNET.fullmatch, folders))
    try:
        index = class_index()
    except InputError:
        if not complete:
            raise
        index = [(name, name) for name in sorted(folders)]
    times = Counter(name for _, name in index)
    names = [f"{name} ({key})" if times[name] > 1 else name for key, name in index]
    return Classes(names, [(key, name, name.lower()) for key, name in index])


def places(wanted: Sequence[str], classes: Classes, *, told: str, model: str) -> np.ndarray:
    """int64: the number of each wanted class among the model's.

    Raises InputError, with both lists, where one is not among them or two are the same one.
    """
    known = classes.numbers()
    found = [number_of(name, known, imagenet=bool(classes.keys)) for name in wanted]
    if missing := [name for name, number in zip(wanted, found, strict=True) if number is None]:
        raise InputError(
            f"{told}: has {len(missing)} of {counted(len(wanted), 'class')} that {model} has not: {quoted(missing)}; "
            f"its {len(classes.names)} classes are {quoted(classes.names)}"
        )
    if twice := [number for number, count in Counter(found).items() if count > 1 and number is not None]:
        names = [name for name, number in zip(wanted, found, strict=True) if number == twice[0]]
        raise InputError(
            f"{told}: {quoted(names)} are one class of {model}, {classes.names[twice[0]]}; put them in one"
        )
    return np.array(found, np.int64)


def columns(first: Classes, other: Classes, *, model: str, first_model: str) -> np.ndarray:
    """int64: for each class of the first model, the other's output that is it; InputError where classes differ."""
    known = first.numbers()
    keys = other.keys or [()] * len(other.names)
    found = [
        next((known[key] for key in (name, *also) if known.get(key) is not None), None)
        for name, also in zip(other.names, keys, strict=True)
    ]
    unknown = [name for name, number in zip(other.names, found, strict=True) if number is None]
    lacking = [name for number, name in enumerate(first.names) if number not in set(found)]
    if unknown or lacking:
        raise InputError(
            f"models of other classes cannot be averaged: {first_model} has {len(lacking)} that {model} has not"
            f"{': ' + quoted(lacking) if lacking else ''}; {model} has {len(unknown)} that {first_model} has not"
            f"{': ' + quoted(unknown) if unknown else ''}. Use them one by one"
        )
    return np.argsort(np.array(found, np.int64))


def require_positive(classes: Sequence[str], positive: str, *, several: bool = False) -> np.ndarray:
    """int64 (2,): the order of two classes in which the positive one is the second.

    Every figure and file of two classes takes the second one for positive, so that their order is all that says it.

    Args:
        classes: The classes' names.
        positive: The name of the positive one.
        several: Whether a picture may have several of them.

    Raises:
        InputError: There are not two classes, or `positive` is none of them.
    """
    if several:
        raise InputError(
            f"positive: got {positive!r}; pictures may have several labels, of which each is judged by itself: leave "
            "it out"
        )
    if len(classes) != 2:
        raise InputError(
            f"positive: got {positive!r}; it is for two classes, and there are {len(classes):,}, each of which is "
            "judged against the rest: leave it out"
        )
    if positive not in classes:
        raise InputError(f"positive: got {positive!r}; it takes one of the two classes, {quoted(classes)}")
    return np.array([1, 0] if classes[0] == positive else [0, 1], np.int64)


def with_positive(classes: Classes, positive: str | None, *, several: bool) -> Classes:
    """Two classes in the order of `require_positive`, which has the arguments and the error; None: as they are."""
    if positive is None:
        return classes
    order = require_positive(classes.names, positive, several=several).tolist()
    return Classes([classes.names[place] for place in order], [classes.keys[place] for place in order if classes.keys])


def number_of(name: str, known: dict[str, int | None], *, imagenet: bool) -> int | None:
    """ImageNet's folders are named n01440764, n01440764_tench, tench, great white shark or tench, Tinca tinca."""
    if name in known or not imagenet:
        return known.get(name)
    ids = _WORDNET.match(name)
    word = name.partition(",")[0].strip().lower().replace(" ", "_")
    return next((known[guess] for guess in (ids[0] if ids else word, word) if known.get(guess) is not None), None)
